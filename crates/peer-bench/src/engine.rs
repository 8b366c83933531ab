//! What an engine has to offer to be measured, and the card that says what it promises.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::record::Record;

/// A log, or a store that can serve as one. Measured code is generic over it, so that a call costs nothing.
pub(crate) trait Engine: Sized + Sync {
    const CARD: Card;

    /// What one thread reads through. An engine may keep a transaction or a lock in it for all reads of the thread.
    type Reader<'a>: Reader
    where
        Self: 'a;

    /// Opens or creates the log in `setup.dir`.
    fn open(setup: &Setup) -> Result<Self>;

    /// Appends one record; does not wait for the disk where the engine allows that.
    fn append(&mut self, record: Record<'_>) -> Result<()>;

    /// Appends all of the records as the engine does it best.
    fn append_batch(&mut self, records: &[Record<'_>]) -> Result<()>;

    /// Appends one record that is durable on return. Called by several threads at once, of which `writer` is the number.
    fn append_durable(&self, writer: usize, record: Record<'_>) -> Result<()>;

    /// What the calling thread reads through.
    fn reader(&self) -> Result<Self::Reader<'_>>;

    /// Hands out keys and values of all records from the first to the last, with the checks that the engine has.
    fn scan(&mut self, visit: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()>;

    /// What the time of its opening went into, for an engine that tells.
    fn opening(&self) -> Option<Opening> {
        None
    }

    /// Closes the log as its users are told to.
    fn close(self) -> Result<()>;
}

/// What opening a log consisted of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opening {
    /// Finding out what there is.
    pub(crate) read: Duration,
    /// Making true on the disk what was read, and the log fit to be written to.
    pub(crate) write_back: Duration,
}

/// Random reads of one thread.
pub(crate) trait Reader {
    /// Copies the value at `index` into `value`, which was cleared. Returns whether there is one.
    fn get(&mut self, index: u64, value: &mut Vec<u8>) -> Result<bool>;
}

/// The reader of an engine that cannot read at random.
#[allow(dead_code, reason = "only engines that are optional need it")]
#[derive(Debug)]
pub(crate) enum NoReader {}

impl Reader for NoReader {
    fn get(&mut self, _index: u64, _value: &mut Vec<u8>) -> Result<bool> {
        match *self {}
    }
}

/// An engine cannot do what was asked, and why.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unsupported(pub(crate) &'static str);

impl std::fmt::Display for Unsupported {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Unsupported {}

/// What a log is opened for.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) dir: PathBuf,
    pub(crate) purpose: Purpose,
    /// How many records there are or will be; for durable appends a bound.
    pub(crate) records: u64,
    pub(crate) value_bytes: usize,
}

impl Setup {
    /// Bytes of all keys and values.
    pub(crate) fn bytes(&self) -> u64 {
        self.records * (crate::record::KEY_BYTES + self.value_bytes) as u64
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Appends that wait for nothing.
    Append,
    /// As `Append`, with so many rotations that they show.
    Rotate,
    /// Appends that are durable on return.
    Durable,
    Read(Reads),
}

/// Which cache random reads go through. All but `Usual` are casklog's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reads {
    /// As an engine is by default; for peers that have a cache, one that holds all data.
    Usual,
    /// The cache holds all data.
    Hot,
    /// The cache holds a tenth of the data; the rest is in the page cache.
    Cold,
    /// Sealed segments are mapped.
    Mapped,
}

/// What an engine promises, shown under the figures.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Card {
    pub(crate) name: &'static str,
    /// Its package, by which the version is looked up in the lock file.
    pub(crate) package: &'static str,
    pub(crate) random_read: bool,
    /// Which values are in memory after they were written.
    pub(crate) values_in_ram: &'static str,
    pub(crate) checksum: &'static str,
    /// Whether a record has left the process when the call that appended it without a sync returns.
    pub(crate) kill_safe: bool,
    pub(crate) durable: Durable,
    /// What was set, and what to know about the figures.
    pub(crate) notes: &'static str,
}

/// Whether a record can be made to survive a power loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Durable {
    Yes,
    /// It waits for the disk, but not for all that a power loss asks for.
    #[allow(dead_code, reason = "only engines that are optional need it")]
    Weakly,
    #[allow(dead_code, reason = "only engines that are optional need it")]
    No,
}
