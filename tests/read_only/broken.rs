//! Logs that nobody writes and that are not whole: what a reader shows of them in each mode, and that it changes nothing.

use std::path::Path;

use casklog::fs::sim::SimFs;
use casklog::{Batch, Error, Reader, RecoveryMode, Store};

use crate::common::*;

const ALL: [RecoveryMode; 3] = [RecoveryMode::TornTail, RecoveryMode::PointInTime, RecoveryMode::Salvage];

/// Ten entries a segment, closed: the first ones sealed, 31 to 35 in the fourth.
fn four_segments() -> SimFs {
    let fs = SimFs::new();
    let store = sim(&fs).segment_entries(10).open().unwrap();
    write_each(&store, 1..=35);
    store.close().unwrap();
    fs
}

fn flip(fs: &SimFs, path: &Path, at: usize) {
    let mut bytes = fs.read_file(path).unwrap();
    bytes[at] ^= 1;
    fs.write_file(path, &bytes);
}

/// Where the entry of `index` starts.
fn offset(fs: &SimFs, index: u64) -> usize {
    sim(fs).open_read_only().unwrap().get(index).unwrap().unwrap().position().offset() as usize
}

fn open(fs: &SimFs, mode: RecoveryMode) -> Reader {
    let before = fs.ops();
    let reader = sim(fs).recovery(mode).open_read_only().unwrap_or_else(|error| panic!("{mode:?}: {error}"));
    assert!(!reader.refresh().unwrap(), "{mode:?}: nothing has changed");
    assert_eq!(fs.ops(), before, "{mode:?}: something was written");
    reader
}

/// Exactly these entries can be read; of the others `get` says what `gone` takes.
fn assert_shows(reader: &Reader, live: impl IntoIterator<Item = u64>, gone: &[u64], is_gone: impl Fn(&Error) -> bool) {
    let live: Vec<u64> = live.into_iter().collect();
    live.iter().for_each(|index| assert_entry(reader, *index));
    for index in gone {
        let found = reader.get(*index);
        assert!(found.as_ref().is_err_and(&is_gone), "{index}: {found:?}");
    }
    let entries: Vec<_> = reader.iter().collect();
    let errors = entries.iter().filter_map(|entry| entry.as_ref().err());
    assert!(errors.clone().all(&is_gone), "{entries:?}");
    assert_eq!(errors.count() != 0, !gone.is_empty(), "{entries:?}");
    assert_eq!(entries.iter().flatten().map(casklog::Entry::index).collect::<Vec<_>>(), live);
    assert!(reader.iter().rev().flatten().map(|entry| entry.index()).eq(live.into_iter().rev()));
}

#[test]
fn the_torn_tail_of_a_killed_writer_is_left_out_and_left_alone() {
    let fs = SimFs::new();
    let store = sim(&fs).preallocate(false).open().unwrap();
    write_each(&store, 1..=5);
    let mut batch = Batch::new();
    (6..=8).for_each(|index| drop(batch.put(index, format!("key {index}"), &format!("value {index}"))));
    let tail = store.stats().tail.offset() as usize;
    store.write_batch(&batch).unwrap();
    let end = store.stats().tail.offset() as usize;
    let path = sim_segment(1);
    let whole = fs.read_file(&path).unwrap();
    for cut in tail..=end {
        for rest in [&[][..], &[0; 40], &[0xa5; 40]] {
            // Killed in the middle of the batch, in one process or another.
            let found = fs.killed();
            let mut bytes = whole.clone();
            bytes.truncate(cut);
            bytes.extend_from_slice(rest);
            found.write_file(&path, &bytes);
            let last = if cut == end { 8 } else { 5 };
            for mode in ALL.into_iter().chain([RecoveryMode::Strict]) {
                let reader = open(&found, mode);
                assert_shows(&reader, 1..=last, &[], |_| false);
                assert!(reader.recovery_report().damage.is_empty());
                assert!(reader.verify().unwrap().damage.is_empty());
            }
            assert_eq!(found.read_file(&path).unwrap(), bytes);
        }
    }
}

