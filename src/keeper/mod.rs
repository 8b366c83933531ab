//! The keeper: steps that take time, so that no writer has to. It makes room and the next segment ready, seals rotated
//! segments, retires old ones, and marks what is durable when the log is idle.
//!
//! Each step is a function that does one thing and says whether there was anything to do. A thread calls them when the
//! writer wishes; without threads, whoever made a step due calls them.

mod retire;
mod room;
mod seal;

use std::sync::Arc;
use std::time::Duration;

use crate::commit::Commits;
use crate::error::{Error, Result};
use crate::log::{BURST_FILL_MAX, Log, ROTATED_MAX, WARM_STEP, Writer};
use crate::options::SyncPolicy;
use crate::position::Position;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{Instant, Mutex, MutexGuard};

use retire::Clock;
use room::Need;

/// A log that was not written to for this long says by itself what is durable.
const IDLE: Duration = Duration::from_millis(100);

/// A mapping does not report write errors; a sync this often does.
const MAPPED_CHECK: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Debug)]
pub(crate) struct Keeper {
    log: Arc<Log>,
    commits: Arc<Commits>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// One step at a time, whoever takes it.
    steps: Mutex<Clock>,
    /// Of the last watermark that was placed for idleness; it is synced by itself.
    idle_mark: AtomicU64,
}

impl Keeper {
    pub(crate) fn new(log: Arc<Log>, commits: Arc<Commits>) -> Self {
        let clock = Clock::now(&log.dir);
        Keeper { log, commits, thread: Mutex::default(), steps: Mutex::new(clock), idle_mark: AtomicU64::new(0) }
    }

    /// Starts the thread, where the options ask for one.
    pub(crate) fn start(self: &Arc<Self>) -> Result<()> {
        if !self.log.options.background {
            return Ok(());
        }
        let this = self.clone();
        let thread = thread::Builder::new().name("casklog-keeper".to_owned()).spawn(move || this.run());
        *self.thread.lock() = Some(thread.map_err(|e| Error::io("start a thread for", &self.log.options.dir, e))?);
        Ok(())
    }

