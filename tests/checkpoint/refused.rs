//! What a checkpoint is not made into, and of what none is made.

use std::path::Path;

use casklog::fs::sim::{Fault, OpKind, SimFs};
use casklog::{Error, RecoveryMode};

use crate::common::*;

/// The checkpoint is refused with this reason, and nothing in the directory changes.
fn is_refused(sim: &SimFs, dir: &str, part: &str) {
    let before = files(sim, dir);
    let reader = log(sim).open_read_only().unwrap();
    match reader.checkpoint(dir) {
        Err(Error::NotACheckpoint { reason, .. }) => assert!(reason.contains(part), "{reason}"),
        other => panic!("{part}: {other:?}"),
    }
    assert_eq!(files(sim, dir), before, "{part}");
}

/// A log with a copy, both closed.
fn copied() -> SimFs {
    let sim = filled();
    log(&sim).open_read_only().unwrap().checkpoint(COPY).unwrap();
    sim
}

#[test]
fn another_log_is_left_alone() {
    let sim = filled();
    let other = copy(&sim).open().unwrap();
    write_each(&other, 1..=33);
    other.close().unwrap();
    is_refused(&sim, COPY, "another log");
    assert!(sim.remove_file(&Path::new(COPY).join("segment_manifest")));
    is_refused(&sim, COPY, "manifest is lost");
}

/// The log itself is no copy of itself: what it has above W would be cut.
#[test]
fn a_log_is_not_copied_into_itself() {
    let sim = filled();
    is_refused(&sim, LOG, "not made as a checkpoint");
    let store = log(&sim).open().unwrap();
    assert!(matches!(store.checkpoint(LOG), Err(Error::Locked { .. })));
}

/// A copy that somebody writes to is a log of its own from then on, however that ended.
#[test]
fn a_copy_that_was_written_to_is_left_alone() {
    for ends in ["closed", "killed"] {
        for writes in [1, 4, 30] {
            let sim = copied();
            let store = copy(&sim).open().unwrap();
            write_each(&store, 34..34 + writes);
            let sim = if ends == "closed" {
                store.close().unwrap();
                sim
            } else {
                sim.killed()
            };
            is_refused(&sim, COPY, "written to since");
            // Nor when this log has gone on and retired all that the two had in common.
            let store = log(&sim).open().unwrap();
            (0..6).for_each(|_| go_on(&store));
            store.close().unwrap();
            assert!(store_begins_behind(&sim, 10));
            is_refused(&sim, COPY, "written to since");
        }
    }
}

fn store_begins_behind(sim: &SimFs, number: u64) -> bool {
    log(sim).open_read_only().unwrap().segments()[0].number > number
}

/// An older copy whose every segment was retired since is still one.
#[test]
fn a_copy_of_which_nothing_is_left_is_brought_up_to_date() {
    let sim = copied();
    let store = log(&sim).open().unwrap();
    (0..6).for_each(|_| go_on(&store));
    assert!(store_begins_behind(&sim, 10));
    let made = store.checkpoint(COPY).unwrap();
    assert_eq!(made.kept, 0);
    assert_eq!(opens_clean(&sim), shown(&store));
}

/// A log that was restored from an older copy, and written to, is another one with the same identity.
#[test]
fn a_copy_of_another_past_is_left_alone() {
    // It parts in the segment in which the copy ends, or behind it.
    for (each, part) in [(50, "holds something else"), (5, "segment")] {
        let sim = copied();
        let log = || log(&sim).segment_entries(each);
        // The log is lost, and its copy of an earlier time becomes the log.
        let store = log().open().unwrap();
        write_each(&store, 34..=37);
        store.checkpoint("later").unwrap();
        store.close().unwrap();
        files(&sim, LOG).iter().for_each(|(name, _)| assert!(sim.remove_file(&Path::new(LOG).join(name))));
        copy(&sim).open_read_only().unwrap().checkpoint(LOG).unwrap();
        is_refused(&sim, "later", "it reaches to");
        let store = log().open().unwrap();
        for index in 34..60 {
            store.write(index, "key", &"something else, and longer than what was there").unwrap();
        }
        store.close().unwrap();
        is_refused(&sim, "later", part);
    }
}

#[test]
fn a_copy_that_is_open_is_locked() {
    let sim = copied();
    let reader = log(&sim).open_read_only().unwrap();
    let open = copy(&sim).open().unwrap();
    assert!(matches!(reader.checkpoint(COPY), Err(Error::Locked { .. })));
    open.close().unwrap();
    // It was opened and closed, and nothing was written.
    reader.checkpoint(COPY).unwrap();
}

