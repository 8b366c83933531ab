//! R22: what many threads did at once is one order, the order of the indexes, that none of them can contradict; and what
//! a follower of durable entries was shown no power cut takes back.
//!
//! Every call is stamped when it begins and when it returns. Indexes are given in the order of the log, so that each
//! call says something about how far the log had come: one pass over the stamps compares all of it.
//! `CASKLOG_R22=5000 cargo test --release --test concurrent -- --nocapture` runs more.

#![allow(clippy::unwrap_used, reason = "these are tests")]

#[path = "common/figures.rs"]
mod figures;
#[path = "common/numbers.rs"]
mod numbers;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use casklog::fs::sim::SimFs;
use casklog::{Batch, Durability, LogItem, Options, Reader, Store, SyncPolicy};
use figures::{number, record};
use numbers::Numbers;

/// What a call says of the log: how many entries there were at least, before it returned, and how many at most, when it
/// began; and the entry that it wrote.
#[derive(Debug, Clone)]
struct Call {
    begin: u64,
    end: u64,
    at_least: u64,
    at_most: u64,
    /// The first and the last index.
    wrote: Option<(u64, u64)>,
    #[allow(dead_code, reason = "failures show it")]
    what: &'static str,
}

/// The stamps of one run.
#[derive(Default)]
struct Clock(AtomicU64);

impl Clock {
    fn now(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst)
    }
}

const WRITERS: u64 = 3;
const READERS: u64 = 2;

fn key(thread: u64, number: u64) -> String {
    format!("{thread}.{number}")
}

fn write(store: &Store, clock: &Clock, thread: u64, calls: u64, seed: u64) -> Vec<Call> {
    let mut random = Numbers(seed ^ thread << 32);
    let call = |number| {
        let value = random.bytes(if number % 40 == 39 { 9_000 } else { 30 });
        let begin = clock.now();
        let ((first, last), what) = match random.below(4) {
            0 => {
                let written = store.append_bytes_with(key(thread, number), value, Durability::Written).unwrap();
                ((written.index, written.index), "append, not durable")
            }
            1 => batch(store, thread, number, &value),
            _ => {
                let written = store.append_bytes(key(thread, number), value).unwrap();
                ((written.index, written.index), "append")
            }
        };
        let end = clock.now();
        // Behind all that was there, and nothing of it before the call.
        Call { begin, end, at_least: last, at_most: first - 1, wrote: Some((first, last)), what }
    };
    (0..calls).map(call).collect()
}

