//! Files that are cut, flipped or overwritten.

use casklog::fs::sim::SimFs;
use casklog::{Batch, Error, RecoveryMode, SyncPolicy};

use crate::common::*;

#[test]
fn a_last_record_cut_at_any_byte_is_dropped_and_the_log_goes_on() {
    // X01
    let fs = SimFs::new();
    let store = sim(&fs).open().unwrap();
    write_each(&store, 1..=5);
    let start = store.get(5).unwrap().unwrap().position().offset() as usize;
    let end = store.stats().tail.offset() as usize;
    let path = store.segments()[0].path.clone();
    let bytes = fs.read_file(&path).unwrap();
    for cut in start..end {
        for is_shorter in [true, false] {
            let found = fs.killed();
            let mut bytes = bytes.clone();
            if is_shorter {
                bytes.truncate(cut);
            } else {
                bytes[cut..].fill(0);
            }
            found.write_file(&path, &bytes);
            let store = sim(&found).open().unwrap();
            assert_holds(&store, 1..=4);
            let torn = store.recovery_report().torn_tail.clone();
            // Its last byte may have been a zero.
            assert_eq!(torn.is_some(), bytes[start..].iter().any(|byte| *byte != 0), "cut at {cut}");
            if let Some(torn) = torn {
                assert_eq!((&torn.path, torn.at.offset() as usize), (&path, start));
            }
            assert_eq!(store.append("key 5", "value 5").unwrap().index, 5);
            drop(store);
            let store = sim(&found.killed()).open().unwrap();
            assert_holds(&store, 1..=5);
        }
    }
}

#[test]
fn a_closed_log_that_is_cut_at_any_byte_is_never_opened_as_if_nothing_were_missing() {
    // X01, X03
    let fs = SimFs::new();
    let store = sim(&fs).open().unwrap();
    write_each(&store, 1..=3);
    let start = store.get(3).unwrap().unwrap().position().offset() as usize;
    let end = store.stats().tail.offset() as usize;
    let path = store.segments()[0].path.clone();
    store.close().unwrap();
    let bytes = fs.read_file(&path).unwrap();
    for cut in start..end {
        let found = fs.killed();
        found.write_file(&path, &bytes[..cut]);
        let before = found.killed();
        let outcome = sim(&found).open();
        assert!(matches!(&outcome, Err(Error::Damaged { path: at, .. }) if *at == path), "cut at {cut}: {outcome:?}");
        assert!(before.same_bytes(&found), "cut at {cut}: a refused open changes nothing");
        let store = sim(&found).recovery(RecoveryMode::PointInTime).open().unwrap();
        assert!(store.recovery_report().is_damaged());
        assert_eq!(indexes(&store), [1, 2]);
        assert!(matches!(store.writable(), Err(Error::ReadOnly { .. })));
        assert!(matches!(store.write(9, "k", "v"), Err(Error::ReadOnly { .. })));
        drop(store);
        assert!(before.same_bytes(&found), "cut at {cut}: reading changes nothing");
    }
}

/// A closed log of three segments, the last one active, and what stood where.
struct Closed {
    fs: SimFs,
    tail: u64,
}

fn closed() -> Closed {
    let fs = SimFs::new();
    // Without syncs no watermarks stand between the records.
    let store = sim(&fs).sync(SyncPolicy::None).segment_entries(4).open().unwrap();
    write_each(&store, 1..=12);
    let tail = store.stats().tail.offset();
    store.close().unwrap();
    Closed { fs, tail }
}

