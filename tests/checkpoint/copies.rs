//! What a copy holds, and how it is brought up to date.

use std::path::Path;

use casklog::fs::sim::{Fault, OpKind, SimFs};
use casklog::{Checkpoint, Error, Options, Position, SyncPolicy};

use crate::common::*;

const EXDEV: i32 = 18;

#[test]
fn a_copy_shows_what_the_log_does_and_opens_as_one_that_was_closed() {
    let sim = filled();
    let store = log(&sim).open().unwrap();
    let made = store.checkpoint(COPY).unwrap();
    assert_eq!((made.end, made.segments), (store.stats().durable, store.segments().len() as u64));
    assert!(made.linked >= 3 && made.copied >= 1 && made.reflinked == 0 && made.kept == 0, "{made:?}");
    assert_eq!(made.linked + made.copied, made.segments);
    assert_eq!(opens_clean(&sim), shown(&store));
    assert_eq!(copy(&sim).open_read_only().unwrap().stats().tail, made.end);
    let names: Vec<_> = files(&sim, COPY).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.len() as u64, made.segments + 2, "segments, the manifest and what it said: {names:?}");
}

/// A log that is open and was written to a moment ago is copied as it is.
#[test]
fn a_live_log_is_copied_up_to_what_is_durable() {
    for mapped in [true, false] {
        let sim = SimFs::new();
        let store = log(&sim).sync(SyncPolicy::None).mapped(mapped).segment_entries(1000).open().unwrap();
        write_each(&store, 1..=10);
        store.sync().unwrap();
        let durable = store.stats().durable;
        write_each(&store, 11..=20);
        let made = store.checkpoint(COPY).unwrap();
        assert_eq!((made.end, made.copied), (durable, 1));
        opens_clean(&sim);
        assert_eq!(indexes(&copy(&sim).open_read_only().unwrap()), (1..=10).collect::<Vec<_>>());
        store.sync().unwrap();
        store.checkpoint(COPY).unwrap();
        assert_eq!(opens_clean(&sim), shown(&store));
    }
}

#[test]
fn of_a_log_of_which_nothing_is_durable_nothing_is_made() {
    let sim = SimFs::new();
    let store = log(&sim).sync(SyncPolicy::None).open().unwrap();
    assert_eq!(store.checkpoint(COPY).unwrap(), Checkpoint::default());
    write_each(&store, 1..=3);
    let made = store.checkpoint(COPY).unwrap();
    assert_eq!((made.end, made.segments), (Position::default(), 0));
    assert!(files(&sim, COPY).is_empty());
    assert!(matches!(copy(&sim).open_read_only(), Err(Error::NotFound { .. })));
}

/// What the copy has stays, what is new is added, what retention and truncations have removed goes.
#[test]
fn a_copy_is_brought_up_to_date() {
    let sim = filled();
    let store = log(&sim).open().unwrap();
    for round in 0..6 {
        let made = store.checkpoint(COPY).unwrap();
        assert_eq!(opens_clean(&sim), shown(&store), "round {round}");
        assert_eq!(made.kept + made.linked + made.copied, made.segments);
        if round > 0 {
            assert!(made.removed > 0 && made.linked > 0 && made.copied <= 3, "round {round}: {made:?}");
        }
        go_on(&store);
    }
    // With no news nothing is written.
    store.checkpoint(COPY).unwrap();
    let ops = sim.ops();
    let made = store.checkpoint(COPY).unwrap();
    assert_eq!((made.kept, sim.ops()), (made.segments, ops));
}

/// Most of the copy is there already: segments that were sealed are linked once.
#[test]
fn segments_that_the_copy_has_are_kept() {
    let sim = SimFs::new();
    let store = log(&sim).open().unwrap();
    write_each(&store, 1..=100);
    let first = store.checkpoint(COPY).unwrap();
    write_each(&store, 101..=105);
    let second = store.checkpoint(COPY).unwrap();
    assert!(second.kept >= first.linked && second.linked + second.copied <= 4, "{first:?}, {second:?}");
    assert_eq!(opens_clean(&sim), shown(&store));
}

#[test]
fn a_log_that_nobody_writes_is_copied_by_a_reader() {
    let sim = filled();
    let reader = log(&sim).open_read_only().unwrap();
    reader.checkpoint(COPY).unwrap();
    assert_eq!(opens_clean(&sim), shown(&reader));
    let store = log(&sim).open().unwrap();
    go_on(&store);
    // What is durable a writer says in the log when it rests.
    store.idle().unwrap();
    // It looks at what was written since by itself.
    reader.checkpoint(COPY).unwrap();
    assert_eq!(opens_clean(&sim).entries, shown(&store).entries);
    drop(store);
    // Killed, and its successor has cut and gone on.
    let sim = sim.killed();
    let reader = log(&sim).open_read_only().unwrap();
    reader.checkpoint(COPY).unwrap();
    let store = log(&sim).open().unwrap();
    go_on(&store);
    store.idle().unwrap();
    reader.checkpoint(COPY).unwrap();
    assert_eq!(opens_clean(&sim).entries, shown(&store).entries);
    // What the store has copied is durable, also for a reader that does not know it yet.
    go_on(&store);
    store.checkpoint(COPY).unwrap();
    reader.checkpoint(COPY).unwrap();
    assert_eq!(opens_clean(&sim), shown(&store));
}

