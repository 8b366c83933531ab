//! Records on their way into the log: encoded outside the writer lock, placed together or not at all.

use std::ops::{Range, RangeInclusive};

use serde::Serialize;

use crate::error::{Error, Result};
use crate::format::{
    BLOCK_BYTES, EntryRecord, FRAGMENT_HEADER_BYTES_MAX, HEAD_BYTES_MAX, Kind, MetaRecord, ROOM_BYTES, Tombstone,
    Truncation, encode_bin, encode_bin_header,
};

/// What one record does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Put(u64),
    Delete(u64),
    Truncate(Truncation),
    Meta,
}

impl Op {
    pub(crate) const fn kind(self) -> Kind {
        match self {
            Op::Put(_) => Kind::Entry,
            Op::Delete(_) => Kind::Tombstone,
            Op::Truncate(_) => Kind::Truncation,
            Op::Meta => Kind::Meta,
        }
    }

    /// In which order the records of a group take effect: truncations, entries by index, deletions by index, metadata.
    fn rank(self) -> (u8, u64) {
        match self {
            Op::Truncate(_) => (0, 0),
            Op::Put(index) => (1, index),
            Op::Delete(index) => (2, index),
            Op::Meta => (3, 0),
        }
    }
}

/// One encoded record: where its payload stands in the bytes of the group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Item {
    pub(crate) op: Op,
    from: usize,
    to: usize,
    /// Which record of the group it was before they were put in order.
    pub(crate) place: u32,
}

impl Item {
    pub(crate) const fn payload_bytes(&self) -> usize {
        self.to - self.from
    }

    /// Where the payload stands in the [bytes](Group::bytes) of the group.
    pub(crate) const fn payload(&self) -> Range<usize> {
        self.from..self.to
    }
}

/// The records of one write or batch.
#[derive(Debug, Clone, Default)]
pub(crate) struct Group {
    /// The payloads, each behind [`ROOM_BYTES`].
    bytes: Vec<u8>,
    pub(crate) items: Vec<Item>,
    /// The indexes, where all records are entries that were added in the order of consecutive indexes.
    run: Option<(u64, u64)>,
    /// The bytes of the longest payload.
    longest: usize,
}

/// One entry on its way into the log, which gives it its index and frames it in place: in front of its key there is room
/// for a fragment header, an array header and the longest index.
#[derive(Debug)]
pub(crate) struct Single(Vec<u8>);

/// Room in front of the key of a single entry.
const HEAD_ROOM: usize = FRAGMENT_HEADER_BYTES_MAX + HEAD_BYTES_MAX;

/// Encoding buffers keep no more than this from one write to the next: a large value must not pin its memory for ever.
const KEPT_BYTES: usize = 1 << 20;

