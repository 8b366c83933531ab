//! Power cuts at every operation.

use casklog::fs::sim::{Fate, SimFs};
use casklog::{Batch, Durability, Options, Store, SyncPolicy};

use crate::common::*;

/// Writes that were acknowledged as durable: when, in operations of the disk, and what.
type Acknowledged = Vec<(usize, u64)>;

/// Cuts the power before every operation of a workload and reopens what may be found; then writes on and cuts it again.
/// `check` learns of the entry that was written in between.
fn cut_everywhere(
    fs: &SimFs,
    options: impl Fn(&SimFs) -> Options,
    check: impl Fn(&Store, usize, &str, Option<u64>),
) -> usize {
    let mut states = 0;
    for op in 0..=fs.ops() {
        for found in fs.crash_images(op, 10, op as u64) {
            let place = format!("before op {op}, {}: {}", fs.op_name(op), found.origin());
            let store = options(&found).open().unwrap_or_else(|error| panic!("{place}: {error}"));
            assert!(!store.recovery_report().is_damaged(), "{place}");
            check(&store, op, &place, None);
            let next = store.next_index().unwrap();
            store
                .write(next, format!("key {next}"), &format!("value {next}"))
                .unwrap_or_else(|error| panic!("{place}: cannot go on: {error:?}"));
            // A second cut right behind the write.
            let again = found.crash_at(found.ops(), &mut |_| Fate::Lost);
            let again = options(&again).open().unwrap();
            assert_entry(&again, next);
            check(&again, op, &place, Some(next));
            states += 1;
        }
    }
    states
}

/// All that was acknowledged is there, in order, once, with nothing made up.
fn check_all(store: &Store, op: usize, acknowledged: &Acknowledged, place: &str) {
    let found = indexes(store);
    assert!(found.is_sorted_by(|a, b| a < b), "{place}: {found:?}");
    for index in acknowledged.iter().filter(|(at, _)| *at <= op).map(|(_, index)| index) {
        assert!(found.contains(index), "{place}: {index} was acknowledged, found {found:?}");
    }
    found.iter().for_each(|index| assert_entry(store, *index));
    // What was written in order is lost from the end only.
    assert!(found.iter().copied().eq(1..=found.len() as u64), "{place}: {found:?}");
}

#[test]
fn acknowledged_writes_survive_a_power_cut_at_any_operation() {
    // X08
    for preallocate in [true, false] {
        let options = |fs: &SimFs| sim(fs).segment_entries(3).segment_bytes(8 << 10).preallocate(preallocate);
        let fs = SimFs::new();
        let store = options(&fs).open().unwrap();
        let mut acknowledged = Vec::new();
        for i in 1..=8 {
            write_each(&store, [i]);
            acknowledged.push((fs.ops(), i));
        }
        store.close().unwrap();
        let store = options(&fs).open().unwrap();
        write_each(&store, [9]);
        acknowledged.push((fs.ops(), 9));
        drop(store);
        let states = cut_everywhere(&fs, options, |store, op, place, _| check_all(store, op, &acknowledged, place));
        assert!(states > 200, "{states}");
    }
}

#[test]
fn without_a_sync_a_power_cut_takes_from_the_end_only() {
    // X08
    for mapped in [true, false] {
        let options = |fs: &SimFs| sim(fs).segment_entries(3).segment_bytes(8 << 10).mapped(mapped);
        let fs = SimFs::new();
        let store = options(&fs).sync(SyncPolicy::None).open().unwrap();
        let mut acknowledged = Vec::new();
        for i in 1..=10u64 {
            let durability = if i % 4 == 0 { Durability::Synced } else { Durability::Policy };
            store.write_with(i, format!("key {i}"), &format!("value {i}"), durability).unwrap();
            if durability == Durability::Synced {
                acknowledged.extend((i - 3..=i).map(|i| (fs.ops(), i)));
            }
        }
        store.rotate().unwrap();
        acknowledged.extend((1..=10).map(|i| (fs.ops(), i)));
        cut_everywhere(&fs, options, |store, op, place, _| check_all(store, op, &acknowledged, place));
    }
}

