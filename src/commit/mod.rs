//! Durability: who waits for a sync, who leads it, and who is told.
//!
//! * One sync is in flight at a time. Its leader is one of those who wait; a lone caller leads its own at once.
//! * What a sync makes durable is the log up to the tail that was published *before* the sync was issued.
//! * A sync covers the older segments first, so that everything before W is durable, not only bytes of one file.
//! * With several committers the leader waits up to 60 us until as many are back as there were around the last sync:
//!   those it satisfied and those who came while it ran. Without that, two threads alternate and share nothing
//!   (adaptive group commit).
//! * The first failed sync sets the latch. Everyone who waits is told; no sync follows.
//! * No lock is held across a sync, and callbacks run on the committer thread, outside every lock. One that panics keeps
//!   nobody else from being told.

#[cfg(all(casklog_loom, test))]
mod models;
mod segments;
#[cfg(test)]
#[cfg(not(any(casklog_loom, casklog_shuttle)))]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::log::Log;
use crate::options::SyncPolicy;
use crate::position::Position;
use crate::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use crate::sync::thread::{self, JoinHandle, Thread};
use crate::sync::{Condvar, Instant, Mutex, MutexGuard, yield_until};

/// How long a leader waits for those who took part in the last sync.
const GATHER: Duration = Duration::from_micros(60);

/// How long the first who waits for a leader's sync yields its processor before it sleeps: about a sync of a fast disk.
/// To be woken on a processor that has gone idle takes half as long again, and one thread at most does it. RocksDB's
/// writers yield as long.
const AWAIT: Duration = Duration::from_micros(100);

/// What is made durable: the log, and in the model checks something that stands for it.
pub(crate) trait Durable: std::fmt::Debug + Send + Sync + 'static {
    /// Where it ends.
    fn tail(&self) -> Position;
    /// W: everything before it is durable.
    fn durable(&self) -> Position;
    /// # Errors
    /// The first failure.
    fn check(&self) -> Result<()>;
    /// Makes everything durable that stands before the tail as it is now, and says so in W, or notes a failure.
    fn sync(&self);
    /// Entries and bytes that were written.
    fn written(&self) -> (u64, u64);
    /// When the caller waits.
    fn policy(&self) -> SyncPolicy;
    /// Counts how long somebody waited.
    fn waited(&self, _took: Duration) {}
    /// Starts a thread, if there are to be any.
    fn start(&self, run: impl FnOnce() + Send + 'static) -> Result<Option<JoinHandle<()>>>;
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Commits<L = Log> {
    log: Arc<L>,
    state: Mutex<State>,
    /// For the committer thread: there is something to sync or to tell.
    work: Condvar,
    /// Callers who wait for a sync that is not over, the leader among them.
    present: AtomicUsize,
    /// What had been written when the last sync was issued, for `Periodic`.
    entries: AtomicU64,
    bytes: AtomicU64,
    /// The committer waits for the first write that is not durable.
    rests: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    is_led: bool,
    waiting: Vec<(Position, Arc<Parked>)>,
    /// How many may be expected to come for the next sync.
    expected: usize,
    /// The committer makes everything before this durable.
    requested: Position,
    pending: Vec<(Position, u64, Told)>,
    told: Vec<(Told, Result<()>)>,
    /// Callbacks are running that were taken out of `told`.
    tells: bool,
    /// From 1 on; 0 is for what is never replaced.
    next_id: u64,
    committer: Option<JoinHandle<()>>,
    stops: bool,
}

/// Who is told that a commit is durable, or failed.
pub(crate) enum Told {
    Waker(Waker),
    Callback(Box<dyn FnOnce(Result<()>) + Send>),
}

impl std::fmt::Debug for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Told")
    }
}

/// A thread that sleeps until its sync is over.
#[derive(Debug)]
struct Parked {
    thread: Thread,
    is_awake: AtomicBool,
    /// It was taken out of those present when its sync was over, and not by itself: until it has woken up it would be
    /// taken for one that is back already.
    is_gone: AtomicBool,
}

