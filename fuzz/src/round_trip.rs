//! F6: what is encoded is what is decoded, for records, fragments, headers, manifests and footers.

use std::collections::BTreeMap;

use arbitrary::{Arbitrary, Unstructured};
use casklog::format::{
    Expect, Footer, Framer, Gap, HeadStamp, Header, KeyAt, Kind, Manifest, MetaRecord, Next, Part, Predecessor,
    RecordType, Resume, Run, State, Tombstone, TombstoneAt, Trailer, Truncation, TruncationAt, footer_locate,
    read_fragment,
};
use casklog::{Checksum, IndexOrder, Position};

pub fn run(data: &[u8]) {
    // Too few bytes leave the rest out.
    let _ = all(&mut Unstructured::new(data));
}

fn all(u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let checksum = if u.arbitrary()? { Checksum::Crc32 } else { Checksum::Crc64 };
    let framer = Framer { checksum, log_number: u.arbitrary()? };
    record(u, framer)?;
    small(u)?;
    let footer = footer(u)?;
    let (mut bytes, data_end) = (Vec::new(), u.int_in_range(100..=100_000)?);
    let (trailer, end) = footer.encode(&mut bytes, framer, data_end, u.arbitrary()?);
    assert_eq!(u64::from(end - data_end), bytes.len() as u64);
    let at = footer_locate(checksum, end.into()).expect("a footer has room for its trailer");
    let behind = &bytes[(at - data_end) as usize..];
    assert_eq!(Trailer::decode(behind, checksum, at, framer.log_number), Ok(trailer));
    assert_eq!(Footer::decode(&bytes, checksum, framer.log_number, &trailer), Ok(footer));
    Ok(())
}

fn record(u: &mut Unstructured<'_>, framer: Framer) -> arbitrary::Result<()> {
    let (at, length) = (u.int_in_range(64..=70_000_u32)?, u.int_in_range(0..=70_000_usize)?);
    let seed: u8 = u.arbitrary()?;
    let payload: Vec<u8> = (0..length).map(|place| (place as u8).wrapping_mul(31) ^ seed).collect();
    let record = RecordType { kind: Kind::Entry, begins: u.arbitrary()?, ends: u.arbitrary()? };
    let mut bytes = Vec::new();
    let (start, end) = framer.frame(&mut bytes, at, record, &payload);
    assert_eq!(framer.start(at), start);
    assert_eq!(framer.end(at.into(), length as u64), u64::from(end));
    let (mut place, mut previous, mut read) = (start, None, Vec::new());
    let header = framer.checksum.fragment_header_bytes() as u32;
    while place < end {
        let rest = &bytes[(place - at) as usize..];
        let fragment = read_fragment(framer.checksum, rest, place, Expect::Exact(framer.log_number), previous);
        let fragment = fragment.expect("what was written reads");
        assert_eq!(fragment.record, record);
        read.extend_from_slice(fragment.payload);
        previous = Some(fragment.sum);
        assert_eq!(fragment.end == end, matches!(fragment.part, Part::Full | Part::Last));
        place = fragment.end;
        if place < end {
            assert!(place % 32_768 == 0 && 32_768 > header, "a fragment ends before its block does");
        }
    }
    assert_eq!(read, payload);
    Ok(())
}

macro_rules! round {
    ($kind:ty, $record:expr) => {{
        let (record, mut bytes) = ($record, Vec::new());
        record.encode(&mut bytes);
        assert_eq!(<$kind>::decode(&bytes).as_ref(), Ok(&record));
    }};
}

fn truncation(u: &mut Unstructured<'_>) -> arbitrary::Result<Truncation> {
    let index = u.arbitrary()?;
    Ok(match u.int_in_range(0..=2)? {
        0 => Truncation::Before(index),
        1 => Truncation::After(index),
        _ => Truncation::Reset(index),
    })
}

fn position(u: &mut Unstructured<'_>) -> arbitrary::Result<Position> {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&u.int_in_range(1..=u32::MAX)?.to_le_bytes());
    bytes[8..12].copy_from_slice(&u.arbitrary::<[u8; 4]>()?);
    Ok(Position::from_bytes(bytes).expect("a position"))
}

