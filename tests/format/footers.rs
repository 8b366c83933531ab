//! Footers and trailers: goldens, round trips, and what is refused.

use casklog::format::{
    BLOCK_BYTES, Checksum, Footer, Framer, Malformed, Run, TRAILER_BYTES, TombstoneAt, Trailer, Truncation,
    TruncationAt, block_rest, footer_locate,
};
use quickcheck::{Arbitrary, Gen, QuickCheck};

use crate::LOG_NUMBER;
use crate::golden::{from_hex, to_hex};
use crate::model::{CHECKSUMS, position};
use crate::records::{number, truncation};

const SEGMENT: u32 = 7;

fn framer(checksum: Checksum) -> Framer {
    Framer { checksum, log_number: LOG_NUMBER }
}

fn encode(footer: &Footer, checksum: Checksum, data_end: u32) -> (Trailer, Vec<u8>) {
    let mut bytes = Vec::new();
    let (trailer, end) = footer.encode(&mut bytes, framer(checksum), data_end, 1_700_000_000_000);
    assert_eq!(u64::from(end), u64::from(data_end) + bytes.len() as u64);
    (trailer, bytes)
}

/// Reads what stands behind `data_end` in a sealed file, as a reader does: from its end.
fn decode(bytes: &[u8], checksum: Checksum, data_end: u32) -> Option<(Trailer, Footer)> {
    let at = footer_locate(checksum, u64::from(data_end) + bytes.len() as u64)?;
    let from = bytes.get(at.checked_sub(data_end)? as usize..)?;
    let trailer = Trailer::decode(from, checksum, at, LOG_NUMBER ^ 0xffff).ok()?;
    let skip = trailer.data_end.checked_sub(data_end)? as usize;
    let footer = Footer::decode(bytes.get(skip..)?, checksum, SEGMENT, &trailer).ok()?;
    Some((trailer, footer))
}

fn footer() -> Footer {
    Footer {
        runs: vec![Run { first: 5, more: 2 }, Run { first: 300, more: 0 }, Run { first: u64::MAX - 1, more: 1 }],
        offsets: vec![200, 300, 100, 0x0102, 400, 500],
        tombstones: vec![TombstoneAt { index: 2, offset: 450 }, TombstoneAt { index: 6, offset: 470 }],
        truncations: vec![
            TruncationAt { truncation: Truncation::Before(3), position: position(SEGMENT, 350) },
            TruncationAt { truncation: Truncation::After(900), position: position(SEGMENT, 360) },
            TruncationAt { truncation: Truncation::Reset(1), position: position(SEGMENT, 370) },
        ],
        resumes: vec![(150, 0xa1b2_0001), (480, LOG_NUMBER)],
    }
}

/// Name, footer, checksum, data end, and the bytes behind it.
pub(crate) fn goldens() -> Vec<(&'static str, Footer, Checksum, u32, &'static str)> {
    use Checksum::{Crc32, Crc64};
    vec![
        (
            "empty",
            Footer::default(),
            Crc32,
            64,
            "a6e5dd0c6000c9d4c3b2a16361736b666f6f7440000000d4c3b2a1 00*9 68e5cf8b01000001 00*63",
        ),
        (
            "empty",
            Footer::default(),
            Crc64,
            64,
            "efde23c1f5d89e206000c9d4c3b2a16361736b666f6f7440000000d4c3b2a1 00*9 68e5cf8b01000001 00*63",
        ),
        (
            "all sections",
            footer(),
            Crc32,
            0x1000,
            "2b23200e8000c9d4c3b2a10502a40200d1fdffffffffffffff0101c80000002c010000640000000201000090010000f4 \
0100000200000000000000c20100000600000000000000d6010000000000005e01000003000000000000000100000068 \
010000840300000000000002000000720100000100000000000000960000000100b2a1e0010000d4c3b2a1eb35fdfb60 \
00c9d4c3b2a16361736b666f6f7400100000d4c3b2a106000000800000000068e5cf8b0100000500000000000000ffff \
ffffffffffff000000001000000010000000180000002800000018000000400000003000000070000000100000008000 \
000000000000",
        ),
        (
            "all sections",
            footer(),
            Crc64,
            0x1000,
            "1be58b0d322459a88000c9d4c3b2a10502a40200d1fdffffffffffffff0101c80000002c010000640000000201000090 \
010000f40100000200000000000000c20100000600000000000000d6010000000000005e010000030000000000000001 \
00000068010000840300000000000002000000720100000100000000000000960000000100b2a1e0010000d4c3b2a191 \
3c73d657c19a3d6000c9d4c3b2a16361736b666f6f7400100000d4c3b2a106000000800000000068e5cf8b0100000500 \
000000000000ffffffffffffffff00000000100000001000000018000000280000001800000040000000300000007000 \
0000100000008000000000000000",
        ),
        (
            "a rest of 14, an empty piece",
            footer(),
            Crc32,
            32_768 - 14,
            "0f87e2f40000c9d4c3b2a10000001755e8e18000c9d4c3b2a10502a40200d1fdffffffffffffff0101c80000002c0100 \
00640000000201000090010000f40100000200000000000000c20100000600000000000000d6010000000000005e0100 \
0003000000000000000100000068010000840300000000000002000000720100000100000000000000960000000100b2 \
a1e0010000d4c3b2a1db8ff3ad6000c9d4c3b2a16361736b666f6f74f27f0000d4c3b2a106000000800000000068e5cf \
8b0100000500000000000000ffffffffffffffff00000000100000001000000018000000280000001800000040000000 \
3000000070000000100000008000000000000000",
        ),
        (
            "a rest of 15, one piece of 4 bytes",
            footer(),
            Crc32,
            32_768 - 15,
            "803213a60400c9d4c3b2a10502a402f6d501457c00c9d4c3b2a100d1fdffffffffffffff0101c80000002c0100006400 \
00000201000090010000f40100000200000000000000c20100000600000000000000d6010000000000005e0100000300 \
0000000000000100000068010000840300000000000002000000720100000100000000000000960000000100b2a1e001 \
0000d4c3b2a1c9e430e36000c9d4c3b2a16361736b666f6f74f17f0000d4c3b2a106000000800000000068e5cf8b0100 \
000500000000000000ffffffffffffffff00000000100000001000000018000000280000001800000040000000300000 \
0070000000100000008000000000000000",
        ),
        (
            "no room for the trailer in the block",
            footer(),
            Crc32,
            32_768 - 220,
            "8b73e20e8000c9d4c3b2a10502a40200d1fdffffffffffffff0101c80000002c010000640000000201000090010000f4 \
0100000200000000000000c20100000600000000000000d6010000000000005e01000003000000000000000100000068 \
010000840300000000000002000000720100000100000000000000960000000100b2a1e0010000d4c3b2a11e3a036e46 \
00c9d4c3b2a1 00*70 583e6df16000c9d4c3b2a16361736b666f6f74247f0000d4c3b2a106000000800000000068e5 \
cf8b0100000500000000000000ffffffffffffffff000000001000000010000000180000002800000018000000400000 \
003000000070000000100000008000000000000000",
        ),
    ]
}

