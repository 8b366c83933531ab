//! Footers and trailers: goldens, round trips, and what is refused.

use casklog::format::{
    BLOCK_BYTES, Checksum, Footer, Framer, KeyAt, Malformed, Run, Summary, TRAILER_BYTES, TombstoneAt, Trailer,
    Truncation, TruncationAt, encode_runs, footer_locate, key_hash,
};
use quickcheck::{Arbitrary, Gen, QuickCheck};

use crate::golden::{from_hex, to_hex};
use crate::members::AnyRuns;
use crate::model::{CHECKSUMS, position};
use crate::records::{number, truncation};
use crate::{LOG_ID, LOG_NUMBER};

pub(crate) const SEGMENT: u32 = 7;

pub(crate) fn framer(checksum: Checksum) -> Framer {
    Framer { checksum, log_number: LOG_NUMBER }
}

pub(crate) fn encode(footer: &Footer, checksum: Checksum, data_end: u32) -> (Trailer, Vec<u8>) {
    let mut bytes = Vec::new();
    let (trailer, end) = footer.encode(&mut bytes, framer(checksum), data_end, 1_700_000_000_000);
    assert_eq!(u64::from(end), u64::from(data_end) + bytes.len() as u64);
    (trailer, bytes)
}

/// Reads what stands behind `data_end` in a sealed file, as a reader does: from its end.
pub(crate) fn decode(bytes: &[u8], checksum: Checksum, data_end: u32) -> Option<(Trailer, Footer)> {
    let at = footer_locate(checksum, u64::from(data_end) + bytes.len() as u64)?;
    let from = bytes.get(at.checked_sub(data_end)? as usize..)?;
    let trailer = Trailer::decode(from, checksum, at, LOG_NUMBER ^ 0xffff).ok()?;
    let skip = trailer.data_end.checked_sub(data_end)? as usize;
    let footer = Footer::decode(bytes.get(skip..)?, checksum, SEGMENT, &trailer).ok()?;
    Some((trailer, footer))
}

/// What of a footer is kept in memory.
pub(crate) fn summary(footer: &Footer) -> Summary {
    let mut members = Vec::new();
    encode_runs(&mut members, &footer.runs);
    Summary {
        members,
        tombstones: footer.tombstones.clone(),
        truncations: footer.truncations.clone(),
        resumes: footer.resumes.clone(),
    }
}

/// The key hashes of members with these hashes.
pub(crate) fn keys(hashes: impl Iterator<Item = u64>) -> Vec<KeyAt> {
    let mut keys: Vec<_> = hashes.zip(0..).map(|(hash, place)| KeyAt { hash, place }).collect();
    keys.sort_unstable();
    keys
}

pub(crate) fn footer() -> Footer {
    Footer {
        runs: vec![Run { first: 5, more: 2 }, Run { first: 300, more: 0 }, Run { first: u64::MAX - 1, more: 1 }],
        offsets: vec![200, 300, 100, 0x0102, 400, 500],
        keys: keys(["user:42", "a", "b", "a", "", "c"].into_iter().map(|key| key_hash(LOG_ID, key.as_bytes()))),
        tombstones: vec![TombstoneAt { index: 2, offset: 450 }, TombstoneAt { index: 6, offset: 470 }],
        truncations: vec![
            TruncationAt { truncation: Truncation::Before(3), position: position(SEGMENT, 350) },
            TruncationAt { truncation: Truncation::After(900), position: position(SEGMENT, 360) },
            TruncationAt { truncation: Truncation::Reset(1), position: position(SEGMENT, 370) },
        ],
        resumes: vec![(150, 0xa1b2_0001), (480, LOG_NUMBER)],
    }
}

