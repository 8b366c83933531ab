//! What a store counts of itself, and that it counts nothing where that would cost a read anything.

#![allow(clippy::unwrap_used, reason = "these are tests")]

#[path = "common/log.rs"]
mod log;

use std::time::Duration;

use casklog::fs::sim::SimFs;
use casklog::{Durability, Histogram, SyncPolicy};
use log::{sim, write_each};

/// The values that lie in buckets with a bound up to `bound`.
fn up_to(histogram: &Histogram, bound: u64) -> u64 {
    let low = histogram.buckets().filter(|(upto, _)| upto.is_some_and(|upto| upto <= bound));
    low.map(|(_, count)| count).sum()
}

#[test]
fn every_sync_is_timed_with_the_bytes_that_it_made_durable() {
    let fs = SimFs::new();
    let store = sim(&fs).segment_entries(10).open().unwrap();
    write_each(&store, 1..=25);
    store.append_with("k", &1, Durability::Written).unwrap();
    store.sync().unwrap();
    store.sync().unwrap();
    let stats = store.stats();
    assert_eq!((stats.sync_ns.count(), stats.sync_bytes.count()), (stats.syncs, stats.syncs));
    assert_eq!(stats.durable, stats.tail);
    let bytes: u64 = store.segments().iter().map(|segment| segment.bytes).sum();
    assert_eq!(stats.sync_bytes.sum(), bytes, "each byte becomes durable once");
    // 25 durable writes and the first call of sync: the second had nothing to wait for.
    assert_eq!(stats.commit_wait_ns.count(), 26);
    assert_eq!((stats.rotations, stats.rotation_ns.count()), (2, 2));
    assert_eq!((stats.seals, stats.seal_ns.count()), (2, 2));
    assert!(stats.seal_ns.sum() > 0 && stats.rotation_ns.max() > 0);
    store.close().unwrap();
}

#[test]
fn a_sync_that_takes_its_time_is_found_in_its_bucket() {
    let fs = SimFs::new();
    let store = sim(&fs).open().unwrap();
    write_each(&store, [1]);
    let before = store.stats();
    fs.set_sync_delay(Duration::from_millis(8));
    write_each(&store, 2..=4);
    let after = store.stats();
    for (before, after) in [(before.sync_ns, after.sync_ns), (before.commit_wait_ns, after.commit_wait_ns)] {
        assert_eq!(after.count() - before.count(), 3);
        assert!(after.sum() - before.sum() >= 24_000_000, "{after:?}");
        assert_eq!(up_to(&after, 6_400_000), up_to(&before, 6_400_000), "none of them is short");
        assert!(after.quantile(1.0).unwrap() >= 8_000_000 && after.max() >= 8_000_000);
    }
}

#[test]
fn writes_that_wait_for_room_are_counted_and_others_are_not() {
    let fs = SimFs::new();
    let store = sim(&fs).sync(SyncPolicy::None).segment_bytes(256 << 10).open().unwrap();
    write_each(&store, [1]);
    let first = store.stats().stall_ns.count();
    assert!(first >= 1, "there was no segment yet");
    write_each(&store, 2..=10);
    assert_eq!(store.stats().stall_ns.count(), first);
    assert_eq!(store.stats().commit_wait_ns.count(), 0, "nobody waited for a sync");
}

#[test]
fn reads_of_the_disk_are_timed_and_what_the_cache_has_is_not() {
    let fs = SimFs::new();
    let options = sim(&fs).segment_entries(1000);
    let store = options.clone().open().unwrap();
    for _ in 0..2000 {
        store.append_bytes_with("k", [7; 100], Durability::Written).unwrap();
    }
    store.close().unwrap();

    let store = options.clone().cache_bytes(0).open().unwrap();
    let reads = || (store.stats().reads, store.stats().bytes_read);
    assert_eq!(reads(), (0, 0), "what open reads does not count");
    store.get(5).unwrap().unwrap();
    let (count, bytes) = reads();
    assert!(count == 2 && bytes > 100, "a page of the footer and the record: {count} reads, {bytes} bytes");
    assert_eq!(store.iter().count(), 2000);
    assert!(reads().1 - bytes >= 2000 * 100, "iterators read from the disk");
    let before = reads().1;
    assert_eq!(store.log_order().count(), 2000);
    assert!(reads().1 - before >= 2000 * 100, "whoever reads in the order of the log does");
    let stats = store.stats();
    assert!(stats.reads > 8);
    assert_eq!(stats.read_ns.count(), stats.reads.div_ceil(8), "of one thread every eighth is timed");
    store.close().unwrap();

    let store = options.open().unwrap();
    (0..10).for_each(|_| _ = store.get(5).unwrap().unwrap());
    let before = store.stats();
    (0..100).for_each(|_| _ = store.get(5).unwrap().unwrap());
    let after = store.stats();
    assert_eq!((before.reads, before.bytes_read), (after.reads, after.bytes_read));
    assert!(after.cache_hits >= before.cache_hits + 200);
    store.close().unwrap();
}
