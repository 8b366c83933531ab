//! What raft-rs tests of its own storage in memory holds for this one, and for what the next process finds of it.

use casklog_raft_rs::{CasklogStorage, Error, Image};
use protobuf::Message;
use raft::eraftpb::{Entry, Snapshot};
use raft::{GetEntriesContext, Storage, StorageError};

use crate::common::{Disk, entries, entry, hard_state, on_each_disk, snapshot, voters};

/// A log of the entries 3, 4, 5 (and more), each of the term of its index; what was before is compacted, of term 2.
fn from_three(disk: &Disk, last: u64) -> CasklogStorage {
    let storage = disk.open();
    storage.append(&entries(1, &[1, 2])).unwrap();
    storage.append(&(3..=last).map(|index| entry(index, index)).collect::<Vec<_>>()).unwrap();
    storage.compact(3).unwrap();
    storage
}

/// Checks the storage as it is, and as it is found again.
fn now_and_reopened(disk: &Disk, storage: CasklogStorage, check: impl Fn(&CasklogStorage)) {
    check(&storage);
    let storage = disk.reopen(storage);
    check(&storage);
    storage.close().unwrap();
}

fn read(storage: &CasklogStorage, low: u64, high: u64, bytes: impl Into<Option<u64>>) -> raft::Result<Vec<Entry>> {
    storage.entries(low, high, bytes, GetEntriesContext::empty(false))
}

#[test]
fn a_new_storage_begins_with_index_1_and_has_none() {
    on_each_disk(|disk| {
        now_and_reopened(disk, disk.open(), |storage| {
            assert_eq!((storage.first_index(), storage.last_index()), (Ok(1), Ok(0)));
            assert_eq!(storage.term(0), Ok(0));
            assert!(!storage.initial_state().unwrap().initialized());
            assert_eq!(read(storage, 1, 1, None), Ok(vec![]));
        });
    });
}

#[test]
fn terms_are_known_from_the_one_before_the_first_entry_to_the_last() {
    on_each_disk(|disk| {
        now_and_reopened(disk, from_three(disk, 5), |storage| {
            let compacted = Err(raft::Error::Store(StorageError::Compacted));
            let unavailable = Err(raft::Error::Store(StorageError::Unavailable));
            let expected = [(1, compacted), (2, Ok(2)), (3, Ok(3)), (4, Ok(4)), (5, Ok(5)), (6, unavailable)];
            for (index, term) in expected {
                assert_eq!(storage.term(index), term, "of {index}");
            }
        });
    });
}

#[test]
fn entries_are_given_up_to_a_number_of_bytes_and_at_least_one() {
    on_each_disk(|disk| {
        now_and_reopened(disk, from_three(disk, 6), |storage| {
            let bytes = |from: u64, to: u64| (from..=to).map(|i| u64::from(entry(i, i).compute_size())).sum::<u64>();
            let some = |from: u64, to: u64| Ok((from..=to).map(|index| entry(index, index)).collect());
            assert_eq!(read(storage, 2, 6, None), Err(StorageError::Compacted.into()));
            assert_eq!(read(storage, 3, 4, None), some(3, 3));
            assert_eq!(read(storage, 4, 5, u64::MAX), some(4, 4));
            assert_eq!(read(storage, 4, 7, raft::NO_LIMIT), some(4, 6));
            assert_eq!(read(storage, 4, 7, 0), some(4, 4));
            assert_eq!(read(storage, 4, 7, bytes(4, 5)), some(4, 5));
            assert_eq!(read(storage, 4, 7, bytes(4, 5) + bytes(6, 6) / 2), some(4, 5));
            assert_eq!(read(storage, 4, 7, bytes(4, 6) - 1), some(4, 5));
            assert_eq!(read(storage, 4, 7, bytes(4, 6)), some(4, 6));
            assert_eq!(read(storage, 7, 7, None), Ok(vec![]));
            assert_eq!(read(storage, 4, 8, None), Err(StorageError::Unavailable.into()));
        });
    });
}

#[test]
fn entries_come_back_with_all_that_is_in_them() {
    on_each_disk(|disk| {
        let storage = disk.open();
        let mut change = Entry { index: 2, term: 7, data: vec![0xff; 3_000].into(), ..Default::default() };
        change.set_entry_type(raft::eraftpb::EntryType::EntryConfChangeV2);
        change.context = vec![1, 2, 3].into();
        storage.append(&[entry(1, 7), change.clone()]).unwrap();
        now_and_reopened(disk, storage, |storage| {
            assert_eq!(read(storage, 2, 3, None), Ok(vec![change.clone()]));
        });
    });
}

#[test]
fn the_last_index_is_that_of_the_last_entry() {
    on_each_disk(|disk| {
        let storage = disk.reopen(from_three(disk, 5));
        assert_eq!(storage.last_index(), Ok(5));
        storage.append(&[entry(6, 5)]).unwrap();
        now_and_reopened(disk, storage, |storage| assert_eq!(storage.last_index(), Ok(6)));
    });
}

#[test]
fn the_first_index_is_the_one_compacted_to() {
    on_each_disk(|disk| {
        let storage = disk.reopen(from_three(disk, 5));
        assert_eq!(storage.first_index(), Ok(3));
        storage.compact(4).unwrap();
        now_and_reopened(disk, storage, |storage| assert_eq!(storage.first_index(), Ok(4)));
    });
}

