//! A record on its way from one log to another.

use std::fmt;

use crate::error::Unreadable;
use crate::raw;

/// What every format is read into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its index; `None` where the log that takes it shall choose one.
    pub index: Option<u64>,
    /// Its key; may be empty.
    pub key: Vec<u8>,
    /// Its value: one MessagePack value. Those of logs that hold bytes are of type bin.
    pub value: Vec<u8>,
}

impl Record {
    /// A record whose value is bytes, as MessagePack bin.
    pub fn from_bytes(index: Option<u64>, key: impl Into<Vec<u8>>, bytes: &[u8]) -> Self {
        Record { index, key: key.into(), value: raw::encode_bin(bytes) }
    }

    /// The bytes of a value of type bin.
    pub fn bytes(&self) -> Option<&[u8]> {
        raw::decode_bin(&self.value)
    }
}

/// The records of a log or file, in its order, and what of it could not be read.
pub struct Records(Box<dyn Iterator<Item = Result<Record, Unreadable>> + Send>);

impl Records {
    pub(crate) fn new(records: impl Iterator<Item = Result<Record, Unreadable>> + Send + 'static) -> Self {
        Records(Box::new(records))
    }
}

impl Iterator for Records {
    type Item = Result<Record, Unreadable>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Records")
    }
}

/// What a reader has to be told, where the files do not say it.
#[derive(Debug, Clone)]
pub struct ReadOptions {
    pub(crate) prefix: Option<String>,
    pub(crate) key: Vec<u8>,
    pub(crate) first_index: u64,
}

impl Default for ReadOptions {
    fn default() -> Self {
        ReadOptions { prefix: None, key: Vec::new(), first_index: 1 }
    }
}

impl ReadOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// What the names of the log's files begin with, for gowal. By default the one that all of them have.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    /// The key of each record, for logs that have none. By default empty.
    #[must_use]
    pub fn key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.key = key.into();
        self
    }

    /// The index of the first record, for logs that have none: records are counted from it in the order of the files.
    /// By default 1. What cannot be read is not counted.
    #[must_use]
    pub fn first_index(mut self, index: u64) -> Self {
        self.first_index = index;
        self
    }
}
