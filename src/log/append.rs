//! Appending: check, make room, place, apply, publish.

use std::sync::atomic::Ordering;

use crate::error::{Error, Result};
use crate::format::{BLOCK_BYTES, Kind, Next, RecordType};
use crate::position::Position;
use crate::segment::Active;
use crate::sync::{Instant, MutexGuard};

use super::group::Item;
use super::{Group, Log, OVERHEAD_BYTES, Op, Scratch, Single, WARM_STEP, Wait, Writer};

/// Where the segment ends, with what may have to be placed before a write.
fn end_behind_overhead(active: &Active) -> u64 {
    u64::from(active.end) + OVERHEAD_BYTES
}

impl Log {
    /// Places one entry, whose payload ends with `tail`, and makes it visible: what [`append`](Log::append) does, for what
    /// nearly every write is. Without an index it gets the next one. Returns its index, where it stands, and the position behind it.
    ///
    /// # Errors
    /// As [`append`](Log::append).
    pub(crate) fn put(
        &self,
        index: Option<u64>,
        (single, tail): (&mut Single, &[u8]),
        wait: Wait<'_>,
    ) -> Result<(u64, Position, Position)> {
        let mut writer = self.writer.lock();
        let (index, from) = loop {
            self.check_writable(&writer)?;
            let index = match (index, writer.contents.state.next) {
                (Some(index), _) | (None, Next::At(index)) => index,
                (None, Next::Unset) => 1,
                (None, Next::Exhausted) => return Err(Error::IndexExhausted),
            };
            let from = single.set_index(index);
            let bytes = (single.bytes().len() - from + tail.len()) as u64;
            self.check_record_size(bytes)?;
            writer.contents.check_put(index)?;
            if self.has_room(&mut writer, |active| active.framer.end(end_behind_overhead(active), bytes))? {
                break (index, from);
            }
            self.wait_for_room(&mut writer, wait)?;
        };
        let active = self.active(&mut writer)?;
        let header = active.framer.checksum.fragment_header_bytes();
        let record = RecordType::alone(Kind::Entry);
        let bytes = single.bytes();
        let length = bytes.len() - from + tail.len();
        let placed = if active.takes_whole(length) {
            active.place_whole(record, &mut bytes[from - header..])
        } else if length > BLOCK_BYTES as usize {
            active.place_long(record, [&bytes[from..], tail])
        } else {
            let start = active.frame(record, &bytes[from..]);
            active.place().map(|()| start)
        };
        let offset = placed.map_err(|e| self.latch.set(e, self.durable()))?;
        let end = active.end_with_records();
        let start = Position::new(end.segment_number(), offset);
        let contents = &mut writer.contents;
        contents.put(index, &bytes[from..], start);
        self.index.publish(end);
        self.set_next(contents.state.next);
        self.announce();
        self.after_place(&mut writer, 1, length as u64);
        Ok((index, start, end))
    }

    /// Places a group and makes it visible. Calls `placed` with the position of each put, in the group's order.
    /// Returns the position behind the group: when everything before it is durable, so is the group. `None` where it
    /// would change nothing, and was not placed.
    ///
    /// # Errors
    /// What [`Contents::check`] refuses, a full disk, a closed or failed log; then nothing was placed. A failure to
    /// place sets the latch.
    pub(crate) fn append(
        &self,
        group: &Group,
        wait: Wait<'_>,
        mut placed: impl FnMut(Position),
    ) -> Result<Option<Position>> {
        let bytes = group.payload_bytes();
        if bytes > self.options.batch_bytes_max {
            return Err(Error::TooLarge { what: "batch", bytes, limit: self.options.batch_bytes_max });
        }
        self.check_record_size(group.longest())?;
        let mut writer = self.writer.lock();
        let mut scratch = std::mem::take(&mut writer.scratch);
        let skips = &mut scratch.skips;
        let appended = loop {
            self.check_writable(&writer)?;
            writer.contents.check(group, skips)?;
            if skips.len() == group.items.len() {
                break Ok(None);
            }
            let end = |active: &Active| {
                let ends = |end, item: &Item| active.framer.end(end, item.payload_bytes() as u64);
                group.live(skips).fold(end_behind_overhead(active), ends)
            };
            if self.has_room(&mut writer, end)? {
                break self.place(&mut writer, group, &mut scratch, &mut placed).map(Some);
            }
            self.wait_for_room(&mut writer, wait)?;
        };
        writer.scratch = scratch;
        appended
    }

