//! Failing calls: each call of a workload in turn, full disks, and what a reopened log holds afterwards.

use std::sync::Arc;

use casklog::fs::sim::{Fate, Fault, OpKind, SimFs};
use casklog::{Error, SyncPolicy};

use crate::checker::{find, located, look};
use crate::model::{Change, Model};
use crate::named::SimStore;
use crate::runner::{Act, GROUPED, Runner, Setup};
use crate::sweep::check;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

const KINDS: [OpKind; 13] = [
    OpKind::Any,
    OpKind::Change,
    OpKind::Read,
    OpKind::Write,
    OpKind::Prepare,
    OpKind::SetSize,
    OpKind::Size,
    OpKind::Sync,
    OpKind::SyncDir,
    OpKind::Create,
    OpKind::Open,
    OpKind::Remove,
    OpKind::List,
];

fn acts() -> Vec<Act> {
    let batch = Act::Batch { truncate: None, puts: vec![40, 600], delete: Some(1), meta: Some(9) };
    let mut acts = vec![Act::Append(40), Act::Append(40), batch, Act::Append(9_000), Act::Rotate];
    acts.extend([Act::Truncate(Change::Before(3)), Act::Append(40), Act::Delete(4), Act::Sync, Act::Idle, Act::Reopen]);
    acts.extend([Act::Append(40), Act::Truncate(Change::After(5)), Act::Append(40), Act::Append(40)]);
    acts
}

fn setups() -> Vec<Setup> {
    let mut setups = Vec::new();
    for (sync, mapped) in [(GROUPED, false), (SyncPolicy::None, true)] {
        let mut setup = Setup::new(sync);
        (setup.mapped, setup.segment_bytes) = (mapped, 20_000);
        (setup.segment_entries, setup.max_segments) = (Some(2), Some(3));
        setups.push(setup);
    }
    setups
}

/// A typed error that says what happened; nothing else may come out of a failing call.
fn is_typed(error: &Error) -> bool {
    matches!(error, Error::Io { .. } | Error::NoSpace { .. } | Error::Failed { .. } | Error::ReadOnly { .. })
}

/// Runs the workload with one order to fail; returns whether anything failed.
fn with_fault(setup: &Setup, fault: Fault, words: &str) -> bool {
    let fs = SimFs::new();
    fs.inject(fault);
    let store = match setup.options(&fs).open() {
        Ok(store) => store,
        Err(error) => {
            assert!(is_typed(&error), "{words}: open: {error:?}");
            fs.clear_faults();
            check(&fs, setup, &[Arc::new(Model::default())]).unwrap_or_else(|error| panic!("{words}: {error}"));
            return true;
        }
    };
    let mut runner = Runner::adopt(fs.clone(), setup, store, Model::default(), Vec::new(), 3);
    for act in acts() {
        let Err(error) = runner.act(&act) else { continue };
        assert!(is_typed(&error), "{words}: {act:?}: {error:?}");
        if runner.store.writable().is_ok() {
            // Not a latch: nothing was placed, and the call may be repeated when the cause is gone.
            runner.failed = None;
            let seen = look(&runner.store);
            fs.clear_faults();
            if let Ok(seen) = seen {
                find(&seen, &[Arc::new(runner.model.clone())], true).unwrap_or_else(|error| panic!("{words}: {error}"));
            }
            let again = runner.act(&act);
            again.unwrap_or_else(|error| panic!("{words}: {act:?} again: {error:?}"));
            continue;
        }
        latched(&mut runner, words);
        break;
    }
    let hit = fs.faults_hit() > 0;
    fs.clear_faults();
    reopened(runner, words);
    hit
}

/// Nothing is written any more; reads go on.
fn latched(runner: &mut Runner, words: &str) {
    let (fs, store) = (&runner.fs, &runner.store);
    fs.clear_faults();
    let ops = fs.ops();
    if !matches!(store.writable(), Err(Error::Closed)) {
        let first = format!("{:?}", store.writable());
        assert!(matches!(store.writable(), Err(Error::Failed { .. })), "{words}: {first}");
        assert!(matches!(store.append("k", "v"), Err(Error::Failed { .. })), "{words}");
        assert!(matches!(store.rotate(), Err(Error::Failed { .. })), "{words}");
        let seen = look(store).unwrap_or_else(|error| panic!("{words}: reads after the latch: {error}"));
        let mut allowed = vec![Arc::new(runner.model.clone())];
        allowed.extend(runner.failed.clone().map(|failed| Arc::new(located(failed, &seen))));
        find(&seen, &allowed, true).unwrap_or_else(|error| panic!("{words}: after the latch: {error}"));
        let closed = store.close().map_err(|error| format!("{:?}", Err::<(), _>(error)));
        assert_eq!(closed, Err(first), "{words}: close returns the first cause");
    }
    assert_eq!(fs.ops(), ops, "{words}: written after the latch: {}", fs.op_name(ops));
}

