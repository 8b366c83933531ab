//! What a crash between state machine and log leaves, and how a node goes on from it.

use casklog_raft_rs::{CasklogStorage, Error};
use raft::eraftpb::SnapshotMetadata;
use raft::{Config, RawNode, Storage};

use crate::common::{Disk, entries, hard_state, on_each_disk, snapshot, voters};
use crate::model::look;

fn applied(index: u64, term: u64, ids: &[u64]) -> SnapshotMetadata {
    snapshot(index, term, ids).get_metadata().clone()
}

/// Entries 1 to 6 of the terms 1, 1, 2, 2, 2, 2, of which 2 are committed.
fn of_six(disk: &Disk) -> CasklogStorage {
    let storage = disk.open();
    storage.set_conf_state(&voters(&[1, 2, 3])).unwrap();
    storage.append(&entries(1, &[1, 1, 2, 2, 2, 2])).unwrap();
    storage.set_hard_state(&hard_state(2, 3, 2)).unwrap();
    storage
}

/// raft-rs panics where it cannot be started.
fn start(storage: &CasklogStorage, applied: u64) {
    let logger = slog::Logger::root(slog::Discard, slog::o!());
    RawNode::new(&Config { applied, ..Config::new(1) }, storage.clone(), &logger).unwrap();
}

#[test]
fn a_state_machine_that_has_applied_more_than_is_known_to_be_committed_goes_on() {
    on_each_disk(|disk| {
        let storage = of_six(disk);
        storage.resume_from(&applied(4, 2, &[1, 2])).unwrap();
        let storage = disk.reopen(storage);
        start(&storage, 4);
        let state = storage.initial_state().unwrap();
        assert_eq!((state.hard_state, state.conf_state), (hard_state(2, 3, 4), voters(&[1, 2])));
        assert_eq!((storage.first_index(), storage.last_index()), (Ok(1), Ok(6)));
    });
}

#[test]
fn a_state_machine_with_a_snapshot_that_the_log_has_not_seen_goes_on() {
    // Above the last entry, and in its midst where the log has another one.
    for (index, term) in [(9, 5), (4, 5)] {
        on_each_disk(|disk| {
            let storage = of_six(disk);
            storage.resume_from(&applied(index, term, &[1, 2])).unwrap();
            let storage = disk.reopen(storage);
            start(&storage, index);
            let seen = look(&storage);
            assert_eq!((seen.compacted, seen.entries), ((index, term), vec![]));
            assert_eq!((seen.hard_state, seen.conf_state), (hard_state(5, 3, index), voters(&[1, 2])));
        });
    }
}

#[test]
fn a_state_machine_that_is_behind_goes_on_if_nothing_it_lacks_is_compacted() {
    on_each_disk(|disk| {
        let storage = of_six(disk);
        let before = look(&storage);
        storage.resume_from(&SnapshotMetadata::default()).unwrap();
        assert_eq!(look(&storage), before, "a new state machine");
        storage.commit_to(6).unwrap();
        storage.compact(4).unwrap();
        storage.resume_from(&applied(3, 2, &[1, 2])).unwrap();
        start(&storage, 3);
        assert_eq!(storage.initial_state().unwrap().hard_state, hard_state(2, 3, 6));
        assert_eq!(storage.initial_state().unwrap().conf_state, voters(&[1, 2]));
        storage.resume_from(&applied(4, 2, &[])).unwrap();
        assert_eq!(storage.initial_state().unwrap().conf_state, voters(&[1, 2]), "none was given");
        let refused = storage.resume_from(&applied(2, 1, &[1]));
        assert!(matches!(refused, Err(Error::MachineBehind { applied: 2, first: 4 })), "{refused:?}");
    });
}