    fn check_record_size(&self, bytes: u64) -> Result<()> {
        let limit = self.options.record_bytes_max;
        if bytes > limit { Err(Error::TooLarge { what: "record", bytes, limit }) } else { Ok(()) }
    }

    /// Whether what ends at `end` can be placed now, in the active segment or, rotating to it, in the next one. If not,
    /// the keeper has been asked.
    fn has_room(&self, writer: &mut Writer, end: impl Fn(&Active) -> u64) -> Result<bool> {
        let mut end_now = writer.active.as_ref().map_or(0, &end);
        if self.is_rotation_due(writer, end_now) {
            if !self.try_rotate(writer)? {
                return Ok(false);
            }
            end_now = writer.active.as_ref().map_or(0, end);
        }
        let Some(active) = &writer.active else { return Ok(false) };
        let end = end_now + 2 * u64::from(self.options.sync_align);
        // The next segment's offsets and footer have room for the largest batch; see `Options::validate`.
        if end <= active.segment.prepared.load(Ordering::Acquire) {
            return Ok(true);
        }
        let end = self.room_up_to(end);
        writer.wishes.room_now = writer.wishes.room_now.max(Some(end));
        Ok(false)
    }

    fn wait_for_room(&self, writer: &mut MutexGuard<'_, Writer>, wait: Wait<'_>) -> Result<()> {
        let begun = Instant::now();
        let waited = wait(writer);
        self.counters.stall.record_time(begun.elapsed());
        waited?;
        writer.failed.take().map_or(Ok(()), Err)
    }

    /// Whether what would end at `end` goes to the next segment.
    fn is_rotation_due(&self, writer: &Writer, end: u64) -> bool {
        let Some(active) = &writer.active else { return true };
        if !active.has_records {
            return false;
        }
        self.options.segment_entries.is_some_and(|most| writer.contents.tmp.len() as u64 >= most)
            || end > self.options.segment_bytes
            || self.options.segment_age.is_some_and(|age| writer.begun.elapsed() >= age)
    }

