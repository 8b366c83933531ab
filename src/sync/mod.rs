//! What threads meet at: parking_lot's, arc-swap's, event-listener's and the standard library's primitives. Everything
//! that threads of a store share takes its own from here, but for counts that nobody acts upon.
//!
//! Under `--cfg casklog_loom` they are those of the model checker loom (`modelled`), for models of single protocols; under
//! `--cfg casklog_shuttle` those of shuttle (`scheduled`), which runs whole stores under schedules drawn by chance. Both
//! with the same faces, so that nothing else knows of them.
//!
//! `OnceLock`, and `DashMap` where it is not taken from here, are used as they are, since no thread stops inside them; loom
//! takes nothing for ordered by them. The same goes under loom for `DashMap` and `Event`.

#[cfg(casklog_loom)]
mod modelled;
#[cfg(casklog_shuttle)]
mod scheduled;

#[cfg(not(any(casklog_loom, casklog_shuttle)))]
pub(crate) use {
    arc_swap::{ArcSwap, ArcSwapOption, Guard},
    dashmap::DashMap,
    event_listener::{Event, EventListener, Listener},
    parking_lot::{Condvar, Mutex, MutexGuard, RwLock},
    real::{yield_until, zeros},
    std::{sync::atomic, thread, thread_local, time::Instant},
};

#[cfg(casklog_loom)]
pub(crate) use {
    dashmap::DashMap,
    event_listener::{Event, EventListener, Listener},
    loom::{sync::atomic, thread_local},
    modelled::{ArcSwap, ArcSwapOption, Condvar, Guard, Mutex, MutexGuard, RwLock, thread, yield_until, zeros},
    std::time::Instant,
};

#[cfg(casklog_shuttle)]
pub(crate) use {
    scheduled::{
        ArcSwap, ArcSwapOption, Condvar, DashMap, Event, EventListener, Guard, Instant, Listener, Mutex, MutexGuard,
        RwLock, thread, yield_until, zeros,
    },
    shuttle::{sync::atomic, thread_local},
};

#[cfg(not(any(casklog_loom, casklog_shuttle)))]
mod real {
    use std::sync::atomic::AtomicU32;
    use std::time::{Duration, Instant};

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
