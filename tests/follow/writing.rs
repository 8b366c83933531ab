//! In the process that writes: everything once, in log order, from where it was asked for.

use std::sync::Arc;
use std::thread;

use casklog::fs::sim::SimFs;
use casklog::{Batch, Follow, IndexOrder, LogItem, Options, Position, Store, SyncPolicy};

use crate::common::{Seen, all, eventually, inline, next, puts, take, there, threaded, write};

const ORDERS: [IndexOrder; 3] = [IndexOrder::Any, IndexOrder::Increasing, IndexOrder::Sequential];

#[test]
fn what_is_there_comes_and_then_what_is_written() {
    for order in ORDERS {
        for (from, first) in [(0, 1), (1, 1), (7, 7), (10, 10), (11, 11), (25, 25), (26, 26), (40, 40), (61, 61)] {
            let store = inline(&SimFs::new()).segment_entries(10).index_order(order).open().unwrap();
            write(&store, 1..=25, 1);
            let mut follow = store.follow(from).unwrap();
            assert_eq!(there(&mut follow), puts(first..=25, 1), "{order} from {from}");
            for index in 26..=60 {
                write(&store, index..=index, 1);
                let expected = if index < from { vec![] } else { puts(index..=index, 1) };
                assert_eq!(there(&mut follow), expected, "{order} from {from}");
            }
            assert_eq!(there(&mut store.follow(from).unwrap()), puts(first..=60, 1), "{order} from {from}");
            store.rotate().unwrap();
            write(&store, 61..=62, 1);
            assert_eq!(there(&mut follow), puts(61..=62, 1), "{order} from {from}");
            assert!(format!("{follow:?}").contains("Follow"));
            store.close().unwrap();
        }
    }
}

#[test]
fn indexes_out_of_order_come_in_the_order_in_which_they_were_written() {
    let store = inline(&SimFs::new()).segment_entries(4).open().unwrap();
    let written = [50, 3, 20, 7, 8, 100, 1, 21, 22, 2, 60, 9, 10];
    written.iter().for_each(|index| write(&store, *index..=*index, 1));
    for from in [0, 1, 8, 10, 22, 60, 101] {
        let expected: Vec<_> = written.iter().filter(|index| **index >= from).map(|i| Seen::Put(*i, 1)).collect();
        let mut follow = store.follow(from).unwrap();
        assert_eq!(there(&mut follow), expected, "from {from}");
    }
    let mut follow = store.follow(20).unwrap();
    let before = there(&mut follow).len();
    assert_eq!(before, 6);
    [5, 23, 6, 99].iter().for_each(|index| write(&store, *index..=*index, 2));
    assert_eq!(there(&mut follow), [Seen::Put(23, 2), Seen::Put(99, 2)]);
}

fn batch(indexes: std::ops::RangeInclusive<u64>) -> Batch {
    let mut batch = Batch::new();
    for index in indexes {
        batch.put(index, "key", &1u64).unwrap();
    }
    batch
}

#[test]
fn a_start_in_the_middle_of_a_batch_leaves_out_its_beginning() {
    for order in ORDERS {
        let store = inline(&SimFs::new()).segment_entries(10).index_order(order).open().unwrap();
        for first in [1, 8, 15, 22] {
            store.write_batch(&batch(first..=first + 6)).unwrap();
        }
        assert!(store.segments().len() > 1);
        for from in 0..=29 {
            let mut follow = store.follow(from).unwrap();
            assert_eq!(there(&mut follow), puts(from.max(1)..=28, 1), "{order} from {from}");
            if from == 0 {
                store.rotate().unwrap();
            }
        }
    }
}

