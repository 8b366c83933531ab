//! The threads behind a store rest while there is nothing to do, and end when the store does, from wherever that is.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use casklog::fs::sim::SimFs;
use casklog::{Error, Options, Store, SyncPolicy};

/// One at a time: the time of the whole process is measured.
static ALONE: Mutex<()> = Mutex::new(());

fn open(sim: &SimFs, sync: SyncPolicy) -> Store {
    Options::new("/log").fs(Arc::new(sim.clone())).sync(sync).open().expect("a new log")
}

fn policies() -> [SyncPolicy; 4] {
    let rarely = SyncPolicy::Periodic { every: Duration::from_secs(600), entries: 1 << 30, bytes: 1 << 40 };
    let often = SyncPolicy::Periodic { every: Duration::from_millis(20), entries: 1 << 30, bytes: 1 << 40 };
    [SyncPolicy::None, SyncPolicy::Immediate, rarely, often]
}

/// Ticks of a hundredth of a second that this process has run.
#[cfg(target_os = "linux")]
fn ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("there is one");
    let fields: Vec<&str> = stat.rsplit_once(')').expect("a name").1.split_whitespace().collect();
    // utime and stime, the 14th and the 15th; the first two stand before the bracket.
    [11, 12].iter().map(|place| fields[*place].parse::<u64>().expect("a number")).sum()
}

/// How often its threads have gone to sleep.
#[cfg(target_os = "linux")]
fn rests() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("there is one");
    let status = tasks.map(|task| std::fs::read_to_string(task.expect("a thread").path().join("status")));
    let lines: String = status.filter_map(Result::ok).collect();
    let counts = lines.lines().filter_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    counts.map(|count| count.trim().parse::<u64>().expect("a number")).sum()
}

#[test]
#[cfg(target_os = "linux")]
fn threads_with_nothing_to_do_take_no_processor_time() {
    let _alone = ALONE.lock();
    let stores = policies().map(|sync| open(&SimFs::new(), sync));
    for (store, index) in stores.iter().flat_map(|store| (1..=20u64).map(move |index| (store, index))) {
        store.write(index, "k", &index).expect("written");
    }
    std::thread::sleep(Duration::from_millis(100));
    let before = (ticks(), rests());
    std::thread::sleep(Duration::from_millis(400));
    let (ticks, rests) = (ticks() - before.0, rests() - before.1);
    println!("{ticks} ticks, {rests} rests");
    assert!(ticks < 10 && rests < 20, "{ticks} of 40 ticks, awake {rests} times");
    stores.iter().for_each(|store| store.close().expect("closed"));
}

#[test]
fn a_callback_may_close_the_store() {
    let _alone = ALONE.lock();
    for sync in policies() {
        let store = open(&SimFs::new(), sync);
        let (done, told) = channel();
        let closing = store.clone();
        let commit = store.submit(1, "k", &1).expect("written");
        commit.on_durable(move |outcome| done.send((outcome, closing.close())).expect("somebody waits"));
        // By now it may have done so.
        assert!(matches!(store.sync(), Ok(()) | Err(Error::Closed)));
        let (outcome, closed) = told.recv_timeout(Duration::from_secs(60)).expect("close comes back");
        assert!(outcome.is_ok() && closed.is_ok(), "{sync:?}: {outcome:?}, {closed:?}");
        assert!(store.write(2, "k", &2).is_err(), "it is closed");
    }
}
