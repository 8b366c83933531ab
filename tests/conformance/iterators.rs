//! Iterators held open while the log changes under them.

use casklog::fs::sim::SimFs;
use casklog::{Error, Store};

use crate::common::*;

fn filled(entries: u64) -> (SimFs, Store) {
    let fs = SimFs::new();
    let store = sim(&fs).segment_entries(4).open().unwrap();
    write_each(&store, 1..=entries);
    (fs, store)
}

#[test]
fn an_iterator_does_not_see_what_is_written_or_deleted_later() {
    // G05, neighbours
    let (_fs, store) = filled(10);
    let mut iter = store.iter();
    let order = store.log_order();
    assert_eq!(iter.next().unwrap().unwrap().index(), 1);
    write_each(&store, 11..=20);
    store.delete(5).unwrap();
    store.delete(10).unwrap();
    store.rotate().unwrap();
    let seen: Vec<u64> = iter.map(|entry| entry.unwrap().index()).collect();
    assert_eq!(seen, (2..=10).collect::<Vec<_>>());
    assert_eq!(order.map(|item| item.unwrap().index()).collect::<Vec<_>>(), (1..=10).collect::<Vec<_>>());
    assert_eq!(store.len(), 18);
}

/// Records of one fragment and of several, in batches, with deletions between them, sealed and not: entries that borrow are
/// the same as those that do not, also when both kinds are asked for in turn.
#[test]
fn entries_that_borrow_are_those_that_do_not() {
    // G05, neighbours
    type Seen = (u64, casklog::Position, bool, Vec<u8>, Vec<u8>);
    let seen = |entry: casklog::EntryRef<'_>| -> Seen {
        let (key, value) = (entry.key().to_vec(), entry.raw_value().to_vec());
        (entry.index(), entry.position(), entry.is_durable(), key, value)
    };
    let fs = SimFs::new();
    let store = sim(&fs).segment_entries(700).open().unwrap();
    for index in 1..=2000_u64 {
        let length = if index % 97 == 0 { 40_000 } else { index as usize % 300 };
        store.write_bytes(index, [index as u8; 3], vec![index as u8; length]).unwrap();
        if index % 7 == 0 {
            store.delete(index - 3).unwrap();
        }
    }
    for mode in [casklog::ReadMode::Positioned, casklog::ReadMode::Mapped] {
        let reader = sim(&fs).read_mode(mode).open_read_only().unwrap();
        let owned: Vec<Seen> = reader.iter().map(|entry| seen(entry.unwrap().as_ref())).collect();
        assert_eq!(owned.len() as u64, reader.len());
        for owns_every in [u64::MAX, 2, 3, 100] {
            let (mut iter, mut found) = (reader.iter(), Vec::new());
            for number in 1.. {
                if number % owns_every == 0 {
                    let Some(entry) = iter.next() else { break };
                    found.push(seen(entry.unwrap().as_ref()));
                } else {
                    let Some(entry) = iter.next_ref() else { break };
                    found.push(seen(entry.unwrap()));
                }
            }
            assert!(found == owned, "{mode:?}, every {owns_every}");
        }
    }
}

#[test]
fn both_ends_of_an_iterator_meet_once() {
    // G05, neighbours
    let (_fs, store) = filled(9);
    store.delete(5).unwrap();
    let mut iter = store.iter();
    let mut seen = Vec::new();
    while let Some(entry) = iter.next() {
        seen.push(entry.unwrap().index());
        if let Some(entry) = iter.next_back() {
            seen.push(entry.unwrap().index());
        }
    }
    assert_eq!(seen, [1, 9, 2, 8, 3, 7, 4, 6]);
    assert!(iter.next_back().is_none());
    let of = |range: (std::ops::Bound<u64>, std::ops::Bound<u64>)| -> Vec<u64> {
        store.range(range).map(|entry| entry.unwrap().index()).collect()
    };
    use std::ops::Bound::{Excluded, Included, Unbounded};
    assert_eq!(of((Excluded(3), Excluded(7))), [4, 6]);
    assert_eq!(of((Included(3), Included(3))), [3]);
    assert_eq!(of((Included(5), Included(5))), []);
    assert_eq!(of((Excluded(u64::MAX), Unbounded)), []);
    assert_eq!(of((Unbounded, Excluded(0))), []);
    assert_eq!(of((Included(7), Included(3))), []);
}

