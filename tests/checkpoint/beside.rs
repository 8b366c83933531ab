//! Copies of a log that is being written to at the same time, with rotation and retention going on: by a store in the same
//! process, and by one in another.
#![cfg(unix)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use casklog::{Error, Options, Position, Reader, Store, SyncPolicy};

use crate::common::{indexes, write_each};

fn options(dir: &Path) -> Options {
    Options::new(dir).sync(SyncPolicy::None).segment_entries(40).max_segments(6)
}

fn writes_until(store: &Store, ends: &AtomicBool) {
    while !ends.load(Ordering::Relaxed) {
        let next = store.next_index().unwrap();
        write_each(store, next..next + 7);
        if next.is_multiple_of(5) {
            store.sync().unwrap();
        }
    }
}

/// A copy is made again and again, and is each time a log without a hole, which never goes back.
fn copies(mut source: impl FnMut(usize) -> Reader, to: &Path, time: Duration) -> u64 {
    let (mut made, mut overtaken, mut last) = (0, 0, Position::default());
    let deadline = Instant::now() + time;
    for round in 0.. {
        if Instant::now() > deadline {
            break;
        }
        let end = match source(round).checkpoint(to) {
            Ok(checkpoint) if checkpoint.segments == 0 => continue,
            Ok(checkpoint) => checkpoint.end,
            // Retention was faster, ten times in a row.
            Err(Error::Removed { .. }) => {
                overtaken += 1;
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        made += 1;
        assert!(end >= last, "{end} behind {last}");
        last = end;
        let reader = Options::new(to).open_read_only().unwrap();
        let report = reader.recovery_report();
        assert!(report.is_clean && report.end == end && report.strays.is_empty(), "{report:?}");
        let found = indexes(&reader);
        assert!(found.windows(2).all(|pair| pair[1] == pair[0] + 1), "a hole: {found:?}");
        for index in [found.first(), found.last()].into_iter().flatten() {
            crate::log::assert_entry(&reader, *index);
        }
        if round % 8 == 0 {
            assert!(!reader.verify().unwrap().is_damaged());
        }
    }
    println!("{made} copies, {overtaken} overtaken by retention");
    made
}

#[test]
fn a_store_that_is_written_to_is_copied() {
    let (dir, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = options(dir.path()).open().unwrap();
    let ends = AtomicBool::new(false);
    let made = std::thread::scope(|scope| {
        scope.spawn(|| writes_until(&store, &ends));
        let reader = |_| Reader::clone(&store);
        let made = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            copies(reader, to.path(), Duration::from_millis(700))
        }));
        ends.store(true, Ordering::Relaxed);
        made
    });
    assert!(made.expect("as above") > 0);
    store.close().unwrap();
    assert!(!Options::new(dir.path()).open().unwrap().verify().unwrap().is_damaged());
}

/// The writing process: this test, run by the next one.
#[test]
fn child_process() {
    let Some(dir) = std::env::var_os("CASKLOG_CHECKPOINT_CHILD") else { return };
    let ends = AtomicBool::new(false);
    let store = options(Path::new(&dir)).open().unwrap();
    write_each(&store, 1..=50);
    println!("\nopen");
    std::io::stdout().flush().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            ends.store(true, Ordering::Relaxed);
        });
        writes_until(&store, &ends);
    });
    store.close().unwrap();
}

#[test]
fn a_log_that_another_process_writes_is_copied() {
    let (dir, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["beside::child_process", "--exact", "--nocapture", "--test-threads=1"])
        .env("CASKLOG_CHECKPOINT_CHILD", dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line == "open"));
    // By a reader that was opened just now, and by one that was opened long ago.
    let shared = Options::new(dir.path()).open_read_only().unwrap();
    let reader = |round: usize| match round % 2 {
        0 => shared.clone(),
        _ => Options::new(dir.path()).open_read_only().unwrap(),
    };
    let made = copies(reader, to.path(), Duration::from_millis(1500));
    drop(child.stdin.take());
    // What it says at the end must find somebody who listens.
    lines.for_each(drop);
    assert!(child.wait().unwrap().success());
    assert!(made > 0, "{made}");
    shared.checkpoint(to.path()).unwrap();
    let copy = Options::new(to.path()).open_read_only().unwrap();
    shared.refresh().unwrap();
    assert_eq!(indexes(&copy), indexes(&shared));
}
