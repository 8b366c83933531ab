//! After rosedb: positions, sizes around a block, staged writes, limits.

use casklog::fs::sim::SimFs;
use casklog::{Batch, Error, Options, Position};

use crate::common::*;

const BLOCK: usize = casklog::format::BLOCK_BYTES as usize;
const HEADER: usize = 11;

#[test]
fn three_writes_are_read_by_their_positions() {
    // R01
    let dir = dir();
    let store = quick(&dir).open().unwrap();
    let values = ["one", "", "three"];
    let positions: Vec<Position> = (0..3).map(|i| store.write_bytes(i as u64, "k", values[i]).unwrap()).collect();
    assert!(positions.is_sorted());
    for is_sealed in [false, true] {
        for (position, value) in positions.iter().zip(values) {
            let entry = store.read(*position).unwrap().unwrap();
            assert_eq!(entry.bytes().unwrap(), value.as_bytes(), "sealed {is_sealed}");
            assert_eq!(entry.position(), *position);
        }
        store.rotate().unwrap();
    }
}

/// Writes values of this length, and reads them by index, position and iterator.
fn check_length(options: Options, length: usize, count: u64) {
    let store = options.open().unwrap();
    let value_of = |i: u64| Numbers(i).bytes(length);
    let positions: Vec<Position> = (1..=count).map(|i| store.write_bytes(i, "k", value_of(i)).unwrap()).collect();
    let mut items = store.log_order();
    for (position, i) in positions.iter().zip(1..) {
        let item = items.next().unwrap().unwrap();
        assert_eq!((item.position(), item.index()), (*position, i), "length {length}");
    }
    assert!(items.next().is_none());
    for ((entry, position), i) in store.iter().zip(&positions).zip(1..) {
        let entry = entry.unwrap();
        assert_eq!(entry.position(), *position);
        assert!(entry.bytes().unwrap() == value_of(i), "length {length}, index {i}");
    }
    for i in (1..=count).step_by(7) {
        let position = positions[i as usize - 1];
        let entry = store.read(position).unwrap().unwrap();
        assert_eq!((entry.index(), entry.bytes().unwrap().len()), (i, length));
        assert_eq!(store.get(i).unwrap().unwrap().position(), position);
    }
}

#[test]
fn a_hundred_thousand_small_entries_keep_their_positions() {
    // R02
    let dir = dir();
    check_length(quick(&dir).segment_bytes(4 << 20), 100, 100_000);
}

#[test]
fn values_around_the_size_of_a_block_keep_their_positions() {
    // R02
    let lengths = [
        BLOCK - HEADER,
        BLOCK - HEADER - 3,
        BLOCK - 2 * HEADER,
        BLOCK - 1,
        BLOCK,
        BLOCK + 1,
        BLOCK + 100,
        3 * BLOCK + 100,
    ];
    for length in lengths {
        check_length(sim(&SimFs::new()).segment_bytes(1 << 20), length, 40);
    }
}

#[test]
fn values_of_many_blocks_keep_their_positions() {
    // R02
    for blocks in [32, 64] {
        let dir = dir();
        check_length(quick(&dir).segment_bytes(16 << 20), blocks * BLOCK, 20);
    }
}

#[test]
fn a_staged_batch_is_empty_or_gives_positions_in_order() {
    // R03
    let dir = dir();
    let store = quick(&dir).open().unwrap();
    let mut batch = Batch::new();
    assert!(batch.is_empty());
    assert_eq!(store.write_batch(&batch).unwrap(), []);
    assert!(store.is_empty());
    for i in 1..=10_000u64 {
        batch.put_bytes(i, "k", Numbers(i).bytes(1536));
    }
    assert_eq!(batch.len(), 10_000);
    let positions = store.write_batch(&batch).unwrap();
    assert_eq!(positions.len(), 10_000);
    assert!(positions.is_sorted_by(|a, b| a < b));
    for i in [1u64, 2, 5_000, 9_999, 10_000] {
        let entry = store.read(positions[i as usize - 1]).unwrap().unwrap();
        assert_eq!(entry.index(), i);
        assert_eq!(entry.bytes().unwrap(), Numbers(i).bytes(1536));
    }
    batch.clear();
    assert!(batch.is_empty());
    assert_eq!(store.write_batch(&batch).unwrap(), []);
    assert_eq!(store.len(), 10_000);
}

/// What a write of `value` under index 1 with the key "k" is once encoded.
fn encoded_bytes(value: usize) -> u64 {
    let bin = |len: usize| match len {
        0..=255 => 2 + len,
        256..=65_535 => 3 + len,
        _ => 5 + len,
    };
    (1 + 1 + bin(1) + bin(value)) as u64
}

