//! The keeper: steps that take time, so that no writer has to. It makes room and the next segment ready, seals rotated
//! segments, retires old ones, and marks what is durable when the log is idle.
//!
//! Each step is a function that does one thing and says whether there was anything to do. A thread calls them when the
//! writer wishes; without threads, whoever made a step due calls them.

use std::sync::Arc;
use std::time::Duration;

use crate::commit::Commits;
use crate::error::{Error, Result};
use crate::events::Event;
use crate::format::Header;
use crate::fs::{Access, Placement};
use crate::index::{Members, Sealed};
use crate::log::{Dir, Log, Preparation, PrepareError, ROTATED_MAX, Spare, Writer};
use crate::options::{RecoveryMode, SyncPolicy};
use crate::position::Position;
use crate::retention::{Facts, Limits, plan};
use crate::segment::{Extent, Window, read_header, seal};
use crate::stats::Counters;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{Instant, Mutex, MutexGuard};

/// A log that was not written to for this long says by itself what is durable.
const IDLE: Duration = Duration::from_millis(100);

/// The first page of a spare holds its header, and is warm.
const WARM_FROM: u64 = 4096;

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

/// What a retention pass knows of the pass before: the time, and how many segments were sealed since.
#[derive(Debug)]
struct Clock {
    monotonic: Instant,
    wall_ms: u64,
    sealed: usize,
}

impl Clock {
    fn now(dir: &Dir) -> Self {
        Clock { monotonic: Instant::now(), wall_ms: dir.now_ms(), sealed: 0 }
    }

    /// Whether the wall clock ran as the monotonic one did, within `slack`.
    fn is_steady(&self, now_ms: u64, slack: Duration) -> bool {
        let passed = self.monotonic.elapsed().as_millis();
        let expected = u128::from(self.wall_ms) + passed;
        u128::from(now_ms).abs_diff(expected) <= slack.as_millis()
    }
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

    /// Takes the most urgent step: room for the writer, then the next segment, then sealing, then retention, which does
    /// not wait for ever.
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
        if let Some(end) = writer.wishes.room.take() {
            return self.raise(writer, end);
        }
        if let Some(end) = writer.wishes.spare_room.take() {
            return self.raise_spare(writer, end);
        }
        if writer.wishes.spare {
            return self.make_spare(writer);
        }
        let is_behind = !writer.rotated.is_empty();
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

    /// Makes room in the active segment up to `end`.
    fn raise(&self, writer: MutexGuard<'_, Writer>, end: u64) -> Result<bool> {
        let Some(active) = &writer.active else { return Ok(true) };
        let (segment, region) = (active.segment.clone(), active.region.clone());
        let is_warmed = !self.log.places_long(&writer);
        drop(writer);
        let prepared = segment.prepared.load(Ordering::Acquire);
        if end <= prepared {
            return Ok(true);
        }
        match region.prepare(prepared, end) {
            Ok(()) => {
                if is_warmed {
                    region.warm(prepared, end);
                }
                segment.prepared.store(end, Ordering::Release);
            }
            Err(e) => {
                let error = Error::io_or_full("make room in", &segment.path, e);
                tracing::warn!(%error, "no room in the active segment");
                self.log.writer.lock().failed = Some(error);
            }
        }
        Ok(true)
    }

    /// Makes room in the spare up to `end`.
    fn raise_spare(&self, writer: MutexGuard<'_, Writer>, end: u64) -> Result<bool> {
        let Some(spare) = &writer.spare else { return Ok(true) };
        let (number, prepared, region) = (spare.header.number, spare.prepared, spare.region.clone());
        drop(writer);
        let made = if end > prepared { region.prepare(prepared, end) } else { Ok(()) };
        let mut writer = self.log.writer.lock();
        match (made, &mut writer.spare) {
            (Ok(()), Some(spare)) if spare.header.number == number => spare.prepared = prepared.max(end),
            (Ok(()), _) => {}
            (Err(e), _) => {
                let path = self.log.dir.segment_path(number);
                writer.failed = Some(Error::io_or_full("make room in", &path, e));
            }
        }
        Ok(true)
    }

