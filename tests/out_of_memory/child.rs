//! A child whose memory ends at the n-th allocation, and what its parent finds.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use casklog::{Batch, Error, Options, RecoveryMode};

use crate::allocator::{count, end_after};
use crate::figures::record;

const DIR: &str = "CASKLOG_OOM_DIR";
const AFTER: &str = "CASKLOG_OOM_AFTER";

fn options(dir: &Path) -> Options {
    Options::new(dir).segment_entries(5).segment_bytes(1 << 14).max_segments(6)
}

fn value(index: u64) -> Vec<u8> {
    format!("value {index} ").repeat(1 + index as usize % 40).into_bytes()
}

/// The child: opens, writes, reads, rotates, retires, closes, twice, and says what was acknowledged, without allocating.
#[test]
fn child_process() {
    let (Ok(dir), Ok(after)) = (std::env::var(DIR), std::env::var(AFTER)) else { return };
    let (dir, after) = (Path::new(&dir).to_owned(), after.parse().unwrap());
    let mut pipe = File::from(std::io::stdout().as_fd().try_clone_to_owned().unwrap());
    let mut say = |what: u8, number: u64| {
        let mut line = [0; 11];
        (line[0], line[1], line[10]) = (b'\n', what, b'\n');
        line[2..10].copy_from_slice(&hex(number));
        pipe.write_all(&line).unwrap();
    };
    let before = count();
    end_after(after);
    for life in 0..2 {
        let store = options(&dir).open().unwrap();
        for step in 0..14 {
            let next = store.next_index().unwrap();
            if step % 5 == 3 {
                let mut batch = Batch::new();
                batch.put_bytes(next, "k", value(next)).put_bytes(next + 1, "k", value(next + 1));
                store.write_batch(&batch).unwrap();
                say(b'd', next);
                say(b'd', next + 1);
            } else {
                store.write_bytes(next, "k", value(next)).unwrap();
                say(b'd', next);
            }
            assert!(store.get(next).unwrap().is_some());
        }
        store.put_meta("life", [life]).unwrap();
        // Retention may be faster.
        assert!(store.iter().all(|entry| matches!(entry, Ok(_) | Err(Error::Removed { .. }))));
        store.close().unwrap();
    }
    say(b'n', count() - before);
}

fn hex(number: u64) -> [u8; 8] {
    std::array::from_fn(|place| b"0123456789abcdef"[(number >> (28 - 4 * place)) as usize & 15])
}

/// What a child said: the indexes that were acknowledged, and how many allocations a whole life takes.
fn live(dir: &Path, after: u64) -> (Vec<u64>, Option<u64>) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["child::child_process", "--exact", "--nocapture", "--test-threads=1"]);
    let output = command.env(DIR, dir).env(AFTER, after.to_string()).env("RUST_BACKTRACE", "0").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = |what: char| {
        let lines = text.lines().filter_map(move |line| line.strip_prefix(what).filter(|rest| rest.len() == 8));
        lines.filter_map(|digits| u64::from_str_radix(digits, 16).ok()).collect::<Vec<_>>()
    };
    let errors = String::from_utf8_lossy(&output.stderr);
    let is_panic = errors.contains("panicked at");
    assert!(!is_panic, "after {after} allocations: {errors}");
    (said('d'), said('n').pop())
}

fn check(after: u64) -> bool {
    let memory = Path::new("/dev/shm");
    let memory = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let dir = tempfile::Builder::new().prefix("casklog-oom-").tempdir_in(memory).unwrap();
    let (acknowledged, whole) = live(dir.path(), after);
    if !dir.path().join("segment_lock").is_file() {
        assert!(acknowledged.is_empty());
        return whole.is_some();
    }
    for mode in [RecoveryMode::TornTail, RecoveryMode::Strict] {
        let store = options(dir.path()).background(false).recovery(mode).open();
        let store = store.unwrap_or_else(|error| panic!("after {after} allocations, {mode:?}: {error:?}"));
        let report = store.recovery_report();
        assert!(!report.is_damaged() && report.strays.is_empty(), "after {after} allocations: {report:?}");
        let entries: BTreeMap<u64, Vec<u8>> = store
            .iter()
            .map(|entry| entry.map(|entry| (entry.index(), entry.bytes().unwrap().to_vec())).unwrap())
            .collect();
        let first = store.first_index().unwrap_or(1);
        let last = entries.keys().next_back().copied().unwrap_or(0);
        assert!(entries.iter().all(|(index, bytes)| *bytes == value(*index)), "after {after} allocations: wrong data");
        for index in acknowledged.iter().filter(|index| **index >= first) {
            assert!(entries.contains_key(index), "after {after} allocations: {index} is lost");
        }
        // Retention takes what is older than so many segments, of five entries and one batch.
        let told = acknowledged.last().copied().unwrap_or(0);
        assert!(first == 1 || told.max(last) >= first + 20, "after {after} allocations: {first} of {told}");
        // At most the write that was under way, a batch of two.
        assert!(last <= told + 2 * if mode == RecoveryMode::TornTail { 1 } else { 2 }, "{last} of {told}");
        let next = store.next_index().unwrap();
        store.write_bytes(next, "k", value(next)).unwrap();
        store.close().unwrap();
    }
    whole.is_some()
}

#[test]
fn r16_a_process_that_runs_out_of_memory_loses_nothing() {
    let started = Instant::now();
    let dir = tempfile::tempdir().unwrap();
    let total = live(dir.path(), u64::MAX / 2).1.expect("a child with memory ends well");
    let sample = if std::env::var_os("CASKLOG_R16").is_some() { 1 } else { (total / 300).max(1) };
    let places: Vec<u64> = (0..total).step_by(sample as usize).collect();
    let ended: usize = std::thread::scope(|scope| {
        let halves = places.chunks(places.len().div_ceil(2));
        let threads: Vec<_> =
            halves.map(|half| scope.spawn(move || half.iter().filter(|after| check(**after)).count())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert!(ended * 10 < places.len(), "{ended} of {} children had memory enough", places.len());
    record("R16", "processes out of memory", places.len() as u64, started);
}
