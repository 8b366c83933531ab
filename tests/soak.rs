//! R29: writers, readers and retention for a while, with kills in between: memory, descriptors, threads and disk stay
//! bounded, and nothing that was acknowledged is lost.
//!
//! Two seconds by default; `CASKLOG_R29=3600 cargo test --release --test soak -- --nocapture` for an hour.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "these are tests")]

#[path = "common/figures.rs"]
mod figures;
#[path = "common/numbers.rs"]
mod numbers;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use casklog::{Error, LogItem, Options, RecoveryMode, Store, SyncPolicy};
use figures::{number, record};
use numbers::Numbers;

const DIR: &str = "CASKLOG_SOAK_DIR";
const SEGMENT: u64 = 1 << 17;
const SEGMENTS: u64 = 8;
const OPEN_FILES: usize = 4;
const CACHE: u64 = 1 << 20;
const LIFE: Duration = Duration::from_millis(700);

/// Segments that wait to be sealed, that were sealed since retention looked last, the active one, a spare, and one that is
/// about to be rotated.
const SEGMENTS_AT_WORK: u64 = 8 + 8 + 3;
const MEMORY: u64 = 64 << 20;
const DESCRIPTORS: u64 = 40;
const THREADS: u64 = 12;

fn options(dir: &Path) -> Options {
    let options = Options::new(dir).segment_bytes(SEGMENT).max_segments(SEGMENTS).max_open_files(OPEN_FILES);
    let sync = SyncPolicy::Periodic { every: Duration::from_millis(5), entries: 500, bytes: 1 << 20 };
    options.cache_bytes(CACHE).sync(sync).key_index(true)
}

fn value(index: u64) -> Vec<u8> {
    let mut numbers = Numbers(index);
    let length = numbers.below(if index.is_multiple_of(100) { 5_000 } else { 200 }) as usize;
    numbers.bytes(length)
}

/// The child: writes, reads at random, from the beginning and behind the end, until it is killed or its input ends.
#[test]
fn child_process() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let store = options(Path::new(&dir)).open().unwrap();
    let report = store.recovery_report();
    assert!(!report.is_damaged() && !report.is_manifest_lost, "{report:?}");
    for (seed, read) in [at_random, from_the_beginning, behind_the_end].into_iter().enumerate() {
        let store = store.clone();
        thread::spawn(move || read(&store, Numbers(seed as u64)));
    }
    let writers = (0..2).map(|_| {
        let store = store.clone();
        thread::spawn(move || write(&store))
    });
    writers.collect::<Vec<_>>().into_iter().for_each(|writer| writer.join().unwrap());
}