impl Parked {
    fn wake(&self) {
        self.is_awake.store(true, Ordering::Release);
        self.thread.unpark();
    }

    fn sleep(&self, is_first: bool) {
        let is_awake = || self.is_awake.load(Ordering::Acquire);
        if is_first {
            yield_until(AWAIT, is_awake);
        }
        while !is_awake() {
            thread::park();
        }
    }
}

crate::sync::thread_local! {
    static PARKED: Arc<Parked> =
        Arc::new(Parked {
            thread: thread::current(),
            is_awake: AtomicBool::new(false),
            is_gone: AtomicBool::new(false),
        });
}

impl<L: Durable> Commits<L> {
    pub(crate) fn new(log: Arc<L>) -> Self {
        Commits {
            log,
            state: Mutex::default(),
            work: Condvar::new(),
            present: AtomicUsize::new(0),
            entries: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            rests: AtomicBool::new(false),
        }
    }

    /// Returns when everything before `target` is durable.
    ///
    /// # Errors
    /// The failure that set the latch, unless `target` became durable before it.
    pub(crate) fn wait(&self, target: Position) -> Result<()> {
        if self.log.durable() >= target {
            return Ok(());
        }
        let begun = Instant::now();
        self.present.fetch_add(1, Ordering::AcqRel);
        let result = self.wait_present(target);
        if !PARKED.with(|parked| parked.is_gone.swap(false, Ordering::AcqRel)) {
            self.present.fetch_sub(1, Ordering::AcqRel);
        }
        self.log.waited(begun.elapsed());
        result
    }

    fn wait_present(&self, target: Position) -> Result<()> {
        let mut state = self.state.lock();
        loop {
            if self.log.durable() >= target {
                return Ok(());
            }
            // Whoever was woken to lead the next sync, and finds that the log has failed, is the only one who can tell the
            // others: it leads all the same, which comes to nothing and wakes them.
            let failed = self.log.check();
            if failed.is_err() && (state.is_led || state.waiting.is_empty()) {
                return failed;
            }
            if !state.is_led {
                state.is_led = true;
                let expected = if failed.is_err() { 0 } else { state.expected };
                drop(state);
                self.gather(expected);
                self.lead();
                state = self.state.lock();
                continue;
            }
            let parked = PARKED.with(Arc::clone);
            // Under the lock, so before whoever takes it out of those who wait wakes it.
            parked.is_awake.store(false, Ordering::Relaxed);
            let is_first = state.waiting.is_empty();
            state.waiting.push((target, parked.clone()));
            drop(state);
            parked.sleep(is_first);
            state = self.state.lock();
        }
    }

    /// Gives others a moment to write what this sync can cover too.
    fn gather(&self, expected: usize) {
        let SyncPolicy::Grouped { window } = self.log.policy() else {
            return;
        };
        if !window.is_zero() {
            thread::sleep(window);
        }
        if expected <= 1 {
            return;
        }
        yield_until(GATHER, || self.present.load(Ordering::Acquire) >= expected);
    }

