//! A naive storage that cannot be wrong, and what a real one shows in the same form.

use casklog_raft_rs::CasklogStorage;
use raft::eraftpb::{ConfState, Entry, HardState, SnapshotMetadata};
use raft::{GetEntriesContext, Ready, Storage};

/// All that a storage shows.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Model {
    pub(crate) compacted: (u64, u64),
    pub(crate) entries: Vec<Entry>,
    pub(crate) hard_state: HardState,
    pub(crate) conf_state: ConfState,
}

impl Model {
    pub(crate) fn append(&mut self, entries: &[Entry]) {
        if let Some(first) = entries.first() {
            self.entries.retain(|entry| entry.index < first.index);
            self.entries.extend_from_slice(entries);
        }
    }

    pub(crate) fn install(&mut self, snapshot: &SnapshotMetadata) {
        self.entries.clear();
        self.compacted = (snapshot.index, snapshot.term);
        self.hard_state.term = self.hard_state.term.max(snapshot.term);
        self.hard_state.commit = snapshot.index;
        self.conf_state = snapshot.get_conf_state().clone();
    }

    pub(crate) fn compact(&mut self, index: u64) {
        let gone = self.entries.iter().rfind(|entry| entry.index < index);
        self.compacted = gone.map_or(self.compacted, |entry| (entry.index, entry.term));
        self.entries.retain(|entry| entry.index >= index);
        self.hard_state.commit = self.hard_state.commit.max(self.compacted.0);
    }

    pub(crate) fn persist(&mut self, ready: &Ready) {
        if !ready.snapshot().is_empty() {
            self.install(ready.snapshot().get_metadata());
        }
        self.append(ready.entries());
        self.hard_state = ready.hs().unwrap_or(&self.hard_state).clone();
    }
}

/// Reads everything, in every way.
pub(crate) fn look(storage: &CasklogStorage) -> Model {
    let (first, last) = (storage.first_index().unwrap(), storage.last_index().unwrap());
    let entries = storage.entries(first, last + 1, None, GetEntriesContext::empty(false)).unwrap();
    assert!(entries.iter().map(|entry| entry.index).eq(first..=last), "{first} to {last}: {entries:?}");
    for entry in &entries {
        assert_eq!(storage.term(entry.index).unwrap(), entry.term, "term of {}", entry.index);
    }
    let state = storage.initial_state().unwrap();
    // Or raft-rs would panic when it is started.
    assert!((first - 1..=last).contains(&state.hard_state.commit), "{first} to {last}: {:?}", state.hard_state);
    Model {
        compacted: (first - 1, storage.term(first - 1).unwrap()),
        entries,
        hard_state: state.hard_state,
        conf_state: state.conf_state,
    }
}
