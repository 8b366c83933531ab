//! The storage that is given to openraft.

use std::fmt;
use std::path::Path;

use casklog::{Options, Reader};

use crate::error::Result;
use crate::line::Line;
use crate::raft_log::RaftLog;

/// As much as a message between nodes should bear.
const LIMITED_READ_BYTES: u64 = 1 << 20;

/// The log of one Raft node, for the line of openraft that `L` stands for: see
/// `v0_9::CasklogStorage` and `v0_10::CasklogStorage`.
///
/// A cheap handle; clones are handles on the same log, and so are the log readers that openraft asks for.
pub struct Storage<L: Line> {
    pub(crate) log: RaftLog<L>,
    pub(crate) limited_read_bytes: u64,
}

impl<L: Line> Clone for Storage<L> {
    fn clone(&self) -> Self {
        Storage { log: self.log.clone(), limited_read_bytes: self.limited_read_bytes }
    }
}

impl<L: Line> fmt::Debug for Storage<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Storage { log, limited_read_bytes } = self;
        f.debug_struct("Storage").field("log", log).field("limited_read_bytes", limited_read_bytes).finish()
    }
}

impl<L: Line> Storage<L> {
    /// Opens the log in `dir`, creating directory and log where they are missing, with the default [`Options`].
    ///
    /// # Errors
    /// As [`open_with`](Storage::open_with).
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(Options::new(dir))
    }

    /// Opens the log with these options. The order of indexes is always [`Sequential`](casklog::IndexOrder::Sequential).
    ///
    /// Give each group of a multi-Raft node a [`prefix`](Options::prefix) or a directory of its own. The sync policy
    /// changes nothing of what is promised to openraft.
    ///
    /// # Errors
    /// [`Error::Retention`](crate::Error::Retention) for options that remove entries by themselves;
    /// [`Error::Line`](crate::Error::Line), [`Error::Types`](crate::Error::Types) and
    /// [`Error::NotARaftLog`](crate::Error::NotARaftLog) for a log that was written by somebody else;
    /// [`Error::Lost`](crate::Error::Lost) where a recovery mode or a repair has got past damage;
    /// [`Error::Store`](crate::Error::Store) with all that [`Options::open`] reports, `IndexOrderStored` for a log that is
    /// no Raft log among it.
    pub fn open_with(options: Options) -> Result<Self> {
        Ok(Storage { log: RaftLog::open(options)?, limited_read_bytes: LIMITED_READ_BYTES })
    }

    /// How many bytes of entries, encoded, `limited_get_log_entries` returns at most, beside the first one, which it returns
    /// in any case. Default 1 MiB.
    #[must_use]
    pub fn limited_read_bytes(mut self, bytes: u64) -> Self {
        self.limited_read_bytes = bytes;
        self
    }

    /// The log as it is stored: to look at its statistics and what recovery found, to verify it, to make a checkpoint.
    pub fn reader(&self) -> &Reader {
        self.log.reader()
    }

    /// Makes everything durable and lets go of the log. Whoever dropped the last handle instead must wait a moment before
    /// the log can be opened again.
    ///
    /// # Errors
    /// The failure that stopped the store, if one did.
    pub fn close(&self) -> Result<()> {
        self.log.close()
    }
}
