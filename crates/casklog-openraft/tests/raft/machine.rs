//! A state machine that becomes durable on its own beside the log: whatever a power cut leaves of the two, Raft can be
//! started from.

use std::sync::Arc;

use casklog::Options;
use casklog::fs::sim::{Personality, SimFs};

use crate::lines::{Id, Line, State, Step, Store9, Store10, entries};

/// What happens on a node.
enum Event {
    Log(Step),
    /// The state machine has applied entries up to this one, or got a snapshot that covers it, and is durable.
    Machine(Id),
}

use Event::{Log, Machine};

/// Everything is done inside the calls, so that each run is the same.
fn options(fs: &SimFs) -> Options {
    Options::new("/raft").fs(Arc::new(fs.clone())).background(false).segment_entries(8).segment_bytes(64 << 10)
}

/// What openraft asks of the two when it starts: the log does not end with an entry older than the last applied one unless
/// it ends at a lower index, then it is purged; it has no other entry in that place; nothing is purged that was not applied.
fn can_start(log: &State, applied: Option<Id>) -> bool {
    let Some(applied) = applied else { return log.purged.is_none() };
    let is_behind = log.last.is_none_or(|(_, last)| last < applied.1);
    let same = log.entries.iter().all(|(term, index, _)| *index != applied.1 || *term == applied.0);
    (log.last >= Some(applied) || is_behind) && same && log.purged <= Some(applied)
}

/// Lives through the events and cuts the power before each operation.
fn cut<L: Line>(events: &[Event]) {
    for personality in [Personality::Posix, Personality::Ext4, Personality::Xfs] {
        let fs = SimFs::new();
        fs.set_personality(personality);
        let log = L::open(options(&fs)).expect("a new log");
        // With the operation of the log before which each became durable.
        let mut machines: Vec<(usize, Option<Id>)> = vec![(0, None)];
        for event in events {
            match event {
                Log(step) => step.take(&log).unwrap_or_else(|error| panic!("{step:?}: {error}")),
                Machine(applied) => machines.push((fs.ops(), Some(*applied))),
            }
        }
        for op in 0..=fs.ops() {
            let applied = machines.iter().rev().find(|(from, _)| *from <= op).expect("there is the first").1;
            for found in fs.crash_images(op, 12, op as u64) {
                start_from::<L>(&found, applied);
            }
        }
        start_from::<L>(&fs.killed(), machines[machines.len() - 1].1);
    }
}

/// Starts as openraft does, and appends.
fn start_from<L: Line>(fs: &SimFs, applied: Option<Id>) {
    let log = L::open(options(fs)).unwrap_or_else(|error| panic!("{}: {error}", fs.origin()));
    let state = log.look().expect("it can be read");
    assert!(can_start(&state, applied), "{}: applied up to {applied:?}, and the log is {state:?}", fs.origin());
    if let Some(applied) = applied.filter(|applied| state.last < Some(*applied)) {
        log.purge_upto(applied).expect("purged");
    }
    let next = log.look().expect("it can be read").next();
    log.append_all(&entries(9, next..next + 2)).unwrap_or_else(|error| panic!("{}: {error}", fs.origin()));
}

/// A node has entries of an older leader in the places that a snapshot of the new one covers: they are truncated, the
/// snapshot becomes durable, and the log is purged. A power cut that took the truncation back left entries of the older
/// leader in the place of what is in the state machine.
fn snapshot_over_a_conflict<L: Line>() {
    cut::<L>(&[
        Log(Step::Vote(2)),
        Log(Step::Append(entries(2, 0..15))),
        Machine((2, 4)),
        Log(Step::Vote(3)),
        Log(Step::Truncate((2, 5))),
        Machine((3, 10)),
        Log(Step::Purge((3, 10))),
        Log(Step::Committed(Some((3, 10)))),
        Log(Step::Append(entries(3, 11..14))),
    ]);
}

/// Entries that are committed are applied while the disk of this node still writes them.
fn applied_before_the_append_is_durable<L: Line>() {
    cut::<L>(&[
        Log(Step::Vote(2)),
        Log(Step::Append(entries(2, 0..10))),
        Machine((2, 4)),
        Log(Step::Vote(3)),
        Log(Step::Truncate((2, 5))),
        Machine((3, 7)),
        Log(Step::Append(entries(3, 5..8))),
    ]);
}

/// openraft 0.9 purges as soon as the state machine was given the snapshot: what comes next in the log comes when the
/// snapshot is durable, but the power may go before.
fn snapshot_still_being_written<L: Line>() {
    cut::<L>(&[
        Log(Step::Vote(2)),
        Log(Step::Append(entries(2, 0..5))),
        Machine((2, 4)),
        Log(Step::Purge((3, 10))),
        Machine((3, 10)),
        Log(Step::Append(entries(3, 11..14))),
        Log(Step::Purge((3, 12))),
    ]);
}

#[test]
fn a_snapshot_over_a_conflict_can_be_started_from_0_9() {
    snapshot_over_a_conflict::<Store9>();
}

#[test]
fn a_snapshot_over_a_conflict_can_be_started_from_0_10() {
    snapshot_over_a_conflict::<Store10>();
}

#[test]
fn what_is_applied_before_the_append_is_durable_can_be_started_from_0_9() {
    applied_before_the_append_is_durable::<Store9>();
}

#[test]
fn what_is_applied_before_the_append_is_durable_can_be_started_from_0_10() {
    applied_before_the_append_is_durable::<Store10>();
}

#[test]
fn a_log_is_not_purged_on_the_disk_before_the_snapshot_is_there_0_9() {
    snapshot_still_being_written::<Store9>();
}

#[test]
fn a_log_is_not_purged_on_the_disk_before_the_snapshot_is_there_0_10() {
    snapshot_still_being_written::<Store10>();
}
