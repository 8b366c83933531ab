//! One thread reads while another compacts and appends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use casklog_raft_rs::{CasklogStorage, Image};
use raft::{GetEntriesContext, Storage, StorageError};

use crate::common::{entries, on_each_disk};

const LAST: u64 = 1_500;

#[test]
fn what_is_compacted_while_it_is_read_is_compacted_and_nothing_else() {
    on_each_disk(|disk| {
        let storage = CasklogStorage::open_with(disk.options().background(true)).unwrap();
        let is_done = AtomicBool::new(false);
        let (storage, is_done) = (&storage, &is_done);
        let compacted = raft::Error::Store(StorageError::Compacted);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for first in (1..LAST).step_by(10) {
                    storage.append(&entries(first, &[first; 10])).unwrap();
                    storage.compact(first.saturating_sub(5)).unwrap();
                }
                is_done.store(true, Ordering::Relaxed);
            });
            let (mut read, mut missed) = (0, 0);
            while !is_done.load(Ordering::Relaxed) {
                let (first, last) = (storage.first_index().unwrap(), storage.last_index().unwrap());
                match storage.entries(first, last + 1, None, GetEntriesContext::empty(false)) {
                    Ok(entries) => {
                        assert!(entries.iter().map(|entry| entry.index).eq(first..=last));
                        read += 1;
                    }
                    Err(error) => {
                        assert_eq!(error, compacted);
                        missed += 1;
                    }
                }
                if let Err(error) = storage.term(last) {
                    assert_eq!(error, compacted);
                }
            }
            println!("{read} times read, {missed} times compacted");
            assert!(read > 0);
        });
    });
}

/// raft-rs panics for any other error.
#[test]
fn a_snapshot_whose_index_is_compacted_meanwhile_is_asked_for_again() {
    on_each_disk(|disk| {
        let applied = Arc::new(AtomicU64::new(0));
        let image = applied.clone();
        let storage = CasklogStorage::open_with(disk.options().background(true)).unwrap();
        let storage = storage
            .with_snapshots(move |_| Ok(Some(Image { index: image.load(Ordering::Relaxed), ..Image::default() })));
        let is_done = AtomicBool::new(false);
        let (storage, is_done) = (&storage, &is_done);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for first in (1..LAST).step_by(2) {
                    storage.append(&entries(first, &[first; 2])).unwrap();
                    applied.store(first, Ordering::Relaxed);
                    storage.compact(first + 1).unwrap();
                }
                is_done.store(true, Ordering::Relaxed);
            });
            while !is_done.load(Ordering::Relaxed) {
                match storage.snapshot(0, 2) {
                    Ok(snapshot) => assert_eq!(snapshot.get_metadata().term, snapshot.get_metadata().index),
                    Err(error) => assert_eq!(error, StorageError::SnapshotTemporarilyUnavailable.into()),
                }
            }
        });
    });
}
