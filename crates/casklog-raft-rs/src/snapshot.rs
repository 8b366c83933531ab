//! Snapshots: the application has the data, the storage knows the term.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use raft::eraftpb::{ConfState, Snapshot};

use crate::error::{Error, Result};

/// What a leader asks of the application when a follower needs entries that are compacted.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct SnapshotRequest<'a> {
    /// The least index that the image must cover; 0 for any.
    pub at_least: u64,
    /// The id of the follower.
    pub to: u64,
    /// The configuration that was [stored](crate::CasklogStorage::set_conf_state) last: that of the state machine as it is
    /// now, where it is stored with each change.
    pub conf_state: &'a ConfState,
}

/// The state machine at one index.
#[derive(Debug, Clone, Default)]
pub struct Image {
    /// The last entry that was applied to it.
    pub index: u64,
    /// The configuration behind that entry.
    pub conf_state: ConfState,
    /// What the follower builds its state machine from.
    pub data: Vec<u8>,
}

type Make = dyn Fn(SnapshotRequest<'_>) -> Result<Option<Image>, Box<dyn StdError + Send + Sync>> + Send + Sync;

/// Who makes images.
#[derive(Clone, Default)]
pub(crate) struct Snapshots(Option<Arc<Make>>);

impl Snapshots {
    pub(crate) fn new<F>(make: F) -> Self
    where
        F: Fn(SnapshotRequest<'_>) -> Result<Option<Image>, Box<dyn StdError + Send + Sync>> + Send + Sync + 'static,
    {
        Snapshots(Some(Arc::new(make)))
    }

    pub(crate) fn make(&self, request: SnapshotRequest<'_>) -> Result<Option<Image>> {
        let make = self.0.as_ref().ok_or(Error::NoSnapshots)?;
        make(request).map_err(Error::Snapshot)
    }
}

impl fmt::Debug for Snapshots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Snapshots(..)" } else { "Snapshots(none)" })
    }
}

impl Image {
    /// What raft-rs sends.
    pub(crate) fn into_snapshot(self, term: u64) -> Snapshot {
        let mut snapshot = Snapshot { data: self.data.into(), ..Default::default() };
        let metadata = snapshot.mut_metadata();
        (metadata.index, metadata.term) = (self.index, term);
        *metadata.mut_conf_state() = self.conf_state;
        snapshot
    }
}
