//! Whole files: missing, cut, zeroed, swapped, foreign, without header or head stamp; and undo.

use casklog::fs::sim::SimFs;
use casklog::{Cause, Error, IndexOrder, RecoveryMode};

use crate::log::{Entries, change, copy, entries, files, on, repaired, segment};

const EACH: u64 = 10;
const SEGMENTS: u64 = 5;

/// Five segments of ten entries, the last one active. Under the entries of the third stands a truncation.
pub(crate) fn filled() -> (SimFs, Entries) {
    let sim = SimFs::new();
    let store = on(&sim).segment_entries(EACH).open().unwrap();
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
    let all = entries(&store);
    store.close().unwrap();
    (sim, all)
}

/// The entries of the segments.
fn of(all: &Entries, numbers: &[u64]) -> Vec<u64> {
    all.iter().filter(|(_, (_, at))| numbers.contains(&at.segment())).map(|(index, _)| *index).collect()
}

/// The entries of a segment that end behind an offset.
fn ending_behind(all: &Entries, number: u64, offset: u64) -> Vec<u64> {
    // A fragment header, an array, a small index, a short key.
    let end = |index: &u64| all[index].1.offset() + 11 + 1 + 1 + 2 + 3 + all[index].0.len() as u64;
    of(all, &[number]).into_iter().filter(|index| end(index) > offset).collect()
}

fn check(damage: impl Fn(&SimFs), causes: &[Cause], lost: &[u64], words: &str) {
    let (sim, all) = filled();
    damage(&sim);
    let damaged = files(&sim);
    let opened = on(&sim).recovery(RecoveryMode::Strict).open().map(|_| ());
    assert!(matches!(opened, Err(Error::Damaged { .. } | Error::Missing { .. })), "{words}: {opened:?}");

    // Undone, it is what it was, byte for byte; and can be repaired again.
    let undone = copy(&sim);
    let report = on(&undone).repair().run().unwrap();
    let paths: Vec<_> = report.segments.iter().map(|segment| segment.path.clone()).collect();
    assert_eq!(on(&undone).repair().undo().unwrap(), paths, "{words}");
    assert_eq!(files(&undone), damaged, "{words}");
    assert!(on(&undone).repair().undo().unwrap().is_empty(), "{words}: nothing is left to undo");

    let (report, gone) = repaired(&undone, &all, words);
    assert_eq!(gone, lost, "{words}: {report:?}");
    let told: Vec<Cause> = report.segments.iter().map(|segment| segment.cause).collect();
    assert_eq!(told, causes, "{words}: {report:?}");
    let refused = on(&undone).repair().undo();
    assert!(matches!(refused, Err(Error::Changed { .. })), "{words}: it was written to since: {refused:?}");
    assert_eq!(on(&undone).open().unwrap().meta("name").unwrap(), b"kept", "{words}");
}

#[test]
fn a_missing_file_costs_its_entries() {
    for number in 1..=SEGMENTS {
        let lost = of(&filled().1, &[number]);
        check(|sim| assert!(sim.remove_file(&segment(number))), &[Cause::MissingFile], &lost, &format!("{number}"));
    }
}

#[test]
fn a_header_or_a_head_stamp_costs_nothing_else() {
    for number in 1..=SEGMENTS {
        for at in [3, 20, 40, 70, 90] {
            let words = format!("segment {number}, byte {at}");
            check(|sim| change(sim, &segment(number), |bytes| bytes[at] ^= 4), &[Cause::BitRot], &[], &words);
        }
        let zeroed = |sim: &SimFs| change(sim, &segment(number), |bytes| bytes[..100].fill(0));
        if number != SEGMENTS {
            check(zeroed, &[Cause::Zeroed], &[], &format!("segment {number}, zeroed at its head"));
        }
    }
}

/// The head stamp of the second names where the first ends: it is made anew when that one is known.
#[test]
fn neighbours_without_header_or_head_stamp_keep_all_their_entries() {
    for first in 1..SEGMENTS {
        for (one, two) in [(20, 80), (80, 80), (80, 20), (20, 20)] {
            let words = format!("segments {first} and {}, bytes {one} and {two}", first + 1);
            let spoil = |sim: &SimFs| {
                change(sim, &segment(first), |bytes| bytes[one] ^= 4);
                change(sim, &segment(first + 1), |bytes| bytes[two] ^= 4);
            };
            check(spoil, &[Cause::BitRot; 2], &[], &words);
        }
    }
}

