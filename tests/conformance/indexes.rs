//! Which indexes may be written, in each order, up to the last there is.

use casklog::fs::sim::SimFs;
use casklog::{Batch, Error, IndexOrder};

use crate::common::*;

#[test]
fn index_zero_and_the_highest_are_legal_and_then_none_is_left() {
    // G03, neighbours
    for order in [IndexOrder::Any, IndexOrder::Increasing] {
        let fs = SimFs::new();
        let open = || sim(&fs).index_order(order).open().unwrap();
        let store = open();
        write_each(&store, [0, u64::MAX - 1, u64::MAX]);
        for is_reopened in [false, true] {
            let store = if is_reopened { open() } else { store.clone() };
            assert_holds(&store, [0, u64::MAX - 1, u64::MAX]);
            assert_eq!(store.next_index(), None);
            assert!(matches!(store.append("k", "v"), Err(Error::IndexExhausted)));
            assert!(store.write(u64::MAX, "k", "v").is_err());
            match order {
                IndexOrder::Any => {
                    let index = 5 + u64::from(is_reopened);
                    write_each(&store, [index]);
                    assert!(store.delete(index).unwrap());
                }
                _ => assert!(matches!(store.write(5, "k", "v"), Err(Error::IndexExhausted))),
            }
            assert_eq!(store.range(1..u64::MAX).map(|e| e.unwrap().index()).collect::<Vec<_>>(), [u64::MAX - 1]);
            assert_eq!(store.range(u64::MAX..).count(), 1);
            store.close().unwrap();
        }
        let store = open();
        store.truncate_after(u64::MAX - 1).unwrap();
        assert_eq!(store.next_index(), Some(u64::MAX));
        assert_eq!(store.append("k", "v").unwrap().index, u64::MAX);
        store.reset_to(u64::MAX).unwrap();
        assert_eq!(store.append("k", "v").unwrap().index, u64::MAX);
        assert!(matches!(store.append("k", "v"), Err(Error::IndexExhausted)));
        store.reset_to(0).unwrap();
        assert_eq!(store.append("key 0", "value 0").unwrap().index, 0);
        store.close().unwrap();
        assert_holds(&open(), [0]);
    }
}

#[test]
fn any_order_takes_gaps_and_latecomers_and_refuses_duplicates() {
    // G21, neighbours
    let fs = SimFs::new();
    let open = || sim(&fs).segment_entries(3).open().unwrap();
    let store = open();
    write_each(&store, [100, 3, 50, 4, 1_000_000, 0, 51, 7]);
    let sorted = [0, 3, 4, 7, 50, 51, 100, 1_000_000];
    for is_reopened in [false, true] {
        let store = if is_reopened { open() } else { store.clone() };
        assert_holds(&store, sorted);
        for index in sorted {
            assert!(matches!(store.write(index, "k", "v"), Err(Error::IndexExists { index: i }) if i == index));
        }
        let written: Vec<u64> = store.log_order().map(|item| item.unwrap().index()).collect();
        assert_eq!(written, [100, 3, 50, 4, 1_000_000, 0, 51, 7]);
        assert_eq!(store.next_index(), Some(1_000_001));
        store.close().unwrap();
    }
}

#[test]
fn increasing_order_takes_gaps_only_upwards() {
    // G03, neighbours
    let fs = SimFs::new();
    let open = || sim(&fs).index_order(IndexOrder::Increasing).open().unwrap();
    let store = open();
    write_each(&store, [7, 9]);
    for index in [9, 8, 0] {
        match store.write(index, "k", "v") {
            Err(Error::IndexOrder { index: i, expected, order }) => {
                assert_eq!((i, expected, order), (index, 10, IndexOrder::Increasing));
            }
            other => panic!("{other:?}"),
        }
    }
    let mut batch = Batch::new();
    batch.put_bytes(20, "k", "v").put_bytes(9, "k", "v");
    assert!(matches!(store.write_batch(&batch), Err(Error::IndexOrder { index: 9, expected: 10, .. })));
    store.delete(9).unwrap();
    assert!(store.write(9, "k", "v").is_err(), "a deleted index stays taken");
    store.close().unwrap();
    let store = open();
    assert!(store.write(9, "k", "v").is_err());
    write_each(&store, [10, 300]);
    assert_holds(&store, [7, 10, 300]);
}

#[test]
fn a_sequential_log_may_start_anywhere_unless_told() {
    // G03, neighbours
    for (first, wrong) in [(None, None), (Some(0), Some(1)), (Some(5), Some(1)), (Some(5), Some(6))] {
        let fs = SimFs::new();
        let options = || sim(&fs).index_order(IndexOrder::Sequential);
        let open = || first.map_or_else(options, |first| options().first_index(first)).open().unwrap();
        let store = open();
        if let Some(wrong) = wrong {
            assert!(store.write(wrong, "k", "v").is_err());
            assert_eq!(store.append("k", "v").unwrap().index, first.unwrap());
        } else {
            store.write(77, "k", "v").unwrap();
        }
        let next = store.last_index().unwrap() + 1;
        assert!(matches!(store.write(next + 1, "k", "v"), Err(Error::IndexOrder { expected, .. }) if expected == next));
        store.write(next, "k", "v").unwrap();
        store.close().unwrap();
        assert_eq!(open().next_index(), Some(next + 1));
    }
}

#[test]
fn empty_keys_and_values_are_legal() {
    // F11, neighbours
    let fs = SimFs::new();
    let open = || sim(&fs).open().unwrap();
    let store = open();
    store.write_bytes(0, "", "").unwrap();
    store.write(1, "", &()).unwrap();
    store.write(2, "", "").unwrap();
    store.write(3, [0xff, 0, 0xfe], &Option::<u8>::None).unwrap();
    assert!(store.delete(2).unwrap());
    for is_reopened in [false, true] {
        let store = if is_reopened { open() } else { store.clone() };
        let entry = store.get(0).unwrap().unwrap();
        assert_eq!((entry.key(), entry.bytes().unwrap()), (&b""[..], &b""[..]));
        store.get(1).unwrap().unwrap().value::<()>().unwrap();
        assert!(store.get(2).unwrap().is_none());
        let entry = store.get(3).unwrap().unwrap();
        assert_eq!((entry.key(), entry.value::<Option<u8>>().unwrap()), (&[0xff, 0, 0xfe][..], None));
        store.close().unwrap();
    }
}
