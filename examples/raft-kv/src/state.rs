//! The replicated state: a sorted map, and how much of the log has gone into it. Touches no file.
//!
//! Every node applies the same entries in the same order, each once, so any two nodes that have applied as much hold the
//! same map. [`State::apply`] refuses an entry that is not the next one: a hole would make the nodes differ silently.

use std::collections::BTreeMap;
use std::hash::Hasher as _;

use bytes::Bytes;
use openraft::{EntryPayload, LogIdOptionExt as _};
use serde::{Deserialize, Serialize};
use siphasher::sip128::{Hasher128 as _, SipHasher13};

use crate::types::{Command, Entry, LogId, Membership, Outcome, SnapshotMeta};

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    /// The last entry that is in the map; everything before it is too.
    applied: Option<LogId>,
    /// The last membership among the applied entries.
    membership: Membership,
    map: BTreeMap<String, Bytes>,
}

#[derive(Debug, thiserror::Error)]
#[error(
    "entry {found} was to be applied where entry {expected} comes next; the log has a hole: take this node out of \
     the cluster (`/admin/change-membership`), and add it as a new one with another --id and an empty directory \
     (`/admin/add-learner`)"
)]
pub(crate) struct OutOfOrder {
    expected: u64,
    found: u64,
}

impl State {
    /// Applies the next entry of the log; returns an outcome for each command in it.
    ///
    /// # Errors
    ///
    /// [`OutOfOrder`] for any other entry; nothing is applied then.
    pub(crate) fn apply(&mut self, entry: Entry) -> Result<Vec<Outcome>, OutOfOrder> {
        let expected = self.covered();
        if entry.log_id.index != expected {
            return Err(OutOfOrder { expected, found: entry.log_id.index });
        }
        self.applied = Some(entry.log_id);
        match entry.payload {
            EntryPayload::Blank => Ok(Vec::new()),
            EntryPayload::Normal(commands) => Ok(commands.into_iter().map(|command| self.execute(command)).collect()),
            EntryPayload::Membership(membership) => {
                self.membership = Membership::new(Some(entry.log_id), membership);
                Ok(Vec::new())
            }
        }
    }

    fn execute(&mut self, command: Command) -> Outcome {
        let before = match command {
            Command::Put { key, value } => self.map.insert(key, value),
            Command::Delete { key } => self.map.remove(&key),
        };
        Outcome { existed: before.is_some() }
    }

    pub(crate) fn get(&self, key: &str) -> Option<Bytes> {
        self.map.get(key).cloned()
    }

    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    pub(crate) fn applied(&self) -> Option<LogId> {
        self.applied
    }

    pub(crate) fn membership(&self) -> &Membership {
        &self.membership
    }

    /// How many entries of the log are in the map: the index of the next one.
    pub(crate) fn covered(&self) -> u64 {
        self.applied.next_index()
    }

    /// What a snapshot of this state is called. Equal states have equal names, whichever node took the snapshot.
    pub(crate) fn snapshot_meta(&self) -> SnapshotMeta {
        let snapshot_id = match self.applied {
            Some(LogId { leader_id, index }) => format!("{}-{}-{index}", leader_id.term, leader_id.node_id),
            None => "empty".to_owned(),
        };
        SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone(), snapshot_id }
    }

    /// A hash of every key and value, the same on every node and in every version. Takes a walk over the map.
    pub(crate) fn digest(&self) -> u128 {
        let mut hasher = SipHasher13::new();
        for (key, value) in &self.map {
            // Lengths first: else `ab`, `c` and `a`, `bc` would be the same.
            hasher.write(&(key.len() as u64).to_le_bytes());
            hasher.write(key.as_bytes());
            hasher.write(&(value.len() as u64).to_le_bytes());
            hasher.write(value);
        }
        hasher.finish128().as_u128()
    }
}

#[cfg(test)]
mod tests {
    use openraft::CommittedLeaderId;

    use super::*;

    fn entry(index: u64, payload: EntryPayload<crate::types::TypeConfig>) -> Entry {
        Entry { log_id: LogId::new(CommittedLeaderId::new(1, 1), index), payload }
    }

    fn put(index: u64, key: &str, value: &'static str) -> Entry {
        entry(index, EntryPayload::Normal(vec![Command::Put { key: key.to_owned(), value: Bytes::from(value) }]))
    }

    fn existed(outcomes: Vec<Outcome>) -> Vec<bool> {
        outcomes.into_iter().map(|outcome| outcome.existed).collect()
    }

    #[test]
    fn entries_are_applied_one_after_another_and_no_other() {
        let mut state = State::default();
        state.apply(put(0, "a", "1")).unwrap();
        state.apply(put(1, "a", "2")).unwrap();
        let before = state.clone();
        for index in [0, 1, 3] {
            let error = state.apply(put(index, "b", "3")).unwrap_err();
            assert_eq!((error.expected, error.found), (2, index));
        }
        assert_eq!(state, before);
        assert_eq!(state.apply(entry(2, EntryPayload::Blank)).unwrap(), []);
        assert_eq!((state.len(), state.covered()), (1, 3));
    }

    #[test]
    fn the_commands_of_an_entry_are_executed_in_order_with_an_outcome_each() {
        let put = |value| Command::Put { key: "a".to_owned(), value: Bytes::from(value) };
        let delete = || Command::Delete { key: "a".to_owned() };
        let mut state = State::default();
        let commands = vec![put("1"), put("2"), delete(), delete(), put("3")];
        let outcomes = state.apply(entry(0, EntryPayload::Normal(commands))).unwrap();
        assert_eq!(existed(outcomes), [false, true, true, false, false]);
        assert_eq!(state.get("a"), Some(Bytes::from("3")));
    }

    #[test]
    fn the_digest_tells_states_apart_that_differ_in_one_byte_or_in_where_a_key_ends() {
        let digest = |pairs: &[(&str, &'static str)]| {
            let mut state = State::default();
            for (index, (key, value)) in (0..).zip(pairs) {
                state.apply(put(index, key, value)).unwrap();
            }
            state.digest()
        };
        let all = [
            digest(&[]),
            digest(&[("a", "bc")]),
            digest(&[("ab", "c")]),
            digest(&[("a", "bd")]),
            digest(&[("a", "bc"), ("b", "")]),
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(!all[..at].contains(one), "{all:x?}");
        }
        assert_eq!(digest(&[("x", "1"), ("y", "2")]), digest(&[("y", "0"), ("x", "1"), ("y", "2")]));
    }
}
