//! One member of the cluster: its state machine, and openraft with its log in casklog.
//!
//! ```text
//! DIR/log/        casklog: log entries, vote, committed
//! DIR/snapshots/  the newest snapshot of the state
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;

use openraft::storage::RaftLogStorage as _;
use openraft::{Config, LogIdOptionExt as _, SnapshotPolicy};

use crate::network::Network;
use crate::proposer::Proposer;
use crate::snapshot::{self, Snapshots};
use crate::state_machine::StateMachine;
use crate::types::{LogStore, NodeId, Raft, StorageError};

/// How long elections and snapshots take.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Timing {
    /// The leader says so often that it is there, in milliseconds. Without word from it for six times as long, and three
    /// to six more, a node stands for election
    #[arg(long, value_name = "MS", default_value_t = 100, value_parser = clap::value_parser!(u64).range(10..=60_000))]
    heartbeat_ms: u64,
    /// Take a snapshot after so many entries, and keep a quarter as many in the log behind it for nodes that lag
    #[arg(long, value_name = "ENTRIES", default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..))]
    snapshot_every: u64,
}

/// A running member; a handle.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) address: String,
    pub(crate) raft: Raft,
    pub(crate) proposer: Proposer,
    pub(crate) state_machine: StateMachine,
    log: LogStore,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Snapshot(#[from] snapshot::Error),
    #[error("cannot open the log in {}", dir.display())]
    Log { dir: PathBuf, source: casklog_openraft::Error },
    #[error("cannot read the log")]
    Storage(#[from] StorageError),
    #[error("the settings do not fit together")]
    Config(#[from] openraft::ConfigError),
    #[error(
        "the first {purged} entries were purged from the log, and the newest snapshot in {} that can be read covers only \
         {covered}; restore the snapshot from a copy, or take this node out of the cluster (`/admin/change-membership`), \
         and add it as a new one with another --id and an empty directory (`/admin/add-learner`)", dir.display()
    )]
    StateBehindLog { purged: u64, covered: u64, dir: PathBuf },
    #[error("Raft did not stop in good order")]
    Stop(#[source] tokio::task::JoinError),
    #[error("the log did not close in good order")]
    Close(#[source] casklog_openraft::Error),
    #[error("Raft cannot start")]
    Raft(#[from] openraft::error::Fatal<NodeId>),
}

impl Node {
    /// Starts the member that lives in a directory, or a new one.
    ///
    /// # Errors
    ///
    /// [`Error`] where log or snapshots cannot be opened, or do not fit together.
    pub(crate) async fn start(id: NodeId, address: String, dir: &Path, timing: Timing) -> Result<Node, Error> {
        // First: it locks, and makes directories so that they outlive a power cut.
        let log_dir = dir.join("log");
        let mut log = LogStore::open(&log_dir).map_err(|source| Error::Log { dir: log_dir, source })?;
        let snapshots_dir = dir.join("snapshots");
        let (snapshots, state) = Snapshots::open(&snapshots_dir)?;
        let state = state.unwrap_or_default();
        // A purge gets to the disk with what is written to the log next, and that is when the snapshot is durable. So only
        // a snapshot that was lost later leaves entries that are in neither.
        let purged = log.get_log_state().await?.last_purged_log_id.next_index();
        if state.covered() < purged {
            return Err(Error::StateBehindLog { purged, covered: state.covered(), dir: snapshots_dir });
        }
        let state_machine = StateMachine::new(snapshots, state);
        let config = Arc::new(timing.config().validate()?);
        let raft = Raft::new(id, config, Network::new(), log.clone(), state_machine.clone()).await?;
        let proposer = Proposer::start(raft.clone());
        Ok(Node { id, address, raft, proposer, state_machine, log })
    }

    /// Stops Raft and closes the log, so that it can be opened again at once.
    ///
    /// # Errors
    ///
    /// [`Error::Close`] where the last bytes did not get to the disk; none that was acknowledged is among them.
    pub(crate) async fn stop(&self) -> Result<(), Error> {
        self.raft.shutdown().await.map_err(Error::Stop)?;
        self.log.close().map_err(Error::Close)
    }

    /// Returns when Raft has met an error that it cannot go on after: the node has to be started anew.
    pub(crate) async fn failed(&self) -> openraft::error::Fatal<NodeId> {
        let mut metrics = self.raft.metrics();
        loop {
            if let Err(fatal) = &metrics.borrow_and_update().running_state {
                return fatal.clone();
            }
            if metrics.changed().await.is_err() {
                return openraft::error::Fatal::Stopped;
            }
        }
    }
}

impl Timing {
    fn config(self) -> Config {
        Config {
            cluster_name: "raft-kv".to_owned(),
            heartbeat_interval: self.heartbeat_ms,
            election_timeout_min: self.heartbeat_ms * 3,
            election_timeout_max: self.heartbeat_ms * 6,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.snapshot_every),
            max_in_snapshot_log_to_keep: self.snapshot_every / 4,
            // Above the interval of snapshots: else the snapshot sent may lag by itself.
            replication_lag_threshold: self.snapshot_every * 2,
            snapshot_max_chunk_size: 1 << 20,
            install_snapshot_timeout: 10_000,
            ..Config::default()
        }
    }
}
