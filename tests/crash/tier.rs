//! How much each row of the crash tests tries, on which threads, and how a failing state is run again.
//!
//! A row is a table line such as `R1`. `CASKLOG_R1=10000000` sets how many states it tries, `CASKLOG_R1_ONLY` names one
//! state, as a failure prints it. `CASKLOG_THREADS` sets the number of threads.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::figures::Figure;

/// Threads that a row uses where nobody asks for another number.
const THREADS: usize = 2;

/// A state in which an invariant does not hold.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What `CASKLOG_<row>_ONLY` must say to get there again.
    pub(crate) state: String,
    pub(crate) what: String,
}

/// One row.
#[derive(Debug, Clone)]
pub(crate) struct Tier {
    row: &'static str,
    /// How many states to try, all jobs together.
    pub(crate) wanted: u64,
    /// The one state to try, in words.
    pub(crate) only: Option<Vec<String>>,
}

impl Tier {
    /// The row as the environment asks for it; else `wanted` states.
    pub(crate) fn new(row: &'static str, wanted: u64) -> Self {
        let variable = |suffix: &str| std::env::var(format!("CASKLOG_{row}{suffix}")).ok();
        let number = variable("").map(|text| text.parse().expect("a number of states"));
        let only = variable("_ONLY").map(|text| text.split(' ').map(str::to_owned).collect());
        Tier { row, wanted: number.unwrap_or(wanted), only }
    }

    /// Does all jobs, prints what was done, and fails with the states that failed. A job returns how many states it
    /// tried, and stops at its first failure.
    pub(crate) fn run<J: Sync>(&self, jobs: &[J], work: impl Fn(&J) -> Result<u64, Failure> + Sync) -> u64 {
        let number = std::env::var("CASKLOG_THREADS").ok().map(|text| text.parse().expect("a number of threads"));
        let (next, started) = (AtomicUsize::new(0), Instant::now());
        let outcome = Mutex::new((0, Vec::new()));
        std::thread::scope(|scope| {
            for _ in 0..number.unwrap_or(THREADS) {
                scope.spawn(|| {
                    while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let result = work(job);
                        let (tried, failed) = &mut *outcome.lock().unwrap();
                        match result {
                            Ok(states) => *tried += states,
                            Err(failure) => failed.push(failure),
                        }
                    }
                });
            }
        });
        let (tried, failed) = outcome.into_inner().unwrap();
        self.report(tried, jobs.len(), failed.len(), started.elapsed());
        let shown = if std::env::var("CASKLOG_ALL").is_ok() { failed.len() } else { 5 };
        let words: Vec<String> = failed.iter().take(shown).map(|failure| self.replay(failure)).collect();
        assert!(failed.is_empty(), "{} of {} jobs failed\n\n{}", failed.len(), jobs.len(), words.join("\n\n"));
        tried
    }

    fn replay(&self, failure: &Failure) -> String {
        let Failure { state, what } = failure;
        let row = self.row;
        let test = row.to_lowercase();
        format!("{what}\nrun it again: CASKLOG_{row}_ONLY='{state}' cargo test --test crash {test}_ -- --nocapture")
    }

    fn report(&self, tried: u64, jobs: usize, failed: usize, elapsed: Duration) {
        let (row, seconds) = (self.row, elapsed.as_secs_f64());
        let rate = tried as f64 / seconds.max(1e-9);
        println!("{row}: {tried} states of {jobs} jobs, {failed} failed, {seconds:.1} s, {rate:.0} a second");
        let (violations, detail) = (failed as u64, format!("{jobs} jobs"));
        Figure { row, counted: "states", count: tried, violations, seconds, detail, ..Figure::default() }.record();
    }
}
