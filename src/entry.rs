//! An entry as it is read: its index, key and value.

use bytes::Bytes;
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::format::{EntryRecord, decode_bin};
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

/// From where to where a part reaches, in bytes that are never as long as 4 GiB.
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

/// Where the parts of an entry stand in the bytes that its payload is a part of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parts {
    pub(crate) index: u64,
    key: Span,
    value: Span,
}

impl Parts {
    /// Those of `payload`, which is a part of `bytes`; `None` where it is no entry.
    #[inline(always)]
    pub(crate) fn of(bytes: &[u8], payload: &[u8]) -> Option<Self> {
        let record = EntryRecord::decode(payload).ok()?;
        let start = bytes.as_ptr() as usize;
        let span = |part: &[u8]| {
            let from = part.as_ptr() as usize - start;
            (from as u32, (from + part.len()) as u32)
        };
        Some(Parts { index: record.index, key: span(record.key), value: span(record.value) })
    }

    /// Where they end.
    #[inline(always)]
    pub(crate) fn end(&self) -> usize {
        self.value.1 as usize
    }
}

#[inline]
fn at(bytes: &[u8], (from, to): Span) -> &[u8] {
    &bytes[from as usize..to as usize]
}

impl Entry {
    /// Takes a payload apart; `None` where it is no entry.
    pub(crate) fn new(payload: Bytes, position: Position, is_durable: bool) -> Option<Self> {
        let Parts { index, key, value } = Parts::of(&payload, &payload)?;
        Some(Entry { index, position, is_durable, payload, key, value })
    }

    /// An entry that keeps the bytes that it is a part of.
    #[inline]
    pub(crate) fn within(bytes: &Bytes, parts: Parts, position: Position, is_durable: bool) -> Self {
        let Parts { index, key, value } = parts;
        Entry { index, position, is_durable, payload: bytes.clone(), key, value }
    }

    /// Its index.
    #[inline]
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Where it stands in the log.
    #[inline]
    pub fn position(&self) -> Position {
        self.position
    }

    /// Whether it was known to survive a power loss when it was read.
    #[inline]
    pub fn is_durable(&self) -> bool {
        self.is_durable
    }

    /// Its key; may be empty.
    #[inline]
    pub fn key(&self) -> &[u8] {
        at(&self.payload, self.key)
    }

    /// Its value, still MessagePack.
    #[inline]
    pub fn raw_value(&self) -> &[u8] {
        at(&self.payload, self.value)
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
    #[inline]
    pub fn bytes(&self) -> Result<&[u8]> {
        self.as_ref().bytes()
    }

    /// Copies key and value into memory of the entry's own, so that it does not keep a larger buffer alive.
    #[must_use]
    pub fn detach(&self) -> Self {
        let payload = Bytes::from([self.key(), self.raw_value()].concat());
        let (key, value) = (self.key().len() as u32, self.raw_value().len() as u32);
        Entry { payload, key: (0, key), value: (key, key + value), ..*self }
    }

    /// Borrows it.
    #[inline]
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

    /// An entry whose parts stand in `bytes`.
    #[inline]
    pub(crate) fn within(bytes: &'a [u8], parts: Parts, position: Position, is_durable: bool) -> Self {
        let Parts { index, key, value } = parts;
        EntryRef { index, position, is_durable, key: at(bytes, key), value: at(bytes, value) }
    }

    /// Its index.
    #[inline]
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Where it stands in the log.
    #[inline]
    pub fn position(&self) -> Position {
        self.position
    }

    /// Whether it was known to survive a power loss when it was read.
    #[inline]
    pub fn is_durable(&self) -> bool {
        self.is_durable
    }

    /// Its key; may be empty.
    #[inline]
    pub fn key(&self) -> &'a [u8] {
        self.key
    }

    /// Its value, still MessagePack.
    #[inline]
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
    #[inline]
    pub fn bytes(&self) -> Result<&'a [u8]> {
        decode_bin(self.value)
            .ok_or_else(|| Error::Decode { index: self.index, reason: "the value is not of type bin".to_owned() })
    }
}
