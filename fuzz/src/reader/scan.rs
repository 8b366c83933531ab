//! One segment: sections 2 to 7, and 16.

use std::collections::BTreeMap;

use super::pack::Pack;
use super::wire::{crc, crc32, number_of, u16_at, u32_at, u64_at};

/// A segment number and an offset in it.
pub type Position = (u64, u64);

const BLOCK: usize = 32_768;

pub(super) struct Segment<'a> {
    pub(super) number: u64,
    pub(super) id: [u8; 16],
    bytes: &'a [u8],
    /// Of a checksum.
    width: usize,
    log_number: u32,
}

#[derive(Clone, Debug)]
pub(super) struct Head {
    /// Number and data end.
    pub(super) predecessor: Option<(u64, u64)>,
    pub(super) w: Position,
    pub(super) meta: BTreeMap<Vec<u8>, Vec<u8>>,
}

#[derive(Clone, Debug)]
pub(super) enum Record {
    Entry { index: u64, key: Vec<u8>, value: Vec<u8> },
    Tombstone { index: u64 },
    Truncation { what: u64, index: u64 },
    Metadata { key: Vec<u8>, value: Option<Vec<u8>> },
    Watermark(Position),
    Head(Head),
    Resume { before: u64, next: u64 },
    Gap { end: Option<u64>, number: Option<u64> },
    Skipped,
    Malformed,
}

/// A file of a later version.
pub(super) struct Later;

pub(super) struct Scanned {
    pub(super) batches: Vec<Record>,
    /// Behind the last whole batch; of a gap segment, the end that it stands for.
    pub(super) end: u64,
    /// The highest that a record names as durable.
    pub(super) w: Position,
    /// All up to the known end is good; where none is known, always.
    pub(super) whole: bool,
    /// A whole batch stands behind the end, and holds a payload that is malformed.
    pub(super) is_malformed: bool,
}

/// A record as it stands in the file.
struct Laid {
    bits: u8,
    payload: Vec<u8>,
    end: usize,
}

impl<'a> Segment<'a> {
    pub(super) fn open(number: u64, bytes: &'a [u8]) -> Result<Option<Self>, Later> {
        let Some(header) = bytes.get(..64) else { return Ok(None) };
        if !header.starts_with(b"casklog\n") || crc32(&header[..60]) != u32_at(header, 60) {
            return Ok(None);
        }
        let kind = header[10];
        if u16_at(header, 8) != 3 || !(1..=2).contains(&kind) || u64_at(header, 12) != 0 {
            return Err(Later);
        }
        let log_number = u32_at(header, 44);
        if u64_at(header, 36) != number || log_number >> 16 == 0 {
            return Ok(None);
        }
        let id = header[20..36].try_into().expect("16 bytes");
        Ok(Some(Self { number, id, bytes, width: usize::from(kind) * 4, log_number }))
    }

    pub(super) fn head(&self) -> Result<Option<Head>, Later> {
        let Some(laid) = self.record(64, self.log_number, self.bytes.len())? else { return Ok(None) };
        match parse(&laid) {
            Some(Record::Head(head)) if laid.bits & 0xc0 == 0xc0 => Ok(Some(head)),
            _ => Ok(None),
        }
    }

    /// Goes through the batches, up to the known end.
    pub(super) fn scan(&self, known: Option<u64>) -> Result<Scanned, Later> {
        let mut found = Scanned { batches: Vec::new(), end: 64, w: (0, 0), whole: false, is_malformed: false };
        let (mut at, mut number, mut batch, mut gap) = (64, self.log_number, Vec::new(), None);
        let limit = known.map_or(self.bytes.len(), |known| self.bytes.len().min(known as usize));
        while gap.is_some() || at < limit {
            // A gap segment ends where it likes, so that its bytes have no known end.
            let limit = if gap.is_some() { self.bytes.len() } else { limit };
            let Some(laid) = self.record(at, number, limit)? else { break };
            if laid.bits & 15 == 9 && batch.is_empty() {
                break;
            }
            // Malformed is what a batch holds that is there to its end: section 13.
            let parsed = parse(&laid);
            let is_malformed = parsed.is_none() && matches!(laid.bits & 15, 1..=5 | 8);
            let Some(record) = parsed.or(is_malformed.then_some(Record::Malformed)) else { break };
            let alone = matches!(laid.bits & 15, 5 | 6 | 7 | 9 | 12);
            if (laid.bits & 0x40 != 0) != batch.is_empty()
                || (alone && laid.bits & 0xc0 != 0xc0)
                || (at == 64) != matches!(record, Record::Head(_))
            {
                break;
            }
            match record {
                Record::Resume { before, next } => {
                    if before != u64::from(number) || next >> 16 != before >> 16 {
                        break;
                    }
                    number = next as u32;
                }
                Record::Gap { end, number: behind } => {
                    if behind.is_some_and(|behind| behind >> 16 != u64::from(number) >> 16) {
                        break;
                    }
                    number = behind.map_or(number, |behind| behind as u32);
                    gap = end.or(gap);
                }
                Record::Watermark(w) => found.w = found.w.max(w),
                _ => {}
            }
            batch.push(record);
            at = laid.end;
            if laid.bits & 0x80 != 0 {
                found.is_malformed = batch.iter().any(|record| matches!(record, Record::Malformed));
                if found.is_malformed {
                    break;
                }
                found.batches.append(&mut batch);
                found.end = at as u64;
            }
        }
        found.end = gap.unwrap_or(found.end);
        found.whole = known.is_none_or(|known| found.end == known);
        Ok(found)
    }

