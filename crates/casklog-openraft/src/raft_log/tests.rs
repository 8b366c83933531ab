//! When callbacks come, with a line that lets one look: neither openraft shows the moment.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use casklog::fs::sim::{Fate, Fault, OpKind, SimFs};

use super::*;

#[derive(Debug)]
struct Plain;

impl Line for Plain {
    const NAME: &'static str = "openraft plain";

    type Vote = u64;
    type LogId = u64;
    type Entry = (u64, String);

    fn index(log_id: &u64) -> u64 {
        *log_id
    }

    fn log_id(entry: &(u64, String)) -> u64 {
        entry.0
    }
}

type Log = RaftLog<Plain>;

fn options(fs: &SimFs) -> Options {
    Options::new("/raft").fs(Arc::new(fs.clone()))
}

fn open(fs: &SimFs) -> Log {
    Log::open(options(fs)).expect("it opens")
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::yield_now(),
        }
    }
}

/// Appends one entry; what it is called back with comes through the channel that was given.
fn append(log: &Log, index: u64, word: &str, told: &std::sync::mpsc::Sender<(u64, Result<()>)>) -> Result<()> {
    let told = told.clone();
    let flushed = move |outcome| told.send((index, outcome)).expect("somebody listens");
    wait(log.append([(index, word.to_owned())].into_iter(), flushed))
}

fn next<T>(calls: &Receiver<T>) -> T {
    calls.recv_timeout(Duration::from_secs(60)).expect("the callback comes")
}

#[test]
fn appends_are_readable_at_once_and_called_back_once_in_order_when_durable() {
    let fs = SimFs::new();
    fs.set_sync_delay(Duration::from_millis(1));
    let log = open(&fs);
    let reader = log.clone();
    let told = Arc::new(Mutex::new(Vec::new()));
    let appends = 300;
    for index in 0..appends {
        let (told, fs) = (told.clone(), fs.clone());
        let flushed = move |outcome: Result<()>| {
            outcome.expect("durable");
            told.lock().expect("no panic").push((index, fs.ops()));
        };
        wait(log.append([(index, "word".to_owned())].into_iter(), flushed)).expect("appended");
        assert_eq!(reader.read(index..=index, u64::MAX).expect("read"), [(index, "word".to_owned())]);
        if index % 50 == 0 {
            // So that some are registered when they are durable already.
            log.store.sync().expect("synced");
        }
    }
    log.close().expect("closed");
    let told = told.lock().expect("no panic");
    assert!(told.iter().map(|(index, _)| *index).eq(0..appends), "once and in order: {told:?}");
    for (index, ops) in told.iter().step_by(7) {
        let found = open(&fs.crash_at(*ops, &mut |_| Fate::Lost));
        assert!(found.last().expect("read") >= Some(*index), "{index} was called back as durable");
    }
}

#[test]
fn a_failed_sync_is_told_to_every_callback_and_stops_the_log() {
    let fs = SimFs::new();
    let log = open(&fs);
    let (told, calls) = channel();
    append(&log, 0, "durable", &told).expect("appended");
    next(&calls).1.expect("durable");

    fs.set_sync_delay(Duration::from_millis(20));
    fs.inject(Fault::new(OpKind::Sync, 5).sticky());
    let appended: Vec<bool> = (1..=5).map(|index| append(&log, index, "lost", &told).is_ok()).collect();
    assert!(appended[0], "it fails later");
    for index in 1..=5 {
        let (called, outcome) = next(&calls);
        assert_eq!(called, index);
        assert!(matches!(outcome, Err(Error::Store(casklog::Error::Failed { .. }))), "{outcome:?}");
    }
    let error = std::io::Error::from(wait(log.save_vote(&1)).expect_err("no silent success"));
    let error = error.get_ref().and_then(|error| error.downcast_ref()).expect("it is in there");
    assert!(matches!(error, Error::Store(casklog::Error::Failed { .. })), "{error:?}");
    assert!(log.save_committed(Some(&0)).is_err() && wait(log.truncate_since(1)).is_err());
    assert_eq!(log.read(0..1, u64::MAX).expect("reads go on"), [(0, "durable".to_owned())]);
    assert!(log.close().is_err());
    drop(told);
    assert!(calls.recv().is_err(), "nobody is called twice");

    let found = open(&fs.crash_at(fs.ops(), &mut |_| Fate::Lost));
    assert_eq!(found.last().expect("read"), Some(0));
}