/// A log that keeps an order is repaired without being told which.
#[test]
fn the_order_of_indexes_is_told_by_any_segment() {
    let sim = SimFs::new();
    let options = || on(&sim).index_order(IndexOrder::Sequential).segment_entries(3);
    let store = options().open().unwrap();
    (1..=9).for_each(|index| _ = store.write(index, "key", &index).unwrap());
    store.close().unwrap();
    change(&sim, &segment(1), |bytes| bytes[80] ^= 1);
    on(&sim).repair().run().unwrap();
    let store = options().recovery(RecoveryMode::Strict).open().unwrap();
    assert_eq!(store.len(), 9);
    assert_eq!(store.append("key", &10).unwrap().index, 10);
    store.close().unwrap();
}

#[test]
fn two_segments_that_stand_under_each_others_names_are_put_right() {
    let swap = |sim: &SimFs| {
        let [two, four] = [2, 4].map(|number| sim.read_file(&segment(number)).unwrap());
        sim.write_file(&segment(4), &two);
        sim.write_file(&segment(2), &four);
    };
    check(swap, &[Cause::SwappedFile; 2], &[], "swapped");
}

#[test]
fn a_copy_of_another_segment_and_a_foreign_file_are_not_taken_for_it() {
    let lost = of(&filled().1, &[3]);
    let duplicate = |sim: &SimFs| {
        let four = sim.read_file(&segment(4)).unwrap();
        sim.write_file(&segment(3), &four);
    };
    check(duplicate, &[Cause::SwappedFile], &lost, "another segment's copy");
    let foreign = filled().0.read_file(&segment(3)).unwrap();
    check(|sim| sim.write_file(&segment(3), &foreign), &[Cause::ForeignFile], &lost, "another log's");
    // Its records bear another number than the successor names.
    let mut headless = foreign.clone();
    headless[20] ^= 1;
    check(|sim| sim.write_file(&segment(3), &headless), &[Cause::BitRot], &lost, "another log's, header damaged");
}

#[test]
fn a_file_that_was_cut_keeps_what_is_left() {
    let (sim, all) = filled();
    let length = sim.read_file(&segment(2)).unwrap().len();
    for keep in [0, 10, 64, 80, 200, 250, 300, 301, 350] {
        assert!(keep < length);
        let lost = ending_behind(&all, 2, keep as u64);
        let words = format!("cut to {keep} bytes");
        let (sim, all) = filled();
        change(&sim, &segment(2), |bytes| bytes.truncate(keep));
        let (report, gone) = repaired(&sim, &all, &words);
        assert_eq!(gone, lost, "{words}: {report:?}");
        assert!(report.segments[0].lost.iter().any(|lost| lost.cause == Cause::Torn), "{words}: {report:?}");
    }
}

#[test]
fn all_of_a_segment_zeroed_behind_its_head_is_lost() {
    let lost = ending_behind(&filled().1, 2, 200);
    check(|sim| change(sim, &segment(2), |bytes| bytes[200..].fill(0)), &[Cause::Zeroed], &lost, "zeroed");
}

#[test]
fn a_log_that_is_whole_is_left_alone() {
    let (sim, _) = filled();
    let before = files(&sim);
    let report = on(&sim).repair().run().unwrap();
    assert!(!report.is_damaged() && report.record.is_none(), "{report:?}");
    assert_eq!(files(&sim), before);
    assert!(on(&sim).repair().undo().unwrap().is_empty());
}

#[test]
fn a_log_that_is_open_or_not_there_is_refused() {
    let (sim, _) = filled();
    let store = on(&sim).open().unwrap();
    assert!(matches!(on(&sim).repair().run(), Err(Error::Locked { .. })));
    assert!(matches!(on(&sim).repair().undo(), Err(Error::Locked { .. })));
    store.close().unwrap();
    assert!(matches!(on(&SimFs::new()).repair().run(), Err(Error::NotFound { .. })));
}
