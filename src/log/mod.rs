//! The ordered segments: append, rotate, find.
//!
//! One writer at a time holds the writer lock, for memory operations and one placement of bytes; never across a sync.
//! What needs time, the writer asks of the keeper by setting a wish under the lock.

mod append;
mod contents;
mod dir;
mod group;
mod mark;
#[cfg(all(casklog_loom, test))]
mod models;
mod rotate;
mod state;
mod view;

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::events::Event;
use crate::format::{Framer, Header, Predecessor};
use crate::fs::{File, Lock, Region};
use crate::latch::Latch;
use crate::options::{Options, SyncPolicy};
use crate::position::Position;
use crate::segment::{Active, DATA_START, Segment};
use crate::stats::Counters;
use crate::sync::{Condvar, Instant, Mutex, MutexGuard};

pub(crate) use contents::{Contents, Journal, Meta};
pub(crate) use dir::{Dir, Preparation, PrepareError, Spare, draw_log_id, draw_log_number, redraw_log_number};
pub(crate) use group::{Group, Op, Single, Value};
pub(crate) use rotate::BURST_FILL_MAX;
pub(crate) use view::{Foreign, View};

/// Rotated segments that may wait to be sealed before the writer waits for them.
pub(crate) const ROTATED_MAX: usize = 8;

/// Space is made ready in steps no smaller than this, unless segments are smaller.
pub(crate) const PREPARED_STEP: u64 = 1 << 20;

/// Pages are warmed in steps no larger than this, of about two milliseconds, so that a writer need not wait for all of them.
pub(crate) const WARM_STEP: u64 = 8 << 20;

/// Room for a watermark and a resume record before a group.
const OVERHEAD_BYTES: u64 = 128;

/// See the module.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) view: Arc<View>,
    pub(crate) latch: Latch,
    pub(crate) writer: Mutex<Writer>,
    /// With the writer lock: the keeper has something to do.
    pub(crate) wish: Condvar,
    /// With the writer lock: the keeper has done something.
    pub(crate) done: Condvar,
    /// Held until the log is closed, or all threads that may write are gone.
    pub(crate) lock: Mutex<Option<Box<dyn Lock>>>,
}

/// What only the holder of the writer lock sees.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) contents: Contents,
    pub(crate) active: Option<Active>,
    pub(crate) spare: Option<Spare>,
    /// What the keeper is to do next.
    pub(crate) wishes: Wishes,
    /// Why the last wish failed, for the write that waits for it.
    pub(crate) failed: Option<Error>,
    /// Segments that take no more records and are not sealed yet, oldest first.
    pub(crate) rotated: VecDeque<Rotated>,
    /// The position that the last watermark names.
    pub(crate) marked: Position,
    /// Where the log ends while there is no active segment: the last one takes no more records.
    pub(crate) ended: Option<Predecessor>,
    /// A spare that was found at open and is not checked yet.
    pub(crate) found_spare: Option<Header>,
    /// The last truncation: nothing it freed is retired before it is durable.
    pub(crate) truncated_at: Position,
    scratch: Scratch,
    pub(crate) is_closed: bool,
    /// The keeper sleeps without a time-out.
    pub(crate) keeper_rests: bool,
    /// The segment before the active one was filled within [`BURST_FILL_MAX`], and the writer neither paused since nor took longer for
    /// this one.
    pub(crate) hurries: bool,
    /// When the active segment was begun, as far as this process knows.
    pub(crate) begun: Instant,
    /// Syncs that callers asked for since the active segment was begun.
    pub(crate) syncs_asked: u64,
}

/// Memory that a batch needs while it is placed; nothing in it lasts.
#[derive(Debug, Default)]
struct Scratch {
    /// The places of records that would do nothing.
    skips: Vec<usize>,
    /// Where the others begin.
    starts: Vec<u32>,
}

/// What the writer wants from the keeper.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    /// A segment to rotate to.
    pub(crate) spare: bool,
    /// The prepared end of the active segment raised to this, before it is needed.
    pub(crate) room: Option<u64>,
    /// The same for a writer who waits for it.
    pub(crate) room_now: Option<u64>,
    /// The prepared end of the spare raised to this: its head stamp is larger than it has room for.
    pub(crate) spare_room: Option<u64>,
    /// All segments up to this one sealed, without delay: somebody waits for it.
    pub(crate) sealed: u32,
    /// A look at which segments may go.
    pub(crate) retention: bool,
}

/// A segment on its way to being sealed.
pub(crate) struct Rotated {
    pub(crate) segment: Arc<Segment>,
    pub(crate) end: u32,
    pub(crate) framer: Framer,
    pub(crate) journal: Journal,
    pub(crate) tmp: Arc<crate::index::Tmp>,
    /// Unmapped by the keeper, not by the writer.
    pub(crate) region: Option<Arc<dyn Region>>,
}

impl std::fmt::Debug for Rotated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rotated").field("segment", &self.segment.number).field("end", &self.end).finish()
    }
}

