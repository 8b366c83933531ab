//! Disks to test on, and short words for what raft-rs has long ones for.

use std::sync::Arc;

use casklog::Options;
use casklog::fs::sim::SimFs;
use casklog_raft_rs::CasklogStorage;
use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use tempfile::TempDir;

/// Where a test runs.
pub(crate) enum Disk {
    Real(TempDir),
    Simulated(SimFs),
}

impl Disk {
    pub(crate) fn options(&self) -> Options {
        match self {
            Disk::Real(dir) => Options::new(dir.path()),
            Disk::Simulated(fs) => options(fs),
        }
    }

    pub(crate) fn open(&self) -> CasklogStorage {
        CasklogStorage::open_with(self.options()).unwrap()
    }

    /// What the next process finds.
    pub(crate) fn reopen(&self, storage: CasklogStorage) -> CasklogStorage {
        storage.close().unwrap();
        self.open()
    }
}

/// Runs a test on a new disk of each kind.
pub(crate) fn on_each_disk(test: impl Fn(&Disk)) {
    test(&Disk::Real(tempfile::tempdir().unwrap()));
    test(&Disk::Simulated(SimFs::new()));
}

/// Everything happens inside the calls, so that each run is the same; segments are small, so that they rotate.
pub(crate) fn options(fs: &SimFs) -> Options {
    Options::new("/raft").fs(Arc::new(fs.clone())).background(false).segment_bytes(2_048)
}

pub(crate) fn entry(index: u64, term: u64) -> Entry {
    Entry { index, term, ..Default::default() }
}

/// Entries with consecutive indexes and these terms.
pub(crate) fn entries(first: u64, terms: &[u64]) -> Vec<Entry> {
    (first..).zip(terms).map(|(index, term)| entry(index, *term)).collect()
}

pub(crate) fn hard_state(term: u64, vote: u64, commit: u64) -> HardState {
    HardState { term, vote, commit, ..Default::default() }
}

pub(crate) fn voters(ids: &[u64]) -> ConfState {
    ConfState { voters: ids.to_vec(), ..Default::default() }
}

pub(crate) fn snapshot(index: u64, term: u64, ids: &[u64]) -> Snapshot {
    let mut snapshot = Snapshot::default();
    let metadata = snapshot.mut_metadata();
    (metadata.index, metadata.term) = (index, term);
    *metadata.mut_conf_state() = voters(ids);
    snapshot
}
