//! What open found and did.

use std::path::PathBuf;
use std::time::Duration;

use crate::error::Error;
use crate::position::Position;

/// What open found and did. See [`Reader::recovery_report`](crate::Reader::recovery_report).
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// The log ended exactly where a clean close had left it; open wrote nothing.
    pub is_clean: bool,
    /// The log is new.
    pub is_new: bool,
    /// Segments the log consists of.
    pub segments: u64,
    /// Bytes of segments that were read record by record, because they were not known to be durable or had no footer.
    pub scanned_bytes: u64,
    /// Everything before this position was known to be durable.
    pub durable: Position,
    /// Where the log ends.
    pub end: Position,
    /// What was cut from the end: bytes that were never acknowledged as durable.
    pub torn_tail: Option<TornTail>,
    /// Damage to acknowledged data.
    pub damage: Vec<Damage>,
    /// Ranges that an earlier repair gave up.
    pub gaps: Vec<Damage>,
    /// The manifest was missing or unreadable, and was written anew from the segments.
    pub is_manifest_lost: bool,
    /// Segments whose footer was missing or damaged, so that they were scanned.
    pub footers_missing: Vec<u64>,
    /// Segment files above the end of the log, or below its beginning, that were removed.
    pub removed: Vec<PathBuf>,
    /// Segment files that do not belong to the chain of segments; left untouched.
    pub strays: Vec<PathBuf>,
    /// Bytes that were written back and synced, because only the page cache vouched for them.
    pub written_back_bytes: u64,
    /// How long it took to look at the files, to read what must be read, and to find the end: of a clean log all but the
    /// whole time of the open, mostly the scan of the segment in which it ends.
    pub read_duration: Duration,
    /// How long it took to make the log fit to be written to: next to nothing where it is clean, else mostly writing back
    /// and syncing what was not known to be durable, at the disk's pace.
    pub write_duration: Duration,
}

impl RecoveryReport {
    /// Whether acknowledged data is damaged. A torn tail is not damage.
    pub fn is_damaged(&self) -> bool {
        !self.damage.is_empty()
    }
}

/// Bytes at the end of the log that did not form whole records or batches.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TornTail {
    /// The segment file in which the log ends.
    pub path: PathBuf,
    /// Where.
    pub at: Position,
    /// What stood there.
    pub reason: String,
    /// The bytes that were erased in that file.
    pub bytes: u64,
}

/// A part of the log that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Damage {
    /// The segment file.
    pub path: PathBuf,
    /// Its number.
    pub segment: u64,
    /// The bytes that cannot be read, from and up to.
    pub bytes: (u64, u64),
    /// The first and last index that may have stood there, as far as its neighbours tell.
    pub indexes: Option<(u64, u64)>,
    /// What is wrong.
    pub reason: String,
    /// The file is not there at all.
    pub is_missing: bool,
}

impl Damage {
    pub(crate) fn to_error(&self) -> Error {
        if self.is_missing {
            return Error::Missing { path: self.path.clone() };
        }
        Error::damaged(&self.path, self.bytes.0, self.reason.clone())
    }
}
