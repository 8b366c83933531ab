//! What threads meet at: parking_lot's, arc-swap's, event-listener's and the standard library's primitives. Everything
//! that threads of a store share takes its own from here, but for counts from which nothing follows but what is kept in memory.
//!
//! Under `--cfg casklog_loom` they are those of the model checker loom (`modelled`), for models of single protocols; under
//! `--cfg casklog_shuttle` those of shuttle (`scheduled`), which runs whole stores under schedules drawn by chance. Both
//! with the same faces, so that nothing else knows of them.
//!
//! `OnceLock`, and `DashMap` where it is not taken from here, are used as they are, since no thread stops inside them; loom
//! takes nothing for ordered by them. The same goes under loom for `DashMap` and `Event`.

#[cfg(casklog_loom)]
pub(crate) mod modelled;
#[cfg(casklog_shuttle)]
mod scheduled;

#[cfg(not(any(casklog_loom, casklog_shuttle)))]
pub(crate) use {
    arc_swap::{ArcSwap, ArcSwapOption, Guard},
    dashmap::DashMap,
    event_listener::{Event, EventListener, Listener},
    parking_lot::{Condvar, Mutex, MutexGuard, RwLock},
    real::{in_parallel, thread_number, yield_until, zeros},
    std::{sync::atomic, thread, thread_local, time::Instant},
};

#[cfg(casklog_loom)]
pub(crate) use {
    dashmap::DashMap,
    event_listener::{Event, EventListener, Listener},
    loom::{sync::atomic, thread_local},
    modelled::{
        ArcSwap, ArcSwapOption, Condvar, Guard, Mutex, MutexGuard, RwLock, thread, thread_number, yield_until, zeros,
    },
    std::time::Instant,
};

#[cfg(casklog_shuttle)]
pub(crate) use {
    scheduled::{
        ArcSwap, ArcSwapOption, Condvar, DashMap, Event, EventListener, Guard, Instant, Listener, Mutex, MutexGuard,
        RwLock, thread, thread_number, yield_until, zeros,
    },
    shuttle::{sync::atomic, thread_local},
};

/// The model checkers' threads do not borrow: one after the other.
#[cfg(any(casklog_loom, casklog_shuttle))]
pub(crate) fn in_parallel<T>(_threads: usize, count: usize, each: impl Fn(usize) -> T) -> Vec<T> {
    (0..count).map(each).collect()
}

#[cfg(not(any(casklog_loom, casklog_shuttle)))]
mod real {
    use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
    use std::thread;
    use std::time::{Duration, Instant};

    /// A number of this thread's own, from 0 on.
    #[inline]
    pub(crate) fn thread_number() -> usize {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        std::thread_local! {
            static NUMBER: usize = THREADS.fetch_add(1, Ordering::Relaxed);
        }
        NUMBER.with(|number| *number)
    }

    /// What `each` comes to for `0..count`, in this order, on so many threads at most, the caller's among them. With fewer
    /// where the system has no more.
    pub(crate) fn in_parallel<T: Send>(threads: usize, count: usize, each: impl Fn(usize) -> T + Sync) -> Vec<T> {
        let next = AtomicUsize::new(0);
        let work = || {
            let take = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|number| *number < count);
            std::iter::from_fn(take).map(|number| (number, each(number))).collect::<Vec<_>>()
        };
        let mut all = thread::scope(|scope| {
            let others = 1..threads.min(count);
            let others: Vec<_> = others.filter_map(|_| thread::Builder::new().spawn_scoped(scope, work).ok()).collect();
            let mut all = work();
            for other in others {
                all.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
            all
        });
        all.sort_unstable_by_key(|(number, _)| *number);
        all.into_iter().map(|(_, value)| value).collect()
    }

    /// Zeroed memory comes untouched from the allocator, so that much of it costs nothing until it is used.
    pub(crate) fn zeros(count: usize) -> Box<[AtomicU32]> {
        bytemuck::zeroed_slice_box(count)
    }

    /// Lets other threads run until `is_ready`, for `limit` at most.
    pub(crate) fn yield_until(limit: Duration, is_ready: impl Fn() -> bool) {
        let start = Instant::now();
        while !is_ready() && start.elapsed() < limit {
            std::thread::yield_now();
        }
    }
}

#[cfg(all(test, not(any(casklog_loom, casklog_shuttle))))]
mod tests {
    use super::in_parallel;

    #[test]
    fn what_is_done_in_parallel_comes_back_in_order_and_each_once() {
        for (threads, count) in [(1, 0), (8, 0), (1, 5), (3, 2), (4, 1000)] {
            assert_eq!(in_parallel(threads, count, |number| number), (0..count).collect::<Vec<_>>());
        }
        let panicked = std::panic::catch_unwind(|| in_parallel(3, 9, |number| assert_ne!(number, 7)));
        assert!(panicked.is_err(), "a panic is the caller's");
    }
}
