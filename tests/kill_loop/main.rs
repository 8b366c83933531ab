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

mod child;
mod model;
mod plan;
#[path = "../support/mod.rs"]
mod support;

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use casklog::SyncPolicy;

use child::Task;
use model::{Figures, Model, Verdict};
use plan::{Kill, OpId, Plan, Series, Value};

const ROUNDS: u32 = 25;
/// A round that takes longer hangs.
const ROUND_TIME_MAX: Duration = Duration::from_secs(120);

/// The writing process: this test, run by the other one.
#[test]
fn child_process() {
    let Ok(task) = std::env::var("CASKLOG_KILL_CHILD") else {
        return;
    };
    let numbers: Vec<u64> = task.split(' ').map(|number| number.parse().expect("a number")).collect();
    child::run(&Task {
        dir: std::env::var_os("CASKLOG_KILL_DIR").expect("the directory").into(),
        seed: numbers[0],
        series: numbers[1],
        round: numbers[2] as u32,
    });
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
    println!("kill loop: {total}, {:.1} s, seed {seed}", start.elapsed().as_secs_f64());
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
    let settings = Series::new(seed, series);
    let rounds = settings.rounds.min(rounds_max);
    let mut model = Model::new(Value::seed(seed, series), settings);
    total.directories += 1;
    for round in 0..rounds {
        let plan = Plan::new(seed, series, round);
        let task = Task { dir: dir.to_owned(), seed, series, round };
        let place = |why| format!("round {round}: {why}\n{plan:?}");
        let life = run_child(&task, &plan, &mut model).map_err(place)?;
        total.rounds += 1;
        total.early += u32::from(!life.began);
        total.closed += u32::from(life.closed);
        total.torn += u32::from(life.torn);
        if plan.verifies || round + 1 == rounds {
            total.torn += u32::from(verify(dir, &plan, round, life.closed, &mut model).map_err(place)?);
        }
    }
    let figures = &mut total.figures;
    figures.acknowledged += model.figures.acknowledged;
    figures.present += model.figures.present;
    figures.taken_back += model.figures.taken_back;
    figures.in_doubt += model.figures.in_doubt;
    figures.in_doubt_found += model.figures.in_doubt_found;
    Ok(())
}

#[derive(Default)]
struct Life {
    /// It got as far as writing.
    began: bool,
    /// It closed the log by itself.
    closed: bool,
    /// Its open cut a torn tail.
    torn: bool,
}

/// Starts the child, kills it, and tells the model what it said.
fn run_child(task: &Task, plan: &Plan, model: &mut Model) -> Result<Life, String> {
    let mut child = Command::new(std::env::current_exe().map_err(|e| e.to_string())?)
        .args(["child_process", "--exact", "--nocapture", "--test-threads=1"])
        .env("CASKLOG_KILL_DIR", &task.dir)
        .env("CASKLOG_KILL_CHILD", format!("{} {} {}", task.seed, task.series, task.round))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("cannot start the child: {e}"))?;
    let (stdout, stderr) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
    let (tell, began) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut lines = Vec::new();
        let mut pipe = BufReader::with_capacity(1 << 16, stdout);
        loop {
            let mut line = String::new();
            match pipe.read_line(&mut line) {
                Ok(0) | Err(_) => return lines,
                // A line without its end was cut off by the kill.
                Ok(_) if !line.ends_with('\n') => return lines,
                Ok(_) => {}
            }
            if line.starts_with("o ") {
                // The parent may have struck already.
                let _ = tell.send(());
            }
            lines.push(line);
        }
    });
    let errors = std::thread::spawn(move || {
        let mut text = String::new();
        // What the child has to say when it fails is text.
        let _ = { stderr }.read_to_string(&mut text);
        text
    });
    match plan.kill {
        Kill::AfterStart(delay) => std::thread::sleep(delay),
        Kill::AfterOpen(delay) => {
            let _ = began.recv_timeout(ROUND_TIME_MAX);
            std::thread::sleep(delay);
        }
    }
    // SIGKILL; an error says that it has ended.
    let _ = child.kill();
    let status = child.wait().map_err(|e| format!("cannot wait for the child: {e}"))?;
    let lines = reader.join().map_err(|_| "the reader of the pipe panicked")?;
    let errors = errors.join().map_err(|_| "the reader of the errors panicked")?;
    let life = tell_model(&lines, model)?;
    if status.code().is_some_and(|code| code != 0) {
        return Err(format!("the child ended by itself with {status}: {errors}"));
    }
    if !life.began && matches!(plan.kill, Kill::AfterOpen(_)) {
        return Err(format!("the child did not open the log in {ROUND_TIME_MAX:?}: {errors}"));
    }
    Ok(life)
}

fn tell_model(lines: &[String], model: &mut Model) -> Result<Life, String> {
    let mut life = Life::default();
    let said = lines.iter().map(|line| line.trim_end()).skip_while(|line| *line != "@");
    for line in said.skip(1) {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let (op, what) = rest.split_once(' ').unwrap_or((rest, ""));
        let id = || op.parse::<OpId>().map_err(|e| format!("{line:?}: {e}"));
        match verb {
            "o" => {
                life.began = true;
                life.torn = op == "1";
            }
            "i" => model.intent(id()?, what),
            "x" => model.refused(id()?),
            "a" => {
                let places = what.split(' ').filter(|place| !place.is_empty()).map(|place| {
                    let (index, position) = place.split_once('@')?;
                    Some((index.parse().ok()?, position.parse().ok()?))
                });
                let places = places.collect::<Option<Vec<_>>>();
                let places = places.ok_or_else(|| format!("cannot read {line:?}"))?;
                model.acknowledged(id()?, &places)?;
            }
            "c" => life.closed = true,
            "e" => return Err(format!("the child failed: {rest}")),
            _ => return Err(format!("the child said {line:?}")),
        }
    }
    Ok(life)
}

/// Opens the log, compares, writes one more entry, and closes. Says whether a torn tail was cut.
fn verify(dir: &Path, plan: &Plan, round: u32, is_closed: bool, model: &mut Model) -> Result<bool, String> {
    let store = plan.options(dir).open().map_err(|e| format!("open after the kill: {e}"))?;
    let report = store.recovery_report().clone();
    if report.is_damaged() || report.is_manifest_lost || !report.strays.is_empty() {
        return Err(format!("open after the kill reports damage: {report:?}"));
    }
    if is_closed && !report.is_clean {
        return Err(format!("the log was closed, and open did not find it clean: {report:?}"));
    }
    model.verify(&store)?;
    let id = OpId { round, thread: 99, count: 0 };
    let Value::Bytes(bytes) = Value::of(model.seed(), id, 0) else {
        // The parent writes bytes only; a typed value falls to another round.
        return store.close().map(|()| report.torn_tail.is_some()).map_err(|e| e.to_string());
    };
    model.intent(id, "put ?");
    let appended = store.append_bytes(plan::key(id, 0), bytes).map_err(|e| format!("append after the kill: {e}"))?;
    model.acknowledged(id, &[(appended.index, appended.position)])?;
    store.close().map_err(|e| format!("close after the kill: {e}"))?;

    let again = plan.options(dir).sync(SyncPolicy::Immediate).open().map_err(|e| format!("second open: {e}"))?;
    if !again.recovery_report().is_clean {
        return Err(format!("the second open is not clean: {:?}", again.recovery_report()));
    }
    model.verify(&again)?;
    again.close().map_err(|e| format!("second close: {e}"))?;
    Ok(report.torn_tail.is_some())
}
