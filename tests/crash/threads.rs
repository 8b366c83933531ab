//! Power cuts while several threads write and the background threads run.
//!
//! The store that lived through it tells the order of the log. What a crash leaves must be the beginning of it, up to
//! the end of a batch, with all that any thread was told to be durable by then.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use casklog::fs::sim::SimFs;
use casklog::{Batch, Durability, Store, SyncPolicy};

use crate::support::look::look;
use crate::support::model::Numbers;
use crate::support::runner::{GROUPED, PERIODIC, Setup};

/// Entries that were written together, and the length of the journal when that was acknowledged as durable.
#[derive(Debug)]
struct Write {
    indexes: Vec<u64>,
    durable_at: Option<usize>,
}

const WRITERS: u64 = 3;
const WRITES: u64 = 12;

fn write(store: &Store, fs: &SimFs, setup: &Setup, thread: u64, writes: &Mutex<Vec<Write>>) {
    let syncs = setup.sync == GROUPED || setup.sync == SyncPolicy::Immediate;
    let mut random = Numbers(thread);
    for n in 0..WRITES {
        let first = 1 + (n * WRITERS + thread) * 2;
        let value = random.bytes(if n % 5 == 4 { 3_000 } else { 50 });
        let key = format!("{thread} {n}");
        let (indexes, is_durable) = match n % 4 {
            0 => (vec![first], store.write_bytes(first, &key, &value).map(|_| syncs).unwrap()),
            1 => {
                let durability = Durability::Synced;
                (vec![first], store.write_bytes_with(first, &key, &value, durability).map(|_| true).unwrap())
            }
            2 => {
                let mut batch = Batch::new();
                batch.put_bytes(first + 1, &key, &value).put_bytes(first, &key, &value);
                (vec![first, first + 1], store.write_batch(&batch).map(|_| syncs).unwrap())
            }
            _ => {
                let mut batch = Batch::new();
                batch.put_bytes(first, &key, &value);
                (vec![first], store.submit_batch(&batch).unwrap().wait().map(|()| true).unwrap())
            }
        };
        // Counted after the call: it may have been durable earlier, never later.
        let durable_at = is_durable.then(|| fs.ops());
        writes.lock().unwrap().push(Write { indexes, durable_at });
    }
}

#[test]
fn with_many_writers_a_crash_leaves_the_beginning_of_the_log_with_all_that_was_acknowledged() {
    let mut states = 0;
    for (round, policy) in [GROUPED, SyncPolicy::None, SyncPolicy::Immediate, PERIODIC].into_iter().enumerate() {
        for mapped in [false, true] {
            let mut setup = Setup::new(policy);
            (setup.mapped, setup.segment_entries) = (mapped, Some(5));
            let fs = SimFs::new();
            let store = setup.options(&fs).background(true).open().unwrap();
            // Slow enough that segments are rotated long before the keeper gets to seal them.
            fs.set_sync_delay(Duration::from_micros(300));
            let writes = Mutex::new(Vec::new());
            std::thread::scope(|scope| {
                for thread in 0..WRITERS {
                    let (store, fs, setup, writes) = (&store, &fs, &setup, &writes);
                    scope.spawn(move || write(store, fs, setup, thread, writes));
                }
            });
            let seen = look(&store).unwrap();
            let ends = fs.ops();
            store.close().unwrap();
            let writes = writes.into_inner().unwrap();
            let place: HashMap<u64, usize> = seen.log.iter().enumerate().map(|(n, (index, _))| (*index, n)).collect();
            for op in 0..=ends {
                for found in fs.crash_images(op, 6, (round * 2 + usize::from(mapped)) as u64) {
                    let store = setup.options(&found).open().unwrap();
                    let words = format!("{policy}, mapped {mapped}: {}", found.origin());
                    assert!(!store.recovery_report().is_damaged(), "{words}: {:?}", store.recovery_report());
                    let left = look(&store).unwrap_or_else(|error| panic!("{words}: {error}"));
                    assert!(seen.log.starts_with(&left.log), "{words}: {:?} of {:?}", left.log, seen.log);
                    assert!(left.live.iter().all(|(index, item)| seen.live.get(index) == Some(item)), "{words}");
                    for write in &writes {
                        let there = write.indexes.iter().filter(|index| place[index] < left.log.len()).count();
                        assert!(there == 0 || there == write.indexes.len(), "{words}: half of {write:?}");
                        let is_sure = write.durable_at.is_some_and(|at| at <= op);
                        assert!(there > 0 || !is_sure, "{words}: {write:?} is lost, {} left", left.log.len());
                    }
                    states += 1;
                }
            }
        }
    }
    println!("{states} states");
}