#[test]
fn a_flipped_bit_in_a_sealed_record_is_reported_and_hides_nothing_else() {
    // X03
    let Closed { fs, .. } = closed();
    let store = sim(&fs.killed()).open().unwrap();
    let position = store.get(6).unwrap().unwrap().position();
    let end = store.get(7).unwrap().unwrap().position().offset();
    drop(store);
    let path = sim_segment(2);
    let bytes = fs.read_file(&path).unwrap();
    for at in position.offset()..end {
        let mut bytes = bytes.clone();
        bytes[at as usize] ^= 1 << (at % 8);
        fs.write_file(&path, &bytes);
        let outcome = sim(&fs).recovery(RecoveryMode::Strict).open();
        assert!(matches!(&outcome, Err(Error::Damaged { path: p, .. }) if *p == path), "byte {at}: {outcome:?}");
        for mode in [RecoveryMode::TornTail, RecoveryMode::PointInTime, RecoveryMode::Salvage] {
            let store = sim(&fs.killed()).recovery(mode).open().unwrap();
            match store.get(6) {
                Err(Error::Damaged { path: p, at: found, .. }) => {
                    assert_eq!((p, found), (path.clone(), position.offset()), "byte {at}");
                }
                other => panic!("byte {at}: {other:?}"),
            }
            let items: Vec<_> = store.iter().collect();
            assert_eq!(items.iter().filter(|item| item.is_err()).count(), 1);
            let good: Vec<u64> = items.iter().flatten().map(casklog::Entry::index).collect();
            assert_eq!(good, [1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12], "byte {at}");
            good.iter().for_each(|index| assert_entry(&store, *index));
        }
    }
}

#[test]
fn a_flipped_bit_in_the_last_segment_is_reported_and_the_mode_says_what_is_left() {
    // X03
    let Closed { fs, tail } = closed();
    let store = sim(&fs.killed()).open().unwrap();
    let position = store.get(10).unwrap().unwrap().position();
    let end = store.get(11).unwrap().unwrap().position().offset();
    drop(store);
    let path = sim_segment(3);
    let bytes = fs.read_file(&path).unwrap();
    assert!(bytes.len() as u64 >= tail);
    for at in position.offset()..end {
        let mut bytes = bytes.clone();
        bytes[at as usize] ^= 1 << (at % 8);
        fs.write_file(&path, &bytes);
        let before = fs.killed();
        for mode in [RecoveryMode::Strict, RecoveryMode::TornTail] {
            match sim(&fs).recovery(mode).open() {
                Err(Error::Damaged { path: p, at: found, .. }) => {
                    assert_eq!((p, found), (path.clone(), position.offset()), "byte {at}");
                }
                other => panic!("byte {at}, {mode:?}: {other:?}"),
            }
            assert!(before.same_bytes(&fs), "byte {at}: a refused open changes nothing");
        }
        let store = sim(&fs).recovery(RecoveryMode::PointInTime).open().unwrap();
        assert_eq!(indexes(&store), (1..=9).collect::<Vec<_>>(), "byte {at}");
        assert!(matches!(store.write(13, "k", "v"), Err(Error::ReadOnly { .. })));
        drop(store);
        assert!(before.same_bytes(&fs), "byte {at}");
        let store = sim(&fs.killed()).recovery(RecoveryMode::Salvage).open().unwrap();
        assert!(store.recovery_report().is_damaged());
        (1..=9).for_each(|index| assert_entry(&store, index));
        assert!(
            matches!(store.get(10), Err(Error::Lost { segment: 3 } | Error::Damaged { .. })),
            "byte {at}: {:?}",
            store.get(10)
        );
        for index in [11, 12] {
            match store.get(index) {
                Ok(Some(_)) => assert_entry(&store, index),
                Err(Error::Lost { segment: 3 } | Error::Damaged { .. }) => {}
                other => panic!("byte {at}: entry {index} is silently gone: {other:?}"),
            }
        }
        write_each(&store, [100]);
        assert_entry(&store, 100);
    }
}

