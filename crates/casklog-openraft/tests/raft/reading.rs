//! What readers see: limits, holes, other handles, and a log that is cut under them.

use std::sync::atomic::{AtomicBool, Ordering};

use casklog::{Options, Store};
use futures_util::StreamExt as _;
use openraft_0_10::RaftLogReader as _;

use crate::lines::{Entry, Line, Store9, Store10, entries, plain10, wait};

fn limited<L: Line>(limit: impl Fn(L, u64) -> L) {
    let dir = tempfile::tempdir().expect("a directory");
    let log = L::open(Options::new(dir.path())).expect("a new log");
    let sizes = [100_000, 900_000, 200_000, 5_000_000, 10, 10];
    let all: Vec<Entry> = (0..).zip(sizes).map(|(index, size)| (1, index, "w".repeat(size))).collect();
    log.append_all(&all).expect("appended");
    let count = |log: &L, from| log.limited(from, 6).expect("read").len();
    assert_eq!([0, 1, 2, 3, 4].map(|from| count(&log, from)), [2, 1, 1, 1, 2], "1 MiB, and at least one entry");
    assert_eq!(log.limited(0, 1).expect("read").len(), 1, "no more than was asked for");
    assert!(log.limited(3, 3).expect("read").is_empty());
    assert_eq!(log.read(0, 6).expect("read").len(), 6, "who asks for all gets all");
    let log = limit(log, 8_000_000);
    assert_eq!(count(&log, 0), 6);
    assert_eq!(count(&limit(log, 0), 4), 1);
}

#[test]
fn limited_reads_stop_by_bytes_0_9() {
    limited::<Store9>(Store9::limited_read_bytes);
}

#[test]
fn limited_reads_stop_by_bytes_0_10() {
    limited::<Store10>(Store10::limited_read_bytes);
}

fn hole<L: Line>() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = L::open(Options::new(dir.path())).expect("a new log");
    let reader = log.clone();
    log.append_all(&entries(1, 0..8)).expect("appended");
    assert_eq!(reader.read(2, 5).expect("read"), entries(1, 2..5), "a reader from before the append");
    assert_eq!(reader.read(6, 100).expect("read"), entries(1, 6..8), "what is not there yet is left out");
    log.close().expect("closed");
    // Nobody but a foreign hand makes a hole.
    let store = Options::new(dir.path()).index_order(casklog::IndexOrder::Sequential).open().expect("a log");
    assert!(store.delete(3).expect("deleted") && store.delete(4).expect("deleted"));
    store.close().expect("closed");

    let log = L::open(Options::new(dir.path())).expect("it opens");
    for (from, to) in [(0, 8), (2, 6), (0, 100)] {
        let error = log.read(from, to).expect_err("there is a hole");
        assert!(error.contains("from 3 to before 5 are missing"), "{error}");
    }
    assert!(log.limited(0, 8).is_err());
    assert_eq!(log.read(0, 3).expect("read"), entries(1, 0..3));
    assert_eq!(log.read(5, 8).expect("read"), entries(1, 5..8));
}

#[test]
fn a_hole_is_an_error_0_9() {
    hole::<Store9>();
}

#[test]
fn a_hole_is_an_error_0_10() {
    hole::<Store10>();
}

#[test]
fn a_stream_reads_as_it_is_asked_and_ends_at_the_first_error() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut log = <Store10 as Line>::open(Options::new(dir.path()).cache_bytes(0)).expect("a new log");
    let all: Vec<Entry> = (0..64).map(|index| (1, index, "w".repeat(100_000))).collect();
    log.append_all(&all).expect("appended");
    log.close().expect("closed");

    log = <Store10 as Line>::open(Options::new(dir.path()).cache_bytes(0)).expect("it opens");
    let mut reader = log.clone();
    let before = log.reader().stats().bytes_read;
    let mut stream = std::pin::pin!(wait(reader.entries_stream(10..)));
    let mut next = || wait(stream.next()).map(|entry| entry.map(plain10));
    assert_eq!(next().expect("there is one").expect("read"), all[10]);
    let read = log.reader().stats().bytes_read - before;
    assert!(read < 2_000_000, "{read} bytes for the first of 5,400,000");
    for entry in &all[11..] {
        assert_eq!(&next().expect("there is one").expect("read"), entry);
    }
    assert!(next().is_none());
    log.close().expect("closed");

    let store: Store = Options::new(dir.path()).index_order(casklog::IndexOrder::Sequential).open().expect("a log");
    store.delete(12).expect("deleted");
    store.close().expect("closed");
    let mut log = <Store10 as Line>::open(Options::new(dir.path())).expect("it opens");
    let read: Vec<bool> = wait(wait(log.entries_stream(10..)).map(|entry| entry.is_ok()).collect());
    assert_eq!(read, [true, true, false]);
}

/// A reader beside the one who truncates, appends anew and purges gets the log of one moment each time.
fn race<L: Line>() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = L::open(Options::new(dir.path()).segment_entries(64)).expect("a new log");
    log.append_all(&entries(0, 0..500)).expect("appended");
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let mut reads = 0;
            while !is_over.load(Ordering::Relaxed) {
                let read = log.read(0, u64::MAX).expect("a truncation is no error");
                let (_, first, _) = read[0];
                let kept = read.iter().filter(|(term, ..)| *term == 0).count() as u64;
                let (term, ..) = read[read.len() - 1];
                let mut moment = entries(0, first..first + kept);
                if term > 0 {
                    assert_eq!(first + kept, 400, "all that was kept stands before what is new");
                    moment.extend(entries(term, 400..500));
                }
                assert!(term > 0 || [400, 500].contains(&(first + kept)));
                assert!(read == moment, "a mixture: {kept} kept, then {} of term {term}", read.len() as u64 - kept);
                reads += 1;
            }
            reads
        });
        for term in 1..=60 {
            log.truncate_since((0, 400)).expect("truncated");
            log.append_all(&entries(term, 400..500)).expect("appended");
            log.purge_upto((0, term * 6)).expect("purged");
        }
        is_over.store(true, Ordering::Relaxed);
        println!("{} reads", reading.join().expect("no read failed"));
    });
}

#[test]
fn readers_see_one_moment_of_a_log_that_is_cut_0_9() {
    race::<Store9>();
}

#[test]
fn readers_see_one_moment_of_a_log_that_is_cut_0_10() {
    race::<Store10>();
}
