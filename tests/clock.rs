//! R18: a clock that jumps, stands still or was wrong takes nothing that retention by age may not take, and changes
//! nothing else.
//!
//! `CASKLOG_R18=100000 cargo test --release --test clock -- --nocapture` tries more histories.

#![allow(clippy::unwrap_used, reason = "these are tests")]

#[path = "common/figures.rs"]
mod figures;
#[path = "common/numbers.rs"]
mod numbers;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use casklog::fs::sim::SimFs;
use casklog::{Options, RecoveryMode, Store};
use figures::{number, record};
use numbers::Numbers;

const HOUR: Duration = Duration::from_secs(3600);
const TEN_YEARS: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
const EACH: u64 = 3;

fn options(fs: &SimFs) -> Options {
    Options::new("/log").fs(Arc::new(fs.clone())).background(false).mapped(false).segment_entries(EACH)
}

/// A clock that stands still, and a test that sets it.
struct Clock {
    fs: SimFs,
    now: SystemTime,
}

impl Clock {
    fn new() -> Self {
        let mut clock = Clock { fs: SimFs::new(), now: SystemTime::now() };
        clock.set(clock.now);
        clock
    }

    fn set(&mut self, now: SystemTime) {
        self.now = now;
        self.fs.set_now(Some(now));
    }

    fn jump(&mut self, by: Duration, back: bool) {
        let now = if back { self.now.checked_sub(by).unwrap_or(UNIX_EPOCH) } else { self.now + by };
        self.set(now);
    }
}

/// Fills the segment; the next write begins another one, and with it comes a look at what is to go.
fn fill(store: &Store) {
    (0..EACH).for_each(|_| _ = store.append_bytes("k", "v").unwrap());
}

#[test]
fn the_pass_after_a_jump_takes_nothing_by_age() {
    for back in [false, true] {
        for by in [HOUR + Duration::from_secs(60), TEN_YEARS] {
            let mut clock = Clock::new();
            let store = options(&clock.fs).max_age(HOUR).open().unwrap();
            (0..5).for_each(|_| fill(&store));
            clock.jump(by, back);
            fill(&store);
            assert_eq!(store.first_index(), Some(1), "by {by:?}, back {back}");
            assert_eq!(store.stats().segments_removed, 0);
            store.close().unwrap();
        }
    }
}

/// A machine whose clock was wrong while it wrote, and is right again.
#[test]
fn what_was_written_in_the_future_stays_until_its_time_has_come() {
    let mut clock = Clock::new();
    let right = clock.now;
    clock.jump(TEN_YEARS, false);
    let store = options(&clock.fs).max_age(HOUR).open().unwrap();
    (0..4).for_each(|_| fill(&store));
    clock.set(right);
    (0..4).for_each(|_| fill(&store));
    assert_eq!(store.first_index(), Some(1));
    store.close().unwrap();
    let store = options(&clock.fs).max_age(HOUR).recovery(RecoveryMode::Strict).open().unwrap();
    fill(&store);
    fill(&store);
    assert_eq!((store.first_index(), store.len()), (Some(1), 10 * EACH));
    store.close().unwrap();
}

/// A clock that stands still makes nothing old; the other limits hold.
#[test]
fn a_frozen_clock_stops_retention_by_age_and_no_other() {
    let clock = Clock::new();
    let store = options(&clock.fs).max_age(Duration::from_millis(1)).max_segments(4).open().unwrap();
    (0..3).for_each(|_| fill(&store));
    std::thread::sleep(Duration::from_millis(5));
    fill(&store);
    assert_eq!(store.first_index(), Some(1));
    (0..10).for_each(|_| fill(&store));
    assert!(store.segments().len() <= 5, "{}", store.segments().len());
    store.close().unwrap();
}

/// Any history of jumps, reopens and kills. Entries go only in a pass that finds the clock where the pass before has left
/// it, or open did, give or take the age; and only those of segments that were full longer ago than that.
fn history(seed: u64) {
    let mut random = Numbers(seed);
    let mut clock = Clock::new();
    let mut store = options(&clock.fs).max_age(HOUR).open().unwrap();
    let (mut written, mut gone, mut last_pass) = (0, 0, clock.now);
    // How many entries had been written when a segment was full, and what the clock showed.
    let mut full = Vec::new();
    for step in 0..60 {
        let words = || format!("seed {seed}, step {step}");
        let before = store.stats();
        match random.below(12) {
            0 => clock.jump(TEN_YEARS, random.percent(50)),
            1 => clock.jump(Duration::from_secs(random.below(3 * 3600)), random.percent(50)),
            2 => clock.set(UNIX_EPOCH),
            3 => {
                if random.percent(50) {
                    store.close().unwrap();
                }
                drop(store);
                clock.fs = clock.fs.killed();
                store = options(&clock.fs).max_age(HOUR).open().unwrap_or_else(|error| panic!("{}: {error}", words()));
                last_pass = clock.now;
            }
            4 => clock.jump(Duration::from_secs(random.below(1200)), false),
            _ => {
                store.append_bytes("k", step.to_string()).unwrap();
                if store.stats().rotations != before.rotations {
                    full.push((written, clock.now));
                }
                written += 1;
            }
        }
        let removed = written - store.len();
        if removed > gone {
            let apart = clock.now.duration_since(last_pass).unwrap_or_else(|error| error.duration());
            assert!(apart <= HOUR + Duration::from_secs(5), "{}: the clock moved by {apart:?} in between", words());
            let then = full.iter().find(|(upto, _)| *upto == removed).map(|(_, then)| *then);
            let then = then.unwrap_or_else(|| panic!("{}: {removed} are gone, no whole segments", words()));
            let age = clock.now.duration_since(then).unwrap_or_default();
            assert!(age >= HOUR, "{}: {age:?} old, and gone", words());
        }
        gone = removed;
        let first = store.first_index().unwrap_or(removed + 1);
        assert!(first == removed + 1, "{}: first {first}, {removed} gone", words());
        assert_eq!(store.iter().filter(|entry| entry.is_ok()).count() as u64, store.len(), "{}", words());
        // Where a segment was sealed, a pass was made.
        if store.stats().seals > before.seals {
            last_pass = clock.now;
        }
    }
    store.close().unwrap();
}

#[test]
fn r18_no_history_of_a_clock_takes_what_is_young() {
    let started = Instant::now();
    let count = number("CASKLOG_R18", 200);
    (0..count).for_each(history);
    record("R18", "histories of clocks", count, started);
}