#[test]
fn a_length_that_lies_is_damage_and_allocates_nothing() {
    // X04
    let Closed { fs, .. } = closed();
    let store = sim(&fs.killed()).open().unwrap();
    let position = store.get(10).unwrap().unwrap().position().offset() as usize;
    drop(store);
    let path = sim_segment(3);
    let bytes = fs.read_file(&path).unwrap();
    for length in [u16::MAX, 0x8000, 0x7fff, 0, 1] {
        let mut bytes = bytes.clone();
        bytes[position + 4..position + 6].copy_from_slice(&length.to_le_bytes());
        fs.write_file(&path, &bytes);
        match sim(&fs).open() {
            Err(Error::Damaged { path: p, at, .. }) => assert_eq!((p, at as usize), (path.clone(), position)),
            other => panic!("{length}: {other:?}"),
        }
    }
}

#[test]
fn a_payload_whose_inner_lengths_lie_under_a_good_checksum_is_damage() {
    // X04
    use casklog::format::{Framer, HEADER_BYTES, Header, Kind, RecordType};
    let fs = SimFs::new();
    let store = sim(&fs).sync(SyncPolicy::None).open().unwrap();
    write_each(&store, 1..=3);
    let position = store.get(2).unwrap().unwrap().position().offset();
    let next = store.get(3).unwrap().unwrap().position().offset();
    let path = store.segments()[0].path.clone();
    store.close().unwrap();
    let bytes = fs.read_file(&path).unwrap();
    let header = Header::from_bytes(&bytes[..HEADER_BYTES as usize]).unwrap();
    let framer = Framer { checksum: header.checksum, log_number: header.log_number };
    let room = (next - position) as usize - 11;
    // Array of 3, index 2, a key of 2^32 - 1 bytes; a map, an array and a string of as many; an array of 2^31.
    let payloads: [&[u8]; 5] = [
        &[0x93, 2, 0xc6, 0xff, 0xff, 0xff, 0xff],
        &[0x93, 0xdf, 0xff, 0xff, 0xff, 0xff],
        &[0xdd, 0xff, 0xff, 0xff, 0xff],
        &[0xdd, 0x80, 0, 0, 0, 2, 0xc4, 1, b'k'],
        &[0x92, 2, 0xc4, 1, b'k'],
    ];
    for payload in payloads {
        let mut padded = payload.to_vec();
        padded.resize(room, 0xc1);
        let mut framed = Vec::new();
        framer.frame(&mut framed, position as u32, RecordType::alone(Kind::Entry), &padded);
        let mut bytes = bytes.clone();
        bytes[position as usize..position as usize + framed.len()].copy_from_slice(&framed);
        fs.write_file(&path, &bytes);
        match sim(&fs).open() {
            Err(Error::Damaged { path: p, .. }) => assert_eq!(p, path),
            // Its own kind of value may be anything.
            Ok(store) => assert!(store.get(2).is_ok_and(|entry| entry.is_none_or(|e| e.value::<u64>().is_err()))),
            Err(other) => panic!("{payload:?}: {other:?}"),
        }
    }
}

#[test]
fn a_batch_cut_at_any_byte_is_there_as_a_whole_or_not_at_all() {
    // X11
    let fs = SimFs::new();
    let store = sim(&fs).sync(SyncPolicy::None).open().unwrap();
    write_each(&store, 1..=5);
    let start = store.stats().tail.offset() as usize;
    let mut batch = Batch::new();
    batch.put_bytes(11, "a", [1; 20]).put_bytes(12, "b", [2; 20]).put_bytes(13, "c", [3; 20]);
    batch.delete(2).put_meta("vote", "7").truncate_before(2);
    store.write_batch(&batch).unwrap();
    let end = store.stats().tail.offset() as usize;
    let path = store.segments()[0].path.clone();
    let bytes = fs.read_file(&path).unwrap();
    for cut in start..=end {
        for filler in [0, 0xa5] {
            let found = fs.killed();
            let mut bytes = bytes.clone();
            bytes[cut..end.next_multiple_of(512)].fill(filler);
            found.write_file(&path, &bytes);
            let store = sim(&found).open().unwrap();
            if store.contains(11) {
                assert_eq!(cut, end);
                assert_eq!(indexes(&store), [3, 4, 5, 11, 12, 13]);
                assert_eq!(store.meta("vote").unwrap(), b"7");
            } else {
                assert_holds(&store, 1..=5);
                assert_eq!(store.meta("vote"), None, "cut at {cut}");
                assert_eq!(store.next_index(), Some(6));
            }
        }
    }
}

