//! Damage of every kind, in every recovery mode: reported, never returned as data, never silently dropped.

use std::path::PathBuf;

use casklog::fs::sim::SimFs;
use casklog::{Error, RecoveryMode, SyncPolicy};

use crate::named::segment;
use crate::support::damage::{Log, MODES, copy};
use crate::support::look::look;
use crate::support::model::Change;
use crate::support::runner::{Act, GROUPED, Runner, Setup};
use crate::support::state::compare;

/// Four segments, all acknowledged; the last is not sealed. Clean, or as a power cut leaves it.
fn log(is_clean: bool) -> Log {
    let mut setup = Setup::new(GROUPED);
    setup.segment_entries = Some(3);
    let mut runner = Runner::create(&setup, 21);
    let mut acts = vec![Act::Append(40); 6];
    acts.insert(4, Act::Append(300));
    acts.extend([Act::Meta(2, 10), Act::Append(40), Act::Delete(5), Act::Append(40), Act::Append(40), Act::Idle]);
    if is_clean {
        acts.push(Act::Reopen);
    }
    runner.run(&acts).unwrap();
    if is_clean {
        runner.store.close().unwrap();
    }
    let fs = copy(&runner.fs);
    Log { fs, setup, model: runner.model, former: Default::default() }
}

#[test]
fn every_flipped_byte_of_a_segment_is_noticed() {
    for is_clean in [true, false] {
        let log = log(is_clean);
        for number in 1..=4 {
            let path = segment(number);
            let Some(bytes) = log.fs.read_file(&path) else { continue };
            let store = log.setup.options(&copy(&log.fs)).open().unwrap();
            let used = store.segments().iter().find(|info| info.number == number).map_or(0, |info| info.bytes);
            let last = store.segments().last().unwrap().number;
            store.close().unwrap();
            for at in 0..bytes.len().min(used as usize + 64) {
                // The bits in turn: R5 flips all of each byte, and opens in `Strict` and for reading alone.
                let bit = at % 8;
                let fs = log.damaged(&path, |bytes| bytes[at] ^= 1 << bit);
                let words = format!("clean {is_clean}, segment {number} byte {at} of {used}, bit {bit}");
                // Recovery's own record, or the last watermark, is no one's data.
                let must = (at as u64) < used && number < last;
                for mode in MODES {
                    let is_reported = log.examine(&fs, mode, &words);
                    let looks = mode == RecoveryMode::Strict || at >= 64;
                    assert!(is_reported || !must || !looks || is_stamp(at), "{words}: not reported in {mode:?}");
                }
            }
        }
    }
}

/// Head stamps of trusted segments hold nothing that a reader asks for; strict mode reads them.
fn is_stamp(at: usize) -> bool {
    at < 160
}

#[test]
fn a_missing_or_foreign_file_is_noticed() {
    for is_clean in [true, false] {
        let log = log(is_clean);
        let last = (1..=9).rev().find(|number| log.fs.read_file(&segment(*number)).is_some()).unwrap();
        for number in 1..=3 {
            let fs = copy(&log.fs);
            assert!(fs.remove_file(&segment(number)));
            log.examine_all(&fs, true, &format!("clean {is_clean}, segment {number} missing"));
            let fs = log.damaged(&segment(number), Vec::clear);
            log.examine_all(&fs, true, &format!("clean {is_clean}, segment {number} emptied"));
        }
        for (a, b) in [(1, 2), (2, 3), (1, 3)] {
            let (one, two) = (log.fs.read_file(&segment(a)).unwrap(), log.fs.read_file(&segment(b)).unwrap());
            let fs = log.damaged(&segment(a), |bytes| bytes.clone_from(&two));
            log.examine_all(&fs, true, &format!("clean {is_clean}, segment {a} is a copy of {b}"));
            fs.write_file(&segment(b), &one);
            log.examine_all(&fs, true, &format!("clean {is_clean}, segments {a} and {b} swapped"));
        }
        assert!(last >= 3);
    }
}