/// One line is one call of `write`: what is said is in the pipe.
fn write(store: &Store) {
    loop {
        // The value tells the index: whoever takes another one has lost the race for it.
        let index = store.next_index().unwrap();
        match store.write_bytes(index, index.to_le_bytes(), value(index)) {
            Ok(_) => {
                let line = format!("\nd{index}\n");
                std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
            }
            Err(Error::IndexExists { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

fn check(entry: &casklog::Entry) {
    assert!(entry.bytes().unwrap() == value(entry.index()), "{} is wrong", entry.index());
}

fn at_random(store: &Store, mut random: Numbers) {
    loop {
        let (first, next) = (store.first_index().unwrap_or(1), store.next_index().unwrap());
        if let Some(entry) = store.get(first + random.below(next - first.min(next) + 1)).unwrap() {
            check(&entry);
        }
        let _ = store.latest(next.saturating_sub(3).to_le_bytes());
    }
}

fn from_the_beginning(store: &Store, _: Numbers) {
    loop {
        for entry in store.iter() {
            match entry {
                Ok(entry) => check(&entry),
                Err(Error::Removed { .. }) => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

fn behind_the_end(store: &Store, _: Numbers) {
    let mut follow = store.follow(store.next_index().unwrap()).unwrap().durable_only(true);
    loop {
        match follow.next_timeout(Duration::from_millis(10)) {
            Ok(Some(LogItem::Entry(entry))) => check(&entry),
            Ok(_) => {}
            Err(Error::Removed { .. }) => follow = store.follow(store.next_index().unwrap()).unwrap(),
            Err(error) => panic!("{error}"),
        }
    }
}

/// The highest of what a process took.
#[derive(Debug, Default, Clone, Copy)]
struct Taken {
    memory: u64,
    descriptors: u64,
    threads: u64,
    disk: u64,
}

impl Taken {
    fn look(&mut self, process: u32, dir: &Path) {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0)
        };
        // Memory of its own: the pages of files that are mapped are the kernel's.
        self.memory = self.memory.max(field("RssAnon:") << 10);
        self.threads = self.threads.max(field("Threads:"));
        let descriptors = std::fs::read_dir(format!("/proc/{process}/fd")).map_or(0, |names| names.count() as u64);
        self.descriptors = self.descriptors.max(descriptors);
        let files = std::fs::read_dir(dir).unwrap().flatten();
        let bytes = files.filter_map(|file| file.metadata().ok()).map(|data| data.len()).sum();
        self.disk = self.disk.max(bytes);
    }

    fn check(&self) {
        assert!(self.memory <= MEMORY, "{self:?}");
        assert!(self.descriptors <= DESCRIPTORS, "{self:?}");
        assert!(self.threads <= THREADS, "{self:?}");
        // The last write of a segment may be larger than what is left of it, and footers stand behind.
        assert!(self.disk <= (SEGMENTS + SEGMENTS_AT_WORK) * (SEGMENT + SEGMENT / 4), "{self:?}");
    }
}

fn start(dir: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["child_process", "--exact", "--nocapture", "--test-threads=1"]).env(DIR, dir);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// One life; returns the highest index that was acknowledged, at least `before`.
fn life(dir: &Path, lasts: Duration, before: u64, taken: &mut Taken) -> u64 {
    let mut child = start(dir);
    let told = Arc::new(AtomicU64::new(before));
    let pipe = BufReader::new(child.stdout.take().unwrap());
    let listener = thread::spawn({
        let told = told.clone();
        move || {
            for line in pipe.lines().map_while(Result::ok) {
                let index = line.strip_prefix('d').and_then(|digits| digits.parse().ok());
                told.fetch_max(index.unwrap_or(0), Ordering::Relaxed);
            }
        }
    });
    let end = Instant::now() + lasts;
    while Instant::now() < end {
        thread::sleep(Duration::from_millis(20).min(lasts));
        taken.look(child.id(), dir);
        if let Some(status) = child.try_wait().unwrap() {
            let output = child.wait_with_output().unwrap();
            panic!("the child ended with {status}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    listener.join().unwrap();
    told.load(Ordering::Relaxed)
}

/// After a kill all that was told is there, but for what retention took.
fn verify(dir: &Path, told: u64) -> u64 {
    let store = options(dir).background(false).recovery(RecoveryMode::TornTail).open().unwrap();
    let report = store.recovery_report();
    assert!(!report.is_damaged() && !report.is_manifest_lost && report.strays.is_empty(), "{report:?}");
    let indexes: Vec<u64> = store
        .iter()
        .map(|entry| {
            let entry = entry.unwrap();
            check(&entry);
            entry.index()
        })
        .collect();
    assert!(indexes.windows(2).all(|pair| pair[0] + 1 == pair[1]), "a hole");
    let last = indexes.last().copied().unwrap_or(0);
    assert!(last >= told, "{told} was acknowledged, {last} is the last");
    store.close().unwrap();
    let bytes: u64 = store.segments().iter().map(|info| info.bytes).sum();
    assert!(bytes <= (SEGMENTS + 1) * (SEGMENT + 6_000), "{bytes} bytes are left");
    last
}

#[test]
fn r29_memory_descriptors_threads_and_disk_stay_bounded() {
    let started = Instant::now();
    let lasts = Duration::from_secs(number("CASKLOG_R29", 2));
    let dir = tempfile::Builder::new().prefix("casklog-soak-").tempdir().unwrap();
    let (mut told, mut lives, mut random) = (0, 0, Numbers(29));
    let mut taken = Taken::default();
    // One long life, of a third of the time; then short ones.
    told = verify(dir.path(), life(dir.path(), lasts / 3, told, &mut taken));
    taken.check();
    while started.elapsed() < lasts {
        let lasts = Duration::from_millis(random.below(LIFE.as_millis() as u64));
        told = verify(dir.path(), life(dir.path(), lasts, told, &mut taken));
        taken.check();
        lives += 1;
    }
    assert!(lives > 0 && told > 0);
    println!("{lives} kills, {taken:?}");
    record("R29", "entries", told, started);
}
