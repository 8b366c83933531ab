//! Metadata: its limits, and that it outlives rotation, truncation and reopening.

use casklog::fs::sim::SimFs;
use casklog::{Batch, Error, Options};

use crate::common::*;

#[test]
fn metadata_is_kept_across_rotation_retention_truncation_and_reopening() {
    // B02, neighbours
    let fs = SimFs::new();
    let open = || sim(&fs).segment_entries(2).max_segments(2).open().unwrap();
    let store = open();
    assert_eq!(store.meta("vote"), None);
    assert!(!store.delete_meta("vote").unwrap());
    store.put_meta("vote", "1").unwrap();
    store.put_meta("", "").unwrap();
    store.put_meta("gone", "x").unwrap();
    assert!(store.delete_meta("gone").unwrap());
    write_each(&store, 1..=9);
    store.put_meta("vote", "2").unwrap();
    write_each(&store, 10..=15);
    store.reset_to(1).unwrap();
    for is_reopened in [false, true] {
        let store = if is_reopened { open() } else { store.clone() };
        assert_eq!(store.meta("vote").unwrap(), b"2");
        assert_eq!(store.meta("").unwrap(), b"");
        assert_eq!(store.meta("gone"), None);
        assert_eq!(store.all_meta().len(), 2);
        assert!(store.is_empty());
        store.close().unwrap();
    }
}

#[test]
fn all_metadata_together_has_one_limit() {
    // R05, neighbours
    let limit = Options::meta_bytes_max() as usize;
    let fs = SimFs::new();
    let store = sim(&fs).open().unwrap();
    store.put_meta("a", vec![1; limit - 1]).unwrap();
    let ops = fs.ops();
    let mut batch = Batch::new();
    batch.put_meta("b", "").put_bytes(1, "k", "v");
    for outcome in [store.put_meta("b", ""), store.put_meta("a", vec![1; limit]), store.write_batch(&batch).map(drop)] {
        match outcome {
            Err(Error::TooLarge { what, bytes, limit: named }) => {
                assert_eq!(
                    (what, bytes, named),
                    ("metadata", limit as u64 + 1 - u64::from(bytes == limit as u64), limit as u64)
                );
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(fs.ops(), ops);
    assert!(store.is_empty());
    store.put_meta("a", vec![2; limit - 2]).unwrap();
    store.write_batch(&batch).unwrap();
    assert_eq!(store.all_meta().len(), 2);
    batch.clear();
    batch.delete_meta("a").put_meta("c", vec![3; limit - 2]);
    store.write_batch(&batch).unwrap();
    store.close().unwrap();
    let store = sim(&fs).open().unwrap();
    assert_eq!(store.meta("c").unwrap().len(), limit - 2);
    assert_eq!(store.meta("a"), None);
}

#[test]
fn a_log_with_segments_smaller_than_its_metadata_still_rotates() {
    // R05, neighbours
    for preallocate in [true, false] {
        for mapped in [true, false] {
            let fs = SimFs::new();
            let open = || {
                let options = sim(&fs).segment_bytes(1).segment_entries(1);
                options.preallocate(preallocate).mapped(mapped).open().unwrap()
            };
            let store = open();
            store.put_meta("big", vec![7; 60_000]).unwrap();
            write_each(&store, 1..=4);
            store.close().unwrap();
            let store = open();
            assert_eq!(store.meta("big").unwrap().len(), 60_000);
            write_each(&store, 5..=7);
            assert_holds(&store, 1..=7);
            assert_holds(&sim(&fs.killed()).open().unwrap(), 1..=7);
        }
    }
}
