//! Shuttle's primitives with the faces of those that they stand in for.
//!
//! Whatever one thread can see of another is a point at which shuttle may let any other run: each atomic operation, each
//! lock, and what it does not know itself: swaps of `Arc`s, the map of deletions, events. Memory is sequentially
//! consistent: what needs less than that is for loom to check.
//!
//! Time is drawn, too: a wait with a limit ends when it is told to or at any moment before, with the limit passed on the
//! clock that [`Instant`] reads. No other limit means anything.

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use shuttle::rand::Rng;
use shuttle::sync::atomic::AtomicU32;

pub(crate) use arc_swap::Guard;

/// Another thread may run here.
fn switch() {
    shuttle::thread::sleep(Duration::ZERO);
}

/// Lets others run until `is_over` or, any time, the limit is said to have passed. Returns whether it did.
fn passes(limit: Duration, is_over: impl Fn() -> bool) -> bool {
    loop {
        shuttle::thread::yield_now();
        if is_over() {
            return false;
        }
        if shuttle::rand::thread_rng().gen_ratio(1, 4) {
            Instant::advance(limit);
            return true;
        }
    }
}

/// Shuttle's; to sleep is to let others run while time passes.
pub(crate) mod thread {
    use std::time::Duration;

    pub(crate) use shuttle::thread::{Builder, JoinHandle, Thread, current, park, yield_now};

    pub(crate) fn sleep(duration: Duration) {
        super::Instant::advance(duration);
        yield_now();
    }
}

pub(crate) fn thread_number() -> usize {
    shuttle::thread::current().id().into()
}

/// Memory that is zero.
pub(crate) fn zeros(count: usize) -> Box<[AtomicU32]> {
    (0..count).map(|_| AtomicU32::new(0)).collect()
}

/// Lets other threads run until `is_ready`, or for a while.
pub(crate) fn yield_until(limit: Duration, is_ready: impl Fn() -> bool) {
    if !is_ready() {
        passes(limit, is_ready);
    }
}

std::thread_local! {
    /// One clock for all threads of a schedule, which share one thread of the machine.
    static NOW: Cell<Duration> = const { Cell::new(Duration::from_secs(1)) };
}

/// A moment of a clock that moves on by a little when it is read, and by as much as somebody has waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instant(Duration);

impl Instant {
    fn advance(by: Duration) {
        NOW.set(NOW.get().saturating_add(by));
    }

    pub(crate) fn now() -> Self {
        Self::advance(Duration::from_micros(1));
        Instant(NOW.get())
    }

    pub(crate) fn elapsed(&self) -> Duration {
        Self::now().0.saturating_sub(self.0)
    }

