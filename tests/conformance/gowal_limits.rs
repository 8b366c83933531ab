//! After gowal: thresholds, retention, the shapes of batches, options of zero.

use std::time::Duration;

use casklog::fs::sim::SimFs;
use casklog::{Batch, Error, IndexOrder, Options, SyncPolicy};

use crate::common::*;

fn batch_of(indexes: impl IntoIterator<Item = u64>) -> Batch {
    let mut batch = Batch::new();
    for i in indexes {
        batch.put(i, format!("key {i}"), &format!("value {i}")).unwrap();
    }
    batch
}

#[test]
fn retention_keeps_the_newest_segments() {
    // G06
    for background in [false, true] {
        let dir = dir();
        let options = quick(&dir).background(background);
        let store = options.segment_entries(10).max_segments(2).open().unwrap();
        write_each(&store, 1..=30);
        eventually("retention", || store.segments().len() <= 2);
        assert_holds(&store, 11..=30);
        let segments = store.segments();
        assert_eq!(segments[1].indexes, Some((21, 30)));
        assert_eq!(segments[1].entries, 10);
        assert_eq!(store.stats().segments_removed, 1);
        store.close().unwrap();
        assert!(!names(dir.path()).contains(&format!("segment_{:020}.log", 1)));
        assert_holds(&quick(&dir).open().unwrap(), 11..=30);
    }
}

#[test]
fn an_index_that_retention_freed_may_be_written_again_in_any_order_only() {
    // G06, neighbours
    for order in [IndexOrder::Any, IndexOrder::Increasing, IndexOrder::Sequential] {
        let dir = dir();
        let open = || {
            let options = inline(&dir).segment_entries(5).max_segments(2);
            options.index_order(order).open().unwrap()
        };
        let store = open();
        write_each(&store, 1..=15);
        assert_holds(&store, 6..=15);
        for is_reopened in [false, true] {
            let store = if is_reopened { open() } else { store.clone() };
            let outcome = store.write(3, "key 3", "value 3");
            match order {
                IndexOrder::Any if is_reopened => assert!(matches!(outcome, Err(Error::IndexExists { index: 3 }))),
                IndexOrder::Any => {
                    outcome.unwrap();
                }
                _ => assert!(matches!(outcome, Err(Error::BelowFloor { index: 3, floor: 6 })), "{order}: {outcome:?}"),
            }
            assert_eq!(store.next_index(), Some(16));
            store.close().unwrap();
        }
    }
}

#[test]
fn max_bytes_removes_whole_segments_from_the_old_end() {
    // G06, neighbours
    let dir = dir();
    let store = inline(&dir).segment_bytes(4096).max_bytes(10_000).open().unwrap();
    for i in 1..=100u64 {
        store.write_bytes(i, "k", [7; 200]).unwrap();
    }
    let first = store.first_index().unwrap();
    assert!(first > 1);
    assert_eq!(indexes(&store), (first..=100).collect::<Vec<_>>());
    let bytes: u64 = store.segments().iter().map(|segment| segment.bytes).sum();
    assert!((4096..=14_096).contains(&bytes), "{bytes}");
    assert_eq!(store.segments()[0].indexes.unwrap().0, first);
}

#[test]
fn with_a_threshold_of_one_each_entry_has_a_segment() {
    // G11
    let dir = dir();
    let store = inline(&dir).segment_entries(1).open().unwrap();
    write_each(&store, 1..=5);
    let segments = store.segments();
    assert_eq!(segments.len(), 5);
    for (segment, index) in segments.iter().zip(1..) {
        assert_eq!((segment.indexes, segment.entries), (Some((index, index)), 1));
        assert!(segment.path.is_file());
    }
    let names = names(dir.path());
    let logs = names.iter().filter(|name| name.ends_with(".log")).count();
    assert!((5..=6).contains(&logs), "{names:?}");
    let rest: Vec<_> = names.iter().filter(|name| !name.ends_with(".log")).collect();
    assert_eq!(rest, ["segment_lock", "segment_manifest"]);
}

#[test]
fn a_batch_given_out_of_order_is_written_in_order_and_not_changed() {
    // G16
    let dir = dir();
    let store = quick(&dir).index_order(IndexOrder::Sequential).open().unwrap();
    let batch = batch_of([3, 1, 2]);
    let before = format!("{batch:?}");
    let positions = store.write_batch(&batch).unwrap();
    assert_eq!(format!("{batch:?}"), before);
    assert_holds(&store, 1..=3);
    let written: Vec<u64> = store.log_order().map(|item| item.unwrap().index()).collect();
    assert_eq!(written, [1, 2, 3]);
    for (position, index) in positions.iter().zip([3, 1, 2]) {
        assert_eq!(store.read(*position).unwrap().unwrap().index(), index);
    }
}

