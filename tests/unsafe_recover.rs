//! `UnsafeRecover`: drops damaged segments, keeps everything else, loses no byte.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use casklog::fs::Fs;
use casklog::fs::sim::{Fault, OpKind, SimFs};
use casklog::{Error, Options, RecoveryMode, Store, SyncPolicy, UnsafeRecover};

const DIR: &str = "/log";
/// Entries in each of the segments that `filled` writes.
const EACH: u64 = 10;
const SEGMENTS: u64 = 5;

fn on(sim: &SimFs) -> Options {
    Options::new(DIR).fs(Arc::new(sim.clone())).background(false).segment_entries(EACH).sync(SyncPolicy::Immediate)
}

fn segment(number: u64) -> PathBuf {
    Path::new(DIR).join(format!("segment_{number:020}.log"))
}

/// Five segments of ten entries; the last one is active. The third one truncates: its entries begin at 19 again.
fn filled() -> SimFs {
    let sim = SimFs::new();
    let store = on(&sim).open().unwrap();
    store.put_meta("name", b"kept").unwrap();
    for index in 1..=20 {
        store.write(index, "key", &format!("first {index}")).unwrap();
    }
    store.rotate().unwrap();
    store.truncate_after(18).unwrap();
    for index in 19..=48 {
        store.write(index, "key", &format!("second {index}")).unwrap();
    }
    assert_eq!(store.segments().len() as u64, SEGMENTS);
    store.close().unwrap();
    sim
}

fn flip(sim: &SimFs, path: &Path, at: usize) {
    let mut bytes = sim.read_file(path).unwrap();
    bytes[at] ^= 0x10;
    sim.write_file(path, &bytes);
}

/// What each index must read as once the segment `lost` was dropped; `None` for lost.
fn expected(index: u64, lost: &[u64]) -> Option<String> {
    let segment = match index {
        1..=10 => 1,
        11..=18 => 2,
        19..=28 => 3,
        29..=38 => 4,
        _ => 5,
    };
    let value = if index <= 18 { format!("first {index}") } else { format!("second {index}") };
    (!lost.contains(&segment)).then_some(value)
}

/// The indexes an iterator shows, `None` for a range that was lost; the same from both ends.
fn shown(store: &Store) -> Vec<Option<u64>> {
    let show = |entry: casklog::Result<casklog::Entry>| match entry {
        Ok(entry) => Some(entry.index()),
        Err(Error::Lost { .. }) => None,
        Err(error) => panic!("{error}"),
    };
    let forwards: Vec<_> = store.iter().map(show).collect();
    let mut backwards: Vec<_> = store.iter().rev().map(show).collect();
    backwards.reverse();
    assert_eq!(forwards, backwards);
    forwards
}

fn check(store: &Store, lost: &[u64]) {
    for index in 1..=48 {
        let got = store.get(index);
        match expected(index, lost) {
            Some(value) => assert_eq!(got.unwrap().unwrap().value::<String>().unwrap(), value, "index {index}"),
            None => assert!(matches!(got, Err(Error::Lost { .. })), "index {index}: {got:?}"),
        }
    }
    let kept = (1..=48).map(|index| expected(index, lost).map(|_| index));
    let mut kept: Vec<Option<u64>> = kept.collect();
    let entries = kept.iter().flatten().count();
    kept.dedup();
    // Neighbouring segments that were lost are a range each.
    let mut seen = shown(store);
    let ranges = seen.iter().filter(|index| index.is_none()).count();
    assert_eq!(ranges, lost.len());
    seen.dedup();
    assert_eq!(seen, kept, "nothing that the dropped segment had truncated comes back");
    assert_eq!(store.len(), entries as u64);
    assert_eq!(store.meta("name").unwrap(), b"kept");
}

