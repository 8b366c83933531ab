//! A state machine in memory for openraft 0.9: a list of words, which a snapshot holds with the ids beside them.

use std::io::Cursor;
use std::sync::{Arc, Mutex, MutexGuard};

use openraft_0_9::storage::RaftStateMachine;
use openraft_0_9::{
    Entry, EntryPayload, LogId, OptionalSend, RaftSnapshotBuilder, Snapshot, SnapshotMeta, StorageError,
    StorageIOError, StoredMembership,
};

openraft_0_9::declare_raft_types!(
    pub Types:
        D = String,
        R = (),
        Node = (),
);

type Result<T> = std::result::Result<T, StorageError<u64>>;

/// A handle; its snapshot builder is another.
#[derive(Debug, Clone, Default)]
pub(crate) struct Words(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    applied: Option<LogId<u64>>,
    membership: StoredMembership<u64, ()>,
    words: Vec<String>,
    snapshot: Option<(SnapshotMeta<u64, ()>, Vec<u8>)>,
    snapshots: u64,
}

impl Words {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic")
    }
}

impl RaftSnapshotBuilder<Types> for Words {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>> {
        let mut state = self.state();
        state.snapshots += 1;
        let meta = SnapshotMeta {
            last_log_id: state.applied,
            last_membership: state.membership.clone(),
            snapshot_id: state.snapshots.to_string(),
        };
        let bytes = rmp_serde::to_vec(&state.words).map_err(|e| StorageIOError::write_state_machine(&e))?;
        state.snapshot = Some((meta.clone(), bytes.clone()));
        Ok(Snapshot { meta, snapshot: Box::new(Cursor::new(bytes)) })
    }
}

impl RaftStateMachine<Types> for Words {
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId<u64>>, StoredMembership<u64, ()>)> {
        let state = self.state();
        Ok((state.applied, state.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<()>>
    where
        I: IntoIterator<Item = Entry<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut state = self.state();
        let mut answers = Vec::new();
        for entry in entries {
            state.applied = Some(entry.log_id);
            match entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Normal(word) => state.words.push(word),
                EntryPayload::Membership(membership) => {
                    state.membership = StoredMembership::new(Some(entry.log_id), membership);
                }
            }
            answers.push(());
        }
        Ok(answers)
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>> {
        Ok(Box::default())
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta<u64, ()>, snapshot: Box<Cursor<Vec<u8>>>) -> Result<()> {
        let mut state = self.state();
        let bytes = snapshot.into_inner();
        state.words =
            rmp_serde::from_slice(&bytes).map_err(|e| StorageIOError::read_snapshot(Some(meta.signature()), &e))?;
        (state.applied, state.membership) = (meta.last_log_id, meta.last_membership.clone());
        state.snapshot = Some((meta.clone(), bytes));
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>> {
        let snapshot = self.state().snapshot.clone();
        Ok(snapshot.map(|(meta, bytes)| Snapshot { meta, snapshot: Box::new(Cursor::new(bytes)) }))
    }
}
