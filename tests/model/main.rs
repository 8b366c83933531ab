//! Random programs, run on a store and on a model of it that is too simple to be wrong.
//!
//! A program that fails is made shorter and printed as Rust, to be put among those in `found`. `CASKLOG_MODEL_CASES`
//! sets how many programs are run, `CASKLOG_MODEL_SEED` which.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod arbitrary;
#[path = "../common/figures.rs"]
mod figures;
mod found;
mod held;
mod known;
mod look;
mod model;
#[path = "../common/numbers.rs"]
mod numbers;
mod op;
mod retention;
mod run;
mod setup;
mod values;

use std::hash::{BuildHasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Instant;

use quickcheck::{Gen, QuickCheck, TestResult};

use crate::figures::Figure;
use crate::known::Known;
use crate::op::Case;

/// Programs to run where nothing else is asked for.
const CASES: u64 = 1500;

/// Programs have up to so many steps; a run of writes counts as one.
const STEPS: usize = 100;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// What went wrong in a program, a panic of the store included.
fn outcome(case: &Case, known: Known) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(|| run::run(case, known))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        Err(format!("panicked: {}", text.or_else(|| panic.downcast_ref().copied()).unwrap_or_default()))
    })
}

fn property(case: Case) -> TestResult {
    match outcome(&case, Known::TODAY) {
        Ok(()) => TestResult::passed(),
        Err(what) => TestResult::error(format!("{what}\n\n{case}")),
    }
}

#[test]
fn every_program_leaves_what_the_model_says() {
    let cases = number("CASKLOG_MODEL_CASES").unwrap_or(CASES);
    let seed = number("CASKLOG_MODEL_SEED").unwrap_or_else(|| RandomState::new().hash_one(0) >> 16);
    let threads = std::thread::available_parallelism().map_or(2, |threads| threads.get() as u64);
    let started = Instant::now();
    println!("CASKLOG_MODEL_SEED={seed}, {cases} programs");
    std::thread::scope(|scope| {
        let run = |thread: u64| {
            let source = Gen::from_size_and_seed(STEPS, seed.wrapping_add(thread));
            let share = cases / threads + u64::from(thread < cases % threads);
            QuickCheck::new().rng(source).tests(share).max_tests(share).quickcheck(property as fn(Case) -> TestResult);
        };
        let running: Vec<_> = (0..threads).map(|thread| scope.spawn(move || run(thread))).collect();
        for thread in running {
            thread.join().unwrap_or_else(|panic| resume_unwind(panic));
        }
    });
    let seconds = started.elapsed().as_secs_f64();
    Figure { row: "R21", counted: "programs", count: cases, seconds, ..Figure::default() }.record();
}
