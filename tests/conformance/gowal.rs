//! After gowal: writing, reading, batches, deletion.

use casklog::fs::sim::SimFs;
use casklog::{Batch, Error, IndexOrder, LogItem, Options, SyncPolicy};

use crate::common::*;

#[test]
fn ten_appended_entries_are_read_back() {
    // G01
    let dir = dir();
    let store = quick(&dir).open().unwrap();
    for i in 1..=10u64 {
        let appended = store.append(format!("key {i}"), &format!("value {i}")).unwrap();
        assert_eq!(appended.index, i);
        assert_eq!(store.get(i).unwrap().unwrap().position(), appended.position);
    }
    assert_holds(&store, 1..=10);
    assert!(store.get(0).unwrap().is_none());
    assert!(store.get(11).unwrap().is_none());
}

#[test]
fn changing_a_buffer_after_the_write_or_the_read_changes_nothing_stored() {
    // G02
    let dir = dir();
    let store = quick(&dir).open().unwrap();
    let check = || {
        let entry = store.get(1).unwrap().unwrap();
        assert_eq!((entry.key(), entry.bytes().unwrap()), (&b"key"[..], &b"value"[..]));
    };
    let (mut key, mut value) = (b"key".to_vec(), b"value".to_vec());
    store.write_bytes(1, &key, &value).unwrap();
    key.fill(b'x');
    value.fill(b'x');
    check();
    let mut batch = Batch::new();
    let mut value = b"two".to_vec();
    batch.put_bytes(2, "k", &value);
    value.fill(b'x');
    store.write_batch(&batch).unwrap();
    assert_eq!(store.get(2).unwrap().unwrap().bytes().unwrap(), b"two");
    for _ in 0..2 {
        let mut buffer = Vec::new();
        store.get_into(1, &mut buffer).unwrap().unwrap();
        buffer.fill(0xff);
        let mut copy = store.iter().next().unwrap().unwrap().bytes().unwrap().to_vec();
        copy.fill(0xff);
        check();
        // Once more from a sealed segment.
        store.rotate().unwrap();
    }
}

#[test]
fn a_sequential_log_takes_exactly_the_next_index() {
    // G03
    let dir = dir();
    let store = quick(&dir).index_order(IndexOrder::Sequential).first_index(1).open().unwrap();
    let error = store.write(0, "k", "v").unwrap_err();
    assert!(
        matches!(error, Error::BelowFloor { index: 0, floor: 1 } | Error::IndexOrder { index: 0, expected: 1, .. }),
        "{error:?}"
    );
    assert_eq!((store.last_index(), store.next_index()), (None, Some(1)));
    store.write(1, "k", "v").unwrap();
    assert_eq!(store.last_index(), Some(1));
    let error = store.write(3, "k", "v").unwrap_err();
    assert!(matches!(error, Error::IndexOrder { index: 3, expected: 2, order: IndexOrder::Sequential }), "{error:?}");
    assert_eq!(store.last_index(), Some(1));
    store.write(2, "k", "v").unwrap();
    assert_eq!(store.last_index(), Some(2));
    assert!(store.write(2, "k", "v").is_err());
    assert_eq!(indexes(&store), [1, 2]);
}

#[test]
fn a_batch_moves_the_last_index_and_reopening_keeps_it() {
    // G04
    let dir = dir();
    let open = || quick(&dir).index_order(IndexOrder::Sequential).open().unwrap();
    let store = open();
    let mut batch = Batch::new();
    for i in 1..=3u64 {
        batch.put(i, format!("key {i}"), &format!("value {i}")).unwrap();
    }
    assert_eq!(batch.len(), 3);
    assert_eq!(store.write_batch(&batch).unwrap().len(), 3);
    assert_eq!((store.last_index(), store.next_index()), (Some(3), Some(4)));
    store.close().unwrap();
    let store = open();
    assert_eq!((store.last_index(), store.next_index()), (Some(3), Some(4)));
    assert_holds(&store, 1..=3);
}

#[test]
fn iterators_pushed_or_pulled_show_all_in_order_and_release_what_they_hold() {
    // G05
    let dir = dir();
    let store = inline(&dir).segment_entries(4).open().unwrap();
    write_each(&store, 1..=10);
    let mut pushed = Vec::new();
    store.iter().for_each(|entry| pushed.push(entry.unwrap().index()));
    assert_eq!(pushed, (1..=10).collect::<Vec<_>>());
    let mut iter = store.iter();
    for i in 1..=10 {
        assert_eq!(iter.next().unwrap().unwrap().index(), i);
    }
    assert!(iter.next().is_none());
    assert!(iter.next().is_none(), "the end stays the end");
    let mut stopped = store.iter();
    stopped.next().unwrap().unwrap();
    let mut stopped_too = store.log_order();
    stopped_too.next().unwrap().unwrap();
    drop((iter, stopped, stopped_too));
    store.close().unwrap();
    drop(store);
    #[cfg(target_os = "linux")]
    assert_eq!(open_files(dir.path()), 0, "descriptors are left");
}

