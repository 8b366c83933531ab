//! A second, naive view of the format to compare with: records as values, a forger of fragments, a reader of records.
//! And a generator of random numbers.

use std::time::{SystemTime, UNIX_EPOCH};

use casklog::Position;
use casklog::format::{
    Bad, Checksum, EntryRecord, Expect, Framer, Gap, HeadStamp, Kind, Malformed, MetaRecord, Part, RecordType, Resume,
    Tombstone, Truncation, block_rest, decode_watermark, encode_watermark, read_fragment,
};

pub(crate) const CHECKSUMS: [Checksum; 2] = [Checksum::Crc32, Checksum::Crc64];

/// Any record's contents.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value<'a> {
    Entry(EntryRecord<'a>),
    Tombstone(Tombstone<'a>),
    Truncation(Truncation),
    Meta(MetaRecord<'a>),
    Watermark(Position),
    HeadStamp(HeadStamp),
    Resume(Resume),
    Gap(Gap),
    Padding(Vec<u8>),
}

impl<'a> Value<'a> {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Value::Entry(_) => Kind::Entry,
            Value::Tombstone(_) => Kind::Tombstone,
            Value::Truncation(_) => Kind::Truncation,
            Value::Meta(_) => Kind::Meta,
            Value::Watermark(_) => Kind::Watermark,
            Value::HeadStamp(_) => Kind::HeadStamp,
            Value::Resume(_) => Kind::Resume,
            Value::Gap(_) => Kind::Gap,
            Value::Padding(_) => Kind::Padding,
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Value::Entry(entry) => {
                EntryRecord::encode_head(&mut out, entry.index, entry.key);
                out.extend_from_slice(entry.value);
            }
            Value::Tombstone(tombstone) => tombstone.encode(&mut out),
            Value::Truncation(truncation) => truncation.encode(&mut out),
            Value::Meta(meta) => meta.encode(&mut out),
            Value::Watermark(durable) => encode_watermark(&mut out, *durable),
            Value::HeadStamp(stamp) => stamp.encode(&mut out),
            Value::Resume(resume) => resume.encode(&mut out),
            Value::Gap(gap) => gap.encode(&mut out),
            Value::Padding(bytes) => out.extend_from_slice(bytes),
        }
        out
    }

    pub(crate) fn decode(kind: Kind, payload: &'a [u8]) -> Result<Self, Malformed> {
        Ok(match kind {
            Kind::Entry => Value::Entry(EntryRecord::decode(payload)?),
            Kind::Tombstone => Value::Tombstone(Tombstone::decode(payload)?),
            Kind::Truncation => Value::Truncation(Truncation::decode(payload)?),
            Kind::Meta => Value::Meta(MetaRecord::decode(payload)?),
            Kind::Watermark => Value::Watermark(decode_watermark(payload)?),
            Kind::HeadStamp => Value::HeadStamp(HeadStamp::decode(payload)?),
            Kind::Resume => Value::Resume(Resume::decode(payload)?),
            Kind::Gap => Value::Gap(Gap::decode(payload)?),
            Kind::Padding | Kind::Footer => Value::Padding(payload.to_vec()),
        })
    }
}

pub(crate) fn position(segment: u32, offset: u32) -> Position {
    format!("{segment}:{offset}").parse().unwrap()
}

pub(crate) fn sum(checksum: Checksum, bytes: &[u8]) -> u64 {
    checksum.of(bytes)
}

/// What a fragment's header says, so that a test can make it say anything.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Forged {
    pub(crate) checksum: Checksum,
    pub(crate) at: u32,
    pub(crate) type_byte: u8,
    pub(crate) log_number: u32,
    pub(crate) previous: Option<u64>,
}

impl Forged {
    /// A fragment with a right checksum, made as FORMAT.md says and without the crate's framer. Its checksum, too.
    pub(crate) fn bytes(self, payload: &[u8]) -> (Vec<u8>, u64) {
        let mut fields = (payload.len() as u16).to_le_bytes().to_vec();
        fields.push(self.type_byte);
        fields.extend(self.log_number.to_le_bytes());
        let covered = [&fields, payload].concat();
        let width = self.checksum.sum_bytes();
        let sum = sum(self.checksum, &covered) ^ u64::from(self.at) ^ self.previous.unwrap_or(0);
        let mut bytes = sum.to_le_bytes()[..width].to_vec();
        bytes.extend(&fields);
        bytes.extend_from_slice(payload);
        (bytes, sum)
    }
}

/// The record that begins in `bytes`, which stand at `at`, joined: its type, its payload and the offset behind it.
pub(crate) fn read_record(framer: &Framer, bytes: &[u8], at: u32) -> Result<(RecordType, Vec<u8>, u32), Bad> {
    let header = framer.checksum.fragment_header_bytes() as u32;
    let (begin, mut at, mut previous, mut payload) = (at, at, None, Vec::new());
    let mut record = None;
    loop {
        let rest = block_rest(at);
        if rest < header {
            let from = (at - begin) as usize;
            let zeros = bytes.get(from..from + rest as usize).ok_or(Bad::Short)?;
            if zeros.iter().any(|byte| *byte != 0) {
                return Err(Bad::Sequence);
            }
            at += rest;
        }
        let from = bytes.get((at - begin) as usize..).ok_or(Bad::Short)?;
        let fragment = read_fragment(framer.checksum, from, at, Expect::Exact(framer.log_number), previous)?;
        let is_start = matches!(fragment.part, Part::Full | Part::First);
        if is_start != record.is_none() || record.is_some_and(|record| record != fragment.record) {
            return Err(Bad::Sequence);
        }
        payload.extend_from_slice(fragment.payload);
        (record, previous, at) = (Some(fragment.record), Some(fragment.sum), fragment.end);
        if matches!(fragment.part, Part::Full | Part::Last) {
            return Ok((fragment.record, payload, at));
        }
    }
}

/// A small generator, seeded by the time; `CASKLOG_SEED` repeats a run.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new() -> Self {
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        let seed = std::env::var("CASKLOG_SEED").map_or_else(|_| now(), |seed| seed.parse().unwrap());
        // Printed by the test harness where the test fails.
        println!("CASKLOG_SEED={seed}");
        Random(seed | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    pub(crate) fn bytes(&mut self, longest: usize) -> Vec<u8> {
        let len = self.below(longest + 1);
        (0..len).map(|_| self.next() as u8).collect()
    }
}
