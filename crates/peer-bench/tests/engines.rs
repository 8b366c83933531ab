//! Every engine that is built in gives back what was appended, also after its process was killed if its card says so.
//!
//! The tests speak to the program as it speaks to itself: a task in, a line of JSON out, one process a task.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const RECORDS: u64 = 3_000;
/// Many times what a process needs for so few records.
const PATIENCE: Duration = Duration::from_secs(60);

/// An engine that is built in, with what its card says.
struct Built {
    name: String,
    is_kill_safe: bool,
    reads_at_random: bool,
}

fn built() -> Vec<Built> {
    let output = Command::new(env!("CARGO_BIN_EXE_peer-bench")).arg("--list").output().unwrap();
    let list = String::from_utf8(output.stdout).unwrap();
    let lines = list.lines().filter(|line| !line.contains("not built in"));
    // No log, nothing to give back.
    let engines = lines.filter(|line| !line.starts_with("raw "));
    let built: Vec<_> = engines
        .map(|line| Built {
            name: line.split_whitespace().next().unwrap().to_owned(),
            is_kill_safe: line.contains("kill-safe: yes"),
            reads_at_random: line.contains("random read: yes"),
        })
        .collect();
    assert!(built.iter().any(|engine| engine.name == "casklog"), "{list}");
    built
}

/// The outcome in what a cell has printed so far.
fn outcome(printed: &Path) -> Option<Value> {
    let text = std::fs::read_to_string(printed).unwrap();
    text.lines().rev().find_map(|line| serde_json::from_str(line).ok())
}

/// Carries out a step in a process of its own, and kills that when its outcome is there if `is_killed`.
fn step(engine: &str, dir: &Path, step: &Value, is_killed: bool) -> Value {
    let log = dir.join("log");
    std::fs::create_dir_all(&log).unwrap();
    let task = json!({
        "engine": engine, "dir": log, "records": RECORDS, "value_bytes": 128, "seconds_max": 0.2, "step": step,
    });
    let printed = dir.join("stdout");
    let mut child = Command::new(env!("CARGO_BIN_EXE_peer-bench"))
        .arg("cell")
        .arg(task.to_string())
        .env("WALRUS_DATA_DIR", &log)
        .env("WALRUS_QUIET", "1")
        .current_dir(&log)
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&printed).unwrap())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    loop {
        let has_ended = child.try_wait().unwrap().is_some();
        if has_ended || (is_killed && outcome(&printed).is_some()) {
            break;
        }
        if begun.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("{engine} hangs in {step}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    if is_killed {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    outcome(&printed).unwrap_or_else(|| panic!("{engine} came to nothing in {step}"))
}

/// What the engine finds, compared record by record: by single reads and by a scan, where it has them.
fn found(engine: &Built, dir: &Path) -> Vec<u64> {
    let outcome = step(&engine.name, dir, &json!("Check"), false);
    let figures = outcome["Measured"].as_object().unwrap_or_else(|| panic!("{}: {outcome}", engine.name));
    assert_eq!(figures.contains_key("gotten"), engine.reads_at_random, "{}", engine.name);
    assert!(!figures.is_empty(), "{} has no way to read", engine.name);
    figures.values().map(|figure| figure.as_f64().unwrap() as u64).collect()
}

#[test]
fn engines_give_back_what_was_appended_after_a_close() {
    for engine in built() {
        let dir = tempfile::tempdir().unwrap();
        let filled = step(&engine.name, dir.path(), &json!({ "Fill": { "end": "Close" } }), false);
        assert!(filled["Measured"].is_object(), "{}: {filled}", engine.name);
        // Twice, for the first reading must change nothing.
        for _ in 0..2 {
            assert!(found(&engine, dir.path()).iter().all(|count| *count == RECORDS), "{}", engine.name);
        }
    }
}

#[test]
fn engines_that_say_so_lose_nothing_to_a_kill() {
    for engine in built().iter().filter(|engine| engine.is_kill_safe) {
        let dir = tempfile::tempdir().unwrap();
        let filled = step(&engine.name, dir.path(), &json!({ "Fill": { "end": "Kill" } }), true);
        assert!(filled["Measured"].is_object(), "{}: {filled}", engine.name);
        let found = found(engine, dir.path());
        assert!(found.iter().all(|count| *count == RECORDS), "{}: {found:?} of {RECORDS}", engine.name);
    }
}

#[test]
fn the_measured_steps_come_to_figures_or_say_why_not() {
    let steps = [
        json!({ "Append": { "batch": 1 } }),
        json!({ "Append": { "batch": 100 } }),
        json!({ "Durable": { "threads": 4 } }),
    ];
    for engine in built() {
        for measured in &steps {
            let dir = tempfile::tempdir().unwrap();
            let outcome = step(&engine.name, dir.path(), measured, false);
            let is_measured = outcome["Measured"]["k/s"].as_f64().is_some_and(|rate| rate > 0.0);
            assert!(is_measured || outcome["Unsupported"].is_string(), "{}, {measured}: {outcome}", engine.name);
        }
    }
}

/// No processor copies a record out in less than five nanoseconds: a faster rate is a clock that started late. It showed
/// where a few thousand reads were over before the thread that took the time ran again.
#[test]
fn no_rate_of_reads_is_beyond_what_a_processor_can_do() {
    let dir = tempfile::tempdir().unwrap();
    step("casklog", dir.path(), &json!({ "Fill": { "end": "Close" } }), false);
    for reads in ["Usual", "Hot", "Cold", "Mapped"].into_iter().cycle().take(20) {
        for threads in [1, 2] {
            let get = json!({ "Get": { "threads": threads, "reads": reads } });
            let outcome = step("casklog", dir.path(), &get, false);
            let rate = outcome["Measured"]["k/s"].as_f64().unwrap_or_else(|| panic!("{outcome}"));
            assert!(rate > 0.0 && rate < 200e3 * f64::from(threads), "{rate} k/s, {reads}, {threads} threads");
        }
    }
}

#[test]
fn a_value_that_is_not_the_expected_one_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let casklog = Built { name: "casklog".to_owned(), is_kill_safe: true, reads_at_random: true };
    step("casklog", dir.path(), &json!({ "Fill": { "end": "Close" } }), false);
    let task = |records: u64| {
        json!({
            "engine": "casklog", "dir": dir.path().join("log"), "records": records, "value_bytes": 129,
            "seconds_max": 0.2, "step": "Check",
        })
    };
    let output = Command::new(env!("CARGO_BIN_EXE_peer-bench")).arg("cell").arg(task(RECORDS).to_string()).output();
    let printed = String::from_utf8(output.unwrap().stdout).unwrap();
    assert!(printed.contains("came back with another value"), "{printed}");
    assert!(found(&casklog, dir.path()).iter().all(|count| *count == RECORDS));
}