#[test]
fn deletions_are_items_where_they_stand() {
    for order in ORDERS {
        let store = inline(&SimFs::new()).segment_entries(5).index_order(order).open().unwrap();
        write(&store, 1..=7, 1);
        let mut follow = store.follow(3).unwrap();
        assert_eq!(take(&mut follow, 3), puts(3..=5, 1));
        store.delete(2).unwrap();
        store.delete(4).unwrap();
        store.delete(7).unwrap();
        let mut changes = batch(8..=9);
        changes.delete(5).put_meta("name", b"value");
        store.write_batch(&changes).unwrap();
        let rest = [puts(6..=7, 1), vec![Seen::Deleted(4), Seen::Deleted(7)], puts(8..=9, 1), vec![Seen::Deleted(5)]];
        assert_eq!(there(&mut follow), rest.concat(), "{order}");
        let mut later = store.follow(3).unwrap();
        assert_eq!(there(&mut later), [puts(3..=5, 1), rest.concat()].concat(), "{order}");
        let keys = store.follow(3).unwrap().take(10).filter_map(|item| match item.unwrap() {
            LogItem::Deleted { key, .. } => Some(key),
            _ => None,
        });
        assert_eq!(keys.collect::<Vec<_>>(), vec![b"key".to_vec(); 3]);
    }
}

#[test]
fn records_of_many_blocks_come_whole() {
    const LENGTHS: [usize; 7] = [0, 1, 32 << 10, 100_000, 3, 300_000, 1 << 20];
    let store = inline(&SimFs::new()).segment_bytes(1 << 20).open().unwrap();
    let value = |index: u64| vec![index as u8; LENGTHS[index as usize % LENGTHS.len()]];
    let mut follow = store.follow(0).unwrap();
    let mut read = |upto: u64, from: &mut u64| {
        while *from <= upto {
            let Ok(Some(LogItem::Entry(entry))) = follow.try_next() else { panic!("entry {from}") };
            assert_eq!(entry.index(), *from);
            assert!(entry.bytes().unwrap() == value(*from), "entry {from}");
            *from += 1;
        }
        assert!(follow.try_next().unwrap().is_none());
    };
    let mut from = 1;
    for index in 1..=40 {
        store.write_bytes(index, "key", value(index)).unwrap();
        if index % 3 == 0 {
            read(index, &mut from);
        }
    }
    read(40, &mut from);
    assert!(store.segments().len() > 3);
}

#[test]
fn a_log_that_was_reopened_is_followed_across_its_segments() {
    let sim = SimFs::new();
    for round in 0..6u64 {
        let store = inline(&sim).segment_entries(10).open().unwrap();
        let mut follow = store.follow(0).unwrap();
        assert_eq!(there(&mut follow), puts(1..=round * 7, 1));
        write(&store, round * 7 + 1..=round * 7 + 7, 1);
        assert_eq!(there(&mut follow), puts(round * 7 + 1..=round * 7 + 7, 1));
        if round % 2 == 0 {
            store.close().unwrap();
        }
    }
    // After a crash, too: the log goes on behind a record that says so.
    let store = inline(&sim.killed()).segment_entries(10).open().unwrap();
    let mut follow = store.follow(20).unwrap();
    write(&store, 43..=44, 1);
    assert_eq!(there(&mut follow), puts(20..=44, 1));
}

/// One writer, two followers from different places, while segments rotate, are sealed and go.
fn everything_once(options: Options, order: IndexOrder) {
    const ENTRIES: u64 = 2500;
    let store = options.segment_entries(16).index_order(order).open().unwrap();
    write(&store, 1..=100, 1);
    let follow = |from: u64, mut follow: Follow| {
        move || {
            let mut last = Position::default();
            for index in from..=ENTRIES {
                match follow.next().unwrap().unwrap() {
                    LogItem::Entry(entry) => {
                        assert_eq!(entry.index(), index);
                        assert!(entry.position() > last);
                        last = entry.position();
                    }
                    other => panic!("{other:?}"),
                }
            }
            assert!(follow.try_next().unwrap().is_none());
        }
    };
    thread::scope(|scope| {
        scope.spawn(follow(1, store.follow(1).unwrap()));
        scope.spawn(follow(57, store.follow(57).unwrap()));
        scope.spawn(|| {
            let mut index = 101;
            while index <= ENTRIES {
                let last = (index + index % 5).min(ENTRIES);
                if last == index {
                    write(&store, index..=index, 1);
                } else {
                    store.write_batch(&batch(index..=last)).unwrap();
                }
                index = last + 1;
            }
        });
    });
    assert!(store.segments().len() > 100);
    store.close().unwrap();
}

