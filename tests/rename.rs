//! A log is moved to another prefix of its directory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use casklog::fs::Fs;
use casklog::fs::sim::{Fault, OpKind, Personality, SimFs};
use casklog::{Error, Options, RecoveryMode, SyncPolicy};

const DIR: &str = "/log";
const OLD: &str = "old_";
const NEW: &str = "new_";

fn at(sim: &SimFs, prefix: &str) -> Options {
    let options = Options::new(DIR).prefix(prefix).fs(Arc::new(sim.clone())).background(false);
    options.segment_entries(4).sync(SyncPolicy::Immediate)
}

fn segment(prefix: &str, number: u64) -> PathBuf {
    Path::new(DIR).join(format!("{prefix}{number:020}.log"))
}

fn write(options: Options, indexes: impl IntoIterator<Item = u64>) {
    let store = options.open().unwrap();
    for index in indexes {
        store.write(index, "k", &index).unwrap();
    }
    store.close().unwrap();
}

/// A log of some segments, and another one beside it.
fn filled() -> SimFs {
    let sim = SimFs::new();
    write(at(&sim, OLD), 1..=10);
    write(at(&sim, "other_"), 1..=3);
    sim
}

/// The files with this prefix but its lock, by what is behind the prefix.
fn files(sim: &SimFs, prefix: &str) -> BTreeMap<String, Vec<u8>> {
    let listed = sim.list(Path::new(DIR)).unwrap().into_iter().filter(|entry| entry.is_file);
    let names = listed.map(|entry| entry.name.into_string().unwrap());
    let rest = names.filter_map(|name| name.strip_prefix(prefix).map(str::to_owned)).filter(|name| name != "lock");
    rest.map(|name| (name.clone(), sim.read_file(&Path::new(DIR).join(format!("{prefix}{name}"))).unwrap())).collect()
}