#[test]
fn footers_have_their_bytes() {
    let mut wrong = String::new();
    for (name, footer, checksum, data_end, golden) in goldens() {
        let (trailer, bytes) = encode(&footer, checksum, data_end);
        if bytes != from_hex(golden) {
            wrong += &format!("{name} {checksum:?} {data_end}:\n\"{}\"\n", to_hex(&bytes));
        }
        assert_eq!(decode(&bytes, checksum, data_end), Some((trailer, footer)), "{name}");
    }
    assert!(wrong.is_empty(), "the format changed; now it is:\n{wrong}");
}

#[test]
fn a_trailer_says_what_it_was_told() {
    for checksum in CHECKSUMS {
        let (trailer, _) = encode(&footer(), checksum, 4096);
        assert_eq!((trailer.data_end, trailer.log_number, trailer.entries), (4096, LOG_NUMBER, 6));
        assert_eq!((trailer.last_write_ms, trailer.indexes), (1_700_000_000_000, Some((5, u64::MAX))));
        let (trailer, bytes) = encode(&Footer::default(), checksum, 4096);
        assert_eq!((trailer.entries, trailer.indexes), (0, None));
        assert_eq!(bytes.len(), checksum.fragment_header_bytes() + TRAILER_BYTES as usize);
        assert_eq!(TRAILER_BYTES, 96);
    }
}

#[test]
fn a_footer_with_a_flipped_bit_is_refused_or_says_the_same() {
    for (name, footer, checksum, data_end, _) in goldens() {
        let (trailer, bytes) = encode(&footer, checksum, data_end);
        let mut same = 0;
        for bit in 0..8 * bytes.len() {
            let mut other = bytes.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            if let Some(read) = decode(&other, checksum, data_end) {
                // Zeros in rests of blocks are under no checksum, and nobody reads what only fills a block.
                assert_eq!(read, (trailer, footer.clone()), "{name}, bit {bit}");
                assert!(bytes[bit / 8] == 0 || name.contains("no room"), "{name}, bit {bit}");
                same += 1;
            }
        }
        let has_rest = name.contains("rest of 14") || name.contains("no room");
        assert_eq!(same > 0, has_rest, "{name}");
        for len in 0..bytes.len() {
            assert_eq!(decode(&bytes[..len], checksum, data_end), None, "{name}, cut at {len}");
        }
    }
}

#[test]
fn a_footer_that_contradicts_its_trailer_is_refused() {
    let checksum = Checksum::Crc32;
    let refused = |footer: &Footer, data_end: u32| {
        let (trailer, bytes) = encode(footer, checksum, data_end);
        assert_eq!(Footer::decode(&bytes, checksum, SEGMENT, &trailer), Err(Malformed("footer")));
    };
    // An offset behind the records, and fewer offsets than indexes.
    refused(&footer(), 300);
    let mut short = footer();
    short.offsets.pop();
    refused(&short, 4096);
    // The trailer of another footer.
    let (trailer, _) = encode(&footer(), checksum, 4096);
    let (_, bytes) = encode(&Footer::default(), checksum, 4096);
    assert!(Footer::decode(&bytes, checksum, SEGMENT, &trailer).is_err());
    // Any other place in the file.
    let (_, bytes) = encode(&footer(), checksum, 4096);
    for shift in [1, 4, 4096, BLOCK_BYTES] {
        assert_eq!(decode(&bytes, checksum, 4096 + shift), None);
    }
}

