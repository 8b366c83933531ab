//! Moving on to the next segment, and asking the keeper for what that needs.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::events::Event;
use crate::format::{Framer, HeadStamp, Header, Kind, RecordType};
use crate::fs::Placement;
use crate::position::SEGMENT_NUMBER_MAX;
use crate::segment::{Active, DATA_START, Segment};
use crate::sync::Instant;

use super::{
    Log, PREPARED_STEP, Preparation, ROTATED_MAX, Rotated, Spare, WARM_STEP, Writer, draw_log_id, draw_log_number,
};

/// Records that are longer on average are written through the file where pages are not warm, each with a system call, and
/// not stored into a mapping.
const LONG_BYTES: u64 = 32 << 10;

/// A segment that was filled sooner than this is part of a burst: the next one is expected to fill as soon.
pub(crate) const BURST_FILL_MAX: Duration = Duration::from_secs(1);

impl Log {
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
        let begun = Instant::now();
        // Its footer is written behind what is durable by then.
        self.pad_end(writer)?;
        let stamp = self.head_stamp(writer);
        let mut payload = Vec::new();
        stamp.encode(&mut payload);
        let header = spare.header;
        let framer = Framer { checksum: header.checksum, log_number: header.log_number };
        let stamp_end = framer.end(DATA_START.into(), payload.len() as u64);
        if stamp_end > spare.prepared {
            writer.spare = Some(spare);
            writer.wishes.spare_room = Some(stamp_end.next_multiple_of(PREPARED_STEP));
            self.wish.notify_all();
            return Ok(false);
        }
        let Spare { path, file, region, prepared, .. } = spare;
        let mut segment = Segment::new(self.dir.files.clone(), path, header, stamp, Some(file));
        segment.prepared.store(prepared, Ordering::Release);
        segment.stamp_end = stamp_end as u32;
        let segment = Arc::new(segment);
        let mut active = Active::new(segment.clone(), region, DATA_START, header.log_number);
        active.frame(RecordType::alone(Kind::HeadStamp), &payload);
        active.place().map_err(|e| self.latch.set(e, self.durable()))?;

        active.records_end = active.end;

        writer.marked = segment.stamp.durable;
        writer.ended = None;
        let old = writer.active.replace(active);
        let tmp = writer.contents.tmp.clone();
        let journal = writer.contents.begin_segment(segment, old.as_ref().map(|old| old.end));
        if let Some(old) = old {
            self.counters.rotations.fetch_add(1, Ordering::Relaxed);
            let (from, to) = (u64::from(old.segment.number), u64::from(header.number));
            tracing::debug!(from, to, "rotated");
            self.events.note(|| Event::Rotated { from, to });
            writer.hurries = self.options.background && writer.begun.elapsed() < BURST_FILL_MAX;
            // There would be no time to make the next one ready while the second half of this one is filled.
            writer.wishes.spare = writer.hurries;
            // As much room as the old segment had, before it is missed. Not more than a segment: of what follows, a batch larger
            // than that says nothing.
            let wanted = old.segment.prepared.load(Ordering::Relaxed).min(self.options.segment_bytes);
            (writer.wishes.room, writer.wishes.room_now) = (Some(wanted).filter(|_| writer.hurries), None);
            if !writer.keeper_rests {
                old.segment.last_write_ms.store(self.dir.now_ms(), Ordering::Relaxed);
            }
            let (segment, end, framer) = (old.segment, old.end, old.framer);
            writer.rotated.push_back(Rotated { segment, end, framer, journal, tmp, region: Some(old.region) });
            self.counters.rotation.record_time(begun.elapsed());
        }
        writer.begun = Instant::now();
        writer.syncs_asked = 0;
        writer.contents.publish_rows();
        self.index.publish(writer.tail());
        self.wish.notify_all();
        // Whoever waited for room in the old segment looks at this one.
        self.done.notify_all();
        Ok(true)
    }

    fn head_stamp(&self, writer: &Writer) -> HeadStamp {
        HeadStamp {
            predecessor: writer.end(),
            durable: self.durable(),
            state: writer.contents.state,
            truncations: writer.contents.journal.truncations.clone(),
            meta: writer.contents.meta.read().clone(),
            time_ms: self.dir.now_ms(),
        }
    }

    pub(super) fn want_spare(&self, writer: &mut Writer) {
        writer.wishes.spare = true;
        self.wish.notify_all();
    }

    pub(super) fn want_room(&self, writer: &mut Writer, end: u64) {
        writer.wishes.room = writer.wishes.room.max(Some(self.room_up_to(end)));
        self.wish.notify_all();
    }

    /// The end of the room that is made so that something may end at `end`.
    pub(super) fn room_up_to(&self, end: u64) -> u64 {
        end.next_multiple_of(PREPARED_STEP.min(self.options.segment_bytes.next_power_of_two()).max(1 << 12))
    }

    /// How the next segment is to be made.
    pub(crate) fn preparation(&self, writer: &Writer) -> Preparation {
        // A log that filled a segment will fill the next; a small one stays small.
        let active = writer.active.as_ref();
        let so_far = active.map_or(0, |active| active.segment.prepared.load(Ordering::Relaxed));
        // Callers who sync every few hundred KiB would wait for pages of zeros that were warmed, too.
        let syncs_often = active
            .is_some_and(|active| writer.syncs_asked > 8 && writer.syncs_asked * (256 << 10) > u64::from(active.end));
        let mut how = Preparation::new(&self.options, &*self.dir.fs, so_far, syncs_often);
        if how.placement == Placement::Mapped && !self.places_long(writer) {
            how.bytes = how.bytes.min(WARM_STEP);
        }
        how
    }

    /// Whether what the active segment holds came in pieces so long that warm pages would be of no use to them.
    pub(crate) fn places_long(&self, writer: &Writer) -> bool {
        let end = writer.active.as_ref().map_or(0, |active| u64::from(active.end));
        end > (writer.contents.tmp.len() as u64 + 1) * LONG_BYTES
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
        Ok(Header { checksum: self.options.checksum, log_id, number: number as u32, log_number: draw_log_number()? })
    }
}