/// In the same boot all that was acknowledged is there, the log goes on, and survives a power cut.
fn reopened(mut runner: Runner, words: &str) {
    let (fs, setup) = (runner.fs.clone(), runner.setup.clone());
    runner.store = SimStore::other();
    let store = setup.options(&fs).open().unwrap_or_else(|error| panic!("{words}: reopen: {error:?}"));
    assert!(!store.recovery_report().is_damaged(), "{words}: {:?}", store.recovery_report());
    let seen = look(&store).unwrap_or_else(|error| panic!("{words}: {error}"));
    let mut allowed = runner.allowed(fs.ops());
    allowed.extend(runner.failed.take().map(|failed| Arc::new(located(failed, &seen))));
    let model = find(&seen, &allowed, true).unwrap_or_else(|error| panic!("{words}: reopened: {error}"));
    let mut next = Runner::adopt(fs.clone(), &setup, store, (**model).clone(), Vec::new(), 4);
    next.run(&[Act::Append(40), Act::Append(600), Act::Sync]).unwrap_or_else(|error| panic!("{words}: {error:?}"));
    for fate in [Fate::Lost, Fate::Kept] {
        let found = fs.crash_at(fs.ops(), &mut |_| fate);
        let allowed = [Arc::new(next.model.clone())];
        check(&found, &setup, &allowed).unwrap_or_else(|error| panic!("{words}: then {}: {error}", found.origin()));
    }
}

#[test]
fn every_failing_call_is_a_typed_error_and_loses_nothing_acknowledged() {
    let mut injected = 0;
    for setup in setups() {
        for kind in KINDS {
            for (errno, sticky) in [(EIO, false), (EIO, true), (ENOSPC, false), (ENOSPC, true)] {
                for nth in 1.. {
                    let fault = Fault::new(kind, errno).nth(nth);
                    let fault = if sticky { fault.sticky() } else { fault };
                    let words = format!("{kind:?} {nth}, errno {errno}, sticky {sticky}, mapped {}", setup.mapped);
                    if !with_fault(&setup, fault, &words) {
                        break;
                    }
                    injected += 1;
                }
            }
        }
    }
    println!("{injected} failing calls");
    assert!(injected > 1_000);
}

#[test]
fn a_short_write_is_cut_at_the_next_open() {
    let setup = &setups()[0];
    for bytes in [1, 15, 16, 30, 64, 300, 600] {
        for nth in 1.. {
            let fault = Fault::new(OpKind::Write, EIO).nth(nth).after_bytes(bytes);
            if !with_fault(setup, fault, &format!("write {nth} after {bytes} bytes")) {
                break;
            }
        }
    }
}

#[test]
fn a_full_disk_is_a_typed_error_at_every_size_and_opens() {
    for setup in setups() {
        let roomy = {
            let mut runner = Runner::create(&setup, 3);
            runner.run(&acts()).unwrap();
            runner.fs.used()
        };
        let step = (roomy / 200).max(1) as usize;
        for capacity in (0..roomy + 20_000).step_by(step) {
            let words = format!("{capacity} bytes, mapped {}", setup.mapped);
            let fs = SimFs::new();
            fs.set_capacity(Some(capacity));
            let store = match setup.options(&fs).open() {
                Ok(store) => store,
                Err(error) => {
                    assert!(is_typed(&error), "{words}: {error:?}");
                    continue;
                }
            };
            let mut runner = Runner::adopt(fs.clone(), &setup, store, Model::default(), Vec::new(), 3);
            if let Err(error) = runner.run(&acts()) {
                assert!(is_typed(&error), "{words}: {error:?}");
                look(&runner.store).unwrap_or_else(|error| panic!("{words}: {error}"));
            }
            // The disk is still full.
            runner.store = SimStore::other();
            let store = setup.options(&fs).open().unwrap_or_else(|error| panic!("{words}: full: {error:?}"));
            let seen = look(&store).unwrap_or_else(|error| panic!("{words}: {error}"));
            let failed = runner.failed.clone().map(|failed| Arc::new(located(failed, &seen)));
            let allowed: Vec<_> = runner.allowed(fs.ops()).into_iter().chain(failed).collect();
            find(&seen, &allowed, true).unwrap_or_else(|error| panic!("{words}: full: {error}"));
            drop(store);
            fs.set_capacity(None);
            reopened(runner, &words);
        }
    }
}