/// Damages, recovers, and checks what is left; writes on and reopens.
fn recovers(damage: impl Fn(&SimFs), lost: &[u64]) {
    let sim = filled();
    damage(&sim);
    let before: Vec<_> = lost.iter().map(|number| sim.read_file(&segment(*number))).collect();
    let opened = on(&sim).recovery(RecoveryMode::Strict).open();
    assert!(matches!(opened, Err(Error::Damaged { .. } | Error::Missing { .. })), "{opened:?}");

    let dropped = on(&sim).unsafe_recover().unwrap();
    assert_eq!(dropped, lost.iter().map(|number| segment(*number)).collect::<Vec<_>>());
    for (number, before) in lost.iter().zip(before) {
        let name = segment(*number);
        let quarantined = Path::new(DIR).join("segment_quarantine").join(name.file_name().unwrap());
        assert_eq!(sim.read_file(&quarantined), before, "the dropped file lies in quarantine, byte for byte");
    }
    assert!(on(&sim).unsafe_recover().unwrap().is_empty(), "nothing is left to drop");

    let store = on(&sim).recovery(RecoveryMode::Strict).open().unwrap();
    assert!(!store.recovery_report().is_damaged(), "{:?}", store.recovery_report());
    assert_eq!(store.recovery_report().gaps.len(), lost.len());
    check(&store, lost);
    for index in 100..130 {
        store.write(index, "key", &index).unwrap();
    }
    store.close().unwrap();
    let store = on(&sim).recovery(RecoveryMode::Strict).open().unwrap();
    assert_eq!(store.get(129).unwrap().unwrap().value::<u64>().unwrap(), 129);
    // What was lost stays reported, and is not taken for what a truncation had emptied.
    for index in (1..=48).filter(|index| expected(*index, lost).is_none()) {
        assert!(matches!(store.get(index), Err(Error::Lost { .. })), "index {index}, opened again");
    }
    let readable = store.range(..100).filter(Result::is_ok).count();
    assert_eq!(readable, (1..=48).filter(|index| expected(*index, lost).is_some()).count());
    store.close().unwrap();
}

#[test]
fn a_damaged_record_in_any_segment_costs_that_segment_only() {
    for number in 1..=SEGMENTS {
        recovers(|sim| flip(sim, &segment(number), 300), &[number]);
    }
}

#[test]
fn a_damaged_header_costs_that_segment_only() {
    for number in 1..=SEGMENTS {
        recovers(|sim| flip(sim, &segment(number), 20), &[number]);
    }
}

#[test]
fn a_damaged_head_stamp_costs_that_segment_only() {
    for number in 1..=SEGMENTS {
        recovers(|sim| flip(sim, &segment(number), 80), &[number]);
    }
}

/// Where its footer is bad, too, its records are read one by one, and what they truncate is taken from them.
#[test]
fn a_damaged_record_and_a_damaged_footer_cost_that_segment_only() {
    for number in 1..SEGMENTS {
        let damage = |sim: &SimFs| {
            let path = segment(number);
            flip(sim, &path, 300);
            let length = sim.read_file(&path).unwrap().len();
            flip(sim, &path, length - 20);
        };
        recovers(damage, &[number]);
    }
}

/// The head stamp behind it would say what it truncates. Where that is lost as well, what was read of it does.
#[test]
fn what_a_damaged_segment_truncated_stays_so_where_no_head_stamp_tells() {
    let damage = |sim: &SimFs| {
        flip(sim, &segment(3), 400);
        flip(sim, &segment(4), 80);
    };
    recovers(damage, &[3, 4]);

    let sim = filled();
    damage(&sim);
    on(&sim).unsafe_recover().unwrap();
    let kept = sim.list(Path::new("/log/segment_quarantine")).unwrap();
    assert_eq!(kept.len(), 2, "nothing is replaced twice: {kept:?}");
    // The new head stamp says it, too, where the replacement itself is lost.
    sim.remove_file(&segment(3));
    assert_eq!(on(&sim).unsafe_recover().unwrap(), [segment(3)]);
    let store = on(&sim).recovery(RecoveryMode::Strict).open().unwrap();
    check(&store, &[3, 4]);
    store.close().unwrap();
}

/// How many entries it had is known to nobody: as many count as lost as it had room for, and no more.
#[test]
fn all_that_may_have_stood_in_a_last_segment_is_lost() {
    let sim = SimFs::new();
    let store = on(&sim).segment_entries(1000).open().unwrap();
    for index in 1..=10 {
        store.write(index, "k", &index).unwrap();
    }
    store.rotate().unwrap();
    for index in 11..=500 {
        store.write(index, "k", &index).unwrap();
    }
    let end = store.stats().tail.offset();
    store.close().unwrap();
    flip(&sim, &segment(2), 20);
    on(&sim).unsafe_recover().unwrap();
    let store = on(&sim).recovery(RecoveryMode::Strict).open().unwrap();
    for index in 11..=500 {
        assert!(matches!(store.get(index), Err(Error::Lost { segment: 2 })), "{index}: {:?}", store.get(index));
    }
    let gap = &store.recovery_report().gaps[0];
    let (first, last) = gap.indexes.unwrap();
    assert!(first == 11 && (500..=end).contains(&last), "{gap:?}");
    assert!(store.get(last + 1).unwrap().is_none());
    store.close().unwrap();
}

