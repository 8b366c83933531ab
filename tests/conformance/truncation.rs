//! Truncation from either end, and the floor it leaves.

use casklog::fs::sim::SimFs;
use casklog::{Error, IndexOrder, Store};

use crate::common::*;

/// Runs a check on the store as it is, as a killed process leaves it, and after close and reopen.
fn in_every_state(fs: &SimFs, store: Store, check: impl Fn(&Store)) -> Store {
    check(&store);
    check(&sim(&fs.killed()).segment_entries(4).open().unwrap());
    store.close().unwrap();
    let store = sim(fs).segment_entries(4).open().unwrap();
    check(&store);
    store
}

fn filled() -> (SimFs, Store) {
    let fs = SimFs::new();
    let store = sim(&fs).segment_entries(4).open().unwrap();
    write_each(&store, 1..=10);
    (fs, store)
}

#[test]
fn truncate_before_keeps_its_index_frees_segments_and_raises_the_floor() {
    // B11, neighbours
    let (fs, store) = filled();
    store.truncate_before(6).unwrap();
    let store = in_every_state(&fs, store, |store| {
        assert_holds(store, 6..=10);
        assert_eq!(store.segments()[0].indexes, Some((6, 8)));
        for index in [0, 1, 5] {
            assert!(
                matches!(store.write(index, "k", "v"), Err(Error::BelowFloor { index: i, floor: 6 }) if i == index)
            );
            assert!(!store.delete(index).unwrap());
        }
        assert!(matches!(store.write(6, "k", "v"), Err(Error::IndexExists { index: 6 })));
    });
    assert!(!fs.list_all().contains(&sim_segment(1)), "the file is gone");
    let ops = fs.ops();
    store.truncate_before(6).unwrap();
    store.truncate_before(3).unwrap();
    store.truncate_before(0).unwrap();
    assert_eq!(fs.ops(), ops, "what is below the floor already costs nothing");
    assert_holds(&store, 6..=10);
}

#[test]
fn truncate_before_past_the_end_empties_the_log_and_moves_on() {
    // R17, neighbours
    for index in [11u64, 12, 500] {
        let (fs, store) = filled();
        store.truncate_before(index).unwrap();
        let store = in_every_state(&fs, store, |store| {
            assert_holds(store, []);
            assert_eq!(store.next_index(), Some(index));
            assert!(matches!(store.write(index - 1, "k", "v"), Err(Error::BelowFloor { .. })));
        });
        assert_eq!(store.append(format!("key {index}"), &format!("value {index}")).unwrap().index, index);
        in_every_state(&fs, store, |store| assert_holds(store, [index]));
    }
    let fs = SimFs::new();
    let store = sim(&fs).open().unwrap();
    store.truncate_before(7).unwrap();
    let store = in_every_state(&fs, store, |store| assert_eq!(store.next_index(), Some(7)));
    assert!(matches!(store.write(6, "k", "v"), Err(Error::BelowFloor { index: 6, floor: 7 })));
}

#[test]
fn truncate_after_keeps_its_index_and_frees_those_above() {
    // R17, neighbours
    for last in [0u64, 1, 3, 4, 5, 8, 9] {
        let (fs, store) = filled();
        store.delete(7).unwrap();
        store.truncate_after(last).unwrap();
        let expected = || (1..=last).filter(|index| *index != 7);
        let store = in_every_state(&fs, store, |store| {
            assert_holds(store, expected());
            assert_eq!(store.next_index(), Some(last + 1));
        });
        write_each(&store, last + 1..=12);
        in_every_state(&fs, store, |store| {
            assert_holds(store, (1..=12).filter(|index| *index != 7 || last < 7));
        });
    }
}

#[test]
fn truncate_after_at_or_beyond_the_end_does_nothing() {
    // R17, neighbours
    let (fs, store) = filled();
    let ops = fs.ops();
    for index in [10, 11, 1000, u64::MAX] {
        store.truncate_after(index).unwrap();
    }
    assert_eq!(fs.ops(), ops);
    assert_holds(&store, 1..=10);
    assert_eq!(store.next_index(), Some(11));
    let empty = sim(&SimFs::new()).open().unwrap();
    empty.truncate_after(5).unwrap();
    assert_eq!(empty.next_index(), Some(1));
}

#[test]
fn truncate_after_below_the_floor_is_refused() {
    // R17, neighbours
    let (fs, store) = filled();
    store.truncate_before(6).unwrap();
    for index in [0, 3, 4] {
        let outcome = store.truncate_after(index);
        assert!(matches!(outcome, Err(Error::BelowFloor { floor: 6, .. })), "{index}: {outcome:?}");
    }
    assert_holds(&store, 6..=10);
    store.truncate_after(5).unwrap();
    in_every_state(&fs, store, |store| {
        assert_holds(store, []);
        assert_eq!(store.next_index(), Some(6));
    });
}

#[test]
fn reset_empties_the_log_moves_it_in_either_direction_and_keeps_metadata() {
    // R17, neighbours
    for to in [0u64, 1, 5, 11, 1000] {
        let (fs, store) = filled();
        store.put_meta("vote", "7").unwrap();
        store.truncate_before(4).unwrap();
        store.reset_to(to).unwrap();
        let store = in_every_state(&fs, store, |store| {
            assert_holds(store, []);
            assert_eq!(store.next_index(), Some(to));
            assert_eq!(store.meta("vote").unwrap(), b"7");
            if let Some(below) = to.checked_sub(1) {
                assert!(matches!(store.write(below, "k", "v"), Err(Error::BelowFloor { .. })));
            }
        });
        write_each(&store, to..to + 6);
        in_every_state(&fs, store, |store| assert_holds(store, to..to + 6));
    }
}

#[test]
fn what_one_truncation_took_does_not_come_back_with_the_next() {
    // R17, neighbours
    let (fs, store) = filled();
    store.truncate_after(5).unwrap();
    write_each(&store, 6..=9);
    store.truncate_after(7).unwrap();
    write_each(&store, 8..=12);
    store.truncate_before(3).unwrap();
    store.truncate_after(11).unwrap();
    let store = in_every_state(&fs, store, |store| {
        assert_holds(store, 3..=11);
        assert_eq!(store.log_order().count(), 9, "what was truncated is left out");
    });
    store.rotate().unwrap();
    store.truncate_after(4).unwrap();
    store.rotate().unwrap();
    write_each(&store, 5..=6);
    in_every_state(&fs, store, |store| assert_holds(store, 3..=6));
}

#[test]
fn a_sequential_log_goes_on_behind_a_truncation() {
    // G03, neighbours
    let fs = SimFs::new();
    let open = || sim(&fs).index_order(IndexOrder::Sequential).open().unwrap();
    let store = open();
    write_each(&store, 1..=5);
    store.truncate_after(3).unwrap();
    assert!(matches!(store.write(6, "k", "v"), Err(Error::IndexOrder { expected: 4, .. })));
    write_each(&store, [4]);
    store.truncate_before(100).unwrap();
    store.close().unwrap();
    let store = open();
    assert!(matches!(store.write(5, "k", "v"), Err(Error::BelowFloor { .. })));
    assert!(matches!(store.write(101, "k", "v"), Err(Error::IndexOrder { expected: 100, .. })));
    write_each(&store, [100]);
    assert_holds(&store, [100]);
}
