//! The store as a user first meets it.

use casklog::{Batch, Checksum, Durability, Error, IndexOrder, Options, RecoveryMode, Store, SyncPolicy};

#[test]
fn written_entries_come_back_after_reopen() {
    // G01, G04
    for policy in [SyncPolicy::default(), SyncPolicy::Immediate, SyncPolicy::None] {
        let dir = tempfile::tempdir().unwrap();
        let open = || Options::new(dir.path()).sync(policy).open().unwrap();
        let store = open();
        for i in 1..=10u64 {
            store.write(i, format!("key {i}"), &format!("value {i}")).unwrap();
        }
        let check = |store: &Store| {
            for i in 1..=10u64 {
                let entry = store.get(i).unwrap().unwrap();
                assert_eq!(entry.key(), format!("key {i}").as_bytes());
                assert_eq!(entry.value::<String>().unwrap(), format!("value {i}"));
            }
            assert_eq!(store.len(), 10);
            assert_eq!((store.first_index(), store.last_index(), store.next_index()), (Some(1), Some(10), Some(11)));
            let indexes: Vec<u64> = store.iter().map(|e| e.unwrap().index()).collect();
            assert_eq!(indexes, (1..=10).collect::<Vec<_>>());
            let indexes: Vec<u64> = store.range(3..7).rev().map(|e| e.unwrap().index()).collect();
            assert_eq!(indexes, [6, 5, 4, 3]);
            assert_eq!(store.log_order().count(), 10);
        };
        check(&store);
        store.close().unwrap();
        let store = open();
        assert!(store.recovery_report().is_clean, "{:?}", store.recovery_report());
        check(&store);
        assert!(matches!(store.write(5, "k", "v"), Err(Error::IndexExists { index: 5 })));
        assert!(store.delete(5).unwrap());
        assert!(!store.delete(5).unwrap());
        assert!(store.get(5).unwrap().is_none());
        assert!(matches!(store.write(5, "k", "v"), Err(Error::IndexExists { index: 5 })));
        store.truncate_after(8).unwrap();
        assert_eq!(store.next_index(), Some(9));
        assert_eq!(store.append("again", &9).unwrap().index, 9);
        let mut batch = Batch::new();
        batch.put(12, "c", "x").unwrap().put(11, "b", "y").unwrap();
        batch.delete(1).put_meta("vote", b"7");
        store.write_batch(&batch).unwrap();
        store.close().unwrap();
        let store = open();
        assert_eq!(store.meta("vote").unwrap(), b"7");
        let indexes: Vec<u64> = store.iter().map(|e| e.unwrap().index()).collect();
        assert_eq!(indexes, [2, 3, 4, 6, 7, 8, 9, 11, 12]);
        store.close().unwrap();
    }
}

#[test]
fn rotation_keeps_every_entry_and_retention_drops_whole_segments() {
    // G06, G07
    let dir = tempfile::tempdir().unwrap();
    let open = |max: u64| Options::new(dir.path()).segment_entries(10).max_segments(max).sync(SyncPolicy::None).open();
    let store = open(100).unwrap();
    for i in 1..=30u64 {
        store.write_with(i, "k", &i, Durability::Policy).unwrap();
    }
    assert_eq!(store.segments().len(), 3);
    store.close().unwrap();
    let store = open(100).unwrap();
    assert_eq!(
        store.iter().map(|e| e.unwrap().value::<u64>().unwrap()).collect::<Vec<_>>(),
        (1..=30).collect::<Vec<_>>()
    );
    store.close().unwrap();
    let store = open(2).unwrap();
    for i in 31..=40u64 {
        store.write(i, "k", &i).unwrap();
    }
    store.rotate().unwrap();
    store.close().unwrap();
    let store = open(2).unwrap();
    assert!(store.segments().len() <= 2, "{:?}", store.segments());
    assert!(store.get(1).unwrap().is_none());
    assert_eq!(store.get(40).unwrap().unwrap().value::<u64>().unwrap(), 40);
    assert_eq!(
        Options::new(dir.path()).index_order(IndexOrder::Any).open().err().map(|e| e.to_string().contains("held")),
        Some(true)
    );
}

#[test]
fn an_entry_that_does_not_fit_leaves_the_batch_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut batch = Batch::new();
    assert!(batch.put_within(0, 1, "k", "longer than that").unwrap(), "a batch of one");
    let one = batch.bytes();
    let mut both = batch.clone();
    both.put(2, "k", &"a long value".repeat(100)).unwrap();
    assert!(!batch.put_within(both.bytes() - 1, 2, "k", &"a long value".repeat(100)).unwrap());
    assert_eq!((batch.len(), batch.bytes()), (1, one));
    assert!(batch.put_within(both.bytes(), 2, "k", &"a long value".repeat(100)).unwrap());
    assert_eq!(batch.bytes(), both.bytes());
    assert!(!batch.put_within(both.bytes(), 3, "k", "").unwrap());
    batch.put(3, "k", "three").unwrap();
    assert_eq!(store.write_batch(&batch).unwrap().len(), 3);
    assert_eq!(store.get(2).unwrap().unwrap().value::<String>().unwrap(), "a long value".repeat(100));
    assert_eq!(store.get(3).unwrap().unwrap().value::<String>().unwrap(), "three");
}

#[test]
fn values_around_and_beyond_a_block_are_what_they_were_after_any_way_of_writing() {
    for (checksum, policy) in [(Checksum::Crc32, SyncPolicy::None), (Checksum::Crc64, SyncPolicy::Immediate)] {
        let dir = tempfile::tempdir().unwrap();
        let options = || {
            let options = Options::new(dir.path()).checksum(checksum).sync(policy).key_index(true);
            options.segment_bytes(1 << 20).record_bytes_max(8 << 20)
        };
        let value =
            |index: u64, length: usize| (0..length).map(|at| ((at as u64 * index) >> 3) as u8).collect::<Vec<_>>();
        let lengths = [0, 1, 32_700, 32_740, 32_767, 32_768, 32_769, 65_500, 65_536, 100_000, 300_000, 3_000_000];
        // A key of more than 255 bytes has a header of another length.
        let key = |index: u64| vec![index as u8; if index % 3 == 1 { 300 } else { 3 }];
        let store = options().open().unwrap();
        let mut index = 0;
        for length in lengths {
            index += 3;
            store.write_bytes(index - 2, key(index - 2), value(index - 2, length)).unwrap();
            store.write(index - 1, key(index - 1), &value(index - 1, length)).unwrap();
            let mut batch = Batch::new();
            batch.put_bytes(index, key(index), value(index, length));
            store.write_batch(&batch).unwrap();
        }
        let check = |store: &Store| {
            for (place, length) in lengths.into_iter().enumerate() {
                let last = 3 * (place as u64 + 1);
                for index in [last - 2, last] {
                    let entry = store.get(index).unwrap().unwrap();
                    assert_eq!(entry.key(), key(index));
                    assert!(entry.bytes().unwrap() == value(index, length), "{index}, {length} bytes");
                }
                let entry = store.get(last - 1).unwrap().unwrap();
                assert!(entry.value::<Vec<u8>>().unwrap() == value(last - 1, length), "{}, {length}", last - 1);
                let newest = store.latest(key(last - 2)).unwrap().unwrap();
                assert_eq!(newest.index(), last - 2);
            }
        };
        check(&store);
        store.close().unwrap();
        let store = options().recovery(RecoveryMode::Strict).open().unwrap();
        check(&store);
        assert!(!store.verify().unwrap().is_damaged());
    }
}