#[test]
fn several_damaged_segments_are_dropped_together() {
    let damage = |sim: &SimFs| {
        flip(sim, &segment(2), 300);
        flip(sim, &segment(3), 80);
        flip(sim, &segment(5), 300);
    };
    recovers(damage, &[2, 3, 5]);
}

#[test]
fn a_missing_file_gets_a_gap_in_its_place() {
    for number in 1..=SEGMENTS {
        let sim = filled();
        sim.remove_file(&segment(number));
        let opened = on(&sim).open();
        assert!(matches!(opened, Err(Error::Missing { .. })), "segment {number}: {opened:?}");
        assert_eq!(on(&sim).unsafe_recover().unwrap(), [segment(number)]);
        let store = on(&sim).recovery(RecoveryMode::Strict).open().unwrap();
        for index in 1..=48 {
            match expected(index, &[number]) {
                Some(value) => assert_eq!(store.get(index).unwrap().unwrap().value::<String>().unwrap(), value),
                // Nobody knows which indexes stood in a last segment that is gone without a trace.
                None => assert!(!matches!(store.get(index), Ok(Some(_))), "index {index}"),
            }
        }
        store.close().unwrap();
    }
}

/// The manifest is a witness, and not needed to read the log.
#[test]
fn a_log_whose_manifest_is_lost_too_is_recovered() {
    recovers(
        |sim| {
            flip(sim, &segment(3), 300);
            assert!(sim.remove_file(&Path::new(DIR).join("segment_manifest")));
        },
        &[3],
    );
}

#[test]
fn what_an_interrupted_run_left_and_cannot_be_removed_is_named() {
    let sim = filled();
    flip(&sim, &segment(3), 300);
    let left = Path::new(DIR).join(format!("segment_{:020}.replacement", 3));
    sim.write_file(&left, b"half");
    sim.inject(Fault::new(OpKind::Remove, 13).on("replacement"));
    let error = on(&sim).unsafe_recover().unwrap_err();
    assert!(error.to_string().contains("remove"), "{error}");
    sim.clear_faults();
    assert_eq!(on(&sim).unsafe_recover().unwrap(), [segment(3)]);
    assert!(sim.read_file(&left).is_none());
}

#[test]
fn a_torn_tail_is_not_damage_and_is_left_to_open() {
    // G12
    let sim = filled();
    let mut bytes = sim.read_file(&segment(SEGMENTS)).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    bytes.truncate(end);
    bytes.extend_from_slice(&[0xa5; 300]);
    sim.write_file(&segment(SEGMENTS), &bytes);
    assert!(on(&sim).unsafe_recover().unwrap().is_empty());
    let store = on(&sim).open().unwrap();
    let torn = store.recovery_report().torn_tail.clone().expect("the tail is reported");
    assert_eq!(torn.bytes, 300);
    check(&store, &[]);
    store.close().unwrap();
}

#[test]
fn an_open_log_and_a_missing_one_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(UnsafeRecover::run(dir.path(), "segment_"), Err(Error::NotFound { .. })));
    let store = Store::open(dir.path()).unwrap();
    store.append("k", &1).unwrap();
    assert!(matches!(UnsafeRecover::run(dir.path(), "segment_"), Err(Error::Locked { .. })));
    store.close().unwrap();
    assert!(UnsafeRecover::run(dir.path(), "segment_").unwrap().is_empty());
    assert!(matches!(UnsafeRecover::run(dir.path().join("no"), "segment_"), Err(Error::NotFound { .. })));
}

#[test]
fn a_crash_at_any_step_leaves_the_old_or_the_new_segment_and_a_rerun_completes() {
    let damaged = filled();
    flip(&damaged, &segment(3), 300);
    let sim = damaged.killed();
    let start = sim.ops();
    on(&sim).unsafe_recover().unwrap();
    let mut states = 0;
    for op in start..=sim.ops() {
        for image in sim.crash_images(op, 64, op as u64) {
            states += 1;
            on(&image).unsafe_recover().unwrap();
            let store = on(&image).recovery(RecoveryMode::Strict).open().unwrap();
            check(&store, &[3]);
            store.close().unwrap();
            let folder = Path::new(DIR).join("segment_quarantine");
            let kept = image.list(&folder).unwrap();
            let whole = damaged.read_file(&segment(3));
            assert!(kept.iter().any(|entry| image.read_file(&folder.join(&entry.name)) == whole), "op {op}");
        }
    }
    assert!(states > 20, "{states}");
}

