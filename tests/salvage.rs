//! The last segment of a log is lost with what was acknowledged in it, and salvage goes on without it. The next head stamp
//! once named what stands before it, so that from the first write on nobody missed it any more. It keeps its number: what
//! follows names it, and every later open finds it damaged or missing until it is dropped for good.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use casklog::fs::sim::SimFs;
use casklog::{Error, IndexOrder, Options, RecoveryMode, Store, SyncPolicy};

/// The last segment of [`filled`].
const LAST: u64 = 3;

fn on(sim: &SimFs) -> Options {
    Options::new("/log").fs(Arc::new(sim.clone())).background(false).segment_entries(4).sync(SyncPolicy::Immediate)
}

fn segment(number: u64) -> PathBuf {
    format!("/log/segment_{number:020}.log").into()
}

/// Entries 1 to `last`, closed: eight in the segments before the last one.
fn filled_to(last: u64) -> SimFs {
    let sim = SimFs::new();
    let store = on(&sim).open().unwrap();
    for index in 1..=last {
        store.write(index, "k", &index).unwrap();
    }
    store.close().unwrap();
    sim
}

/// One entry in the last segment.
fn filled() -> SimFs {
    let sim = filled_to(9);
    assert!(sim.read_file(&segment(LAST)).is_some() && sim.read_file(&segment(LAST + 1)).is_none());
    sim
}

/// How a file is lost.
#[derive(Debug, Clone, Copy)]
enum Loss {
    Gone,
    Header,
    Stamp,
}

const LOSSES: [Loss; 3] = [Loss::Gone, Loss::Header, Loss::Stamp];

fn lose(sim: &SimFs, number: u64, how: Loss) {
    let path = segment(number);
    let mut bytes = sim.read_file(&path).unwrap();
    match how {
        Loss::Gone => assert!(sim.remove_file(&path)),
        Loss::Header => bytes[20] ^= 1,
        Loss::Stamp => bytes[80] ^= 1,
    }
    if !matches!(how, Loss::Gone) {
        sim.write_file(&path, &bytes);
    }
}

fn salvage(sim: &SimFs) -> Store {
    on(sim).recovery(RecoveryMode::Salvage).open().unwrap()
}

/// Every mode says that this segment is lost; none but salvage writes.
fn is_missed(sim: &SimFs, number: u64, how: Loss) {
    let fits = |error: &Error| match (error, how) {
        (Error::Missing { path, .. }, Loss::Gone) => *path == segment(number),
        (Error::Damaged { path, .. }, Loss::Header | Loss::Stamp) => *path == segment(number),
        _ => false,
    };
    for mode in [RecoveryMode::Strict, RecoveryMode::TornTail] {
        let opened = on(&sim.killed()).recovery(mode).open().map(|store| store.len());
        assert!(opened.as_ref().is_err_and(fits), "{mode:?}, {how:?}: {opened:?}");
    }
    let stopped = on(&sim.killed()).recovery(RecoveryMode::PointInTime).open().unwrap();
    let refused = stopped.append("k", &0);
    assert!(matches!(&refused, Err(Error::ReadOnly { cause }) if fits(cause)), "{how:?}: {refused:?}");
    let report = salvage(&sim.killed()).recovery_report().clone();
    assert!(
        report
            .damage
            .iter()
            .any(|damage| damage.path == segment(number) && damage.is_missing == matches!(how, Loss::Gone)),
        "{how:?}: {report:?}"
    );
    assert!(!report.is_clean && report.strays.is_empty(), "{how:?}: {report:?}");
}

/// Salvages and writes on over several segments, opening again each time.
fn write_on(sim: &SimFs) -> u64 {
    let (mut last, mut end) = (0, None);
    for _ in 0..3 {
        let store = salvage(sim);
        assert!(Some(store.recovery_report().end) >= end, "the log goes on where it ended");
        for _ in 0..5 {
            last = store.append("k", &7).unwrap().index;
        }
        let position = store.get(last).unwrap().unwrap().position();
        assert!(position.segment() > LAST, "{position}: a lost segment's number is never used again");
        end = Some(position);
        store.close().unwrap();
    }
    last
}

