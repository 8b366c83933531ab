//! Reading by position and into buffers.

use casklog::fs::sim::SimFs;
use casklog::{Error, Position};

use crate::common::*;

fn position(segment: u64, offset: u64) -> Position {
    format!("{segment}:{offset}").parse().unwrap()
}

#[test]
fn reading_a_position_whose_entry_is_gone_gives_none() {
    // R01, neighbours
    let fs = SimFs::new();
    let store = sim(&fs).segment_entries(4).open().unwrap();
    write_each(&store, 1..=10);
    let positions: Vec<Position> = store.iter().map(|entry| entry.unwrap().position()).collect();
    let of = |index: usize| positions[index - 1];
    store.delete(6).unwrap();
    assert!(store.read(of(6)).unwrap().is_none(), "deleted");
    store.truncate_after(8).unwrap();
    write_each(&store, [9]);
    assert!(store.read(of(9)).unwrap().is_none(), "truncated, and its index written again");
    assert_entry(&store, 9);
    assert!(store.read(of(10)).unwrap().is_none());
    assert_eq!(store.read(of(8)).unwrap().unwrap().index(), 8);
    store.truncate_before(6).unwrap();
    for index in 1..=4 {
        match store.read(of(index)) {
            Err(Error::Removed { first }) => assert_eq!(first, Some(7)),
            other => panic!("{index}: {other:?}"),
        }
    }
    assert!(store.read(of(5)).unwrap().is_none(), "truncated in a segment that is left");
    store.close().unwrap();
    let store = sim(&fs).segment_entries(4).open().unwrap();
    for index in [5, 6, 9, 10] {
        assert!(store.read(of(index)).unwrap().is_none(), "{index}");
    }
    assert_eq!(store.read(of(7)).unwrap().unwrap().index(), 7);
}

#[test]
fn reading_a_position_where_no_record_starts_is_an_error_or_nothing_but_never_an_entry() {
    // R11, neighbours
    let fs = SimFs::new();
    let store = sim(&fs).segment_entries(3).open().unwrap();
    write_each(&store, 1..=8);
    let starts: Vec<Position> = store.iter().map(|entry| entry.unwrap().position()).collect();
    for segment in store.segments() {
        for offset in 0..segment.bytes + 100 {
            let at = position(segment.number, offset);
            match store.read(at) {
                Ok(Some(entry)) => assert!(starts.contains(&at) && entry.position() == at),
                Ok(None) => assert!(!starts.contains(&at), "{at}"),
                Err(Error::InvalidPosition { found }) => assert_eq!(found, at.to_string()),
                Err(other) => panic!("{at}: {other:?}"),
            }
        }
    }
    for at in [position(9, 64), position(u64::from(u32::MAX), u64::from(u32::MAX))] {
        assert!(store.read(at).unwrap().is_none(), "beyond the end");
    }
    assert!(matches!(store.read(position(0, 0)), Err(Error::Removed { .. } | Error::InvalidPosition { .. })));
    let empty = sim(&SimFs::new()).open().unwrap();
    assert!(empty.read(position(1, 64)).unwrap().is_none());
}

#[test]
fn a_buffer_is_reused_and_left_alone_where_there_is_nothing() {
    // G02, neighbours
    let fs = SimFs::new();
    let store = sim(&fs).segment_entries(2).open().unwrap();
    store.write_bytes(1, "first", [7; 5000]).unwrap();
    store.write(2, "second", &("a", 2)).unwrap();
    store.write_bytes(3, "third", [9; 40_000]).unwrap();
    let mut buffer = Vec::new();
    for _ in 0..2 {
        let entry = store.get_into(1, &mut buffer).unwrap().unwrap();
        assert_eq!((entry.index(), entry.key(), entry.bytes().unwrap()), (1, &b"first"[..], &[7u8; 5000][..]));
        let capacity = buffer.capacity();
        let entry = store.get_into(2, &mut buffer).unwrap().unwrap();
        assert_eq!((entry.key(), entry.value::<(&str, u8)>().unwrap()), (&b"second"[..], ("a", 2)));
        assert_eq!(buffer.capacity(), capacity, "its memory is reused");
        assert!(store.get_into(99, &mut buffer).unwrap().is_none());
        let entry = store.get_into(3, &mut buffer).unwrap().unwrap();
        assert_eq!(entry.position(), store.get(3).unwrap().unwrap().position());
        assert_eq!(entry.bytes().unwrap(), [9; 40_000]);
    }
}

#[test]
fn an_entry_outlives_the_deletion_of_its_segment_and_the_store() {
    // G02, neighbours
    let dir = dir();
    let store = inline(&dir).segment_entries(2).open().unwrap();
    write_each(&store, 1..=6);
    let entry = store.get(1).unwrap().unwrap();
    let detached = entry.detach();
    store.truncate_before(5).unwrap();
    store.close().unwrap();
    drop(store);
    for entry in [entry, detached] {
        assert_eq!((entry.index(), entry.key(), entry.value::<&str>().unwrap()), (1, &b"key 1"[..], "value 1"));
    }
}

#[test]
fn readers_see_whole_entries_while_writers_rotate_and_retire() {
    // G06, neighbours
    let dir = dir();
    let store = quick(&dir).segment_entries(200).max_segments(3).open().unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| write_each(&store, 1..=5_000));
        for _ in 0..2 {
            scope.spawn(|| {
                while store.last_index() != Some(5_000) {
                    let last = store.last_index().unwrap_or(0);
                    for index in last.saturating_sub(20)..=last {
                        if let Some(entry) = store.get(index).unwrap() {
                            assert_eq!(entry.value::<&str>().unwrap(), format!("value {index}"));
                        }
                    }
                    for item in store.iter().take(50) {
                        match item {
                            Ok(entry) => assert_eq!(entry.key(), format!("key {}", entry.index()).as_bytes()),
                            Err(Error::Removed { .. }) => break,
                            Err(other) => panic!("{other:?}"),
                        }
                    }
                }
            });
        }
        writer.join().unwrap();
    });
    eventually("retention", || store.segments().len() <= 3);
}
