//! Followers and retention: a gap is told, and nothing else is taken for one.

use casklog::fs::sim::SimFs;
use casklog::{Batch, Error, IndexOrder, Store};

use crate::common::{Seen, inline, puts, take, there, write};

fn open(order: IndexOrder, most: u64) -> Store {
    inline(&SimFs::new()).segment_entries(10).index_order(order).max_segments(most).open().unwrap()
}

const ORDERS: [IndexOrder; 3] = [IndexOrder::Any, IndexOrder::Increasing, IndexOrder::Sequential];

#[test]
fn a_follower_that_retention_overtakes_is_told_and_ends() {
    for order in ORDERS {
        for handed in [0, 3, 10] {
            let store = open(order, 3);
            write(&store, 1..=15, 1);
            let mut follow = store.follow(1).unwrap();
            assert_eq!(take(&mut follow, handed), puts(1..=handed as u64, 1));
            write(&store, 16..=60, 1);
            let first = store.first_index();
            assert!(first > Some(20));
            assert_eq!(there(&mut follow), [Seen::Removed(first)], "{order}, {handed} handed out");
            assert!(follow.next().is_none());
            assert!(follow.try_next().unwrap().is_none());
        }
    }
}

#[test]
fn what_retention_takes_behind_a_follower_is_no_gap() {
    for order in ORDERS {
        let store = open(order, 3);
        let mut follow = store.follow(0).unwrap();
        for index in 1..=200 {
            write(&store, index..=index, 1);
            assert_eq!(there(&mut follow), puts(index..=index, 1), "{order}");
        }
        assert!(store.first_index() > Some(100));
    }
}

/// Retention took the segment in which a batch stood that was handed out in part.
#[test]
fn the_rest_of_a_batch_is_not_lost_in_silence() {
    for order in ORDERS {
        let store = open(order, 2);
        let mut batch = Batch::new();
        for index in 1..=10 {
            batch.put(index, "key", &1u64).unwrap();
        }
        store.write_batch(&batch).unwrap();
        let mut follow = store.follow(1).unwrap();
        assert_eq!(take(&mut follow, 3), puts(1..=3, 1));
        write(&store, 11..=30, 1);
        assert_eq!(store.first_index(), Some(11));
        assert_eq!(there(&mut follow), [Seen::Removed(Some(11))], "{order}");
    }
}

/// A follower of an empty log that comes to its first look only when the beginning is gone.
#[test]
fn a_follower_of_an_empty_log_is_overtaken_too() {
    let store = open(IndexOrder::Any, 2);
    let mut follow = store.follow(0).unwrap();
    write(&store, 1..=50, 1);
    assert_eq!(there(&mut follow), [Seen::Removed(store.first_index())]);
}

#[test]
fn following_what_is_gone_is_refused_at_once() {
    for order in ORDERS {
        let store = open(order, 2);
        // The last one begins a segment: nobody writes after retention.
        write(&store, 1..=31, 1);
        assert_eq!(store.first_index(), Some(21));
        for from in [0, 1, 20] {
            let refused = store.follow(from).map(drop);
            assert!(matches!(refused, Err(Error::Removed { first: Some(21) })), "{order}, {from}: {refused:?}");
        }
        assert_eq!(there(&mut store.follow(21).unwrap()), puts(21..=31, 1));
        store.truncate_before(30).unwrap();
        assert!(matches!(store.follow(29), Err(Error::Removed { first: Some(30) })));
        assert_eq!(there(&mut store.follow(30).unwrap()), puts(30..=31, 1));
    }
}

#[test]
fn the_first_index_of_a_log_is_no_gap() {
    for order in ORDERS {
        let sim = SimFs::new();
        let options = || inline(&sim).segment_entries(10).index_order(order);
        let store = options().first_index(5).open().unwrap();
        write(&store, 5..=25, 1);
        assert_eq!(there(&mut store.follow(0).unwrap()), puts(5..=25, 1), "{order}");
        let reader = inline(&sim).open_read_only().unwrap();
        assert_eq!(there(&mut reader.follow(0).unwrap()), puts(5..=25, 1), "{order}, beside");
        store.close().unwrap();
        let store = options().open().unwrap();
        assert_eq!(there(&mut store.follow(0).unwrap()), puts(5..=25, 1), "{order}, reopened without the option");
        store.truncate_before(15).unwrap();
        assert!(matches!(store.follow(14), Err(Error::Removed { first: Some(15) })), "{order}");
        store.close().unwrap();
        let store = options().first_index(100).open().unwrap();
        assert!(matches!(store.follow(14), Err(Error::Removed { first: Some(15) })), "{order}: not a new log");
    }
}

/// It had come to the end of a segment before there was another one: all of it was handed out.
#[test]
fn a_segment_that_was_read_to_its_end_may_go() {
    for order in ORDERS {
        let store = open(order, 3);
        write(&store, 1..=10, 1);
        let mut follow = store.follow(1).unwrap();
        assert_eq!(there(&mut follow), puts(1..=10, 1));
        write(&store, 11..=31, 1);
        assert_eq!(store.first_index(), Some(11));
        assert_eq!(there(&mut follow), puts(11..=31, 1), "{order}");
    }
}
