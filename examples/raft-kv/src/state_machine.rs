//! The state as openraft drives it: applies committed entries, takes snapshots and installs those of a leader.
//!
//! The state lives in memory. After a restart it is the newest snapshot, and then the committed entries of the log that
//! it does not cover: openraft applies them again.

use std::io::Cursor;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use openraft::storage::RaftStateMachine;
use openraft::{AnyError, RaftSnapshotBuilder};
use parking_lot::RwLock;
use serde::Serialize;

use crate::snapshot::{self, Snapshots};
use crate::state::State;
use crate::types::{Entry, LogId, Membership, Outcome, Snapshot, SnapshotMeta};
use crate::types::{StorageError, StorageIOError, TypeConfig};

/// A handle to the state: openraft writes through one, the server reads through others.
#[derive(Debug, Clone)]
pub(crate) struct StateMachine {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Never goes back: what was applied, or came with a snapshot, is applied.
    state: RwLock<State>,
    snapshots: Snapshots,
    built: AtomicU64,
    installed: AtomicU64,
}

/// What two nodes have to agree on, for `/admin/state`.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    /// The index of the last applied entry.
    applied: Option<u64>,
    keys: usize,
    /// Of all keys and values; the same on all nodes that have applied as much.
    digest: String,
    snapshot: SnapshotSummary,
}

#[derive(Debug, Serialize)]
struct SnapshotSummary {
    /// The index of the last entry in the newest snapshot.
    last: Option<u64>,
    /// Since the process started.
    built: u64,
    /// Received from a leader since the process started.
    installed: u64,
}

impl StateMachine {
    /// Begins with what the newest snapshot holds.
    pub(crate) fn new(snapshots: Snapshots, state: State) -> StateMachine {
        let shared = Shared { state: RwLock::new(state), snapshots, built: 0.into(), installed: 0.into() };
        StateMachine { shared: Arc::new(shared) }
    }

    /// The value of a key as far as this node has applied the log.
    pub(crate) fn get(&self, key: &str) -> Option<Bytes> {
        self.shared.state.read().get(key)
    }

    /// Walks over the whole state, and stops entries from being applied meanwhile.
    pub(crate) fn summary(&self) -> Summary {
        let state = self.shared.state.read();
        let snapshot = SnapshotSummary {
            last: self.shared.snapshots.covered().and_then(|covered| covered.checked_sub(1)),
            built: self.shared.built.load(Ordering::Relaxed),
            installed: self.shared.installed.load(Ordering::Relaxed),
        };
        let digest = format!("{:032x}", state.digest());
        Summary { applied: state.applied().map(|last| last.index), keys: state.len(), digest, snapshot }
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, Membership), StorageError> {
        let state = self.shared.state.read();
        Ok((state.applied(), state.membership().clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Vec<Outcome>>, StorageError>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let mut state = self.shared.state.write();
        let mut outcomes = Vec::new();
        for entry in entries {
            let log_id = entry.log_id;
            outcomes.push(state.apply(entry).map_err(|error| StorageIOError::apply(log_id, AnyError::new(&error)))?);
        }
        Ok(outcomes)
    }

    /// Copies the map, not the values in it; no entry is applied meanwhile.
    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder { shared: Arc::clone(&self.shared), state: Arc::new(self.shared.state.read().clone()) }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError> {
        let shared = Arc::clone(&self.shared);
        let installed = blocking(move || {
            let bytes = snapshot.into_inner();
            let state = snapshot::decode(&bytes)?;
            // Durable first: what is in memory decides how far the log is purged.
            shared.snapshots.save(state.covered(), &bytes)?;
            let mut current = shared.state.write();
            if current.covered() < state.covered() {
                *current = state;
            }
            shared.installed.fetch_add(1, Ordering::Relaxed);
            Ok(())
        });
        installed.await.map_err(|error| StorageIOError::write_snapshot(Some(meta.signature()), error).into())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, StorageError> {
        let shared = Arc::clone(&self.shared);
        let newest = blocking(move || shared.snapshots.newest()).await;
        let newest = newest.map_err(|error| StorageIOError::read_snapshot(None, error))?;
        Ok(newest.map(|(state, bytes)| snapshot_of(&state, bytes)))
    }
}

/// Makes a snapshot of the state as it was when this was made.
#[derive(Debug)]
pub(crate) struct Builder {
    shared: Arc<Shared>,
    state: Arc<State>,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    async fn build_snapshot(&mut self) -> Result<Snapshot, StorageError> {
        let shared = Arc::clone(&self.shared);
        let state = Arc::clone(&self.state);
        let built = blocking(move || {
            let bytes = snapshot::encode(&state)?;
            shared.snapshots.save(state.covered(), &bytes)?;
            shared.built.fetch_add(1, Ordering::Relaxed);
            Ok(snapshot_of(&state, bytes))
        });
        let signature = self.state.snapshot_meta().signature();
        built.await.map_err(|error| StorageIOError::write_snapshot(Some(signature), error).into())
    }
}

fn snapshot_of(state: &State, bytes: Vec<u8>) -> Snapshot {
    Snapshot { meta: state.snapshot_meta(), snapshot: Box::new(Cursor::new(bytes)) }
}

/// Runs what waits for the disk, or takes long, where it holds up no other task.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, snapshot::Error> + Send + 'static,
) -> Result<T, AnyError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|error| AnyError::new(&error)),
        Err(panicked) => Err(AnyError::new(&panicked)),
    }
}
