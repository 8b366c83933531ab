//! Damaged, cut and random bytes: never taken for something else, and never a panic.

use casklog::format::{
    BLOCK_BYTES, Bad, EntryRecord, Expect, Footer, Framer, Header, Kind, Manifest, RecordType, Trailer, footer_locate,
    read_fragment,
};

use crate::LOG_NUMBER;
use crate::model::{CHECKSUMS, Forged, Random, Value, read_record};

const KINDS: [Kind; 10] = [
    Kind::Entry,
    Kind::Tombstone,
    Kind::Truncation,
    Kind::Meta,
    Kind::Watermark,
    Kind::HeadStamp,
    Kind::Resume,
    Kind::Gap,
    Kind::Footer,
    Kind::Padding,
];

/// Every golden record as it lies in a file: its framer, its place, its bytes.
fn framed() -> Vec<(&'static str, Framer, u32, Vec<u8>)> {
    let mut all = Vec::new();
    for checksum in CHECKSUMS {
        let framer = Framer { checksum, log_number: LOG_NUMBER };
        for (name, value, _) in crate::records::goldens() {
            let mut bytes = Vec::new();
            framer.frame(&mut bytes, 64, RecordType::alone(value.kind()), &value.encode());
            all.push((name, framer, 64, bytes));
        }
    }
    for (name, checksum, at, payload, _) in crate::fragments::goldens() {
        let framer = Framer { checksum, log_number: LOG_NUMBER };
        let mut bytes = Vec::new();
        framer.frame(&mut bytes, at, RecordType::alone(Kind::Entry), &payload);
        all.push((name, framer, at, bytes));
    }
    all
}

#[test]
fn a_record_with_any_bit_flipped_is_refused() {
    for (name, framer, at, mut bytes) in framed() {
        assert!(read_record(&framer, &bytes, at).is_ok());
        for bit in 0..8 * bytes.len() {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let read = read_record(&framer, &bytes, at);
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(read.is_err(), "{name}, bit {bit}: {read:?}");
        }
    }
}

#[test]
fn a_record_cut_anywhere_is_refused() {
    for (name, framer, at, bytes) in framed() {
        for len in 0..bytes.len() {
            let read = read_record(&framer, &bytes[..len], at);
            assert_eq!(read, Err(Bad::Short), "{name}, {len} bytes");
        }
        // What a lost write leaves instead.
        let mut holed = bytes.clone();
        holed.iter_mut().skip(1).for_each(|byte| *byte = 0);
        assert!(read_record(&framer, &holed, at).is_err());
        assert!(read_record(&framer, &vec![0; bytes.len() + 64], at) == Err(Bad::Zeros));
    }
}

#[test]
fn a_checksum_of_zero_is_not_the_end_of_the_log() {
    for (name, framer, at, mut bytes) in framed() {
        let width = framer.checksum.sum_bytes();
        let from = (framer.start(at) - at) as usize;
        bytes[from..from + width].fill(0);
        assert_eq!(read_record(&framer, &bytes, at), Err(Bad::Checksum), "{name}");
    }
}

#[test]
fn payloads_cut_anywhere_do_not_panic() {
    for (name, value, _) in crate::records::goldens() {
        let payload = value.encode();
        for len in 0..payload.len() {
            let is_ok = Value::decode(value.kind(), &payload[..len]).is_ok();
            // The value of an entry is the rest, padding is anything, and a gap need not say anything.
            let may_be =
                matches!(value, Value::Entry(_) | Value::Padding(_)) || len == 0 && matches!(value, Value::Gap(_));
            assert!(!is_ok || may_be, "{name}, {len} bytes");
            for kind in KINDS {
                let _ = Value::decode(kind, &payload[..len]);
            }
        }
    }
}

#[test]
fn a_value_nested_without_end_is_refused_without_overflow() {
    for opener in [0x91u8, 0x81, 0xdc, 0xdd] {
        let mut payload = b"\x94\x01\xc4\x00".to_vec();
        payload.extend(vec![opener; 1 << 20]);
        assert!(EntryRecord::decode(&payload).is_err());
    }
}

