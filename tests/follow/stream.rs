//! Followers as streams, driven by the smallest executor there is.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use casklog::fs::sim::SimFs;
use casklog::{FollowStream, Store};
use futures_core::Stream;

use crate::common::{PATIENCE, Seen, eventually, inline, puts, threaded, write};

/// Wakes a thread, and counts how often.
struct Unpark(thread::Thread, AtomicUsize);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current(), AtomicUsize::new(0))));
    let mut future = pin!(future);
    let start = std::time::Instant::now();
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        thread::park_timeout(PATIENCE);
        assert!(start.elapsed() < PATIENCE, "it was never woken");
    }
}

fn next(stream: &mut FollowStream) -> Option<Seen> {
    block_on(poll_fn(|context| Pin::new(&mut *stream).poll_next(context))).map(Seen::of)
}

fn is_send<T: Send + Unpin>(value: T) -> T {
    value
}

#[test]
fn a_stream_gives_what_an_iterator_gives() {
    let store = inline(&SimFs::new()).segment_entries(3).open().unwrap();
    write(&store, 1..=10, 1);
    store.delete(4).unwrap();
    let mut stream = is_send(store.follow(2).unwrap()).into_stream();
    let mut seen: Vec<_> = (0..10).filter_map(|_| next(&mut stream)).collect();
    store.truncate_after(8).unwrap();
    write(&store, 9..=9, 2);
    seen.extend((0..2).filter_map(|_| next(&mut stream)));
    let mut expected = puts(2..=10, 1);
    expected.extend([Seen::Deleted(4), Seen::Gone(9..=u64::MAX), Seen::Put(9, 2)]);
    assert_eq!(seen, expected);
    store.close().unwrap();
    assert_eq!(next(&mut stream), Some(Seen::Closed));
    assert_eq!(next(&mut stream), None);
    assert_eq!(next(&mut stream), None);
}

#[test]
fn a_stream_that_waits_is_woken_by_each_write() {
    const ROUNDS: u64 = 1000;
    let store = threaded(&SimFs::new()).segment_entries(100).open().unwrap();
    let back = threaded(&SimFs::new()).open().unwrap();
    let echo = back.clone();
    let mut stream = is_send(store.follow(1).unwrap().into_stream());
    let reading = thread::spawn(move || {
        for round in 1..=ROUNDS {
            assert_eq!(next(&mut stream), Some(Seen::Put(round, round)));
            write(&echo, round..=round, round);
        }
        [next(&mut stream), next(&mut stream)]
    });
    let mut acknowledged = back.follow(1).unwrap().into_stream();
    for round in 1..=ROUNDS {
        write(&store, round..=round, round);
        assert_eq!(next(&mut acknowledged), Some(Seen::Put(round, round)));
    }
    store.close().unwrap();
    assert_eq!(reading.join().unwrap(), [Some(Seen::Closed), None]);
    back.close().unwrap();
}

#[test]
fn dropping_the_store_ends_a_stream() {
    let store = threaded(&SimFs::new()).open().unwrap();
    let mut stream = store.follow(1).unwrap().into_stream();
    let ending = thread::spawn(move || [next(&mut stream), next(&mut stream)]);
    drop(store);
    assert_eq!(ending.join().unwrap(), [Some(Seen::Closed), None]);
}

/// Polled by one task after the other, the last one is woken; a pending stream may go, and wakes nobody.
#[test]
fn a_pending_stream_may_move_and_go() {
    let store: Store = inline(&SimFs::new()).open().unwrap();
    let wakers: Vec<_> = (0..3).map(|_| Arc::new(Unpark(thread::current(), AtomicUsize::new(0)))).collect();
    let poll = |stream: &mut FollowStream, waker: usize| {
        let waker = Waker::from(wakers[waker].clone());
        Pin::new(stream).poll_next(&mut Context::from_waker(&waker)).map(|item| item.map(Seen::of))
    };
    let woken = || wakers.iter().map(|waker| waker.1.load(Ordering::SeqCst)).collect::<Vec<_>>();
    let mut moved = store.follow(1).unwrap().into_stream();
    let mut dropped = store.follow(1).unwrap().into_stream();
    assert_eq!(poll(&mut moved, 0), Poll::Pending);
    assert_eq!(poll(&mut moved, 1), Poll::Pending);
    assert_eq!(poll(&mut dropped, 2), Poll::Pending);
    drop(dropped);
    write(&store, 1..=1, 1);
    eventually("the task that polled last is woken", || woken()[1] > 0);
    assert_eq!((woken()[0], woken()[2]), (0, 0));
    assert_eq!(poll(&mut moved, 1), Poll::Ready(Some(Seen::Put(1, 1))));
    assert_eq!(poll(&mut moved, 1), Poll::Pending);
    drop(moved);
    let before = woken();
    write(&store, 2..=2, 1);
    assert_eq!(woken(), before);
    store.close().unwrap();
}