#[test]
fn a_batch_is_whole_or_absent_after_a_power_cut_at_any_operation() {
    // X08, X11
    let options = |fs: &SimFs| sim(fs).segment_entries(4).segment_bytes(8 << 10);
    let fs = SimFs::new();
    let store = options(&fs).open().unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..4u64 {
        let mut batch = Batch::new();
        for i in round * 3 + 1..=round * 3 + 3 {
            batch.put(i, format!("key {i}"), &format!("value {i}")).unwrap();
        }
        batch.put_meta("round", round.to_string());
        store.write_batch(&batch).unwrap();
        acknowledged.extend((round * 3 + 1..=round * 3 + 3).map(|i| (fs.ops(), i)));
    }
    cut_everywhere(&fs, options, |store, op, place, probe| {
        check_all(store, op, &acknowledged, place);
        let entries = store.len() - u64::from(probe.is_some());
        assert_eq!(entries % 3, 0, "{place}: {entries} entries");
        let expected = (entries / 3).checked_sub(1).map(|round| round.to_string().into_bytes());
        assert_eq!(store.meta("round"), expected, "{place}");
    });
}

#[test]
fn retention_never_opens_a_gap_whenever_the_power_goes() {
    // X08
    let options = |fs: &SimFs| sim(fs).segment_entries(3).segment_bytes(8 << 10).max_segments(2);
    let fs = SimFs::new();
    let store = options(&fs).open().unwrap();
    let mut acknowledged = Vec::new();
    for i in 1..=11 {
        write_each(&store, [i]);
        acknowledged.push((fs.ops(), i));
    }
    drop(store);
    cut_everywhere(&fs, options, |store, op, place, _| {
        let found = indexes(store);
        let last = acknowledged.iter().filter(|(at, _)| *at <= op).map(|(_, i)| *i).max();
        let Some(last) = last else { return };
        let first = *found.first().unwrap_or_else(|| panic!("{place}: empty"));
        assert!(*found.last().unwrap() >= last, "{place}: {last} was acknowledged, found {found:?}");
        assert!(found.iter().copied().eq(first..first + found.len() as u64), "{place}: {found:?}");
        assert_eq!(first % 3, 1, "{place}: a segment goes as a whole: {found:?}");
        // The head of the third segment takes the first segment with it.
        let newest = *found.last().unwrap();
        assert!(first <= newest.saturating_sub(2).max(1), "{place}: too much went: {found:?}");
        found.iter().for_each(|index| assert_entry(store, *index));
    });
}

#[test]
fn truncations_and_deletions_that_were_acknowledged_stay_in_force() {
    // X08
    let options = |fs: &SimFs| sim(fs).segment_entries(4).segment_bytes(8 << 10);
    let fs = SimFs::new();
    let store = options(&fs).open().unwrap();
    write_each(&store, 1..=10);
    store.delete(7).unwrap();
    let deleted = fs.ops();
    store.truncate_before(6).unwrap();
    let before = fs.ops();
    store.truncate_after(8).unwrap();
    let after = fs.ops();
    write_each(&store, [9]);
    let written = fs.ops();
    store.reset_to(20).unwrap();
    let reset = fs.ops();
    drop(store);
    cut_everywhere(&fs, options, |store, op, place, probe| {
        let found: Vec<u64> = indexes(store).into_iter().filter(|index| Some(*index) != probe).collect();
        let has = |index| found.contains(&index);
        assert!(op < deleted || !has(7), "{place}: {found:?}");
        assert!(op < before || found.iter().all(|index| *index >= 6), "{place}: {found:?}");
        assert!(op < after || !has(10), "{place}: {found:?}");
        assert!(op != written || has(9), "{place}: {found:?}");
        assert!(op < reset || found.iter().all(|index| *index >= 20), "{place}: {found:?}");
    });
}

#[test]
fn after_a_clean_close_open_reads_the_last_segment_only() {
    // X15
    let fs = SimFs::new();
    let open = || sim(&fs).sync(SyncPolicy::None).segment_bytes(64 << 10).open().unwrap();
    let store = open();
    for i in 0..20_000u64 {
        store.write_bytes(i, "k", [7; 100]).unwrap();
    }
    let (bytes, segments) = (store.stats().bytes_written, store.segments());
    assert!(segments.len() > 4);
    store.close().unwrap();
    let store = open();
    let report = store.recovery_report();
    assert!(report.is_clean && report.footers_missing.is_empty());
    assert!(report.scanned_bytes <= 64 << 10, "{report:?}\n{:?}", store.segments());
    assert_eq!(store.len(), 20_000);
    assert!(store.stats().index_bytes < bytes / 10, "{}", store.stats().index_bytes);
}
