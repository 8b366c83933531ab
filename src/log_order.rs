//! The log in the order in which it was written.

use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::entry::Entry;
use crate::error::{Error, Result};
use crate::format::{Kind, Tombstone};
use crate::index::{Held, Indexes, Place, Row, Snapshot, Spot, Stretch};
use crate::log::View;
use crate::position::Position;
use crate::segment::{Scan, Scanned, Stop, Window, next_fragment};

/// One record of the log, as [`Reader::log_order`](crate::Reader::log_order) shows it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum LogItem {
    /// An entry, whether it was deleted later or not.
    Entry(Entry),
    /// The deletion of an entry.
    Deleted {
        /// The entry's index, which stays taken.
        index: u64,
        /// The entry's key.
        key: Vec<u8>,
        /// Where the deletion stands.
        position: Position,
    },
    /// Entries are no longer in the log: of those that stand before `position`, all with an index in `gone`. Only
    /// [`Follow`](crate::Follow) shows it, and only if it has handed out one of them.
    Truncated {
        /// The indexes that are gone.
        gone: RangeInclusive<u64>,
        /// Where the truncation stands.
        position: Position,
    },
}

impl LogItem {
    /// The index it is about; of a truncation the lowest one that is gone.
    pub fn index(&self) -> u64 {
        match self {
            LogItem::Entry(entry) => entry.index(),
            LogItem::Deleted { index, .. } => *index,
            LogItem::Truncated { gone, .. } => *gone.start(),
        }
    }

    /// Where it stands in the log.
    pub fn position(&self) -> Position {
        match self {
            LogItem::Entry(entry) => entry.position(),
            LogItem::Deleted { position, .. } | LogItem::Truncated { position, .. } => *position,
        }
    }
}

/// Entries and deletions in the order in which they were written; what truncations took is left out. See
/// [`Reader::log_order`](crate::Reader::log_order).
///
/// It shows the log as it was when the iterator was made. [`Error::Truncated`], [`Error::Removed`] and [`Error::Closed`] end it;
/// behind [`Error::Damaged`] and [`Error::Lost`] it goes on with what can be read. A truncation that takes nothing of what it
/// has still to show may end it as well, where the indexes it names were truncated once before.
pub struct LogOrder {
    view: Arc<View>,
    snapshot: Snapshot,
    /// Nothing before it is shown.
    from: Position,
    /// Nothing behind this segment is shown.
    last_segment: u64,
    row: usize,
    /// Segments that cannot be used and were not told of yet, the first one last.
    missing: Vec<u32>,
    scan: Option<Scan>,
    batch: Vec<Scanned>,
    /// How much of the batch was shown.
    shown: usize,
    held: Option<Held>,
    /// In a sealed segment: indexes around the last one.
    stretch: Option<Stretch>,
    /// What stands behind what was read of the batch.
    damage: Option<Error>,
    /// What cannot be read is read for the second time.
    is_second: bool,
    is_over: bool,
}

impl std::fmt::Debug for LogOrder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogOrder").field("from", &self.from).field("row", &self.row).finish_non_exhaustive()
    }
}

impl LogOrder {
    pub(crate) fn new(view: Arc<View>, from: Position) -> Self {
        let snapshot = view.index.snapshot();
        let rows = snapshot.table.rows();
        let row = rows.partition_point(|row| u64::from(row.number()) < from.segment());
        let is_row = |number: u32| rows.binary_search_by_key(&number, Row::number).is_ok();
        let lost = snapshot.table.lost().iter().map(|range| range.segment);
        let mut missing: Vec<u32> = lost.filter(|n| u64::from(*n) >= from.segment() && !is_row(*n)).collect();
        missing.sort_unstable_by_key(|number| std::cmp::Reverse(*number));
        missing.dedup();
        LogOrder {
            view,
            snapshot,
            from,
            last_segment: u64::MAX,
            row,
            missing,
            scan: None,
            batch: Vec::new(),
            shown: 0,
            held: None,
            stretch: None,
            damage: None,
            is_second: false,
            is_over: false,
        }
    }

    /// Ends behind the segment with this number.
    #[must_use]
    pub fn up_to_segment(mut self, number: u64) -> Self {
        self.last_segment = number;
        self
    }

