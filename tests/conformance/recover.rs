//! `UnsafeRecover`: damaged segments are dropped, and nothing else is.

use casklog::fs::sim::SimFs;
use casklog::{Error, Store, UnsafeRecover};

use crate::common::*;

#[test]
fn open_cuts_exactly_the_garbage_and_leaves_nothing_to_recover() {
    // G12
    let dir = dir();
    let open = || inline(&dir).segment_entries(2).open();
    let store = open().unwrap();
    write_each(&store, 1..=10);
    assert_eq!(store.segments().len(), 5);
    store.close().unwrap();
    let path = store.segments()[4].path.clone();
    let end = store.stats().tail.offset() as usize;
    drop(store);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.truncate(end);
    bytes.extend_from_slice(&[0xa5; 1000]);
    std::fs::write(&path, &bytes).unwrap();
    let before = image(dir.path());
    assert!(UnsafeRecover::run(dir.path(), "segment_").unwrap().is_empty(), "a torn tail is not damage");
    assert_eq!(image(dir.path()), before);
    let store = open().unwrap();
    let torn = store.recovery_report().torn_tail.clone().unwrap();
    assert_eq!((torn.path, torn.at.offset(), torn.bytes), (path, end as u64, 1000));
    assert_holds(&store, 1..=10);
    assert!(matches!(UnsafeRecover::run(dir.path(), "segment_"), Err(Error::Locked { .. })));
    store.close().unwrap();
    drop(store);
    assert!(UnsafeRecover::run(dir.path(), "segment_").unwrap().is_empty());
    assert_holds(&open().unwrap(), 1..=10);
}

#[test]
fn recovery_drops_a_damaged_segment_keeps_its_file_and_the_rest_of_the_log() {
    // G12, neighbours
    let dir = dir();
    let open = || inline(&dir).segment_entries(2).open();
    let store = open().unwrap();
    write_each(&store, 1..=10);
    let position = store.get(5).unwrap().unwrap().position();
    let path = store.segments()[2].path.clone();
    store.close().unwrap();
    drop(store);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[position.offset() as usize + 15] ^= 0x40;
    std::fs::write(&path, &bytes).unwrap();
    let dropped = UnsafeRecover::run(dir.path(), "segment_").unwrap();
    assert_eq!(dropped, std::slice::from_ref(&path));
    let kept = dir.path().join("segment_quarantine").join(path.file_name().unwrap());
    assert!(std::fs::read(kept).unwrap() == bytes, "the file lies in quarantine as it was");
    for _ in 0..2 {
        let store = open().unwrap();
        for index in [1, 2, 3, 4, 7, 8, 9, 10] {
            assert_entry(&store, index);
        }
        for index in [5, 6] {
            assert!(matches!(store.get(index), Err(Error::Lost { segment: 3 })), "{:?}", store.get(index));
        }
        assert!(matches!(store.read(position), Err(Error::Lost { segment: 3 })), "{:?}", store.read(position));
        assert!(!store.recovery_report().is_damaged());
        assert_eq!(store.recovery_report().gaps.len(), 1);
        let next = store.append("k", "v").unwrap().index;
        assert!(next > 10);
        store.close().unwrap();
        drop(store);
        assert!(UnsafeRecover::run(dir.path(), "segment_").unwrap().is_empty());
    }
    assert!(matches!(UnsafeRecover::run(dir.path(), "other_"), Err(Error::NotFound { .. })));
}

/// A closed log of five segments with two entries each.
fn five_segments(work: impl Fn(&Store)) -> SimFs {
    let fs = SimFs::new();
    let store = sim(&fs).segment_entries(2).open().unwrap();
    write_each(&store, 1..=10);
    work(&store);
    store.close().unwrap();
    fs
}

#[test]
fn each_segment_in_turn_may_be_damaged_or_missing_and_the_others_stay() {
    // G12, neighbours
    for number in 1..=5u64 {
        for what in ["header", "record", "missing", "emptied"] {
            let fs = five_segments(|_| {});
            let path = sim_segment(number);
            let mut bytes = fs.read_file(&path).unwrap();
            match what {
                "header" => bytes[5] ^= 1,
                "record" => {
                    let store = sim(&fs.killed()).open().unwrap();
                    let offset = store.get(number * 2).unwrap().unwrap().position().offset();
                    bytes[offset as usize + 14] ^= 1;
                }
                "emptied" => bytes.clear(),
                _ => assert!(fs.remove_file(&path)),
            }
            if what != "missing" {
                fs.write_file(&path, &bytes);
            }
            let dropped = sim(&fs).unsafe_recover().unwrap();
            assert_eq!(dropped, std::slice::from_ref(&path), "{what} of {number}");
            let kept = std::path::Path::new("log/segment_quarantine").join(path.file_name().unwrap());
            assert_eq!(fs.read_file(&kept), Some(bytes).filter(|_| what != "missing"));
            let store = sim(&fs).segment_entries(2).open().unwrap();
            for index in (1..=10u64).filter(|index| index.div_ceil(2) != number) {
                assert_entry(&store, index);
            }
            for index in [number * 2 - 1, number * 2] {
                let outcome = store.get(index);
                let is_lost = matches!(&outcome, Err(Error::Lost { segment }) if *segment == number);
                assert!(is_lost, "{what} of {number}, entry {index}: {outcome:?}");
            }
            let appended = store.append("k", "v").unwrap();
            assert!(appended.index > 10 || number == 5, "{what} of {number}: {appended:?}");
            store.close().unwrap();
            drop(store);
            assert_eq!(sim(&fs).unsafe_recover().unwrap(), Vec::<std::path::PathBuf>::new());
            sim(&fs).recovery(casklog::RecoveryMode::Strict).open().unwrap();
        }
    }
}

#[test]
fn what_a_dropped_segment_had_truncated_stays_truncated() {
    // G12, neighbours
    let fs = five_segments(|store| {
        store.rotate().unwrap();
        store.truncate_after(3).unwrap();
        store.put_meta("vote", "7").unwrap();
        store.rotate().unwrap();
        write_each(store, 20..=21);
    });
    let path = sim_segment(6);
    let mut bytes = fs.read_file(&path).unwrap();
    let at = bytes.iter().rposition(|byte| *byte == b'7').unwrap();
    assert!(at > 64);
    bytes[64 + 12] ^= 1;
    fs.write_file(&path, &bytes);
    assert_eq!(sim(&fs).unsafe_recover().unwrap(), [path]);
    let store = sim(&fs).open().unwrap();
    for index in [1, 2, 3, 20, 21] {
        assert_entry(&store, index);
    }
    for index in 4..=10 {
        assert!(!store.contains(index), "entry {index} came back");
    }
    assert_eq!(store.meta("vote").unwrap(), b"7", "the next head stamp repeats it");
}
