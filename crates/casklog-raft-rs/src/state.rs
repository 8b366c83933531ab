//! What is kept beside the entries, as metadata of the log.

use casklog::{Batch, Store};
use protobuf::Message;
use raft::eraftpb::{ConfState, HardState, SnapshotMetadata};

use crate::error::{Error, Result};

/// One byte, [`FORMAT`]: this is the log of a Raft node. The first record of all.
const FORMAT_KEY: &str = "raft.format";
const HARD_STATE_KEY: &str = "raft.hard_state";
const CONF_STATE_KEY: &str = "raft.conf_state";
/// A [`SnapshotMetadata`] with index and term only.
const COMPACTED_KEY: &str = "raft.compacted";

const FORMAT: u8 = 1;

/// All but the entries. It is written in the batch of the entries that it speaks of, and so never ahead of them.
///
/// `compacted.index <= hard_state.commit <= last index`, or raft-rs could not be started from it; the floor of the log is
/// `compacted.index + 1`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct State {
    pub(crate) hard_state: HardState,
    pub(crate) conf_state: ConfState,
    pub(crate) compacted: Compacted,
}

/// The entry before the first one: of it only this is left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Compacted {
    pub(crate) index: u64,
    pub(crate) term: u64,
}

impl State {
    pub(crate) fn first_index(&self) -> u64 {
        self.compacted.index + 1
    }

    /// What the log says; a log that was never written to is marked as that of a Raft node.
    pub(crate) fn load(store: &Store) -> Result<Self> {
        let meta = store.all_meta();
        match meta.get(FORMAT_KEY.as_bytes()).map(Vec::as_slice) {
            Some([FORMAT]) => {}
            Some(&[found]) => return Err(Error::Unsupported { found, known: FORMAT }),
            // Another storage may mark its logs under the same key.
            Some(_) => return Err(Error::NotARaftLog),
            None if meta.is_empty() && store.next_index() == Some(1) => store.put_meta(FORMAT_KEY, [FORMAT])?,
            None => return Err(Error::NotARaftLog),
        }
        let bytes = |key: &str| meta.get(key.as_bytes()).map_or(&[][..], Vec::as_slice);
        let compacted: SnapshotMetadata = decode(COMPACTED_KEY, bytes(COMPACTED_KEY))?;
        let state = State {
            hard_state: decode(HARD_STATE_KEY, bytes(HARD_STATE_KEY))?,
            conf_state: decode(CONF_STATE_KEY, bytes(CONF_STATE_KEY))?,
            compacted: Compacted { index: compacted.index, term: compacted.term },
        };
        state.check(store)?;
        Ok(state)
    }

    /// Entries and metadata belong to each other, and no entry is missing.
    fn check(&self, store: &Store) -> Result<()> {
        let (first, last, commit) = (self.first_index(), last_index(store), self.hard_state.commit);
        let lost = |reason| Err(Error::Lost { reason });
        if store.first_index().is_some_and(|found| found != first) || last + 1 < first {
            return lost(format!("the entries do not begin with index {first}"));
        }
        if store.len() != last + 1 - first {
            return lost(format!("of the entries {first} to {last} there are {}", store.len()));
        }
        if commit < self.compacted.index || commit > last {
            return lost(format!("index {commit} is committed, and the entries are {first} to {last}"));
        }
        Ok(())
    }

    /// Puts what differs from `before` into `batch`.
    pub(crate) fn put_changes(&self, before: &State, batch: &mut Batch) -> Result<()> {
        if self.hard_state != before.hard_state {
            batch.put_meta(HARD_STATE_KEY, encode(HARD_STATE_KEY, &self.hard_state)?);
        }
        if self.conf_state != before.conf_state {
            batch.put_meta(CONF_STATE_KEY, encode(CONF_STATE_KEY, &self.conf_state)?);
        }
        if self.compacted != before.compacted {
            let Compacted { index, term } = self.compacted;
            let compacted = SnapshotMetadata { index, term, ..Default::default() };
            batch.put_meta(COMPACTED_KEY, encode(COMPACTED_KEY, &compacted)?);
        }
        Ok(())
    }
}

/// The last index of the log, or the one before the first where it is empty.
pub(crate) fn last_index(store: &Store) -> u64 {
    store.next_index().map_or(u64::MAX, |next| next.saturating_sub(1))
}

fn encode(key: &str, message: &impl Message) -> Result<Vec<u8>> {
    message.write_to_bytes().map_err(|error| Error::malformed(key, error))
}

fn decode<M: Message + Default>(key: &str, bytes: &[u8]) -> Result<M> {
    let mut message = M::default();
    message.merge_from_bytes(bytes).map_err(|error| Error::malformed(key, error))?;
    Ok(message)
}