/// A damaged log is not copied as if it were whole, and the copy that is there stays.
#[test]
fn a_damaged_log_is_not_copied() {
    let sim = copied();
    let before = files(&sim, COPY);
    let store = log(&sim).open().unwrap();
    write_each(&store, 34..=36);
    // Damage in the segment that is written is found when it is copied.
    let damaged = store.get(35).unwrap().unwrap().position();
    let path = segment(LOG, damaged.segment());
    let mut bytes = sim.read_file(&path).unwrap();
    bytes[damaged.offset() as usize + 20] ^= 1;
    sim.write_file(&path, &bytes);
    let at_path = |error: &Error| matches!(error, Error::Damaged { path: at, .. } if *at == path);
    assert!(store.checkpoint(COPY).is_err_and(|error| at_path(&error)));
    assert_eq!(files(&sim, COPY), before);
    assert!(store.checkpoint("new").is_err_and(|error| at_path(&error)));
    assert!(files(&sim, "new").is_empty());
    drop(store);
    // What was found at open is told, whatever the mode.
    let sim = sim.killed();
    for reader in
        [log(&sim).open_read_only().unwrap(), log(&sim).recovery(RecoveryMode::PointInTime).open_read_only().unwrap()]
    {
        assert!(reader.checkpoint(COPY).is_err_and(|error| at_path(&error)));
    }
    let store = log(&sim).recovery(RecoveryMode::Salvage).open().unwrap();
    assert!(store.checkpoint(COPY).is_err_and(|error| at_path(&error)));
    assert_eq!(files(&sim, COPY), before);
}

#[test]
fn a_log_with_a_missing_segment_is_not_copied() {
    for number in [1, 3, 6] {
        let sim = copied();
        let before = files(&sim, COPY);
        let store = log(&sim).open().unwrap();
        let first = store.segments()[0].number;
        let path = segment(LOG, first + number);
        assert!(sim.remove_file(&path));
        // Whether or not what is missing has to be copied, nothing is taken from the copy.
        let outcome = store.checkpoint(COPY);
        assert!(matches!(&outcome, Ok(_) | Err(Error::Missing { .. })), "{outcome:?}");
        assert_eq!(files(&sim, COPY), before);
        let reader = log(&sim).open_read_only().unwrap();
        assert!(matches!(reader.checkpoint(COPY), Err(Error::Missing { path: at }) if at == path));
        assert!(matches!(reader.checkpoint("new"), Err(Error::Missing { path: at }) if at == path));
        assert_eq!((files(&sim, COPY), files(&sim, "new").len()), (before, 0));
    }
}

/// What another call has left unfinished is completed by that one.
#[test]
fn what_another_call_has_begun_is_left_to_it() {
    let sim = copied();
    sim.write_file(&Path::new(COPY).join("segment_unfinished"), b"another call");
    let reader = log(&sim).open_read_only().unwrap();
    let is_told = |error: &Error| matches!(error, Error::Unfinished { what, .. } if what == "another call");
    assert!(reader.checkpoint(COPY).is_err_and(|error| is_told(&error)));
    assert!(copy(&sim).open().is_err_and(|error| is_told(&error)));
    assert!(copy(&sim).open_read_only().is_err_and(|error| is_told(&error)));
    assert!(copy(&sim).unsafe_recover().is_err_and(|error| is_told(&error)));
    // A log with another prefix in the same directory is not concerned.
    let other = copy(&sim).prefix("other_").open().unwrap();
    other.append("key", "value").unwrap();
}

/// A full disk is told as such, and leaves what was there and nothing else.
#[test]
fn a_full_disk_leaves_the_copy_that_was_there() {
    let base = copied();
    let store = log(&base).open().unwrap();
    go_on(&store);
    store.close().unwrap();
    let (before, used) = (files(&base, COPY), base.used());
    let mut full = 0;
    for (target, room) in [COPY, "new"].iter().flat_map(|target| (0..40).map(move |step| (*target, step * 512))) {
        let sim = base.killed();
        sim.inject(Fault::new(OpKind::Link, 18).sticky());
        sim.set_capacity(Some(used + room));
        let reader = log(&sim).open_read_only().unwrap();
        match reader.checkpoint(target) {
            Err(Error::NoSpace { .. }) => {
                full += 1;
                let was_there = if target == COPY { before.clone() } else { Vec::new() };
                assert_eq!(files(&sim, target), was_there, "{target}, room for {room}");
            }
            Ok(_) => {}
            Err(error) => panic!("{target}, room for {room}: {error}"),
        }
        sim.set_capacity(None);
        reader.checkpoint(target).unwrap();
        if target == COPY {
            assert_eq!(opens_clean(&sim), shown(&reader));
        }
    }
    assert!(full > 10, "{full}");
}
