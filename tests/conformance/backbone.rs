//! After Backbone81: creation, settings, rollover, offsets, ranges, counters.

use std::time::Duration;

use casklog::format::{HEADER_BYTES, Header};
use casklog::fs::sim::SimFs;
use casklog::{Checksum, Error, IndexOrder, SyncPolicy};

use crate::common::*;

#[test]
fn without_create_a_log_must_be_there() {
    // B01
    let dir = dir();
    let missing = dir.path().join("missing");
    let outcome = casklog::Options::new(&missing).create(false).open();
    assert!(matches!(outcome, Err(Error::NotFound { .. })), "{outcome:?}");
    assert!(!missing.exists());
    let outcome = quick(&dir).create(false).open();
    assert!(matches!(&outcome, Err(Error::NotFound { path }) if path == dir.path()), "{outcome:?}");
    let store = quick(&dir).open().unwrap();
    assert!(store.recovery_report().is_new);
    write_each(&store, [1]);
    store.close().unwrap();
    let store = quick(&dir).create(false).open().unwrap();
    assert!(!store.recovery_report().is_new);
    assert_holds(&store, [1]);
}

#[test]
fn every_checksum_and_policy_keeps_the_same_entries_and_the_header_tells_the_checksum() {
    // B02
    let every = Duration::from_millis(1);
    let policies = [
        SyncPolicy::None,
        SyncPolicy::Immediate,
        SyncPolicy::Grouped { window: every },
        SyncPolicy::Periodic { every, entries: 2, bytes: 1 << 20 },
    ];
    for checksum in [Checksum::Crc32, Checksum::Crc64] {
        for policy in policies {
            let dir = dir();
            let open = || quick(&dir).sync(policy).checksum(checksum).first_index(0).open().unwrap();
            let store = open();
            assert!(store.iter().next().is_none());
            assert!(store.log_order().next().is_none());
            for (value, i) in ["foo", "bar", "baz"].into_iter().zip(0u64..) {
                assert_eq!(store.append("k", value).unwrap().index, i);
            }
            store.close().unwrap();
            let bytes = std::fs::read(&store.segments()[0].path).unwrap();
            assert_eq!(Header::from_bytes(&bytes).unwrap().checksum, checksum);
            let store = open();
            let mut items = store.iter();
            for (value, i) in ["foo", "bar", "baz"].into_iter().zip(0u64..) {
                let entry = items.next().unwrap().unwrap();
                assert_eq!((entry.index(), entry.value::<String>().unwrap()), (i, value.to_owned()));
            }
            assert!(items.next().is_none());
        }
    }
}

#[test]
fn another_checksum_at_reopen_begins_with_the_next_segment() {
    // B02, neighbours
    let fs = SimFs::new();
    let open = |checksum| sim(&fs).checksum(checksum).open().unwrap();
    let checksums = |store: &casklog::Store| -> Vec<Checksum> {
        let header = |path| Header::from_bytes(&fs.read_file(path).unwrap()[..HEADER_BYTES as usize]).unwrap();
        store.segments().iter().map(|segment| header(&segment.path).checksum).collect()
    };
    let store = open(Checksum::Crc32);
    write_each(&store, 1..=3);
    store.close().unwrap();
    let store = open(Checksum::Crc64);
    write_each(&store, 4..=6);
    assert_eq!(checksums(&store), [Checksum::Crc32]);
    store.rotate().unwrap();
    write_each(&store, 7..=9);
    assert_eq!(checksums(&store), [Checksum::Crc32, Checksum::Crc64]);
    assert_holds(&store, 1..=9);
    let found = fs.killed();
    assert_holds(&sim(&found).open().unwrap(), 1..=9);
    store.close().unwrap();
    let store = open(Checksum::Crc32);
    write_each(&store, 10..=12);
    store.rotate().unwrap();
    write_each(&store, 13..=15);
    assert_eq!(checksums(&store), [Checksum::Crc32, Checksum::Crc64, Checksum::Crc32]);
    assert_holds(&store, 1..=15);
    store.close().unwrap();
    assert_holds(&open(Checksum::Crc64), 1..=15);
}

