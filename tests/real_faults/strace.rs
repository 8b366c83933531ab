//! R10: the child is killed at its n-th call of one kind, or that call fails; injected by strace. R20: every sync of the
//! log takes long, and readers do not notice.

use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use casklog::{Error, Options, SyncPolicy};

use crate::figures::Figure;
use crate::host::{self, Total, text};
use crate::lives::{self, Kind, Life, Model, Series, Task, Value};

/// What the library calls on Linux, and the pipe of the child (`write`).
const CALLS: [&str; 14] = [
    "write",
    "pwrite64",
    "fdatasync",
    "fsync",
    "openat",
    "rename",
    "unlink",
    "fallocate",
    "ftruncate",
    "mmap",
    "munmap",
    "madvise",
    "flock",
    "linkat",
];

/// The calls that fail, and how.
const ERRORS: [(&str, &str); 12] = [
    ("fdatasync", "EIO"),
    ("fdatasync", "ENOSPC"),
    ("pwrite64", "EIO"),
    ("pwrite64", "ENOSPC"),
    ("openat", "EIO"),
    ("openat", "EMFILE"),
    ("openat", "ENOSPC"),
    ("fallocate", "EIO"),
    ("fallocate", "ENOSPC"),
    ("fsync", "EIO"),
    ("unlink", "EIO"),
    ("ftruncate", "EIO"),
];

/// Whether strace may trace here.
fn can_trace(row: &str, name: &str) -> bool {
    let why = host::missing(&["strace"]).or_else(|| {
        let mut tried = Command::new("strace");
        tried.args(["-f", "-o", "/dev/null", "-e", "inject=sync:error=EIO", "true"]);
        let tried = tried.stdout(Stdio::null()).stderr(Stdio::null()).status();
        (!tried.is_ok_and(|status| status.success())).then(|| "strace cannot trace here".to_owned())
    });
    why.map(|why| host::skip(row, name, &why)).is_none()
}

/// What a child meets.
struct Injection<'a> {
    call: &'a str,
    /// As strace calls it: `signal=KILL`, `error=EIO`.
    fault: &'a str,
    /// `3`: the third call of each thread; `3+`: and all after it.
    when: String,
}

/// One log, through some lives each of which meets the fault.
fn run_series(injection: &Injection<'_>, seed: u64, series: u64, total: &mut Total) -> Result<(), String> {
    let dir = tempfile::Builder::new().prefix("casklog-strace-").tempdir().map_err(|e| e.to_string())?;
    let settings = Series::new(Kind::Fault, seed, series);
    let rounds = settings.rounds.min(2);
    let mut model = Model::new(Value::seed(seed, series), settings);
    for round in 0..rounds {
        let task = Task { dir: dir.path().join("log"), kind: Kind::Fault, seed, series, round };
        if let Err(why) = live(injection, &task, round + 1 == rounds, &mut model, total) {
            let Injection { call, fault, when } = injection;
            let place = format!("{call} {fault} when={when}, series {series}, round {round}");
            host::fail("R10", &format!("{place}: {why}\n{:?}", task.plan()), seed, &[dir.path()]);
        }
    }
    total.add(&model);
    Ok(())
}

/// One life under strace.
fn live(
    injection: &Injection<'_>,
    task: &Task,
    is_last: bool,
    model: &mut Model,
    total: &mut Total,
) -> Result<(), String> {
    let Injection { call, fault, when } = injection;
    let (plan, trace) = (task.plan(), task.dir.with_extension("trace"));
    let (inject, traced) = (format!("inject={call}:{fault}:when={when}"), format!("trace={call},fdatasync,fsync"));
    let wrapper = ["strace", "-f", "-y", "-o", text(&trace), "-e", &traced, "-e", &inject].map(str::to_owned);
    let end = Life::start(task, &wrapper)?.end()?;
    let said = lives::tell(&end.lines, None, model)?;
    total.rounds += 1;
    total.early += u64::from(!said.began);
    total.closed += u64::from(said.closed);
    total.stopped += u64::from(said.stopped.is_some());
    match said.error {
        // Open met the error, and said so.
        Some(_) if !said.began && fault.starts_with("error") => {}
        Some(error) => return Err(format!("the child failed: {error}")),
        None => {}
    }
    if end.status.code() == Some(101) {
        return Err(format!("the child panicked: {}", end.errors));
    }
    if let Some(error) = said.read_failed.filter(|_| *call != "openat") {
        return Err(format!("a read failed after the store had stopped: {error}"));
    }
    no_sync_after_a_failed_one(&std::fs::read_to_string(&trace).map_err(|e| e.to_string())?)?;
    if plan.verifies || is_last {
        total.torn += u64::from(lives::verify(&task.dir, &plan, task.round, said.closed, model)?);
    }
    Ok(())
}

