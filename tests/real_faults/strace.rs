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

/// What [`no_sync_after_a_failed_one`] reads. A machine that lacks one of them does without (`?`).
const SYNCS_AND_NAMES: &str = "fdatasync,fsync,?unlink,?unlinkat,?rename,?renameat,?renameat2";

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
    let (inject, traced) = (format!("inject={call}:{fault}:when={when}"), format!("trace={call},{SYNCS_AND_NAMES}"));
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
    let (mut files, mut begun, mut failed) = (Files::default(), HashMap::new(), Vec::new());
    for line in trace.lines() {
        let Some((thread, said)) = line.split_once(' ') else { continue };
        let said = said.trim_start();
        if let Some(call) = Call::read(said) {
            if let Call::Sync { shown, is_deleted } = call {
                let file = files.of(shown, is_deleted);
                if failed.contains(&file) {
                    return Err(format!("{shown} was synced after a sync of it had failed: {line}"));
                }
                begun.insert(thread, (call, file));
            } else {
                begun.insert(thread, (call, 0));
            }
        } else if !said.starts_with("<... ") {
            continue;
        }
        if said.ends_with("<unfinished ...>") {
            continue;
        }
        match begun.remove(thread) {
            Some((Call::Sync { .. }, file)) if said.contains("= -1 E") => failed.push(file),
            // Who makes the name anew has been told that it was gone, and that is when strace says so.
            Some((Call::Remove { name }, _)) if said.ends_with("= 0") => files.remove(name),
            Some((Call::Rename { from, to }, _)) if said.ends_with("= 0") => files.rename(from, to),
            _ => {}
        }
    }
    Ok(())
}

/// A call in a trace of `strace -y`, as it begins.
#[derive(Clone, Copy)]
enum Call<'a> {
    /// Of a descriptor, with the name that its file has or had.
    Sync {
        shown: &'a str,
        is_deleted: bool,
    },
    Remove {
        name: &'a str,
    },
    Rename {
        from: &'a str,
        to: &'a str,
    },
}

impl<'a> Call<'a> {
    fn read(said: &'a str) -> Option<Self> {
        let (call, arguments) = said.split_once('(')?;
        let mut names = arguments.split('"').skip(1).step_by(2);
        match call {
            "fdatasync" | "fsync" => {
                let (shown, rest) = arguments.split_once('<')?.1.split_once('>')?;
                Some(Call::Sync { shown, is_deleted: rest.starts_with("(deleted)") })
            }
            "unlink" | "unlinkat" => Some(Call::Remove { name: names.next()? }),
            "rename" | "renameat" | "renameat2" => Some(Call::Rename { from: names.next()?, to: names.next()? }),
            _ => None,
        }
    }
}

/// Which file a name stands for: one that was removed and made anew is another one.
#[derive(Default)]
struct Files<'a> {
    named: HashMap<&'a str, usize>,
    /// What bore the name until it was removed, or taken by another file.
    deleted: HashMap<&'a str, usize>,
    count: usize,
}

impl<'a> Files<'a> {
    fn of(&mut self, name: &'a str, is_deleted: bool) -> usize {
        let names = if is_deleted { &mut self.deleted } else { &mut self.named };
        *names.entry(name).or_insert_with(|| {
            self.count += 1;
            self.count
        })
    }

    fn remove(&mut self, name: &'a str) {
        let file = self.of(name, false);
        self.named.remove(name);
        self.deleted.insert(name, file);
    }

    fn rename(&mut self, from: &'a str, to: &'a str) {
        let file = self.of(from, false);
        self.remove(to);
        self.named.remove(from);
        self.named.insert(to, file);
    }
}

#[test]
fn the_reader_of_traces_finds_a_second_sync() {
    let lines = "7  fdatasync(3</l/a> <unfinished ...>\n8  fdatasync(4</l/b>) = 0\n\
                 7  <... fdatasync resumed>) = -1 EIO (Input/output error) (INJECTED)\n8  fdatasync(4</l/b>) = 0\n";
    no_sync_after_a_failed_one(lines).expect("it is another file");
    no_sync_after_a_failed_one(&format!("{lines}8  fsync(5</l/a>) = 0\n")).expect_err("it is the same file");
}

/// A trace in which a sync of `/l/a` has failed, and then this.
fn after_a_failed_sync(lines: &[&str]) -> Result<(), String> {
    let failed = "7  fdatasync(3</l/a>)     = -1 EIO (Input/output error) (INJECTED)\n";
    no_sync_after_a_failed_one(&format!("{failed}{}\n", lines.join("\n")))
}

#[test]
fn a_file_made_anew_under_the_name_of_a_removed_one_is_another_file_in_a_trace() {
    let anew = ["7  unlink(\"/l/a\")         = 0", "8  fdatasync(4</l/a>)     = 0"];
    after_a_failed_sync(&anew).expect("it is another file");
    after_a_failed_sync(&["7  unlinkat(AT_FDCWD</>, \"/l/a\", 0) = 0", anew[1]]).expect("it is another file");
    let in_two = ["7  unlink(\"/l/a\" <unfinished ...>", "8  fdatasync(9</l/b>) = 0", "7  <... unlink resumed>) = 0"];
    after_a_failed_sync(&[&in_two[..], &anew[1..]].concat()).expect("it is another file");
    // The new one fails, too; and one that has failed is still there behind a descriptor.
    let fails = "8  fdatasync(4</l/a>)     = -1 ENOSPC (No space left on device) (INJECTED)";
    after_a_failed_sync(&[anew[0], fails, anew[1]]).expect_err("it is the same file");
    after_a_failed_sync(&[anew[0], "8  fdatasync(3</l/a>(deleted)) = 0"]).expect_err("it is the same file");
    after_a_failed_sync(&[anew[0], fails, anew[0], anew[1]]).expect("it is the third file");
    // It was not removed, or another one was.
    let refused = "7  unlink(\"/l/a\") = -1 EIO (Input/output error) (INJECTED)";
    after_a_failed_sync(&[refused, anew[1]]).expect_err("it is the same file");
    after_a_failed_sync(&["7  unlink(\"/l/b\") = 0", anew[1]]).expect_err("it is the same file");
    after_a_failed_sync(&[in_two[0], anew[1]]).expect_err("it may not be removed yet");
}

#[test]
fn a_renamed_file_is_the_same_file_in_a_trace() {
    let rename = |from: &str, to: &str| format!("7  rename(\"{from}\", \"{to}\") = 0");
    let sync = |name: &str| format!("7  fdatasync(3<{name}>) = 0");
    after_a_failed_sync(&[&rename("/l/a", "/l/b"), &sync("/l/b")]).expect_err("it is the same file");
    after_a_failed_sync(&[&rename("/l/a", "/l/b"), &sync("/l/a")]).expect("it is another file");
    after_a_failed_sync(&[&rename("/l/b", "/l/a"), &sync("/l/a")]).expect("it is what was /l/b");
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
