//! Writers that fill segments faster than they are sealed: what is put off, what is not, and how much room they take.

#![allow(clippy::unwrap_used, reason = "these are tests")]

#[path = "common/log.rs"]
mod log;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use casklog::fs::sim::SimFs;
use casklog::{Batch, Error, Options, Store, SyncPolicy};
use log::eventually;

const MIB: u64 = 1 << 20;

/// A log that nobody syncs, with a thread of its own that keeps it.
fn unsynced(fs: &SimFs) -> Options {
    Options::new("log").fs(Arc::new(fs.clone())).sync(SyncPolicy::None).mapped(true)
}

/// Fills `segments` segments, of ten entries each, and begins the next one.
fn burst(store: &Store, segments: u64) {
    for _ in 0..=10 * segments {
        store.append_bytes("k", [7; 100]).unwrap();
    }
}

#[test]
fn a_few_segments_of_a_burst_are_sealed_when_the_writer_pauses() {
    // Where the machine pauses, so does the writer: once in fifty times it does not.
    let is_put_off = (0..50).any(|_| {
        let store = unsynced(&SimFs::new()).segment_entries(10).open().unwrap();
        burst(&store, 3);
        // Time enough to seal them, and no pause yet.
        thread::sleep(Duration::from_millis(30));
        let seals = store.stats().seals;
        eventually("all of them are sealed", || store.stats().seals == 3);
        store.close().unwrap();
        seals == 0
    });
    assert!(is_put_off);
}

#[test]
fn no_more_than_eight_wait() {
    let store = unsynced(&SimFs::new()).segment_entries(10).open().unwrap();
    burst(&store, 40);
    assert!(store.stats().seals >= 40 - 8, "{}", store.stats().seals);
    store.close().unwrap();
}

#[test]
fn a_writer_that_goes_on_slowly_has_nothing_put_off() {
    let store = unsynced(&SimFs::new()).segment_entries(1_000).open().unwrap();
    for _ in 0..=1_000 {
        store.append_bytes("k", [7; 100]).unwrap();
    }
    assert_eq!(store.stats().rotations, 1);
    let begun = Instant::now();
    while store.stats().seals == 0 {
        assert!(begun.elapsed() < Duration::from_secs(10), "the first segment is not sealed");
        store.append_bytes("k", [7; 100]).unwrap();
        thread::sleep(Duration::from_millis(20));
    }
    store.close().unwrap();
}

/// Without a wish of its own each rotation would wait until the segment is a second old.
#[test]
fn who_rotates_does_not_wait_for_a_pause() {
    let store = unsynced(&SimFs::new()).open().unwrap();
    let is_over = AtomicBool::new(false);
    /// Also where a check fails: the scope waits for the writer.
    struct SetOnDrop<'a>(&'a AtomicBool);
    impl Drop for SetOnDrop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let took = thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                store.append_bytes("k", [7; 100]).unwrap();
            }
        });
        let _over = SetOnDrop(&is_over);
        let begun = Instant::now();
        for rotations in 1..=8 {
            let before = store.len();
            eventually("something is written", || store.len() > before);
            store.rotate().unwrap();
            assert!(store.stats().seals >= rotations);
            thread::sleep(Duration::from_millis(2));
        }
        begun.elapsed()
    });
    store.close().unwrap();
    assert!(took < Duration::from_secs(4), "{took:?}");
}

#[test]
fn closing_seals_what_waits() {
    let fs = SimFs::new();
    let store = unsynced(&fs).segment_entries(10).open().unwrap();
    burst(&store, 3);
    store.close().unwrap();
    assert_eq!(store.stats().seals, 3);
    let reader = unsynced(&fs).open_read_only().unwrap();
    assert!(reader.recovery_report().is_clean && reader.recovery_report().footers_missing.is_empty());
}

/// As a killed process leaves it, and the next open finds everything.
#[test]
fn dropping_the_last_handle_leaves_it_to_the_next_open() {
    let took = (0..20).map(|_| {
        let fs = SimFs::new();
        let store = unsynced(&fs).segment_entries(10).open().unwrap();
        burst(&store, 4);
        // The next segment is ready by then, and the writer did not pause for long enough.
        thread::sleep(Duration::from_millis(20));
        fs.set_sync_delay(Duration::from_millis(50));
        let begun = Instant::now();
        drop(store);
        let took = begun.elapsed();
        fs.set_sync_delay(Duration::ZERO);
        let mut reopened = None;
        eventually("the lock is free", || {
            reopened = unsynced(&fs).open().ok();
            reopened.is_some()
        });
        assert_eq!(reopened.unwrap().len(), 41);
        took
    });
    let quick = took.filter(|took| *took < Duration::from_millis(50)).count();
    assert!(quick > 10, "it waits for the disk");
}