#[test]
fn what_is_refused_is_told_to_the_callback_too() {
    let fs = SimFs::new();
    let log = open(&fs);
    let (told, calls) = channel();
    assert!(append(&log, u64::MAX, "no index", &told).is_err());
    assert!(matches!(next(&calls).1, Err(Error::IndexExhausted)));
    append(&log, 3, "the first", &told).expect("any index begins a log");
    next(&calls).1.expect("durable");
    assert!(append(&log, 5, "leaves a hole", &told).is_err());
    let outcome = next(&calls).1;
    assert!(
        matches!(outcome, Err(Error::Store(casklog::Error::IndexOrder { index: 5, expected: 4, .. }))),
        "{outcome:?}"
    );
    log.close().expect("closed");
    assert!(append(&log, 4, "closed", &told).is_err());
    assert!(matches!(next(&calls).1, Err(Error::Store(casklog::Error::Closed))));
    drop(told);
    assert!(calls.recv().is_err(), "nobody is called twice");
}

#[test]
fn a_full_disk_is_told_as_such_and_stops_nothing() {
    let fs = SimFs::new();
    let log = open(&fs);
    let (told, calls) = channel();
    fs.set_capacity(Some(fs.used()));
    let word = "w".repeat(3 << 20);
    let error = std::io::Error::from(append(&log, 0, &word, &told).expect_err("no room"));
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "{error}");
    assert!(next(&calls).1.is_err());
    fs.set_capacity(None);
    append(&log, 0, &word, &told).expect("there is room again");
    next(&calls).1.expect("durable");
}

#[test]
fn an_append_may_be_larger_than_a_batch() {
    let fs = SimFs::new();
    let options = options(&fs).record_bytes_max(1 << 20).batch_bytes_max(6 << 20).segment_bytes(8 << 20);
    let log = Log::open(options).expect("it opens");
    let word = "w".repeat(300 << 10);
    let (told, calls) = channel();
    let entries = (0..40).map(|index| (index, word.clone()));
    wait(log.append(entries, move |outcome| told.send(outcome).expect("somebody listens"))).expect("appended");
    assert_eq!(log.read(.., u64::MAX).expect("read").len(), 40);
    next(&calls).expect("durable");
    let found = open(&fs.crash_at(fs.ops(), &mut |_| Fate::Lost));
    assert_eq!(found.last().expect("read"), Some(39));
}

#[test]
fn where_too_much_is_on_its_way_to_the_disk_an_append_waits() {
    let fs = SimFs::new();
    fs.set_sync_delay(Duration::from_millis(5));
    let log = Log::open(options(&fs).undurable_bytes_max(10_000)).expect("it opens");
    let word = "w".repeat(6000);
    let (told, calls) = channel();
    for index in 0..20 {
        append(&log, index, &word, &told).expect("it waits for room");
    }
    for index in 0..20 {
        let (called, outcome) = next(&calls);
        assert_eq!(called, index);
        outcome.expect("durable");
    }
}

/// An entry was added to the batch first, and the batch written when it had its size: then it was larger than the store takes.
#[test]
fn a_batch_of_an_append_is_never_larger_than_the_store_takes() {
    let cases: [(u64, &[u64]); 4] = [
        (2 << 20, &[300 << 10; 20]),
        (2 << 20, &[2 << 20, 1, 2 << 20, 2 << 20, 1, 1, 1 << 20, 1 << 20, 1 << 20, (1 << 20) + 1]),
        (6 << 20, &[3 << 20, 5 << 20, 3 << 20, 1 << 20, (6 << 20) - 1, 6 << 20]),
        (64 << 10, &[1; 10_000]),
    ];
    for (batch_bytes_max, sizes) in cases {
        let fs = SimFs::new();
        let options = options(&fs).record_bytes_max(batch_bytes_max).batch_bytes_max(batch_bytes_max);
        let log = Log::open(options.segment_bytes(16 << 20)).expect("it opens");
        // Less what the encoding adds to the largest.
        let word = |size: u64| "w".repeat(size.min(batch_bytes_max - 64) as usize);
        let entries: Vec<_> = (0..).zip(sizes).map(|(index, size)| (index, word(*size))).collect();
        let (told, calls) = channel();
        let flushed = move |outcome| told.send(outcome).expect("somebody listens");
        wait(log.append(entries.clone().into_iter(), flushed)).expect("appended");
        next(&calls).expect("durable");
        assert!(log.read(.., u64::MAX).expect("read") == entries);

        let (told, calls) = channel();
        let too_large = (sizes.len() as u64, "w".repeat(batch_bytes_max as usize));
        let flushed = move |outcome| told.send(outcome).expect("somebody listens");
        wait(log.append([too_large].into_iter(), flushed)).expect_err("no batch takes it");
        assert!(matches!(next(&calls), Err(Error::Store(casklog::Error::TooLarge { .. }))));
    }
}