    /// Syncs once, as the leader, and tells everybody. The caller has set `is_led`.
    fn lead(&self) {
        /// Hands the lead on even if a panic passes through.
        struct Lead<'a, L: Durable>(&'a Commits<L>);
        impl<L: Durable> Drop for Lead<'_, L> {
            fn drop(&mut self) {
                self.0.end_lead();
            }
        }
        let _lead = Lead(self);
        // Read before the tail: what is counted is covered.
        let (entries, bytes) = self.log.written();
        self.entries.store(entries, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
        self.log.sync();
    }

    /// Wakes those who got what they waited for, and one of the others to lead the next sync.
    fn end_lead(&self) {
        let durable = self.log.durable();
        let failure = self.log.check().err();
        let mut state = self.state.lock();
        state.is_led = false;
        let is_over = |target: &Position| *target <= durable || failure.is_some();
        let (over, mut left): (Vec<_>, Vec<_>) =
            std::mem::take(&mut state.waiting).into_iter().partition(|(target, _)| is_over(target));
        state.expected = over.len() + left.len() + 1;
        over.iter().for_each(|(_, parked)| parked.is_gone.store(true, Ordering::Release));
        self.present.fetch_sub(over.len(), Ordering::AcqRel);
        let next = left.pop();
        state.waiting = left;
        self.collect(&mut state);
        // What a periodic sync that this one took the place of did not cover waits for the next period.
        let is_periodic = matches!(self.log.policy(), SyncPolicy::Periodic { .. });
        let is_dirty = is_periodic && self.log.tail() > durable;
        let has_work = !state.told.is_empty() || state.requested > durable || is_dirty;
        drop(state);
        over.into_iter().chain(next).for_each(|(_, parked)| parked.wake());
        if has_work {
            self.work.notify_all();
        }
    }

    /// Moves those whose outcome is known to those who are to be told.
    fn collect(&self, state: &mut State) {
        let has_failed = self.log.check().is_err();
        let durable = self.log.durable();
        let (over, pending): (Vec<_>, Vec<_>) =
            std::mem::take(&mut state.pending).into_iter().partition(|(target, ..)| *target <= durable || has_failed);
        state.pending = pending;
        state.told.extend(over.into_iter().map(|(target, _, told)| (told, self.outcome(target))));
    }

    /// Asks that everything before `target` become durable soon, without waiting for it.
    pub(crate) fn request(self: &Arc<Self>, target: Position) -> Result<()> {
        let mut state = self.state.lock();
        state.requested = state.requested.max(target);
        self.start(&mut state)?;
        drop(state);
        self.work.notify_all();
        Ok(())
    }

    /// Tells `told` when everything before `target` is durable or the log has failed; gives it back where the outcome is
    /// known, and no callback that was registered before it is still to come. `id` names an earlier registration that this
    /// one replaces.
    pub(crate) fn tell(&self, target: Position, id: Option<u64>, told: Told) -> std::result::Result<u64, Told> {
        let mut state = self.state.lock();
        if state.stops || self.log.durable() >= target || self.log.check().is_err() {
            // Behind those that were registered before it, which may be yet to be told.
            self.collect(&mut state);
            if !state.told.is_empty() {
                self.work.notify_all();
            }
            match told {
                Told::Callback(_) if state.stops && !state.pending.is_empty() => state.pending.push((target, 0, told)),
                Told::Callback(_) if state.tells || !state.told.is_empty() => {
                    let outcome = self.outcome(target);
                    state.told.push((told, outcome));
                }
                told => return Err(told),
            }
            return Ok(0);
        }
        let id = id.unwrap_or_else(|| {
            state.next_id += 1;
            state.next_id
        });
        state.pending.retain(|(_, other, _)| *other != id);
        state.pending.push((target, id, told));
        Ok(id)
    }

    /// Whether everything before `target` is durable.
    pub(crate) fn is_durable(&self, target: Position) -> bool {
        self.log.durable() >= target
    }

    /// How a commit ended that nobody works on any more.
    pub(crate) fn outcome(&self, target: Position) -> Result<()> {
        if self.is_durable(target) {
            return Ok(());
        }
        self.log.check()?;
        Err(Error::Closed)
    }

    /// A write was placed; under `Periodic` it may make a sync due.
    pub(crate) fn placed(self: &Arc<Self>, tail: Position) -> Result<()> {
        let SyncPolicy::Periodic { entries, bytes, .. } = self.log.policy() else {
            return Ok(());
        };
        // The leader of a sync may raise what was synced above what this thread has seen written.
        let since = |written: u64, synced: &AtomicU64| written.saturating_sub(synced.load(Ordering::Relaxed));
        let written = self.log.written();
        if since(written.0, &self.entries) >= entries || since(written.1, &self.bytes) >= bytes {
            return self.request(tail);
        }
        fence(Ordering::SeqCst);
        if self.rests.load(Ordering::SeqCst) && self.rests.swap(false, Ordering::SeqCst) {
            // Taken and given back, so that the committer is either waiting or yet to look.
            drop(self.state.lock());
            self.work.notify_all();
        }
        Ok(())
    }

    /// Starts the committer thread where the policy needs it from the first write on.
    pub(crate) fn start_periodic(self: &Arc<Self>) -> Result<()> {
        if matches!(self.log.policy(), SyncPolicy::Periodic { .. }) {
            self.start(&mut self.state.lock())?;
        }
        Ok(())
    }

    fn start(self: &Arc<Self>, state: &mut State) -> Result<()> {
        if state.committer.is_some() || state.stops {
            return Ok(());
        }
        let this = self.clone();
        state.committer = self.log.start(move || this.run())?;
        Ok(())
    }

    fn run(&self) {
        let mut dirty_since: Option<Instant> = None;
        let mut state = self.state.lock();
        loop {
            state = self.tell_all(state);
            if state.stops {
                return;
            }
            let (durable, tail) = (self.log.durable(), self.log.tail());
            let is_healthy = self.log.check().is_ok();
            let every = match self.log.policy() {
                SyncPolicy::Periodic { every, .. } if tail > durable && is_healthy => {
                    let since = *dirty_since.get_or_insert_with(Instant::now);
                    Some(every.saturating_sub(since.elapsed()))
                }
                _ => {
                    dirty_since = None;
                    None
                }
            };
            let is_due = is_healthy && (state.requested > durable || every == Some(Duration::ZERO));
            if is_due && !state.is_led {
                state.is_led = true;
                drop(state);
                self.lead();
                dirty_since = None;
                state = self.state.lock();
                continue;
            }
            match every.filter(|every| !every.is_zero()) {
                Some(every) => {
                    self.work.wait_for(&mut state, every);
                }
                None => {
                    // Stored before the tail is looked at, as a writer publishes before it looks here: one of the two
                    // sees the other, if the order is one for both.
                    self.rests.store(true, Ordering::SeqCst);
                    fence(Ordering::SeqCst);
                    // A write that came before the flag was seen has not woken anybody.
                    if matches!(self.log.policy(), SyncPolicy::Periodic { .. })
                        && is_healthy
                        && !state.is_led
                        && self.log.tail() > self.log.durable()
                    {
                        continue;
                    }
                    self.work.wait(&mut state);
                }
            }
        }
    }

    /// Ends the committer thread, which first tells who is to be told. Waits for it only if `joins`.
    pub(crate) fn stop(&self, joins: bool) {
        let mut state = self.state.lock();
        state.stops = true;
        let committer = state.committer.take();
        drop(state);
        self.work.notify_all();
        if let Some(committer) = committer.filter(|thread| joins && thread.thread().id() != thread::current().id()) {
            let _ = committer.join();
        }
        // Without a thread nobody else tells; and whoever still waits must learn that nobody will.
        let mut state = self.state.lock();
        for (target, _, who) in std::mem::take(&mut state.pending) {
            let outcome = self.outcome(target);
            state.told.push((who, outcome));
        }
        drop(self.tell_all(state));
    }

    /// Tells all who are to be told, in order. One thread at a time does so: another, or a callback, leaves it to that one.
    fn tell_all<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        while !state.tells && !state.told.is_empty() {
            let told = std::mem::take(&mut state.told);
            state.tells = true;
            drop(state);
            told.into_iter().for_each(|(told, outcome)| told.tell(outcome));
            state = self.state.lock();
            state.tells = false;
        }
        state
    }

    /// Does what the committer thread would, where there is none.
    pub(crate) fn run_inline(&self) {
        loop {
            let mut state = self.tell_all(self.state.lock());
            let is_due = state.requested > self.log.durable() && self.log.check().is_ok() && !state.is_led;
            state.is_led |= is_due;
            drop(state);
            if !is_due {
                return;
            }
            self.lead();
        }
    }
}

impl Told {
    /// A panic ends here: it is not the business of the thread that tells, which has others to tell, and syncs to lead.
    pub(crate) fn tell(self, outcome: Result<()>) {
        let call = || match self {
            Told::Waker(waker) => waker.wake(),
            Told::Callback(callback) => callback(outcome),
        };
        if catch_unwind(AssertUnwindSafe(call)).is_err() {
            tracing::error!("the callback of a commit panicked");
        }
    }
}
