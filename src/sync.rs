//! What threads meet at: parking_lot's and the standard library's primitives, or, under `--cfg casklog_loom`, those of the model
//! checker with the same faces. Protocols that are model-checked take theirs from here.

#[cfg(not(casklog_loom))]
pub(crate) use {
    parking_lot::{Condvar, Mutex},
    std::{sync::atomic, thread, thread_local},
};

#[cfg(casklog_loom)]
pub(crate) use {
    loom::{sync::atomic, thread, thread_local},
    modelled::{Condvar, Mutex},
};

use std::time::Duration;

/// Lets other threads run until `is_ready`, for `limit` at most.
#[cfg(not(casklog_loom))]
pub(crate) fn yield_until(limit: Duration, is_ready: impl Fn() -> bool) {
    let start = std::time::Instant::now();
    while !is_ready() && start.elapsed() < limit {
        thread::yield_now();
    }
}

/// Lets other threads run once: a model has no time.
#[cfg(casklog_loom)]
pub(crate) fn yield_until(_: Duration, is_ready: impl Fn() -> bool) {
    if !is_ready() {
        thread::yield_now();
    }
}

#[cfg(casklog_loom)]
mod modelled {
    use std::ops::{Deref, DerefMut};
    use std::time::Duration;

    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    /// Empty only while a condition variable has the lock.
    pub(crate) struct MutexGuard<'a, T>(Option<loom::sync::MutexGuard<'a, T>>);

    impl<T> Mutex<T> {
        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            MutexGuard(Some(self.0.lock().expect("a model that panics has ended")))
        }
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;
        fn deref(&self) -> &T {
            self.0.as_ref().expect("locked")
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.0.as_mut().expect("locked")
        }
    }

    #[derive(Debug)]
    pub(crate) struct Condvar(loom::sync::Condvar);

    impl Condvar {
        pub(crate) fn new() -> Self {
            Condvar(loom::sync::Condvar::new())
        }

        pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
            guard.0 = guard.0.take().map(|held| self.0.wait(held).expect("a model that panics has ended"));
        }

        /// A model has no time: it waits until it is told.
        pub(crate) fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, _: Duration) {
            self.wait(guard);
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }
    }
}