    /// Makes the next segment ready, or takes the one that open found.
    fn make_spare(&self, mut writer: MutexGuard<'_, Writer>) -> Result<bool> {
        let (how, is_warmed) = (self.log.preparation(&writer), !self.log.places_long(&writer));
        let found = writer.found_spare.take();
        drop(writer);
        let taken = found.map(|header| take_spare(&self.log.dir, header, how)).transpose()?.flatten();
        let made = match taken {
            Some(spare) => Ok(spare),
            None => self
                .log
                .next_header()
                .map_err(PrepareError::Room)
                .and_then(|h| self.log.dir.prepare(h, how))
                .and_then(|spare| self.drop_unusable(found).map(|()| spare).map_err(PrepareError::Fatal)),
        };
        if let Ok(spare) = &made
            && is_warmed
        {
            // Behind the sync of its header, which would write all these pages; that header stays as it is.
            spare.region.warm(WARM_FROM, how.bytes);
        }
        let mut writer = self.log.writer.lock();
        writer.wishes.spare = false;
        match made {
            Ok(spare) => writer.spare = Some(spare),
            Err(PrepareError::Room(error)) => {
                tracing::warn!(%error, "cannot prepare a segment");
                writer.failed = Some(error);
            }
            Err(PrepareError::Fatal(error)) => {
                drop(writer);
                return Err(error);
            }
        }
        Ok(true)
    }

    /// Removes the spare that open found and that turned out to be none, after a younger one was made: in the chain of
    /// segments it would be a stray for ever. Both slots of the manifest must name the younger one only first, else it would
    /// be missed.
    fn drop_unusable(&self, found: Option<Header>) -> Result<()> {
        let Some(header) = found else { return Ok(()) };
        self.log.dir.update_manifest_twice(|manifest| manifest.before = 0)?;
        self.log.dir.unlink([header.number])
    }

    /// Seals the oldest rotated segment: footer, shrink, sync, then W in the manifest.
    fn seal_oldest(&self, mut writer: MutexGuard<'_, Writer>) -> Result<bool> {
        let Some(rotated) = writer.rotated.front_mut() else {
            return Ok(false);
        };
        let region = rotated.region.take();
        rotated.segment.drop_region();
        let (segment, end, framer) = (rotated.segment.clone(), rotated.end, rotated.framer);
        let (journal, tmp) = (rotated.journal.clone(), rotated.tmp.clone());
        drop(writer);
        drop(region);
        let _span = tracing::debug_span!("seal", segment = segment.number).entered();
        let begun = Instant::now();
        let footer = journal.to_footer(&tmp, &segment.resumes);
        let trailer = match seal(&segment, &footer, framer, end) {
            Ok(trailer) => Some(trailer),
            // The footer saves a scan at the next open; without room for it the segment stays as it is.
            Err(error @ Error::NoSpace { .. }) => {
                tracing::warn!(%error, "no room for a footer");
                None
            }
            Err(error) => return Err(error),
        };
        let (bytes, sync_begun) = (self.log.undurable_in(segment.number, end.into()), Instant::now());
        segment.sync(Extent::Footer)?;
        self.log.latch.check()?;
        self.log.synced(segment.number, bytes, sync_begun.elapsed());
        // Rotated segments are sealed in order, so that everything before this one is durable too.
        self.log.advance_durable(Position::new(segment.number, end));
        let durable = self.log.durable();
        self.log.dir.update_manifest(|manifest| {
            manifest.durable = manifest.durable.max(durable);
            manifest.sealed = segment.number;
        })?;
        Counters::add(&self.log.counters.seals, 1);
        self.log.counters.seal.record_time(begun.elapsed());
        tracing::debug!(bytes = end, took = ?begun.elapsed(), "sealed");

        let mut writer = self.log.writer.lock();
        writer.rotated.pop_front();
        if let Some(trailer) = trailer {
            self.log.events.note(|| Event::Sealed { segment: segment.number.into(), bytes: end.into() });
            writer.contents.seal(segment.number, Sealed::new(Members::from_runs(&footer.runs), trailer));
        }
        writer.wishes.retention = true;
        segment.release_file();
        Ok(true)
    }

