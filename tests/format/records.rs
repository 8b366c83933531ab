//! Every kind of record, framed with both checksums.

use std::collections::BTreeMap;

use casklog::IndexOrder;
use casklog::format::{
    Checksum, EntryRecord, Framer, Gap, HeadStamp, Kind, MetaRecord, Next, Predecessor, RecordType, Resume, State,
    Tombstone, Truncation, TruncationAt,
};
use quickcheck::{Arbitrary, Gen, QuickCheck};

use crate::LOG_NUMBER;
use crate::golden::{check, from_hex};
use crate::model::{CHECKSUMS, Value, position, read_record};

/// Where the framed goldens stand.
const AT: u32 = 64;

fn stamp() -> HeadStamp {
    HeadStamp {
        predecessor: Some(Predecessor { number: 6, log_number: 0x0102_0304, end: 70_000 }),
        durable: position(6, 65_536),
        state: State { floor: 3, retired: Some(2), next: Next::At(1001), order: IndexOrder::Increasing },
        truncations: vec![
            TruncationAt { truncation: Truncation::Before(3), position: position(6, 300) },
            TruncationAt { truncation: Truncation::After(900), position: position(6, 40_000) },
        ],
        meta: BTreeMap::from([(b"term".to_vec(), vec![7]), (b"vote".to_vec(), b"n1".to_vec())]),
        time_ms: 1_700_000_000_000,
    }
}

fn first_stamp() -> HeadStamp {
    HeadStamp {
        predecessor: None,
        durable: position(0, 0),
        state: State { floor: 0, retired: None, next: Next::Unset, order: IndexOrder::Any },
        truncations: Vec::new(),
        meta: BTreeMap::new(),
        time_ms: 0,
    }
}

fn exhausted_stamp() -> HeadStamp {
    let mut stamp = first_stamp();
    stamp.state.next = Next::Exhausted;
    stamp.state.order = IndexOrder::Sequential;
    stamp.truncations =
        vec![TruncationAt { truncation: Truncation::Reset(u64::MAX), position: position(u32::MAX, u32::MAX) }];
    stamp
}

/// Name, value, and its payload.
pub(crate) fn goldens() -> Vec<(&'static str, Value<'static>, &'static str)> {
    let entry = |index, key, value| Value::Entry(EntryRecord { index, key, value });
    let gap = |end, indexes| Value::Gap(Gap { end: Some(end), indexes, log_number: None });
    let inner = |indexes, log_number| Value::Gap(Gap { end: None, indexes, log_number });
    vec![
        ("entry", entry(1, b"user:42", b"\xa5hello"), "9301c407757365723a3432a568656c6c6f"),
        ("entry, index 0, no key, nil", entry(0, b"", b"\xc0"), "9300c400c0"),
        ("entry, u8 index", entry(200, b"k", b"\xc4\x02\x01\x02"), "93ccc8c4016bc4020102"),
        ("entry, u16 index", entry(0x0102, b"k", b"\xc3"), "93cd0102c4016bc3"),
        ("entry, u32 index", entry(0x0102_0304, b"k", b"\x93\x01\x02\x03"), "93ce01020304c4016b93010203"),
        ("entry, highest index", entry(u64::MAX, b"k", b"\x80"), "93cfffffffffffffffffc4016b80"),
        ("entry, bin 16 key", entry(7, &[b'x'; 256], b"\x01"), "9307c50100 78*256 01"),
        ("tombstone", Value::Tombstone(Tombstone { index: 1, key: b"user:42" }), "9201c407757365723a3432"),
        ("truncation before", Value::Truncation(Truncation::Before(50)), "920032"),
        ("truncation after", Value::Truncation(Truncation::After(900)), "9201cd0384"),
        ("truncation to reset", Value::Truncation(Truncation::Reset(u64::MAX)), "9202cfffffffffffffffff"),
        ("meta", Value::Meta(MetaRecord { key: b"vote", value: Some(b"n1") }), "92c404766f7465c4026e31"),
        ("meta removed", Value::Meta(MetaRecord { key: b"vote", value: None }), "92c404766f7465c0"),
        ("watermark", Value::Watermark(position(7, 4096)), "9207cd1000"),
        ("first head stamp", Value::HeadStamp(first_stamp()), "96c09200009400c0c000908000"),
        (
            "head stamp",
            Value::HeadStamp(stamp()),
            "969306ce01020304ce000111709206ce00010000940302cd03e9019294000306cd012c9401cd038406cd9c4082c40474 \
65726dc40107c404766f7465c4026e31cf0000018bcfe56800",
        ),
        (
            "head stamp, exhausted",
            Value::HeadStamp(exhausted_stamp()),
            "96c09200009400c0c302919402cfffffffffffffffffceffffffffceffffffff8000",
        ),
        ("resume", Value::Resume(Resume { before: LOG_NUMBER, next: 0xa1b2_0001 }), "92cea1b2c3d4cea1b20001"),
        ("gap", gap(70_000, Some((10, 20))), "93ce000111700a14"),
        ("gap, unknown indexes", gap(64, None), "9340c0c0"),
        ("gap, its own bytes", inner(None, None), ""),
        ("gap, one index", inner(Some((7, 7)), None), "92c007"),
        ("gap, some indexes", inner(Some((7, 300)), None), "93c007cd012c"),
        ("gap, any index", inner(Some(Gap::ANY), None), "92c0c3"),
        ("gap, a log number", inner(None, Some(0xa1b2_0001)), "94c0c0c0cea1b20001"),
        ("padding", Value::Padding(vec![0; 437]), "00*437"),
    ]
}