#[test]
fn a_batch_over_its_limit_is_refused_and_one_at_its_limit_is_not() {
    // R04
    let one = encoded_bytes(100);
    for (limit, fits) in [(2 * one + 1, true), (2 * one, true), (2 * one - 1, false)] {
        let fs = SimFs::new();
        let store = sim(&fs).batch_bytes_max(limit).record_bytes_max(limit).open().unwrap();
        write_each(&store, [100]);
        let ops = fs.ops();
        let mut batch = Batch::new();
        batch.put_bytes(1, "k", [7; 100]).put_bytes(2, "k", [7; 100]);
        let outcome = store.write_batch(&batch);
        if fits {
            outcome.unwrap();
            assert_eq!(indexes(&store), [1, 2, 100]);
        } else {
            match outcome {
                Err(Error::TooLarge { what, bytes, limit: named }) => {
                    assert_eq!((what, bytes, named), ("batch", 2 * one, limit));
                }
                other => panic!("{other:?}"),
            }
            assert_eq!(fs.ops(), ops, "nothing was written");
            assert_holds(&store, [100]);
            assert!(matches!(store.submit_batch(&batch), Err(Error::TooLarge { .. })));
        }
    }
}

#[test]
fn a_record_over_its_limit_is_refused_and_one_at_its_limit_is_not() {
    // R05
    let at_limit = encoded_bytes(1000);
    let fs = SimFs::new();
    let store = sim(&fs).record_bytes_max(at_limit).open().unwrap();
    write_each(&store, [100]);
    let ops = fs.ops();
    for outcome in [
        store.write_bytes(1, "k", [7; 1001]).map(drop),
        store.submit(1, "k", &"x".repeat(1001)).map(drop),
        store.append_bytes("k", [7; 1001]).map(drop),
        store.write_bytes(1, [0; 2000], []).map(drop),
    ] {
        match outcome {
            Err(Error::TooLarge { what, bytes, limit }) => {
                assert_eq!((what, limit), ("record", at_limit));
                assert!(bytes > limit);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(fs.ops(), ops, "nothing was written");
    assert_holds(&store, [100]);
    store.write_bytes(1, "k", [7; 1000]).unwrap();
    store.write_bytes(2, "k", [7; 999]).unwrap();
    assert_eq!(indexes(&store), [1, 2, 100]);
    // A limit binds writes only.
    store.close().unwrap();
    let store = sim(&fs).record_bytes_max(10).open().unwrap();
    assert_eq!(store.get(1).unwrap().unwrap().bytes().unwrap().len(), 1000);
    assert!(store.write_bytes(3, "k", [7; 100]).is_err());
}

#[test]
fn a_value_larger_than_a_segment_is_written_because_segment_bytes_is_a_threshold() {
    // R05
    let dir = dir();
    for preallocate in [true, false] {
        let prefix = format!("{preallocate}_");
        let open = || {
            let options = quick(&dir).segment_bytes(4096).preallocate(preallocate);
            options.prefix(&prefix).open().unwrap()
        };
        let store = open();
        let value = Numbers(1).bytes(3 << 20);
        store.write_bytes(1, "k", "small").unwrap();
        store.write_bytes(2, "k", &value).unwrap();
        store.write_bytes(3, "k", "small").unwrap();
        assert_eq!(store.segments().len(), 3);
        assert!(store.get(2).unwrap().unwrap().bytes().unwrap() == value);
        store.close().unwrap();
        assert!(open().get(2).unwrap().unwrap().bytes().unwrap() == value);
    }
}

#[test]
fn rotating_by_hand_begins_the_next_segment() {
    // R06
    let dir = dir();
    let store = quick(&dir).open().unwrap();
    store.rotate().unwrap();
    assert!(store.segments().is_empty(), "rotating an empty log does nothing");
    write_each(&store, 1..=3);
    store.rotate().unwrap();
    let segments = store.segments();
    assert_eq!(segments.iter().map(|segment| segment.number).collect::<Vec<_>>(), [1, 2]);
    assert!(segments[0].is_sealed && !segments[1].is_sealed);
    assert!(store.stats().durable.segment() == 2 || store.stats().durable >= store.get(3).unwrap().unwrap().position());
    store.rotate().unwrap();
    assert_eq!(store.segments().len(), 2, "a segment without records is not rotated");
    let position = store.write(4, "key 4", "value 4").unwrap();
    assert_eq!(position.segment(), 2);
    assert_holds(&store, 1..=4);
    store.close().unwrap();
    let store = quick(&dir).open().unwrap();
    assert_eq!(store.segments().len(), 2);
    assert_holds(&store, 1..=4);
    write_each(&store, [5]);
    assert_holds(&store, 1..=5);
}
