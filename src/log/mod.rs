//! The ordered segments: append, rotate, find.
//!
//! One writer at a time holds the writer lock, for memory operations and one placement of bytes; never across a sync.
//! What needs time, the writer asks of the keeper by setting a wish under the lock.

mod contents;
mod dir;
mod group;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::error::{Error, Result};
use crate::format::{Framer, HeadStamp, Header, Kind, Next, Predecessor, RecordType, State};
use crate::fs::{Lock, Region};
use crate::index::Index;
use crate::latch::Latch;
use crate::options::{Options, SyncPolicy};
use crate::position::{Position, SEGMENT_NUMBER_MAX};
use crate::segment::{Active, DATA_START, Segment};
use crate::stats::Counters;

pub(crate) use contents::{Contents, Journal, Meta, raised_floor};
pub(crate) use dir::{Dir, Preparation, PrepareError, Spare, draw_log_id, draw_log_number, redraw_log_number};
pub(crate) use group::{Group, Op, Value, encode_value};

/// Rotated segments that may wait to be sealed before the writer waits for them.
const ROTATED_MAX: usize = 8;

/// Space is made ready in steps no smaller than this, unless segments are smaller.
pub(crate) const PREPARED_STEP: u64 = 1 << 20;

/// Room for a watermark and a resume record before a group.
const OVERHEAD_BYTES: u64 = 128;

/// See the module.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) options: Options,
    pub(crate) dir: Dir,
    pub(crate) latch: Latch,
    pub(crate) index: Arc<Index>,
    pub(crate) meta: Arc<parking_lot::RwLock<Meta>>,
    pub(crate) counters: Counters,
    pub(crate) writer: Mutex<Writer>,
    /// With the writer lock: the keeper has something to do.
    pub(crate) wish: Condvar,
    /// With the writer lock: the keeper has done something.
    pub(crate) done: Condvar,
    /// Everything before this position is durable.
    durable: AtomicU64,
    /// What `append` will probably take; encoding with it outside the lock saves doing it inside.
    pub(crate) next_guess: AtomicU64,
    /// Reads are refused.
    pub(crate) is_closed: AtomicBool,
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
    starts: Vec<u32>,
    pub(crate) is_closed: bool,
    /// The keeper sleeps without a time-out.
    pub(crate) keeper_rests: bool,
    /// When the active segment was begun, as far as this process knows.
    pub(crate) begun: Instant,
    /// Syncs that callers asked for since the active segment was begun.
    pub(crate) syncs_asked: u64,
}

/// What the writer wants from the keeper.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    /// A segment to rotate to.
    pub(crate) spare: bool,
    /// The prepared end of the active segment raised to this.
    pub(crate) room: Option<u64>,
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
        f.debug_struct("Rotated")
            .field("segment", &self.segment.number)
            .field("end", &self.end)
            .finish()
    }
}