/// The fragment headers of the goldens at offset 64: CRC-32, then CRC-64.
pub(crate) const HEADERS: &[(&str, &str)] = &[
    ("779ba2461100c1d4c3b2a1", "e3e7c2eb3aa7f5171100c1d4c3b2a1"),
    ("6fb907370500c1d4c3b2a1", "136737852f5d04f70500c1d4c3b2a1"),
    ("68e3e5be0a00c1d4c3b2a1", "4118cfba1aacbb610a00c1d4c3b2a1"),
    ("ccd4d6070800c1d4c3b2a1", "74d96767a23870780800c1d4c3b2a1"),
    ("6e743c130d00c1d4c3b2a1", "88d6f6a65421033b0d00c1d4c3b2a1"),
    ("75a1ed6c0e00c1d4c3b2a1", "1affadd6dc45821f0e00c1d4c3b2a1"),
    ("be3acd180601c1d4c3b2a1", "9c50bf5798796be40601c1d4c3b2a1"),
    ("26e16ec70b00c2d4c3b2a1", "ca683b8be0e71ced0b00c2d4c3b2a1"),
    ("a7c0f49d0300c3d4c3b2a1", "d73f74046b9fdbf50300c3d4c3b2a1"),
    ("42ca63e30500c3d4c3b2a1", "6ef9dda16c84d9a60500c3d4c3b2a1"),
    ("fd8ec4b70b00c3d4c3b2a1", "ecc44fce6b11c4750b00c3d4c3b2a1"),
    ("536dc3c70b00c4d4c3b2a1", "a1cdb6fe1c7357e50b00c4d4c3b2a1"),
    ("a5bd8ed00800c4d4c3b2a1", "e731eb64630f3a9a0800c4d4c3b2a1"),
    ("72e32c400500c5d4c3b2a1", "3f6e73b32874f4ff0500c5d4c3b2a1"),
    ("ab3e88720d00c6d4c3b2a1", "c7aef84546305fe00d00c6d4c3b2a1"),
    ("078f38e44900c6d4c3b2a1", "a0b55a27d97b15f14900c6d4c3b2a1"),
    ("be8ce1fe2200c6d4c3b2a1", "ace2968236fb293e2200c6d4c3b2a1"),
    ("d14e17230b00c7d4c3b2a1", "bcde0b53ec32119f0b00c7d4c3b2a1"),
    ("913bbf1d0800c8d4c3b2a1", "0c4c8c78ded5a6690800c8d4c3b2a1"),
    ("a24c57320400c8d4c3b2a1", "affd595871cbaa180400c8d4c3b2a1"),
    ("b725f4090000c8d4c3b2a1", "8788cb467d4348fa0000c8d4c3b2a1"),
    ("9ccfd75d0300c8d4c3b2a1", "cc147506a86deec90300c8d4c3b2a1"),
    ("aaa1c04b0600c8d4c3b2a1", "6f3c56d40f7137a30600c8d4c3b2a1"),
    ("35c9dec10300c8d4c3b2a1", "1cc2bec573d2e41f0300c8d4c3b2a1"),
    ("5b7048ed0900c8d4c3b2a1", "27c005e5d6393dd80900c8d4c3b2a1"),
    ("9bdfc34cb501ccd4c3b2a1", "6168b1b4f87d8d7cb501ccd4c3b2a1"),
];