/// Iterators and single reads of files that were cut after they were opened: what is left is read, the rest is damage.
#[test]
fn a_file_that_is_cut_under_an_open_log_is_damage_and_nothing_else() {
    // X01, neighbours
    let fs = SimFs::new();
    let store = sim(&fs).segment_entries(10).open().unwrap();
    write_each(&store, 1..=25);
    let path = sim_segment(2);
    let starts: Vec<usize> =
        (11..=20).map(|index| store.get(index).unwrap().unwrap().position().offset() as usize).collect();
    store.close().unwrap();
    let whole = fs.read_file(&path).unwrap();
    for (index, start) in (11..).zip(&starts) {
        for cut in [*start, start + 1, start + 15] {
            let fs = fs.killed();
            let store = sim(&fs).cache_bytes(0).open().unwrap();
            fs.write_file(&path, &whole[..cut]);
            for found in 1..=25 {
                match store.get(found) {
                    Ok(Some(_)) if !(index..=20).contains(&found) => assert_entry(&store, found),
                    Err(Error::Damaged { path: at, .. }) if (11..=20).contains(&found) => assert_eq!(at, path),
                    other => panic!("{found} of a file cut at {cut}, before {index}: {other:?}"),
                }
            }
            let shown: Vec<_> = store.iter().collect();
            assert!(shown.iter().any(|entry| matches!(entry, Err(Error::Damaged { .. }))), "cut at {cut}");
            let live: Vec<u64> = shown.iter().flatten().map(casklog::Entry::index).collect();
            assert!(live.iter().all(|found| !(index..=20).contains(found)), "{live:?}, cut at {cut}");
        }
    }
}

/// The rest of a block that is too small for a header is zero. No checksum covers it.
#[test]
fn what_stands_in_the_rest_of_a_block_is_damage_too() {
    // X01, neighbours
    const BLOCK: u64 = 32 << 10;
    for rest in 1..=10 {
        let fs = SimFs::new();
        let store = sim(&fs).open().unwrap();
        let tail = || {
            let index = store.append("key", &[0u8; 300].as_slice()).unwrap().index;
            (index, store.stats().tail.offset())
        };
        let ((_, before), (_, behind)) = (tail(), tail());
        while BLOCK - store.stats().tail.offset() > 2000 {
            store.append("key", &[0u8; 300].as_slice()).unwrap();
        }
        let room = BLOCK - store.stats().tail.offset() - rest;
        let bytes = vec![0u8; (300 + room - (behind - before)) as usize];
        store.append("key", &bytes.as_slice()).unwrap();
        assert_eq!(store.stats().tail.offset(), BLOCK - rest);
        let last = store.append("key", "behind").unwrap().index;
        store.close().unwrap();
        let found = fs.killed();
        let store = sim(&found).recovery(RecoveryMode::Strict).open().unwrap();
        assert_eq!(store.get(last).unwrap().unwrap().value::<String>().unwrap(), "behind");
        drop(store);
        for at in BLOCK - rest..BLOCK {
            let fs = fs.killed();
            let mut bytes = fs.read_file(&sim_segment(1)).unwrap();
            assert_eq!(bytes[at as usize], 0);
            bytes[at as usize] = 1;
            fs.write_file(&sim_segment(1), &bytes);
            let outcome = sim(&fs).recovery(RecoveryMode::Strict).open();
            let is_noticed = matches!(&outcome, Err(Error::Damaged { path, .. }) if *path == sim_segment(1));
            assert!(is_noticed, "byte {at}, rest {rest}: {outcome:?}");
        }
    }
}
