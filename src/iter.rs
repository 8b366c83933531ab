//! Iterators over the live entries in index order, and over the log in the order it was written.

use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use bytes::Bytes;

use crate::entry::Entry;
use crate::error::{Error, Result};
use crate::format::{EntryRecord, Kind, Tombstone};
use crate::index::{Row, Snapshot};
use crate::log::Log;
use crate::position::Position;
use crate::reads;
use crate::segment::{Scan, Scanned, Stop, Window};

/// Live entries in index order. See [`Store::range`](crate::Store::range).
///
/// It shows the log as it was when the iterator was made, however long it lives: later writes and deletions do not
/// change it. Where a truncation or retention takes entries that it has not handed out, it ends with
/// [`Error::Truncated`] or [`Error::Removed`], never silently.
#[derive(Debug)]
pub struct Iter {
    log: Arc<Log>,
    snapshot: Snapshot,
    /// What is left: the lowest and highest index that may still come.
    left: Option<(u64, u64)>,
}

impl Iter {
    pub(crate) fn new(log: Arc<Log>, range: impl RangeBounds<u64>) -> Self {
        let low = match range.start_bound() {
            Bound::Included(index) => Some(*index),
            Bound::Excluded(index) => index.checked_add(1),
            Bound::Unbounded => Some(0),
        };
        let high = match range.end_bound() {
            Bound::Included(index) => Some(*index),
            Bound::Excluded(index) => index.checked_sub(1),
            Bound::Unbounded => Some(u64::MAX),
        };
        let asked = low.zip(high).filter(|(low, high)| low <= high);
        let mut iter = Iter { snapshot: log.index.snapshot(), log, left: asked };
        // An entry stands at both ends of what is left, so that one that a truncation takes is noticed. A truncation
        // that comes before both are found is one before the iterator was made.
        loop {
            match (iter.step(End::Front), iter.step(End::Back)) {
                (Some(Ok(first)), Some(Ok(last))) => iter.left = Some((first, last)),
                (None, None) => iter.left = None,
                _ => {
                    iter.snapshot = iter.log.index.snapshot();
                    continue;
                }
            }
            return iter;
        }
    }

    /// The next index from one end, if there is one that nothing has taken meanwhile.
    fn step(&self, end: End) -> Option<Result<u64>> {
        let (low, high) = self.left?;
        let Snapshot { table, tail, kept } = &self.snapshot;
        let index = &self.log.index;
        index.consistent(|| {
            let (kept_low, kept_high) = kept.bounds();
            let found = match end {
                End::Front => index.first_from(low, table, *tail).filter(|found| *found <= high),
                End::Back => index.last_to(high, table, *tail).filter(|found| *found >= low),
            };
            let (is_cut, reaches) = match end {
                End::Front => (low < kept_low, kept_high),
                End::Back => (high > kept_high, kept_low),
            };
            match (end, found) {
                _ if is_cut => Some(Err(Error::Truncated)),
                (End::Front, Some(found)) if found > reaches => Some(Err(Error::Truncated)),
                (End::Back, Some(found)) if found < reaches => Some(Err(Error::Truncated)),
                (End::Front, None) if high > kept_high => Some(Err(Error::Truncated)),
                (End::Back, None) if low < kept_low => Some(Err(Error::Truncated)),
                (_, found) => found.map(Ok),
            }
        })
    }

    fn take(&mut self, end: End) -> Option<Result<Entry>> {
        let found = match self.step(end)? {
            Ok(found) => found,
            Err(error) => {
                self.left = None;
                return Some(Err(error));
            }
        };
        let (low, high) = self.left?;
        self.left = match end {
            End::Front => found.checked_add(1).map(|low| (low, high)),
            End::Back => found.checked_sub(1).map(|high| (low, high)),
        }
        .filter(|(low, high)| low <= high);
        let place = self.snapshot.table.find(found);
        // A truncation may have come since the step looked, and another entry may stand under this index by now.
        let Some(place) = place.filter(|place| place.position() < self.snapshot.tail) else {
            self.left = None;
            return Some(Err(Error::Truncated));
        };
        let entry = reads::entry_at(&self.log, &place, self.snapshot.tail);
        if matches!(entry, Err(Error::Removed { .. } | Error::Closed)) {
            self.left = None;
        }
        Some(entry)
    }
}

#[derive(Debug, Clone, Copy)]
enum End {
    Front,
    Back,
}

impl Iterator for Iter {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        self.take(End::Front)
    }
}

impl DoubleEndedIterator for Iter {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.take(End::Back)
    }
}

impl std::iter::FusedIterator for Iter {}

/// One record of the log, as [`Store::log_order`](crate::Store::log_order) shows it.
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
}

impl LogItem {
    /// The index it is about.
    pub fn index(&self) -> u64 {
        match self {
            LogItem::Entry(entry) => entry.index(),
            LogItem::Deleted { index, .. } => *index,
        }
    }

    /// Where it stands in the log.
    pub fn position(&self) -> Position {
        match self {
            LogItem::Entry(entry) => entry.position(),
            LogItem::Deleted { position, .. } => *position,
        }
    }
}

