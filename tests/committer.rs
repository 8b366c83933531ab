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

/// A callback whose write was durable when it was registered used to run at once, while one that was registered before it
/// had not been called yet.
#[test]
fn callbacks_are_called_in_the_order_in_which_they_were_registered() {
    let _alone = ALONE.lock();
    let store = open(&SimFs::new(), SyncPolicy::default());
    let (events, calls) = channel();
    let (open_gate, gate) = channel::<()>();
    let first = events.clone();
    store.submit(1, "k", &1).expect("written").on_durable(move |outcome| {
        first.send("first begins").expect("somebody listens");
        gate.recv().expect("it is opened");
        first.send("first ends").expect("somebody listens");
        outcome.expect("durable");
    });
    assert_eq!(calls.recv().expect("called"), "first begins");
    for (index, name) in [(2, "second"), (3, "third")] {
        let commit = store.submit(index, "k", &index).expect("written");
        commit.wait().expect("durable");
        let events = events.clone();
        commit.on_durable(move |_| events.send(name).expect("somebody listens"));
    }
    assert!(calls.try_recv().is_err(), "the first is not over");
    open_gate.send(()).expect("it waits");
    store.close().expect("closed");
    assert_eq!(calls.try_iter().collect::<Vec<_>>(), ["first ends", "second", "third"]);
}

#[test]
fn a_sync_that_is_submitted_tells_when_all_before_it_is_durable() {
    let _alone = ALONE.lock();
    let sim = SimFs::new();
    let store = open(&sim, SyncPolicy::None);
    store.write(1, "k", &1).expect("written");
    let commit = store.submit_sync().expect("submitted");
    assert!(commit.positions().is_empty());
    let (done, told) = channel();
    commit.on_durable(move |outcome| done.send(outcome).expect("somebody waits"));
    told.recv_timeout(Duration::from_secs(60)).expect("told").expect("durable");
    assert_eq!(store.stats().durable, store.stats().tail);
    let found = sim.crash_at(sim.ops(), &mut |_| casklog::fs::sim::Fate::Lost);
    assert!(open(&found, SyncPolicy::None).contains(1), "it was durable");
    store.close().expect("closed");
    assert!(matches!(store.submit_sync(), Err(Error::Closed)));
}

/// A callback that panicked used to be the last one: those behind it were never called, nor was any that came later, and
/// close did not come back.
#[test]
fn a_callback_that_panics_keeps_nobody_else_from_being_told() {
    let _alone = ALONE.lock();
    for has_threads in [true, false] {
        let sim = SimFs::new();
        let store = Options::new("/log").fs(Arc::new(sim)).background(has_threads).open().expect("a new log");
        let (done, told) = channel();
        let commits = [1, 2, 3].map(|index| store.submit(index, "k", &index).expect("written"));
        for (index, commit) in (1..).zip(commits) {
            let done = done.clone();
            commit.on_durable(move |outcome| {
                assert_ne!(index, 1, "a callback that panics");
                done.send((index, outcome.is_ok())).expect("somebody waits");
            });
        }
        store.sync().expect("synced: the panic is not the caller's");
        let is_known = store.submit(4, "k", &4).expect("written");
        is_known.wait().expect("durable");
        is_known.on_durable(|_| panic!("a callback that panics within the call"));
        let last = done.clone();
        let commit = store.submit(5, "k", &5).expect("written");
        commit.on_durable(move |outcome| last.send((5, outcome.is_ok())).expect("somebody waits"));
        let next = || told.recv_timeout(Duration::from_secs(20)).expect("it is called");
        assert_eq!([next(), next()], [(2, true), (3, true)], "{has_threads}");
        // Nobody but close does it where there are no threads.
        store.close().expect("closed");
        assert_eq!(next(), (5, true), "{has_threads}");
    }
}
