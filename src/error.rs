//! The one error type: a variant for each thing a caller can act on.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::position::Position;

/// The result of every fallible call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, where, and what to do next.
///
/// Cheap to clone, so that one failed sync can be told to all who waited for it. The cause from the operating system,
/// where there is one, is the [`source`](std::error::Error::source).
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An entry with this index exists or existed and was deleted; nothing was written.
    #[error("index {index} is taken, by an entry or one that was deleted; write under another index, or use append")]
    IndexExists {
        /// The index that was asked for.
        index: u64,
    },
    /// The index order of the log does not allow this index; nothing was written.
    #[error("index {index} is out of order: the log is {order} and expects {expected}{}", at_least(*.order))]
    IndexOrder {
        /// The index that was asked for.
        index: u64,
        /// The next index, exact under `Sequential`, the least allowed under `Increasing`.
        expected: u64,
        /// The order the log keeps.
        order: crate::options::IndexOrder,
    },
    /// The index lies below the floor, which truncation or retention has raised; nothing was written.
    #[error("index {index} is below the floor {floor}, the least index that this log takes; write at {floor} or above")]
    BelowFloor {
        /// The index that was asked for.
        index: u64,
        /// The least index that may be written.
        floor: u64,
    },
    /// The highest index, `u64::MAX`, has been written: there is no next one.
    #[error("no index is left after {}; reset the log with reset_to", u64::MAX)]
    IndexExhausted,
    /// A batch puts the same index twice; nothing was written.
    #[error("the batch puts index {index} twice; put it once")]
    BatchDuplicate {
        /// The index in question.
        index: u64,
    },
    /// A batch of a sequential log leaves a gap; nothing was written.
    #[error("the batch jumps from index {after} to {index}, and the log is sequential; put every index between them")]
    BatchGap {
        /// The last index before the gap.
        after: u64,
        /// The index after it.
        index: u64,
    },
    /// A batch deletes an index that it also puts; nothing was written.
    #[error("the batch puts index {index} and deletes it; take out one of the two")]
    BatchDeletesPut {
        /// The index in question.
        index: u64,
    },
    /// A record, batch or the metadata is larger than its limit; nothing was written.
    #[error("{what} of {bytes} bytes is over the limit of {limit}; {}", smaller(what))]
    TooLarge {
        /// What is too large: "record", "batch" or "metadata".
        what: &'static str,
        /// Its size in bytes.
        bytes: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The value could not be turned into MessagePack; nothing was written.
    #[error("the value of the entry cannot be encoded: {reason}")]
    Encode {
        /// The encoder's message.
        reason: String,
    },
    /// The value is intact but is not of the type that was asked for.
    #[error("the value of index {index} does not decode as the type asked for: {reason}; raw_value gives its bytes")]
    Decode {
        /// The entry's index.
        index: u64,
        /// The decoder's message.
        reason: String,
    },
    /// The bytes or the text are not a position.
    #[error("{found:?} is no position of an entry; use one that a write or an entry gave")]
    InvalidPosition {
        /// What was given.
        found: String,
    },
    /// An option has a value that cannot work.
    #[error("option {option}: {reason}")]
    InvalidOption {
        /// The option's name.
        option: &'static str,
        /// Why, and what would work.
        reason: String,
    },
    /// An option contradicts what the log was created with.
    #[error("the log keeps index order {stored:?}, not {asked:?}; open it with IndexOrder::{stored:?}")]
    IndexOrderStored {
        /// What the log keeps.
        stored: crate::options::IndexOrder,
        /// What was asked for.
        asked: crate::options::IndexOrder,
    },
    /// Entries were asked for by key, and the log was opened without the index for it.
    #[error("entries are not indexed by key; open the log with Options::key_index(true)")]
    KeyIndexOff,
    /// The store was closed.
    #[error("the store is closed; open it again")]
    Closed,
    /// Another handle, in this or another process, holds the log.
    #[error("{} is held by another handle or process; close it first", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// There is no log, and `create(false)` was asked for.
    #[error("there is no log with this prefix in {}; look at directory and prefix, or open it with create(true)", path.display())]
    NotFound {
        /// The directory.
        path: PathBuf,
    },
    /// Too many bytes wait to become durable; wait for an earlier commit and try again.
    #[error("{undurable} bytes wait to become durable, the limit is {limit}; wait for an earlier commit")]
    Busy {
        /// Bytes written and not yet known to be durable.
        undurable: u64,
        /// `Options::undurable_bytes_max`.
        limit: u64,
    },
    /// There is no room for the write; nothing was placed, and it may be tried again when there is.
    #[error("no room left for the write in {}: {source}; free some space and try again", path.display())]
    NoSpace {
        /// The file or directory that could not grow.
        path: PathBuf,
        /// The system's error.
        source: SystemError,
    },
    /// A call to the operating system failed.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was attempted, as a verb.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        source: SystemError,
    },
    /// An earlier write, sync or rotation failed and its outcome is unknown: the store refuses writes until reopened.
    #[error(
        "the store stopped writing after a failure: {cause}; entries from {durable} on may or may not survive; reads go on, reopen to write"
    )]
    Failed {
        /// The first failure.
        #[source]
        cause: Arc<Error>,
        /// Everything before this position is durable.
        durable: Position,
    },
    /// The log can be read but not written.
    #[error("the log is open for reading only: {cause}")]
    ReadOnly {
        /// Why.
        #[source]
        cause: Arc<Error>,
    },
    /// Bytes that were acknowledged are damaged.
    #[error("segment {} is damaged at byte {at} ({reason}) in acknowledged data; restore it from a copy; the rest stays readable, and Repair keeps all of it that can be read", path.display())]
    Damaged {
        /// The segment file.
        path: PathBuf,
        /// The byte offset in it.
        at: u64,
        /// What is wrong.
        reason: String,
    },
    /// A file that belongs to the log is missing.
    #[error("{} is missing; restore it from a copy, or let Repair go on without it", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// In strict mode: the log ends in bytes of an unfinished write.
    #[error("{} has a torn tail at byte {at} ({reason}); open it in the mode TornTail to cut it", path.display())]
    TornTail {
        /// The segment file.
        path: PathBuf,
        /// Where the log ends.
        at: u64,
        /// What stands there.
        reason: String,
    },
    /// Something was written since the repair that is to be undone; nothing was changed.
    #[error("{} was changed since the repair, and undoing it would lose that; copy the files from quarantine elsewhere instead", path.display())]
    Changed {
        /// The file that is another than the repair left.
        path: PathBuf,
    },
    /// What stood here was in a damaged part of the log that has been given up.
    #[error(
        "index or position lies in a part of segment {segment} that was lost to damage; restore the segment from quarantine or a copy"
    )]
    Lost {
        /// The segment.
        segment: u64,
    },
    /// The file was written by a newer version, or with a feature that this one does not know.
    #[error("{} cannot be used: {reason}; use a newer casklog", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What is not known.
        reason: String,
    },
    /// A call that makes or moves this log was interrupted: its files are not all there, or not all of one time.
    #[error("the log in {} is not complete: {what} was interrupted; run it again, it completes what it began", path.display())]
    Unfinished {
        /// The directory.
        path: PathBuf,
        /// The call, and the command for it.
        what: String,
    },
    /// The directory holds a log that a checkpoint of this one would have to overwrite; nothing was changed.
    #[error("the log in {} is no older checkpoint of this one: {reason}; choose another directory", path.display())]
    NotACheckpoint {
        /// The directory.
        path: PathBuf,
        /// What tells.
        reason: String,
    },
    /// There is a log where one was to be made or moved to; nothing was changed.
    #[error("{} is there already; choose another directory or prefix", path.display())]
    Exists {
        /// A file of that log.
        path: PathBuf,
    },
    /// Retention removed entries that were still to be read.
    #[error("the entries asked for were removed by retention; {}", first.map_or("none is left".to_owned(), |first| format!("go on from index {first}")))]
    Removed {
        /// The first index that is still there.
        first: Option<u64>,
    },
    /// A truncation removed entries that were still to be read.
    #[error("entries were truncated while they were being read; start again")]
    Truncated,
}