#[test]
fn a_segment_that_was_cut_below_the_watermark_is_noticed() {
    for is_clean in [true, false] {
        let log = log(is_clean);
        let store = log.setup.options(&copy(&log.fs)).open().unwrap();
        for info in store.segments() {
            for to in (0..info.bytes as usize).step_by(13) {
                let fs = log.damaged(&info.path, |bytes| bytes.truncate(to));
                let must = info.is_sealed;
                log.examine_all(&fs, must, &format!("clean {is_clean}, segment {} cut to {to}", info.number));
            }
        }
    }
}

#[test]
fn garbage_behind_the_end_is_a_torn_tail() {
    for is_clean in [true, false] {
        let log = log(is_clean);
        let store = log.setup.options(&copy(&log.fs)).open().unwrap();
        let last = store.segments().last().unwrap().clone();
        let end = store.stats().tail.offset() as usize;
        store.close().unwrap();
        for (at, length) in [(end, 1), (end, 30), (end + 1, 7), (end + 512, 512), (end, 5_000)] {
            let fs = log.damaged(&last.path, |bytes| {
                let to = bytes.len().max(at + length);
                bytes.resize(to, 0);
                bytes[at..at + length].fill(0xA5);
            });
            let strict = log.open(&fs, RecoveryMode::Strict);
            assert!(matches!(strict, Err(Error::TornTail { .. })), "{strict:?}");
            for mode in &MODES[1..] {
                let fs = copy(&fs);
                let store = log.open(&fs, *mode).unwrap();
                let report = store.recovery_report();
                assert!(!report.is_damaged() && report.torn_tail.is_some(), "{at}+{length}: {report:?}");
                compare(&look(&store).unwrap(), &log.model, false).unwrap();
                store.append("k", "v").unwrap();
            }
        }
    }
}

/// The tombstones and truncations of a lost segment are lost with it, but the next head stamp repeats the truncations.
#[test]
fn salvage_does_not_bring_back_what_a_lost_segment_had_truncated() {
    let mut setup = Setup::new(GROUPED);
    setup.segment_entries = Some(3);
    let mut runner = Runner::create(&setup, 5);
    let mut acts = vec![Act::Append(40); 3];
    acts.extend([
        Act::Rotate,
        Act::Truncate(Change::After(1)),
        Act::Append(40),
        Act::Rotate,
        Act::Append(40),
        Act::Idle,
    ]);
    runner.run(&acts).unwrap();
    let fs = copy(&runner.fs);
    let lost = runner.model.items[&2].position.segment();
    let path: PathBuf = segment(lost);
    assert!(fs.remove_file(&path));
    let store = setup.options(&fs).recovery(RecoveryMode::Salvage).open().unwrap();
    assert!(store.get(1).unwrap().is_some());
    assert!(!matches!(store.get(2), Ok(Some(_))), "index 2 was written again in the lost segment");
    assert!(!matches!(store.get(3), Ok(Some(entry)) if entry.position().segment() < lost), "index 3 came back");
    let positions = store.iter().flatten().map(|entry| (entry.index(), entry.position().segment()));
    let came_back: Vec<_> = positions.filter(|(index, number)| *index > 1 && *number < lost).collect();
    assert!(came_back.is_empty(), "{came_back:?} came back");
}

/// A footer is a cache of a scan. One that was written for a salvaged segment once hid from every later open that
/// acknowledged entries were lost in it.
#[test]
fn damage_that_was_salvaged_is_still_damage_at_the_next_open() {
    for is_clean in [true, false] {
        let log = log(is_clean);
        for (index, item) in log.model.items.iter().filter(|(_, item)| !item.is_deleted) {
            let at = item.position.offset() as usize + 12;
            let path = segment(item.position.segment());
            let fs = log.damaged(&path, |bytes| bytes[at] ^= 1);
            let store = log.open(&fs, RecoveryMode::Salvage).unwrap();
            assert!(!matches!(store.get(*index), Ok(Some(_))));
            for index in 100..107 {
                store.write(index, "k", "v").unwrap();
            }
            store.close().unwrap();
            for mode in MODES {
                let words = format!("clean {is_clean}, index {index}");
                assert!(log.examine(&fs, mode, &words), "{words} is forgotten in {mode:?}");
            }
        }
    }
}