    /// Watermarks behind a place where the records can be followed no further.
    pub(super) fn evidence(&self, from: u64) -> Position {
        let places = from.max(64) as usize..self.bytes.len();
        let marks = places.filter_map(|at| {
            let header = self.bytes.get(at..at + self.width + 7)?;
            let full_watermark = header[self.width + 2] & 0x3f == 5;
            let number = u32_at(header, self.width + 3);
            if !full_watermark || number >> 16 != self.log_number >> 16 {
                return None;
            }
            let (bits, payload) = self.fragment(at, number, None, self.bytes.len())?;
            match parse(&Laid { bits, payload: payload.to_vec(), end: 0 }) {
                Some(Record::Watermark(w)) => Some(w),
                _ => None,
            }
        });
        marks.max().unwrap_or_default()
    }

    /// The record at `at`, or none if what is there is not one.
    fn record(&self, mut at: usize, number: u32, limit: usize) -> Result<Option<Laid>, Later> {
        let (mut payload, mut before, mut first) = (Vec::new(), None, None);
        loop {
            let left = BLOCK - at % BLOCK;
            if left < self.width + 7 {
                let filled = self.bytes.get(at..at + left).is_some_and(|fill| fill.iter().all(|byte| *byte == 0));
                if !filled {
                    return Ok(None);
                }
                at += left;
            }
            let Some((bits, part)) = self.fragment(at, number, before, limit) else { return Ok(None) };
            if matches!(bits & 15, 0 | 10 | 11) {
                return Err(Later);
            }
            let goes_on = bits & 0x30 == 0x10 || bits & 0x30 == 0x20;
            let starts = bits & 0x20 == 0;
            let fits = first.is_none_or(|first: u8| (first ^ bits) & 0xcf == 0);
            let end = at + self.width + 7 + part.len();
            if starts != first.is_none() || !fits || (goes_on && !end.is_multiple_of(BLOCK)) {
                return Ok(None);
            }
            payload.extend_from_slice(part);
            if !goes_on {
                return Ok(Some(Laid { bits, payload, end }));
            }
            before = Some(&self.bytes[at..at + self.width]);
            first = Some(bits);
            at = end;
        }
    }

    /// Type and payload of the fragment at `at`, if it is one of this number.
    fn fragment(&self, at: usize, number: u32, before: Option<&[u8]>, limit: usize) -> Option<(u8, &'a [u8])> {
        let body = at + self.width + 7;
        let header = self.bytes.get(at..body)?;
        let end = body + usize::from(u16_at(header, self.width));
        if end > limit || end > (at / BLOCK + 1) * BLOCK {
            return None;
        }
        let bits = header[self.width + 2];
        let payload = self.bytes.get(body..end)?;
        let chained = if bits & 0x20 != 0 { number_of(before?) } else { 0 };
        let sum = crc(self.width, &[&header[self.width..], payload]) ^ at as u64 ^ chained;
        let stored = sum == number_of(&header[..self.width]);
        (stored && u32_at(header, self.width + 3) == number).then_some((bits, payload))
    }
}

/// Section 7.
fn parse(laid: &Laid) -> Option<Record> {
    let mut pack = Pack(&laid.payload);
    let kind = laid.bits & 15;
    if kind >= 12 {
        return Some(Record::Skipped);
    }
    if kind == 8 && laid.payload.first().is_none_or(|byte| *byte == 0) {
        return Some(Record::Gap { end: None, number: None });
    }
    let least = *[0, 3, 2, 2, 2, 2, 6, 2, 1].get(usize::from(kind))?;
    let count = pack.array().filter(|count| *count >= least)?;
    Some(match kind {
        1 => {
            let (index, key) = (pack.number()?, pack.bin()?.to_vec());
            let value = if count == 3 { pack.0 } else { pack.any()? };
            Record::Entry { index, key, value: value.to_vec() }
        }
        2 => Record::Tombstone { index: pack.number()? },
        3 => Record::Truncation { what: pack.number().filter(|what| *what < 3)?, index: pack.number()? },
        4 => {
            let key = pack.bin()?.to_vec();
            let value = if pack.nil() { None } else { Some(pack.bin()?.to_vec()) };
            Record::Metadata { key, value }
        }
        5 => Record::Watermark((pack.number()?, pack.number()?)),
        6 => Record::Head(head(pack)?),
        7 => Record::Resume { before: pack.number()?, next: pack.number()? },
        8 => {
            let mut field = |place| match place < count {
                true if place == 1 && pack.0.first() == Some(&0xc3) => {
                    pack.0 = &pack.0[1..];
                    Some(None)
                }
                true if !pack.nil() => pack.number().map(Some),
                _ => Some(None),
            };
            let (end, _, _, number) = (field(0)?, field(1)?, field(2)?, field(3)?);
            Record::Gap { end, number }
        }
        _ => return None,
    })
}

fn head(mut pack: Pack<'_>) -> Option<Head> {
    let predecessor = if pack.nil() {
        None
    } else {
        let mut named = Pack(pack.any()?);
        let _ = named.array().filter(|count| *count >= 3)?;
        let (number, _, end) = (named.number()?, named.number()?, named.number()?);
        Some((number, end))
    };
    let mut w = Pack(pack.any()?);
    let _ = w.array().filter(|count| *count >= 2)?;
    let w = (w.number()?, w.number()?);
    let (_state, _truncations) = (pack.any()?, pack.any()?);
    let mut meta = BTreeMap::new();
    for _ in 0..pack.map()? {
        meta.insert(pack.bin()?.to_vec(), pack.bin()?.to_vec());
    }
    Some(Head { predecessor, w, meta })
}
