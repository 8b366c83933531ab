//! What once went wrong between threads. Each test tells what happened; the simulated file system makes the moment wide
//! enough to be met every time.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use casklog::fs::sim::{Fate, Fault, OpKind, SimFs};
use casklog::{Durability, Options, Store, SyncPolicy};

const PATIENCE: Duration = Duration::from_secs(20);

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn on(sim: &SimFs) -> Options {
    Options::new("/log").fs(Arc::new(sim.clone()))
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(ms(2));
    }
}

/// Runs `run` on a thread of its own and does not wait for ever.
fn within<T: Send + 'static>(what: &str, run: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = channel();
    std::thread::spawn(move || sender.send(run()));
    receiver.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("hangs: {what}"))
}

/// Five entries fill segment 1; its next sync fails.
fn before_a_failing_sync() -> (SimFs, Store) {
    let sim = SimFs::new();
    let store = on(&sim).sync(SyncPolicy::None).mapped(false).segment_entries(5).open().unwrap();
    for index in 1..=5u64 {
        store.write(index, "k", &index).unwrap();
    }
    let spare = Path::new("/log/segment_00000000000000000002.log");
    eventually("the next segment is ready", || sim.read_file(spare).is_some_and(|bytes| bytes.len() > 64));
    eventually("the manifest knows it", || sim.dir_syncs() >= 4 || store.stats().tail.offset() > 0);
    sim.set_sync_delay(ms(300));
    sim.inject(Fault::new(OpKind::Sync, 5).on("00001.log"));
    (sim, store)
}

/// Nobody asks the disk again to sync the segment whose sync failed.
fn assert_not_synced_again(sim: &SimFs) {
    let names: Vec<String> = (0..sim.ops()).map(|op| sim.op_name(op)).filter(|op| op.contains("00001.log")).collect();
    let failed = names.iter().position(|op| op.starts_with("failed sync")).expect("the fault was met");
    assert!(!names[failed + 1..].iter().any(|op| op.contains("sync")), "{:?}", &names[failed..]);
}

/// The keeper's sync of a rotated segment failed while a caller's sync waited for its turn at the same file; that one
/// went to the kernel again, got the lie that all is well, and acknowledged what was gone.
#[test]
fn a_sync_that_failed_for_the_keeper_is_not_tried_again_by_a_caller() {
    let (sim, store) = before_a_failing_sync();
    store.write(6, "k", &6).unwrap();
    eventually("the keeper meets the fault", || {
        let _ = store.sync();
        sim.faults_hit() == 1
    });
    assert!(store.sync().is_err());
    assert_eq!(store.stats().durable.segment(), 0, "nothing is known to be durable");
    assert_not_synced_again(&sim);
    let found = sim.crash_at(sim.ops(), &mut |_| Fate::Lost);
    on(&found).open().expect("what was never acknowledged as durable may go");
}

/// The same the other way round: the caller's sync failed, the keeper's was believed and its W went into the manifest, so
/// that a power cut left a log that called itself damaged.
#[test]
fn a_sync_that_failed_for_a_caller_is_not_tried_again_by_the_keeper() {
    let (sim, store) = before_a_failing_sync();
    let caller = std::thread::spawn({
        let store = store.clone();
        move || store.sync()
    });
    std::thread::sleep(ms(50));
    let _ = store.write(6, "k", &6);
    assert!(caller.join().unwrap().is_err());
    eventually("the store has stopped", || store.writable().is_err());
    assert_eq!(store.stats().durable.segment(), 0);
    assert!(!store.get(3).unwrap().unwrap().is_durable());
    let _ = store.close();
    assert_not_synced_again(&sim);
    on(&sim.crash_at(sim.ops(), &mut |_| Fate::Lost)).open().expect("nothing durable is missing");
}

/// The period ran out while another thread led a sync; when that ended nobody remembered the write behind its tail.
#[test]
fn a_period_that_ends_during_another_sync_is_made_up_for() {
    let sim = SimFs::new();
    let policy = SyncPolicy::Periodic { every: ms(50), entries: 1000, bytes: 1 << 20 };
    let store = on(&sim).sync(policy).open().unwrap();
    store.write(1, "k", &1).unwrap();
    store.sync().unwrap();
    sim.set_sync_delay(ms(300));
    let other = std::thread::spawn({
        let store = store.clone();
        move || store.write_with(2, "k", &2, Durability::Synced).unwrap()
    });
    std::thread::sleep(ms(150));
    let position = store.write(3, "k", &3).unwrap();
    other.join().unwrap();
    eventually("the last write is durable", || store.stats().durable > position);
    store.close().unwrap();
}

/// Who asked a commit only after the store was gone was put on a list that nobody reads any more.
#[test]
fn a_commit_that_outlives_its_store_gets_an_answer() {
    let sim = SimFs::new();
    let store = on(&sim).sync(SyncPolicy::None).open().unwrap();
    store.write(1, "k", &1).unwrap();
    sim.set_sync_delay(ms(100));
    let commits = [store.submit(2, "k", &2).unwrap(), store.submit(3, "k", &3).unwrap()];
    drop(store);
    for commit in commits {
        let (sender, receiver) = channel();
        commit.on_durable(move |outcome| drop(sender.send(outcome)));
        receiver.recv_timeout(PATIENCE).expect("it is told, one way or the other").ok();
    }
}

