//! What a write costs, counted and never timed: syncs through the file system seam, system calls through strace.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use casklog::fs::sim::SimFs;
use casklog::{Durability, Options, Store, SyncPolicy};

fn on(sim: &SimFs) -> Options {
    Options::new("/log").fs(Arc::new(sim.clone()))
}

#[test]
fn sixteen_durable_writers_share_each_sync_among_four_writes_or_more() {
    const THREADS: u64 = 16;
    const WRITES: u64 = 100;
    let sim = SimFs::new();
    let store = on(&sim).open().unwrap();
    store.append("warm", &0).unwrap();
    sim.set_sync_delay(Duration::from_micros(300));
    let before = sim.file_syncs();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let store = store.clone();
            scope.spawn(move || {
                for write in 0..WRITES {
                    let appended = store.append(format!("{thread}"), &write).unwrap();
                    assert!(store.stats().durable > appended.position, "it is durable when it returns");
                }
            });
        }
    });
    let syncs = sim.file_syncs() - before;
    assert!(syncs * 4 <= THREADS * WRITES, "{syncs} syncs for {} writes", THREADS * WRITES);
    store.close().unwrap();
}

#[test]
fn a_lone_durable_writer_syncs_once_a_write() {
    for policy in [SyncPolicy::Immediate, SyncPolicy::default()] {
        let sim = SimFs::new();
        let store = on(&sim).sync(policy).background(false).open().unwrap();
        store.append("warm", &0).unwrap();
        let before = sim.file_syncs();
        for write in 0..100 {
            store.append("k", &write).unwrap();
        }
        assert_eq!(sim.file_syncs() - before, 100, "{policy}");
        store.close().unwrap();
    }
}

/// The kernel counts the reads of a descriptor in one place, for which threads would wait.
#[test]
fn threads_that_read_have_up_to_four_descriptors_of_a_segment_and_one_where_there_is_no_room() {
    let open_after_reads = |max_open_files| {
        let sim = SimFs::new();
        let store = on(&sim).cache_bytes(0).max_open_files(max_open_files).open().unwrap();
        let first = store.append("k", &1).unwrap().index;
        store.rotate().unwrap();
        store.append("k", &2).unwrap();
        store.close().unwrap();
        let store = on(&sim).cache_bytes(0).max_open_files(max_open_files).open().unwrap();
        let before = sim.open_files();
        for _ in 0..64 {
            std::thread::scope(|scope| _ = scope.spawn(|| store.get(first).unwrap().unwrap()));
        }
        let after = sim.open_files();
        store.close().unwrap();
        assert_eq!(sim.open_files(), 0);
        after - before
    };
    assert_eq!(open_after_reads(256), 4);
    assert_eq!(open_after_reads(1), 1);
}

#[test]
fn a_write_that_asks_for_no_sync_causes_none() {
    let sim = SimFs::new();
    let store = on(&sim).background(false).open().unwrap();
    store.append("warm", &0).unwrap();
    let before = sim.file_syncs();
    for write in 0..100 {
        store.append_with("k", &write, Durability::Written).unwrap();
    }
    assert_eq!(sim.file_syncs(), before);
    store.append_with("k", &0, Durability::Synced).unwrap();
    assert_eq!(sim.file_syncs(), before + 1, "one sync makes all before it durable");
    assert_eq!(store.stats().durable, store.stats().tail);
    store.close().unwrap();
}

const CHILD: &str = "CASKLOG_COST_CHILD";
const APPENDS: u64 = 10_000;

/// The traced half of the test below: appends between two marks on its standard error.
#[test]
fn appends_between_marks() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let open = || -> Store { Options::new(Path::new(&dir)).sync(SyncPolicy::None).open().unwrap() };
    let store = open();
    store.append("warm", &0u64).unwrap();
    // The keeper makes the segment grow at once, so that no wish falls between the marks.
    for n in 0..APPENDS {
        store.append("k", &n).unwrap();
    }
    eprintln!("MARK begin");
    for n in 0..APPENDS {
        store.append("k", &n).unwrap();
    }
    eprintln!("MARK end");
    store.close().unwrap();
}

#[test]
fn an_append_without_sync_makes_no_system_call() {
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("trace");
    let me = std::env::current_exe().unwrap();
    let run = Command::new("strace")
        .args(["-f", "-o"])
        .arg(&trace)
        .arg(me)
        .args(["appends_between_marks", "--exact", "--nocapture"])
        .env(CHILD, dir.path().join("log"))
        .output();
    let output = match run {
        Ok(output) if output.status.success() => output,
        other => {
            println!("SKIPPED: strace cannot trace here: {other:?}");
            return;
        }
    };
    drop(output);
    let trace = std::fs::read_to_string(&trace).unwrap();
    let mark = |line: &str, what: &str| line.contains("write(2") && line.contains(what);
    let begin = trace.lines().position(|line| mark(line, "MARK begin")).expect("the begin mark is traced");
    let end = trace.lines().position(|line| mark(line, "MARK end")).expect("the end mark is traced");
    let thread = trace.lines().nth(begin).unwrap().split_whitespace().next().unwrap();
    let calls: Vec<&str> =
        trace.lines().skip(begin + 1).take(end - begin - 1).filter(|line| line.starts_with(thread)).collect();
    // The keeper is woken when there is something to prepare: a handful of times, whatever the number of appends.
    assert!(calls.len() < 20, "{} calls for {APPENDS} appends: {:#?}", calls.len(), &calls[..20]);
}
