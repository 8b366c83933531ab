//! Power cuts at every operation of a checkpoint, and errors of every call.

use casklog::fs::sim::{Fault, OpKind, Personality, SimFs};
use casklog::{Error, RecoveryMode, Store};

use crate::common::*;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const EXDEV: i32 = 18;

/// What the directory of the copy says after a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Nothing,
    Older,
    Newer,
    Unfinished,
}

/// What a log showed at these two times, the newer one now.
struct Times {
    older: Option<Shown>,
    newer: Shown,
}

/// The older copy, the newer one, or an error that says that it is unfinished; in every mode the same.
fn left(sim: &SimFs, times: &Times) -> Left {
    let readable = copy(sim).recovery(RecoveryMode::Strict).open_read_only();
    let written = copy(&sim.killed()).create(false).open();
    match (readable, written) {
        (Err(Error::NotFound { .. }), Err(Error::NotFound { .. })) => Left::Nothing,
        (Err(Error::Unfinished { what, .. }), Err(Error::Unfinished { .. })) => {
            assert!(what.contains("checkpoint"), "{what}");
            assert!(matches!(copy(sim).open(), Err(Error::Unfinished { .. })), "no new log in its place");
            Left::Unfinished
        }
        (Ok(reader), Ok(store)) => {
            let found = shown(&reader);
            assert_eq!(shown(&store), found);
            assert!(reader.recovery_report().is_clean && store.recovery_report().is_clean);
            assert!(!reader.verify().unwrap().is_damaged());
            if found == times.newer {
                return Left::Newer;
            }
            assert_eq!(Some(found), times.older);
            Left::Older
        }
        other => panic!("{other:?}"),
    }
}

/// The log is all there, is written to, and its copy is completed.
fn completes(sim: &SimFs, times: &Times) {
    let store = log(sim).open().unwrap();
    let found = shown(&store);
    assert_eq!(found.entries, times.newer.entries);
    store.checkpoint(COPY).unwrap();
    assert_eq!(opens_clean(sim), shown(&store));
    go_on(&store);
    store.checkpoint(COPY).unwrap();
    assert_eq!(opens_clean(sim), shown(&store));
}

/// What a copy is made of, and where.
#[derive(Debug, Clone, Copy)]
struct Case {
    /// There is a copy of an earlier time.
    is_again: bool,
    /// Files can have two names.
    is_linked: bool,
    /// The log has segments no longer that it had when the earlier copy was made.
    removes: bool,
}

const CASES: [Case; 5] = [
    Case { is_again: false, is_linked: true, removes: true },
    Case { is_again: false, is_linked: false, removes: true },
    Case { is_again: true, is_linked: true, removes: true },
    Case { is_again: true, is_linked: true, removes: false },
    Case { is_again: true, is_linked: false, removes: false },
];

/// A log that is open, and maybe a copy of an earlier time.
fn begun(personality: Personality, case: Case) -> (SimFs, Store, Times) {
    let Case { is_again, is_linked, removes } = case;
    let sim = filled();
    sim.set_personality(personality);
    if !is_linked {
        sim.inject(Fault::new(OpKind::Link, EXDEV).sticky());
    }
    let store = log(&sim).open().unwrap();
    let older = is_again.then(|| {
        store.checkpoint(COPY).unwrap();
        shown(&store)
    });
    if removes {
        go_on(&store);
    } else {
        write_each(&store, 34..=45);
    }
    // So that a reader knows as much.
    store.idle().unwrap();
    let times = Times { older, newer: shown(&store) };
    (sim, store, times)
}

#[test]
fn a_power_cut_at_any_step_leaves_the_older_copy_or_the_newer_one_or_says_that_it_is_unfinished() {
    for personality in [Personality::Posix, Personality::Ext4, Personality::Xfs] {
        for case in CASES {
            let (sim, store, times) = begun(personality, case);
            let is_again = case.is_again;
            let start = sim.ops();
            store.checkpoint(COPY).unwrap();
            let (end, mut seen) = (sim.ops(), Vec::new());
            for op in start..=end {
                for image in sim.crash_images(op, 24, op as u64) {
                    let what = format!("{personality:?} {case:?} {}: {}", sim.op_name(op), image.origin());
                    let found = left(&image, &times);
                    // Nothing but a durable end of the call lets the newer one stand for certain.
                    assert!(op < end || found == Left::Newer, "{found:?}: {what}");
                    assert!(
                        op > start || found == if is_again { Left::Older } else { Left::Nothing },
                        "{found:?}: {what}"
                    );
                    seen.push(found);
                    completes(&image, &times);
                }
            }
            let count = |left: Left| seen.iter().filter(|found| **found == left).count();
            let before = if is_again { Left::Older } else { Left::Nothing };
            println!("{personality:?} {case:?}: {} states", seen.len());
            assert!(count(before) > 0 && count(Left::Unfinished) > 0 && count(Left::Newer) > 0, "{seen:?}");
            assert!(is_again != (count(Left::Nothing) > 0));
        }
    }
}

/// Crashed in the rerun, too.
#[test]
fn a_power_cut_in_the_rerun_is_no_different() {
    for case in CASES {
        let (sim, store, times) = begun(Personality::Posix, case);
        let start = sim.ops();
        store.checkpoint(COPY).unwrap();
        let mut states = 0;
        for op in (start..=sim.ops()).step_by(3) {
            for image in sim.crash_images(op, 2, 7 + op as u64) {
                let reader = log(&image).open_read_only().unwrap();
                let again = image.ops();
                reader.checkpoint(COPY).unwrap();
                for op in (again..=image.ops()).step_by(2) {
                    for image in image.crash_images(op, 2, op as u64) {
                        states += 1;
                        left(&image, &times);
                        completes(&image, &times);
                    }
                }
            }
        }
        assert!(states > 100, "{states}");
    }
}

/// An error of any call is told, harms neither log, and is over when the call is made again.
#[test]
fn an_error_of_any_call_is_told_and_harms_nothing() {
    for case in CASES {
        let mut errors = 0;
        for kind in OpKind::CALLS.into_iter().filter(|kind| case.is_linked || *kind != OpKind::Link) {
            for errno in [EIO, ENOSPC] {
                for nth in 1.. {
                    let (sim, store, times) = begun(Personality::Posix, case);
                    sim.inject(Fault::new(kind, errno).nth(nth));
                    let before = sim.calls_of(kind);
                    let outcome = store.checkpoint(COPY);
                    if sim.calls_of(kind) - before < nth {
                        assert!(outcome.is_ok(), "{outcome:?}");
                        break;
                    }
                    let what = format!("{case:?} {kind:?} {errno} {nth}: {outcome:?}");
                    match &outcome {
                        Ok(_) => {}
                        Err(Error::Io { source, .. }) => assert_eq!(source.raw_os_error(), Some(errno), "{what}"),
                        Err(Error::NoSpace { .. }) => assert_eq!(errno, ENOSPC, "{what}"),
                        Err(error) => panic!("{what}: {error}"),
                    }
                    errors += u64::from(outcome.is_err());
                    sim.clear_faults();
                    let found = left(&sim, &times);
                    assert!(outcome.is_err() || found == Left::Newer, "{what}");
                    store.writable().unwrap();
                    store.checkpoint(COPY).unwrap();
                    assert_eq!(left(&sim, &times), Left::Newer, "{what}");
                    go_on(&store);
                    store.close().unwrap();
                    log(&sim).open().unwrap().checkpoint(COPY).unwrap();
                    opens_clean(&sim);
                }
            }
        }
        assert!(errors > 60, "{errors}");
    }
}
