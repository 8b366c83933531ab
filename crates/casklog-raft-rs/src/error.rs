//! The one error type, and what raft-rs makes of it.

use raft::StorageError;

/// The result of every fallible call of this crate that is not one of raft-rs's.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, and what to do next. Unless it is [`Store`](Error::Store), nothing was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The log could not do it. After [`casklog::Error::Failed`] the node must stop: what was not confirmed as durable
    /// may be there or not when the storage is opened again. After [`casklog::Error::Busy`] and
    /// [`casklog::Error::NoSpace`] nothing was written, and the call may be tried again.
    #[error(transparent)]
    Store(#[from] casklog::Error),
    /// The options let the log remove entries by itself, which only compaction may.
    #[error("a Raft log is shortened by compaction alone; open it without max_segments, max_bytes and max_age")]
    Retention,
    /// The directory holds a log of something else.
    #[error("the log holds something else than the records of a Raft node; choose another directory or prefix")]
    NotARaftLog,
    /// The log was written by a newer version of this crate.
    #[error("the Raft records have format {found}, this version reads {known}; use a newer version")]
    Unsupported {
        /// The format found.
        found: u8,
        /// The format that is known.
        known: u8,
    },
    /// A part of the log was lost. A node that forgets what it has promised can make a cluster lose committed entries.
    #[error("a part of the log was lost ({reason}): restore it from a copy, or let the node join anew under a new id")]
    Lost {
        /// What is missing.
        reason: String,
    },
    /// A record is intact, and is not what this crate writes.
    #[error("{what} cannot be understood: {reason}; verify the log, and restore it from a copy")]
    Malformed {
        /// The record.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The entry was compacted.
    #[error("index {index} was compacted, the log begins with {first}; go on from there, or from a snapshot")]
    Compacted {
        /// The index asked for.
        index: u64,
        /// The first index of the log.
        first: u64,
    },
    /// There is no such entry yet.
    #[error("index {index} is not in the log, which ends with {last}; append it first")]
    Unavailable {
        /// The index asked for.
        index: u64,
        /// The last index of the log.
        last: u64,
    },
    /// The entries to append do not follow each other, or the log.
    #[error("the entries to append jump to index {index}; the next one must be {expected} at most")]
    Gap {
        /// The index that was given.
        index: u64,
        /// The index that would follow.
        expected: u64,
    },
    /// A hard state whose committed entries would not be in the log: raft-rs could not be started from it.
    #[error("the hard state commits up to index {commit}, and the log would end with {last}; append the entries first")]
    CommitAhead {
        /// The committed index.
        commit: u64,
        /// The last index there would be.
        last: u64,
    },
    /// The snapshot holds nothing that the log does not have.
    #[error("a snapshot of index {index} is older than the log, which begins with {first}; drop it")]
    SnapshotOutOfDate {
        /// The last index that the snapshot covers.
        index: u64,
        /// The first index of the log.
        first: u64,
    },
    /// The state machine lacks entries that were compacted.
    #[error(
        "the state machine has applied index {applied}, and the log begins with {first}; restore it from a later image"
    )]
    MachineBehind {
        /// The index that was applied last.
        applied: u64,
        /// The first index of the log.
        first: u64,
    },
    /// A follower needs a snapshot, and nobody can make one.
    #[error(
        "a snapshot is asked for, and there is nobody to make one; give the storage CasklogStorage::with_snapshots"
    )]
    NoSnapshots,
    /// The application could not make a snapshot.
    #[error("the state machine has no snapshot: {0}")]
    Snapshot(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    pub(crate) fn malformed(what: impl Into<String>, reason: impl std::fmt::Display) -> Self {
        Error::Malformed { what: what.into(), reason: reason.to_string() }
    }
}

/// What raft-rs acts on gets its own variant; all else is `Other`, with the error inside.
impl From<Error> for raft::Error {
    fn from(error: Error) -> Self {
        raft::Error::Store(match error {
            Error::Compacted { .. } => StorageError::Compacted,
            Error::Unavailable { .. } => StorageError::Unavailable,
            Error::SnapshotOutOfDate { .. } => StorageError::SnapshotOutOfDate,
            error => StorageError::Other(Box::new(error)),
        })
    }
}