#[test]
fn a_lost_last_segment_stays_missed_whatever_is_written_behind_it() {
    for how in LOSSES {
        let sim = filled();
        lose(&sim, LAST, how);
        is_missed(&sim, LAST, how);
        let left = sim.read_file(&segment(LAST));
        salvage(&sim).close().unwrap();
        is_missed(&sim, LAST, how);
        let last = write_on(&sim);
        is_missed(&sim, LAST, how);
        assert_eq!(sim.read_file(&segment(LAST)), left, "{how:?}: what is left of it stays");

        let store = salvage(&sim);
        assert!(store.verify().unwrap().damage.iter().any(|damage| damage.segment == LAST), "{how:?}");
        let seen: Vec<u64> = store.iter().map(|entry| entry.unwrap().index()).collect();
        assert_eq!(seen, (1..=last).collect::<Vec<_>>(), "{how:?}: the indexes that were lost were given anew");
        store.close().unwrap();
    }
}

/// A crash at any moment of it loses neither what salvage wrote nor the knowledge of what is lost.
#[test]
fn a_crash_while_salvage_writes_on_forgets_nothing() {
    let forgets_nothing = |how| {
        let damaged = filled();
        lose(&damaged, LAST, how);
        let sim = damaged.killed();
        let mut written = Vec::new();
        let begun = sim.ops();
        let store = salvage(&sim);
        for _ in 0..6 {
            let index = store.append("k", &7).unwrap().index;
            written.push((sim.ops(), index));
        }
        store.close().unwrap();
        for op in begun..=sim.ops() {
            for image in sim.crash_images(op, 4, op as u64) {
                is_missed(&image, LAST, how);
                let store = salvage(&image);
                for (_, index) in written.iter().filter(|(done, _)| *done <= op) {
                    assert!(store.get(*index).unwrap().is_some(), "{how:?}, op {op}: {index}");
                }
                store.append("k", &8).unwrap();
                store.close().unwrap();
                is_missed(&image, LAST, how);
            }
        }
    };
    std::thread::scope(|scope| {
        for how in LOSSES {
            scope.spawn(move || forgets_nothing(how));
        }
    });
}

/// What recovery removes above the end of the log is never the lost segment: its number is not above the end.
#[test]
fn a_spare_behind_it_does_not_make_a_leftover_of_it() {
    for how in LOSSES {
        let sim = filled_to(10);
        assert!(sim.read_file(&segment(LAST + 1)).is_some());
        lose(&sim, LAST, how);
        for _ in 0..3 {
            let left = sim.read_file(&segment(LAST));
            salvage(&sim).close().unwrap();
            assert_eq!(sim.read_file(&segment(LAST)), left, "{how:?}");
            is_missed(&sim, LAST, how);
        }
        write_on(&sim);
        is_missed(&sim, LAST, how);
    }
}

#[test]
fn of_two_lost_at_the_end_the_last_one_stays_missed_and_each_file_that_is_there() {
    for (older, last) in LOSSES.into_iter().flat_map(|older| LOSSES.map(|last| (older, last))) {
        let sim = filled();
        lose(&sim, LAST - 1, older);
        lose(&sim, LAST, last);
        let left = [LAST - 1, LAST].map(|number| sim.read_file(&segment(number)));
        let written = write_on(&sim);
        assert_eq!([LAST - 1, LAST].map(|number| sim.read_file(&segment(number))), left);
        let damage = salvage(&sim.killed()).recovery_report().damage.clone();
        let told: Vec<u64> = damage.iter().map(|damage| damage.segment).collect();
        let expected = if matches!(older, Loss::Gone) { vec![LAST] } else { vec![LAST - 1, LAST] };
        assert_eq!(told, expected, "{older:?}, {last:?}");

        let dropped = on(&sim).unsafe_recover().unwrap();
        assert_eq!(dropped, expected.iter().map(|number| segment(*number)).collect::<Vec<_>>());
        holds(&sim, &(1..=4).chain([written]).collect::<Vec<_>>(), expected.len());
    }
}