/// An error of the operating system, shared by all who are told of it. Its `source` is the [`io::Error`].
#[derive(Debug, Clone)]
pub struct SystemError(Arc<io::Error>);

impl SystemError {
    pub(crate) fn new(error: io::Error) -> Self {
        SystemError(Arc::new(error))
    }
}

impl std::ops::Deref for SystemError {
    type Target = io::Error;

    fn deref(&self) -> &io::Error {
        &self.0
    }
}

impl std::fmt::Display for SystemError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for SystemError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.0)
    }
}

fn smaller(what: &str) -> &'static str {
    match what {
        "metadata" => "delete a key",
        "batch" => "split it, or raise batch_bytes_max",
        _ => "split it, or raise record_bytes_max",
    }
}

fn at_least(order: crate::options::IndexOrder) -> &'static str {
    match order {
        crate::options::IndexOrder::Sequential => "",
        _ => " or more",
    }
}

impl Error {
    /// An I/O error with what was attempted on which path.
    pub(crate) fn io(what: &'static str, path: &Path, source: io::Error) -> Self {
        Error::Io { what, path: path.to_owned(), source: SystemError::new(source) }
    }

    /// As [`io`](Error::io), but a full disk has a variant of its own.
    pub(crate) fn io_or_full(what: &'static str, path: &Path, source: io::Error) -> Self {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        match source.kind() {
            StorageFull | QuotaExceeded | FileTooLarge => {
                Error::NoSpace { path: path.to_owned(), source: SystemError::new(source) }
            }
            _ => Error::io(what, path, source),
        }
    }

    pub(crate) fn damaged(path: &Path, at: u64, reason: impl Into<String>) -> Self {
        Error::Damaged { path: path.to_owned(), at, reason: reason.into() }
    }
}
