//! What the storage does not do, and how it says so.

use std::error::Error as _;
use std::time::Duration;

use casklog::fs::sim::SimFs;
use casklog::{Options, RecoveryMode, Store};
use casklog_raft_rs::{CasklogStorage, Error};
use raft::Storage;

use crate::common::{Disk, entries, entry, hard_state, on_each_disk, options};
use crate::model::look;

#[test]
fn options_that_remove_entries_are_refused() {
    let ways: [fn(Options) -> Options; 3] =
        [|o| o.max_segments(9), |o| o.max_bytes(1 << 30), |o| o.max_age(Duration::from_secs(1))];
    for way in ways {
        let fs = SimFs::new();
        let refused = CasklogStorage::open_with(way(options(&fs)));
        assert!(matches!(refused, Err(Error::Retention)), "{refused:?}");
        assert_eq!(fs.ops(), 0, "something was written");
    }
}

#[test]
fn a_log_of_something_else_is_refused_and_stays_as_it_is() {
    on_each_disk(|disk| {
        let other = disk.options().index_order(casklog::IndexOrder::Sequential).first_index(1).open().unwrap();
        other.append("key", "value").unwrap();
        other.close().unwrap();
        let refused = CasklogStorage::open_with(disk.options());
        assert!(matches!(refused, Err(Error::NotARaftLog)), "{refused:?}");
        let other: Store = disk.options().index_order(casklog::IndexOrder::Sequential).open().unwrap();
        assert_eq!((other.len(), other.all_meta().len()), (1, 0));
    });
}

/// casklog-openraft marks its logs under the same key, with the name of a line of openraft.
#[test]
fn a_log_of_openraft_is_refused_as_something_else() {
    on_each_disk(|disk| {
        let other = disk.options().index_order(casklog::IndexOrder::Sequential).open().unwrap();
        other.put_meta("raft.format", "openraft 0.9").unwrap();
        other.close().unwrap();
        let refused = CasklogStorage::open_with(disk.options());
        assert!(matches!(refused, Err(Error::NotARaftLog)), "{refused:?}");
    });
}

#[test]
fn a_newer_format_is_refused() {
    on_each_disk(|disk| {
        disk.open().close().unwrap();
        let log = disk.options().index_order(casklog::IndexOrder::Sequential).open().unwrap();
        log.put_meta("raft.format", [2]).unwrap();
        log.close().unwrap();
        let refused = CasklogStorage::open_with(disk.options());
        assert!(matches!(refused, Err(Error::Unsupported { found: 2, known: 1 })), "{refused:?}");
    });
}

#[test]
fn a_hard_state_is_never_ahead_of_its_entries() {
    on_each_disk(|disk| {
        let storage = disk.open();
        storage.append(&entries(1, &[1, 1, 1, 1])).unwrap();
        let refused = storage.set_hard_state(&hard_state(1, 1, 5));
        assert!(matches!(refused, Err(Error::CommitAhead { commit: 5, last: 4 })), "{refused:?}");
        assert!(matches!(storage.commit_to(5), Err(Error::CommitAhead { commit: 5, last: 4 })));
        storage.set_hard_state(&hard_state(2, 1, 3)).unwrap();
        storage.commit_to(2).unwrap();
        assert_eq!(storage.initial_state().unwrap().hard_state, hard_state(2, 1, 3), "it does not fall");
        // What is committed may come again, and may not go.
        let refused = storage.append(&entries(2, &[2]));
        assert!(matches!(refused, Err(Error::CommitAhead { commit: 3, last: 2 })), "{refused:?}");
        storage.append(&entries(2, &[1, 1])).unwrap();
        storage.commit_to(3).unwrap();
        // Nor may what is compacted be taken for not committed.
        storage.compact(4).unwrap();
        storage.set_hard_state(&hard_state(3, 0, 1)).unwrap();
        let before = look(&storage);
        assert_eq!(before.hard_state, hard_state(3, 0, 3));
        assert_eq!(look(&disk.reopen(storage)), before);
    });
}