#[test]
fn a_write_that_does_not_fit_rolls_over() {
    // B03
    let dir = dir();
    let store = inline(&dir).segment_bytes(512).open().unwrap();
    let first = store.write_bytes(1, "k", [7; 1024]).unwrap();
    assert_eq!(store.stats().rotations, 0);
    let second = store.write_bytes(2, "k", "abc").unwrap();
    assert_eq!((first.segment(), second.segment()), (1, 2));
    assert_eq!(store.stats().rotations, 1);
    assert_eq!(store.get(1).unwrap().unwrap().bytes().unwrap(), [7; 1024]);
    assert_eq!(store.get(2).unwrap().unwrap().bytes().unwrap(), b"abc");
}

#[test]
fn with_one_byte_a_segment_the_second_write_rolls_over_and_no_name_is_temporary() {
    // B04
    let fs = SimFs::new();
    let store = sim(&fs).segment_bytes(1).preallocate(false).open().unwrap();
    write_each(&store, [1]);
    assert_eq!(store.stats().rotations, 0);
    write_each(&store, [2]);
    assert_eq!(store.stats().rotations, 1);
    write_each(&store, [3]);
    assert_eq!(store.stats().rotations, 2);
    store.close().unwrap();
    let mut seen = Vec::new();
    for op in 0..=fs.ops() {
        // All names that a crash could leave, had everything reached the disk.
        let found = fs.crash_at(op, &mut |_| casklog::fs::sim::Fate::Kept);
        seen.extend(found.list_all());
    }
    for path in seen {
        let name = path.file_name().unwrap().to_str().unwrap();
        // The manifest, which is made once, gets its name when it is durable; a segment has its name from the beginning.
        let is_known = ["segment_lock", "segment_manifest", "segment_manifest.new"].contains(&name);
        assert!(is_known || (name.len() == 32 && name.ends_with(".log")), "{name}");
    }
    assert_holds(&sim(&fs).open().unwrap(), 1..=3);
}

#[test]
fn entries_replay_across_segments_with_room_prepared() {
    // B05
    let fs = SimFs::new();
    let open = || sim(&fs).segment_bytes(1).preallocate(true).open().unwrap();
    let store = open();
    write_each(&store, 1..=3);
    assert_eq!(store.stats().rotations, 2);
    assert_holds(&sim(&fs.killed()).open().unwrap(), 1..=3);
    store.close().unwrap();
    let store = open();
    assert_holds(&store, 1..=3);
    write_each(&store, [4]);
    assert_eq!(store.stats().rotations, 1);
    assert_holds(&store, 1..=4);
}

#[test]
fn a_segment_without_entries_is_a_clean_end_with_and_without_room_prepared() {
    // B06
    for preallocate in [true, false] {
        let fs = SimFs::new();
        let store = sim(&fs).preallocate(preallocate).open().unwrap();
        assert!(store.iter().next().is_none() && store.log_order().next().is_none());
        write_each(&store, [1]);
        store.rotate().unwrap();
        assert_eq!(store.segments()[1].entries, 0);
        assert_eq!(store.log_order().count(), 1);
        for found in [fs.killed(), fs.crash_at(fs.ops(), &mut |_| casklog::fs::sim::Fate::Lost)] {
            let store = sim(&found).preallocate(preallocate).open().unwrap();
            assert!(!store.recovery_report().is_damaged());
            assert_eq!(store.recovery_report().torn_tail, None);
            assert_holds(&store, [1]);
            assert_eq!(store.log_order().count(), 1);
        }
    }
}

#[test]
fn offsets_and_indexes_after_each_entry_are_exact() {
    // B07
    for (checksum, header) in [(Checksum::Crc32, 11), (Checksum::Crc64, 15)] {
        let fs = SimFs::new();
        let store = sim(&fs).sync(SyncPolicy::None).checksum(checksum).open().unwrap();
        let mut at = None;
        for i in 0..3u64 {
            let position = store.write_bytes(i, "key", "foo").unwrap();
            assert_eq!(at.unwrap_or(position.offset()), position.offset());
            // The fragment's header; then array, index, bin 8 of the key, bin 8 of the value.
            let end = position.offset() + header + 1 + 1 + (2 + 3) + (2 + 3);
            assert_eq!(store.stats().tail.offset(), end);
            assert_eq!(store.next_index(), Some(i + 1));
            at = Some(end);
        }
    }
}