    /// Waits for the thread, which must have been told to end. Not from the thread itself.
    pub(crate) fn join(&self) {
        let thread = self.thread.lock().take();
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != thread::current().id()) {
            let _ = thread.join();
        }
    }

    /// Whether the thread sleeps, so that joining it does not wait for the disk.
    pub(crate) fn is_resting(&self) -> bool {
        self.steps.try_lock().is_some()
    }

    /// Gives up the writer lock until a step was taken.
    pub(crate) fn wait(&self, writer: &mut MutexGuard<'_, Writer>) -> Result<()> {
        writer.failed = None;
        if self.log.options.background {
            self.log.wish.notify_all();
            self.log.done.wait(writer);
            return Ok(());
        }
        MutexGuard::unlocked(writer, || self.step().map(|_| ()))
    }

    /// Takes every step that is due.
    ///
    /// # Errors
    /// The failure that set the latch.
    pub(crate) fn catch_up(&self) -> Result<()> {
        while self.step()? {}
        Ok(())
    }

    /// Takes the most urgent step: room that the writer needs now or soon, then the next segment, then more room, then sealing,
    /// then retention, which does not wait for ever.
    pub(crate) fn step(&self) -> Result<bool> {
        let mut clock = self.steps.lock();
        let healthy = self.log.latch.check();
        let outcome = healthy.and_then(|()| self.step_with(&mut clock).map_err(|error| self.log.fail(error)));
        drop(clock);
        // Also after a failure: whoever waits must learn of it.
        let _writer = self.log.writer.lock();
        self.log.done.notify_all();
        outcome
    }

    fn step_with(&self, clock: &mut Clock) -> Result<bool> {
        let mut writer = self.log.writer.lock();
        if let Some(end) = writer.wishes.room_now.take() {
            return self.raise(writer, end, Need::Now);
        }
        let is_far_ahead = writer.active.as_ref().is_some_and(|active| active.room() > WARM_STEP);
        if let Some(end) = writer.wishes.room.take_if(|_| !is_far_ahead) {
            return self.raise(writer, end, Need::Ahead);
        }
        if let Some(end) = writer.wishes.spare_room.take() {
            return self.raise_spare(writer, end);
        }
        if writer.wishes.spare {
            return self.make_spare(writer);
        }
        if let Some(end) = writer.wishes.room.take() {
            return self.raise(writer, end, Need::Ahead);
        }
        let is_behind = writer.is_sealing_due();
        // Who writes without a pause always leaves something to seal, and must not keep the disk for ever.
        if writer.wishes.retention && (!is_behind || clock.sealed >= ROTATED_MAX) {
            writer.wishes.retention = false;
            drop(writer);
            return Ok(self.retire(clock)? || is_behind);
        }
        if is_behind {
            clock.sealed += 1;
            return self.seal_oldest(writer);
        }
        Ok(false)
    }

    fn run(&self) {
        let _alive = Alive(self);
        let mut seen = Position::ZERO;
        let mut checked = Instant::now();
        loop {
            let is_healthy = match self.step() {
                Ok(true) => continue,
                Ok(false) => true,
                Err(_) => false,
            };
            let mut writer = self.log.writer.lock();
            if writer.is_closed {
                return;
            }
            let tail = writer.tail();
            let has_moved = tail != seen;
            if !has_moved || writer.begun.elapsed() >= BURST_FILL_MAX {
                writer.hurries = false;
            }
            if is_healthy && writer.has_wish() {
                continue;
            }
            // Read under the lock: whoever moves W on takes it afterwards, and finds the keeper awake or resting.
            let marks_later = is_healthy && self.log.durable() > writer.marked;
            if has_moved {
                if let Some(active) = &writer.active {
                    active.segment.last_write_ms.store(self.log.dir.now_ms(), Ordering::Relaxed);
                }
                seen = tail;
                self.log.wish.wait_for(&mut writer, IDLE);
                drop(writer);
            } else if marks_later && self.is_mark_due(&mut writer) {
                drop(writer);
                self.sync_mark();
                seen = self.log.index.tail();
            } else {
                self.rest(&mut writer);
                drop(writer);
            }
            // Without the writer lock: a sync takes its time, and its failure takes that lock.
            if is_healthy && checked.elapsed() > MAPPED_CHECK {
                checked = Instant::now();
                self.check_mapping();
            }
        }
    }

    /// Sleeps until somebody writes, or until retention by age is to be looked at.
    fn rest(&self, writer: &mut MutexGuard<'_, Writer>) {
        writer.keeper_rests = true;
        match self.log.options.max_age {
            Some(age) => {
                let pause = (age / 8).clamp(IDLE, Duration::from_secs(60));
                if self.log.wish.wait_for(writer, pause).timed_out() {
                    writer.wishes.retention = true;
                }
            }
            None => self.log.wish.wait(writer),
        }
        writer.keeper_rests = false;
    }

    fn is_mark_due(&self, writer: &mut Writer) -> bool {
        let placed = matches!(self.log.mark_durable(writer), Ok(true));
        if placed {
            self.idle_mark.store(writer.tail().to_word(), Ordering::Relaxed);
        }
        placed
    }

    /// Makes the idle watermark durable: from then on damage to what it names is told from a torn tail.
    fn sync_mark(&self) {
        // A failure sets the latch, and whoever writes next is told.
        let _ = self.commits.wait(Position::from_word(self.idle_mark.load(Ordering::Relaxed)));
    }

    /// The idle watermark, taken as a step: for tests without threads.
    #[cfg(feature = "testing")]
    pub(crate) fn idle(&self) -> Result<()> {
        let is_due = self.is_mark_due(&mut self.log.writer.lock());
        if is_due { self.commits.wait(self.log.index.tail()) } else { Ok(()) }
    }

    fn check_mapping(&self) {
        let is_unsynced = matches!(self.log.policy(), SyncPolicy::None);
        if is_unsynced && self.log.durable() < self.log.index.tail() {
            let _ = self.commits.wait(self.log.index.tail());
        }
    }
}

/// A keeper that panics must not leave writers waiting for it.
struct Alive<'a>(&'a Keeper);

impl Drop for Alive<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let source = std::io::Error::other("the keeper thread panicked");
            self.0.log.fail(Error::io("go on with", &self.0.log.options.dir, source));
        }
    }
}

impl Writer {
    fn has_wish(&self) -> bool {
        self.wishes.spare
            || self.wishes.spare_room.is_some()
            || self.wishes.room.is_some()
            || self.wishes.room_now.is_some()
            || self.wishes.retention
            || self.is_sealing_due()
    }
}