#[test]
fn every_kind_of_record_has_its_bytes() {
    let mut now = String::new();
    let mut is_wrong = false;
    for (place, (name, value, payload)) in goldens().into_iter().enumerate() {
        let encoded = value.encode();
        is_wrong |= encoded != from_hex(payload);
        now += &format!("{name}\n{}\n", crate::golden::to_hex(&encoded));
        assert_eq!(Value::decode(value.kind(), &encoded).unwrap(), value, "{name}");
        let mut headers = [String::new(), String::new()];
        for (header, checksum) in headers.iter_mut().zip(CHECKSUMS) {
            let framer = Framer { checksum, log_number: LOG_NUMBER };
            let mut bytes = Vec::new();
            let record = RecordType::alone(value.kind());
            let (start, end) = framer.frame(&mut bytes, AT, record, &encoded);
            assert_eq!((start, end as usize), (AT, AT as usize + bytes.len()));
            assert_eq!(read_record(&framer, &bytes, AT).unwrap(), (record, encoded.clone(), end));
            *header = crate::golden::to_hex(&bytes[..checksum.fragment_header_bytes()]);
        }
        now += &format!("    (\"{}\", \"{}\"),\n", headers[0], headers[1]);
        let expected = HEADERS.get(place).map(|(a, b)| [(*a).to_owned(), (*b).to_owned()]);
        is_wrong |= expected != Some(headers);
    }
    assert!(!is_wrong, "the format changed; now it is:\n{now}");
}

#[test]
fn further_elements_of_an_array_are_ignored() {
    let two_more = b"\xc4\x01x\xd9\x01y";
    for (name, value, _) in goldens() {
        let mut payload = value.encode();
        match value.kind() {
            Kind::Padding => continue,
            // What stands at its end is left out.
            Kind::Gap if payload.first() != Some(&0x94) => continue,
            _ => payload[0] += 2,
        }
        payload.extend_from_slice(two_more);
        assert_eq!(Value::decode(value.kind(), &payload).unwrap(), value, "{name}");
    }
}

#[test]
fn a_value_of_any_shape_is_found_before_further_elements() {
    let shapes: [&[u8]; 9] = [
        b"\xc0",
        b"\xd4\x01\xff",
        b"\xc7\x03\x05abc",
        b"\xd7\xff\0\0\0\0\0\0\0\0",
        b"\x82\xa1a\x93\x01\x02\xd4\x01\xff\xa1b\xc4\x01\xff",
        b"\xdc\0\x02\xc2\xc3",
        b"\xcb\0\0\0\0\0\0\0\0",
        b"\xd3\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\xdf\0\0\0\x01\x01\x02",
    ];
    for value in shapes {
        let payload = [b"\x94\x05\xc4\x01k", value, b"\xa5later"].concat();
        let entry = EntryRecord::decode(&payload).unwrap();
        assert_eq!((entry.index, entry.key, entry.value), (5, &b"k"[..], value));
    }
}

