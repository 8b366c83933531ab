//! What the cluster agrees on: the commands in the log, and the types that openraft is told.

use std::io::Cursor;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub(crate) type NodeId = u64;
/// A member of the cluster: the address of its HTTP server.
pub(crate) type Member = openraft::BasicNode;

/// The log and the vote.
pub(crate) type LogStore = casklog_openraft::v0_9::CasklogStorage<TypeConfig>;
pub(crate) type Raft = openraft::Raft<TypeConfig>;
pub(crate) type Entry = openraft::Entry<TypeConfig>;
pub(crate) type LogId = openraft::LogId<NodeId>;
pub(crate) type Membership = openraft::StoredMembership<NodeId, Member>;
pub(crate) type Snapshot = openraft::Snapshot<TypeConfig>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<NodeId, Member>;
pub(crate) type StorageError = openraft::StorageError<NodeId>;
pub(crate) type StorageIOError = openraft::StorageIOError<NodeId>;

openraft::declare_raft_types!(
    /// An entry holds the commands of one or more clients, and applying it has an outcome for each of them.
    ///
    /// A snapshot travels as the bytes of its file: the state is in memory anyway, and so is one copy of it.
    pub(crate) TypeConfig:
        D = Vec<Command>,
        R = Vec<Outcome>,
        NodeId = NodeId,
        Node = Member,
        SnapshotData = Cursor<Vec<u8>>,
);

/// One change of the map. Applying it twice in a row leaves what applying it once does, so a client that does not
/// know whether it was done may send it again, unless another client has changed the key in between.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Command {
    Put { key: String, value: Bytes },
    Delete { key: String },
}

impl Command {
    /// About as many bytes as it takes in the log.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Command::Put { key, value } => key.len() + value.len(),
            Command::Delete { key } => key.len(),
        }
    }
}

/// What applying a command came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// The key was there before.
    pub(crate) existed: bool,
}