    /// The end of the log, which has room; a watermark is framed first where a sync has returned since the last one.
    fn active<'a>(&self, writer: &'a mut Writer) -> Result<&'a mut Active> {
        let Some(active) = &mut writer.active else {
            return Err(Error::Closed);
        };
        let durable = self.durable();
        if durable > writer.marked {
            active.frame_watermark(durable);
            writer.marked = durable;
        }
        Ok(active)
    }

    /// Frames, places, applies and publishes; there is room.
    fn place(
        &self,
        writer: &mut Writer,
        group: &Group,
        Scratch { skips, starts }: &mut Scratch,
        placed: &mut impl FnMut(Position),
    ) -> Result<Position> {
        let live = || group.live(skips);
        let active = self.active(writer)?;
        let count = group.items.len() - skips.len();
        let records = live().enumerate().map(|(place, item)| {
            let record = RecordType { kind: item.op.kind(), begins: place == 0, ends: place + 1 == count };
            (record, item.payload())
        });
        starts.clear();
        active.frame_all(group.bytes(), records, starts);
        active.place().map_err(|e| self.latch.set(e, self.durable()))?;
        let end = active.end_with_records();
        let position = |start: &u32| Position::new(end.segment_number(), *start);

        if let Some(indexes) = group.run().filter(|_| writer.contents.takes_runs()) {
            writer.contents.put_run(indexes, starts);
            self.index.publish(end);
            self.set_next(writer.contents.state.next);
            self.announce();
            starts.iter().for_each(|start| placed(position(start)));
            self.after_place(writer, starts.len() as u64, group.payload_bytes());
            return Ok(end);
        }
        let Writer { contents, truncated_at, wishes, .. } = writer;
        let (mut puts, mut bytes) = (0, 0);
        let mut apply = || {
            for (item, start) in live().zip(&*starts) {
                let payload = group.payload(item);
                contents.apply(item.op, payload, position(start));
                bytes += payload.len() as u64;
                match item.op {
                    Op::Put(_) => {
                        puts += 1;
                        placed(position(start));
                    }
                    Op::Truncate(_) => (*truncated_at, wishes.retention) = (end, true),
                    Op::Delete(_) | Op::Meta => {}
                }
            }
            self.index.publish(end);
        };
        let takes_away = live().any(|item| matches!(item.op, Op::Truncate(_) | Op::Meta));
        if takes_away {
            self.index.take_away(apply);
            self.set_state(&contents.state);
        } else {
            apply();
            self.set_next(contents.state.next);
        }
        self.announce();
        for item in live() {
            if let Op::Delete(index) = item.op {
                self.index.pass_over(index);
            }
        }
        self.after_place(writer, puts, bytes);
        Ok(end)
    }

    /// Asks for more space and the next segment before they are needed, and wakes the keeper from its rest.
    fn after_place(&self, writer: &mut Writer, puts: u64, bytes: u64) {
        self.counters.appended(puts, bytes);
        let Some(active) = &writer.active else { return };
        let (end, prepared) = (u64::from(active.end), active.segment.prepared.load(Ordering::Relaxed));
        let segment_bytes = self.options.segment_bytes;
        let half_full = end >= segment_bytes / 2
            || (self.options.segment_entries).is_some_and(|most| writer.contents.tmp.len() as u64 >= most.div_ceil(2));
        if end >= prepared / 2 && prepared < segment_bytes && writer.wishes.room.is_none() {
            self.want_room(writer, (prepared + prepared.min(WARM_STEP)).min(segment_bytes));
        }
        if half_full && writer.spare.is_none() && !writer.wishes.spare {
            self.want_spare(writer);
        }
        if writer.keeper_rests || writer.wishes.retention {
            writer.keeper_rests = false;
            self.wish.notify_all();
        }
    }

    /// Adds a watermark where the last one is older than what it could name; says whether it did.
    pub(crate) fn mark_durable(&self, writer: &mut Writer) -> Result<bool> {
        let (durable, marked) = (self.durable(), writer.marked);
        self.latch.check()?;
        let Some(active) = &mut writer.active else {
            return Ok(false);
        };
        let records_end = Position::new(active.segment.number, active.records_end);
        let has_room = u64::from(active.end) + OVERHEAD_BYTES + 2 * u64::from(self.options.sync_align)
            <= active.segment.prepared.load(Ordering::Acquire);
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
        let mut writer = self.writer.lock();
        if self.options.sync_align == 0 || writer.is_closed {
            return Ok(());
        }
        self.latch.check()?;
        self.pad_end(&mut writer)?;
        self.index.publish(writer.tail());
        Ok(())
    }

    /// As [`pad`](Self::pad), without a word to readers.
    pub(super) fn pad_end(&self, writer: &mut Writer) -> Result<()> {
        let align = self.options.sync_align;
        let Some(active) = writer.active.as_mut().filter(|_| align != 0) else {
            return Ok(());
        };
        active.frame_padding(align);
        if u64::from(active.frame_end()) > active.segment.prepared.load(Ordering::Acquire) {
            active.discard();
            return Ok(());
        }
        active.place().map_err(|e| self.latch.set(e, self.durable()))
    }
}