#[test]
fn a_batch_that_does_not_follow_the_log_writes_nothing() {
    // G17
    let fs = SimFs::new();
    let store = sim(&fs).index_order(IndexOrder::Sequential).open().unwrap();
    write_each(&store, [1]);
    let ops = fs.ops();
    let error = store.write_batch(&batch_of([3, 4])).unwrap_err();
    assert!(matches!(error, Error::IndexOrder { index: 3, expected: 2, order: IndexOrder::Sequential }), "{error:?}");
    assert_eq!(fs.ops(), ops);
    assert_holds(&store, [1]);
    store.write_batch(&batch_of([2, 3])).unwrap();
    assert_holds(&store, 1..=3);
}

#[test]
fn a_batch_with_a_duplicate_or_a_gap_writes_nothing_and_names_the_offenders() {
    // G18
    let dir = dir();
    let store = quick(&dir).index_order(IndexOrder::Sequential).open().unwrap();
    let error = store.write_batch(&batch_of([1, 2, 2, 3])).unwrap_err();
    assert!(matches!(error, Error::BatchDuplicate { index: 2 }), "{error:?}");
    assert!(error.to_string().contains('2'));
    let error = store.write_batch(&batch_of([1, 2, 5])).unwrap_err();
    assert!(matches!(error, Error::BatchGap { after: 2, index: 5 }), "{error:?}");
    assert!(error.to_string().contains('2') && error.to_string().contains('5'));
    assert!(store.is_empty());
    store.close().unwrap();
    let store = quick(&dir).index_order(IndexOrder::Sequential).open().unwrap();
    assert_holds(&store, []);
    // In any order a gap is legal and a duplicate is not.
    let dir = tempfile::tempdir().unwrap();
    let store = quick(&dir).open().unwrap();
    let error = store.write_batch(&batch_of([7, 1, 7])).unwrap_err();
    assert!(matches!(error, Error::BatchDuplicate { index: 7 }), "{error:?}");
    assert!(store.is_empty());
    store.write_batch(&batch_of([7, 1])).unwrap();
    assert_holds(&store, [1, 7]);
}

#[test]
fn an_empty_batch_costs_nothing() {
    // G19
    let fs = SimFs::new();
    let store = sim(&fs).open().unwrap();
    let calls = fs.calls();
    assert!(store.write_batch(&Batch::new()).unwrap().is_empty());
    assert_eq!(fs.calls(), calls);
    write_each(&store, [1]);
    let calls = fs.calls();
    assert!(store.write_batch(&Batch::new()).unwrap().is_empty());
    let commit = store.submit_batch(&Batch::new()).unwrap();
    assert!(commit.positions().is_empty() && commit.is_durable());
    commit.wait().unwrap();
    assert_eq!(fs.calls(), calls);
}

#[test]
fn batches_of_fifty_and_fifty_one_are_readable() {
    // G23
    let dir = dir();
    let store = quick(&dir).open().unwrap();
    store.write_batch(&batch_of(1..=50)).unwrap();
    store.write_batch(&batch_of(51..=101)).unwrap();
    assert_holds(&store, 1..=101);
}

#[test]
fn a_batch_larger_than_the_segment_threshold_stays_in_one_segment() {
    // G24
    let dir = dir();
    let store = inline(&dir).segment_entries(10).open().unwrap();
    store.write_batch(&batch_of(1..=20)).unwrap();
    assert_eq!(store.segments().len(), 1, "a batch is never split");
    write_each(&store, [21]);
    let entries: Vec<u64> = store.segments().iter().map(|segment| segment.entries).collect();
    assert_eq!(entries, [20, 1]);
    assert_holds(&store, 1..=21);
    store.close().unwrap();
    assert_holds(&inline(&dir).open().unwrap(), 1..=21);
}

#[test]
fn zero_is_refused_by_name_for_every_limit() {
    // G30
    let dir = dir();
    let base = || quick(&dir);
    let cases = [
        ("segment_bytes", base().segment_bytes(0)),
        ("segment_entries", base().segment_entries(0)),
        ("segment_age", base().segment_age(Duration::ZERO)),
        ("max_segments", base().max_segments(0)),
        ("max_bytes", base().max_bytes(0)),
        ("max_age", base().max_age(Duration::ZERO)),
        ("record_bytes_max", base().record_bytes_max(0)),
        ("batch_bytes_max", base().batch_bytes_max(0)),
        ("undurable_bytes_max", base().undurable_bytes_max(0)),
        ("max_open_files", base().max_open_files(0)),
    ];
    for (name, options) in cases {
        match options.open() {
            Err(error @ Error::InvalidOption { option, .. }) => {
                assert_eq!(option, name);
                assert!(error.to_string().contains(name));
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    for (entries, bytes, every) in [(0, 1, 1), (1, 0, 1), (1, 1, 0)] {
        let every = Duration::from_secs(every);
        let policy = SyncPolicy::Periodic { every, entries, bytes };
        let outcome = base().sync(policy).open();
        assert!(matches!(outcome, Err(Error::InvalidOption { option: "sync", .. })));
    }
    assert!(names(dir.path()).is_empty(), "nothing is created by options that cannot work");
    // A window of zero and no alignment are what they say.
    let policy = SyncPolicy::Grouped { window: Duration::ZERO };
    let store = Options::new(dir.path()).sync(policy).sync_align(0).open().unwrap();
    write_each(&store, 1..=3);
    assert_holds(&store, 1..=3);
}
