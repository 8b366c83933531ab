//! The commit protocol under the model checker loom, which tries the orders of steps of a few threads, those with a few
//! forced switches between them:
//! `RUSTFLAGS="--cfg casklog_loom" cargo test --release -p casklog --lib models`.
//!
//! * Who is told that a write is durable is told the truth, and everybody is told, once.
//! * One sync is in flight at a time, and none follows one that failed.
//! * Nobody sleeps for ever: loom fails where all threads wait.

use std::sync::Arc;
use std::time::Duration;

use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;

/// A log of which only the end is of interest.
#[derive(Debug, Default)]
struct Model {
    written: AtomicU64,
    on_disk: AtomicU64,
    durable: AtomicU64,
    has_failed: AtomicBool,
    is_syncing: AtomicBool,
    syncs: AtomicU64,
    /// This sync fails.
    fails: Option<u64>,
    /// Nobody asks for a sync, and the period between two is over as soon as it begins.
    is_periodic: bool,
    /// For who waits for the end of a sync of which nobody tells him.
    syncing: Mutex<()>,
    synced: Condvar,
}

fn position(place: u64) -> Position {
    Position::new(1, place as u32)
}

fn failure() -> Error {
    Error::io("sync", std::path::Path::new("model"), std::io::Error::other("failed"))
}

impl Model {
    fn write(&self) -> u64 {
        self.written.fetch_add(1, Ordering::AcqRel) + 1
    }

    fn is_on_disk(&self, place: u64) -> bool {
        self.on_disk.load(Ordering::Acquire) >= place
    }
}

impl Durable for Model {
    fn tail(&self) -> Position {
        position(self.written.load(Ordering::Acquire))
    }

    fn durable(&self) -> Position {
        position(self.durable.load(Ordering::Acquire))
    }

    fn check(&self) -> Result<()> {
        if self.has_failed.load(Ordering::Acquire) { Err(failure()) } else { Ok(()) }
    }

    fn sync(&self) {
        assert!(!self.is_syncing.swap(true, Ordering::AcqRel), "two syncs at once");
        if self.check().is_ok() {
            let tail = self.written.load(Ordering::Acquire);
            if Some(self.syncs.fetch_add(1, Ordering::AcqRel)) == self.fails {
                self.has_failed.store(true, Ordering::Release);
            } else {
                self.on_disk.store(tail, Ordering::Release);
                self.durable.store(tail, Ordering::Release);
            }
        }
        self.is_syncing.store(false, Ordering::Release);
        drop(self.syncing.lock());
        self.synced.notify_all();
    }

    fn written(&self) -> (u64, u64) {
        (0, 0)
    }

    fn policy(&self) -> SyncPolicy {
        match self.is_periodic {
            true => SyncPolicy::Periodic { every: Duration::ZERO, entries: u64::MAX, bytes: u64::MAX },
            false => SyncPolicy::Grouped { window: Duration::ZERO },
        }
    }

    fn start(&self, run: impl FnOnce() + Send + 'static) -> Result<Option<JoinHandle<()>>> {
        Ok(Some(thread::spawn(run)))
    }
}

