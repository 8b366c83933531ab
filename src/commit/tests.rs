//! Whom a leader waits for, and what is told. How long it waits is bounded from below only: a machine with other work takes
//! longer.

use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::*;

/// A log whose syncs end when they are told to.
#[derive(Debug)]
struct Held {
    written: AtomicU64,
    durable: AtomicU64,
    has_failed: AtomicBool,
    threads: AtomicU64,
    window: Duration,
    begun: Sender<()>,
    end: Mutex<Receiver<()>>,
}

fn position(place: u64) -> Position {
    Position::new(1, place as u32)
}

impl Durable for Held {
    fn tail(&self) -> Position {
        position(self.written.load(Ordering::Acquire))
    }

    fn durable(&self) -> Position {
        position(self.durable.load(Ordering::Acquire))
    }

    fn check(&self) -> Result<()> {
        let failure = || Error::io("sync", Path::new("held"), std::io::Error::other("failed"));
        if self.has_failed.load(Ordering::Acquire) { Err(failure()) } else { Ok(()) }
    }

    fn sync(&self) {
        let tail = self.written.load(Ordering::Acquire);
        self.begun.send(()).expect("the test waits");
        self.end.lock().recv().expect("the test ends it");
        self.durable.store(tail, Ordering::Release);
    }

    fn written(&self) -> (u64, u64) {
        (0, 0)
    }

    fn policy(&self) -> SyncPolicy {
        SyncPolicy::Grouped { window: self.window }
    }

    fn start(&self, _: impl FnOnce() + Send + 'static) -> Result<Option<JoinHandle<()>>> {
        self.threads.fetch_add(1, Ordering::AcqRel);
        Ok(Some(thread::spawn(|| ())))
    }
}

/// With where it is said that a sync has begun, and where to end it.
fn held(window: Duration) -> (Arc<Commits<Held>>, Receiver<()>, Sender<()>) {
    let ((begun, begins), (ends, end)) = (channel(), channel());
    let end = Mutex::new(end);
    let (zero, has_failed) = (AtomicU64::default, AtomicBool::default());
    let log = Held { written: zero(), durable: zero(), has_failed, threads: zero(), window, begun, end };
    (Arc::new(Commits::new(Arc::new(log))), begins, ends)
}

fn time(run: impl FnOnce()) -> Duration {
    let start = Instant::now();
    run();
    start.elapsed()
}

#[test]
fn a_leader_waits_for_those_who_are_expected_and_no_longer_than_the_limit() {
    let (commits, ..) = held(Duration::ZERO);
    commits.present.store(1, Ordering::Release);
    assert!(time(|| commits.gather(2)) >= GATHER, "one of two has not come");
    // The shortest of many, which other work on the machine does not make longer.
    let shortest = |expected| (0..1000).map(|_| time(|| commits.gather(expected))).min().expect("many");
    assert!(shortest(1) < GATHER, "nobody else is expected");
    commits.present.store(2, Ordering::Release);
    assert!(shortest(2) < GATHER, "both are here");
}

#[test]
fn a_leader_waits_as_long_as_the_window_says() {
    let window = Duration::from_millis(3);
    let (commits, ..) = held(window);
    assert!(time(|| commits.gather(0)) >= window);
    commits.present.store(1, Ordering::Release);
    assert!(time(|| commits.gather(2)) >= window + GATHER);
}

/// Two wait for the first sync, one for the second: the leader of that one expects all three, and none is counted twice.
#[test]
fn those_who_share_a_sync_and_those_who_came_meanwhile_are_expected() {
    let (commits, begins, ends) = held(Duration::ZERO);
    let write = || position(commits.log.written.fetch_add(1, Ordering::AcqRel) + 1);
    let waiting = || commits.state.lock().waiting.len();
    let until = |is_so: &dyn Fn() -> bool| {
        while !is_so() {
            thread::yield_now()
        }
    };
    let counts = || (commits.state.lock().expected, commits.present.load(Ordering::Acquire));
    let (first, second) = (write(), write());
    // Nothing is asserted while threads wait to be let go.
    let (all_here, second_leads) = thread::scope(|scope| {
        let wait = |target| {
            let commits = commits.clone();
            scope.spawn(move || commits.wait(target).expect("nothing fails"))
        };
        let leader = wait(first);
        begins.recv().expect("it begins");
        let other = wait(second);
        until(&|| waiting() == 1);
        let third = wait(write());
        until(&|| waiting() == 2);
        let all_here = counts();
        ends.send(()).expect("it waits");
        begins.recv().expect("one of those who are left leads");
        leader.join().expect("it is durable");
        other.join().expect("it is durable");
        let second_leads = counts();
        ends.send(()).expect("it waits");
        third.join().expect("it is durable");
        (all_here, second_leads)
    });
    assert_eq!(all_here, (0, 3));
    assert_eq!(second_leads, (3, 1), "the leader, who shared its sync and who came meanwhile; the new leader");
    assert_eq!(counts(), (1, 0));
}

/// The log fails when the first write is durable and the second is not.
#[test]
fn what_became_durable_before_a_failure_is_told_so() {
    let (commits, ..) = held(Duration::ZERO);
    let (says, told) = channel();
    for place in [1, 2] {
        let says = says.clone();
        let callback = move |outcome: Result<()>| says.send((place, outcome.is_ok())).expect("the test waits");
        assert!(commits.tell(position(place), None, Told::Callback(Box::new(callback))).is_ok(), "it is not durable");
    }
    commits.log.durable.store(1, Ordering::Release);
    commits.log.has_failed.store(true, Ordering::Release);
    commits.end_lead();
    commits.run_inline();
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [(1, true), (2, false)]);
}

#[test]
fn there_is_one_committer_and_none_begins_in_a_closed_log() {
    let (commits, ..) = held(Duration::ZERO);
    let threads = || commits.log.threads.load(Ordering::Acquire);
    for _ in 0..2 {
        commits.request(position(1)).expect("nothing fails");
        assert_eq!(threads(), 1);
    }
    commits.stop(true);
    commits.request(position(2)).expect("nothing fails");
    assert_eq!(threads(), 1);
}
