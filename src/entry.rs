//! An entry as it is read: its index, key and value.

use std::ops::Range;

use bytes::Bytes;
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::format::EntryRecord;
use crate::position::Position;

/// An entry that was read, with its own copy of key and value.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let store = casklog::Store::open(dir.path())?;
/// store.write(7, "user:42", &("Ada", 36))?;
/// let entry = store.get(7)?.expect("it was just written");
/// assert_eq!(entry.key(), b"user:42");
/// let (name, age): (&str, u32) = entry.value()?;
/// assert_eq!((name, age), ("Ada", 36));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Entry {
    index: u64,
    position: Position,
    is_durable: bool,
    payload: Bytes,
    key: Span,
    value: Span,
}

/// From where to where a part of a payload reaches, which is never as long as 4 GiB.
type Span = (u32, u32);

/// An entry that borrows from a buffer of the caller's. See [`Reader::get_into`](crate::Reader::get_into).
#[derive(Debug, Clone, Copy)]
pub struct EntryRef<'a> {
    index: u64,
    position: Position,
    is_durable: bool,
    key: &'a [u8],
    value: &'a [u8],
}

impl Entry {
    /// Takes a payload apart; `None` where it is no entry.
    pub(crate) fn new(payload: Bytes, position: Position, is_durable: bool) -> Option<Self> {
        let (index, key, value) = Self::parts(&payload)?;
        Some(Entry { index, position, is_durable, payload, key, value })
    }

    /// Takes the payload apart that is a part of `bytes`; `None` where it is no entry.
    #[inline]
    pub(crate) fn within(bytes: &Bytes, part: Range<usize>, position: Position, is_durable: bool) -> Option<Self> {
        let (index, key, value) = Self::parts(&bytes[part.clone()])?;
        Some(Entry { index, position, is_durable, payload: bytes.slice(part), key, value })
    }

    /// The index in a payload, and where key and value stand.
    #[inline]
    fn parts(payload: &[u8]) -> Option<(u64, Span, Span)> {
        let record = EntryRecord::decode(payload).ok()?;
        let start = payload.as_ptr() as usize;
        let range = |part: &[u8]| {
            let from = part.as_ptr() as usize - start;
            (from as u32, (from + part.len()) as u32)
        };
        Some((record.index, range(record.key), range(record.value)))
    }

    /// Its index.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Where it stands in the log.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Whether it was known to survive a power loss when it was read.
    pub fn is_durable(&self) -> bool {
        self.is_durable
    }

    /// Its key; may be empty.
    pub fn key(&self) -> &[u8] {
        &self.payload[self.key.0 as usize..self.key.1 as usize]
    }

    /// Its value, still MessagePack.
    pub fn raw_value(&self) -> &[u8] {
        &self.payload[self.value.0 as usize..self.value.1 as usize]
    }

    /// Decodes the value; what is decoded may borrow from the entry.
    ///
    /// # Errors
    /// [`Error::Decode`] where the value is not a `T`. The entry is intact all the same.
    pub fn value<'a, T: Deserialize<'a>>(&'a self) -> Result<T> {
        self.as_ref().value()
    }

    /// The bytes of a value that was written with [`write_bytes`](crate::Store::write_bytes).
    ///
    /// # Errors
    /// [`Error::Decode`] where the value is no MessagePack `bin`.
    pub fn bytes(&self) -> Result<&[u8]> {
        self.as_ref().bytes()
    }

    /// Copies key and value into memory of the entry's own, so that it does not keep a larger buffer alive.
    #[must_use]
    pub fn detach(&self) -> Self {
        Entry { payload: Bytes::copy_from_slice(&self.payload), ..self.clone() }
    }

    /// Borrows it.
    pub fn as_ref(&self) -> EntryRef<'_> {
        EntryRef {
            index: self.index,
            position: self.position,
            is_durable: self.is_durable,
            key: self.key(),
            value: self.raw_value(),
        }
    }
}

impl<'a> EntryRef<'a> {
    /// Takes a payload apart; `None` where it is no entry.
    pub(crate) fn new(payload: &'a [u8], position: Position, is_durable: bool) -> Option<Self> {
        let EntryRecord { index, key, value } = EntryRecord::decode(payload).ok()?;
        Some(EntryRef { index, position, is_durable, key, value })
    }

    /// Its index.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Where it stands in the log.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Whether it was known to survive a power loss when it was read.
    pub fn is_durable(&self) -> bool {
        self.is_durable
    }

    /// Its key; may be empty.
    pub fn key(&self) -> &'a [u8] {
        self.key
    }

    /// Its value, still MessagePack.
    pub fn raw_value(&self) -> &'a [u8] {
        self.value
    }

    /// Decodes the value; what is decoded may borrow from the buffer.
    ///
    /// # Errors
    /// [`Error::Decode`] where the value is not a `T`.
    pub fn value<T: Deserialize<'a>>(&self) -> Result<T> {
        rmp_serde::from_slice(self.value)
            .map_err(|error| Error::Decode { index: self.index, reason: error.to_string() })
    }

    /// The bytes of a value that was written with [`write_bytes`](crate::Store::write_bytes).
    ///
    /// # Errors
    /// [`Error::Decode`] where the value is no MessagePack `bin`.
    pub fn bytes(&self) -> Result<&'a [u8]> {
        let mut rest = self.value;
        rmp::decode::read_bin_len(&mut rest)
            .ok()
            .filter(|len| *len as usize == rest.len())
            .map(|_| rest)
            .ok_or_else(|| Error::Decode { index: self.index, reason: "the value is not of type bin".to_owned() })
    }
}