/// A value as it is given to a write.
pub(crate) enum Value<'a, T: ?Sized> {
    Serialize(&'a T),
    Bytes(&'a [u8]),
    /// Encoded before.
    Raw(&'a [u8]),
}

impl Single {
    pub(crate) const fn new() -> Self {
        Single(Vec::new())
    }

    /// Encodes key and value, but for what is returned: the end of its payload, which is long and stays where it is.
    ///
    /// # Errors
    /// [`Error::Encode`].
    #[inline]
    pub(crate) fn encode<'a, T: Serialize + ?Sized>(&mut self, key: &[u8], value: Value<'a, T>) -> Result<&'a [u8]> {
        self.0.clear();
        self.0.shrink_to(KEPT_BYTES);
        self.0.extend_from_slice(&[0; HEAD_ROOM]);
        match value {
            Value::Bytes(bytes) if bytes.len() > BLOCK_BYTES as usize => {
                encode_bin(&mut self.0, key);
                encode_bin_header(&mut self.0, bytes.len());
                Ok(bytes)
            }
            Value::Raw(encoded) if encoded.len() > BLOCK_BYTES as usize => {
                encode_bin(&mut self.0, key);
                Ok(encoded)
            }
            value => encode_tail(&mut self.0, key, value).map(|()| &[][..]),
        }
    }

    /// Gives it an index; returns where its payload starts in what [`bytes`](Single::bytes) returns.
    #[inline]
    pub(crate) fn set_index(&mut self, index: u64) -> usize {
        EntryRecord::encode_index_before(&mut self.0, HEAD_ROOM, index)
    }

    #[inline]
    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Group {
    /// Empties it, keeping its memory unless that is much.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        self.items.clear();
        self.items.shrink_to(1 << 14);
        (self.run, self.longest) = (None, 0);
    }

    /// The payloads, and what stands between them.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn payload(&self, item: &Item) -> &[u8] {
        &self.bytes[item.payload()]
    }

    /// The bytes of all payloads together.
    pub(crate) fn payload_bytes(&self) -> u64 {
        (self.bytes.len() - self.items.len() * ROOM_BYTES) as u64
    }

    /// The bytes of the longest payload.
    pub(crate) fn longest(&self) -> u64 {
        self.longest as u64
    }

    /// The indexes of a group of nothing but entries whose indexes are consecutive.
    pub(crate) fn run(&self) -> Option<RangeInclusive<u64>> {
        self.run.map(|(first, last)| first..=last)
    }

    /// The records but for those at `skips`, which is ascending, and mostly empty.
    pub(crate) fn live<'a>(&'a self, skips: &'a [usize]) -> impl Iterator<Item = &'a Item> + Clone {
        let is_live = |(place, _): &(usize, _)| skips.is_empty() || skips.binary_search(place).is_err();
        self.items.iter().enumerate().filter(is_live).map(|(_, item)| item)
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// [`Error::Encode`]; the group stays as it was.
    pub(crate) fn put<T: Serialize + ?Sized>(&mut self, index: u64, key: &[u8], value: Value<'_, T>) -> Result<()> {
        let room = self.bytes.len();
        self.bytes.extend_from_slice(&[0; ROOM_BYTES]);
        EntryRecord::encode_index(&mut self.bytes, index);
        encode_tail(&mut self.bytes, key, value).inspect_err(|_| self.bytes.truncate(room))?;
        self.push(Op::Put(index), room + ROOM_BYTES);
        Ok(())
    }

    /// As [`put`](Group::put), where the group then has at most `bytes_max` bytes or nothing else in it; says whether.
    ///
    /// # Errors
    /// [`Error::Encode`]; the group stays as it was.
    pub(crate) fn put_within<T: Serialize + ?Sized>(
        &mut self,
        bytes_max: u64,
        index: u64,
        key: &[u8],
        value: Value<'_, T>,
    ) -> Result<bool> {
        let (room, run, longest) = (self.bytes.len(), self.run, self.longest);
        self.put(index, key, value)?;
        let fits = self.items.len() == 1 || self.payload_bytes() <= bytes_max;
        if !fits {
            self.items.pop();
            self.bytes.truncate(room);
            (self.run, self.longest) = (run, longest);
        }
        Ok(fits)
    }

    /// Adds a deletion; `key` is the entry's.
    pub(crate) fn delete(&mut self, index: u64, key: &[u8]) {
        self.add(Op::Delete(index), |out| Tombstone { index, key }.encode(out));
    }

    pub(crate) fn truncate(&mut self, truncation: Truncation) {
        self.add(Op::Truncate(truncation), |out| truncation.encode(out));
    }

    /// Sets or removes a metadata key.
    pub(crate) fn meta(&mut self, key: &[u8], value: Option<&[u8]>) {
        self.add(Op::Meta, |out| MetaRecord { key, value }.encode(out));
    }

    fn add(&mut self, op: Op, encode: impl FnOnce(&mut Vec<u8>)) {
        self.bytes.extend_from_slice(&[0; ROOM_BYTES]);
        let from = self.bytes.len();
        encode(&mut self.bytes);
        self.push(op, from);
    }

    #[inline]
    fn push(&mut self, op: Op, from: usize) {
        let (place, to) = (self.items.len() as u32, self.bytes.len());
        self.run = match (op, self.run) {
            (Op::Put(index), None) if place == 0 => Some((index, index)),
            (Op::Put(index), Some((first, last))) if last.checked_add(1) == Some(index) => Some((first, index)),
            _ => None,
        };
        self.longest = self.longest.max(to - from);
        self.items.push(Item { op, from, to, place });
    }

    /// Whether the records stand in the order in which they take effect.
    pub(crate) fn is_in_order(&self) -> bool {
        self.run.is_some() || self.items.is_sorted_by_key(|item| item.op.rank())
    }

    /// Puts them into that order; those of equal rank keep theirs.
    pub(crate) fn sort(&mut self) {
        self.items.sort_by_key(|item| item.op.rank());
    }
}

/// Encodes what follows the index of an entry.
#[inline]
fn encode_tail<T: Serialize + ?Sized>(out: &mut Vec<u8>, key: &[u8], value: Value<'_, T>) -> Result<()> {
    encode_bin(out, key);
    match value {
        Value::Bytes(bytes) => encode_bin(out, bytes),
        Value::Raw(encoded) => out.extend_from_slice(encoded),
        Value::Serialize(value) => encode_value(out, value)?,
    }
    Ok(())
}

/// Encodes a value with field names, so that old logs survive new fields and any MessagePack tool can read them.
fn encode_value<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) -> Result<()> {
    let mut serializer = rmp_serde::Serializer::new(out).with_struct_map();
    value.serialize(&mut serializer).map_err(|error| Error::Encode { reason: error.to_string() })
}
