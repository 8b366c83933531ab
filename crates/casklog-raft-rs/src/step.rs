//! One change of the storage: what it was, what it will be, and the batch between the two. Touches no file.

use casklog::Batch;
use raft::eraftpb::{Entry, SnapshotMetadata};

use crate::entry;
use crate::error::{Error, Result};
use crate::state::{Compacted, State};

/// A change that is being put together. Whatever it holds is one batch: a crash leaves all of it or nothing.
#[derive(Debug)]
pub(crate) struct Step<'a> {
    before: &'a State,
    pub(crate) state: State,
    last_index: u64,
    batch: Batch,
}

impl<'a> Step<'a> {
    /// Begins where the storage stands.
    pub(crate) fn new(before: &'a State, last_index: u64) -> Self {
        Step { before, state: before.clone(), last_index, batch: Batch::new() }
    }

    pub(crate) fn last_index(&self) -> u64 {
        self.last_index
    }

    /// A snapshot takes the place of all entries.
    pub(crate) fn install(&mut self, snapshot: &SnapshotMetadata) -> Result<()> {
        let (index, first) = (snapshot.index, self.state.first_index());
        if index < first {
            return Err(Error::SnapshotOutOfDate { index, first });
        }
        self.batch.reset_to(index + 1);
        self.last_index = index;
        self.state.compacted = Compacted { index, term: snapshot.term };
        self.state.hard_state.term = self.state.hard_state.term.max(snapshot.term);
        self.state.hard_state.commit = index;
        self.state.conf_state = snapshot.get_conf_state().clone();
        Ok(())
    }

    /// Entries take the place of those with their indexes and of all above.
    pub(crate) fn append(&mut self, entries: &[Entry]) -> Result<()> {
        let Some(start) = entries.first().map(|entry| entry.index) else {
            return Ok(());
        };
        let first = self.state.first_index();
        if start < first {
            return Err(Error::Compacted { index: start, first });
        }
        if start > self.last_index + 1 {
            return Err(Error::Gap { index: start, expected: self.last_index + 1 });
        }
        if start <= self.last_index {
            self.batch.truncate_after(start - 1);
        }
        for (entry, expected) in entries.iter().zip(start..) {
            if entry.index != expected {
                return Err(Error::Gap { index: entry.index, expected });
            }
            entry::put(&mut self.batch, entry)?;
            self.last_index = entry.index;
        }
        Ok(())
    }

    /// The entries up to `compacted` go.
    pub(crate) fn compact(&mut self, compacted: Compacted) {
        self.batch.truncate_before(compacted.index + 1);
        self.state.compacted = compacted;
    }

    /// Raises the commit index.
    pub(crate) fn commit_to(&mut self, index: u64) {
        let commit = &mut self.state.hard_state.commit;
        *commit = index.max(*commit);
    }

    /// The state behind the change, and the batch that leads to it.
    ///
    /// # Errors
    /// [`Error::CommitAhead`].
    pub(crate) fn finish(mut self) -> Result<(State, Batch)> {
        // What is compacted was applied, and so was committed, though a commit index alone need not be durable.
        self.commit_to(self.state.compacted.index);
        let (commit, last) = (self.state.hard_state.commit, self.last_index);
        if commit > last {
            return Err(Error::CommitAhead { commit, last });
        }
        self.state.put_changes(self.before, &mut self.batch)?;
        Ok((self.state, self.batch))
    }
}