#[test]
fn numbers_in_longer_forms_are_understood_and_wrong_types_refused() {
    let long = b"\xdc\x00\x03\xcf\0\0\0\0\0\0\0\x05\xc6\0\0\0\x01k\x01";
    let entry = EntryRecord::decode(long).unwrap();
    assert_eq!((entry.index, entry.key, entry.value), (5, &b"k"[..], &b"\x01"[..]));
    let wrong: [&[u8]; 7] = [
        b"",
        b"\x83\x05\xc4\x01k\x01",         // a map
        b"\x92\x05\xc4\x01k",             // too few elements
        b"\x93\xff\xc4\x01k\x01",         // a negative index
        b"\x93\x05\xa1k\x01",             // a key of type str
        b"\x93\xc0\xc4\x01k\x01",         // no index
        b"\x93\x05\xc6\xff\xff\xff\xffk", // a key that is longer than the payload
    ];
    for payload in wrong {
        assert!(EntryRecord::decode(payload).is_err(), "{payload:02x?}");
    }
    assert!(Truncation::decode(b"\x92\x03\x05").is_err());
    assert!(Resume::decode(b"\x92\x01\xcf\0\0\0\x01\0\0\0\0").is_err());
}

#[derive(Debug, Clone)]
struct AnyStamp(HeadStamp);

/// Numbers near the ends and at the steps of MessagePack's integer forms are the ones that go wrong.
pub(crate) fn number(g: &mut Gen) -> u64 {
    let edge = *g.choose(&[0, 1 << 7, 1 << 8, 1 << 16, 1 << 32, u64::MAX]).unwrap();
    match u8::arbitrary(g) % 3 {
        0 => u64::from(u8::arbitrary(g)),
        1 => edge.wrapping_add(u64::from(u8::arbitrary(g) % 3)).wrapping_sub(1),
        _ => u64::arbitrary(g),
    }
}

pub(crate) fn truncation(g: &mut Gen) -> Truncation {
    let index = number(g);
    *g.choose(&[Truncation::Before(index), Truncation::After(index), Truncation::Reset(index)]).unwrap()
}

impl Arbitrary for AnyStamp {
    fn arbitrary(g: &mut Gen) -> Self {
        let predecessor = bool::arbitrary(g).then(|| Predecessor {
            number: number(g) as u32,
            log_number: number(g) as u32,
            end: number(g) as u32,
        });
        let state = State {
            floor: number(g),
            retired: bool::arbitrary(g).then(|| number(g)),
            next: match u8::arbitrary(g) % 3 {
                0 => Next::Unset,
                1 => Next::Exhausted,
                _ => Next::At(number(g)),
            },
            order: *g.choose(&[IndexOrder::Any, IndexOrder::Increasing, IndexOrder::Sequential]).unwrap(),
        };
        let truncations = (0..u8::arbitrary(g) % 20)
            .map(|_| TruncationAt { truncation: truncation(g), position: position(number(g) as u32, number(g) as u32) })
            .collect();
        AnyStamp(HeadStamp {
            predecessor,
            durable: position(number(g) as u32, number(g) as u32),
            state,
            truncations,
            meta: Arbitrary::arbitrary(g),
            time_ms: number(g),
        })
    }
}

#[test]
fn head_stamps_round_trip() {
    fn property(AnyStamp(stamp): AnyStamp) -> bool {
        let value = Value::HeadStamp(stamp);
        Value::decode(Kind::HeadStamp, &value.encode()) == Ok(value.clone())
    }
    QuickCheck::new().tests(2000).quickcheck(property as fn(AnyStamp) -> bool);
}

#[derive(Debug, Clone)]
struct Number(u64);

impl Arbitrary for Number {
    fn arbitrary(g: &mut Gen) -> Self {
        Number(number(g))
    }
}