/// Gives up the writer lock until the keeper has done something.
pub(crate) type Wait<'a> = &'a dyn Fn(&mut MutexGuard<'_, Writer>) -> Result<()>;

impl Deref for Log {
    type Target = View;

    fn deref(&self) -> &View {
        &self.view
    }
}

impl Log {
    pub(crate) fn new(options: Options, dir: Dir, writer: Writer, durable: Position) -> Self {
        let (index, meta) = (writer.contents.index.clone(), writer.contents.meta.clone());
        let view = Arc::new(View::new(options, dir, index, meta, durable));
        Log {
            latch: Latch::new(view.events.clone()),
            view,
            writer: Mutex::new(writer),
            wish: Condvar::new(),
            done: Condvar::new(),
            lock: Mutex::new(None),
        }
    }

    /// W has moved on: after a while of idleness the keeper says so in the log.
    pub(crate) fn wake_resting_keeper(&self) {
        let mut writer = self.writer.lock();
        if writer.keeper_rests {
            writer.keeper_rests = false;
            self.wish.notify_all();
        }
    }

    /// Stops the log for good.
    pub(crate) fn fail(&self, cause: Error) -> Error {
        let error = self.latch.set(cause, self.durable());
        // Whoever waits for the keeper must learn of it.
        let _writer = self.writer.lock();
        self.wish.notify_all();
        self.done.notify_all();
        error
    }

    /// Bytes that are written and not known to be durable.
    pub(crate) fn undurable(&self) -> u64 {
        let (tail, durable) = (self.index.tail(), self.durable());
        if tail <= durable {
            return 0;
        }
        if tail.segment() == durable.segment() {
            return tail.offset() - durable.offset();
        }
        let table = self.index.table();
        let rows = table.rows().iter().filter(|row| u64::from(row.number()) >= durable.segment());
        let all: u64 = rows.map(|row| row.bytes(tail)).sum();
        all.saturating_sub(durable.offset())
    }

    /// Bytes of a segment, up to `end`, that are written and not known to be durable.
    pub(crate) fn undurable_in(&self, number: u32, end: u64) -> u64 {
        let durable = self.durable();
        match u64::from(number).cmp(&durable.segment()) {
            Ordering::Less => 0,
            Ordering::Equal => end.saturating_sub(durable.offset()),
            Ordering::Greater => end,
        }
    }

    /// A sync of a segment has returned, which made so many bytes durable. Whoever listens is told later, so that it may be
    /// called by the leader of others who wait.
    pub(crate) fn synced(&self, number: u32, bytes: u64, took: Duration) {
        Counters::add(&self.counters.syncs, 1);
        self.counters.sync.record_time(took);
        self.counters.sync_bytes.record(bytes);
        if took < self.options.slow_sync {
            tracing::trace!(segment = number, bytes, ?took, "synced");
            return;
        }
        tracing::warn!(segment = number, bytes, ?took, "a sync was slow");
        self.events.note(|| Event::SlowSync { segment: number.into(), bytes, took });
    }

    /// Gives back the space that was made ready and not used: all is durable, nothing more is written, and the next open
    /// need not look for what may stand there. Best effort: a crash before it leaves zeros, which open knows too.
    pub(crate) fn trim(&self) {
        let mut writer = self.writer.lock();
        writer.ended = writer.end();
        let (active, spare) = (writer.active.take(), writer.spare.take());
        let active = active.map(|active| (active.segment.clone(), u64::from(active.end)));
        if let Some((segment, end)) = active {
            segment.drop_region();
            if let Ok(file) = segment.file() {
                trim_file(&*file, end);
            }
        }
        if let Some(Spare { file, region, .. }) = spare {
            drop(region);
            trim_file(&*file, DATA_START.into());
        }
    }

    /// Lets others open the log; this one is over.
    pub(crate) fn release(&self) {
        self.view.close();
        let mut writer = self.writer.lock();
        writer.ended = writer.end();
        (writer.active, writer.spare) = (None, None);
        writer.contents.rows().iter().for_each(|row| row.segment.release_file());
        self.dir.close_files();
        *self.lock.lock() = None;
    }

    pub(crate) fn check_writable(&self, writer: &Writer) -> Result<()> {
        if writer.is_closed {
            return Err(Error::Closed);
        }
        self.latch.check()
    }

    /// Shows readers what open found.
    pub(crate) fn publish_open(&self) {
        let mut writer = self.writer.lock();
        writer.contents.publish_rows();
        self.index.publish(writer.tail());
        self.set_state(&writer.contents.state);
        // What should have gone before a crash goes now.
        writer.wishes.retention = true;
    }

    pub(crate) fn policy(&self) -> SyncPolicy {
        self.options.sync
    }
}

impl Writer {
    pub(crate) fn new(contents: Contents, marked: Position) -> Self {
        Writer {
            contents,
            active: None,
            spare: None,
            wishes: Wishes::default(),
            failed: None,
            rotated: VecDeque::new(),
            marked,
            ended: None,
            found_spare: None,
            truncated_at: Position::ZERO,
            scratch: Scratch::default(),
            is_closed: false,
            keeper_rests: false,
            hurries: false,
            begun: Instant::now(),
            syncs_asked: 0,
        }
    }

    /// The last segment and where it ends.
    pub(crate) fn end(&self) -> Option<Predecessor> {
        let active = self.active.as_ref().map(|active| Predecessor {
            number: active.segment.number,
            log_number: active.framer.log_number,
            end: active.end,
        });
        active.or(self.ended)
    }

    /// Where the log ends.
    pub(crate) fn tail(&self) -> Position {
        self.end().map_or(Position::ZERO, |end| Position::new(end.number, end.end))
    }
}

fn trim_file(file: &dyn File, end: u64) {
    if file.size().is_ok_and(|size| size > end)
        && let Err(error) = file.set_size(end)
    {
        tracing::warn!(%error, "unused space stays allocated");
    }
}