#[test]
fn an_iterator_whose_entries_are_truncated_ends_with_an_error() {
    // G05, neighbours
    type Cut = fn(&Store);
    let cuts: [(&str, Cut); 3] = [
        ("after", |store| store.truncate_after(6).unwrap()),
        ("before", |store| store.truncate_before(6).unwrap()),
        ("reset", |store| store.reset_to(1).unwrap()),
    ];
    for (how, cut) in cuts {
        let (_fs, store) = filled(10);
        let mut iter = store.iter();
        let mut order = store.log_order();
        let mut backwards = store.iter().rev();
        for _ in 0..2 {
            iter.next().unwrap().unwrap();
            order.next().unwrap().unwrap();
            backwards.next().unwrap().unwrap();
        }
        cut(&store);
        write_each(&store, store.next_index().unwrap()..=20);
        // Each hands out at most what it had left, and the last word is the error.
        let items: [(&str, Vec<_>); 3] = [
            ("iter", iter.map(|item| item.map(|entry| entry.index())).collect()),
            ("log_order", order.map(|item| item.map(|item| item.index())).collect()),
            ("rev", backwards.map(|item| item.map(|entry| entry.index())).collect()),
        ];
        for (which, items) in items {
            let (last, good) = items.split_last().unwrap();
            assert!(matches!(last, Err(Error::Truncated | Error::Removed { .. })), "{how} {which}: {items:?}");
            assert!(good.iter().all(|item| matches!(item, Ok(1..=10))), "{how} {which}: {items:?}");
        }
    }
}

#[test]
fn an_iterator_that_has_passed_what_is_truncated_goes_on() {
    // G05, neighbours
    let (_fs, store) = filled(10);
    let mut iter = store.iter();
    iter.by_ref().take(6).for_each(|entry| drop(entry.unwrap()));
    store.truncate_before(7).unwrap();
    assert_eq!(iter.map(|entry| entry.unwrap().index()).collect::<Vec<_>>(), [7, 8, 9, 10]);
    let mut iter = store.range(..=9);
    store.truncate_after(9).unwrap();
    assert_eq!(iter.next().unwrap().unwrap().index(), 7);
    assert_eq!(iter.map(|entry| entry.unwrap().index()).collect::<Vec<_>>(), [8, 9]);
}

#[test]
fn an_iterator_whose_segments_are_retired_ends_with_the_first_index_left() {
    // G05, neighbours
    let fs = SimFs::new();
    let store = sim(&fs).segment_entries(4).max_segments(3).open().unwrap();
    write_each(&store, 1..=12);
    let mut iter = store.iter();
    let mut order = store.log_order();
    iter.next().unwrap().unwrap();
    order.next().unwrap().unwrap();
    write_each(&store, 13..=24);
    assert_eq!(store.first_index(), Some(13));
    let items: Vec<_> = iter.map(|item| item.map(|entry| entry.index())).collect();
    assert!(matches!(items.last(), Some(Err(Error::Removed { first: Some(13) }))), "{items:?}");
    let items: Vec<_> = order.map(|item| item.map(|item| item.index())).collect();
    assert!(matches!(items.last(), Some(Err(Error::Removed { first: Some(13) }))), "{items:?}");
    assert_holds(&store, 13..=24);
}

#[test]
fn log_order_goes_on_from_a_position() {
    // R13, neighbours
    let (_fs, store) = filled(10);
    store.delete(3).unwrap();
    let items: Vec<_> = store.log_order().map(Result::unwrap).collect();
    assert!(items.is_sorted_by(|a, b| a.position() < b.position()));
    for (place, item) in items.iter().enumerate() {
        let rest: Vec<_> = store.iter_from(item.position()).unwrap().map(|item| item.unwrap().position()).collect();
        assert!(rest.iter().copied().eq(items[place..].iter().map(|item| item.position())));
    }
    let tail = store.stats().tail;
    assert_eq!(store.iter_from(tail).unwrap().count(), 0);
}

#[test]
fn iterators_may_outlive_the_handle_they_came_from() {
    // X17, neighbours
    let dir = dir();
    let store = quick(&dir).open().unwrap();
    write_each(&store, 1..=3);
    let mut iter = store.iter();
    store.close().unwrap();
    drop(store);
    assert!(matches!(iter.next(), Some(Err(Error::Closed))));
    assert!(iter.next().is_none());
    assert_holds(&quick(&dir).open().unwrap(), 1..=3);
}

#[test]
fn behind_a_truncation_nothing_that_was_lost_is_told() {
    // G05, neighbours
    let (fs, store) = filled(12);
    store.close().unwrap();
    fs.remove_file(&sim_segment(2));
    let store = sim(&fs).recovery(casklog::RecoveryMode::Salvage).open().unwrap();
    let mut iter = store.iter();
    assert_eq!(iter.next().unwrap().unwrap().index(), 1);
    store.reset_to(1).unwrap();
    assert!(matches!(iter.next(), Some(Err(Error::Truncated))));
    assert!(iter.next().is_none());
}