#[test]
fn a_reader_of_any_crash_shows_what_the_next_store_does() {
    let fs = SimFs::new();
    type Step = Box<dyn Fn(&Store)>;
    let mut story: Vec<Step> = Vec::new();
    for round in 0..6u64 {
        story.push(Box::new(move |store| write_each(store, round * 10 + 1..=round * 10 + 6)));
        story.push(Box::new(move |store| {
            let mut batch = Batch::new();
            (round * 10 + 7..=round * 10 + 9).for_each(|index| drop(batch.put(index, "", &index)));
            batch.delete(round * 10 + 2).put_meta("round", [round as u8]);
            store.write_batch(&batch).unwrap();
        }));
        story.push(Box::new(move |store| {
            store.truncate_after(round * 10 + 8).unwrap();
            store.truncate_before(round * 8).unwrap();
        }));
    }
    let sync = casklog::SyncPolicy::Periodic { every: std::time::Duration::from_secs(9), entries: 7, bytes: 1 << 20 };
    let store = sim(&fs).segment_entries(8).max_segments(3).sync(sync).open().unwrap();
    story.iter().for_each(|step| step(&store));
    drop(store);
    let mut images = 0;
    for op in 0..=fs.ops() {
        for image in fs.crash_images(op, 12, op as u64) {
            let before = image.ops();
            let reader = match sim(&image).open_read_only() {
                Ok(reader) => reader,
                Err(Error::NotFound { .. }) => continue,
                Err(error) => panic!("{error}: {}", image.origin()),
            };
            assert_eq!(reader.verify().unwrap().damage, [], "{}", image.origin());
            assert_eq!(image.ops(), before, "a reader has written: {}", image.origin());
            let store = sim(&image).segment_entries(8).open().unwrap();
            let all = |reader: &Reader| reader.iter().map(|entry| seen(&entry.unwrap())).collect::<Vec<_>>();
            assert_eq!(all(&reader), all(&store), "{}", image.origin());
            assert_eq!((reader.next_index(), reader.all_meta()), (store.next_index(), store.all_meta()));
            reader.refresh().unwrap();
            assert_same(&reader, &store);
            images += 1;
        }
    }
    assert!(images > 1000, "{images}");
}

#[test]
fn damage_in_a_sealed_segment_is_told_by_the_read_that_meets_it() {
    let fs = four_segments();
    flip(&fs, &sim_segment(2), offset(&fs, 15) + 20);
    let is_damaged = |error: &Error| matches!(error, Error::Damaged { path, .. } if *path == sim_segment(2));
    for mode in ALL {
        let reader = open(&fs, mode);
        assert_shows(&reader, (1..=35).filter(|index| *index != 15), &[15], is_damaged);
        assert_eq!(reader.verify().unwrap().damage.len(), 1);
    }
    let strict = sim(&fs).recovery(RecoveryMode::Strict).open_read_only();
    assert!(strict.as_ref().is_err_and(is_damaged), "{strict:?}");
}

#[test]
fn damage_below_what_is_durable_is_lost_or_the_end() {
    // In the last segment: only a scan finds it.
    let fs = four_segments();
    flip(&fs, &sim_segment(4), offset(&fs, 33) + 20);
    let is_lost = |error: &Error| matches!(error, Error::Lost { segment: 4 });
    for mode in [RecoveryMode::TornTail, RecoveryMode::Salvage] {
        let reader = open(&fs, mode);
        assert_shows(&reader, (1..=35).filter(|index| *index != 33), &[33], is_lost);
        let damage = &reader.recovery_report().damage;
        assert_eq!((damage.len(), damage[0].indexes), (1, Some((33, 33))));
        assert!(reader.verify().unwrap().is_damaged());
    }
    let reader = open(&fs, RecoveryMode::PointInTime);
    assert_shows(&reader, 1..=32, &[], |_| false);
    assert!(reader.recovery_report().is_damaged());
    let strict = sim(&fs).recovery(RecoveryMode::Strict).open_read_only();
    assert!(matches!(strict, Err(Error::Damaged { .. })), "{strict:?}");
}

#[test]
fn a_missing_segment_is_lost_or_the_end() {
    let is_lost = |error: &Error| matches!(error, Error::Lost { .. });
    for (missing, gone) in [(1, 1..=10), (2, 11..=20), (3, 21..=30)] {
        let fs = four_segments();
        assert!(fs.remove_file(&sim_segment(missing)));
        for mode in [RecoveryMode::TornTail, RecoveryMode::Salvage] {
            let reader = open(&fs, mode);
            let some = [*gone.start(), *gone.end()];
            assert_shows(&reader, (1..=35).filter(|index| !gone.contains(index)), &some, is_lost);
            let damage = reader.verify().unwrap().damage;
            assert_eq!(damage.len(), 1, "{damage:?}");
            assert_eq!(
                (damage[0].segment, damage[0].is_missing, &damage[0].path),
                (missing, true, &sim_segment(missing))
            );
        }
        let reader = open(&fs, RecoveryMode::PointInTime);
        assert_shows(&reader, 1..*gone.start(), &[], |_| false);
        let strict = sim(&fs).recovery(RecoveryMode::Strict).open_read_only();
        assert!(matches!(strict, Err(Error::Missing { .. })), "{strict:?}");
    }
    // Taken away while it is read: missing, not retired.
    let fs = four_segments();
    let reader = open(&fs, RecoveryMode::TornTail);
    let (mut by_index, mut by_time, mut follow) = (reader.iter(), reader.log_order(), reader.follow(11).unwrap());
    fs.remove_file(&sim_segment(2));
    assert!(matches!(reader.get(15), Err(Error::Missing { path }) if path == sim_segment(2)));
    assert!(matches!(by_index.nth(10), Some(Err(Error::Missing { .. }))));
    assert!(matches!(by_time.nth(10), Some(Err(Error::Missing { .. }))));
    assert!(matches!(follow.try_next(), Err(Error::Missing { .. })));
    let damage = reader.verify().unwrap().damage;
    assert_eq!((damage.len(), damage[0].segment, damage[0].is_missing), (1, 2, true), "{damage:?}");
    assert_entry(&reader, 25);
}