fn small(u: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let (key, value) = (<Vec<u8>>::arbitrary(u)?, <Option<Vec<u8>>>::arbitrary(u)?);
    round!(Tombstone<'_>, Tombstone { index: u.arbitrary()?, key: &key });
    round!(MetaRecord<'_>, MetaRecord { key: &key, value: value.as_deref() });
    round!(Truncation, truncation(u)?);
    let log_number: u32 = u.int_in_range(0x1_0000..=u32::MAX)?;
    round!(Resume, Resume { before: log_number, next: log_number ^ u32::from(u.arbitrary::<u16>()?) });
    let first: u64 = u.arbitrary()?;
    let indexes = if u.arbitrary()? { Some((first, u.int_in_range(first..=u64::MAX)?)) } else { None };
    round!(Gap, Gap { end: u.arbitrary()?, indexes, log_number: u.arbitrary()? });
    let truncations = (0..u.int_in_range(0..=3)?)
        .map(|_| Ok(TruncationAt { truncation: truncation(u)?, position: position(u)? }))
        .collect::<arbitrary::Result<Vec<_>>>()?;
    let next = match u.int_in_range(0..=2)? {
        0 => Next::behind(u.arbitrary()?),
        1 => Next::behind(u64::MAX),
        _ => Next::behind(0),
    };
    let order = [IndexOrder::Any, IndexOrder::Increasing, IndexOrder::Sequential][u.int_in_range(0..=2)?];
    let predecessor = Predecessor { number: u.int_in_range(1..=u32::MAX)?, log_number, end: u.arbitrary()? };
    let stamp = HeadStamp {
        predecessor: Some(predecessor).filter(|_| !log_number.is_multiple_of(3)),
        durable: position(u)?,
        state: State { floor: u.arbitrary()?, retired: u.arbitrary()?, next, order },
        truncations,
        meta: <BTreeMap<Vec<u8>, Vec<u8>>>::arbitrary(u)?,
        time_ms: u.arbitrary()?,
    };
    round!(HeadStamp, stamp);
    let checksum = if u.arbitrary()? { Checksum::Crc32 } else { Checksum::Crc64 };
    let header = Header { checksum, log_id: u.arbitrary()?, number: u.int_in_range(1..=u32::MAX)?, log_number };
    assert_eq!(Header::from_bytes(&header.to_bytes()), Ok(header));
    let manifest = Manifest {
        generation: u.arbitrary()?,
        log_id: u.arbitrary()?,
        first: u.arbitrary()?,
        sealed: u.arbitrary()?,
        before: u.arbitrary()?,
        last: u.arbitrary()?,
        next: u.arbitrary()?,
        durable: position(u)?,
    };
    assert_eq!(Manifest::from_slot(&manifest.to_slot()), Some(manifest));
    Ok(())
}

fn footer(u: &mut Unstructured<'_>) -> arbitrary::Result<Footer> {
    let mut footer = Footer::default();
    let mut least = u64::from(u.arbitrary::<u16>()?);
    for _ in 0..u.int_in_range(0..=40)? {
        let (gap, length) = (u64::from(u.arbitrary::<u8>()?) + 2, u64::from(u.int_in_range(1..=60_u8)?));
        footer.runs.push(Run { first: least + gap, more: length as u32 - 1 });
        least += gap + length;
        footer.offsets.extend((0..length).map(|place| 64 + place as u32 % 36));
    }
    let count = footer.offsets.len() as u32;
    if u.arbitrary()? {
        footer.keys = (0..count).map(|place| KeyAt { hash: u64::from(place) / 2 * 77, place }).collect();
    }
    for index in 0..u.int_in_range(0..=5_u64)? {
        footer.tombstones.push(TombstoneAt { index: index * 3, offset: 30 + index as u32 });
    }
    for offset in 0..u.int_in_range(0..=3_u32)? {
        footer.resumes.push((offset + 10, u.arbitrary()?));
    }
    Ok(footer)
}
