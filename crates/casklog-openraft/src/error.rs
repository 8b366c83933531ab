//! What can go wrong beside what the store itself reports.

use std::io;
use std::path::PathBuf;

/// The result of the fallible calls of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong with a Raft log, and what to do.
///
/// openraft 0.10 gets it in an [`io::Error`], from which [`get_ref`](io::Error::get_ref) and `downcast_ref` take it out
/// again. 0.9 keeps its words only.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What the store reports.
    #[error(transparent)]
    Store(#[from] casklog::Error),
    /// The log is to be opened with options that remove entries by themselves.
    #[error(
        "max_segments, max_bytes and max_age would remove entries that Raft still needs; leave them out, purge removes what a snapshot covers"
    )]
    Retention,
    /// The log was written through another line of openraft.
    #[error("the log with {} was written through {found}, this is {expected}; open it through {found}", path.display())]
    Line {
        /// A segment of the log.
        path: PathBuf,
        /// What it was written through.
        found: String,
        /// What it was opened through.
        expected: &'static str,
    },
    /// The log was written by the same line of openraft with other types.
    #[error("the log with {} was written with votes or log ids of another form; use the types for node id, term, leader id and vote, and the features of openraft, that it was written with", path.display())]
    Types {
        /// A segment of the log.
        path: PathBuf,
    },
    /// The log holds something, but not a Raft log of openraft.
    #[error("the log with {} is not a Raft log of openraft; choose another directory or prefix", path.display())]
    NotARaftLog {
        /// A segment of the log.
        path: PathBuf,
    },
    /// A part of the log was lost. A node that forgets what it has promised can make a cluster lose committed entries.
    #[error(
        "a part of the log was lost ({reason}); restore it from a copy that is as new as it was, or take the node out of the cluster and add it under a new id"
    )]
    Lost {
        /// What is missing.
        reason: String,
    },
    /// Entries are missing inside the range that was read.
    #[error(
        "the entries from {from} to before {to} are missing; restore the log from a copy that is as new as it was, or add the node anew under another id"
    )]
    Hole {
        /// The first index that is missing.
        from: u64,
        /// The first index that is there again.
        to: u64,
    },
    /// What was purged cannot be truncated too: it is covered by a snapshot.
    #[error("cannot truncate the log from index {since} on: it was purged up to {purged}")]
    Purged {
        /// The first index to truncate.
        since: u64,
        /// The last index that was purged.
        purged: u64,
    },
    /// `u64::MAX` is no index of an entry: nothing could follow it, and it could not be purged.
    #[error("index {} is not usable; the highest index of a Raft log is {}", u64::MAX, u64::MAX - 1)]
    IndexExhausted,
    /// A vote or log id cannot be encoded.
    #[error("{what} cannot be encoded as MessagePack: {reason}; look at its Serialize")]
    Encode {
        /// What it is.
        what: &'static str,
        /// The encoder's message.
        reason: String,
    },
    /// A stored vote or log id is not of the type asked for.
    #[error("the stored {what} cannot be decoded: {reason}; look at its Deserialize")]
    Decode {
        /// What it is.
        what: &'static str,
        /// The decoder's message.
        reason: String,
    },
}

impl From<Error> for io::Error {
    /// Its kind is that of the system's error behind it, where there is one.
    fn from(error: Error) -> Self {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        let mut kind = io::ErrorKind::Other;
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<io::Error>() {
                kind = error.kind();
            }
            cause = error.source();
        }
        io::Error::new(kind, error)
    }
}
