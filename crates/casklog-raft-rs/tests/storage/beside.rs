//! One thread reads while another compacts and appends.

use std::sync::atomic::{AtomicBool, Ordering};

use casklog_raft_rs::CasklogStorage;
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