/// Opens in the strictest mode, with as many gaps as were dropped, and has these entries; twice, with writes between.
fn holds(sim: &SimFs, indexes: &[u64], gaps: usize) {
    for _ in 0..3 {
        let store = on(sim).recovery(RecoveryMode::Strict).open().unwrap();
        let report = store.recovery_report();
        assert!(!report.is_damaged() && report.strays.is_empty(), "{report:?}");
        assert_eq!(report.gaps.len(), gaps, "{report:?}");
        for index in indexes {
            assert!(store.get(*index).unwrap().is_some(), "{index}");
        }
        assert!(!store.verify().unwrap().is_damaged());
        let mut told = store.log_order().filter(|item| matches!(item, Err(Error::Lost { .. }))).count();
        assert_eq!(told, gaps, "in the order written each gap is told");
        let mut follow = store.follow(0).unwrap();
        loop {
            match follow.try_next() {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(Error::Lost { .. }) => told -= 1,
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(told, 0, "and to who follows");
        (0..5).for_each(|_| _ = store.append("k", &9).unwrap());
        store.close().unwrap();
    }
    assert!(on(sim).unsafe_recover().unwrap().is_empty(), "nothing is left to drop");
}

#[test]
fn unsafe_recover_drops_it_before_and_after_salvage_has_written() {
    for (how, writes) in LOSSES.into_iter().flat_map(|how| [(how, false), (how, true)]) {
        let sim = filled();
        lose(&sim, LAST, how);
        let mut kept: Vec<u64> = (1..=8).collect();
        if writes {
            kept.push(write_on(&sim));
        }
        assert_eq!(on(&sim).unsafe_recover().unwrap(), [segment(LAST)], "{how:?}");
        holds(&sim, &kept, 1);
    }
}

/// A head stamp repeats the truncations of the segment that it names. What stood before the lost one is not that, and what
/// was written there behind a truncation must not be taken by one repeated in the place of the lost one.
#[test]
fn truncations_before_it_are_not_repeated_in_its_place() {
    for how in LOSSES {
        let sim = SimFs::new();
        let store = on(&sim).segment_entries(100).open().unwrap();
        (1..=8).for_each(|index| _ = store.write(index, "k", &index).unwrap());
        store.rotate().unwrap();
        store.truncate_after(4).unwrap();
        (5..=9).for_each(|index| _ = store.write(index, "new", &index).unwrap());
        store.rotate().unwrap();
        store.write(10, "k", &10).unwrap();
        store.close().unwrap();
        lose(&sim, LAST, how);
        let store = salvage(&sim);
        store.append("k", &0).unwrap();
        store.close().unwrap();
        for is_dropped in [false, true] {
            if is_dropped {
                on(&sim).unsafe_recover().unwrap();
            }
            let store = salvage(&sim);
            let seen: Vec<u64> = store.iter().map(|entry| entry.unwrap().index()).collect();
            assert_eq!(seen, (1..=10).collect::<Vec<_>>(), "{how:?}, {is_dropped}");
            store.close().unwrap();
        }
    }
}

/// The metadata of a lost segment's head stamp may take more room than what was known to be durable in it.
#[test]
fn much_metadata_has_room_in_its_place() {
    let sim = SimFs::new();
    let store = on(&sim).open().unwrap();
    store.put_meta("large", [7; 60_000]).unwrap();
    for index in 1..=10 {
        store.write(index, "k", &index).unwrap();
    }
    store.close().unwrap();
    lose(&sim, LAST, Loss::Gone);
    let written = write_on(&sim);
    on(&sim).unsafe_recover().unwrap();
    holds(&sim, &[1, 8, written], 1);
    assert_eq!(on(&sim).open().unwrap().meta("large").unwrap().len(), 60_000);
}

#[test]
fn retention_that_comes_to_it_is_the_end_of_it() {
    for how in LOSSES {
        let sim = filled();
        lose(&sim, LAST, how);
        let written = write_on(&sim);
        let store = on(&sim).recovery(RecoveryMode::Salvage).max_segments(2).open().unwrap();
        (0..9).for_each(|_| _ = store.append("k", &9).unwrap());
        store.close().unwrap();
        let store = on(&sim).recovery(RecoveryMode::Strict).open().unwrap();
        let report = store.recovery_report();
        assert!(!report.is_damaged() && report.strays.is_empty(), "{how:?}: {report:?}");
        assert!(store.get(written + 9).unwrap().is_some());
        store.close().unwrap();
        assert!(sim.read_file(&segment(LAST)).is_none(), "{how:?}");
    }
}

/// A reader beside sees what salvage writes, misses the segment that it went on without, and is not told of a cut.
#[test]
fn a_reader_beside_goes_across_it() {
    for (how, order) in LOSSES.into_iter().flat_map(|how| [(how, IndexOrder::Any), (how, IndexOrder::Increasing)]) {
        let sim = SimFs::new();
        let store = on(&sim).index_order(order).open().unwrap();
        (1..=10).for_each(|index| _ = store.write(index, "k", &index).unwrap());
        store.close().unwrap();
        lose(&sim, LAST, how);
        let reader = on(&sim).index_order(order).open_read_only().unwrap();
        let mut follow = reader.follow(0).unwrap();
        let mut seen = Vec::new();
        let mut look = |seen: &mut Vec<u64>| {
            loop {
                match follow.try_next() {
                    Ok(Some(casklog::LogItem::Entry(entry))) => seen.push(entry.index()),
                    Ok(None) => break,
                    Err(Error::Lost { segment }) => assert_eq!(segment, LAST),
                    other => panic!("{how:?}: {other:?}"),
                }
            }
        };
        look(&mut seen);
        assert_eq!(seen, (1..=8).collect::<Vec<_>>());
        let store = on(&sim).index_order(order).recovery(RecoveryMode::Salvage).open().unwrap();
        for index in 20..30 {
            store.write(index, "k", &index).unwrap();
            reader.refresh().unwrap();
            assert!(reader.get(index).unwrap().is_some(), "{how:?}: {index}");
            look(&mut seen);
        }
        assert_eq!(seen, (1..=8).chain(20..30).collect::<Vec<_>>(), "{how:?}");
        assert!(reader.verify().unwrap().damage.iter().any(|damage| damage.segment == LAST));
        assert!(matches!(reader.get(15), Err(Error::Lost { segment }) if segment == LAST), "{how:?}");
        store.close().unwrap();
        let late = on(&sim).index_order(order).open_read_only().unwrap();
        assert!(late.recovery_report().damage.iter().any(|damage| damage.segment == LAST), "{how:?}");
        let strict = on(&sim).index_order(order).recovery(RecoveryMode::Strict).open_read_only();
        assert!(matches!(strict, Err(Error::Missing { .. } | Error::Damaged { .. })), "{how:?}");
    }
}

/// Nothing was acknowledged in the last segment: without its head stamp it is a spare, and nobody misses what it held.
#[test]
fn a_torn_last_segment_is_no_loss() {
    let sim = SimFs::new();
    let store = on(&sim).sync(SyncPolicy::None).mapped(false).open().unwrap();
    (1..=4).for_each(|index| _ = store.write(index, "k", &index).unwrap());
    store.sync().unwrap();
    store.write(5, "k", &5).unwrap();
    let image = sim.killed();
    store.close().unwrap();
    let second = segment(2);
    let mut bytes = image.read_file(&second).unwrap();
    bytes[64..].fill(0);
    image.write_file(Path::new(&second), &bytes);
    let store = salvage(&image);
    let report = store.recovery_report();
    assert!(!report.is_damaged(), "{report:?}");
    store.append("k", &0).unwrap();
    store.close().unwrap();
    let store = on(&image).recovery(RecoveryMode::Strict).open().unwrap();
    assert_eq!(store.len(), 5);
    store.close().unwrap();
}
/// What is put in the place of a lost segment is no cut: nothing that a reader beside has seen stood there.
#[test]
fn a_reader_beside_goes_on_when_it_is_dropped() {
    let whole = SimFs::new();
    let store = on(&whole).open().unwrap();
    (1..=9).for_each(|index| _ = store.write(index, "k", &index).unwrap());
    // The manifest does not know how far the last segment reached.
    let sim = whole.killed();
    store.close().unwrap();
    lose(&sim, LAST, Loss::Gone);
    let reader = on(&sim).open_read_only().unwrap();
    let (mut entries, mut follow) = (reader.iter(), reader.follow(0).unwrap());
    let mut seen = vec![entries.next().unwrap().unwrap().index()];
    (0..8).for_each(|_| assert!(follow.try_next().unwrap().is_some()));
    on(&sim).unsafe_recover().unwrap();
    reader.refresh().unwrap();
    for entry in entries {
        match entry {
            Ok(entry) => seen.push(entry.index()),
            Err(other) => assert!(matches!(other, Error::Lost { segment } if segment == LAST), "{other:?}"),
        }
    }
    assert_eq!(seen, (1..=8).collect::<Vec<_>>());
    match follow.try_next() {
        Ok(None) | Err(Error::Lost { .. }) => {}
        other => panic!("{other:?}"),
    }
}

/// A truncation is lost with its record, and the indexes that it freed were written again: the later one counts, and what
/// stood above it does not come back. The older one was shown, and the later one counted beside it.
#[test]
fn an_index_that_comes_again_is_the_later_one() {
    for order in [IndexOrder::Any, IndexOrder::Increasing, IndexOrder::Sequential] {
        comes_again(order);
    }
}

fn comes_again(order: IndexOrder) {
    let options = |sim: &SimFs| on(sim).segment_entries(100).index_order(order);
    let sim = SimFs::new();
    let store = options(&sim).open().unwrap();
    for index in 1..=8 {
        store.write(index, "old", &index).unwrap();
    }
    store.truncate_after(4).unwrap();
    for index in 5..=6 {
        store.write(index, "new", &index).unwrap();
    }
    let items: Vec<_> = store.log_order().map(|item| item.unwrap()).collect();
    let from = items.iter().rfind(|item| item.index() == 4).unwrap().position();
    let to = store.get(5).unwrap().unwrap().position();
    store.close().unwrap();
    let whole = sim.read_file(&segment(1)).unwrap();
    let mut lost = 0;
    for at in from.offset()..to.offset() {
        let image = sim.killed();
        let mut bytes = whole.clone();
        bytes[at as usize] ^= 1;
        image.write_file(&segment(1), &bytes);
        for round in 0..2 {
            let store = options(&image).recovery(RecoveryMode::Salvage).open().unwrap();
            lost += u64::from(store.recovery_report().is_damaged());
            let found: Vec<_> = store.iter().filter_map(Result::ok).collect();
            assert_eq!(store.len(), found.len() as u64, "{order:?}, byte {at}, open {round}");
            // Where indexes need not rise, nothing says that those above were gone.
            let last = if order == IndexOrder::Any { 6 } else { u64::MAX };
            let keys = found.iter().filter(|entry| (5..=last).contains(&entry.index()));
            let keys: Vec<_> = keys.map(|entry| (entry.index(), entry.key())).collect();
            assert_eq!(keys, [(5, &b"new"[..]), (6, b"new")], "{order:?}, byte {at}, open {round}");
            store.close().unwrap();
        }
    }
    assert!(lost > 20, "{lost}");
}

/// A resume record tells the log number of what stands behind it. Where it is lost, that is read by the number it bears.
#[test]
fn what_stands_behind_a_lost_resume_record_is_read() {
    let sim = SimFs::new();
    // Without a watermark in front of the first entry behind it.
    let open = |sim: &SimFs| on(sim).segment_entries(100).sync(SyncPolicy::None);
    let store = open(&sim).open().unwrap();
    for index in 1..=5 {
        store.write(index, "k", &index).unwrap();
    }
    let sim = sim.killed();
    let store = open(&sim).open().unwrap();
    let resume_end = store.recovery_report().end.offset() as usize;
    for index in 6..=9 {
        store.write(index, "k", &index).unwrap();
    }
    store.close().unwrap();
    let mut bytes = sim.read_file(&segment(1)).unwrap();
    bytes[resume_end - 1] ^= 1;
    sim.write_file(&segment(1), &bytes);

    let damaged = open(&sim).open();
    assert!(matches!(damaged, Err(Error::Damaged { at, .. }) if at < resume_end as u64), "{damaged:?}");
    for _ in 0..2 {
        let store = open(&sim).recovery(RecoveryMode::Salvage).cache_bytes(0).open().unwrap();
        for index in 1..=9 {
            assert_eq!(store.get(index).unwrap().map(|entry| entry.value::<u64>().unwrap()), Some(index));
        }
        let seen = store.iter().filter_map(Result::ok).map(|entry| entry.index());
        assert!(seen.eq(1..=9));
        store.close().unwrap();
    }
}
