//! Loom's primitives with the faces of those that they stand in for. A model has no time: who waits, waits until it is told.
//!
//! The checker has no `ArcSwap`: a stand-in promises what that one does, that who loads a value sees all that was done
//! before it was stored, and no more; a load may give an older value where nothing says otherwise.

use std::cell::Cell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use loom::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

loom::thread_local! {
    /// 0 unless a model says otherwise.
    pub(crate) static NUMBER: Cell<usize> = Cell::new(0);
}

pub(crate) fn thread_number() -> usize {
    NUMBER.with(Cell::get)
}

const ENDED: &str = "a model that panics has ended";

#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

/// `held` is empty only while somebody else may have the lock.
pub(crate) struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    held: Option<loom::sync::MutexGuard<'a, T>>,
}

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Mutex(loom::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard { mutex: self, held: Some(self.0.lock().expect(ENDED)) }
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock().ok().map(|held| MutexGuard { mutex: self, held: Some(held) })
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().expect(ENDED)
    }
}

impl<T> MutexGuard<'_, T> {
    pub(crate) fn unlocked<U>(guard: &mut Self, run: impl FnOnce() -> U) -> U {
        guard.held = None;
        let outcome = run();
        guard.held = Some(guard.mutex.0.lock().expect(ENDED));
        outcome
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.held.as_ref().expect("locked")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.held.as_mut().expect("locked")
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
pub(crate) struct ArcSwapOption<T>(ArcSwap<Option<Arc<T>>>);

impl<T> ArcSwapOption<T> {
    pub(crate) fn new(value: Option<Arc<T>>) -> Self {
        ArcSwapOption(ArcSwap::from_pointee(value))
    }

    pub(crate) fn empty() -> Self {
        Self::new(None)
    }

    pub(crate) fn load(&self) -> Guard<Option<Arc<T>>> {
        Guard(self.load_full())
    }

    pub(crate) fn load_full(&self) -> Option<Arc<T>> {
        self.0.load_full().as_ref().clone()
    }

    /// One thread at a time stores.
    pub(crate) fn store(&self, value: Option<Arc<T>>) {
        self.0.store(Arc::new(value));
    }
}

/// What a wait that ends says: nothing, as there is no time.
pub(crate) struct WaitTimeoutResult;

impl WaitTimeoutResult {
    #[allow(clippy::unused_self, reason = "as parking_lot's")]
    pub(crate) fn timed_out(&self) -> bool {
        false
    }
}

#[derive(Debug)]
pub(crate) struct Condvar(loom::sync::Condvar);

impl Default for Condvar {
    fn default() -> Self {
        Condvar::new()
    }
}

impl Condvar {
    pub(crate) fn new() -> Self {
        Condvar(loom::sync::Condvar::new())
    }

    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        guard.held = guard.held.take().map(|held| self.0.wait(held).expect(ENDED));
    }

    /// A model has no time: it waits until it is told.
    pub(crate) fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, _: Duration) -> WaitTimeoutResult {
        self.wait(guard);
        WaitTimeoutResult
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// Those of loom; to sleep is to let others run.
pub(crate) mod thread {
    pub(crate) use loom::thread::*;

    pub(crate) fn sleep(_: std::time::Duration) {
        yield_now();
    }
}

/// Memory that is zero.
pub(crate) fn zeros(count: usize) -> Box<[AtomicU32]> {
    (0..count).map(|_| AtomicU32::new(0)).collect()
}

/// Lets other threads run once.
pub(crate) fn yield_until(_: Duration, is_ready: impl Fn() -> bool) {
    if !is_ready() {
        thread::yield_now();
    }
}
