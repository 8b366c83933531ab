//! Batches beyond the ported cases: what they may hold and in which order it takes effect.

use casklog::fs::sim::SimFs;
use casklog::{Batch, Error, LogItem};

use crate::common::*;

#[test]
fn a_batch_takes_effect_in_its_own_order_however_it_was_filled() {
    // G16, neighbours
    let fs = SimFs::new();
    let store = sim(&fs).open().unwrap();
    write_each(&store, 1..=10);
    let mut batch = Batch::new();
    batch.put_meta("m", "1").delete(3).put(8, "key 8", "value 8").unwrap();
    batch.put(7, "key 7", "value 7").unwrap();
    batch.truncate_after(6).truncate_before(2).delete(9).delete(1).delete(3);
    assert_eq!(batch.len(), 9);
    let positions = store.write_batch(&batch).unwrap();
    assert_eq!(positions.len(), 2);
    assert!(positions[1] < positions[0]);
    assert_holds(&store, [2, 4, 5, 6, 7, 8]);
    assert_eq!(store.meta("m").unwrap(), b"1");
    assert_eq!(store.next_index(), Some(9));
    for store in [sim(&fs.killed()).open().unwrap(), store.clone()] {
        assert_holds(&store, [2, 4, 5, 6, 7, 8]);
        let deleted: Vec<u64> = store
            .log_order()
            .filter_map(|item| match item.unwrap() {
                LogItem::Deleted { index, .. } => Some(index),
                _ => None,
            })
            .collect();
        assert_eq!(deleted, [3]);
    }
}

#[test]
fn deleting_what_the_same_batch_puts_is_refused() {
    // G18, neighbours
    let fs = SimFs::new();
    let store = sim(&fs).open().unwrap();
    write_each(&store, [1]);
    let ops = fs.ops();
    for others in [[2u64, 3], [6, 7], [2, 7]] {
        let mut batch = Batch::new();
        batch.delete(5).put_bytes(5, "k", "v");
        others.iter().for_each(|index| {
            batch.put_bytes(*index, "k", "v").delete(index + 100);
        });
        let outcome = store.write_batch(&batch);
        assert!(matches!(outcome, Err(Error::BatchDeletesPut { index: 5 })), "{outcome:?}");
    }
    assert_eq!(fs.ops(), ops);
    assert_holds(&store, [1]);
}

#[test]
fn a_batch_may_free_indexes_and_write_them_again() {
    // R17, neighbours
    type Free = fn(&mut Batch);
    let frees: [(&str, Free); 2] = [
        ("truncate_after", |batch| {
            batch.truncate_after(2);
        }),
        ("reset_to", |batch| {
            batch.reset_to(1);
        }),
    ];
    for (how, free) in frees {
        let fs = SimFs::new();
        let store = sim(&fs).segment_entries(3).open().unwrap();
        write_each(&store, 1..=8);
        store.delete(4).unwrap();
        let mut batch = Batch::new();
        batch.put(4, "key 4", "value 4").unwrap().put(3, "key 3", "value 3").unwrap();
        assert!(matches!(store.write_batch(&batch), Err(Error::IndexExists { .. })));
        free(&mut batch);
        store.write_batch(&batch).unwrap();
        let expected: &[u64] = if how == "reset_to" { &[3, 4] } else { &[1, 2, 3, 4] };
        assert_holds(&store, expected.iter().copied());
        assert_holds(&sim(&fs.killed()).open().unwrap(), expected.iter().copied());
        store.close().unwrap();
        assert_holds(&sim(&fs).open().unwrap(), expected.iter().copied());
    }
}

#[test]
fn a_batch_can_be_written_again_and_its_duplicates_are_noticed_after_reopen_too() {
    // G18, neighbours
    let dir = dir();
    let open = || inline(&dir).segment_entries(2).open().unwrap();
    let store = open();
    let mut batch = Batch::new();
    batch.put_bytes(5, "k", "v").put_bytes(1, "k", "v");
    store.write_batch(&batch).unwrap();
    for index in [5, 1] {
        assert!(matches!(store.write(index, "k", "v"), Err(Error::IndexExists { index: i }) if i == index));
    }
    assert!(matches!(store.write_batch(&batch), Err(Error::IndexExists { .. })));
    store.write(9, "k", "v").unwrap();
    store.close().unwrap();
    let store = open();
    assert!(matches!(store.write_batch(&batch), Err(Error::IndexExists { .. })));
    batch.clear();
    batch.put_bytes(2, "k", "v").put_bytes(9, "k", "v");
    assert!(matches!(store.write_batch(&batch), Err(Error::IndexExists { index: 9 })));
    assert_eq!(indexes(&store), [1, 5, 9], "nothing of a refused batch is there");
    assert!(!store.contains(2));
}

#[test]
fn a_value_that_cannot_be_encoded_changes_neither_log_nor_batch() {
    // F11, neighbours
    struct Refuses;
    impl serde::Serialize for Refuses {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("no thanks"))
        }
    }
    let fs = SimFs::new();
    let store = sim(&fs).open().unwrap();
    let mut batch = Batch::new();
    batch.put_bytes(1, "k", "v");
    match batch.put(2, "k", &Refuses) {
        Err(Error::Encode { reason }) => assert!(reason.contains("no thanks")),
        other => panic!("{other:?}"),
    }
    assert_eq!(batch.len(), 1);
    assert!(matches!(store.write(2, "k", &Refuses), Err(Error::Encode { .. })));
    assert!(matches!(store.append("k", &Refuses), Err(Error::Encode { .. })));
    assert!(store.is_empty());
    assert_eq!(store.next_index(), Some(1));
    store.write_batch(&batch).unwrap();
    assert_eq!(indexes(&store), [1]);
}