#[test]
fn a_range_begins_at_the_right_entry_wherever_it_is_asked_to() {
    // B11
    let dir = dir();
    let store = inline(&dir).segment_entries(5).index_order(IndexOrder::Increasing).open().unwrap();
    write_each(&store, 1..=23);
    let of = |range: std::ops::RangeFrom<u64>| -> Vec<u64> {
        store.range(range).map(|entry| entry.unwrap().index()).collect()
    };
    assert_eq!(of(8..), (8..=23).collect::<Vec<_>>(), "amid a segment");
    assert_eq!(of(6..), (6..=23).collect::<Vec<_>>(), "at the head of a segment");
    assert_eq!(of(1..), (1..=23).collect::<Vec<_>>(), "at the first");
    assert_eq!(of(23..), [23], "at the last");
    assert_eq!(of(24..), [], "past the end");
    assert_eq!(of(u64::MAX..), []);
    let old = store.get(7).unwrap().unwrap().position();
    let kept = store.get(13).unwrap().unwrap().position();
    store.truncate_before(12).unwrap();
    assert_eq!(of(0..), (12..=23).collect::<Vec<_>>(), "from the first live entry");
    assert_eq!(of(3..), (12..=23).collect::<Vec<_>>());
    match store.iter_from(old) {
        Err(Error::Removed { first }) => assert_eq!(first, Some(12)),
        other => panic!("{other:?}"),
    }
    let items: Vec<u64> = store.iter_from(kept).unwrap().map(|item| item.unwrap().index()).collect();
    assert_eq!(items, (13..=23).collect::<Vec<_>>());
    for below in [0, 3, 11] {
        match store.follow(below) {
            Err(Error::Removed { first }) => assert_eq!(first, Some(12)),
            other => panic!("{other:?}"),
        }
    }
    let mut follow = store.follow(20).unwrap();
    for expected in 20..=23 {
        assert_eq!(follow.try_next().unwrap().unwrap().index(), expected);
    }
    assert!(follow.try_next().unwrap().is_none());
}

#[test]
fn counters_move_by_exact_counts_and_a_refused_write_counts_nothing() {
    // B13
    let fs = SimFs::new();
    let store = sim(&fs).segment_entries(4).record_bytes_max(1000).open().unwrap();
    let zero = store.stats();
    assert_eq!((zero.entries_written, zero.bytes_written, zero.syncs, zero.rotations), (0, 0, 0, 0));
    for i in 0..4u64 {
        store.write_bytes(i, "key", "foo").unwrap();
    }
    let stats = store.stats();
    assert_eq!((stats.entries_written, stats.bytes_written), (4, 4 * (1 + 1 + 5 + 5)));
    assert_eq!((stats.syncs, stats.rotations, stats.segments, stats.entries), (4, 0, 1, 4));
    assert!(store.write_bytes(0, "key", "foo").is_err());
    assert!(store.write_bytes(9, "key", [0; 2000]).is_err());
    assert!(store.write_batch(casklog::Batch::new().put_bytes(4, "", "").put_bytes(4, "", "")).is_err());
    assert_eq!(store.stats(), stats);
    store.write_bytes(4, "key", "foo").unwrap();
    assert_eq!(store.stats().rotations, 1);
    assert_eq!(store.stats().seals, 1);
    store.delete(4).unwrap();
    let stats = store.stats();
    assert_eq!((stats.entries_written, stats.entries, stats.deleted, stats.segments), (5, 4, 1, 2));
    let syncs = stats.syncs;
    store.sync().unwrap();
    assert_eq!(store.stats().syncs, syncs, "nothing was left to sync");
}

#[test]
fn opening_what_is_there_keeps_it_and_another_order_is_refused() {
    // B15
    for stored in [IndexOrder::Any, IndexOrder::Increasing, IndexOrder::Sequential] {
        let dir = dir();
        let store = quick(&dir).index_order(stored).open().unwrap();
        write_each(&store, 1..=3);
        store.close().unwrap();
        let before = image(dir.path());
        for asked in [IndexOrder::Any, IndexOrder::Increasing, IndexOrder::Sequential] {
            let outcome = quick(&dir).index_order(asked).first_index(500).open();
            match outcome {
                Ok(store) => {
                    assert_eq!(asked, stored);
                    assert_holds(&store, 1..=3);
                    assert_eq!(store.next_index(), Some(4), "first_index is for new logs");
                    store.close().unwrap();
                }
                Err(Error::IndexOrderStored { stored: s, asked: a }) => {
                    assert_eq!((s, a), (stored, asked));
                    assert_ne!(asked, stored);
                }
                Err(other) => panic!("{other:?}"),
            }
            assert_eq!(image(dir.path()), before, "open and close without a write change no byte");
        }
    }
}
