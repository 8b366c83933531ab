//! The block cache, seen from outside: what it saves, what it costs, and what cannot push out the hot set.

use std::sync::Arc;

use casklog::fs::sim::{OpKind, SimFs};
use casklog::{Durability, Options, ReadMode, Store, SyncPolicy};

const ENTRIES: u64 = 40_000;
const VALUE_BYTES: usize = 200;

fn options(dir: &std::path::Path) -> Options {
    Options::new(dir).sync(SyncPolicy::None).segment_bytes(1 << 20)
}

fn value(index: u64) -> Vec<u8> {
    index.to_le_bytes().into_iter().cycle().take(VALUE_BYTES).collect()
}

/// About 9 MB in nine segments, all but the last one sealed.
fn filled() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let store = options(dir.path()).open().unwrap();
    for index in 1..=ENTRIES {
        store.append_bytes_with(index.to_be_bytes(), value(index), Durability::Written).unwrap();
    }
    store.close().unwrap();
    dir
}

fn get(store: &Store, index: u64) {
    assert_eq!(store.get(index).unwrap().unwrap().bytes().unwrap(), value(index));
}

/// Random numbers (xorshift; Marsaglia, 2003).
fn draws(mut state: u64) -> impl Iterator<Item = u64> {
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    })
}

/// Hits among the lookups of the indexes, as a share.
fn hit_rate(store: &Store, indexes: impl Iterator<Item = u64>) -> f64 {
    let before = store.stats();
    indexes.for_each(|index| get(store, index));
    let after = store.stats();
    let (hits, misses) = (after.cache_hits - before.cache_hits, after.cache_misses - before.cache_misses);
    hits as f64 / (hits + misses) as f64
}

#[test]
fn random_reads_give_the_same_with_any_budget_and_mode() {
    // R16
    let dir = filled();
    for bytes in [0, 1, 5_000, 100_000, 1 << 20, 1 << 30] {
        for mode in [ReadMode::Positioned, ReadMode::Mapped] {
            let store = options(dir.path()).cache_bytes(bytes).read_mode(mode).open().unwrap();
            for index in draws(bytes + 7).take(3_000) {
                get(&store, 1 + index % ENTRIES);
            }
            assert!(store.get(0).unwrap().is_none() && store.get(ENTRIES + 1).unwrap().is_none());
            assert!(store.stats().cache_bytes <= bytes, "{bytes} bytes: {:?}", store.stats());
            store.close().unwrap();
        }
    }
}

#[test]
fn what_is_asked_for_again_and_again_is_read_from_the_disk_a_few_times_only() {
    let dir = filled();
    let store = options(dir.path()).open().unwrap();
    let all = || draws(3).map(|index| 1 + index % ENTRIES);
    hit_rate(&store, all().take(20_000));
    let warm = hit_rate(&store, all().skip(20_000).take(20_000));
    assert!(warm > 0.99, "{warm}");
    let data = store.segments().iter().map(|segment| segment.bytes).sum::<u64>();
    assert!(store.stats().cache_bytes < data + data / 4, "not more than there is");
    store.close().unwrap();
}

#[test]
fn a_long_scan_does_not_push_out_the_hot_set() {
    let dir = filled();
    // Room for a tenth of the log; the hot set is a twentieth.
    let store = options(dir.path()).cache_bytes(1 << 20).open().unwrap();
    let hot = || draws(11).map(|index| 5_000 + index % (ENTRIES / 20));
    hit_rate(&store, hot().take(20_000));
    let before = hit_rate(&store, hot().take(5_000));
    assert!(before > 0.95, "the hot set is cached: {before}");

    assert_eq!(store.iter().map(|entry| entry.unwrap().index()).sum::<u64>(), ENTRIES * (ENTRIES + 1) / 2);
    assert_eq!(store.iter().rev().count() as u64, ENTRIES);
    assert_eq!(store.log_order().count() as u64, ENTRIES);
    let after = hit_rate(&store, hot().take(5_000));
    assert!(after > 0.95, "after iterators: {after}");

    // Nor does a scan by single reads, each of which asks the cache.
    (1..=ENTRIES).for_each(|index| get(&store, index));
    let after = hit_rate(&store, hot().take(5_000));
    assert!(after > 0.80, "after single reads of everything: {after}");
    // And what it lost comes back.
    hit_rate(&store, hot().take(20_000));
    assert!(hit_rate(&store, hot().take(5_000)) > 0.95);
    store.close().unwrap();
}

