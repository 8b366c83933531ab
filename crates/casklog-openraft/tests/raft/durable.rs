//! With threads and on their own time: what was answered or called back is there when the power goes right then.

use std::sync::Arc;

use casklog::Options;
use casklog::fs::sim::{Fate, SimFs};
use openraft_0_10::storage::{IOFlushed, RaftLogStorage as _};
use openraft_0_10::type_config::TypeConfigExt;
use openraft_memstore::TypeConfig;

use crate::lines::{Line, Store9, Store10, entries, entry10, wait};

fn options(fs: &SimFs) -> Options {
    Options::new("/raft").fs(Arc::new(fs.clone())).segment_entries(16)
}

/// What is found after a power cut that loses all it can.
fn lost<L: Line>(fs: &SimFs) -> L {
    let found = fs.crash_at(fs.ops(), &mut |_| Fate::Lost);
    L::open(options(&found).background(false)).expect("it opens")
}

fn votes_and_entries<L: Line>() {
    let fs = SimFs::new();
    let log = L::open(options(&fs)).expect("a new log");
    for term in 1..=20 {
        log.append_all(&entries(term, term..term + 1)).expect("appended");
        assert_eq!(lost::<L>(&fs).look().expect("it can be read").last, Some((term, term)));
        log.vote(term).expect("saved");
        assert_eq!(lost::<L>(&fs).look().expect("it can be read").vote, Some(term));
    }
}

#[test]
fn votes_and_entries_are_durable_when_they_are_answered_0_9() {
    votes_and_entries::<Store9>();
}

#[test]
fn votes_and_entries_are_durable_when_they_are_answered_0_10() {
    votes_and_entries::<Store10>();
}

#[test]
fn appends_are_pipelined_0_10() {
    let fs = SimFs::new();
    fs.set_sync_delay(std::time::Duration::from_millis(3));
    let mut log = <Store10 as Line>::open(options(&fs)).expect("a new log");
    let mut calls = Vec::new();
    for index in 0..100 {
        let (sender, receiver) = TypeConfig::oneshot();
        let entry = entry10(&entries(1, index..index + 1)[0]);
        wait(log.append([entry], IOFlushed::signal(sender))).expect("appended");
        calls.push(receiver);
    }
    assert_eq!(log.read(0, 1000).expect("read").len(), 100, "readable before they are flushed");
    for (index, call) in (0..).zip(calls) {
        wait(call).expect("called").expect("durable");
        let last = lost::<Store10>(&fs).look().expect("it can be read").last;
        assert!(last >= Some((1, index)), "{index} was called back, {last:?} is there");
    }
    let syncs = log.reader().stats().syncs;
    assert!(syncs < 60, "{syncs} syncs for 100 appends that came together");
}
