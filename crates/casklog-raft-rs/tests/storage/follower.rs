//! A node of raft-rs that follows two leaders which disagree: its readies hold all that a ready can hold.

use casklog_raft_rs::{CasklogStorage, Result};
use raft::eraftpb::{Entry, Message, MessageType};
use raft::{Config, RawNode, Ready};

use crate::common::{entry, snapshot, voters};
use crate::model::Model;

/// What happens to the node.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    Receives(Box<Message>),
    Compacts(u64),
    CommitsTo(u64),
    /// A configuration was applied.
    Configures(&'static [u64]),
}

fn message(kind: MessageType, from: u64, term: u64) -> Message {
    let mut message = Message { from, to: 1, term, ..Default::default() };
    message.set_msg_type(kind);
    message
}

/// A message of leader `from` with the entries behind `previous`.
fn append(from: u64, term: u64, previous: (u64, u64), count: u64, commit: u64) -> Act {
    let mut message = message(MessageType::MsgAppend, from, term);
    (message.index, message.log_term, message.commit) = (previous.0, previous.1, commit);
    let fill = |index: u64| Entry { data: vec![index as u8; 150].into(), ..entry(index, term) };
    message.entries = (previous.0 + 1..=previous.0 + count).map(fill).collect::<Vec<_>>().into();
    Act::Receives(Box::new(message))
}

pub(crate) fn acts() -> Vec<Act> {
    let mut heartbeat = message(MessageType::MsgHeartbeat, 3, 2);
    heartbeat.commit = 6;
    let mut asks = message(MessageType::MsgRequestVote, 2, 4);
    (asks.index, asks.log_term) = (9, 2);
    let mut sends = message(MessageType::MsgSnapshot, 2, 4);
    *sends.mut_snapshot() = snapshot(20, 4, &[1, 2, 3]);
    vec![
        append(2, 1, (0, 0), 3, 1),
        append(2, 1, (3, 1), 4, 3),
        Act::Configures(&[1, 2, 3, 4]),
        // A new leader has other entries from 5 on.
        append(3, 2, (4, 1), 3, 4),
        // Nothing but the commit index.
        Act::Receives(Box::new(heartbeat)),
        Act::Compacts(5),
        // Nothing but a vote.
        Act::Receives(Box::new(asks)),
        append(2, 4, (7, 2), 5, 7),
        Act::CommitsTo(9),
        Act::Compacts(9),
        append(2, 4, (12, 4), 3, 9),
        Act::Receives(Box::new(sends)),
        append(2, 4, (20, 4), 3, 21),
        append(2, 4, (23, 4), 3, 23),
    ]
}

/// How a ready is made durable.
pub(crate) type Persist<'a> = &'a mut dyn FnMut(&CasklogStorage, Ready, &Model) -> Result<Ready>;

/// Does what is to be done; `note` is told before each call of the storage what it leads to, and after it whether what it
/// did is durable.
pub(crate) fn run(
    storage: &CasklogStorage,
    persist: Persist<'_>,
    note: &mut dyn FnMut(Note, &Model),
) -> Result<(), casklog_raft_rs::Error> {
    let mut model = Model { conf_state: voters(&[1, 2, 3]), ..Model::default() };
    note(Note::Begins, &model);
    storage.set_conf_state(&model.conf_state)?;
    note(Note::Durable, &model);
    let logger = slog::Logger::root(slog::Discard, slog::o!());
    let mut node = RawNode::new(&Config::new(1), storage.clone(), &logger).unwrap();
    for act in acts() {
        match act {
            Act::Receives(message) => {
                node.step(*message).unwrap();
                let ready = node.ready();
                model.persist(&ready);
                note(Note::Begins, &model);
                let must_sync = ready.must_sync();
                let ready = persist(storage, ready, &model)?;
                note(if must_sync { Note::Durable } else { Note::Written }, &model);
                node.advance_append_async(ready);
                node.on_persist_ready(u64::MAX);
                node.advance_apply();
            }
            Act::Compacts(index) => {
                model.compact(index);
                note(Note::Begins, &model);
                storage.compact(index)?;
                note(Note::Written, &model);
            }
            Act::CommitsTo(index) => {
                model.hard_state.commit = index;
                note(Note::Begins, &model);
                storage.commit_to(index)?;
                note(Note::Written, &model);
            }
            Act::Configures(ids) => {
                model.conf_state = voters(ids);
                note(Note::Begins, &model);
                storage.set_conf_state(&model.conf_state)?;
                note(Note::Durable, &model);
            }
        }
    }
    Ok(())
}

/// Where a call of the storage stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Note {
    Begins,
    /// It returned, and a kill takes nothing back.
    Written,
    /// It returned, and a power cut takes nothing back.
    Durable,
}

/// Waits for each ready.
pub(crate) fn persist(storage: &CasklogStorage, ready: Ready, _: &Model) -> Result<Ready> {
    storage.persist(&ready).map(|()| ready)
}
