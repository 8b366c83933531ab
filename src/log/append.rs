//! Appending: check, make room, place, apply, publish.

use std::sync::atomic::Ordering;

use crate::error::{Error, Result};
use crate::format::{Next, RecordType};
use crate::position::Position;
use crate::segment::Active;

use super::{Group, Log, OVERHEAD_BYTES, Op, Wait, Writer};

impl Log {
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
            self.check_writable(&writer)?;
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

    /// Whether the group can be placed now, in the active segment or, rotating to it, in the next one. If not, the
    /// keeper has been asked.
    fn has_room(&self, writer: &mut Writer, group: &Group) -> Result<bool> {
        if self.is_rotation_due(writer, group) && !self.try_rotate(writer)? {
            return Ok(false);
        }
        let Some(active) = &writer.active else { return Ok(false) };
        let end = self.end_behind(active, group) + 2 * u64::from(self.options.sync_align);
        // The next segment's offsets and footer have room for the largest batch; see `Options::validate`.
        if end <= active.segment.prepared.load(Ordering::Acquire) {
            return Ok(true);
        }
        self.want_room(writer, end);
        Ok(false)
    }

    /// Where the segment would end with the group, generously.
    fn end_behind(&self, active: &Active, group: &Group) -> u64 {
        let mut end = u64::from(active.end) + OVERHEAD_BYTES;
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
            || self.options.segment_age.is_some_and(|age| writer.begun.elapsed() >= age)
    }

    /// Frames, places, applies and publishes; there is room.
    fn place(&self, writer: &mut Writer, group: &Group, placed: &mut dyn FnMut(Position)) -> Result<Position> {
        let Writer { contents, active, marked, starts, truncated_at, wishes, .. } = writer;
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
            let record = RecordType { kind: item.op.kind(), begins: place == 0, ends: place + 1 == count };
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
        self.moved.notify(usize::MAX);
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
        self.set_state(&writer.contents.state);
        self.counters.appended(items().filter(|item| matches!(item.op, Op::Put(_))).count() as u64, bytes);
        let Some(active) = &writer.active else { return };
        let (end, prepared) = (u64::from(active.end), active.segment.prepared.load(Ordering::Relaxed));
        let segment_bytes = self.options.segment_bytes;
        let entries = writer.contents.tmp.len() as u64;
        let half_full =
            end >= segment_bytes / 2 || self.options.segment_entries.is_some_and(|most| entries >= most.div_ceil(2));
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