/// A node must not forget what it has told others, though its log could be opened: also where what is left fits together.
#[test]
fn a_log_that_has_lost_something_is_refused_in_every_recovery_mode_and_when_it_was_repaired() {
    for is_last in [false, true] {
        let fs = SimFs::new();
        let storage = Disk::Simulated(fs.clone()).open();
        for index in 1..=60 {
            storage.append(&[raft::eraftpb::Entry { data: vec![7; 200].into(), ..entry(index, 1) }]).unwrap();
        }
        let segments = storage.log().segments();
        storage.close().unwrap();
        assert!(segments.len() > 3);
        fs.remove_file(&segments[if is_last { segments.len() - 1 } else { 1 }].path);
        for mode in [RecoveryMode::Strict, RecoveryMode::TornTail, RecoveryMode::PointInTime, RecoveryMode::Salvage] {
            let refused = CasklogStorage::open_with(options(&fs).recovery(mode));
            assert!(matches!(refused, Err(Error::Lost { .. } | Error::Store(_))), "{mode:?}: {refused:?}");
        }
        options(&fs).repair().run().unwrap();
        let refused = CasklogStorage::open_with(options(&fs));
        assert!(matches!(refused, Err(Error::Lost { .. })), "repaired, {is_last}: {refused:?}");
    }
}

/// Metadata and entries must fit each other, whoever wrote them.
#[test]
fn entries_that_do_not_fit_the_state_are_refused() {
    let spoils: [fn(&Store); 4] = [
        |log| log.truncate_before(3).unwrap(),
        |log| log.truncate_after(2).unwrap(),
        |log| assert!(log.delete(3).unwrap()),
        |log| log.put_meta("raft.hard_state", [0xff]).unwrap(),
    ];
    for spoil in spoils {
        on_each_disk(|disk| {
            let storage = disk.open();
            storage.append(&entries(1, &[1, 1, 1, 1])).unwrap();
            storage.set_hard_state(&hard_state(1, 1, 3)).unwrap();
            storage.close().unwrap();
            let log = disk.options().index_order(casklog::IndexOrder::Sequential).open().unwrap();
            spoil(&log);
            log.close().unwrap();
            let refused = CasklogStorage::open_with(disk.options());
            assert!(matches!(refused, Err(Error::Lost { .. } | Error::Malformed { .. })), "{refused:?}");
        });
    }
}

#[test]
fn an_entry_that_is_none_is_an_error() {
    on_each_disk(|disk| {
        let storage = disk.open();
        storage.append(&entries(1, &[1])).unwrap();
        storage.close().unwrap();
        let log = disk.options().index_order(casklog::IndexOrder::Sequential).open().unwrap();
        log.write_bytes(2, "key", [0xff; 3]).unwrap();
        // An entry that says another term than its key.
        let bytes = protobuf::Message::write_to_bytes(&entry(3, 4)).unwrap();
        log.write_bytes(3, 5_u64.to_be_bytes(), bytes).unwrap();
        log.close().unwrap();
        let storage = disk.open();
        let context = || raft::GetEntriesContext::empty(false);
        assert_eq!(storage.entries(1, 2, None, context()), Ok(entries(1, &[1])));
        for index in [2, 3] {
            let error = storage.entries(index, index + 1, None, context()).expect_err("it is none");
            let raft::Error::Store(raft::StorageError::Other(inner)) = &error else { panic!("{error:?}") };
            assert!(matches!(inner.downcast_ref(), Some(Error::Malformed { .. })), "{inner:?}");
        }
        assert!(storage.term(2).is_err());
    });
}

#[test]
fn a_snapshot_without_anybody_to_make_it_is_an_error_and_so_is_a_failure_to_make_it() {
    on_each_disk(|disk| {
        let storage = disk.open();
        let inner = |error: raft::Error| match error {
            raft::Error::Store(raft::StorageError::Other(inner)) => inner.downcast::<Error>().unwrap(),
            error => panic!("{error:?}"),
        };
        assert!(matches!(*inner(storage.snapshot(0, 2).unwrap_err()), Error::NoSnapshots));
        let failing = storage.with_snapshots(|_| Err("no disk".into()));
        let error = inner(failing.snapshot(0, 2).unwrap_err());
        assert_eq!(error.source().unwrap().to_string(), "no disk");
    });
}