/// Reads what strace wrote: no file is synced again after a sync of it has failed.
fn no_sync_after_a_failed_one(trace: &str) -> Result<(), String> {
    let (mut begun, mut failed) = (HashMap::new(), Vec::new());
    for line in trace.lines() {
        let Some((thread, call)) = line.split_once(' ') else { continue };
        let call = call.trim_start();
        let is_sync = call.starts_with("fdatasync(") || call.starts_with("fsync(");
        let file = call.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map(|(file, _)| file);
        if let Some(file) = file.filter(|_| is_sync) {
            if failed.contains(&file) {
                return Err(format!("{file} was synced after a sync of it had failed: {line}"));
            }
            begun.insert(thread, file);
        }
        let ends = is_sync || call.starts_with("<... fdatasync resumed") || call.starts_with("<... fsync resumed");
        if ends && call.contains("= -1 E") {
            failed.extend(begun.get(thread).copied());
        }
    }
    Ok(())
}

#[test]
fn the_reader_of_traces_finds_a_second_sync() {
    let lines = "7  fdatasync(3</l/a> <unfinished ...>\n8  fdatasync(4</l/b>) = 0\n\
                 7  <... fdatasync resumed>) = -1 EIO (Input/output error) (INJECTED)\n8  fdatasync(4</l/b>) = 0\n";
    no_sync_after_a_failed_one(lines).expect("it is another file");
    no_sync_after_a_failed_one(&format!("{lines}8  fsync(5</l/a>) = 0\n")).expect_err("it is the same file");
}

/// The n that are tried: few in every `cargo test`, each up to the limit where one is given.
fn whens(few: &[u64]) -> Vec<u64> {
    host::number("CASKLOG_STRACE_CALLS").map_or(few.to_vec(), |calls| (1..=calls).collect())
}

#[test]
fn a_writer_killed_at_its_nth_call_loses_nothing() {
    if !can_trace("R10", "a_writer_killed_at_its_nth_call_loses_nothing") {
        return;
    }
    let (seed, start, mut total) = (host::seed(), Instant::now(), Total::default());
    let is_long = host::number("CASKLOG_STRACE_CALLS").is_some();
    for (place, call) in CALLS.iter().enumerate().filter(|(place, _)| is_long || *place < 7) {
        for n in whens(&[2 + place as u64]) {
            let injection = Injection { call, fault: "signal=KILL", when: n.to_string() };
            run_series(&injection, seed, n * 100 + place as u64, &mut total)
                .unwrap_or_else(|why| panic!("R10: {why}\nseed {seed}"));
        }
    }
    total.close("R10", "kills at the n-th call", "lives", start, seed);
}

#[test]
fn a_call_that_fails_stops_the_log_and_loses_nothing() {
    if !can_trace("R10", "a_call_that_fails_stops_the_log_and_loses_nothing") {
        return;
    }
    let (seed, start, mut total) = (host::seed(), Instant::now(), Total::default());
    let is_long = host::number("CASKLOG_STRACE_CALLS").is_some();
    for (place, (call, error)) in ERRORS.iter().enumerate().filter(|(place, _)| is_long || place % 2 == 0) {
        for n in whens(&[3]) {
            for when in [n.to_string(), format!("{n}+")] {
                let injection = Injection { call, fault: &format!("error={error}"), when };
                run_series(&injection, seed, n * 100 + place as u64, &mut total)
                    .unwrap_or_else(|why| panic!("R10: {why}\nseed {seed}"));
            }
        }
    }
    assert!(total.stopped > 0, "no error ever stopped a log");
    total.close("R10", "errors of the n-th call", "lives", start, seed);
}