/// Where files cannot have two names they share their space, or are copied with their footers.
#[test]
fn where_links_are_impossible_segments_are_shared_or_copied() {
    for reflinks in [true, false] {
        let sim = filled();
        sim.set_reflinks(reflinks);
        sim.inject(Fault::new(OpKind::Link, EXDEV).sticky());
        let store = log(&sim).open().unwrap();
        let made = store.checkpoint(COPY).unwrap();
        assert_eq!((made.linked, made.reflinked > 0), (0, reflinks), "{made:?}");
        assert_eq!(made.reflinked + made.copied, made.segments);
        assert_eq!(opens_clean(&sim), shown(&store));
        let reader = copy(&sim).open_read_only().unwrap();
        assert_eq!(reader.recovery_report().footers_missing, [0u64; 0]);
        write_each(&store, 34..=45);
        let made = store.checkpoint(COPY).unwrap();
        assert!(made.kept > 0, "{made:?}");
        assert_eq!(opens_clean(&sim), shown(&store));
    }
}

/// Links that cannot be made for another reason are an error, and not a reason to copy.
#[test]
fn a_link_that_fails_is_told() {
    let sim = filled();
    let store = log(&sim).open().unwrap();
    sim.inject(Fault::new(OpKind::Link, 5));
    assert!(matches!(store.checkpoint(COPY), Err(Error::Io { what: "link", .. })));
    assert!(files(&sim, COPY).is_empty(), "{:?}", files(&sim, COPY));
}

/// A copy is a log: it is copied like one, also back to where the log is to be.
#[test]
fn a_copy_of_a_copy_is_a_copy() {
    let sim = filled();
    let store = log(&sim).open().unwrap();
    store.checkpoint(COPY).unwrap();
    let expected = shown(&store);
    store.close().unwrap();
    let reader = copy(&sim).open_read_only().unwrap();
    assert!(matches!(reader.checkpoint(LOG), Err(Error::NotACheckpoint { .. })), "the log is no copy");
    reader.checkpoint("restored").unwrap();
    let restored = at(&sim, "restored").open().unwrap();
    assert!(restored.recovery_report().is_clean);
    assert_eq!(shown(&restored), expected);
    go_on(&restored);
    restored.close().unwrap();
    assert_eq!(opens_clean(&sim), expected);
}

/// A segment that was given up is given up in the copy, too.
#[test]
fn a_repaired_log_is_copied_with_its_gaps() {
    for number in 2..=7 {
        let sim = filled();
        let path = segment(LOG, number);
        let mut bytes = sim.read_file(&path).unwrap();
        bytes[300] ^= 1;
        sim.write_file(&path, &bytes);
        let dropped = log(&sim).unsafe_recover().unwrap();
        let reader = log(&sim).open_read_only().unwrap();
        let gaps = reader.recovery_report().gaps.len();
        assert_eq!(gaps, dropped.len());
        reader.checkpoint(COPY).unwrap();
        let copied = copy(&sim).open_read_only().unwrap();
        let report = copied.recovery_report();
        assert!(report.is_clean && report.gaps.len() == gaps, "{report:?}");
        let ok = |reader: &casklog::Reader| reader.iter().filter_map(Result::ok).map(|e| e.index()).collect::<Vec<_>>();
        assert_eq!(ok(&copied), ok(&reader));
        let store = copy(&sim.killed()).open().unwrap();
        write_each(&store, 100..=110);
        store.close().unwrap();
    }
}

#[test]
fn on_the_real_disk_sealed_segments_are_linked() {
    let (dir, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let to = to.path().join("a/copy");
    let store = Options::new(dir.path()).segment_entries(10).open().unwrap();
    write_each(&store, 1..=95);
    store.rotate().unwrap();
    write_each(&store, 96..=99);
    let made = store.checkpoint(&to).unwrap();
    assert!(made.linked > 5, "{made:?}");
    let name = |number: u64| format!("segment_{number:020}.log");
    assert_eq!(std::fs::read(dir.path().join(name(1))).unwrap(), std::fs::read(to.join(name(1))).unwrap());
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let node = |dir: &Path, number| std::fs::metadata(dir.join(name(number))).unwrap().ino();
        assert_eq!(node(dir.path(), 1), node(&to, 1));
        let last = store.stats().tail.segment();
        assert_ne!(node(dir.path(), last), node(&to, last), "the segment that is written is not shared");
    }
    write_each(&store, 100..=140);
    store.checkpoint(&to).unwrap();
    let reader = Options::new(&to).open_read_only().unwrap();
    assert!(reader.recovery_report().is_clean);
    assert_eq!(indexes(&reader), (1..=140).collect::<Vec<_>>());
    assert!(!reader.verify().unwrap().is_damaged());
}

/// Where the copy is in another file system nothing can be shared.
#[cfg(target_os = "linux")]
#[test]
fn into_another_file_system_everything_is_copied() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let device = |path: &Path| std::fs::metadata(path).map(|found| found.dev());
    let Ok(to) = tempfile::tempdir_in("/dev/shm") else { return };
    if device(dir.path()).unwrap() == device(to.path()).unwrap() {
        return;
    }
    let store = Options::new(dir.path()).segment_entries(10).open().unwrap();
    write_each(&store, 1..=95);
    // Returns when all of them are sealed.
    store.rotate().unwrap();
    let made = store.checkpoint(to.path()).unwrap();
    assert_eq!((made.linked, made.reflinked, made.copied), (0, 0, made.segments));
    write_each(&store, 96..=120);
    let made = store.checkpoint(to.path()).unwrap();
    // But for the last one then, whose end no head stamp had named as durable.
    assert_eq!(made.kept, 9, "{made:?}");
    let reader = Options::new(to.path()).open_read_only().unwrap();
    assert!(reader.recovery_report().is_clean && reader.recovery_report().footers_missing.len() < 3);
    assert_eq!(indexes(&reader), (1..=120).collect::<Vec<_>>());
    assert!(!reader.verify().unwrap().is_damaged());
}
