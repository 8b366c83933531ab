//! After nogodb: blocks, fragments, bytes on their way to the file, segment numbers, locks.

use casklog::format::{BLOCK_BYTES, Expect, HEADER_BYTES, Header, Kind, Part, read_fragment};
use casklog::fs::sim::SimFs;
use casklog::{Checksum, Error, Options, Position};

use crate::common::*;

const BLOCK: usize = BLOCK_BYTES as usize;

/// Values of all sizes, in an order by chance, read back in every way.
fn mixed_sizes(options: Options) {
    let store = options.segment_bytes(8 << 20).open().unwrap();
    let mut numbers = Numbers(42);
    let mut lengths: Vec<usize> = (0..20).map(|_| numbers.below(1025) as usize).collect();
    lengths.extend((0..10).map(|_| 2048 + numbers.below(20 << 10) as usize));
    lengths.extend((0..30).map(|_| (200 << 10) + numbers.below(1000 << 10) as usize));
    for i in (1..lengths.len()).rev() {
        lengths.swap(i, numbers.below(i as u64 + 1) as usize);
    }
    let value_of = |i: usize| Numbers(i as u64).bytes(lengths[i]);
    let positions: Vec<Position> =
        (0..lengths.len()).map(|i| store.write_bytes(i as u64, "k", value_of(i)).unwrap()).collect();
    for (i, position) in positions.iter().enumerate() {
        let entry = store.read(*position).unwrap().unwrap();
        assert_eq!(entry.index(), i as u64);
        assert!(entry.bytes().unwrap() == value_of(i));
    }
    for ((entry, position), i) in store.iter().zip(&positions).zip(0..) {
        let entry = entry.unwrap();
        assert_eq!(entry.position(), *position);
        assert!(entry.bytes().unwrap() == value_of(i));
    }
    assert!(store.log_order().map(|item| item.unwrap().position()).eq(positions));
}

#[test]
fn values_of_all_sizes_are_equal_by_position_and_iterator() {
    // N01
    let dir = dir();
    mixed_sizes(quick(&dir));
}

#[test]
fn values_of_all_sizes_are_equal_on_a_file_system_in_memory() {
    // N10
    mixed_sizes(sim(&SimFs::new()).sync(casklog::SyncPolicy::None));
}

#[test]
fn records_are_laid_into_blocks_as_the_format_says() {
    // N02
    for checksum in [Checksum::Crc32, Checksum::Crc64] {
        let head = checksum.fragment_header_bytes();
        // A record of this payload beside a key of one byte: array, index, key, bin header.
        let value_of = |payload: usize| vec![7u8; payload - 1 - 1 - 3 - if payload <= 65_543 { 3 } else { 5 }];
        for length in [10 << 10, 30 << 10, 35 << 10, 62 << 10, 67 << 10, 94 << 10, 99 << 10] {
            for place in [15 << 10, 21 << 10, BLOCK - head, BLOCK - head + 1, BLOCK - 1] {
                let fs = SimFs::new();
                let options = sim(&fs).checksum(checksum).sync(casklog::SyncPolicy::None);
                let store = options.open().unwrap();
                store.write_bytes(1, "k", "").unwrap();
                let tail = store.stats().tail.offset() as usize;
                // Fills up so that the next record would begin exactly at `place` of the second block.
                let filled = BLOCK + place - tail - 2 * head;
                store.write_bytes(2, "k", value_of(filled)).unwrap();
                let at = store.stats().tail.offset() as usize;
                assert_eq!(at, BLOCK + place, "the filler was computed wrongly");
                let position = store.write_bytes(3, "k", value_of(length)).unwrap();
                let start = if BLOCK - place < head { 2 * BLOCK } else { at };
                assert_eq!(position.offset() as usize, start, "{checksum:?} {length} {place}");
                store.sync().unwrap();
                let bytes = fs.read_file(&store.segments()[0].path).unwrap();
                assert!(bytes[at..start].iter().all(|byte| *byte == 0), "padding is zero");
                check_fragments(&bytes, start, length);
                assert_eq!(store.get(3).unwrap().unwrap().bytes().unwrap(), value_of(length));
            }
        }
    }
}

/// The fragments of the record at `at` are First, Middle and Last, or Full, each as long as its block allows.
fn check_fragments(bytes: &[u8], mut at: usize, mut left: usize) {
    let header = Header::from_bytes(&bytes[..HEADER_BYTES as usize]).unwrap();
    let (head, expect) = (header.checksum.fragment_header_bytes(), Expect::Exact(header.log_number));
    let (mut previous, mut is_first) = (None, true);
    while left > 0 || is_first {
        let fragment = read_fragment(header.checksum, &bytes[at..], at as u32, expect, previous).unwrap();
        let room = BLOCK - at % BLOCK - head;
        let expected = match (is_first, left <= room) {
            (true, true) => Part::Full,
            (true, false) => Part::First,
            (false, true) => Part::Last,
            (false, false) => Part::Middle,
        };
        assert_eq!((fragment.part, fragment.payload.len()), (expected, left.min(room)));
        assert_eq!(fragment.record.kind, Kind::Entry);
        left -= fragment.payload.len();
        (at, previous, is_first) = (fragment.end as usize, Some(fragment.sum), false);
    }
}

