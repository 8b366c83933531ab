//! A purge is seen at once, and written with whatever is written next.

use std::sync::Arc;

use casklog::Options;
use casklog::fs::sim::SimFs;

use crate::lines::{Line, State, Step, Store9, Store10, entries};

fn options(fs: &SimFs) -> Options {
    Options::new("/raft").fs(Arc::new(fs.clone())).background(false)
}

/// The log after a clean end of the process.
fn reopened<L: Line>(log: L, fs: &SimFs) -> State {
    log.close().expect("closed");
    L::open(options(fs)).expect("it opens").look().expect("it can be read")
}

fn with_the_next_write<L: Line>() {
    for (upto, since) in [((1, 6), (1, 8)), ((5, 20), (5, 21))] {
        let next = if upto.1 < 10 { 10 } else { 21 };
        let writes = [
            Step::Vote(2),
            Step::Committed(Some(upto)),
            Step::Append(entries(5, next..next + 2)),
            Step::Append(Vec::new()),
            Step::Truncate(since),
        ];
        for write in &writes {
            let fs = SimFs::new();
            let log = L::open(options(&fs)).expect("a new log");
            let begin = [Step::Vote(1), Step::Append(entries(1, 0..10))];
            begin.iter().for_each(|step| step.take(&log).expect("done"));
            let before = log.look().expect("it can be read");
            let purged = before.after(&Step::Purge(upto));
            let ops = fs.ops();
            log.purge_upto(upto).expect("purged");
            log.purge_upto((1, 3)).expect("it is purged already");
            assert_eq!(log.look().expect("it can be read"), purged, "it is seen at once");
            assert_eq!(log.read(upto.1, upto.1 + 1).expect("read"), []);
            assert_eq!(log.limited(0, upto.1 + 1).expect("read"), []);
            assert!(log.truncate_since(upto).expect_err("it is purged").contains("purged up to"));
            assert_eq!(fs.ops(), ops, "nothing is written");

            let fs = fs.killed();
            assert_eq!(reopened(L::open(options(&fs)).expect("it opens"), &fs), before, "killed before {write:?}");
            let log = L::open(options(&fs)).expect("it opens");
            log.purge_upto(upto).expect("purged");
            assert_eq!(reopened(log, &fs), before, "closed before {write:?}");

            let log = L::open(options(&fs)).expect("it opens");
            log.purge_upto(upto).expect("purged");
            write.take(&log).unwrap_or_else(|error| panic!("{write:?}: {error}"));
            assert_eq!(reopened(log, &fs), purged.after(write), "after {write:?}");
        }
    }
}

#[test]
fn a_purge_is_seen_at_once_and_written_with_the_next_write_0_9() {
    with_the_next_write::<Store9>();
}

#[test]
fn a_purge_is_seen_at_once_and_written_with_the_next_write_0_10() {
    with_the_next_write::<Store10>();
}

/// Entries of an older leader in the place of what the snapshot covers: they go, and those behind them.
fn fork<L: Line>() {
    let fs = SimFs::new();
    let log = L::open(options(&fs)).expect("a new log");
    log.append_all(&entries(2, 0..15)).expect("appended");
    log.purge_upto((3, 10)).expect("purged");
    let state = log.look().expect("it can be read");
    assert_eq!((state.last, state.purged, state.entries), (Some((3, 10)), Some((3, 10)), Vec::new()));
    assert_eq!(log.read(12, 13).expect("read"), []);
    log.purge_upto((3, 11)).expect("purged");
    assert_eq!(log.look().expect("it can be read").last, Some((3, 11)), "what was hidden does not come back");
    log.append_all(&entries(3, 12..14)).expect("appended");
    let state = reopened(log, &fs);
    assert_eq!((state.last, state.purged, state.entries), (Some((3, 13)), Some((3, 11)), entries(3, 12..14)));
}

#[test]
fn a_purge_removes_a_log_that_has_another_entry_in_its_place_0_9() {
    fork::<Store9>();
}

#[test]
fn a_purge_removes_a_log_that_has_another_entry_in_its_place_0_10() {
    fork::<Store10>();
}