    /// Leaves out what is left of the segment of the item that came last; the next one is the first of a later segment.
    pub fn skip_segment(&mut self) {
        self.next_row();
    }

    fn next_row(&mut self) {
        self.row += 1;
        (self.scan, self.stretch) = (None, None);
        self.batch.clear();
        self.shown = 0;
        self.damage = None;
    }

    fn step(&mut self) -> Result<Option<LogItem>> {
        loop {
            while let Some(scanned) = self.batch.get(self.shown) {
                let position = Position::new(self.snapshot.table.rows()[self.row].number(), scanned.start);
                let segment = &self.snapshot.table.rows()[self.row].segment;
                if scanned.record.kind == Kind::Gap && segment.gap.is_some_and(|(from, _)| from == scanned.start) {
                    // Behind it nothing stands in this segment.
                    self.next_row();
                    return Err(Error::Lost { segment: position.segment() });
                }
                let is_gap = scanned.record.kind == Kind::Gap && segment.begins_gap(scanned.start);
                self.shown += 1;
                if position < self.from {
                    continue;
                }
                if is_gap {
                    return Err(Error::Lost { segment: position.segment() });
                }
                match self.show(self.shown - 1) {
                    Ok(None) => {}
                    Err(error @ Error::Missing { .. }) => {
                        // Retired while the rest of it was being shown.
                        let is_retired = self.snapshot.table.rows()[self.row].segment.is_retired();
                        let is_gone = is_retired || self.view.is_doubtful(&error);
                        return Err(if is_gone { self.view.removed() } else { error });
                    }
                    shown => return shown,
                }
            }
            if let Some(error) = self.damage.take() {
                return Err(error);
            }
            let row = self.snapshot.table.rows().get(self.row);
            let is_next = |number: &mut u32| row.is_none_or(|row| *number < row.number());
            if let Some(missing) = self.missing.pop_if(is_next).map(u64::from)
                && missing <= self.last_segment
            {
                return Err(Error::Lost { segment: missing });
            }
            let Some(row) = row.filter(|row| u64::from(row.number()) <= self.last_segment) else {
                return Ok(None);
            };
            self.view.check_open()?;
            let end = row.end_at(self.snapshot.tail);
            if self.scan.as_ref().is_some_and(|scan| scan.end() >= end) {
                self.next_row();
                continue;
            }
            if row.segment.is_retired() {
                // Without entries of its own it may still have deletions of those before it.
                if self.snapshot.table.rows()[..=self.row].iter().any(|row| row.count() != 0) {
                    return Err(self.view.removed());
                }
                if self.snapshot.kept.bounds() != (0, u64::MAX) {
                    return Err(Error::Truncated);
                }
                // Truncations had left nothing of it before the snapshot was taken: nothing is missed.
                self.next_row();
                continue;
            }
            let scan = match &mut self.scan {
                Some(scan) => scan,
                None => match begin(row, self.from, end) {
                    // Retired since it was looked at: once more.
                    Err(Error::Missing { .. }) if row.segment.is_retired() => continue,
                    Err(error @ Error::Missing { .. }) if self.view.is_doubtful(&error) => {
                        return Err(self.view.removed());
                    }
                    scan => self.scan.insert(scan?),
                },
            };
            self.shown = 0;
            match scan.next_batch(&mut self.batch, end)? {
                None => self.is_second = false,
                Some(Stop::Limit) => self.next_row(),
                Some(stop) => {
                    let (at, reason) = match stop {
                        Stop::Bad { at, why } => (at, why.to_string()),
                        _ => (scan.end(), "the segment ends too early".to_owned()),
                    };
                    let error = Error::damaged(&row.segment.path, at.into(), reason);
                    if !self.is_second && self.view.is_doubtful(&error) {
                        if self.snapshot.kept.bounds() != (0, u64::MAX) {
                            return Err(Error::Truncated);
                        }
                        self.is_second = true;
                        self.batch.clear();
                        scan.forget();
                        continue;
                    }
                    self.is_second = false;
                    // What stands behind the damage can be read all the same.
                    let file = match row.segment.file() {
                        Err(Error::Missing { .. }) if row.segment.is_retired() => continue,
                        file => file?,
                    };
                    let mut window = Window::new(file, &row.segment.path)?;
                    let next = next_fragment(&mut window, &row.segment.header, at.saturating_add(1))?;
                    match next.filter(|next| next.at < end && next.record.kind != Kind::Footer) {
                        Some(next) => scan.rejoin_at(next.at, next.log_number),
                        None => scan.resume_at(end, scan.log_number()),
                    }
                    self.damage = Some(error);
                }
            }
        }
    }
}

