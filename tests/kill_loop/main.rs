//! Kills a writing process with SIGKILL, again and again, on a real file system, and compares the log with what the
//! process was told.
//!
//! A few rounds run in every `cargo test`; more with
//! `CASKLOG_KILL_ROUNDS=1000 cargo test --release --test kill_loop -- --nocapture`. `CASKLOG_KILL_SEED` repeats the
//! plans of an earlier run; the moment at which the kill strikes is the machine's.
//!
//! What is checked: every acknowledged entry stands where the call said, byte for byte, under every sync policy;
//! batches are whole; what returned before something else was called stands before it; nothing is there that nobody
//! wrote or that was taken back; the views of the log agree; the next process goes on with it.
#![cfg(unix)]

#[path = "../common/figures.rs"]
mod figures;
#[path = "../support/lives/mod.rs"]
mod lives;

use std::path::Path;
use std::time::Instant;

use figures::Figure;
use lives::{Figures, Kind, Life, Model, Plan, Said, Series, Task, Value, Verdict};

const ROUNDS: u32 = 25;

/// The writing process: this test, run by the other one.
#[test]
fn child_process() {
    lives::child_process();
}

#[test]
fn a_killed_writer_loses_nothing_that_was_acknowledged() {
    let number = |name| std::env::var(name).ok().and_then(|text: String| text.parse::<u64>().ok());
    let seed = number("CASKLOG_KILL_SEED").unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(0, |now| now.as_nanos() as u64) % 1_000_000_007
    });
    let rounds = number("CASKLOG_KILL_ROUNDS").map_or(ROUNDS, |rounds| rounds as u32);
    let start = Instant::now();
    let mut total = Total::default();
    let mut series = 0;
    while total.rounds < rounds {
        let dir = tempfile::Builder::new().prefix("casklog-kill-").tempdir().expect("a directory");
        let rounds_left = rounds - total.rounds;
        if let Err(why) = run_series(dir.path(), seed, series, rounds_left, &mut total) {
            let kept = dir.keep();
            panic!(
                "{why}\nseries {series} of seed {seed}; the log is kept in {}\nrun it again: CASKLOG_KILL_SEED={seed} \
                 CASKLOG_KILL_ROUNDS={rounds} cargo test --release --test kill_loop -- --nocapture",
                kept.display()
            );
        }
        series += 1;
    }
    let seconds = start.elapsed().as_secs_f64();
    println!("kill loop: {total}, {seconds:.1} s, seed {seed}");
    total.record(seconds);
    assert!(total.figures.acknowledged > 0, "no child ever wrote anything");
    assert_eq!(total.figures.acknowledged, total.figures.present + total.figures.taken_back);
}

#[derive(Default)]
struct Total {
    rounds: u32,
    directories: u32,
    /// Rounds in which the child was still opening the log.
    early: u32,
    /// Rounds in which the child had closed the log before the kill.
    closed: u32,
    torn: u32,
    figures: Figures,
}

impl Total {
    fn record(&self, seconds: f64) {
        let figures = &self.figures;
        let violations = figures.acknowledged.saturating_sub(figures.present + figures.taken_back);
        let detail = format!("{} entries acknowledged", figures.acknowledged);
        let count = u64::from(self.rounds);
        Figure { row: "R9", counted: "kills", count, violations, seconds, detail, ..Figure::default() }.record();
    }
}

impl std::fmt::Display for Total {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let figures = &self.figures;
        write!(
            f,
            "{} rounds in {} directories ({} killed while opening, {} closed before), {} entries acknowledged, {} \
             present, {} taken back by deletion, truncation or retention, 0 lost; {} writes cut off, {} of them there; \
             {} torn tails cut",
            self.rounds,
            self.directories,
            self.early,
            self.closed,
            figures.acknowledged,
            figures.present,
            figures.taken_back,
            figures.in_doubt,
            figures.in_doubt_found,
            self.torn
        )
    }
}

fn run_series(dir: &Path, seed: u64, series: u64, rounds_max: u32, total: &mut Total) -> Verdict {
    let settings = Series::new(Kind::Kill, seed, series);
    let rounds = settings.rounds.min(rounds_max);
    let mut model = Model::new(Value::seed(seed, series), settings);
    total.directories += 1;
    for round in 0..rounds {
        let task = Task { dir: dir.to_owned(), kind: Kind::Kill, seed, series, round };
        let plan = task.plan();
        let place = |why| format!("round {round}: {why}\n{plan:?}");
        let said = run_child(&task, &plan, &mut model).map_err(place)?;
        total.rounds += 1;
        total.early += u32::from(!said.began);
        total.closed += u32::from(said.closed);
        total.torn += u32::from(said.torn);
        if plan.verifies || round + 1 == rounds {
            total.torn += u32::from(lives::verify(dir, &plan, round, said.closed, &mut model).map_err(place)?);
        }
    }
    total.figures.add(model.figures);
    Ok(())
}

/// Starts the child, kills it, and tells the model what it said.
fn run_child(task: &Task, plan: &Plan, model: &mut Model) -> Result<Said, String> {
    let life = Life::start(task, &[])?;
    life.wait_for(plan.kill);
    let end = life.kill()?;
    let said = lives::tell(&end.lines, None, model)?;
    if let Some(error) = said.error {
        return Err(format!("the child failed: {error}"));
    }
    if end.status.code().is_some_and(|code| code != 0) {
        return Err(format!("the child ended by itself with {}: {}", end.status, end.errors));
    }
    if !said.began && matches!(plan.kill, lives::Kill::AfterOpen(_)) {
        return Err(format!("the child did not open the log: {}", end.errors));
    }
    Ok(said)
}