#[test]
fn two_full_segments_are_whole_after_reopen() {
    // G07
    let dir = dir();
    let store = inline(&dir).segment_entries(10).open().unwrap();
    write_each(&store, 1..=20);
    assert_eq!(store.segments().len(), 2);
    store.close().unwrap();
    let store = inline(&dir).segment_entries(10).open().unwrap();
    assert_holds(&store, 1..=20);
}

#[test]
fn a_deletion_alone_in_a_segment_does_not_set_the_next_index_back() {
    // G09
    let dir = dir();
    let open = || {
        let options = inline(&dir).segment_entries(2).index_order(IndexOrder::Sequential);
        options.open().unwrap()
    };
    let store = open();
    write_each(&store, 1..=2);
    assert!(store.delete(1).unwrap());
    let segments = store.segments();
    assert_eq!(segments.len(), 2, "{segments:?}");
    assert_eq!(segments[1].entries, 0);
    store.close().unwrap();
    let store = open();
    assert_eq!((store.last_index(), store.next_index()), (Some(2), Some(3)));
    store.write(3, "key 3", "value 3").unwrap();
    assert_holds(&store, 2..=3);
    store.close().unwrap();
    assert_holds(&open(), 2..=3);
}

#[test]
fn garbage_behind_a_closed_log_is_refused_in_strict_mode_and_reported_by_default() {
    // G10
    let dir = dir();
    let store = quick(&dir).open().unwrap();
    write_each(&store, 1..=5);
    store.close().unwrap();
    let path = store.segments()[0].path.clone();
    let end = store.stats().tail.offset();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.extend_from_slice(b"garbage");
    std::fs::write(&path, &bytes).unwrap();
    let strict = || quick(&dir).recovery(casklog::RecoveryMode::Strict).open();
    let error = strict().unwrap_err();
    match &error {
        Error::TornTail { path: found, at, .. } => assert_eq!((found, *at), (&path, end)),
        other => panic!("{other:?}"),
    }
    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), bytes, "a refused open changes nothing");
    let store = quick(&dir).open().unwrap();
    let torn = store.recovery_report().torn_tail.clone().expect("it is reported");
    assert_eq!((torn.path, torn.at.offset()), (path, end));
    assert!(!store.recovery_report().is_damaged());
    assert_holds(&store, 1..=5);
    write_each(&store, [6]);
    store.close().unwrap();
    assert_holds(&strict().unwrap(), 1..=6);
}

#[test]
fn deleting_what_is_not_there_does_nothing() {
    // G13
    let fs = SimFs::new();
    let store = sim(&fs).open().unwrap();
    write_each(&store, [1]);
    let ops = fs.ops();
    assert!(!store.delete(999).unwrap());
    assert!(store.get(999).unwrap().is_none());
    let mut batch = Batch::new();
    batch.delete(999);
    assert!(store.write_batch(&batch).unwrap().is_empty());
    assert_eq!(fs.ops(), ops, "nothing was written");
    // Its index was never taken.
    write_each(&store, [999]);
    assert_holds(&store, [1, 999]);
}

#[test]
fn a_deletion_hides_the_entry_shows_in_log_order_and_survives_reopening() {
    // G14
    let dir = dir();
    let store = quick(&dir).open().unwrap();
    write_each(&store, 1..=3);
    assert!(store.delete(2).unwrap());
    for is_reopened in [false, true] {
        let reopened = if is_reopened {
            store.close().unwrap();
            quick(&dir).open().unwrap()
        } else {
            store.clone()
        };
        assert!(reopened.get(2).unwrap().is_none());
        assert!(!reopened.contains(2));
        assert_holds(&reopened, [1, 3]);
        let items: Vec<LogItem> = reopened.log_order().map(Result::unwrap).collect();
        assert_eq!(items.iter().map(LogItem::index).collect::<Vec<_>>(), [1, 2, 3, 2]);
        match &items[3] {
            LogItem::Deleted { index, key, .. } => assert_eq!((*index, &key[..]), (2, &b"key 2"[..])),
            other => panic!("{other:?}"),
        }
        assert!(matches!(reopened.write(2, "k", "v"), Err(Error::IndexExists { index: 2 })));
        assert!(!reopened.delete(2).unwrap(), "it is gone already");
    }
}