/// A log of one segment that was never sealed or closed: only the watermarks in it say what was acknowledged, and its
/// head stamp is all that makes it a part of the log.
#[test]
fn the_only_segment_is_never_taken_for_a_spare() {
    let mut setup = Setup::new(GROUPED);
    setup.segment_entries = None;
    let mut runner = Runner::create(&setup, 5);
    runner.run(&vec![Act::Append(40); 5]).unwrap();
    runner.run(&[Act::Idle]).unwrap();
    let log = Log { fs: copy(&runner.fs), setup, model: runner.model, former: Default::default() };
    for at in 0..160 {
        let fs = log.damaged(&segment(1), |bytes| bytes[at] ^= 4);
        log.examine_all(&fs, true, &format!("byte {at}"));
    }
    for to in [0, 30, 64, 100, 160, 300] {
        let fs = log.damaged(&segment(1), |bytes| bytes.truncate(to));
        let error = log.open(&fs, RecoveryMode::TornTail).err();
        assert!(to > 60 || error.is_some(), "cut to {to}: it opens");
    }
}

/// The watermark behind the last entry is all that says that it was acknowledged. A search finds it only where it is
/// whole: wherever the entry ends, the watermark is not split between that block and the next.
#[test]
fn a_watermark_at_the_end_of_a_block_is_found_behind_damage() {
    const BLOCK: u64 = 32 << 10;
    let mut near = 0;
    for bytes in BLOCK as usize - 260..BLOCK as usize - 100 {
        let mut setup = Setup::new(GROUPED);
        (setup.segment_entries, setup.segment_bytes) = (None, 1 << 20);
        let fs = SimFs::new();
        let store = setup.options(&fs).open().unwrap();
        store.append_bytes("k", [1; 10]).unwrap();
        store.append_bytes("k", vec![2; bytes]).unwrap();
        let end = store.stats().tail.offset();
        near += u64::from((BLOCK - 40..BLOCK).contains(&end));
        store.idle().unwrap();
        let image = fs.killed();
        let mut bytes = image.read_file(&segment(1)).unwrap();
        bytes[20_000] ^= 1;
        image.write_file(&segment(1), &bytes);
        let found = setup.options(&image).open();
        assert!(matches!(found, Err(Error::Damaged { .. })), "an entry that ends at {end} goes without a word");
    }
    assert_eq!(near, 40, "the entry ends at every place before a block");
}

/// Zeros in the place of a record that was acknowledged are no end: a watermark stands behind them.
#[test]
fn zeros_before_a_watermark_are_damage() {
    let mut setup = Setup::new(GROUPED);
    setup.segment_entries = None;
    let fs = SimFs::new();
    let store = setup.options(&fs).open().unwrap();
    let offsets: Vec<usize> =
        (0..6).map(|n| store.append_bytes("k", [n; 40]).unwrap().position.offset() as usize).collect();
    let image = fs.killed();
    let mut bytes = image.read_file(&segment(1)).unwrap();
    // With the watermark before the next one.
    bytes[offsets[2]..offsets[3]].fill(0);
    image.write_file(&segment(1), &bytes);
    let found = setup.options(&image).open();
    assert!(matches!(found, Err(Error::Damaged { .. })), "{:?}", found.map(|store| store.len()));
}

/// That the first segment was durable is told by a watermark in the second one, where the manifest is lost.
#[test]
fn a_watermark_in_a_later_segment_tells_damage() {
    let mut setup = Setup::new(SyncPolicy::None);
    setup.segment_entries = Some(2);
    let fs = SimFs::new();
    let store = setup.options(&fs).open().unwrap();
    let offsets: Vec<usize> =
        (0..4).map(|n| store.append_bytes("k", [n; 40]).unwrap().position.offset() as usize).collect();
    let image = fs.killed();
    assert!(image.remove_file(&PathBuf::from("/db/segment_manifest")));
    let mut bytes = image.read_file(&segment(1)).unwrap();
    bytes[offsets[1] + 20] ^= 1;
    image.write_file(&segment(1), &bytes);
    let found = setup.options(&image).open();
    assert!(matches!(found, Err(Error::Damaged { .. })), "{:?}", found.map(|store| store.len()));
}