fn holds_ten(options: Options) -> bool {
    match options.create(false).recovery(RecoveryMode::Strict).open() {
        Ok(store) => {
            assert!(store.recovery_report().is_clean, "{:?}", store.recovery_report());
            assert_eq!(
                store.iter().map(|entry| entry.unwrap().index()).collect::<Vec<_>>(),
                (1..=10).collect::<Vec<_>>()
            );
            store.close().unwrap();
            true
        }
        Err(Error::NotFound { .. } | Error::Unfinished { .. }) => false,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_log_is_found_under_its_new_prefix_with_the_same_bytes() {
    let sim = filled();
    let (before, other) = (files(&sim, OLD), files(&sim, "other_"));
    at(&sim, OLD).rename(NEW).unwrap();
    assert_eq!(files(&sim, NEW), before);
    assert_eq!((files(&sim, OLD).len(), files(&sim, "other_")), (0, other));
    assert!(holds_ten(at(&sim, NEW)) && !holds_ten(at(&sim, OLD)));
    write(at(&sim, NEW), 11..=20);
    // The old prefix is free for another log.
    write(at(&sim, OLD), 1..=2);
    assert!(matches!(at(&sim, NEW).rename(OLD), Err(Error::Exists { path }) if path == segment(OLD, 1)));
}

#[test]
fn what_cannot_be_moved_stays() {
    let sim = filled();
    let before = files(&sim, OLD);
    let moved = |from: &str, to: &str| at(&sim, from).rename(to);
    assert!(matches!(moved(OLD, "other_"), Err(Error::Exists { path }) if path == segment("other_", 1)));
    assert!(matches!(moved("none_", NEW), Err(Error::NotFound { .. })));
    assert!(matches!(moved(OLD, OLD), Err(Error::InvalidOption { option: "prefix", .. })));
    assert!(matches!(moved(OLD, "a/b"), Err(Error::InvalidOption { option: "prefix", .. })));
    let open = at(&sim, OLD).open().unwrap();
    assert!(matches!(moved(OLD, NEW), Err(Error::Locked { .. })));
    drop(open);
    let open = at(&sim, NEW).open().unwrap();
    assert!(matches!(moved(OLD, NEW), Err(Error::Locked { .. })));
    open.close().unwrap();
    assert_eq!(files(&sim, OLD), before);
    moved(OLD, NEW).unwrap();
}

/// Nothing in the files is looked at.
#[test]
fn a_damaged_log_is_moved_as_it_is() {
    let sim = filled();
    let mut bytes = sim.read_file(&segment(OLD, 2)).unwrap();
    bytes[100] ^= 1;
    sim.write_file(&segment(OLD, 2), &bytes);
    sim.remove_file(&Path::new(DIR).join("old_manifest"));
    let before = files(&sim, OLD);
    at(&sim, OLD).rename(NEW).unwrap();
    assert_eq!(files(&sim, NEW), before);
}

/// A copy stays one under its new prefix.
#[test]
fn a_checkpoint_is_moved_with_what_makes_it_one() {
    let sim = SimFs::new();
    write(at(&sim, OLD), 1..=10);
    let store = at(&sim, OLD).open().unwrap();
    store.checkpoint("/copy").unwrap();
    let copy = |prefix: &str| Options::new("/copy").prefix(prefix).fs(Arc::new(sim.clone())).background(false);
    copy(OLD).rename("x_").unwrap();
    copy("x_").rename(OLD).unwrap();
    store.write(11, "k", &11).unwrap();
    store.checkpoint("/copy").unwrap();
    assert_eq!(copy(OLD).open_read_only().unwrap().last_index(), Some(11));
}

/// After a crash: one log, under one of its prefixes, or none that opens before the call is made again.
fn is_one_log_that_the_call_completes(sim: &SimFs, what: &str) -> &'static str {
    let (old, new) = (holds_ten(at(&sim.killed(), OLD)), holds_ten(at(&sim.killed(), NEW)));
    assert!(!(old && new), "two logs: {what}");
    let told = |prefix: &str| match at(&sim.killed(), prefix).open() {
        Err(Error::Unfinished { what: call, .. }) => {
            assert!(call.contains("Options::rename") && call.contains("casklog rename"), "{call}");
            true
        }
        _ => false,
    };
    let state = match (old, new, told(OLD), told(NEW)) {
        (true, false, false, _) => "old",
        (false, true, _, false) => "new",
        (false, false, true, true) => "unfinished",
        other => panic!("{other:?}: {what}"),
    };
    match at(sim, OLD).rename(NEW) {
        Ok(()) => {}
        Err(Error::NotFound { .. }) => assert_eq!(state, "new", "{what}"),
        Err(error) => panic!("{error}: {what}"),
    }
    assert!(holds_ten(at(sim, NEW)) && !holds_ten(at(sim, OLD)), "{what}");
    assert!(files(sim, OLD).is_empty() && !files(sim, NEW).contains_key("unfinished"), "{what}");
    write(at(sim, NEW), 11..=20);
    // Nobody is kept from the old prefix.
    write(at(sim, OLD), 1..=10);
    state
}

#[test]
fn a_power_cut_at_any_step_leaves_one_log_and_a_rerun_completes() {
    for personality in [Personality::Posix, Personality::Ext4, Personality::Xfs] {
        let sim = filled().killed();
        sim.set_personality(personality);
        let start = sim.ops();
        at(&sim, OLD).rename(NEW).unwrap();
        let (end, mut states) = (sim.ops(), Vec::new());
        for op in start..=end {
            for image in sim.crash_images(op, 64, op as u64) {
                let what = format!("{personality:?} {}: {}", sim.op_name(op), image.origin());
                let again = image.killed();
                states.push(is_one_log_that_the_call_completes(&image, &what));
                // Crashed in the rerun, too.
                let from = again.ops();
                let _ = at(&again, OLD).rename(NEW);
                for op in (from..=again.ops()).step_by(3) {
                    for image in again.crash_images(op, 2, op as u64) {
                        is_one_log_that_the_call_completes(&image, &format!("{what}; {}", image.origin()));
                    }
                }
            }
        }
        println!("{personality:?}: {} states", states.len());
        assert!(["old", "new", "unfinished"].iter().all(|state| states.contains(state)), "{states:?}");
    }
}

/// A log under the old prefix that was written to between a crash and the rerun is moved with what was written; one that
/// was begun there after the move is left alone.
#[test]
fn what_was_written_since_a_crash_is_moved_or_left() {
    let sim = filled().killed();
    let start = sim.ops();
    at(&sim, OLD).rename(NEW).unwrap();
    let mut moved = 0;
    for op in start..=sim.ops() {
        for image in sim.crash_images(op, 16, op as u64) {
            let Ok(store) = at(&image, OLD).create(false).open() else { continue };
            store.write(11, "k", &11).unwrap();
            store.close().unwrap();
            at(&image, OLD).rename(NEW).unwrap();
            let store = at(&image, NEW).open().unwrap();
            assert_eq!(store.len(), 11);
            moved += 1;
        }
    }
    assert!(moved > 3, "{moved}");
    write(at(&sim, OLD), 1..=2);
    assert!(matches!(at(&sim, OLD).rename(NEW), Err(Error::Exists { .. })));
    assert_eq!(at(&sim, OLD).open().unwrap().len(), 2);
}

#[test]
fn an_error_of_any_call_is_told_and_a_rerun_completes() {
    let mut errors = 0;
    for kind in OpKind::CALLS {
        for errno in [5, 28] {
            for nth in 1.. {
                let sim = filled().killed();
                sim.inject(Fault::new(kind, errno).nth(nth));
                let outcome = at(&sim, OLD).rename(NEW);
                if sim.faults_hit() == 0 {
                    outcome.unwrap();
                    break;
                }
                let what = format!("{kind:?} {errno} {nth}: {outcome:?}");
                match &outcome {
                    Ok(()) => {}
                    Err(Error::Io { source, .. } | Error::NoSpace { source, .. }) => {
                        assert_eq!(source.raw_os_error(), Some(errno), "{what}");
                    }
                    Err(error) => panic!("{what}: {error}"),
                }
                errors += u64::from(outcome.is_err());
                sim.clear_faults();
                is_one_log_that_the_call_completes(&sim, &what);
            }
        }
    }
    assert!(errors > 30, "{errors}");
}

#[test]
fn on_the_real_disk_a_log_is_moved() {
    let dir = tempfile::tempdir().unwrap();
    write(Options::new(dir.path()).segment_entries(3), 1..=10);
    Options::new(dir.path()).rename("events_").unwrap();
    let store = Options::new(dir.path()).prefix("events_").open().unwrap();
    assert_eq!((store.len(), store.recovery_report().is_clean), (10, true));
    assert!(matches!(Options::new(dir.path()).create(false).open(), Err(Error::NotFound { .. })));
}