/// Gives up the writer lock until the keeper has done something.
pub(crate) type Wait<'a> = &'a dyn Fn(&mut MutexGuard<'_, Writer>) -> Result<()>;

impl Log {
    pub(crate) fn new(options: Options, dir: Dir, writer: Writer, durable: Position) -> Self {
        Log {
            options,
            dir,
            latch: Latch::default(),
            index: writer.contents.index.clone(),
            meta: writer.contents.meta.clone(),
            counters: Counters::default(),
            writer: Mutex::new(writer),
            wish: Condvar::new(),
            done: Condvar::new(),
            durable: AtomicU64::new(durable.to_word()),
            next_guess: AtomicU64::new(1),
            is_closed: AtomicBool::new(false),
            lock: Mutex::new(None),
        }
    }

    /// Everything before this position is durable.
    pub(crate) fn durable(&self) -> Position {
        Position::from_word(self.durable.load(Ordering::Acquire))
    }

    /// A sync that was issued when the log ended at `position` has returned, for this and all segments before.
    pub(crate) fn advance_durable(&self, position: Position) {
        self.durable.fetch_max(position.to_word(), Ordering::AcqRel);
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
        let rows = table
            .rows()
            .iter()
            .filter(|row| u64::from(row.number()) >= durable.segment());
        let all: u64 = rows.map(|row| row.bytes(tail)).sum();
        all.saturating_sub(durable.offset())
    }

    /// Places a group and makes it visible. Calls `placed` with the position of each put, in the group's order.
    /// Returns the position behind the group: when everything before it is durable, so is the group.
    ///
    /// # Errors
    /// What [`Contents::check`] refuses, a full disk, a closed or failed log; then nothing was placed. A failure to
    /// place sets the latch.
    pub(crate) fn append(
        &self,
        group: &mut Group,
        wait: Wait<'_>,
        mut placed: impl FnMut(Position),
    ) -> Result<Position> {
        let mut writer = self.writer.lock();
        loop {
            self.check_open(&writer)?;
            if group.appends {
                match writer.contents.state.next {
                    Next::Unset => group.set_only_index(1),
                    Next::At(next) if group.items[0].op == Op::Put(next) => {}
                    Next::At(next) => group.set_only_index(next),
                    Next::Exhausted => return Err(Error::IndexExhausted),
                }
            }
            writer.contents.check(group)?;
            if group.items.iter().all(|item| item.skip) {
                return Ok(self.index.tail());
            }
            if self.has_room(&mut writer, group)? {
                break;
            }
            wait(&mut writer)?;
            if let Some(error) = writer.failed.take() {
                return Err(error);
            }
        }
        self.place(&mut writer, group, &mut placed)
    }

    /// Lets others open the log; this one is over.
    pub(crate) fn release(&self) {
        self.is_closed.store(true, Ordering::Release);
        let mut writer = self.writer.lock();
        writer.ended = writer.end();
        (writer.active, writer.spare) = (None, None);
        *self.lock.lock() = None;
    }

    pub(crate) fn check_open(&self, writer: &Writer) -> Result<()> {
        if writer.is_closed {
            return Err(Error::Closed);
        }
        self.latch.check()
    }

    /// Whether the group can be placed now, in the active segment or, rotating to it, in the next one. If not, the
    /// keeper has been asked.
    fn has_room(&self, writer: &mut Writer, group: &Group) -> Result<bool> {
        if self.is_rotation_due(writer, group) && !self.try_rotate(writer)? {
            return Ok(false);
        }
        let Some(active) = &writer.active else { return Ok(false) };
        let end = self.end_behind(active, group);
        // The next segment's offsets and footer have room for the largest batch; see `Options::validate`.
        if end <= active.segment.prepared.load(Ordering::Acquire) {
            return Ok(true);
        }
        self.want_room(writer, end);
        Ok(false)
    }

    /// Where the segment would end with the group, generously.
    fn end_behind(&self, active: &Active, group: &Group) -> u64 {
        let mut end = u64::from(active.end) + OVERHEAD_BYTES + u64::from(self.options.sync_align);
        for item in group.items.iter().filter(|item| !item.skip) {
            end = active.framer.end(end, group.payload(item).len() as u64);
        }
        end
    }

    fn is_rotation_due(&self, writer: &Writer, group: &Group) -> bool {
        let Some(active) = &writer.active else { return true };
        if !active.has_records {
            return false;
        }
        let entries = writer.contents.tmp.len() as u64;
        self.options.segment_entries.is_some_and(|most| entries >= most)
            || self.end_behind(active, group) > self.options.segment_bytes
            || self
                .options
                .segment_age
                .is_some_and(|age| writer.begun.elapsed() >= age)
    }

    /// Moves on to the spare segment; asks for one and returns false where there is none.
    ///
    /// Nothing is synced: the spare's name and header are durable already, and its head stamp says where this segment
    /// ended. A crash that loses the head stamp loses what follows it, none of which was acknowledged as durable
    /// before this segment was synced to its end and that one behind it.
    pub(crate) fn try_rotate(&self, writer: &mut Writer) -> Result<bool> {
        if writer.rotated.len() >= ROTATED_MAX {
            self.wish.notify_all();
            return Ok(false);
        }
        let Some(spare) = writer.spare.take() else {
            self.want_spare(writer);
            return Ok(false);
        };
        let stamp = self.head_stamp(writer);
        let Spare {
            header,
            path,
            file,
            region,
            prepared,
        } = spare;
        let mut payload = Vec::new();
        stamp.encode(&mut payload);
        let framer = Framer {
            checksum: header.checksum,
            log_number: header.log_number,
        };
        let mut segment = Segment::new(self.dir.files.clone(), path, header, stamp, Some(file));
        segment.prepared.store(prepared, Ordering::Release);
        segment.stamp_end = framer.end(DATA_START.into(), payload.len() as u64) as u32;
        let segment = Arc::new(segment);
        let mut active = Active::new(segment.clone(), region, DATA_START, header.log_number);
        active.frame(RecordType::alone(Kind::HeadStamp), &payload, None);
        active.place().map_err(|e| self.latch.set(e, self.durable()))?;

        active.records_end = active.end;

        writer.marked = segment.stamp.durable;
        writer.ended = None;
        let old = writer.active.replace(active);
        let tmp = writer.contents.tmp.clone();
        let journal = writer.contents.begin_segment(segment, old.as_ref().map(|old| old.end));
        if let Some(old) = old {
            self.counters.rotations.fetch_add(1, Ordering::Relaxed);
            if !writer.keeper_rests {
                old.segment.last_write_ms.store(now_ms(), Ordering::Relaxed);
            }
            let (segment, end, framer) = (old.segment, old.end, old.framer);
            writer.rotated.push_back(Rotated {
                segment,
                end,
                framer,
                journal,
                tmp,
                region: Some(old.region),
            });
        }
        writer.begun = Instant::now();
        writer.syncs_asked = 0;
        writer.contents.publish_rows();
        self.index.publish(writer.tail());
        self.wish.notify_all();
        Ok(true)
    }

    fn head_stamp(&self, writer: &Writer) -> HeadStamp {
        HeadStamp {
            predecessor: writer.end(),
            durable: self.durable(),
            state: writer.contents.state,
            truncations: writer.contents.journal.truncations.clone(),
            meta: writer.contents.meta.read().clone(),
            time_ms: now_ms(),
        }
    }

    /// Frames, places, applies and publishes; there is room.
    fn place(&self, writer: &mut Writer, group: &Group, placed: &mut dyn FnMut(Position)) -> Result<Position> {
        let Writer {
            contents,
            active,
            marked,
            starts,
            truncated_at,
            wishes,
            ..
        } = writer;
        let Some(active) = active else {
            return Err(Error::Closed);
        };
        let durable = self.durable();
        if durable > *marked {
            active.frame_watermark(durable);
            *marked = durable;
        }
        let items = || group.items.iter().filter(|item| !item.skip);
        let count = items().count();
        starts.clear();
        for (place, item) in items().enumerate() {
            let record = RecordType {
                kind: item.op.kind(),
                begins: place == 0,
                ends: place + 1 == count,
            };
            let digest = item.digest.clone().filter(|_| group.checksum == active.framer.checksum);
            starts.push(active.frame(record, group.payload(item), digest));
        }
        active.place().map_err(|e| self.latch.set(e, durable))?;
        active.records_end = active.end;
        active.has_records = true;
        let number = active.segment.number;
        let end = Position::new(number, active.end);

        let mut apply = || {
            for (item, start) in items().zip(starts.iter()) {
                let position = Position::new(number, *start);
                contents.apply(item.op, group.payload(item), position);
                match item.op {
                    Op::Put(_) => placed(position),
                    Op::Truncate(_) => (*truncated_at, wishes.retention) = (end, true),
                    Op::Delete(_) | Op::Meta => {}
                }
            }
            self.index.publish(end);
        };
        let takes_away = items().any(|item| matches!(item.op, Op::Truncate(_) | Op::Meta));
        if takes_away {
            self.index.take_away(apply)
        } else {
            apply()
        }
        for item in items() {
            if let Op::Delete(index) = item.op {
                self.index.pass_over(index);
            }
        }
        self.after_place(writer, group);
        Ok(end)
    }

    /// Asks for more space and the next segment before they are needed, and wakes the keeper from its rest.
    fn after_place(&self, writer: &mut Writer, group: &Group) {
        let items = || group.items.iter().filter(|item| !item.skip);
        let bytes = items().map(|item| group.payload(item).len() as u64).sum();
        if let Next::At(next) = writer.contents.state.next {
            self.next_guess.store(next, Ordering::Relaxed);
        }
        self.counters.appended(
            items().filter(|item| matches!(item.op, Op::Put(_))).count() as u64,
            bytes,
        );
        let Some(active) = &writer.active else { return };
        let (end, prepared) = (u64::from(active.end), active.segment.prepared.load(Ordering::Relaxed));
        let segment_bytes = self.options.segment_bytes;
        let entries = writer.contents.tmp.len() as u64;
        let half_full = end >= segment_bytes / 2
            || self
                .options
                .segment_entries
                .is_some_and(|most| entries >= most.div_ceil(2));
        if end >= prepared / 2 && prepared < segment_bytes && writer.wishes.room.is_none() {
            self.want_room(writer, (2 * prepared).min(segment_bytes));
        }
        if half_full && writer.spare.is_none() && !writer.wishes.spare {
            self.want_spare(writer);
        }
        if writer.keeper_rests || writer.wishes.retention {
            writer.keeper_rests = false;
            self.wish.notify_all();
        }
    }

    fn want_spare(&self, writer: &mut Writer) {
        writer.wishes.spare = true;
        self.wish.notify_all();
    }

    fn want_room(&self, writer: &mut Writer, end: u64) {
        let step = PREPARED_STEP
            .min(self.options.segment_bytes.next_power_of_two())
            .max(1 << 12);
        let end = end.next_multiple_of(step).max(writer.wishes.room.unwrap_or(0));
        writer.wishes.room = Some(end);
        self.wish.notify_all();
    }

    /// How the next segment is to be made.
    pub(crate) fn preparation(&self, writer: &Writer) -> Preparation {
        // A log that filled a segment will fill the next; a small one stays small.
        let active = writer.active.as_ref();
        let so_far = active.map_or(0, |active| active.segment.prepared.load(Ordering::Relaxed));
        // Callers who sync every few hundred KiB pay dearly for large folios.
        let syncs_often = active
            .is_some_and(|active| writer.syncs_asked > 8 && writer.syncs_asked * (256 << 10) > u64::from(active.end));
        Preparation::new(&self.options, &*self.dir.fs, so_far, syncs_often)
    }

    /// Shows readers what open found.
    pub(crate) fn publish_open(&self) {
        let writer = self.writer.lock();
        writer.contents.publish_rows();
        self.index.publish(writer.tail());
    }

    /// The identity of the next segment file. The number is used up, whatever becomes of the file.
    pub(crate) fn next_header(&self) -> Result<Header> {
        let mut manifest = self.dir.manifest.lock();
        let number = manifest.now.next;
        if number > SEGMENT_NUMBER_MAX {
            return Err(Error::InvalidOption {
                option: "segment_bytes",
                reason: format!(
                    "all {SEGMENT_NUMBER_MAX} segment numbers are used; rewrite the log with larger segments"
                ),
            });
        }
        manifest.now.next += 1;
        if manifest.now.log_id == 0 {
            manifest.now.log_id = draw_log_id()?;
        }
        let log_id = manifest.now.log_id;
        Ok(Header {
            checksum: self.options.checksum,
            log_id,
            number: number as u32,
            log_number: draw_log_number()?,
        })
    }

    /// Adds a watermark where the last one is older than what it could name; says whether it did.
    pub(crate) fn mark_durable(&self, writer: &mut Writer) -> Result<bool> {
        let (durable, marked) = (self.durable(), writer.marked);
        let Some(active) = &mut writer.active else {
            return Ok(false);
        };
        let records_end = Position::new(active.segment.number, active.records_end);
        let has_room = u64::from(active.end) + OVERHEAD_BYTES <= active.segment.prepared.load(Ordering::Acquire);
        // Only watermarks since the last one: naming them in turn would never end.
        let is_due = durable > marked && records_end > marked && has_room;
        if is_due {
            active.frame_watermark(durable);
            active.place().map_err(|e| self.latch.set(e, durable))?;
            writer.marked = durable;
            self.index.publish(writer.tail());
        }
        Ok(is_due)
    }

    /// Fills the block the log ends in with padding, before a sync, so that no later write touches a block that holds
    /// durable bytes. `has_room` has kept the space for it.
    pub(crate) fn pad(&self) -> Result<()> {
        let align = self.options.sync_align;
        let mut writer = self.writer.lock();
        if align == 0 || writer.is_closed {
            return Ok(());
        }
        let Some(active) = &mut writer.active else {
            return Ok(());
        };
        active.frame_padding(align);
        active.place().map_err(|e| self.latch.set(e, self.durable()))?;
        self.index.publish(writer.tail());
        Ok(())
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
            starts: Vec::new(),
            is_closed: false,
            keeper_rests: false,
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
        self.end()
            .map_or(Position::ZERO, |end| Position::new(end.number, end.end))
    }

    pub(crate) fn state(&self) -> State {
        self.contents.state
    }
}

/// Milliseconds since 1970, for people and for retention by age only.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}
