//! Readers beside a writer in another process, on a real file system: many short lives of readers and long ones of
//! followers, while the writer appends, deletes, truncates, rotates and retires, is killed and comes back.
//!
//! A few seconds run in every `cargo test`; more with
//! `CASKLOG_READER_SECONDS=60 cargo test --release --test reader_stress -- --nocapture`. `CASKLOG_READER_SEED` repeats what
//! the writer does; how the processes meet is the machine's.
//!
//! What is checked: nothing is ever damaged, lost or missing; every value is the one that its index and generation call
//! for; a batch is seen whole, with the state that it says it leaves; iterators end early only because of truncation and
//! retention; followers are told everything once, in order; when the writer is done, all agree with it.
#![cfg(unix)]

mod child;
mod follower;
#[path = "../common/numbers.rs"]
mod numbers;
mod plan;
mod reader;

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use casklog::{LogItem, Options, SyncPolicy};

use numbers::Numbers;
use plan::Plan;
use reader::Counts;

/// A writer that says nothing for so long hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// The writing process: this test, run by the others.
#[test]
fn child_process() {
    let Ok(task) = std::env::var("CASKLOG_READER_CHILD") else { return };
    child::run(&std::env::var_os("CASKLOG_READER_DIR").expect("the directory").into(), &task);
}

/// A running writer.
pub(crate) struct Writer {
    child: Child,
    /// Told to end when this is closed.
    stdin: Option<ChildStdin>,
    said: JoinHandle<Vec<String>>,
    errors: JoinHandle<String>,
}

impl Writer {
    /// Starts one and waits until it has opened the log.
    fn start(dir: &Path, task: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["child_process", "--exact", "--nocapture", "--test-threads=1"])
            .env("CASKLOG_READER_DIR", dir)
            .env("CASKLOG_READER_CHILD", task)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a child");
        let stdin = child.stdin.take();
        let (stdout, stderr) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        let (tell, opened) = mpsc::channel();
        let said = std::thread::spawn(move || {
            let lines = BufReader::new(stdout).lines().map_while(Result::ok);
            lines
                .inspect(|line| {
                    if line == "open" || line.starts_with("error") {
                        let _ = tell.send(());
                    }
                })
                .collect()
        });
        let errors = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = { stderr }.read_to_string(&mut text);
            text
        });
        let _ = opened.recv_timeout(PATIENCE);
        Writer { child, stdin, said, errors }
    }

    fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.end(false);
    }

    /// Lets it close the log.
    fn close(mut self) {
        self.stdin = None;
        self.end(true);
    }

    fn end(mut self, closes: bool) {
        let status = self.child.wait().expect("it ends");
        let (said, errors) = (self.said.join().expect("text"), self.errors.join().expect("text"));
        let error = said.iter().find(|line| line.starts_with("error"));
        assert_eq!(error, None, "{errors}");
        assert!(status.success() || !closes, "the writer ended with {status}: {said:?} {errors}");
        assert!(said.iter().any(|line| line == "open"), "the writer did not open the log: {said:?} {errors}");
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

fn share(parts: u64) -> Duration {
    Duration::from_millis(number("CASKLOG_READER_SECONDS").unwrap_or(2) * 1000 / parts)
}

fn seed() -> u64 {
    number("CASKLOG_READER_SEED").unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(0, |now| now.as_nanos() as u64) % 1_000_000_007
    })
}