#[test]
fn only_one_of_ten_threads_gets_an_index() {
    // G21
    let dir = dir();
    let store = quick(&dir).open().unwrap();
    let barrier = std::sync::Barrier::new(10);
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let write = |thread: u64| {
            let (store, barrier) = (&store, &barrier);
            scope.spawn(move || {
                barrier.wait();
                store.write(42, "k", &thread).map(|_| thread)
            })
        };
        let threads: Vec<_> = (0..10).map(write).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let winners: Vec<u64> = outcomes.iter().flatten().copied().collect();
    assert_eq!(winners.len(), 1, "{outcomes:?}");
    let is_refused = |outcome: &Result<u64, Error>| matches!(outcome, Err(Error::IndexExists { index: 42 }));
    assert_eq!(outcomes.iter().filter(|outcome| is_refused(outcome)).count(), 9);
    assert_eq!(store.get(42).unwrap().unwrap().value::<u64>().unwrap(), winners[0]);
    assert_eq!(store.len(), 1);
}

#[test]
fn a_closed_log_refuses_everything_and_closes_twice() {
    // G26, X17
    let dir = dir();
    let store = quick(&dir).open().unwrap();
    write_each(&store, 1..=3);
    let other = store.clone();
    store.close().unwrap();
    for store in [&store, &other] {
        let mut batch = Batch::new();
        batch.put_bytes(9, "k", "v");
        let position = casklog::Position::from_bytes([1, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0]).unwrap();
        let outcomes = [
            ("write", store.write(9, "k", "v").map(drop)),
            ("append", store.append("k", "v").map(drop)),
            ("write_batch", store.write_batch(&batch).map(drop)),
            ("submit", store.submit(9, "k", "v").map(drop)),
            ("delete", store.delete(1).map(drop)),
            ("delete missing", store.delete(99).map(drop)),
            ("truncate_before", store.truncate_before(2)),
            ("truncate_after", store.truncate_after(2)),
            ("reset_to", store.reset_to(1)),
            ("put_meta", store.put_meta("k", "v")),
            ("delete_meta", store.delete_meta("k").map(drop)),
            ("sync", store.sync()),
            ("rotate", store.rotate()),
            ("writable", store.writable()),
            ("get", store.get(1).map(drop)),
            ("get_into", store.get_into(1, &mut Vec::new()).map(drop)),
            ("read", store.read(position).map(drop)),
            ("iter", store.iter().next().unwrap().map(drop)),
            ("log_order", store.log_order().next().unwrap().map(drop)),
        ];
        for (call, outcome) in outcomes {
            assert!(matches!(outcome, Err(Error::Closed)), "{call}: {outcome:?}");
        }
        store.close().unwrap();
    }
    let store = quick(&dir).open().unwrap();
    assert_holds(&store, 1..=3);
}

#[test]
fn an_acknowledged_write_with_its_own_sync_survives_a_power_cut() {
    // G27
    for preallocate in [true, false] {
        let fs = SimFs::new();
        let store = sim(&fs).sync(SyncPolicy::None).preallocate(preallocate).open().unwrap();
        write_each(&store, [1]);
        let durability = casklog::Durability::Synced;
        store.write_with(2, "key 2", "value 2", durability).unwrap();
        assert!(store.get(2).unwrap().unwrap().is_durable());
        store.write(3, "key 3", "value 3").unwrap();
        assert!(!store.get(3).unwrap().unwrap().is_durable());
        let found = fs.crash_at(fs.ops(), &mut |_| casklog::fs::sim::Fate::Lost);
        // The write before it was made durable with it.
        assert_holds(&sim(&found).open().unwrap(), 1..=2);
    }
}

#[test]
fn every_batch_acknowledged_under_immediate_survives_a_power_cut() {
    // G28
    for policy in [SyncPolicy::Immediate, SyncPolicy::default()] {
        let fs = SimFs::new();
        let store = sim(&fs).sync(policy).segment_entries(7).open().unwrap();
        for round in 0..6u64 {
            let mut batch = Batch::new();
            for i in round * 3 + 1..=round * 3 + 3 {
                batch.put(i, format!("key {i}"), &format!("value {i}")).unwrap();
            }
            store.write_batch(&batch).unwrap();
            let found = fs.crash_at(fs.ops(), &mut |_| casklog::fs::sim::Fate::Lost);
            assert_holds(&sim(&found).open().unwrap(), 1..=round * 3 + 3);
        }
    }
}

#[test]
fn ten_thousand_writes_with_the_documented_defaults() {
    // G30
    let dir = dir();
    let store = Options::new(dir.path()).open().unwrap();
    for i in 1..=10_000u64 {
        store.write_with(i, "k", &i, casklog::Durability::Written).unwrap();
    }
    store.sync().unwrap();
    let sum: u64 = store.iter().map(|entry| entry.unwrap().value::<u64>().unwrap()).sum();
    assert_eq!(sum, 10_000 * 10_001 / 2);
    assert_eq!(store.segments().len(), 1, "64 MiB are one segment by default");
    assert!(names(dir.path()).iter().all(|name| name.starts_with("segment_")));
    assert_eq!(store.stats().durable, store.stats().tail);
}