    pub(crate) fn checked_add(self, by: Duration) -> Option<Self> {
        self.0.checked_add(by).map(Instant)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

/// `held` is empty only while somebody else may have the lock.
pub(crate) struct MutexGuard<'a, T> {
    mutex: &'a Mutex<T>,
    held: Option<shuttle::sync::MutexGuard<'a, T>>,
}

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Mutex(shuttle::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard { mutex: self, held: Some(self.0.lock().unwrap_or_else(PoisonError::into_inner)) }
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock().ok().map(|held| MutexGuard { mutex: self, held: Some(held) })
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> MutexGuard<'_, T> {
    pub(crate) fn unlocked<U>(guard: &mut Self, run: impl FnOnce() -> U) -> U {
        guard.held = None;
        let outcome = run();
        guard.held = guard.mutex.lock().held;
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
pub(crate) struct RwLock<T>(shuttle::sync::RwLock<T>);

impl<T> RwLock<T> {
    pub(crate) fn read(&self) -> shuttle::sync::RwLockReadGuard<'_, T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> shuttle::sync::RwLockWriteGuard<'_, T> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a wait ended because its limit had passed.
pub(crate) struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    pub(crate) fn timed_out(&self) -> bool {
        self.0
    }
}

#[derive(Debug)]
pub(crate) struct Condvar {
    inner: shuttle::sync::Condvar,
    /// How often it told, for those who wait with a limit. Nobody else runs between a look at it and what follows.
    told: AtomicU64,
}

impl Condvar {
    pub(crate) fn new() -> Self {
        Condvar { inner: shuttle::sync::Condvar::new(), told: AtomicU64::new(0) }
    }

    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        guard.held = guard.held.take().map(|held| self.inner.wait(held).unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, limit: Duration) -> WaitTimeoutResult {
        let before = self.told.load(Ordering::Relaxed);
        let is_told = || self.told.load(Ordering::Relaxed) != before;
        WaitTimeoutResult(MutexGuard::unlocked(guard, || passes(limit, is_told)))
    }

    pub(crate) fn notify_all(&self) {
        switch();
        self.told.fetch_add(1, Ordering::Relaxed);
        self.inner.notify_all();
    }
}

/// As event-listener's: whoever listened before it is told.
#[derive(Debug)]
pub(crate) struct Event(Arc<Listened>);

#[derive(Debug)]
struct Listened {
    state: Mutex<Told>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Told {
    times: u64,
    wakers: Vec<Waker>,
}

#[derive(Debug)]
pub(crate) struct EventListener {
    event: Arc<Listened>,
    /// How often the event had been told of.
    since: u64,
}

pub(crate) trait Listener {
    fn wait(self);
    fn wait_deadline(self, deadline: Instant) -> Option<()>;
}

impl Event {
    pub(crate) fn new() -> Self {
        Event(Arc::new(Listened { state: Mutex::default(), changed: Condvar::new() }))
    }

    pub(crate) fn listen(&self) -> EventListener {
        EventListener { event: self.0.clone(), since: self.0.state.lock().times }
    }

    /// All are told.
    pub(crate) fn notify(&self, _: usize) {
        let mut state = self.0.state.lock();
        state.times += 1;
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        self.0.changed.notify_all();
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Listener for EventListener {
    fn wait(self) {
        let mut state = self.event.state.lock();
        while state.times == self.since {
            self.event.changed.wait(&mut state);
        }
    }

    fn wait_deadline(self, deadline: Instant) -> Option<()> {
        let mut state = self.event.state.lock();
        while state.times == self.since {
            let left = deadline.0.saturating_sub(Instant::now().0);
            if left.is_zero() {
                return None;
            }
            self.event.changed.wait_for(&mut state, left);
        }
        Some(())
    }
}

impl Future for EventListener {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.event.state.lock();
        if state.times != self.since {
            return Poll::Ready(());
        }
        state.wakers.push(context.waker().clone());
        Poll::Pending
    }
}

#[derive(Debug)]
pub(crate) struct ArcSwap<T>(arc_swap::ArcSwap<T>);

impl<T> ArcSwap<T> {
    pub(crate) fn from_pointee(value: T) -> Self {
        ArcSwap(arc_swap::ArcSwap::from_pointee(value))
    }

    pub(crate) fn load(&self) -> Guard<Arc<T>> {
        switch();
        self.0.load()
    }

    pub(crate) fn load_full(&self) -> Arc<T> {
        switch();
        self.0.load_full()
    }

    pub(crate) fn store(&self, value: Arc<T>) {
        switch();
        self.0.store(value);
    }
}

#[derive(Debug)]
pub(crate) struct ArcSwapOption<T>(arc_swap::ArcSwapOption<T>);

impl<T> ArcSwapOption<T> {
    pub(crate) fn new(value: Option<Arc<T>>) -> Self {
        ArcSwapOption(arc_swap::ArcSwapOption::new(value))
    }

    pub(crate) fn empty() -> Self {
        ArcSwapOption(arc_swap::ArcSwapOption::empty())
    }

    pub(crate) fn load(&self) -> Guard<Option<Arc<T>>> {
        switch();
        self.0.load()
    }

    pub(crate) fn load_full(&self) -> Option<Arc<T>> {
        switch();
        self.0.load_full()
    }

    pub(crate) fn store(&self, value: Option<Arc<T>>) {
        switch();
        self.0.store(value);
    }
}

/// One lock instead of many: closures that run under it may let other threads run, which then wait in shuttle.
pub(crate) struct DashMap<K, V>(RwLock<HashMap<K, V>>);

/// A copy of what is in the map.
pub(crate) struct Pair<K, V>(K, V);

impl<K: Copy + Eq + Hash, V: Copy> DashMap<K, V> {
    pub(crate) fn new() -> Self {
        DashMap(RwLock::default())
    }

    pub(crate) fn get(&self, key: &K) -> Option<Pair<K, V>> {
        self.0.read().get(key).map(|value| Pair(*key, *value))
    }

    pub(crate) fn contains_key(&self, key: &K) -> bool {
        self.0.read().contains_key(key)
    }

    pub(crate) fn insert(&self, key: K, value: V) -> Option<V> {
        self.0.write().insert(key, value)
    }

    pub(crate) fn retain(&self, mut stays: impl FnMut(&K, &mut V) -> bool) {
        self.0.write().retain(|key, value| stays(key, value));
    }

    pub(crate) fn len(&self) -> usize {
        self.0.read().len()
    }

    pub(crate) fn capacity(&self) -> usize {
        self.0.read().capacity()
    }
}

impl<K, V> fmt::Debug for DashMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DashMap")
    }
}

impl<K: Copy, V: Copy> IntoIterator for &DashMap<K, V> {
    type Item = Pair<K, V>;
    type IntoIter = std::vec::IntoIter<Pair<K, V>>;

    fn into_iter(self) -> Self::IntoIter {
        let pairs: Vec<_> = self.0.read().iter().map(|(key, value)| Pair(*key, *value)).collect();
        pairs.into_iter()
    }
}

impl<K, V> Pair<K, V> {
    pub(crate) fn key(&self) -> &K {
        &self.0
    }

    pub(crate) fn value(&self) -> &V {
        &self.1
    }
}

impl<K, V> Deref for Pair<K, V> {
    type Target = V;
    fn deref(&self) -> &V {
        &self.1
    }
}