/// Runs readers and followers beside the writer of this plan, which is killed now and then if the plan says so.
fn run(plan: &Plan, time: Duration) {
    let dir = tempfile::Builder::new().prefix("casklog-reader-").tempdir().expect("a directory");
    println!("{plan:?}");
    let mut writer = Writer::start(dir.path(), &plan.task(0));
    let (end, counts) = (AtomicBool::new(false), Counts::default());
    let deadline = Instant::now() + time;
    let shared = reader::open(dir.path(), plan);
    std::thread::scope(|scope| {
        /// Whatever happens, the threads end.
        struct Ends<'a>(&'a AtomicBool);
        impl Drop for Ends<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let ends = Ends(&end);
        let threads: Vec<_> = (0..3u64)
            .map(|thread| {
                let (end, counts, shared, dir) = (&end, &counts, &shared, dir.path());
                scope.spawn(move || reader::run(dir, plan, thread, shared, end, counts))
            })
            .collect();
        let followers: Vec<_> = [false, true]
            .map(|durable_only| {
                let (end, counts, dir) = (&end, &counts, dir.path());
                scope.spawn(move || follower::run(dir, plan, durable_only, end, counts))
            })
            .into();
        let mut numbers = Numbers(plan.seed ^ 0x55);
        let mut life = 0;
        while Instant::now() < deadline && !threads.iter().any(|thread| thread.is_finished()) {
            std::thread::sleep(Duration::from_millis(20 + numbers.below(200)));
            if plan.kills {
                writer.kill();
                life += 1;
                writer = Writer::start(dir.path(), &plan.task(life));
                counts.lives.fetch_add(1, Ordering::Relaxed);
            }
        }
        writer.close();
        drop(ends);
        threads.into_iter().for_each(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        for follower in followers {
            follower.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    });
    let mut reader = reader::open(dir.path(), plan);
    let store = plan.options(dir.path()).background(false).open().expect("it was closed");
    assert!(store.recovery_report().is_clean, "{:?}", store.recovery_report());
    for _ in 0..2 {
        reader.refresh().expect("nobody writes");
        reader::assert_same(&reader, &store);
        reader = shared.clone();
    }
    let rotations = store.segments().last().map_or(0, |segment| segment.number);
    println!("seed {}: {counts}, {rotations} segments written", plan.seed);
    counts.assert_some();
}

#[test]
fn readers_beside_a_writer_in_another_process_see_what_it_wrote() {
    let seed = seed();
    for (place, (sync, mapped)) in [("none", true), ("grouped", false), ("none", false)].into_iter().enumerate() {
        let max_segments = [Some(3), None, Some(6)][place];
        run(&Plan { seed: seed + place as u64, sync, mapped, max_segments, kills: false }, share(6));
    }
}

#[test]
fn readers_beside_writers_that_are_killed_see_what_they_wrote() {
    let seed = seed();
    for (place, (sync, mapped)) in [("none", true), ("grouped", false), ("periodic", false)].into_iter().enumerate() {
        let max_segments = [None, Some(4), None][place];
        run(&Plan { seed: seed + place as u64, sync, mapped, max_segments, kills: true }, share(6));
    }
}

#[test]
fn followers_of_another_process_are_told_every_entry_once_and_in_order() {
    const COUNT: u64 = 1800;
    for (sync, durable_only) in [("none", false), ("grouped", false), ("none", true), ("grouped", true)] {
        let dir = tempfile::tempdir().expect("a directory");
        let writer = Writer::start(dir.path(), &format!("count {sync} {COUNT}"));
        let reader =
            Options::new(dir.path()).sync(SyncPolicy::None).open_read_only().expect("the first entry is there");
        let mut late = reader.follow(COUNT / 2).expect("nothing was removed").durable_only(durable_only);
        let follow = reader.follow(0).expect("nothing was removed").durable_only(durable_only);
        for (expected, item) in (1..=COUNT).zip(follow) {
            match item.expect("an entry") {
                LogItem::Entry(entry) => {
                    assert_eq!(entry.index(), expected);
                    assert_eq!(entry.value::<u64>().expect("a number"), expected * 7);
                    assert!(!durable_only || entry.is_durable());
                }
                other => panic!("{other:?}"),
            }
        }
        for expected in COUNT / 2..=COUNT {
            assert_eq!(late.next().expect("it waits").expect("an entry").index(), expected);
        }
        writer.close();
        assert!(late.next_timeout(Duration::from_millis(150)).expect("nothing").is_none());
        assert!(reader.segments().len() > 18, "it has rotated often");
    }
}