/// `close` held a lock while it joined the thread on which a callback waited for that lock.
#[test]
fn a_callback_may_close_the_store_while_it_is_being_closed() {
    let sim = SimFs::new();
    let store = on(&sim).open().unwrap();
    store.write(1, "k", &1).unwrap();
    sim.set_sync_delay(ms(100));
    let commit = store.submit(2, "k", &2).unwrap();
    let inner = store.clone();
    commit.on_durable(move |_| {
        std::thread::sleep(ms(50));
        inner.close().unwrap();
    });
    within("close", move || store.close().unwrap());
}

/// A truncation between the two looks that begin an iterator made it empty, without an error.
#[test]
fn an_iterator_that_a_truncation_races_is_not_empty() {
    let sim = SimFs::new();
    let store = on(&sim).sync(SyncPolicy::None).open().unwrap();
    for index in 1..=200u64 {
        store.write(index, "k", &index).unwrap();
    }
    let stops = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for index in 201.. {
                if stops.load(Ordering::Relaxed) {
                    break;
                }
                store.write(index, "k", &index).unwrap();
                store.truncate_before(index - 100).unwrap();
            }
        });
        let start = Instant::now();
        let mut empty = 0;
        while start.elapsed() < ms(700) {
            empty += u32::from(store.iter().next().is_none());
        }
        stops.store(true, Ordering::Relaxed);
        assert_eq!(empty, 0, "the log held a hundred entries all the time");
    });
    store.close().unwrap();
}

/// After a reopen the age of a segment was counted from its begin, and retention took fresh entries.
#[test]
fn the_age_of_a_segment_counts_from_its_last_write_after_a_reopen_too() {
    let dir = tempfile::tempdir().unwrap();
    let store = Options::new(dir.path()).open().unwrap();
    store.write(1, "k", &1).unwrap();
    std::thread::sleep(ms(1250));
    store.write(2, "k", &2).unwrap();
    store.rotate().unwrap();
    store.write(3, "k", &3).unwrap();
    store.close().unwrap();
    let wrote = Instant::now();
    let store = Options::new(dir.path()).max_age(ms(1000)).open().unwrap();
    while wrote.elapsed() < ms(450) {
        assert!(store.contains(2), "removed {:?} after it was written", wrote.elapsed());
        std::thread::sleep(ms(20));
    }
    eventually("old segments go", || !store.contains(2));
    store.close().unwrap();
}

/// A while after a clean open the keeper wrote down what the manifest says already, and the log was clean no more.
#[test]
fn idleness_changes_nothing_in_a_clean_log() {
    let sim = SimFs::new();
    let store = on(&sim).open().unwrap();
    store.write(1, "k", &1).unwrap();
    store.close().unwrap();
    let store = on(&sim).open().unwrap();
    let ops = sim.ops();
    store.idle().unwrap();
    std::thread::sleep(ms(250));
    store.close().unwrap();
    assert_eq!(sim.ops(), ops, "{}", sim.op_name(ops));
}

/// The process ended between a truncation and the retirement of what it had emptied: nobody looked again.
#[test]
fn segments_that_were_empty_before_a_crash_go_after_it() {
    let sim = SimFs::new();
    let open = |sim: &SimFs| on(sim).background(false).segment_entries(10).open().unwrap();
    let store = open(&sim);
    for index in 1..=100u64 {
        store.write(index, "k", &index).unwrap();
    }
    let before = sim.ops();
    store.truncate_before(95).unwrap();
    assert!(store.segments().len() <= 2);
    let names: Vec<String> = (before..sim.ops()).map(|op| sim.op_name(op)).collect();
    let synced = before + names.iter().position(|name| name.starts_with("sync")).expect("the truncation is synced") + 1;
    let found = sim.crash_at(synced, &mut |_| Fate::Kept);
    let store = open(&found);
    assert_eq!(store.first_index(), Some(95));
    assert!(store.segments().len() <= 2, "{}", store.segments().len());
    store.close().unwrap();
}

/// Padding for `sync_align` after an idle watermark went past the space made ready, and stopped a healthy store.
#[test]
fn idleness_at_the_end_of_the_prepared_space_stops_nothing() {
    for mapped in [true, false] {
        let sim = SimFs::new();
        let options = || on(&sim).sync(SyncPolicy::None).mapped(mapped).sync_align(4096).segment_bytes(1_000_000);
        let store = options().background(false).open().unwrap();
        let mut index = 0;
        while store.stats().tail.offset() < 990_000 && store.segments().len() == 1 {
            index += 1;
            store.write_bytes(index, "k", [7; 900]).unwrap();
        }
        store.sync().unwrap();
        store.idle().unwrap();
        store.idle().unwrap();
        store.writable().unwrap();
        store.write_bytes(index + 1, "k", [7; 900]).unwrap();
        store.close().unwrap();
    }
}

/// Room for all descriptors was once taken at once.
#[test]
fn any_number_of_open_files_is_a_limit_and_no_reservation() {
    let dir = tempfile::tempdir().unwrap();
    let store = casklog::Options::new(dir.path()).max_open_files(usize::MAX).open().unwrap();
    store.append("k", "v").unwrap();
    store.close().unwrap();
}