#[test]
fn a_new_hot_set_takes_the_place_of_the_old_one() {
    let dir = filled();
    let store = options(dir.path()).cache_bytes(1 << 20).open().unwrap();
    let hot = |from: u64| draws(from).map(move |index| from + index % (ENTRIES / 20));
    hit_rate(&store, hot(1_000).take(200_000));
    assert!(hit_rate(&store, hot(1_000).take(5_000)) > 0.95);
    hit_rate(&store, hot(30_000).take(50_000));
    let new = hit_rate(&store, hot(30_000).take(5_000));
    assert!(new > 0.95, "{new}");
    store.close().unwrap();
}

/// An entry that was found in a cached block shares its memory, and stays what it is when the block is gone.
#[test]
fn entries_outlive_the_blocks_they_were_found_in() {
    let dir = filled();
    let store = options(dir.path()).cache_bytes(200_000).open().unwrap();
    let mut kept = Vec::new();
    for index in (1..ENTRIES).step_by(97) {
        (0..10).for_each(|_| get(&store, index));
        kept.push((index, store.get(index).unwrap().unwrap()));
    }
    store.close().unwrap();
    for (index, entry) in kept {
        assert_eq!(entry.bytes().unwrap(), value(index));
        assert_eq!(entry.detach().bytes().unwrap(), value(index));
    }
}

#[test]
fn a_block_with_damage_is_not_cached_and_its_other_entries_are_read_all_the_same() {
    let dir = filled();
    let store = options(dir.path()).open().unwrap();
    let entry = store.get(20_000).unwrap().unwrap();
    let (position, path) = (entry.position(), store.segments()[entry.position().segment() as usize - 1].path.clone());
    store.close().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[position.offset() as usize + 60] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let store = options(dir.path()).open().unwrap();
    for _ in 0..20 {
        assert!(matches!(store.get(20_000), Err(casklog::Error::Damaged { .. })));
        (19_950..20_000).chain(20_001..20_050).for_each(|index| get(&store, index));
    }
    store.close().unwrap();
}

/// A read of what was just written asks neither the disk nor the cache.
#[test]
fn what_was_just_written_is_read_from_memory() {
    for mapped in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let store = options(dir.path()).mapped(mapped).open().unwrap();
        for index in 1..=2_000u64 {
            store.append_bytes_with(index.to_be_bytes(), value(index), Durability::Written).unwrap();
            get(&store, index);
        }
        assert_eq!((store.stats().cache_hits, store.stats().cache_misses), (0, 0), "mapped: {mapped}");
        store.close().unwrap();
    }
}

/// A block costs many times what a record costs, so that one that is asked for now and then is not loaded.
#[test]
fn a_block_is_loaded_when_it_was_asked_for_several_times() {
    let dir = filled();
    let store = options(dir.path()).open().unwrap();
    let data: u64 = store.segments().iter().map(|segment| segment.bytes).sum();
    let blocks = || (1..ENTRIES).step_by(100);
    (0..3).for_each(|_| blocks().for_each(|index| get(&store, index)));
    let stats = store.stats();
    assert!(stats.cache_bytes < data / 20, "pages of footers at most: {stats:?}");
    assert!(stats.cache_misses > 3 * blocks().count() as u64 / 2, "{stats:?}");
    (0..7).for_each(|_| blocks().for_each(|index| get(&store, index)));
    assert!(store.stats().cache_bytes > data / 2, "{:?}", store.stats());
    store.close().unwrap();
}

/// Whatever is left at the end of a block: nothing, less than a header, a header, the beginning of a record.
#[test]
fn every_block_of_a_hot_log_is_cached_and_only_records_over_two_blocks_are_read_again() {
    for length in 200..216usize {
        let sim = SimFs::new();
        let options = || Options::new("/log").fs(Arc::new(sim.clone())).background(false).sync(SyncPolicy::None);
        let store = options().open().unwrap();
        for index in 1..=1_000 {
            store.write_bytes(index, "k", vec![7; length]).unwrap();
        }
        store.rotate().unwrap();
        let blocks = store.segments()[0].bytes / (32 << 10);
        // The last block is not full of records, so that it is not cached.
        let is_last = |index: &u64| store.get(*index).unwrap().unwrap().position().offset() >= blocks * (32 << 10);
        let last = (1..=1_000).filter(is_last).count() as u64;
        let pass = || {
            let before = sim.calls_of(OpKind::Read);
            (1..=1_000).for_each(|index| assert!(store.get(index).unwrap().is_some()));
            sim.calls_of(OpKind::Read) - before
        };
        (0..10).for_each(|_| _ = pass());
        let reads = pass();
        assert!(reads <= blocks + last, "{length}: {reads} reads, {last} of the last of {blocks} blocks");
        store.close().unwrap();
    }
}