/// Every order with at most so many forced switches; loom tries the others, too, where a thread waits or ends.
fn check(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

fn commits(fails: Option<u64>) -> Arc<Commits<Model>> {
    Arc::new(Commits::new(Arc::new(Model { fails, ..Model::default() })))
}

fn write_and_wait(commits: &Commits<Model>) {
    let place = commits.log.write();
    match commits.wait(position(place)) {
        Ok(()) => assert!(commits.log.is_on_disk(place), "acknowledged and not durable"),
        Err(_) => assert!(commits.log.check().is_err(), "an error without a failure"),
    }
}

fn writers(count: usize, fails: Option<u64>) {
    let commits = commits(fails);
    let others: Vec<_> = (1..count)
        .map(|_| {
            let commits = commits.clone();
            thread::spawn(move || write_and_wait(&commits))
        })
        .collect();
    write_and_wait(&commits);
    others.into_iter().for_each(|thread| thread.join().unwrap());
    let syncs = commits.log.syncs.load(Ordering::Acquire);
    let most = fails.map_or(count as u64, |fails| fails + 1);
    assert!((1..=most).contains(&syncs), "{syncs} syncs for {count} writes");
}

#[test]
fn two_writers_share_syncs_and_are_told_the_truth() {
    check(4, || writers(2, None));
}

#[test]
fn three_writers_share_syncs_and_are_told_the_truth() {
    check(2, || writers(3, None));
}

#[test]
fn a_failed_sync_is_told_to_all_and_is_the_last() {
    check(3, || writers(2, Some(0)));
    check(2, || writers(3, Some(0)));
    check(2, || writers(3, Some(1)));
}

/// Somebody else's sync or write fails, of a rotated segment for instance, while three writers wait for theirs: the one
/// that is woken to lead may find the log failed.
#[test]
fn a_failure_elsewhere_is_told_to_all() {
    check(2, || {
        let commits = commits(None);
        let spawn = |run: fn(&Commits<Model>)| {
            let commits = commits.clone();
            thread::spawn(move || run(&commits))
        };
        let others = [
            spawn(write_and_wait),
            spawn(write_and_wait),
            spawn(|commits| commits.log.has_failed.store(true, Ordering::Release)),
        ];
        write_and_wait(&commits);
        others.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn one_who_writes_twice_and_one_who_writes_once() {
    check(3, || {
        let commits = commits(None);
        let other = commits.clone();
        let other = thread::spawn(move || write_and_wait(&other));
        write_and_wait(&commits);
        write_and_wait(&commits);
        other.join().unwrap();
    });
}

/// Asks for a commit with a callback; returns how often it was called.
fn submit(commits: &Arc<Commits<Model>>) -> Arc<AtomicU64> {
    submit_behind(commits, None)
}

/// As [`submit`]; the callback of `earlier` must have been called before.
fn submit_behind(commits: &Arc<Commits<Model>>, earlier: Option<Arc<AtomicU64>>) -> Arc<AtomicU64> {
    let calls = Arc::new(AtomicU64::new(0));
    let place = commits.log.write();
    let (told, model) = (calls.clone(), commits.log.clone());
    let callback = Told::Callback(Box::new(move |outcome: Result<()>| {
        assert!(outcome.is_err() || model.is_on_disk(place), "acknowledged and not durable");
        assert!(earlier.is_none_or(|earlier| earlier.load(Ordering::Acquire) == 1), "called before an earlier one");
        told.fetch_add(1, Ordering::AcqRel);
    }));
    commits.request(position(place)).unwrap();
    if let Err(told) = commits.tell(position(place), None, callback) {
        told.tell(commits.outcome(position(place)));
    }
    calls
}

#[test]
fn a_callback_is_called_once_whether_its_sync_succeeds_or_not() {
    for fails in [None, Some(0)] {
        check(2, move || {
            let commits = commits(fails);
            let calls = submit(&commits);
            commits.stop(true);
            assert_eq!(calls.load(Ordering::Acquire), 1);
        });
    }
}

#[test]
fn a_callback_is_called_once_beside_a_writer_that_waits() {
    for fails in [None, Some(0)] {
        check(2, move || {
            let commits = commits(fails);
            let other = commits.clone();
            let other = thread::spawn(move || write_and_wait(&other));
            let calls = submit(&commits);
            other.join().unwrap();
            commits.stop(true);
            assert_eq!(calls.load(Ordering::Acquire), 1);
        });
    }
}

/// The second write may be durable when its callback is registered, while the first callback is yet to be called.
#[test]
fn callbacks_are_called_in_the_order_in_which_they_were_registered() {
    let in_order = |close: bool| {
        let commits = commits(None);
        let other = commits.clone();
        let other = thread::spawn(move || if close { other.stop(true) } else { write_and_wait(&other) });
        let first = submit(&commits);
        let second = submit_behind(&commits, Some(first.clone()));
        other.join().unwrap();
        commits.stop(true);
        assert_eq!((first.load(Ordering::Acquire), second.load(Ordering::Acquire)), (1, 1));
    };
    check(2, move || in_order(false));
    check(2, move || in_order(true));
}

/// Nobody closes the log: the callback comes by itself, also where the sync fails.
#[test]
fn a_callback_comes_beside_a_writer_that_leads() {
    let comes = |fails: Option<u64>| {
        let commits = commits(fails);
        let other = commits.clone();
        let other = thread::spawn(move || write_and_wait(&other));
        let place = commits.log.write();
        let called = Arc::new((Mutex::<bool>::default(), Condvar::new()));
        let told = called.clone();
        let callback = Told::Callback(Box::new(move |_: Result<()>| {
            *told.0.lock() = true;
            told.1.notify_all();
        }));
        commits.request(position(place)).unwrap();
        match commits.tell(position(place), None, callback) {
            Ok(_) => {
                let mut is_called = called.0.lock();
                while !*is_called {
                    called.1.wait(&mut is_called);
                }
            }
            Err(told) => told.tell(Ok(())),
        }
        other.join().unwrap();
        commits.stop(true);
    };
    check(3, move || comes(None));
    check(2, move || comes(Some(0)));
}

#[test]
fn a_callback_is_called_once_when_the_log_is_closed_meanwhile() {
    check(2, || {
        let commits = commits(None);
        let other = commits.clone();
        let other = thread::spawn(move || other.stop(true));
        let calls = submit(&commits);
        other.join().unwrap();
        commits.stop(true);
        assert_eq!(calls.load(Ordering::Acquire), 1);
    });
}

/// Writes and does not wait for a sync: it comes by itself, or fails.
fn write_and_watch(commits: &Arc<Commits<Model>>) {
    let place = commits.log.write();
    commits.placed(position(place)).unwrap();
    let mut syncing = commits.log.syncing.lock();
    while !commits.log.is_on_disk(place) && commits.log.check().is_ok() {
        commits.log.synced.wait(&mut syncing);
    }
}

fn periodic(fails: Option<u64>) -> Arc<Commits<Model>> {
    let commits = Arc::new(Commits::new(Arc::new(Model { fails, is_periodic: true, ..Model::default() })));
    commits.start_periodic().unwrap();
    commits
}

/// A write that comes while the committer goes to rest is made durable all the same, and by itself.
#[test]
fn what_was_written_becomes_durable_when_its_period_is_over() {
    for fails in [None, Some(0)] {
        check(3, move || {
            let commits = periodic(fails);
            write_and_watch(&commits);
            write_and_watch(&commits);
            commits.stop(true);
        });
    }
}

/// The sync that somebody else asked for covers the write of this one, or the next period does.
#[test]
fn what_was_written_beside_a_writer_that_waits_becomes_durable_when_its_period_is_over() {
    for fails in [None, Some(0)] {
        check(2, move || {
            let commits = periodic(fails);
            let other = commits.clone();
            let other = thread::spawn(move || write_and_wait(&other));
            write_and_watch(&commits);
            other.join().unwrap();
            commits.stop(true);
        });
    }
}
