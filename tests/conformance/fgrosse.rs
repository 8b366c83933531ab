//! After fgrosse: opening, shared syncs, typed entries, skipping without decoding.

use std::sync::Arc;
use std::time::Duration;

use casklog::format::{EntryRecord, Expect, HEADER_BYTES, Header, Kind, Part, read_fragment};
use casklog::fs::sim::{Fate, SimFs};
use casklog::{Error, Options, SyncPolicy};
use serde::{Deserialize, Serialize};

use crate::common::*;

#[test]
fn opening_makes_the_directory() {
    // F01
    let dir = dir();
    let path = dir.path().join("a/b/c");
    let store = Options::new(&path).open().unwrap();
    assert!(path.is_dir());
    assert!(!names(&path).iter().any(|name| name.ends_with(".log")), "no segment before the first write");
    write_each(&store, [1]);
    assert_holds(&store, [1]);
}

#[test]
fn a_log_reopened_and_written_goes_on_in_the_same_segment() {
    // F02
    let dir = dir();
    let window = Duration::from_millis(1);
    let open = || Options::new(dir.path()).sync(SyncPolicy::Grouped { window }).open().unwrap();
    let store = open();
    write_each(&store, 1..=3);
    store.close().unwrap();
    let store = open();
    for i in 4..=5u64 {
        let appended = store.append(format!("key {i}"), &format!("value {i}")).unwrap();
        assert_eq!(appended.index, i);
    }
    store.close().unwrap();
    let store = open();
    assert_eq!(store.segments().len(), 1);
    assert_holds(&store, 1..=5);
}

#[test]
fn a_hundred_concurrent_writers_share_a_few_syncs() {
    // F03
    let fs = SimFs::new();
    fs.set_sync_delay(Duration::from_millis(10));
    let window = Duration::from_millis(10);
    let options = Options::new("log").fs(Arc::new(fs.clone()));
    let store = options.sync(SyncPolicy::Grouped { window }).open().unwrap();
    write_each(&store, [0]);
    let before = store.stats().syncs;
    std::thread::scope(|scope| {
        for i in 1..=100u64 {
            let store = &store;
            scope.spawn(move || {
                write_each(store, [i]);
                assert!(store.get(i).unwrap().unwrap().is_durable());
            });
        }
    });
    let syncs = store.stats().syncs - before;
    assert!((1..=50).contains(&syncs), "{syncs} syncs for 100 writers");
    assert_holds(&store, 0..=100);
    let found = fs.crash_at(fs.ops(), &mut |_| Fate::Lost);
    assert_holds(&sim(&found).open().unwrap(), 0..=100);
}