#[test]
fn two_followers_beside_a_writer_get_everything_once() {
    for order in ORDERS {
        everything_once(threaded(&SimFs::new()), order);
    }
}

#[test]
fn two_followers_beside_a_writer_get_everything_once_from_the_disk() {
    for mapped in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        everything_once(Options::new(dir.path()).sync(SyncPolicy::None).mapped(mapped), IndexOrder::Any);
    }
}

/// Truncations race with two followers. Whatever each was told, put together it must be the log.
#[test]
fn what_a_follower_was_told_is_the_log_whatever_was_truncated_meanwhile() {
    let store: Store = threaded(&SimFs::new()).segment_entries(16).open().unwrap();
    let end = 1_000_000;
    let mirror = |mut follow: Follow| {
        move || {
            let mut entries = std::collections::BTreeMap::new();
            loop {
                match next(&mut follow) {
                    Seen::Put(index, _) if index == end => return entries,
                    Seen::Put(index, value) => assert_eq!(entries.insert(index, value), None, "{index} comes twice"),
                    Seen::Gone(gone) => entries.retain(|index, _| !gone.contains(index)),
                    Seen::Deleted(index) => assert!(entries.remove(&index).is_some(), "{index} was not there"),
                    other => panic!("{other:?}"),
                }
            }
        }
    };
    let followers: Vec<_> = (0..2).map(|_| thread::spawn(mirror(store.follow(0).unwrap()))).collect();
    for round in 1..=300u64 {
        let next = store.next_index().unwrap();
        write(&store, next..=next + 11, round);
        match round % 7 {
            0 => store.truncate_before(next).unwrap(),
            1 | 4 => store.truncate_after(next + 3).unwrap(),
            2 if next > 30 => store.truncate_after(next - 15).unwrap(),
            3 => drop(store.delete(next + 5).unwrap()),
            5 if round % 5 == 0 => store.reset_to(round).unwrap(),
            _ => {}
        }
    }
    write(&store, end..=end, 1);
    let expected: std::collections::BTreeMap<u64, u64> = store
        .iter()
        .map(|entry| entry.map(|entry| (entry.index(), entry.value().unwrap())).unwrap())
        .filter(|(index, _)| *index != end)
        .collect();
    for follower in followers {
        assert_eq!(follower.join().unwrap(), expected);
    }
    store.close().unwrap();
}

/// The same with retention that is faster than its followers: the error it ends with is the one that says so.
#[test]
fn a_follower_that_is_too_slow_ends_with_one_error_only() {
    let dir = tempfile::tempdir().unwrap();
    let options = || Options::new(dir.path()).sync(SyncPolicy::None).segment_entries(8).max_segments(2);
    let store = options().open().unwrap();
    write(&store, 1..=40, 1);
    let is_over = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let following = thread::spawn({
        let (store, is_over) = (store.clone(), is_over.clone());
        move || {
            let mut overtaken = 0;
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                let from = store.first_index().unwrap();
                let Ok(mut follow) = store.follow(from) else { continue };
                let seen = there(&mut follow);
                let (last, entries) = match seen.split_last() {
                    Some((Seen::Removed(_), entries)) => (true, entries),
                    _ => (false, &seen[..]),
                };
                overtaken += u32::from(last);
                let Some(Seen::Put(first, _)) = entries.first() else {
                    assert!(entries.is_empty(), "{entries:?}");
                    continue;
                };
                assert_eq!(*first, from, "a gap at the beginning");
                assert_eq!(entries, puts(from..=from + entries.len() as u64 - 1, 1), "a gap, or another error");
            }
            overtaken
        }
    });
    write(&store, 41..=1000, 1);
    is_over.store(true, std::sync::atomic::Ordering::Relaxed);
    following.join().unwrap();
    eventually("retention comes to its end", || store.segments().len() <= 3);
    assert_eq!(all(&[&there(&mut store.follow(store.first_index().unwrap()).unwrap())]).len() as u64, store.len());
    store.close().unwrap();
}
