//! What raft-rs asks of its storage.

use raft::eraftpb::{Entry, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};

use crate::entry;
use crate::error::{Error, Result};
use crate::snapshot::SnapshotRequest;
use crate::state::Compacted;
use crate::storage::CasklogStorage;

/// What was [submitted](CasklogStorage::submit) is seen at once: a read does not wait for it to become durable.
///
/// Where raft-rs expects a panic, an index above the last one, it gets `Unavailable`.
impl Storage for CasklogStorage {
    fn initial_state(&self) -> raft::Result<RaftState> {
        let inner = self.inner.read();
        Ok(RaftState::new(inner.state.hard_state.clone(), inner.state.conf_state.clone()))
    }

    /// Always reads at once: it is never `LogTemporarilyUnavailable`.
    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        let (compacted, last) = self.bounds();
        let first = compacted.index + 1;
        if low < first {
            return Err(Error::Compacted { index: low, first }.into());
        }
        if high.saturating_sub(1) > last {
            return Err(Error::Unavailable { index: high - 1, last }.into());
        }
        let entries = self.read_entries(low, high, max_size.into().unwrap_or(u64::MAX));
        Ok(entries.map_err(|error| self.unless_compacted(low, error))?)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        let (compacted, last) = self.bounds();
        if index == compacted.index {
            return Ok(compacted.term);
        }
        check(index, compacted.index + 1, last)?;
        Ok(self.stored_term(index).map_err(|error| self.unless_compacted(index, error))?)
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.bounds().0.index + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.bounds().1)
    }

    /// What the application [makes](CasklogStorage::with_snapshots), with the term from the log. It is
    /// `SnapshotTemporarilyUnavailable`, and asked for again, where there is none yet that covers what was asked for, and
    /// all that is compacted.
    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        let conf_state = self.inner.read().state.conf_state.clone();
        let image = self.snapshots.make(SnapshotRequest { at_least: request_index, to, conf_state: &conf_state })?;
        let not_yet = || Err(StorageError::SnapshotTemporarilyUnavailable.into());
        let Some(image) = image.filter(|image| image.index >= request_index.max(1)) else {
            return not_yet();
        };
        match self.term(image.index) {
            Ok(term) => Ok(image.into_snapshot(term)),
            // Also where another thread has compacted the log since the image was made.
            Err(raft::Error::Store(StorageError::Compacted)) => not_yet(),
            Err(error) => Err(error),
        }
    }
}

impl CasklogStorage {
    /// The entry before the first one, and the last index.
    fn bounds(&self) -> (Compacted, u64) {
        let inner = self.inner.read();
        (inner.state.compacted, self.end())
    }

    /// The term of an entry that is in the log.
    pub(crate) fn stored_term(&self, index: u64) -> Result<u64> {
        let stored = self.store.get(index)?.ok_or_else(|| missing(index))?;
        entry::term(stored.as_ref())
    }

    /// Entries from `low` on and below `high`, as many as have `bytes_max` bytes, and at least one.
    fn read_entries(&self, low: u64, high: u64, bytes_max: u64) -> Result<Vec<Entry>> {
        let (mut entries, mut bytes) = (Vec::new(), 0);
        let mut stored = self.store.range(low..high);
        for index in low..high {
            let stored = stored.next_ref().ok_or_else(|| missing(index))??;
            if stored.index() != index {
                return Err(missing(index));
            }
            bytes += stored.bytes()?.len() as u64;
            if bytes > bytes_max && !entries.is_empty() {
                break;
            }
            entries.push(entry::decode(stored)?);
        }
        Ok(entries)
    }

    /// What another thread has compacted while it was being read is compacted, whatever the read has met.
    fn unless_compacted(&self, index: u64, error: Error) -> Error {
        let first = self.bounds().0.index + 1;
        if index < first { Error::Compacted { index, first } } else { error }
    }
}

fn check(index: u64, first: u64, last: u64) -> Result<()> {
    match index {
        index if index < first => Err(Error::Compacted { index, first }),
        index if index > last => Err(Error::Unavailable { index, last }),
        _ => Ok(()),
    }
}

fn missing(index: u64) -> Error {
    Error::Lost { reason: format!("there is no entry {index}") }
}
