//! What threads meet at: parking_lot's, arc-swap's and the standard library's primitives, or, under `--cfg casklog_loom`,
//! those of the model checker with the same faces. Protocols that are model-checked take theirs from here.
//!
//! The checker has no `ArcSwap`: a stand-in promises what that one does, that who loads a value sees all that was done
//! before it was stored, and no more; a load may give an older value where nothing says otherwise. `OnceLock` and `DashMap`
//! are used as they are, since no thread of a model stops inside them; the checker takes nothing for ordered by them.

#[cfg(not(casklog_loom))]
pub(crate) use {
    arc_swap::{ArcSwap, Guard},
    parking_lot::{Condvar, Mutex, RwLock},
    std::{sync::atomic, thread, thread_local},
};

#[cfg(casklog_loom)]
pub(crate) use {
    loom::{sync::atomic, thread, thread_local},
    modelled::{ArcSwap, Condvar, Guard, Mutex, RwLock},
};

use std::time::Duration;

/// Zeroed memory comes untouched from the allocator, so that much of it costs nothing until it is used.
#[cfg(not(casklog_loom))]
pub(crate) fn zeros(count: usize) -> Box<[atomic::AtomicU32]> {
    bytemuck::zeroed_slice_box(count)
}

#[cfg(casklog_loom)]
pub(crate) fn zeros(count: usize) -> Box<[atomic::AtomicU32]> {
    (0..count).map(|_| atomic::AtomicU32::new(0)).collect()
}

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
    use std::fmt;
    use std::ops::{Deref, DerefMut};
    use std::sync::Arc;
    use std::time::Duration;

    use loom::sync::atomic::{AtomicUsize, Ordering};

    const ENDED: &str = "a model that panics has ended";

    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    /// Empty only while a condition variable has the lock.
    pub(crate) struct MutexGuard<'a, T>(Option<loom::sync::MutexGuard<'a, T>>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Mutex(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            MutexGuard(Some(self.0.lock().expect(ENDED)))
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

    #[derive(Debug, Default)]
    pub(crate) struct RwLock<T>(loom::sync::RwLock<T>);

    impl<T> RwLock<T> {
        pub(crate) fn read(&self) -> loom::sync::RwLockReadGuard<'_, T> {
            self.0.read().expect(ENDED)
        }

        pub(crate) fn write(&self) -> loom::sync::RwLockWriteGuard<'_, T> {
            self.0.write().expect(ENDED)
        }
    }

    /// All values that were ever stored, and which is the last.
    pub(crate) struct ArcSwap<T> {
        values: std::sync::Mutex<Vec<Arc<T>>>,
        last: AtomicUsize,
    }

    pub(crate) struct Guard<T>(T);

    impl<T> ArcSwap<T> {
        pub(crate) fn from_pointee(value: T) -> Self {
            ArcSwap { values: std::sync::Mutex::new(vec![Arc::new(value)]), last: AtomicUsize::new(0) }
        }

        pub(crate) fn load_full(&self) -> Arc<T> {
            let last = self.last.load(Ordering::Acquire);
            self.values.lock().expect(ENDED)[last].clone()
        }

        pub(crate) fn load(&self) -> Guard<Arc<T>> {
            Guard(self.load_full())
        }

        /// One thread at a time stores.
        pub(crate) fn store(&self, value: Arc<T>) {
            let mut values = self.values.lock().expect(ENDED);
            values.push(value);
            let last = values.len() - 1;
            drop(values);
            self.last.store(last, Ordering::Release);
        }
    }

    impl<T> fmt::Debug for ArcSwap<T> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("ArcSwap")
        }
    }

    impl<T> Deref for Guard<T> {
        type Target = T;
        fn deref(&self) -> &T {
            &self.0
        }
    }

    #[derive(Debug)]
    pub(crate) struct Condvar(loom::sync::Condvar);

    impl Condvar {
        pub(crate) fn new() -> Self {
            Condvar(loom::sync::Condvar::new())
        }

        pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
            guard.0 = guard.0.take().map(|held| self.0.wait(held).expect(ENDED));
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