/// Sealing cuts what was made ready and is not used: so it comes first where there is no room.
#[test]
fn on_a_full_disk_nothing_is_put_off() {
    let fs = SimFs::new();
    let store = unsynced(&fs).segment_bytes(MIB).open().unwrap();
    fs.set_capacity(Some(9 * MIB));
    let error = loop {
        if let Err(error) = store.append_bytes("k", [7; 10_000]) {
            break error;
        }
    };
    assert!(matches!(error, Error::NoSpace { .. }), "{error:?}");
    let stats = store.stats();
    assert_eq!(stats.seals, stats.rotations);
    assert!(stats.rotations > 5, "{}", stats.rotations);
    fs.set_capacity(None);
    store.append_bytes("k", [7; 10_000]).unwrap();
    store.close().unwrap();
}

#[test]
fn room_that_cannot_be_had_whole_is_not_taken_in_part() {
    for mapped in [false, true] {
        let fs = SimFs::new();
        let store = unsynced(&fs).mapped(mapped).segment_bytes(64 * MIB).background(false).open().unwrap();
        store.append_bytes("k", "v").unwrap();
        fs.set_capacity(Some(fs.used() + 20 * MIB));
        let before = fs.used();
        let mut batch = Batch::new();
        (1..=40).for_each(|index| _ = batch.put_bytes(index + 1, "k", vec![index as u8; MIB as usize]));
        assert!(matches!(store.write_batch(&batch), Err(Error::NoSpace { .. })));
        assert_eq!(fs.used(), before);
        fs.set_capacity(None);
        store.write_batch(&batch).unwrap();
        assert_eq!(store.get(41).unwrap().unwrap().bytes().unwrap(), vec![40; MIB as usize]);
        store.close().unwrap();
    }
}

#[test]
fn a_batch_larger_than_a_segment_is_no_measure_for_the_segments_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = Options::new(dir.path()).sync(SyncPolicy::None).mapped(true).segment_bytes(MIB).open().unwrap();
    let mut batch = Batch::new();
    (1..=50).for_each(|index| _ = batch.put_bytes(index, "k", vec![index as u8; MIB as usize / 10]));
    store.write_batch(&batch).unwrap();
    store.append_bytes("k", "v").unwrap();
    assert_eq!(store.stats().rotations, 1);
    // Time enough to make room that nobody needs.
    thread::sleep(Duration::from_millis(200));
    let last = store.segments().pop().unwrap();
    let length = std::fs::metadata(&last.path).unwrap().len();
    assert!(length <= 2 * MIB, "{length} bytes of {last:?}");
    store.close().unwrap();
}

/// The simulated disk looks at that: warming takes a while there, and a writer that is faster waits.
#[test]
fn nobody_places_where_pages_are_warmed_just_now() {
    let fs = SimFs::new();
    fs.set_sync_delay(Duration::from_millis(10));
    let store = unsynced(&fs).open().unwrap();
    for _ in 0..3_000 {
        store.append_bytes("k", [7; 10_000]).unwrap();
    }
    store.close().unwrap();
}

/// Pages are warmed a step ahead of a writer who waits for each of them.
#[test]
fn what_is_placed_behind_pages_that_are_warmed_stays() {
    let dir = tempfile::tempdir().unwrap();
    let store = Options::new(dir.path()).sync(SyncPolicy::None).mapped(true).open().unwrap();
    let value = |index: u64| -> Vec<u8> { (0..10_000).map(|at| (at * index) as u8).collect() };
    let mut batch = Batch::new();
    for first in (1..=8_000).step_by(400) {
        batch.clear();
        (first..first + 400).for_each(|index| _ = batch.put_bytes(index, "k", value(index)));
        store.write_batch(&batch).unwrap();
    }
    let mut count = 0;
    for entry in store.iter() {
        let entry = entry.unwrap();
        assert!(entry.bytes().unwrap() == value(entry.index()), "entry {}", entry.index());
        count += 1;
    }
    assert_eq!(count, 8_000);
    store.close().unwrap();
}