    /// Removes the oldest segments as far as the options say: from the manifest, then from memory, then from the disk.
    fn retire(&self, clock: &mut Clock) -> Result<bool> {
        let options = &self.log.options;
        let now = Clock::now(&self.log.dir);
        let age = options.max_age.filter(|age| clock.is_steady(now.wall_ms, *age)).map(|age| (age, now.wall_ms));
        *clock = now;
        let writer = self.log.writer.lock();
        let tail = writer.tail();
        let salvages = options.recovery == RecoveryMode::Salvage;
        let rows = writer.contents.rows();
        let is_emptied = |place: usize| {
            rows.get(place + 1).is_some_and(|next| writer.contents.is_emptied(&rows[place], next, salvages))
        };
        let facts: Vec<Facts> = rows
            .iter()
            .enumerate()
            .map(|(place, row)| Facts {
                bytes: row.bytes(tail),
                is_emptied: is_emptied(place),
                last_write_ms: row.segment.last_write_ms.load(Ordering::Relaxed),
                is_sealed: row.end.is_some() && !writer.rotated.iter().any(|r| r.segment.number == row.number()),
            })
            .collect();
        let limits = Limits { segments: options.max_segments, bytes: options.max_bytes, age };
        let count = plan(&facts, limits);
        let Some(first) = writer.contents.rows().get(count).filter(|_| count != 0) else {
            return Ok(false);
        };
        let first = first.segment.clone();
        // What freed the segments, and what the first one left says in their place, must be durable before they go.
        let stamp_end = Position::new(first.number, first.stamp_end);
        let needed = stamp_end.max(writer.truncated_at);
        drop(writer);
        let _span = tracing::debug_span!("retire", segments = count).entered();
        self.commits.wait(needed)?;

        let durable = self.log.durable();
        self.log.dir.update_manifest_twice(|manifest| {
            manifest.first = first.number;
            manifest.durable = manifest.durable.max(durable);
        })?;
        let retired = self.log.writer.lock().contents.retire(count, &self.log.view);
        Counters::add(&self.log.counters.segments_removed, retired.len() as u64);
        tracing::info!(segments = retired.len(), first = first.number, "retired");
        match self.log.dir.unlink(retired.iter().map(|segment| segment.number)) {
            // A file that cannot be removed now is below the first segment: the next open removes it.
            Err(error @ Error::Io { what: "remove", .. }) => tracing::warn!(%error, "a retired segment stays"),
            other => other?,
        }
        let segments = retired.iter().map(|segment| u64::from(segment.number));
        self.log.events.note(|| Event::Removed { segments: segments.collect() });
        Ok(true)
    }

    fn run(&self) {
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
            if is_healthy && writer.has_wish() {
                continue;
            }
            let tail = writer.tail();
            let has_moved = tail != seen;
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

/// A spare that open found, if it is what a spare must be: its header, and zeros. `None` where it is not; then its
/// file stays until the next open removes it.
fn take_spare(dir: &Dir, header: Header, how: Preparation) -> Result<Option<Spare>> {
    let path = dir.segment_path(header.number);
    let Ok(file) = dir.fs.open(&path, Access::Write) else {
        return Ok(None);
    };
    let is_same = read_header(&*file, &path)? == Ok(header);
    let mut window = Window::new(file.clone(), &path)?;
    if !is_same || window.nonzero(crate::segment::DATA_START.into())?.is_some() {
        return Ok(None);
    }
    let size = window.size();
    let capacity = how.capacity.max(size);
    let region = file.clone().region(how.placement, capacity).map_err(|e| Error::io("map", &path, e))?;
    // It may have lost its size in a crash, or have been made for a store that prepares nothing.
    let end = size.max(how.bytes);
    let made = match how.placement {
        Placement::Mapped => region.prepare(0, end),
        Placement::ZeroFilled if end > size => region.prepare(size, end),
        Placement::ZeroFilled | Placement::Growing => Ok(()),
    };
    let prepared = if how.placement == Placement::Growing { capacity } else { end };
    Ok(made.ok().map(|()| Spare { header, path, file, region, prepared }))
}

impl Writer {
    fn has_wish(&self) -> bool {
        self.wishes.spare
            || self.wishes.spare_room.is_some()
            || self.wishes.room.is_some()
            || self.wishes.retention
            || !self.rotated.is_empty()
    }
}
