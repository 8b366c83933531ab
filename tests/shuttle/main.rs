//! Whole stores under schedules drawn by chance, and what power cuts and kills in them leave: shuttle decides which thread
//! takes the next step, at every lock and atomic operation of the library, which takes both from its module `sync`.
//!
//! A *life* is one store on a simulated disk: writers, somebody who reads, follows or kills, the keeper and the committer,
//! a listener that uses the store, and a close, some of it drawn by chance as well. Nobody may wait for ever (shuttle reports when all threads do), nobody may
//! be shown what was not written, and after it the disk is cut at operations of its journal: what is found then must be
//! one of the states that the order of the log allows (see `support`), with all that anybody was told to be durable.
//!
//! `RUSTFLAGS="--cfg casklog_shuttle" CARGO_TARGET_DIR=target/shuttle cargo test --release --test shuttle` runs some
//! hundreds of schedules; `CASKLOG_SHUTTLE=100000` sets how many, and `CASKLOG_SHUTTLE_SEED` runs those of the seed that a
//! failure names.

#![cfg(casklog_shuttle)]
#![allow(clippy::unwrap_used, reason = "these are tests")]

#[path = "../common/figures.rs"]
mod figures;
mod history;
mod life;
mod plan;
#[path = "../support/mod.rs"]
mod support;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use figures::{number, record};
use history::History;
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};

/// States that are looked at behind each life.
const IMAGES: usize = 4;

/// A schedule of so many lives bounds how often a thread is preempted: it measures the first to know how long they are.
const LIVES_OF_PCT: u64 = 20;

fn config() -> Config {
    let mut config = Config::new();
    config.stack_size = 1 << 20;
    config.max_steps = MaxSteps::FailAfter(3_000_000);
    // Seeds say the same in less room.
    config.failure_persistence = FailurePersistence::None;
    config.silence_warnings = true;
    config
}

/// Runs lives under `scheduler`, and then looks at what crashes leave of them.
fn run(scheduler: impl Scheduler + 'static, seed: u64) -> (u64, u64) {
    let histories = Arc::new(Mutex::new(Vec::new()));
    let told = histories.clone();
    Runner::new(scheduler, config()).run(move || {
        let history = life::live();
        told.lock().unwrap().push(history);
    });
    let histories: Vec<History> = std::mem::take(&mut histories.lock().unwrap());
    let lives = histories.len() as u64;
    let images = Arc::new(Mutex::new(0));
    let counted = images.clone();
    let histories = Mutex::new(histories);
    // What it finds is read by one thread, and the primitives want to be run by shuttle all the same.
    Runner::new(RandomScheduler::new_from_seed(seed, 1), config()).run(move || {
        for (place, history) in std::mem::take(&mut *histories.lock().unwrap()).into_iter().enumerate() {
            *counted.lock().unwrap() += history.check(IMAGES, seed ^ (place as u64) << 48);
        }
    });
    let images = *images.lock().unwrap();
    (lives, images)
}

/// Runs seeds until there were so many lives, and names the one that fails.
fn run_all(name: &str, mut run: impl FnMut(u64) -> (u64, u64)) {
    let (started, mut lives, mut images) = (Instant::now(), 0, 0);
    let (lives_wanted, only) = (number("CASKLOG_SHUTTLE", 400), number("CASKLOG_SHUTTLE_SEED", u64::MAX));
    let mut seed = if only == u64::MAX { 0 } else { only };
    while lives < lives_wanted {
        let outcome = catch_unwind(AssertUnwindSafe(|| run(seed)));
        let (some, others) = outcome.unwrap_or_else(|panic| {
            println!("{name}: CASKLOG_SHUTTLE_SEED={seed} fails, after {lives} schedules");
            resume_unwind(panic);
        });
        (lives, images, seed) = (lives + some, images + others, seed + 1);
        if only != u64::MAX {
            break;
        }
    }
    record("shuttle", "schedules", lives, started);
    record("shuttle", "crashes", images, started);
}

#[test]
fn whole_stores_under_schedules_drawn_by_chance() {
    run_all("random", |seed| run(RandomScheduler::new_from_seed(seed, 1), seed));
}

#[test]
fn whole_stores_under_schedules_with_few_preemptions() {
    run_all("few preemptions", |seed| {
        let depth = 2 + (seed % 9) as usize;
        run(PctScheduler::new_from_seed(seed, depth, LIVES_OF_PCT as usize), seed)
    });
}