#[test]
fn the_last_index_of_an_empty_log_is_none_and_then_the_one_written() {
    // F04
    let dir = dir();
    let store = quick(&dir).open().unwrap();
    assert_eq!((store.last_index(), store.next_index()), (None, Some(1)));
    for _ in 0..5 {
        let appended = store.append("k", "v").unwrap();
        assert_eq!(store.last_index(), Some(appended.index));
        assert_eq!(store.next_index(), Some(appended.index + 1));
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum EventV1 {
    Added { name: String },
    Removed(u64),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum EventV2 {
    Added { name: String },
    Removed(u64),
    Renamed { from: String, to: String },
}

#[test]
fn typed_entries_are_enums_and_an_unknown_type_is_named() {
    // F05, F10
    let dir = dir();
    let store = quick(&dir).open().unwrap();
    let added = EventV2::Added { name: "a".to_owned() };
    let renamed = EventV2::Renamed { from: "a".to_owned(), to: "b".to_owned() };
    store.write(1, "k", &added).unwrap();
    store.write(2, "k", &renamed).unwrap();
    store.write(3, "k", &EventV2::Removed(9)).unwrap();
    store.close().unwrap();
    let store = quick(&dir).open().unwrap();
    let decoded: Vec<_> = store.iter().map(|entry| entry.unwrap().value::<EventV1>()).collect();
    assert_eq!(decoded[0].as_ref().unwrap(), &EventV1::Added { name: "a".to_owned() });
    assert_eq!(decoded[2].as_ref().unwrap(), &EventV1::Removed(9));
    match &decoded[1] {
        Err(error @ Error::Decode { index: 2, reason }) => {
            assert!(reason.contains("Renamed"), "{reason}");
            assert!(error.to_string().contains('2'));
        }
        other => panic!("{other:?}"),
    }
    let entry = store.get(2).unwrap().unwrap();
    assert_eq!(entry.value::<EventV2>().unwrap(), renamed, "the entry is intact");
    assert!(!entry.raw_value().is_empty());
}

#[test]
fn the_file_holds_what_the_format_says_byte_for_byte() {
    // F06
    let fs = SimFs::new();
    let store = sim(&fs).sync(SyncPolicy::None).open().unwrap();
    let values: [&[u8]; 3] = [b"foo", b"", &[7; 300]];
    let mut sizes = Vec::new();
    for (value, i) in values.iter().zip(1u64..) {
        let before = store.stats().bytes_written;
        store.write_bytes(i, "key", value).unwrap();
        sizes.push(store.stats().bytes_written - before);
    }
    store.sync().unwrap();
    let segment = &store.segments()[0];
    let bytes = fs.read_file(&segment.path).unwrap();
    let header = Header::from_bytes(&bytes[..HEADER_BYTES as usize]).unwrap();
    assert_eq!(u64::from(header.number), segment.number);
    let expect = Expect::Exact(header.log_number);
    let mut at = HEADER_BYTES;
    let mut entries = Vec::new();
    while u64::from(at) < segment.bytes {
        let fragment = read_fragment(header.checksum, &bytes[at as usize..], at, expect, None).unwrap();
        assert_eq!(fragment.part, Part::Full);
        if fragment.record.kind == Kind::Entry {
            let entry = EntryRecord::decode(fragment.payload).unwrap();
            let mut encoded = Vec::new();
            EntryRecord::encode_head(&mut encoded, entry.index, b"key");
            assert!(fragment.payload.starts_with(&encoded));
            entries.push((entry.index, entry.value.to_vec(), fragment.payload.len() as u64));
        }
        assert_eq!(fragment.end, at + 11 + fragment.payload.len() as u32);
        at = fragment.end;
    }
    assert_eq!(u64::from(at), segment.bytes, "the sizes add up");
    assert_eq!(entries.len(), 3);
    for (((index, value, size), i), bytes) in entries.iter().zip(1u64..).zip(values) {
        assert_eq!((*index, *size), (i, sizes[i as usize - 1]));
        assert_eq!(rmp_bin(value), bytes);
    }
    assert!(bytes[segment.bytes as usize..].iter().all(|byte| *byte == 0));
}

/// The bytes of a MessagePack `bin`.
fn rmp_bin(value: &[u8]) -> &[u8] {
    match value[0] {
        0xc4 => &value[2..],
        0xc5 => &value[3..],
        other => panic!("{other:#x} is not bin"),
    }
}

#[test]
fn closing_makes_everything_durable_and_closes_the_files() {
    // F07
    let fs = SimFs::new();
    let store = sim(&fs).sync(SyncPolicy::None).segment_entries(4).open().unwrap();
    write_each(&store, 1..=10);
    store.close().unwrap();
    let found = fs.crash_at(fs.ops(), &mut |_| Fate::Lost);
    let found = sim(&found).segment_entries(4).open().unwrap();
    assert!(found.recovery_report().is_clean);
    assert_holds(&found, 1..=10);
    let dir = dir();
    let store = quick(&dir).open().unwrap();
    write_each(&store, 1..=10);
    store.rotate().unwrap();
    assert_entry(&store, 3);
    store.close().unwrap();
    #[cfg(target_os = "linux")]
    assert_eq!(open_files(dir.path()), 0);
}

#[test]
fn a_damaged_entry_can_be_passed_over_and_is_an_error_when_read() {
    // F09
    let fs = SimFs::new();
    let store = sim(&fs).segment_entries(5).open().unwrap();
    write_each(&store, 1..=10);
    let position = store.get(3).unwrap().unwrap().position();
    let path = store.segments()[0].path.clone();
    store.close().unwrap();
    let mut bytes = fs.read_file(&path).unwrap();
    bytes[position.offset() as usize + 20] ^= 4;
    fs.write_file(&path, &bytes);
    let store = sim(&fs).open().unwrap();
    let is_reported = |error: &Error| match error {
        Error::Damaged { path: found, at, .. } => (found, *at) == (&path, position.offset()),
        _ => false,
    };
    for index in [1, 2, 4, 5, 6, 10] {
        assert_entry(&store, index);
    }
    assert!(store.contains(3), "that it is there needs no look at the disk");
    assert!(is_reported(&store.get(3).unwrap_err()));
    assert!(is_reported(&store.get_into(3, &mut Vec::new()).unwrap_err()));
    assert!(is_reported(&store.read(position).unwrap_err()));
    assert!(is_reported(&store.delete(3).unwrap_err()));
    for is_backwards in [false, true] {
        let mut items: Vec<_> = if is_backwards { store.iter().rev().collect() } else { store.iter().collect() };
        if is_backwards {
            items.reverse();
        }
        let good: Vec<u64> = items.iter().flatten().map(casklog::Entry::index).collect();
        assert_eq!(good, [1, 2, 4, 5, 6, 7, 8, 9, 10]);
        assert!(is_reported(items[2].as_ref().unwrap_err()));
    }
    // In the order written, the rest of a damaged segment cannot be told apart; what is behind it can.
    let items: Vec<_> = store.log_order().collect();
    assert_eq!(items.iter().filter(|item| item.is_err()).count(), 1);
    let good: Vec<u64> = items.iter().flatten().map(casklog::LogItem::index).collect();
    assert!(good.starts_with(&[1, 2]) && good.ends_with(&[6, 7, 8, 9, 10]), "{good:?}");
    // The log goes on.
    write_each(&store, [11]);
    assert_entry(&store, 11);
}

#[test]
fn entries_of_very_different_sizes_leave_nothing_of_each_other() {
    // F11
    let dir = dir();
    let store = quick(&dir).open().unwrap();
    let lengths = [3usize, 100_000, 0, 40_000, 1, 2_000_000, 7, 33_000, 0];
    for (length, i) in lengths.iter().zip(0u64..) {
        let text: String = char::from(b'a' + i as u8).to_string().repeat(*length);
        store.write(i, "k".repeat(*length % 1000), &text).unwrap();
    }
    let mut buffer = Vec::new();
    for (length, i) in lengths.iter().zip(0u64..) {
        let expected = char::from(b'a' + i as u8).to_string().repeat(*length);
        let entry = store.get(i).unwrap().unwrap();
        assert!(entry.value::<&str>().unwrap() == expected);
        assert_eq!(entry.key().len(), length % 1000);
        let entry = store.get_into(i, &mut buffer).unwrap().unwrap();
        assert!(entry.value::<&str>().unwrap() == expected);
    }
}