#[test]
fn compaction_keeps_the_index_and_the_term_before_it() {
    for (index, first) in [(2, 3), (3, 3), (4, 4), (5, 5), (6, 6)] {
        on_each_disk(|disk| {
            let storage = from_three(disk, 5);
            storage.compact(index).unwrap();
            now_and_reopened(disk, storage, |storage| {
                assert_eq!((storage.first_index(), storage.last_index()), (Ok(first), Ok(5)));
                assert_eq!(storage.term(first - 1), Ok(first - 1));
                assert_eq!(read(storage, first, 6, None).unwrap().len() as u64, 6 - first);
                // What is compacted was committed, or raft-rs could not be started.
                assert_eq!(storage.initial_state().unwrap().hard_state.commit, first - 1);
            });
        });
    }
    on_each_disk(|disk| {
        let storage = from_three(disk, 5);
        assert!(matches!(storage.compact(7), Err(Error::Unavailable { index: 6, last: 5 })));
        now_and_reopened(disk, storage, |storage| assert_eq!(storage.first_index(), Ok(3)));
    });
}

#[test]
fn a_snapshot_is_the_image_of_the_application_with_the_term_of_the_log() {
    on_each_disk(|disk| {
        let storage = from_three(disk, 5);
        storage.set_conf_state(&voters(&[1, 2, 3])).unwrap();
        storage.set_hard_state(&hard_state(5, 0, 5)).unwrap();
        let mut storage = Some(storage);
        let not_yet = || Err(StorageError::SnapshotTemporarilyUnavailable.into());
        let data = |index: u64| Snapshot { data: vec![index as u8].into(), ..snapshot(index, index, &[1, 2, 3]) };
        let cases: [(u64, u64, raft::Result<Snapshot>); 6] = [
            (4, 0, Ok(data(4))),
            (5, 5, Ok(data(5))),
            (2, 0, Ok(data(2))), // nothing but its term is left in the log
            (1, 0, not_yet()),   // the follower could not go on from there
            (5, 6, not_yet()),   // older than asked for
            (0, 0, not_yet()),   // there is none
        ];
        for (index, request, expected) in cases {
            let reopened = disk.reopen(storage.take().unwrap()).with_snapshots(move |request| {
                assert_eq!(request.to, 2);
                let conf_state = request.conf_state.clone();
                Ok((index > 0).then(|| Image { index, conf_state, data: vec![index as u8] }))
            });
            assert_eq!(reopened.snapshot(request, 2), expected, "image of {index}, {request} asked for");
            storage = Some(reopened);
        }
        let ahead =
            disk.reopen(storage.take().unwrap()).with_snapshots(|_| Ok(Some(Image { index: 6, ..Image::default() })));
        assert_eq!(ahead.snapshot(0, 2), Err(StorageError::Unavailable.into()), "its term is not known");
    });
}

#[test]
fn appending_replaces_what_conflicts_and_all_behind_it() {
    let old = [3, 4, 5];
    let cases: [(u64, &[u64], &[u64]); 5] = [
        (3, &[3, 4, 5], &[3, 4, 5]),
        (3, &[3, 6, 6], &[3, 6, 6]),
        (3, &[3, 4, 5, 5], &[3, 4, 5, 5]),
        (4, &[5], &[3, 5]),
        (6, &[6], &[3, 4, 5, 6]),
    ];
    for (first, terms, expected) in cases {
        on_each_disk(|disk| {
            let storage = from_three(disk, 5);
            storage.append(&entries(first, terms)).unwrap();
            now_and_reopened(disk, storage, |storage| {
                let last = storage.last_index().unwrap();
                assert_eq!(read(storage, 3, last + 1, None), Ok(entries(3, expected)));
            });
        });
    }
    on_each_disk(|disk| {
        let storage = from_three(disk, 5);
        assert!(matches!(storage.append(&entries(2, &[3, 3])), Err(Error::Compacted { index: 2, first: 3 })));
        assert!(matches!(storage.append(&entries(7, &[6])), Err(Error::Gap { index: 7, expected: 6 })));
        let torn = [entry(5, 9), entry(7, 9)];
        assert!(matches!(storage.append(&torn), Err(Error::Gap { index: 7, expected: 6 })));
        storage.append(&[]).unwrap();
        now_and_reopened(disk, storage, |storage| assert_eq!(read(storage, 3, 6, None), Ok(entries(3, &old))));
    });
}

#[test]
fn a_snapshot_takes_the_place_of_the_log_unless_it_is_older() {
    on_each_disk(|disk| {
        let storage = from_three(disk, 5);
        storage.set_hard_state(&hard_state(9, 2, 3)).unwrap();
        storage.apply_snapshot(&snapshot(4, 6, &[1, 2, 3])).unwrap();
        let storage = disk.reopen(storage);
        for index in [3, 4] {
            let refused = storage.apply_snapshot(&snapshot(index, 3, &[9]));
            assert!(matches!(refused, Err(Error::SnapshotOutOfDate { first: 5, .. })), "{refused:?}");
        }
        now_and_reopened(disk, storage, |storage| {
            assert_eq!((storage.first_index(), storage.last_index(), storage.term(4)), (Ok(5), Ok(4), Ok(6)));
            let state = storage.initial_state().unwrap();
            assert_eq!((state.hard_state, state.conf_state), (hard_state(9, 2, 4), voters(&[1, 2, 3])));
        });
        let storage = disk.open();
        storage.append(&entries(5, &[9])).unwrap();
        // Far above, so that the term is that of the snapshot.
        storage.apply_snapshot(&snapshot(1_000, 10, &[4])).unwrap();
        storage.append(&entries(1_001, &[10])).unwrap();
        now_and_reopened(disk, storage, |storage| {
            assert_eq!(
                (storage.first_index(), storage.last_index(), storage.term(1_000)),
                (Ok(1_001), Ok(1_001), Ok(10))
            );
            assert_eq!(storage.initial_state().unwrap().hard_state, hard_state(10, 2, 1_000));
        });
    });
}
