//! How a follower waits, is woken, and ends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use casklog::fs::sim::SimFs;
use casklog::{Follow, Store};

use crate::common::{PATIENCE, Seen, ms, next, there, threaded, write};

fn open() -> Store {
    threaded(&SimFs::new()).open().unwrap()
}

#[test]
fn a_time_out_is_kept() {
    let store = open();
    let mut follow = store.follow(1).unwrap();
    for timeout in [ms(0), ms(1), ms(30)] {
        let start = Instant::now();
        assert!(follow.next_timeout(timeout).unwrap().is_none());
        assert!(start.elapsed() >= timeout, "{:?} is too early", start.elapsed());
        assert!(start.elapsed() < timeout + PATIENCE / 4, "{:?} is too late", start.elapsed());
    }
    write(&store, 1..=1, 1);
    assert_eq!(Seen::of(follow.next_timeout(ms(0)).map(Option::unwrap)), Seen::Put(1, 1));
    // So long that the clock cannot count it: as if there were none.
    write(&store, 2..=2, 1);
    assert_eq!(Seen::of(follow.next_timeout(Duration::MAX).map(Option::unwrap)), Seen::Put(2, 1));
    store.close().unwrap();
}

/// A writer that tells of one thing after the other, none of which is for this follower.
#[test]
fn a_time_out_is_kept_while_the_log_grows() {
    let store = open();
    let stops = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut index = 1;
            while !stops.load(Ordering::Relaxed) {
                write(&store, index..=index, 1);
                index += 1;
            }
        });
        for _ in 0..20 {
            let mut follow = store.follow(0).unwrap().durable_only(true);
            let start = Instant::now();
            let item = follow.next_timeout(ms(5)).unwrap();
            let took = start.elapsed();
            stops.fetch_or(took > ms(2000), Ordering::Relaxed);
            assert!(item.is_none(), "nothing was synced: {item:?}");
            assert!(took >= ms(5) && took < ms(2000), "{took:?}");
        }
        stops.store(true, Ordering::Relaxed);
    });
    store.close().unwrap();
}

#[test]
fn what_is_there_is_given_without_waiting_and_what_is_not_is_not_waited_for() {
    let store = open();
    let mut follow = store.follow(1).unwrap();
    assert!(follow.try_next().unwrap().is_none());
    write(&store, 1..=2, 7);
    assert_eq!(there(&mut follow), [Seen::Put(1, 7), Seen::Put(2, 7)]);
    assert!(follow.try_next().unwrap().is_none());
    store.close().unwrap();
}

/// A lost wake-up would leave both sides waiting.
#[test]
fn writer_and_follower_wake_each_other_again_and_again() {
    const ROUNDS: u64 = 2000;
    let there = open();
    let back = open();
    let echo = |mut follow: Follow, into: Store| {
        move || {
            for round in 1..=ROUNDS {
                assert_eq!(next(&mut follow), Seen::Put(round, round));
                write(&into, round..=round, round);
            }
        }
    };
    let echoing = thread::spawn(echo(there.follow(1).unwrap(), back.clone()));
    let mut follow = back.follow(1).unwrap();
    for round in 1..=ROUNDS {
        write(&there, round..=round, round);
        assert_eq!(next(&mut follow), Seen::Put(round, round));
    }
    echoing.join().unwrap();
    there.close().unwrap();
    back.close().unwrap();
}

/// Blocked without a time-out, as an iterator.
#[test]
fn a_blocked_follower_gets_an_entry_soon() {
    let store = open();
    let (sender, receiver) = channel();
    let follow = store.follow(1).unwrap();
    let blocked = thread::spawn(move || {
        for item in follow {
            sender.send((Instant::now(), Seen::of(item))).unwrap();
        }
    });
    let mut slow = 0;
    for index in 1..=200 {
        let start = Instant::now();
        write(&store, index..=index, 1);
        let (came, seen) = receiver.recv_timeout(PATIENCE).expect("it is woken");
        assert_eq!(seen, Seen::Put(index, 1));
        slow += u32::from(came - start > ms(100));
    }
    // A busy machine may be late now and then; polling would be late each time.
    assert!(slow <= 10, "{slow} of 200 came late");
    store.close().unwrap();
    assert_eq!(receiver.recv_timeout(PATIENCE).unwrap().1, Seen::Closed);
    blocked.join().unwrap();
}

/// Nothing else comes that would wake the others: each round waits until all have had the entry.
#[test]
fn one_write_wakes_every_blocked_follower() {
    const ROUNDS: u64 = 200;
    let store = open();
    let (sender, receiver) = channel();
    let blocked: Vec<_> = (0..3)
        .map(|_| {
            let (mut follow, sender) = (store.follow(1).unwrap(), sender.clone());
            thread::spawn(move || (0..ROUNDS).for_each(|_| sender.send(next(&mut follow)).unwrap()))
        })
        .collect();
    for round in 1..=ROUNDS {
        write(&store, round..=round, round);
        for _ in &blocked {
            assert_eq!(receiver.recv_timeout(PATIENCE).expect("each is woken"), Seen::Put(round, round));
        }
    }
    blocked.into_iter().for_each(|thread| thread.join().unwrap());
    store.close().unwrap();
}

/// Ends as `Closed` and then gives nothing, whether it was blocked or not.
fn ends_when(ends: impl Fn(Store)) {
    let store = open();
    write(&store, 1..=1, 1);
    let mut blocked = store.follow(1).unwrap();
    let mut idle = store.follow(1).unwrap();
    let mut timed = store.follow(1).unwrap();
    let (sender, receiver) = channel();
    let thread = thread::spawn(move || {
        for item in blocked.by_ref() {
            sender.send(Seen::of(item)).unwrap();
        }
        assert!(blocked.next().is_none());
        assert!(blocked.next_timeout(PATIENCE).unwrap().is_none());
    });
    assert_eq!(receiver.recv_timeout(PATIENCE).unwrap(), Seen::Put(1, 1));
    assert_eq!(next(&mut timed), Seen::Put(1, 1));
    ends(store);
    assert_eq!(receiver.recv_timeout(PATIENCE).expect("the blocked one is woken"), Seen::Closed);
    thread.join().unwrap();
    for follow in [&mut idle, &mut timed] {
        assert_eq!(Seen::of(follow.next().unwrap()), Seen::Closed);
        assert!(follow.next().is_none());
        assert!(follow.try_next().unwrap().is_none());
    }
}

#[test]
fn closing_the_store_ends_its_followers() {
    ends_when(|store| {
        let clone = store.clone();
        clone.close().unwrap();
        assert!(matches!(store.follow(1), Err(casklog::Error::Closed)));
    });
}

#[test]
fn dropping_the_last_handle_ends_its_followers() {
    ends_when(drop);
}

#[test]
fn a_handle_that_is_left_keeps_its_followers() {
    let store = open();
    let clone = store.clone();
    let mut follow = store.follow(1).unwrap();
    drop(store);
    assert!(follow.try_next().unwrap().is_none());
    write(&clone, 1..=1, 1);
    assert_eq!(next(&mut follow), Seen::Put(1, 1));
    drop(clone);
    assert_eq!(Seen::of(follow.next().unwrap()), Seen::Closed);
}