#[test]
fn a_trailer_is_found_only_where_it_fits() {
    for checksum in CHECKSUMS {
        let fragment = checksum.fragment_header_bytes() as u64 + u64::from(TRAILER_BYTES);
        for size in 0..fragment {
            assert_eq!(footer_locate(checksum, size), None);
        }
        assert_eq!(footer_locate(checksum, fragment), Some(0));
        assert_eq!(footer_locate(checksum, 32_768), Some((32_768 - fragment) as u32));
        assert_eq!(footer_locate(checksum, 32_769), None, "it would cross a block");
        assert_eq!(footer_locate(checksum, 1 << 40), None);
    }
}

#[derive(Debug, Clone)]
struct AnyFooter(Footer, u32);

impl Arbitrary for AnyFooter {
    fn arbitrary(g: &mut Gen) -> Self {
        let (mut runs, mut behind) = (Vec::new(), Some(number(g)));
        for _ in 0..u8::arbitrary(g) % 24 {
            let Some(first) = behind.and_then(|behind| behind.checked_add(number(g) >> (number(g) % 64))) else {
                break;
            };
            let longest = (u64::MAX - first).min(*g.choose(&[0, 3, 5000]).unwrap());
            let more = (number(g) % (longest + 1)) as u32;
            behind = first.checked_add(u64::from(more)).and_then(|last| last.checked_add(1));
            runs.push(Run { first, more });
        }
        // Near the edges of a block, too.
        let data_end = (1 << 20) + *g.choose(&[0, 32_768, 10_000]).unwrap() - u32::from(u8::arbitrary(g) % 40);
        let count: u64 = runs.iter().map(|run| u64::from(run.more) + 1).sum();
        let offset = |g: &mut Gen| number(g) as u32 % data_end;
        let offsets = (0..count).map(|_| offset(g)).collect();
        let list = |g: &mut Gen| 0..u8::arbitrary(g) % 30;
        let footer = Footer {
            runs,
            offsets,
            tombstones: list(g).map(|_| TombstoneAt { index: number(g), offset: offset(g) }).collect(),
            truncations: list(g)
                .map(|_| TruncationAt { truncation: truncation(g), position: position(SEGMENT, offset(g)) })
                .collect(),
            resumes: list(g).map(|_| (offset(g), number(g) as u32)).collect(),
        };
        AnyFooter(footer, data_end)
    }
}

#[test]
fn footers_of_any_contents_and_place_round_trip() {
    fn property(AnyFooter(footer, data_end): AnyFooter, is_wide: bool) -> bool {
        let checksum = CHECKSUMS[usize::from(is_wide)];
        let (trailer, bytes) = encode(&footer, checksum, data_end);
        decode(&bytes, checksum, data_end) == Some((trailer, footer))
    }
    QuickCheck::new().tests(500).quickcheck(property as fn(AnyFooter, bool) -> bool);
}

#[test]
fn a_footer_round_trips_behind_every_offset_of_a_block() {
    for checksum in CHECKSUMS {
        for data_end in BLOCK_BYTES..2 * BLOCK_BYTES {
            let is_near = block_rest(data_end) < 400 || data_end % 499 == 0;
            if is_near {
                let (trailer, bytes) = encode(&footer(), checksum, data_end);
                assert_eq!(decode(&bytes, checksum, data_end), Some((trailer, footer())), "{data_end}");
            }
        }
    }
}

#[test]
fn the_place_of_every_offset_can_be_computed() {
    // All pieces but the last fill their block with a multiple of 4 bytes.
    for checksum in CHECKSUMS {
        let header = checksum.fragment_header_bytes() as u32;
        let count = 30_000u32;
        let footer = Footer {
            runs: vec![Run { first: 0, more: count - 1 }],
            offsets: (0..count).map(|n| n * 7).collect(),
            ..Footer::default()
        };
        let data_end = count * 7 + 3;
        let (_, bytes) = encode(&footer, checksum, data_end);
        let stream_at = 4; // the members take 4 bytes: gap 0, and LEB128 of 29,999
        let first_room = (block_rest(data_end) - header) & !3;
        let full = (BLOCK_BYTES - header) & !3;
        for n in (0..count).step_by(7) {
            let at = stream_at + 4 * n;
            let place = if at < first_room {
                data_end + header + at
            } else {
                let beyond = at - first_room;
                data_end + block_rest(data_end) + beyond / full * BLOCK_BYTES + header + beyond % full
            };
            let from = (place - data_end) as usize;
            assert_eq!(bytes[from..from + 4], (n * 7).to_le_bytes(), "{n}");
        }
    }
}