#[test]
fn small_records_round_trip() {
    fn property(Number(a): Number, Number(b): Number, key: Vec<u8>, bytes: Option<Vec<u8>>, what: u8) -> bool {
        let value = match what % 7 {
            0 => Value::Tombstone(Tombstone { index: a, key: &key }),
            1 => Value::Truncation(truncation(&mut Gen::new(10))),
            2 => Value::Meta(MetaRecord { key: &key, value: bytes.as_deref() }),
            3 => Value::Watermark(position(a as u32, b as u32)),
            4 => Value::Resume(Resume { before: a as u32, next: b as u32 }),
            5 => Value::Gap(Gap {
                end: (b % 2 == 0).then_some(a as u32),
                indexes: bytes.as_ref().map(|_| (a, b)),
                log_number: (a % 3 == 0).then_some(b as u32),
            }),
            _ => Value::Entry(EntryRecord { index: a, key: &key, value: bytes.as_deref().unwrap_or(b"\xc0") }),
        };
        let payload = value.encode();
        Value::decode(value.kind(), &payload) == Ok(value.clone())
    }
    let property = property as fn(Number, Number, Vec<u8>, Option<Vec<u8>>, u8) -> bool;
    QuickCheck::new().tests(5000).quickcheck(property);
}

#[test]
fn an_index_takes_its_shortest_form() {
    let forms = [(0, 1), (127, 1), (128, 2), (255, 2), (256, 3), (65_535, 3), (65_536, 5), (1 << 32, 9), (u64::MAX, 9)];
    for (index, width) in forms {
        let mut out = Vec::new();
        EntryRecord::encode_head(&mut out, index, b"");
        assert_eq!(out.len(), 1 + width + 2, "{index}");
    }
    check("the worked example", &Value::Watermark(position(1, 300)).encode(), "9201cd012c");
    let _ = Checksum::default();
}

/// Entries are read in two ways, a quick one for what this crate writes and one for any MessagePack.
#[test]
fn an_entry_reads_the_same_however_its_head_is_coded() {
    let indexes = [0, 1, 0x7f, 0x80, 0xff, 0x100, 0xffff, 0x1_0000, u64::from(u32::MAX), 1 << 32, u64::MAX];
    // The value is all that is left, whether it is one object or not.
    let values: [&[u8]; 6] = [b"", b"\x01", b"\xc0\xc0", b"\xc1", b"\xa3ab", &[0x93; 300]];
    for (index, key_bytes) in
        indexes.into_iter().flat_map(|index| [(index, 0), (index, 255), (index, 256), (index, 70_000)])
    {
        let key = vec![b'k'; key_bytes];
        let mut usual = Vec::new();
        EntryRecord::encode_head(&mut usual, index, &key);
        let wide = [&[0xdc, 0, 3, 0xcf][..], &index.to_be_bytes(), &[0xc6], &(key_bytes as u32).to_be_bytes(), &key];
        for head in [usual, wide.concat()] {
            for value in values {
                let payload = [&head, value].concat();
                assert_eq!(EntryRecord::decode(&payload), Ok(EntryRecord { index, key: &key, value }));
            }
            for short in [0, 1, head.len() / 2, head.len() - 1] {
                assert!(EntryRecord::decode(&head[..short]).is_err(), "{index}, {short} bytes");
            }
        }
    }
}

#[test]
fn the_next_index_admits_itself_and_what_is_above() {
    assert_eq!((Next::behind(0), Next::behind(6)), (Next::At(1), Next::At(7)));
    assert_eq!((Next::behind(u64::MAX - 1), Next::behind(u64::MAX)), (Next::At(u64::MAX), Next::Exhausted));
    for index in [0, 6, 7, 8, u64::MAX] {
        assert!(Next::Unset.admits(index), "the first write chooses");
        assert_eq!(Next::At(7).admits(index), index >= 7, "{index}");
        assert!(!Next::Exhausted.admits(index), "there is no index behind the last");
    }
}