/// Entries and deletions in the order in which they were written; what truncations took is left out. See
/// [`Store::log_order`](crate::Store::log_order).
pub struct LogOrder {
    log: Arc<Log>,
    snapshot: Snapshot,
    /// Nothing before it is shown.
    from: Position,
    row: usize,
    scan: Option<Scan>,
    batch: std::vec::IntoIter<Scanned>,
    is_over: bool,
}

impl std::fmt::Debug for LogOrder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogOrder").field("from", &self.from).field("row", &self.row).finish_non_exhaustive()
    }
}

impl LogOrder {
    pub(crate) fn new(log: Arc<Log>, from: Position) -> Self {
        let snapshot = log.index.snapshot();
        let row = snapshot.table.rows().partition_point(|row| u64::from(row.number()) < from.segment());
        LogOrder { log, snapshot, from, row, scan: None, batch: Vec::new().into_iter(), is_over: false }
    }

    fn step(&mut self) -> Result<Option<LogItem>> {
        loop {
            for scanned in self.batch.by_ref() {
                let row = &self.snapshot.table.rows()[self.row];
                let position = Position::new(row.number(), scanned.start);
                if scanned.record.kind == Kind::Gap {
                    // Behind a gap nothing stands in this segment.
                    self.scan = None;
                    self.row += 1;
                    return Err(Error::Lost { segment: position.segment() });
                }
                if position >= self.from
                    && let Some(item) = show(&self.log, &self.snapshot, row, position, scanned)?
                {
                    return Ok(Some(item));
                }
            }
            let Some(row) = self.snapshot.table.rows().get(self.row) else {
                return Ok(None);
            };
            if reads::is_closed(&self.log) {
                return Err(Error::Closed);
            }
            if row.segment.is_retired() {
                if row.count() != 0 {
                    return Err(Error::Removed { first: self.log.index.first() });
                }
                // Truncations had left nothing of it before the snapshot was taken: nothing is missed.
                self.scan = None;
                self.row += 1;
                continue;
            }
            let tail = self.snapshot.tail;
            let end = row.end_at(tail);
            let scan = match &mut self.scan {
                Some(scan) => scan,
                None => {
                    let file = match row.segment.file() {
                        // Retired since it was looked at: once more.
                        Err(Error::Missing { .. }) if row.segment.is_retired() => continue,
                        file => file?,
                    };
                    let window = Window::new(file, &row.segment.path)?;
                    self.scan.insert(Scan::new(window, row.segment.header))
                }
            };
            let mut batch = Vec::new();
            match scan.next_batch(&mut batch, end)? {
                None => self.batch = batch.into_iter(),
                Some(Stop::Limit) => {
                    self.scan = None;
                    self.row += 1;
                }
                Some(stop) => {
                    let (at, reason) = match stop {
                        Stop::Bad { at, why } => (at, why.to_string()),
                        _ => (scan.end(), "the segment ends too early".to_owned()),
                    };
                    let error = Error::damaged(&row.segment.path, at.into(), reason);
                    // The next segment can be read all the same.
                    self.scan = None;
                    self.row += 1;
                    return Err(error);
                }
            }
        }
    }
}

/// What a record shows, if it belongs to the log as the snapshot saw it.
fn show(log: &Log, snapshot: &Snapshot, row: &Row, position: Position, scanned: Scanned) -> Result<Option<LogItem>> {
    let malformed = |what: &str| Error::damaged(&row.segment.path, position.offset(), format!("malformed {what}"));
    let index = match scanned.record.kind {
        Kind::Entry => EntryRecord::decode(&scanned.payload).map_err(|e| malformed(e.0))?.index,
        Kind::Tombstone => Tombstone::decode(&scanned.payload).map_err(|e| malformed(e.0))?.index,
        _ => return Ok(None),
    };
    let is_shown = log.index.consistent(|| {
        let (low, high) = snapshot.kept.bounds();
        if index < low || index > high {
            return Err(Error::Truncated);
        }
        Ok(match scanned.record.kind {
            Kind::Entry => snapshot.table.find(index).is_some_and(|place| place.position() == position),
            _ => log.index.tombstone(index) == Some(position),
        })
    })?;
    if !is_shown {
        return Ok(None);
    }
    Ok(match scanned.record.kind {
        Kind::Entry => {
            let payload = Bytes::from(scanned.payload);
            Entry::new(payload, position, position < log.durable()).map(LogItem::Entry)
        }
        _ => {
            let tombstone = Tombstone::decode(&scanned.payload).map_err(|e| malformed(e.0))?;
            Some(LogItem::Deleted { index, key: tombstone.key.to_vec(), position })
        }
    })
}

impl Iterator for LogOrder {
    type Item = Result<LogItem>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let step = self.step();
        // Damage and gaps are stepped over; everything else ends it.
        self.is_over = !matches!(step, Ok(Some(_)) | Err(Error::Damaged { .. } | Error::Lost { .. }));
        step.transpose()
    }
}

impl std::iter::FusedIterator for LogOrder {}