/// A batch of two at the end of the log, wherever that is by then.
fn batch(store: &Store, thread: u64, number: u64, value: &[u8]) -> ((u64, u64), &'static str) {
    loop {
        let next = store.next_index().unwrap();
        let mut batch = Batch::new();
        batch.put_bytes(next, key(thread, number), value).put_bytes(next + 1, key(thread, number), b"second");
        // Somebody else may have taken the index by now.
        match store.submit_batch(&batch) {
            Ok(commit) if number.is_multiple_of(2) => {
                return (commit.wait().map(|()| (next, next + 1)).unwrap(), "batch");
            }
            Ok(_) => return ((next, next + 1), "batch, not durable"),
            Err(casklog::Error::IndexExists { .. } | casklog::Error::IndexOrder { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

fn read(reader: &Reader, clock: &Clock, is_over: &AtomicBool, seed: u64) -> Vec<Call> {
    let (mut random, mut calls) = (Numbers(seed), Vec::new());
    while !is_over.load(Ordering::Relaxed) {
        let near = reader.last_index().unwrap_or(0);
        let index = near.saturating_sub(3) + 1 + random.below(8);
        let begin = clock.now();
        let (at_least, at_most, what) = match random.below(4) {
            0 => match reader.get(index).unwrap() {
                Some(entry) => (entry.index(), u64::MAX, "get: there"),
                None => (0, index - 1, "get: nothing"),
            },
            1 => {
                let last = reader.last_index().unwrap_or(0);
                (last, last, "last_index")
            }
            2 => {
                let indexes: Vec<u64> = reader.range(near..).map(|entry| entry.unwrap().index()).collect();
                assert!(indexes.windows(2).all(|pair| pair[0] + 1 == pair[1]), "a hole: {indexes:?}");
                let last = indexes.last().copied().unwrap_or(near);
                (last, last, "range")
            }
            _ => {
                let last = reader.iter().next_back().map_or(0, |entry| entry.unwrap().index());
                (last, last, "iter from behind")
            }
        };
        calls.push(Call { begin, end: clock.now(), at_least, at_most, wrote: None, what });
        thread::yield_now();
    }
    calls
}

/// One pass in the order of the stamps: whoever began after another call had returned saw at least as much, and nobody
/// saw what nobody had begun to write.
fn is_one_order(calls: &[Call]) -> Result<(), String> {
    let mut stamps: Vec<(u64, usize, bool)> = Vec::with_capacity(calls.len() * 2);
    stamps.extend(
        calls.iter().enumerate().flat_map(|(place, call)| [(call.begin, place, true), (call.end, place, false)]),
    );
    stamps.sort_unstable();
    let count = calls.iter().filter_map(|call| call.wrote).map(|(_, last)| last).max().unwrap_or(0);
    let mut begun = vec![u64::MAX; count as usize + 1];
    begun[0] = 0;
    for call in calls {
        for index in call.wrote.into_iter().flat_map(|(first, last)| first..=last) {
            if begun[index as usize] != u64::MAX {
                return Err(format!("index {index} was written twice"));
            }
            begun[index as usize] = call.begin;
        }
    }
    let (mut sure, mut sure_at) = (0, 0);
    let mut sure_when_begun = vec![(0, 0); calls.len()];
    for (_, place, is_begin) in stamps {
        let call = &calls[place];
        if is_begin {
            sure_when_begun[place] = (sure, sure_at);
            continue;
        }
        let (before, by) = sure_when_begun[place];
        if call.at_most < before {
            return Err(format!("{call:?} began when {before} entries had been seen, by {:?}", calls[by]));
        }
        if begun.get(call.at_least as usize).is_none_or(|begun| *begun >= call.end) {
            return Err(format!("{call:?} shows what nobody had begun to write"));
        }
        if call.at_least > sure {
            (sure, sure_at) = (call.at_least, place);
        }
    }
    Ok(())
}

fn options(dir: &Path, run: u64) -> Options {
    let options = Options::new(dir).mapped(run.is_multiple_of(2)).segment_entries(20 + run % 60);
    options.sync(policy(run))
}

fn policy(run: u64) -> SyncPolicy {
    match run % 4 {
        0 => SyncPolicy::None,
        1 => SyncPolicy::Grouped { window: Duration::ZERO },
        2 => SyncPolicy::Immediate,
        _ => SyncPolicy::Periodic { every: Duration::from_millis(2), entries: 7, bytes: 5_000 },
    }
}

fn joined<T>(threads: Vec<ScopedJoinHandle<'_, Vec<T>>>) -> Vec<T> {
    threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
}

fn history(run: u64, sim: bool) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let fs = SimFs::new();
    let options = options(dir.path(), run);
    let options = if sim { options.fs(Arc::new(fs.clone())) } else { options };
    let store = options.open().unwrap();
    fs.set_sync_delay(Duration::from_micros(200));
    let (clock, is_over) = (Clock::default(), AtomicBool::new(false));
    let calls = thread::scope(|scope| {
        let (store, clock, is_over) = (&store, &clock, &is_over);
        let readers = (0..READERS).map(|n| scope.spawn(move || read(store, clock, is_over, run << 8 | n)));
        let readers: Vec<_> = readers.collect();
        let count = if policy(run) == SyncPolicy::None || sim { 300 } else { 60 };
        let writers = (0..WRITERS).map(|n| scope.spawn(move || write(store, clock, n, count, run)));
        let writers: Vec<_> = writers.collect();
        let mut calls = joined(writers);
        is_over.store(true, Ordering::Relaxed);
        calls.extend(joined(readers));
        calls
    });
    is_one_order(&calls).unwrap_or_else(|why| panic!("run {run}, sim {sim}: {why}"));
    // The order of the log is that of the indexes.
    let log = store.log_order().filter_map(|item| match item.unwrap() {
        LogItem::Entry(entry) => Some(entry.index()),
        _ => None,
    });
    let log: Vec<u64> = log.collect();
    let written: u64 = calls.iter().filter_map(|call| call.wrote).map(|(first, last)| last - first + 1).sum();
    assert!(log.iter().copied().eq(1..=written), "run {run}: the order of the log is {log:?}");
    store.close().unwrap();
    calls.len() as u64
}

#[test]
fn r22_what_threads_did_at_once_is_one_order() {
    let (started, mut calls) = (Instant::now(), 0);
    let runs = number("CASKLOG_R22", 20);
    for run in 0..runs {
        calls += history(run, run % 8 < 4);
    }
    record("R22", "calls in histories", calls, started);
}

/// A follower of durable entries, and the length of the journal when it had been shown each.
fn follow(store: &Store, fs: &SimFs, is_over: &AtomicBool) -> Vec<(u64, usize)> {
    let mut follow = store.follow(0).unwrap().durable_only(true);
    let mut seen = Vec::new();
    loop {
        let is_last = is_over.load(Ordering::Relaxed);
        while let Some(item) = follow.next_timeout(Duration::from_micros(300)).unwrap() {
            let LogItem::Entry(entry) = item else { continue };
            assert!(entry.is_durable());
            seen.push((entry.index(), fs.ops()));
        }
        if is_last {
            return seen;
        }
    }
}

#[test]
fn r22_no_power_cut_takes_back_what_a_durable_follower_was_shown() {
    let (started, mut states) = (Instant::now(), 0);
    let runs = number("CASKLOG_R22", 20);
    for run in 0..runs {
        let fs = SimFs::new();
        let options = |fs: &SimFs| options(Path::new("/log"), run).segment_entries(6).fs(Arc::new(fs.clone()));
        let store = options(&fs).open().unwrap();
        fs.set_sync_delay(Duration::from_micros(100));
        let (clock, is_over) = (Clock::default(), AtomicBool::new(false));
        let seen = thread::scope(|scope| {
            let (store, fs, clock, is_over) = (&store, &fs, &clock, &is_over);
            let follower = scope.spawn(move || follow(store, fs, is_over));
            let writers = (0..WRITERS).map(|n| scope.spawn(move || write(store, clock, n, 8, run)));
            let writers: Vec<_> = writers.collect();
            joined(writers);
            is_over.store(true, Ordering::Relaxed);
            follower.join().unwrap()
        });
        assert!(seen.windows(2).all(|pair| pair[0].0 + 1 == pair[1].0), "run {run}: {seen:?}");
        for (index, ops) in &seen {
            for found in fs.crash_images(*ops, 4, run) {
                let left = options(&found).background(false).open().unwrap();
                let is_there = left.get(*index).unwrap().is_some();
                assert!(is_there, "run {run}: {index}, shown at operation {ops}, is gone: {}", found.origin());
                states += 1;
            }
        }
        store.close().unwrap();
    }
    assert!(states > runs * 20, "{states}");
    record("R22", "crashes behind a durable follower", states, started);
}

/// The comparison itself: histories that no log can have are told from one that it can.
#[test]
fn histories_that_contradict_an_order_are_refused() {
    let write = |begin, end, index| Call {
        begin,
        end,
        at_least: index,
        at_most: index - 1,
        wrote: Some((index, index)),
        what: "write",
    };
    let read = |begin, end, at_least, at_most| Call { begin, end, at_least, at_most, wrote: None, what: "read" };
    assert_eq!(is_one_order(&[write(0, 5, 2), write(1, 4, 1), read(2, 3, 1, 1), read(6, 7, 2, 2)]), Ok(()));
    let wrong = [
        // The second to be written returned before the first began.
        vec![write(0, 1, 2), write(2, 3, 1)],
        // Seen by one, and later not by another.
        vec![write(0, 5, 1), read(1, 2, 1, 1), read(3, 4, 0, 0)],
        // Acknowledged, and not seen.
        vec![write(0, 1, 1), read(2, 3, 0, 0)],
        // Seen before anybody began to write it.
        vec![read(0, 1, 1, 1), write(2, 3, 1)],
        vec![write(0, 1, 1), write(2, 3, 1)],
    ];
    for calls in wrong {
        assert!(is_one_order(&calls).is_err(), "{calls:?}");
    }
}