#[test]
fn values_of_every_length_around_a_block_stand_beside_small_ones() {
    // N03
    for between in ["", "x"] {
        let fs = SimFs::new();
        let open = || sim(&fs).sync(casklog::SyncPolicy::None).open().unwrap();
        let store = open();
        let lengths: Vec<usize> = (BLOCK - 40..=BLOCK + 11).collect();
        let mut next = 0u64;
        let mut put = |value: &[u8]| {
            store.write_bytes(next, "", value).unwrap();
            next += 1;
        };
        for length in &lengths {
            put(&Numbers(*length as u64).bytes(*length));
            put(between.as_bytes());
            put(&Numbers(*length as u64).bytes(*length));
        }
        store.close().unwrap();
        let store = open();
        let values: Vec<Vec<u8>> = store.iter().map(|entry| entry.unwrap().bytes().unwrap().to_vec()).collect();
        assert_eq!(values.len(), 3 * lengths.len());
        for (three, length) in values.chunks(3).zip(&lengths) {
            let expected = Numbers(*length as u64).bytes(*length);
            assert!(three[0] == expected && three[2] == expected, "length {length}");
            assert_eq!(three[1], between.as_bytes());
        }
    }
}

#[test]
fn a_write_is_in_the_file_when_it_returns_and_as_long_as_the_format_says() {
    // N04
    for (mapped, preallocate) in [(true, true), (false, true), (false, false)] {
        let dir = dir();
        let store = quick(&dir).mapped(mapped).preallocate(preallocate).open().unwrap();
        let mut tail = 0;
        for (i, length) in [0usize, 1, 200, 10_000, 250, 70_000].into_iter().enumerate() {
            let value = Numbers(i as u64 + 7).bytes(length);
            let position = store.write_bytes(i as u64, "", &value).unwrap();
            let end = store.stats().tail.offset();
            let bin = if length < 256 {
                2
            } else if length < 65_536 {
                3
            } else {
                5
            };
            let payload = 1 + 1 + 2 + bin + length as u64;
            let blocks = (end - 1) / BLOCK as u64 - position.offset() / BLOCK as u64 + 1;
            assert_eq!(end - position.offset(), payload + 11 * blocks, "length {length}");
            assert!(tail == 0 || tail == position.offset(), "nothing stands between two writes");
            tail = end;
            // Nothing was synced or closed.
            let bytes = std::fs::read(&store.segments()[0].path).unwrap();
            let in_block = length.min(BLOCK - position.offset() as usize % BLOCK - 11 - (payload as usize - length));
            let start = position.offset() as usize + 11 + (payload as usize - length);
            assert_eq!(bytes[start..start + in_block], value[..in_block]);
        }
    }
}

#[test]
fn zeros_prepared_ahead_are_a_clean_end() {
    // N06
    for is_closed in [true, false] {
        let fs = SimFs::new();
        let store = sim(&fs).open().unwrap();
        write_each(&store, 1..=3);
        let path = store.segments()[0].path.clone();
        let tail = store.stats().tail.offset() as usize;
        assert!(fs.read_file(&path).unwrap().len() > 2 * tail, "the file has room prepared");
        if is_closed {
            store.close().unwrap();
        }
        let found = fs.killed();
        let store = sim(&found).open().unwrap();
        assert_eq!(store.recovery_report().torn_tail, None);
        assert_eq!(store.recovery_report().is_clean, is_closed);
        assert_holds(&store, 1..=3);
        write_each(&store, 4..=5);
        store.close().unwrap();
        let store = sim(&found).recovery(casklog::RecoveryMode::Strict).open().unwrap();
        assert!(store.recovery_report().is_clean);
        assert_holds(&store, 1..=5);
    }
}

#[test]
fn segment_numbers_rise_and_are_never_used_again() {
    // N08
    let fs = SimFs::new();
    let mut highest = 0;
    for round in 0..4u64 {
        let store = sim(&fs).segment_entries(2).open().unwrap();
        write_each(&store, 1..=6);
        let numbers: Vec<u64> = store.segments().iter().map(|segment| segment.number).collect();
        assert!(numbers.is_sorted_by(|a, b| a < b));
        let newest = *numbers.last().unwrap();
        assert!(newest > highest, "round {round}: {numbers:?} after {highest}");
        highest = newest;
        if round % 2 == 0 {
            store.reset_to(1).unwrap();
        } else {
            store.truncate_after(0).unwrap();
        }
        assert!(store.is_empty());
        store.close().unwrap();
    }
}

#[test]
fn a_second_open_in_the_same_process_is_refused_until_the_first_is_closed() {
    // N09
    let dir = dir();
    let store = quick(&dir).open().unwrap();
    write_each(&store, [1]);
    for _ in 0..3 {
        match quick(&dir).open() {
            Err(error @ Error::Locked { .. }) => assert!(error.to_string().contains("segment_lock"), "{error}"),
            other => panic!("{other:?}"),
        }
    }
    // Other prefixes are other logs, and a clone is the same handle.
    quick(&dir).prefix("other_").open().unwrap().close().unwrap();
    let clone = store.clone();
    store.close().unwrap();
    drop(store);
    assert!(matches!(clone.write(2, "k", "v"), Err(Error::Closed)));
    let store = quick(&dir).open().unwrap();
    assert_holds(&store, [1]);
    drop(store);
    // Dropped without close: the lock goes as soon as the threads have ended.
    eventually("the release of the lock", || quick(&dir).open().is_ok_and(|store| store.close().is_ok()));
    assert!(names(dir.path()).contains(&"segment_lock".to_owned()), "the lock file stays");
}