/// The writer and readers of the slow disk, run by the test below.
#[test]
fn gray_child() {
    let Some(dir) = std::env::var_os("CASKLOG_GRAY") else { return };
    let options = Options::new(Path::new(&dir)).undurable_bytes_max(16 << 10).segment_bytes(1 << 20);
    let store = options.sync(SyncPolicy::Grouped { window: Duration::ZERO }).open().expect("open");
    for index in 1..=4 {
        store.write_bytes(index, "key", [7; 500]).expect("write");
    }
    let (mut times, mut busy, mut written) = (Vec::new(), 0, 0);
    let end = Instant::now() + Duration::from_millis(host::number("CASKLOG_GRAY_MILLIS").expect("a time"));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while Instant::now() < end {
                store.append_bytes("key", [8; 500]).expect("append");
                written += 1;
            }
        });
        scope.spawn(|| {
            for index in 1_000_000.. {
                match store.submit(index, "key", &[9_u8; 200].as_slice()) {
                    Ok(_) => {}
                    Err(Error::Busy { .. }) => {
                        busy += 1;
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    // The other writer appends behind what is submitted; its index may be taken by then.
                    Err(Error::IndexExists { .. }) => {}
                    Err(error) => panic!("submit: {error}"),
                }
                if Instant::now() >= end {
                    break;
                }
            }
        });
        while Instant::now() < end {
            let begun = Instant::now();
            let last = store.last_index().expect("not empty");
            assert!(store.get(last).expect("get").is_some());
            assert!(store.get(1 + times.len() as u64 % 4).expect("get").is_some());
            times.push(begun.elapsed());
            std::thread::sleep(Duration::from_micros(200));
        }
    });
    let closing = Instant::now();
    store.close().expect("close");
    times.sort();
    let at = |part: usize| times[times.len() * part / 1000].as_micros();
    println!(
        "gray {} {} {} {} {} {} {}",
        times.len(),
        at(500),
        at(990),
        times[times.len() - 1].as_micros(),
        closing.elapsed().as_millis(),
        written,
        busy
    );
}

#[test]
fn a_slow_disk_does_not_slow_readers() {
    if !can_trace("R20", "a_slow_disk_does_not_slow_readers") {
        return;
    }
    let delay = host::number("CASKLOG_GRAY_DELAY").unwrap_or(100);
    let dir = tempfile::tempdir().expect("a directory");
    let inject = format!("inject=fdatasync:delay_enter={}:when=3+", delay * 1000);
    let output = Command::new("strace")
        .args(["-f", "--seccomp-bpf", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", &inject])
        .arg(std::env::current_exe().expect("this test"))
        .args(["strace::gray_child", "--exact", "--nocapture", "--test-threads=1"])
        .env("CASKLOG_GRAY", dir.path().join("log"))
        .env("CASKLOG_GRAY_MILLIS", (delay * 10).to_string())
        .output()
        .expect("strace");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let line = said.lines().find_map(|line| line.split_once("gray ")).expect("figures").1;
    let figures: Vec<u64> = line.split(' ').map(|word| word.parse().expect("a number")).collect();
    let [reads, p50, p99, max, close, written, busy] = figures[..] else { panic!("{line}") };
    println!(
        "R20 every sync takes {delay} ms: {reads} pairs of reads, p50 {p50} us, p99 {p99} us, longest {max} us; {written} \
         durable appends, Busy {busy} times; close took {close} ms"
    );
    let detail = format!("every sync {delay} ms, p99 {p99} us, longest {max} us, `close` {close} ms");
    let seconds = delay as f64 / 100.0;
    Figure { row: "R20", counted: "pairs of reads", count: reads, seconds, detail, ..Figure::default() }.record();
    assert!(p99 < delay * 1000 / 4, "readers wait for syncs: p99 is {p99} us");
    assert!(busy > 0, "what waits for the disk is not bounded");
    assert!(close < delay * 10 + 3000, "close took {close} ms");
}