/// A call that fails is no damage: no good segment is dropped for it.
#[test]
fn a_call_that_fails_at_any_step_is_an_error_and_a_rerun_completes() {
    const EIO: i32 = 5;
    let damaged = filled();
    flip(&damaged, &segment(3), 300);
    let whole = damaged.read_file(&segment(3));
    let mut errors = 0;
    for kind in OpKind::CALLS {
        for nth in 1.. {
            let sim = damaged.killed();
            sim.inject(Fault::new(kind, EIO).nth(nth));
            let outcome = on(&sim).unsafe_recover();
            if sim.faults_hit() == 0 {
                assert_eq!(outcome.unwrap(), [segment(3)]);
                break;
            }
            let what = format!("{kind:?} {nth}");
            match &outcome {
                Ok(dropped) => assert_eq!(*dropped, [segment(3)], "{what}"),
                Err(Error::Io { source, .. }) => assert_eq!(source.raw_os_error(), Some(EIO), "{what}"),
                Err(other) => panic!("{what}: {other:?}"),
            }
            errors += u64::from(outcome.is_err());
            sim.clear_faults();
            on(&sim).unsafe_recover().unwrap();
            let store = on(&sim).recovery(RecoveryMode::Strict).open().unwrap();
            check(&store, &[3]);
            store.close().unwrap();
            let folder = Path::new(DIR).join("segment_quarantine");
            let kept = sim.list(&folder).unwrap();
            assert!(kept.iter().any(|entry| sim.read_file(&folder.join(&entry.name)) == whole), "{what}");
        }
    }
    assert!(errors > 20, "{errors}");
}

/// A lost segment's truncations stand in the next head stamp too: what it had truncated must not come back when the log
/// is opened without it.
#[test]
fn salvage_honours_what_a_missing_segment_had_truncated() {
    let sim = SimFs::new();
    let store = on(&sim).open().unwrap();
    for index in 1..=10 {
        store.write(index, "k", &index).unwrap();
    }
    store.rotate().unwrap();
    store.truncate_after(5).unwrap();
    store.truncate_before(3).unwrap();
    store.rotate().unwrap();
    store.write(20, "k", &20).unwrap();
    store.close().unwrap();
    sim.remove_file(&segment(2));
    let store = on(&sim).recovery(RecoveryMode::Salvage).open().unwrap();
    assert_eq!(shown(&store), [Some(3), Some(4), Some(5), None, Some(20)]);
    store.close().unwrap();
}

/// A segment of which nothing can be read looks like one that truncations have emptied. It must not be removed.
#[test]
fn salvage_keeps_the_file_of_a_segment_of_which_nothing_can_be_read() {
    let sim = filled();
    let mut bytes = sim.read_file(&segment(1)).unwrap();
    bytes[130..].iter_mut().for_each(|byte| *byte ^= 0x5a);
    sim.write_file(&segment(1), &bytes);
    for _ in 0..2 {
        let store = on(&sim).recovery(RecoveryMode::Salvage).open().unwrap();
        store.append("k", &0).unwrap();
        store.close().unwrap();
        assert_eq!(sim.read_file(&segment(1)).as_ref(), Some(&bytes));
    }
}

/// Whatever of a segment is bad, what may have stood in it is lost, and not missing without a word, where the next head
/// stamp does not tell where it ended.
#[test]
fn what_stood_in_two_damaged_segments_is_lost_wherever_the_damage_begins() {
    for from in (64..200).chain([300, 400]) {
        let sim = filled();
        let mut bytes = sim.read_file(&segment(3)).unwrap();
        bytes[from..].iter_mut().for_each(|byte| *byte ^= 0x5a);
        sim.write_file(&segment(3), &bytes);
        flip(&sim, &segment(4), 80);
        assert_eq!(on(&sim).unsafe_recover().unwrap(), [segment(3), segment(4)], "{from}");
        let store = on(&sim).recovery(RecoveryMode::Strict).open().unwrap();
        assert!(!store.recovery_report().is_damaged(), "{from}");
        for index in 21..=38 {
            assert!(matches!(store.get(index), Err(Error::Lost { .. })), "{from}: {index}: {:?}", store.get(index));
        }
        assert_eq!(store.get(39).unwrap().unwrap().value::<String>().unwrap(), "second 39", "{from}");
        store.close().unwrap();
    }
}
