//! Failing syncs: each sync of each workload, with everything that a file system may do about it.

use casklog::fs::sim::{Fault, OpKind, Personality, SyncFailure};
use casklog::{Error, SyncPolicy};

use crate::after_failure::{cut_now, is_typed, latched, reopened};
use crate::support::crash::guarded;
use crate::support::runner::{Act, Runner};
use crate::tier::{Failure, Tier};
use crate::workloads::{Disk, Workload, everything, no_store, workloads};

/// What comes after the sync that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// The kernel drops clean pages when asked, and the next process opens the log.
    Reopen,
    /// As above, but the kernel does not listen.
    ReopenDeaf,
    /// The kernel drops all clean pages by itself before that.
    ReopenEvicted,
    PowerCut,
}

const THENS: [Then; 4] = [Then::Reopen, Then::ReopenDeaf, Then::ReopenEvicted, Then::PowerCut];

/// Fails sync `nth`; returns whether there was one.
fn with_failure(workload: &Workload, nth: u64, model: SyncFailure, then: Then, salt: u64, words: &str) -> bool {
    let personalities = [Personality::Posix, Personality::Ext4, Personality::Xfs];
    let (fs, setup) = workload.on(Disk::Like(personalities[(salt % 3) as usize]));
    fs.set_sync_failure(model);
    fs.set_drops_cache(then != Then::ReopenDeaf);
    fs.inject(Fault::new(OpKind::Sync, 5).nth(nth));
    let store = match setup.options(&fs).open() {
        Ok(store) => store,
        Err(error) => {
            assert!(is_typed(&error), "{words}: open: {error:?}");
            return true;
        }
    };
    let mut runner = Runner::adopt(fs.clone(), &setup, store, Default::default(), vec![Default::default()], salt);
    let mut acts = workload.acts.clone();
    acts.extend([Act::Append(40), Act::Sync]);
    for act in &acts {
        let Err(error) = runner.act(act) else { continue };
        assert!(is_typed(&error), "{words}: {act:?}: {error:?}");
        let is_gone = *act == Act::Drop || matches!(runner.store.writable(), Err(Error::Closed));
        assert!(
            is_gone || runner.store.writable().is_err(),
            "{words}: {act:?} failed, and the store goes on: {error:?}"
        );
        if *act != Act::Drop && model != SyncFailure::ShutsDown {
            latched(&runner, words);
        }
        break;
    }
    if fs.faults_hit() == 0 {
        return false;
    }
    runner.store = no_store();
    use SyncFailure::{KeepsPending, Lies, LiesInPart, PlacesNothing, Writes};
    let is_broken = !matches!(model, Lies | LiesInPart | KeepsPending | Writes | PlacesNothing);
    if is_broken {
        // Nothing can be written before the next boot. The log says so, or shows what it has for reading.
        match setup.options(&fs).open() {
            Ok(_) => panic!("{words}: it opens for writing on a file system that takes no writes"),
            Err(error) => assert!(is_typed(&error), "{words}: reopen: {error:?}"),
        }
        assert_eq!(fs.open_files(), 0, "{words}: files are left open");
    }
    if then == Then::ReopenEvicted {
        fs.evict();
    }
    cut_now(&runner, if then == Then::PowerCut { 16 } else { 2 }, salt, words);
    // Where the kernel has forgotten by itself what only the journal has, nothing but the next mount brings it back.
    let is_hidden = model == PlacesNothing && then == Then::ReopenEvicted;
    if !is_broken && !is_hidden && then != Then::PowerCut {
        reopened(runner, words);
    }
    true
}

#[test]
fn r4_nothing_that_was_acknowledged_or_shown_is_lost_after_a_failed_sync() {
    let tier = Tier::new("R4", 2_000);
    let mut jobs = Vec::new();
    for workload in workloads().into_iter().chain(everything()) {
        for mapped in [false, true] {
            let workload = workload.clone().mapped(mapped);
            jobs.extend(SyncFailure::ALL.map(|model| (workload.clone(), model)));
        }
    }
    if tier.wanted <= 2_000 && tier.only.is_none() {
        // Each workload with every fourth way to fail, and each way with every fourth workload.
        let ways = SyncFailure::ALL.len();
        let mut place = 0;
        jobs.retain(|_| (place / ways + place % ways, place += 1).0.is_multiple_of(4));
    }
    if let Some(only) = &tier.only {
        jobs.retain(|(workload, model)| workload.words() == only[..2] && format!("{model:?}") == only[2]);
    }
    let share = tier.wanted.div_ceil(jobs.len() as u64).max(1);
    let tried = tier.run(&jobs, |(workload, model)| {
        let try_one = |nth: u64, then: Then, salt: u64| {
            let words = format!("{} {model:?} {nth} {then:?} {salt}", workload.words().join(" "));
            let outcome = guarded(|| Ok(with_failure(workload, nth, *model, then, salt, &words)));
            outcome.map_err(|what| Failure { state: words, what })
        };
        if let Some([_, _, _, nth, then, salt]) = tier.only.as_deref() {
            let then = THENS.into_iter().find(|other| format!("{other:?}") == *then).expect("what comes then");
            return try_one(nth.parse().expect("a number"), then, salt.parse().expect("a number")).map(u64::from);
        }
        let mut tried = 0;
        for round in 0_u64.. {
            for nth in 1_u64.. {
                // Tier 0 tries each sync with one of the four; more with all of them, and other values.
                let then = THENS[((nth + round) % 4) as usize];
                if !try_one(nth, then, round)? {
                    break;
                }
                tried += 1;
            }
            if tried >= share || tried == 0 {
                break;
            }
        }
        Ok(tried)
    });
    assert!(tier.only.is_some() || tried >= tier.wanted.min(1_000), "{tried}");
}

/// A directory whose sync failed is a reason to stop as well, and its names are not relied upon.
#[test]
fn r4_a_failed_sync_of_the_directory_latches() {
    for workload in workloads().into_iter().chain(everything()) {
        for mapped in [false, true] {
            let workload = workload.clone().mapped(mapped);
            for nth in 1.. {
                let (fs, setup) = workload.on(Disk::Like(Personality::Posix));
                let Ok(store) = setup.options(&fs).open() else { unreachable!("nothing fails yet") };
                fs.inject(Fault::new(OpKind::SyncDir, 5).nth(nth));
                let words = format!("{} {nth}", workload.words().join(" "));
                let mut runner = Runner::adopt(fs.clone(), &setup, store, Default::default(), Vec::new(), 3);
                let failed = workload.acts.iter().find_map(|act| Some((act, runner.act(act).err()?)));
                if fs.faults_hit() == 0 {
                    break;
                }
                if let Some((act, error)) = failed {
                    assert!(is_typed(&error), "{words}: {error:?}");
                    if *act != Act::Drop {
                        latched(&runner, &words);
                    }
                } else {
                    let may_be_late = setup.sync == SyncPolicy::None || runner.store.writable().is_err();
                    assert!(may_be_late || runner.store.close().is_err(), "{words}: nobody was told");
                }
                runner.store = no_store();
                cut_now(&runner, 8, nth, &words);
                reopened(runner, &words);
            }
        }
    }
}