/// A footer of `count` indexes from 1 on, all at offset zero.
fn zeros(count: u32) -> Footer {
    let runs = vec![Run { first: 1, more: count - 1 }];
    Footer { runs, offsets: vec![0; count as usize], ..Footer::default() }
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
            "bcdd8c1b6000c9d4c3b2a16361736b666f6f7440000000d4c3b2a1 00*9 68e5cf8b01000001 00*63",
        ),
        (
            "empty",
            Footer::default(),
            Crc64,
            64,
            "0fc841901aa0dbdc6000c9d4c3b2a16361736b666f6f7440000000d4c3b2a1 00*9 68e5cf8b01000001 00*63",
        ),
        (
            "all sections",
            footer(),
            Crc32,
            0x1000,
            "1da1bb3dd800c9d4c3b2a10b01c804a3fbffffffffffffff03 00*10 0200000000000000c201000006000000000000 \
00d6010000000000005e0100000300000000000000010000006801000084030000000000000200000072010000010000 \
0000000000960000000100b2a1e0010000d4c3b2a10000000000000000c80000002c0100006400000002010000900100 \
00f4010000b2524183ce1a220205000000d30c06fca81b6d5d00000000e93c6eeaf4f3166d04000000c2facfd8f76197 \
9202000000cfe904fe84f71eba01000000cfe904fe84f71eba0300000044b699b56000c9d4c3b2a16361736b666f6f74 \
00100000d4c3b2a106000000d80000000068e5cf8b0100000500000000000000ffffffffffffffff000000000f000000 \
18000000180000003000000030000000600000001000000078000000180000009000000048000000",
        ),
        (
            "all sections",
            footer(),
            Crc64,
            0x1000,
            "fda8132efac6c191d800c9d4c3b2a10b01c804a3fbffffffffffffff03 00*10 0200000000000000c2010000060000 \
0000000000d6010000000000005e01000003000000000000000100000068010000840300000000000002000000720100 \
000100000000000000960000000100b2a1e0010000d4c3b2a10000000000000000c80000002c01000064000000020100 \
0090010000f4010000b2524183ce1a220205000000d30c06fca81b6d5d00000000e93c6eeaf4f3166d04000000c2facf \
d8f761979202000000cfe904fe84f71eba01000000cfe904fe84f71eba030000006b28ac3fa3911c4e6000c9d4c3b2a1 \
6361736b666f6f7400100000d4c3b2a106000000d80000000068e5cf8b0100000500000000000000ffffffffffffffff \
000000000f00000018000000180000003000000030000000600000001000000078000000180000009000000048000000",
        ),
        (
            "a rest of 22, a page without the stream",
            footer(),
            Crc32,
            0x3000 - 22,
            "3f4fe1e50b00c9d4c3b2a1 00*11 1d81bb3dd800c9d4c3b2a10b01c804a3fbffffffffffffff03 00*10 0200000000 \
000000c20100000600000000000000d6010000000000005e010000030000000000000001000000680100008403000000 \
00000002000000720100000100000000000000960000000100b2a1e0010000d4c3b2a10000000000000000c80000002c \
010000640000000201000090010000f4010000b2524183ce1a220205000000d30c06fca81b6d5d00000000e93c6eeaf4 \
f3166d04000000c2facfd8f761979202000000cfe904fe84f71eba01000000cfe904fe84f71eba030000004ed7746e60 \
00c9d4c3b2a16361736b666f6f74ea2f0000d4c3b2a106000000d80000000068e5cf8b0100000500000000000000ffff \
ffffffffffff000000000f00000018000000180000003000000030000000600000001000000078000000180000009000 \
000048000000",
        ),
        (
            "a rest of 23, a page of 12 bytes",
            footer(),
            Crc32,
            0x3000 - 23,
            "6c2a585a0c00c9d4c3b2a10b01c804a3fbffffffffffffa0ea7b7dcc00c9d4c3b2a1ff03 00*10 0200000000000000 \
c20100000600000000000000d6010000000000005e010000030000000000000001000000680100008403000000000000 \
02000000720100000100000000000000960000000100b2a1e0010000d4c3b2a10000000000000000c80000002c010000 \
640000000201000090010000f4010000b2524183ce1a220205000000d30c06fca81b6d5d00000000e93c6eeaf4f3166d \
04000000c2facfd8f761979202000000cfe904fe84f71eba01000000cfe904fe84f71eba03000000510f3b966000c9d4 \
c3b2a16361736b666f6f74e92f0000d4c3b2a106000000d80000000068e5cf8b0100000500000000000000ffffffffff \
ffffff000000000f00000018000000180000003000000030000000600000001000000078000000180000009000000048 \
000000",
        ),
        (
            "a rest of 10 goes with the next page",
            zeros(1100),
            Crc32,
            0x3000 - 10,
            "42e136faff0fc9d4c3b2a103ca08 00*4092 a810a6c44401c9d4c3b2a1 00*324 f4cd03bd6000c9d4c3b2a1636173 \
6b666f6f74f62f0000d4c3b2a14c040000401100000068e5cf8b01000001000000000000004c04 00*10 030000000c \
000000000000000c000000000000000c000000000000000c000000301100004011000000000000",
        ),
        (
            "a rest of 14 goes with the next page",
            zeros(1100),
            Crc64,
            0x3000 - 14,
            "bec3c5377c59b640ff0fc9d4c3b2a103ca08 00*4092 5248e96cd10a42494401c9d4c3b2a1 00*324 c6589f05f874 \
f1186000c9d4c3b2a16361736b666f6f74f22f0000d4c3b2a14c040000401100000068e5cf8b01000001000000000000 \
004c04 00*10 030000000c000000000000000c000000000000000c000000000000000c000000301100004011000000 \
000000",
        ),
        (
            "a rest of a block, zeros",
            footer(),
            Crc32,
            32_768 - 10,
            "00*10 1d31bb3dd800c9d4c3b2a10b01c804a3fbffffffffffffff03 00*10 0200000000000000c201000006000000 \
00000000d6010000000000005e0100000300000000000000010000006801000084030000000000000200000072010000 \
0100000000000000960000000100b2a1e0010000d4c3b2a10000000000000000c80000002c0100006400000002010000 \
90010000f4010000b2524183ce1a220205000000d30c06fca81b6d5d00000000e93c6eeaf4f3166d04000000c2facfd8 \
f761979202000000cfe904fe84f71eba01000000cfe904fe84f71eba0300000043f6c2516000c9d4c3b2a16361736b66 \
6f6f74f67f0000d4c3b2a106000000d80000000068e5cf8b0100000500000000000000ffffffffffffffff000000000f \
00000018000000180000003000000030000000600000001000000078000000180000009000000048000000",
        ),
        (
            "no room for the trailer in the block",
            footer(),
            Crc32,
            32_768 - 320,
            "ddcfbb3dd800c9d4c3b2a10b01c804a3fbffffffffffffff03 00*10 0200000000000000c201000006000000000000 \
00d6010000000000005e0100000300000000000000010000006801000084030000000000000200000072010000010000 \
0000000000960000000100b2a1e0010000d4c3b2a10000000000000000c80000002c0100006400000002010000900100 \
00f4010000b2524183ce1a220205000000d30c06fca81b6d5d00000000e93c6eeaf4f3166d04000000c2facfd8f76197 \
9202000000cfe904fe84f71eba01000000cfe904fe84f71eba0300000091871adb5200c9d4c3b2a1 00*82 3acad553 \
6000c9d4c3b2a16361736b666f6f74c07e0000d4c3b2a106000000d80000000068e5cf8b0100000500000000000000ff \
ffffffffffffff000000000f000000180000001800000030000000300000006000000010000000780000001800000090 \
00000048000000",
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
        let has_rest = name.contains("zeros") || name.contains("no room");
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
    short.keys.clear();
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
        let AnyRuns(runs) = AnyRuns::arbitrary(g);
        // Near the edges of a page and of a block, too.
        let data_end = (1 << 20) + *g.choose(&[0, 4096, 32_768, 10_000]).unwrap() - u32::from(u8::arbitrary(g) % 40);
        let count: u64 = runs.iter().map(|run| u64::from(run.more) + 1).sum();
        let offset = |g: &mut Gen| number(g) as u32 % data_end;
        let offsets = (0..count).map(|_| offset(g)).collect();
        let keys = if bool::arbitrary(g) { keys((0..count).map(|_| number(g))) } else { Vec::new() };
        let list = |g: &mut Gen| 0..u8::arbitrary(g) % 30;
        let footer = Footer {
            runs,
            offsets,
            keys,
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
        let in_memory = Summary::decode(&bytes, checksum, SEGMENT, &trailer);
        in_memory == Ok(summary(&footer)) && decode(&bytes, checksum, data_end) == Some((trailer, footer))
    }
    QuickCheck::new().tests(1000).quickcheck(property as fn(AnyFooter, bool) -> bool);
}
