//! Full disks and used-up quotas, at every size: a typed error, a log that opens on the full disk, and goes on when there
//! is room again.

use casklog::fs::sim::SimFs;
use casklog::{Error, SyncPolicy};

use crate::after_failure::{allowed_now, is_typed, reopened};
use crate::support::crash::guarded;
use crate::support::look::look;
use crate::support::model::Change;
use crate::support::runner::{Act, GROUPED, Runner, Setup};
use crate::support::state::find;
use crate::tier::{Failure, Tier};
use crate::workloads::no_store;

/// A log of about 16 KiB in several segments.
fn acts() -> Vec<Act> {
    let batch = Act::Batch { truncate: None, puts: vec![40, 600], delete: Some(1), meta: Some(9) };
    let mut acts = vec![Act::Append(40), Act::Append(900), batch, Act::Append(700), Act::Rotate];
    acts.extend([Act::Truncate(Change::Before(2)), Act::Append(40), Act::Sync, Act::Idle, Act::Reopen]);
    acts.extend([Act::Append(40), Act::Truncate(Change::After(5)), Act::Append(900)]);
    acts
}

fn setups() -> Vec<Setup> {
    let setups = [(GROUPED, false, true), (SyncPolicy::None, true, true), (GROUPED, false, false)];
    let setup = |(sync, mapped, preallocate)| {
        let mut setup = Setup::new(sync);
        (setup.mapped, setup.preallocate) = (mapped, preallocate);
        (setup.segment_bytes, setup.segment_entries) = (2_500, Some(3));
        setup
    };
    setups.map(setup).to_vec()
}

/// Runs the workload with room for `bytes`, opens the log while there is no more, and goes on when there is.
fn starve(setup: &Setup, bytes: u64, is_quota: bool, words: &str) {
    let fs = SimFs::new();
    let limit = |bytes| if is_quota { fs.set_quota(bytes) } else { fs.set_capacity(bytes) };
    limit(Some(bytes));
    let store = match setup.options(&fs).open() {
        Ok(store) => store,
        Err(error) => return assert!(is_typed(&error), "{words}: {error:?}"),
    };
    let mut runner = Runner::adopt(fs.clone(), setup, store, Default::default(), vec![Default::default()], 3);
    for act in acts() {
        let Err(error) = runner.act(&act) else { continue };
        assert!(is_typed(&error), "{words}: {act:?}: {error:?}");
        if !matches!(runner.store.writable(), Err(Error::Closed)) {
            look(&runner.store).unwrap_or_else(|error| panic!("{words}: {error}"));
        }
        if runner.store.writable().is_ok() {
            // Nothing was placed: the store goes on with what needs no room.
            runner.failed = None;
            continue;
        }
        break;
    }
    runner.store = no_store();
    let store = setup.options(&fs).open().unwrap_or_else(|error| panic!("{words}: full: {error:?}"));
    let seen = look(&store).unwrap_or_else(|error| panic!("{words}: {error}"));
    let allowed = allowed_now(&runner, &seen);
    find(&seen, &allowed, true).unwrap_or_else(|error| panic!("{words}: full: {error}"));
    drop(store);
    limit(None);
    reopened(runner, words);
}

#[test]
fn r15_a_full_disk_is_a_typed_error_at_every_size_and_opens() {
    let tier = Tier::new("R15", 16_384);
    let (setups, chunk) = (setups(), 64);
    let most = setups.iter().map(|setup| {
        let mut runner = Runner::create(setup, 3);
        runner.run(&acts()).unwrap();
        runner.fs.used()
    });
    let most = most.max().unwrap_or(0) + 1_000;
    // Every size once, each setup and both limits in turn; where more is asked for, with all of them.
    let rounds = (tier.wanted / most).clamp(1, 2 * setups.len() as u64);
    let mut jobs: Vec<_> =
        (0..rounds).flat_map(|round| (0..most).step_by(chunk).map(move |from| (round, from))).collect();
    if let Some([_, _, _]) = tier.only.as_deref() {
        jobs.truncate(1);
    }
    let tried = tier.run(&jobs, |(round, from)| {
        let try_one = |bytes: u64, number: usize, is_quota: bool| {
            let words = format!("{bytes} {number} {is_quota}");
            let outcome = guarded(|| {
                starve(&setups[number], bytes, is_quota, &words);
                Ok(())
            });
            outcome.map_err(|what| Failure { state: words, what: format!("{:?}\n{what}", setups[number]) })
        };
        if let Some([bytes, number, is_quota]) = tier.only.as_deref() {
            let number = number.parse().expect("a setup");
            return try_one(bytes.parse().expect("bytes"), number, is_quota == "true").map(|()| 1);
        }
        let mut tried = 0;
        for bytes in *from..(from + chunk as u64).min(most) {
            let turn = bytes + round;
            try_one(bytes, (turn % setups.len() as u64) as usize, turn / setups.len() as u64 % 2 == 1)?;
            tried += 1;
        }
        Ok(tried)
    });
    assert!(tier.only.is_some() || tried >= tier.wanted.min(16_000), "{tried} of {most}");
}

/// The active segment grows in steps: where the disk has no room for the next one, nothing is placed there.
#[test]
fn a_segment_that_cannot_grow_refuses_the_write_and_takes_it_when_there_is_room() {
    for mapped in [false, true] {
        let fs = SimFs::new();
        let mut setup = Setup::new(SyncPolicy::None);
        (setup.mapped, setup.segment_bytes, setup.segment_entries) = (mapped, 8 << 20, None);
        let store = setup.options(&fs).open().unwrap();
        store.append_bytes("k", vec![1; 100 << 10]).unwrap();
        fs.set_capacity(Some(fs.used()));
        let mut written = 1;
        let error = loop {
            match store.append_bytes("k", vec![1; 100 << 10]) {
                Ok(_) => written += 1,
                Err(error) => break error,
            }
            assert!(written < 100, "the disk is never full");
        };
        assert!(matches!(error, Error::NoSpace { .. }), "{error:?}");
        store.writable().unwrap();
        assert_eq!(store.len(), written);
        fs.set_capacity(None);
        store.append_bytes("k", vec![2; 100 << 10]).unwrap();
        store.close().unwrap();
        assert_eq!(setup.options(&fs).open().unwrap().len(), written + 1);
    }
}