/// A scan of the segment, from the batch at `from` where one begins there. Whatever it opens may be retired meanwhile.
fn begin(row: &Row, from: Position, end: u32) -> Result<Scan> {
    let window = Window::new(row.segment.file()?, &row.segment.path)?.counted(&row.segment);
    let mut scan = Scan::new(window, row.segment.header);
    if from.segment_number() == row.number()
        && let Some(log_number) = row.segment.batch_begins_at(from.offset32(), end)?
    {
        scan.resume_at(from.offset32(), log_number);
    }
    Ok(scan)
}

impl LogOrder {
    /// What a record of the batch shows, if it belongs to the log as the snapshot saw it.
    fn show(&mut self, number: usize) -> Result<Option<LogItem>> {
        let Snapshot { table, tail, kept } = &self.snapshot;
        let (row, scanned) = (&table.rows()[self.row], &mut self.batch[number]);
        let position = Position::new(row.number(), scanned.start);
        let malformed = |what: &str| Error::damaged(&row.segment.path, position.offset(), format!("malformed {what}"));
        let check = |index| {
            let (low, high) = kept.bounds();
            if index < low || index > high { Err(Error::Truncated) } else { Ok(()) }
        };
        match scanned.record.kind {
            Kind::Tombstone => {
                let Tombstone { index, key } = Tombstone::decode(&scanned.payload).map_err(|e| malformed(e.0))?;
                // In force, if the entry that it deletes was there when the iterator was made.
                let place = self.view.index.consistent(|| {
                    check(index)?;
                    Ok::<_, Error>(table.find_before(index, *tail).filter(|place| place.is_before(position)))
                })?;
                let stands = match place {
                    Some(Place { row, spot: Spot::Member(place), .. }) if row.number() == position.segment_number() => {
                        let Indexes::Sealed(sealed) = &row.indexes else { return Ok(None) };
                        let (offset, _) = sealed.offset_near(&row.segment, &self.view.cache, place, &mut self.held)?;
                        offset < scanned.start
                    }
                    place => place.is_some(),
                };
                Ok(stands.then(|| LogItem::Deleted { index, key: key.to_vec(), position }))
            }
            Kind::Entry => {
                let entry = Entry::new(std::mem::take(&mut scanned.payload), position, position < self.view.durable());
                let entry = entry.ok_or_else(|| malformed("entry"))?;
                let index = entry.index();
                let offset = match &row.indexes {
                    Indexes::Tmp(_) => {
                        let spot = self.view.index.consistent(|| check(index).map(|()| row.find(index)))?;
                        if let Some(Spot::At(offset, _)) = spot { Some(offset) } else { None }
                    }
                    Indexes::Sealed(sealed) => {
                        check(index)?;
                        if !self.stretch.is_some_and(|known| known.contains(index)) {
                            self.stretch = row.stretch(index, *tail);
                        }
                        let place = self.stretch.and_then(|known| known.place(index));
                        let offset = |place| sealed.offset_near(&row.segment, &self.view.cache, place, &mut self.held);
                        place.map(offset).transpose()?.map(|(offset, _)| offset)
                    }
                };
                Ok((offset == Some(scanned.start)).then_some(LogItem::Entry(entry)))
            }
            _ => Ok(None),
        }
    }
}

impl Iterator for LogOrder {
    type Item = Result<LogItem>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let step = self.step().inspect_err(|error| self.view.notice(error));
        // Damage and gaps are stepped over; everything else ends it.
        self.is_over = !matches!(step, Ok(Some(_)) | Err(Error::Damaged { .. } | Error::Lost { .. }));
        step.transpose()
    }
}

impl std::iter::FusedIterator for LogOrder {}
