//! Records on their way into the log: encoded outside the writer lock, placed together or not at all.

use rmp::encode::{write_array_len, write_bin, write_uint};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::format::{Checksum, Digest, Kind, MetaRecord, Tombstone, Truncation};

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
}

/// One encoded record.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) op: Op,
    from: usize,
    to: usize,
    pub(crate) digest: Option<Digest>,
    /// It turned out to do nothing.
    pub(crate) skip: bool,
}

/// The records of one write or batch, in the order in which they take effect.
#[derive(Debug, Default)]
pub(crate) struct Group {
    bytes: Vec<u8>,
    pub(crate) items: Vec<Item>,
    /// The index of the only put is a guess; the log sets it.
    pub(crate) appends: bool,
    /// The digests are of this checksum.
    pub(crate) checksum: Checksum,
}

/// The array header and the longest index.
const HEAD_ROOM: usize = 10;

/// Payloads longer than this cross a block boundary more often than not, and then their digest is of no use.
const DIGEST_BYTES_MAX: usize = 8 << 10;

/// A value as it is given to a write.
pub(crate) enum Value<'a, T: ?Sized> {
    Serialize(&'a T),
    Bytes(&'a [u8]),
    /// Already MessagePack.
    Encoded(&'a [u8]),
}

impl Group {
    /// Empties it, keeping its memory unless that is much.
    pub(crate) fn clear(&mut self, checksum: Checksum) {
        self.bytes.clear();
        self.bytes.shrink_to(1 << 20);
        self.items.clear();
        self.items.shrink_to(1 << 14);
        self.appends = false;
        self.checksum = checksum;
    }

    pub(crate) fn payload(&self, item: &Item) -> &[u8] {
        &self.bytes[item.from..item.to]
    }

    /// Adds an entry.
    pub(crate) fn put<T: Serialize + ?Sized>(&mut self, index: u64, key: &[u8], value: Value<'_, T>) -> Result<()> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; HEAD_ROOM]);
        // Writing into memory cannot fail.
        let _ = write_bin(&mut self.bytes, key);
        match value {
            Value::Bytes(bytes) => {
                let _ = write_bin(&mut self.bytes, bytes);
            }
            Value::Encoded(encoded) => self.bytes.extend_from_slice(encoded),
            Value::Serialize(value) => encode_value(&mut self.bytes, value)?,
        }
        self.items.push(Item { op: Op::Put(index), from: start, to: self.bytes.len(), digest: None, skip: false });
        self.set_index(self.items.len() - 1, start + HEAD_ROOM, index);
        Ok(())
    }

    /// Gives the only put another index.
    pub(crate) fn set_only_index(&mut self, index: u64) {
        self.set_index(0, HEAD_ROOM, index);
    }

    /// Writes the head of an entry so that it ends at `head_end`, where its key begins.
    fn set_index(&mut self, item: usize, head_end: usize, index: u64) {
        let mut head = [0; HEAD_ROOM];
        let mut rest = &mut head[..];
        let _ = write_array_len(&mut rest, 3);
        let _ = write_uint(&mut rest, index);
        let len = HEAD_ROOM - rest.len();
        self.bytes[head_end - len..head_end].copy_from_slice(&head[..len]);
        let item = &mut self.items[item];
        item.op = Op::Put(index);
        item.from = head_end - len;
        item.digest = digest(self.checksum, &self.bytes[item.from..item.to]);
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
        let from = self.bytes.len();
        encode(&mut self.bytes);
        let to = self.bytes.len();
        self.items.push(Item { op, from, to, digest: digest(self.checksum, &self.bytes[from..to]), skip: false });
    }

    /// Refuses what is over the limits.
    pub(crate) fn check_size(&self, record_bytes_max: u64, batch_bytes_max: u64) -> Result<()> {
        let mut sum = 0;
        for item in &self.items {
            let bytes = (item.to - item.from) as u64;
            if bytes > record_bytes_max {
                return Err(Error::TooLarge { what: "record", bytes, limit: record_bytes_max });
            }
            sum += bytes;
        }
        if sum > batch_bytes_max {
            return Err(Error::TooLarge { what: "batch", bytes: sum, limit: batch_bytes_max });
        }
        Ok(())
    }
}

fn digest(checksum: Checksum, payload: &[u8]) -> Option<Digest> {
    (payload.len() <= DIGEST_BYTES_MAX).then(|| {
        let mut digest = checksum.digest();
        digest.update(payload);
        digest
    })
}

/// Encodes a value with field names, so that old logs survive new fields and any MessagePack tool can read them.
pub(crate) fn encode_value<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) -> Result<()> {
    let mut serializer = rmp_serde::Serializer::new(out).with_struct_map();
    value.serialize(&mut serializer).map_err(|error| Error::Encode { reason: error.to_string() })
}