#[test]
fn without_a_manifest_the_segments_speak_for_themselves() {
    let fs = four_segments();
    fs.remove_file(Path::new("log/segment_manifest"));
    for mode in ALL {
        let reader = open(&fs, mode);
        assert_shows(&reader, 1..=35, &[], |_| false);
        assert!(reader.recovery_report().is_manifest_lost && !reader.recovery_report().is_damaged());
        assert_eq!(reader.verify().unwrap().damage, []);
        // The next writer makes a new one, and the reader follows it.
        let next = fs.killed();
        let store = sim(&next).segment_entries(10).open().unwrap();
        let reader = sim(&next).recovery(mode).open_read_only().unwrap();
        write_each(&store, 36..=58);
        reader.refresh().unwrap();
        assert_same(&reader, &store);
    }
}

#[test]
fn what_does_not_belong_to_the_log_is_not_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let store = quick(dir.path()).segment_entries(10).background(false).open().unwrap();
    write_each(&store, 1..=27);
    for name in ["segment_5.log", "other_00000000000000000001.log", "segment_00000000000000000099.log.bak", "notes"] {
        std::fs::write(dir.path().join(name), b"not a segment").unwrap();
    }
    // A folder with the name of a segment, above all others and between them and the next one.
    std::fs::create_dir(segment(dir.path(), 1000)).unwrap();
    std::os::unix::fs::symlink(segment(dir.path(), 1), segment(dir.path(), 1001)).unwrap();
    let reader = quick(dir.path()).open_read_only().unwrap();
    assert_same(&reader, &store);
    write_each(&store, 28..=64);
    assert!(reader.refresh().unwrap());
    assert_same(&reader, &store);
    store.close().unwrap();
    let reader = quick(dir.path()).open_read_only().unwrap();
    assert_eq!(indexes(&reader), (1..=64).collect::<Vec<_>>());
    assert_eq!(reader.recovery_report().strays, Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_spare_segment_is_no_part_of_the_log() {
    let fs = SimFs::new();
    let store = sim(&fs).segment_entries(10).open().unwrap();
    write_each(&store, 1..=18);
    store.close().unwrap();
    assert!(fs.read_file(&sim_segment(3)).is_some(), "half full: the next segment is prepared");
    let reader = open(&fs, RecoveryMode::Strict);
    assert_shows(&reader, 1..=18, &[], |_| false);
    assert_eq!(reader.segments().len(), 2);
    assert_eq!(reader.verify().unwrap().segments, 2);
}

#[test]
fn a_log_whose_last_segment_is_sealed_ends_there_and_goes_on_behind() {
    // Rotated and sealed; then the next segment, which was never durable, was lost.
    let fs = SimFs::new();
    let store = sim(&fs).segment_entries(10).open().unwrap();
    write_each(&store, 1..=8);
    store.rotate().unwrap();
    drop(store);
    let bytes = fs.read_file(&sim_segment(2)).unwrap();
    fs.write_file(&sim_segment(2), &bytes[..64]);
    for mode in ALL.into_iter().chain([RecoveryMode::Strict]) {
        let reader = open(&fs, mode);
        assert_shows(&reader, 1..=8, &[], |_| false);
        assert!(reader.segments()[0].is_sealed);
        assert_eq!(reader.verify().unwrap().footers_damaged, Vec::<u64>::new());
    }
    let reader = open(&fs, RecoveryMode::TornTail);
    let mut follow = reader.follow(8).unwrap();
    let store = sim(&fs).segment_entries(10).open().unwrap();
    assert_same(&reader, &store);
    write_each(&store, 9..=30);
    reader.refresh().unwrap();
    assert_same(&reader, &store);
    assert_eq!(
        std::iter::from_fn(|| follow.try_next().unwrap()).map(|item| item.index()).collect::<Vec<_>>(),
        (8..=30).collect::<Vec<_>>()
    );
}

#[test]
fn what_is_lost_of_the_durable_end_is_not_said_to_be_durable() {
    let fs = four_segments();
    let (path, at) = (sim_segment(4), offset(&fs, 34));
    let mut bytes = fs.read_file(&path).unwrap();
    bytes[at..].fill(0);
    fs.write_file(&path, &bytes);
    for mode in ALL {
        let reader = open(&fs, mode);
        let stats = reader.stats();
        assert_eq!(reader.last_index(), Some(33), "{mode:?}");
        assert_eq!((stats.durable, reader.recovery_report().durable), (stats.tail, stats.tail), "{mode:?}");
        assert!(reader.recovery_report().is_damaged(), "{mode:?}");
    }
}