#[test]
fn lengths_that_lie_do_not_allocate() {
    let payloads: [&[u8]; 4] = [
        b"\x93\x01\xc6\xff\xff\xff\xff",
        b"\x96\xc0\x92\x01\x01\x94\x00\xc0\xc0\x00\xdd\xff\xff\xff\xff",
        b"\x96\xc0\x92\x01\x01\x94\x00\xc0\xc0\x00\x90\xdf\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff\x01\xc4\x00\xdd\xff\xff\xff\xff",
    ];
    for payload in payloads {
        for kind in KINDS.into_iter().filter(|kind| !matches!(kind, Kind::Padding | Kind::Footer)) {
            let _ = Value::decode(kind, payload);
        }
    }
}

#[test]
fn random_bytes_are_refused_and_never_panic() {
    let mut random = Random::new();
    for _ in 0..20_000 {
        let bytes = random.bytes(300);
        assert!(Header::from_bytes(&bytes).is_err());
        assert!(Manifest::from_file(&bytes).is_empty());
        for kind in KINDS {
            let _ = Value::decode(kind, &bytes);
        }
        let (at, number) = (random.next() as u32, random.next() as u32);
        for checksum in CHECKSUMS {
            for previous in [None, Some(number.into())] {
                for expect in [Expect::Exact(number), Expect::File(number)] {
                    let read = read_fragment(checksum, &bytes, at, expect, previous);
                    assert!(read.is_err(), "{checksum:?} {at} {bytes:02x?}");
                }
            }
            if let Some(at) = footer_locate(checksum, u64::from(at) + bytes.len() as u64) {
                assert!(Trailer::decode(&bytes, checksum, at, number).is_err());
            }
        }
    }
}

#[test]
fn changed_payloads_under_right_checksums_never_panic() {
    let mut random = Random::new();
    let goldens: Vec<Vec<u8>> = crate::records::goldens().iter().map(|(_, value, _)| value.encode()).collect();
    for _ in 0..20_000 {
        let mut payload = goldens[random.below(goldens.len())].clone();
        for _ in 0..1 + random.below(4) {
            match random.below(3) {
                0 if !payload.is_empty() => {
                    let at = random.below(payload.len());
                    payload[at] = random.next() as u8;
                }
                1 => payload.truncate(random.below(payload.len() + 1)),
                _ => payload.extend(random.bytes(9)),
            }
        }
        for kind in KINDS {
            if let Ok(value) = Value::decode(kind, &payload) {
                // What was understood is written again so that it says the same.
                let again = value.encode();
                assert_eq!(Value::decode(kind, &again).as_ref(), Ok(&value), "{kind:?} {payload:02x?}");
            }
        }
    }
}

#[test]
fn changed_footers_under_right_checksums_never_panic() {
    let mut random = Random::new();
    let (_, footer, _, _, _) = crate::footers::goldens().remove(2);
    for round in 0..20_000 {
        let checksum = CHECKSUMS[round % 2];
        let header = checksum.fragment_header_bytes();
        let (mut bytes, framer) = (Vec::new(), Framer { checksum, log_number: LOG_NUMBER });
        let data_end = 4096;
        let (_, end) = footer.encode(&mut bytes, framer, data_end, 0);
        let at = footer_locate(checksum, end.into()).unwrap();
        let split = (at - data_end) as usize;
        let (mut stream, mut trailer) = (bytes[header..split].to_vec(), bytes[split + header..].to_vec());
        for _ in 0..1 + random.below(3) {
            let part = if random.below(2) == 0 { &mut stream } else { &mut trailer };
            let place = random.below(part.len());
            let edges = [0, 1, 0x7f, 0x80, 0xff, random.next() as u8];
            part[place] = edges[random.below(edges.len())];
        }
        let forge = |at| Forged { checksum, at, type_byte: 0xc9, log_number: LOG_NUMBER, previous: None };
        let (mut bytes, _) = forge(data_end).bytes(&stream);
        bytes.extend(forge(at).bytes(&trailer).0);
        let Ok(trailer) = Trailer::decode(&bytes[split..], checksum, at, LOG_NUMBER) else {
            continue;
        };
        let from = (trailer.data_end.saturating_sub(data_end) as usize).min(bytes.len());
        if let Ok(footer) = Footer::decode(&bytes[from..], checksum, 7, &trailer) {
            assert_eq!(footer.offsets.len(), trailer.entries as usize);
            assert!(footer.offsets.iter().all(|offset| *offset < trailer.data_end));
        }
    }
    assert_eq!(BLOCK_BYTES, 32_768);
}
