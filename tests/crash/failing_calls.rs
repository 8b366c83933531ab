//! Failing calls: each call of each workload in turn, with every error, once and for ever, whole and in part.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use casklog::fs::sim::{Fault, OpKind};

use crate::after_failure::{is_typed, latched, reopened};
use crate::support::crash::{check, guarded};
use crate::support::look::look;
use crate::support::model::Model;
use crate::support::runner::{Act, Runner};
use crate::support::state::find;
use crate::tier::{Failure, Tier};
use crate::workloads::{Disk, Workload, everything, workloads};

/// EIO, ENOSPC, EDQUOT, EINTR, EAGAIN, EMFILE, ENFILE, EROFS, EACCES, ENOENT, EFBIG.
const ERRORS: [i32; 11] = [5, 28, 122, 4, 11, 24, 23, 30, 13, 2, 27];

/// Lengths of transfers that end early, besides all those of a small record.
const LENGTHS: [usize; 8] = [65, 100, 511, 512, 513, 600, 4_095, 4_096];

/// How a call fails.
const WAYS: usize = 2 * ERRORS.len() + 8;

/// The `round`th way to fail call `nth`: different calls begin with different ways, and come to all of them.
fn fault(nth: u64, round: usize) -> Fault {
    let way = (nth as usize * 7 + round) % WAYS;
    let length = match (nth as usize + round) % 72 {
        short @ 0..64 => short + 1,
        long => LENGTHS[long - 64],
    };
    match way {
        way if way < ERRORS.len() => Fault::new(OpKind::Any, ERRORS[way]).nth(nth),
        way if way < 2 * ERRORS.len() => Fault::new(OpKind::Any, ERRORS[way - ERRORS.len()]).nth(nth).sticky(),
        way => match way % 4 {
            0 => Fault::short(OpKind::Read, length).nth(nth),
            1 => Fault::short(OpKind::Write, length).nth(nth),
            2 => Fault::short(OpKind::Write, length).nth(nth).sticky(),
            _ => Fault::new(OpKind::Write, 5).nth(nth).after_bytes(length),
        },
    }
}

/// Runs the workload with one order to fail; returns whether anything failed.
fn with_fault(workload: &Workload, fault: Fault, words: &str) -> bool {
    let (fs, setup) = workload.on(Disk::Like(Default::default()));
    fs.inject(fault);
    let store = match setup.options(&fs).open() {
        Ok(store) => store,
        Err(error) => {
            assert!(is_typed(&error), "{words}: open: {error:?}");
            assert_eq!(fs.open_files(), 0, "{words}: files are left open");
            fs.clear_faults();
            check(&fs, &setup, &[Arc::new(Model::default())]).unwrap_or_else(|error| panic!("{words}: {error}"));
            return true;
        }
    };
    let mut runner = Runner::adopt(fs.clone(), &setup, store, Model::default(), Vec::new(), 3);
    for act in &workload.acts {
        let Err(error) = runner.act(act) else { continue };
        assert!(is_typed(&error), "{words}: {act:?}: {error:?}");
        fs.clear_faults();
        if *act == Act::Drop {
            break;
        }
        if runner.store.writable().is_err() {
            latched(&runner, words);
            break;
        }
        // Not a latch: nothing was placed, and the call may be repeated when the cause is gone.
        runner.failed = None;
        let seen = look(&runner.store).unwrap_or_else(|error| panic!("{words}: {error}"));
        find(&seen, &[Arc::new(runner.model.clone())], true).unwrap_or_else(|error| panic!("{words}: {error}"));
        let again = runner.act(act);
        again.unwrap_or_else(|error| panic!("{words}: {act:?} again: {error:?}"));
    }
    let hit = fs.faults_hit() > 0;
    fs.clear_faults();
    reopened(runner, words);
    hit
}

/// How many calls a workload makes; each kind of call it makes is noted.
fn calls(workload: &Workload, kinds: &Mutex<BTreeSet<String>>) -> u64 {
    let runner = workload.run(Disk::Like(Default::default()), 3);
    let made = OpKind::CALLS.iter().filter(|kind| runner.fs.calls_of(**kind) > 0);
    kinds.lock().unwrap().extend(made.map(|kind| format!("{kind:?}")));
    runner.fs.calls()
}

#[test]
fn r3_every_failing_call_is_a_typed_error_and_loses_nothing_acknowledged() {
    let tier = Tier::new("R3", 5_000);
    let mut jobs: Vec<Workload> = Vec::new();
    for workload in workloads().into_iter().chain(everything()) {
        jobs.extend([false, true].map(|mapped| workload.clone().mapped(mapped)));
    }
    if let Some(only) = &tier.only {
        jobs.retain(|job| job.words() == only[..2]);
    }
    let kinds = Mutex::new(BTreeSet::new());
    let jobs: Vec<(Workload, u64)> = jobs.into_iter().map(|job| (job.clone(), calls(&job, &kinds))).collect();
    let calls: u64 = jobs.iter().map(|(_, calls)| calls).sum();
    let tried = tier.run(&jobs, |(job, own)| {
        let mut injected = 0;
        let try_one = |nth: u64, round: usize| {
            let words = format!("{} {nth} {round}", job.words().join(" "));
            let outcome = guarded(|| Ok(with_fault(job, fault(nth, round), &words)));
            outcome.map_err(|what| Failure { state: words, what: format!("{:?}\n{what}", fault(nth, round)) })
        };
        if let Some([.., nth, round]) = tier.only.as_deref() {
            return try_one(nth.parse().expect("a number"), round.parse().expect("a number")).map(u64::from);
        }
        // After so many rounds, each call has failed in every way.
        for round in 0..72 * WAYS {
            if injected * calls >= tier.wanted * own && round > 0 {
                break;
            }
            // Recovery after a failure makes more calls than a run without one; stop when a stretch hits nothing.
            let mut missed = 0;
            for nth in 1.. {
                let hit = try_one(nth, round)?;
                injected += u64::from(hit);
                missed = if hit { 0 } else { missed + 1 };
                if missed > WAYS {
                    break;
                }
            }
        }
        Ok(injected)
    });
    let kinds = kinds.into_inner().unwrap();
    println!("R3: kinds of calls: {}", Vec::from_iter(kinds.iter().cloned()).join(", "));
    if tier.only.is_none() {
        assert!(tried >= tier.wanted, "{tried}");
        // Renames and links are made by repair and by copies, which have tests of their own.
        let others = [OpKind::Rename, OpKind::Link, OpKind::Reflink];
        let all = OpKind::CALLS.iter().filter(|kind| !others.contains(kind));
        assert!(all.map(|kind| format!("{kind:?}")).all(|kind| kinds.contains(&kind)), "{kinds:?}");
    }
}
