//! Following a log: what is in it, and then what is written to it, as it is written.

mod standing;
mod stream;
mod watch;

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use crate::entry::Entry;
use crate::error::{Error, Result};
use crate::format::{EntryRecord, Kind, Tombstone, Truncation};
use crate::index::{Held, LostRange, Row, Table};
use crate::log::View;
use crate::log_order::LogItem;
use crate::options::IndexOrder;
use crate::position::Position;
use crate::reads;
use crate::segment::{DATA_START, Scan, Scanned, Segment, Stop, Window, next_fragment};
use crate::sync::{Instant, Listener};

use standing::{Standing, deletes, standing};
use watch::watch;

pub use stream::FollowStream;

/// The log in the order in which it was written, and on as it is written. See [`Reader::follow`](crate::Reader::follow).
///
/// As an iterator it waits for what comes next. It ends with an error, after which it gives `None`: [`Error::Closed`] when the
/// store is closed, [`Error::Removed`] when retention has overtaken it. Behind [`Error::Damaged`] and [`Error::Lost`] it
/// goes on with what can be read.
pub struct Follow {
    view: Arc<View>,
    from: u64,
    durable_only: bool,
    /// What is read next: the end of a batch, or the start of a segment.
    at: Position,
    scan: Option<(Arc<Segment>, Scan)>,
    batch: Vec<Scanned>,
    /// How much of the batch was shown.
    shown: usize,
    /// What stands behind what was read of the batch.
    damage: Option<Error>,
    held: Option<Held>,
    handed: Option<Handed>,
    /// What was handed out before it was known to be durable, of a log that another process writes.
    undurable: VecDeque<(Position, u64)>,
    /// Behind the last deletion or truncation that it has taken into account: where a cut takes that back, what it took is
    /// there again.
    taken_to: Position,
    /// Of segments that cannot be used, those up to this one were told of.
    told_to: u32,
    /// Cuts of the log that are dealt with.
    cuts: u64,
    /// To be handed out first.
    first: VecDeque<LogItem>,
    /// What cannot be read is read for the second time.
    is_second: bool,
    is_over: bool,
}

/// What was handed out and no truncation has taken since.
#[derive(Debug, Clone, Copy)]
struct Handed {
    low: u64,
    high: u64,
    /// Where the first of it stands.
    since: Position,
}

impl Handed {
    fn contains(&self, index: u64) -> bool {
        (self.low..=self.high).contains(&index)
    }
}

impl std::fmt::Debug for Follow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follow").field("from", &self.from).field("at", &self.at).finish_non_exhaustive()
    }
}

impl Follow {
    pub(crate) fn new(view: Arc<View>, from: u64) -> Result<Self> {
        view.check_open()?;
        view.followers.fetch_add(1, Ordering::SeqCst);
        // Before any look at the tail: see `View::announce`.
        fence(Ordering::SeqCst);
        let mut follow = Follow {
            cuts: view.cuts(),
            view,
            from,
            durable_only: false,
            at: Position::ZERO,
            scan: None,
            batch: Vec::new(),
            shown: 0,
            damage: None,
            held: None,
            handed: None,
            undurable: VecDeque::new(),
            taken_to: Position::ZERO,
            told_to: 0,
            first: VecDeque::new(),
            is_second: false,
            is_over: false,
        };
        follow.at = follow.start();
        // Looked at behind the table: what retention took before the table was read is known by now, and what it takes
        // later is missed where it stood.
        if from < follow.view.removed_below() {
            return Err(follow.view.overtaken());
        }
        watch(&follow.view)?;
        Ok(follow)
    }

    /// Whether it hands out only what is known to survive a power loss, so that nothing it handed out is ever taken back
    /// by a crash. Default: everything that can be read.
    #[must_use]
    pub fn durable_only(mut self, durable_only: bool) -> Self {
        self.durable_only = durable_only;
        self
    }

    /// Where the first entry may stand that is to be shown.
    fn start(&self) -> Position {
        let (table, tail) = self.view.index.now();
        let is_lost = |row: &Row| {
            let mut lost = table.lost().iter().filter(|lost| lost.segment == row.number());
            lost.any(|lost| lost.within(self.from, u64::MAX).is_some())
        };
        let reaches = |row: &&Row| row.bounds().is_some_and(|(_, high)| high >= self.from) || is_lost(row);
        let Some(row) = table.rows().iter().find(reaches) else {
            return tail;
        };
        if row.segment.stamp.state.order != IndexOrder::Any
            && !is_lost(row)
            && let Some(place) = table.at_or_above(self.from).and_then(|index| table.find(index))
            && place.row.number() == row.number()
            && let Ok((offset, _)) = reads::offset(&self.view, row, place.spot)
            && let Ok(Some(_)) = row.segment.batch_begins_at(offset, row.end_at(tail))
        {
            return Position::new(row.number(), offset);
        }
        Position::new(row.number(), DATA_START)
    }

    /// What comes next, if it is there already.
    ///
    /// # Errors
    /// As the iterator's items.
    pub fn try_next(&mut self) -> Result<Option<LogItem>> {
        if self.is_over {
            return Ok(None);
        }
        let step = self.step().inspect_err(|error| self.view.notice(error));
        self.is_over = matches!(&step, Err(error) if !matches!(error, Error::Damaged { .. } | Error::Lost { .. }));
        step
    }

    /// What comes next within `timeout`, or `None`.
    ///
    /// # Errors
    /// As the iterator's items.
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<LogItem>> {
        self.wait(Instant::now().checked_add(timeout))
    }

    fn wait(&mut self, deadline: Option<Instant>) -> Result<Option<LogItem>> {
        loop {
            let item = self.try_next()?;
            if item.is_some() || self.is_over {
                return Ok(item);
            }
            // Listening first and looking once more: nothing that comes in between is missed.
            let listener = self.view.moved.listen();
            let item = self.try_next()?;
            if item.is_some() || self.is_over {
                return Ok(item);
            }
            match deadline {
                None => listener.wait(),
                Some(deadline) if Instant::now() < deadline => drop(listener.wait_deadline(deadline)),
                Some(_) => return Ok(None),
            }
        }
    }

    /// As a stream, for any asynchronous runtime.
    pub fn into_stream(self) -> FollowStream {
        FollowStream::new(self)
    }

    fn step(&mut self) -> Result<Option<LogItem>> {
        loop {
            self.view.check_open()?;
            // Before the cuts are looked at: what was written behind a cut is not to count as durable before it.
            let durable = self.view.durable();
            self.note_cut();
            if let Some(item) = self.first.pop_front() {
                return Ok(Some(item));
            }
            if self.shown < self.batch.len() {
                self.shown += 1;
                if let Some(item) = self.show(self.shown - 1, durable)? {
                    return Ok(Some(item));
                }
            } else if let Some(error) = self.damage.take() {
                return Err(error);
            } else if !self.read_batch(durable)? {
                return self.view.take_trouble().map_or(Ok(None), Err);
            }
        }
    }

    /// Reads the next batch, or moves on to where one may be. Returns whether there may be one.
    fn read_batch(&mut self, durable: Position) -> Result<bool> {
        let view = self.view.clone();
        let ((table, tail), cuts) = view.index.consistent(|| (view.index.now(), view.cuts()));
        if cuts != self.cuts {
            return Ok(true);
        }
        let limit = if self.durable_only { tail.min(durable) } else { tail };
        let here = table.row(self.at.segment());
        let later = table.rows().partition_point(|row| u64::from(row.number()) <= self.at.segment());
        let next = table.rows().get(later);
        self.tell_lost(&table, self.at.segment())?;
        let Some(row) = here.filter(|row| !row.segment.is_retired()) else {
            let before = next.and_then(|next| next.segment.stamp.predecessor);
            // Read to its end before it was removed?
            let is_done = before.is_some_and(|before| Position::new(before.number, before.end) == self.at);
            let removed_to = view.index.removed_to();
            if !is_done && self.at < removed_to {
                return Err(view.overtaken());
            }
            let Some(next) = next else { return Ok(false) };
            if !is_done && let Some(Handed { low, high, since }) = self.handed.take() {
                // Truncations have emptied what is gone, and their records may be gone with it.
                if since < removed_to {
                    return Err(view.overtaken());
                }
                let position = Position::new(next.number(), DATA_START);
                self.first.push_back(LogItem::Truncated { gone: low..=high, position });
            }
            return Ok(self.enter(next));
        };
        let end = row.end_at(limit);
        if self.at.offset32() >= end {
            let is_done = row.end.is_some_and(|end| self.at.offset32() >= end);
            if next.is_none() {
                self.tell_lost(&table, u64::MAX)?;
            }
            return Ok(is_done && next.is_some_and(|next| next.number() <= limit.segment_number() && self.enter(next)));
        }
        self.scan(row, end)
    }

    /// # Errors
    /// [`Error::Lost`], once, for a segment before `end` that cannot be used.
    fn tell_lost(&mut self, table: &Table, end: u64) -> Result<()> {
        let is_due = |lost: &&LostRange| {
            let is_next = lost.segment > self.told_to && u64::from(lost.segment) < end;
            is_next && table.row(lost.segment.into()).is_none() && lost.within(self.from, u64::MAX).is_some()
        };
        match table.lost().iter().filter(is_due).min_by_key(|lost| lost.segment) {
            None => Ok(()),
            Some(lost) => {
                self.told_to = lost.segment;
                Err(lost.to_error())
            }
        }
    }

    fn enter(&mut self, row: &Row) -> bool {
        self.at = Position::new(row.number(), DATA_START);
        self.scan = None;
        true
    }

    /// Reads the next batch of the segment, up to `end`.
    fn scan(&mut self, row: &Row, end: u32) -> Result<bool> {
        let is_here = self.scan.as_ref().is_some_and(|(segment, _)| Arc::ptr_eq(segment, &row.segment));
        if !is_here {
            let file = match row.segment.file() {
                Err(error) if self.view.is_doubtful(&error) => return Ok(true),
                Err(_) if row.segment.is_retired() => return Ok(true),
                file => file?,
            };
            let window = Window::within(file, &row.segment.path, end).counted(&row.segment);
            let mut scan = Scan::new(window, row.segment.header);
            if self.at.offset32() > DATA_START {
                scan.resume_at(self.at.offset32(), row.segment.log_number_at(self.at.offset32()));
            }
            self.scan = Some((row.segment.clone(), scan));
        }
        let Some((_, scan)) = &mut self.scan else { return Ok(false) };
        scan.extend(end);
        self.shown = 0;
        let stop = scan.next_batch(&mut self.batch, end)?;
        self.at = Position::new(row.number(), scan.end());
        match stop {
            None => {
                self.is_second = false;
                return Ok(true);
            }
            Some(Stop::Limit) => return Ok(true),
            Some(_) => {}
        }
        let (at, reason) = match stop {
            Some(Stop::Bad { at, why }) => (at, why.to_string()),
            _ => (scan.end(), "the segment ends too early".to_owned()),
        };
        let error = Error::damaged(&row.segment.path, at.into(), reason);
        if !std::mem::replace(&mut self.is_second, true) && self.view.is_doubtful(&error) {
            self.scan = None;
            self.batch.clear();
            return Ok(true);
        }
        self.is_second = false;
        let file = match row.segment.file() {
            Err(_) if row.segment.is_retired() => return Ok(true),
            file => file?,
        };
        // What stands behind the damage can be read all the same.
        let mut window = Window::within(file, &row.segment.path, end);
        let found = next_fragment(&mut window, &row.segment.header, at.saturating_add(1))?;
        match found.filter(|found| found.at < end && found.record.kind != Kind::Footer) {
            Some(found) => {
                scan.rejoin_at(found.at, found.log_number);
                self.at = Position::new(row.number(), found.at);
            }
            None => {
                scan.resume_at(end, scan.log_number());
                self.at = Position::new(row.number(), end);
            }
        }
        self.damage = Some(error);
        Ok(true)
    }

    /// What a record of the batch shows; `durable` is what was before the cuts were looked at.
    fn show(&mut self, number: usize, durable: Position) -> Result<Option<LogItem>> {
        let (Some(scanned), Some((segment, scan))) = (self.batch.get(number), &mut self.scan) else { return Ok(None) };
        let position = Position::new(segment.number, scanned.start);
        let malformed = |what: &str| Error::damaged(&segment.path, position.offset(), format!("malformed {what}"));
        match scanned.record.kind {
            Kind::Entry => {
                let index = EntryRecord::decode(&scanned.payload).map_err(|e| malformed(e.0))?.index;
                if index < self.from {
                    return Ok(None);
                }
                let was_doubtful = std::mem::replace(&mut self.is_second, false);
                match standing(&self.view, index, position, self.cuts, &mut self.held) {
                    Ok(Standing::Stands) => {}
                    Ok(Standing::Taken) => {
                        self.taken_to = self.taken_to.max(self.view.index.tail());
                        return Ok(None);
                    }
                    Ok(Standing::Unsure) => {
                        self.shown = number;
                        return Ok(None);
                    }
                    Err(error) if !was_doubtful && self.view.is_doubtful(&error) => {
                        (self.shown, self.is_second) = (number, true);
                        return Ok(None);
                    }
                    Err(error) => return Err(error),
                }
                let handed = self.handed.unwrap_or(Handed { low: index, high: index, since: position });
                self.handed = Some(Handed { low: handed.low.min(index), high: handed.high.max(index), ..handed });
                if self.view.foreign.is_some() {
                    while self.undurable.front().is_some_and(|(at, _)| *at < durable) {
                        self.undurable.pop_front();
                    }
                    if position >= durable {
                        self.undurable.push_back((position, index));
                    }
                }
                Ok(Entry::new(scanned.payload.clone(), position, position < durable).map(LogItem::Entry))
            }
            Kind::Tombstone => {
                let Tombstone { index, key } = Tombstone::decode(&scanned.payload).map_err(|e| malformed(e.0))?;
                self.taken_to = self.taken_to.max(self.at);
                let removed_to = self.view.index.removed_to();
                // Retention may have taken an entry that was handed out, and with it the deletion's place in the index.
                let is_removed = |handed: Handed| handed.since < removed_to && handed.contains(index);
                let was_removed = self.handed.is_some_and(is_removed);
                let is_shown = index >= self.from && deletes(&self.view, index, position, was_removed);
                Ok(is_shown.then(|| LogItem::Deleted { index, key: key.to_vec(), position }))
            }
            Kind::Truncation => {
                let truncation = Truncation::decode(&scanned.payload).map_err(|e| malformed(e.0))?;
                self.taken_to = self.taken_to.max(self.at);
                Ok(self.truncate(truncation).map(|gone| LogItem::Truncated { gone, position }))
            }
            Kind::Gap => {
                if let Some((_, end)) = segment.gap.filter(|(from, _)| *from == scanned.start) {
                    // Nothing stands behind it in this segment, up to where what was lost ended.
                    scan.resume_at(end, scan.log_number());
                    self.at = Position::new(segment.number, end);
                } else if !segment.begins_gap(scanned.start) {
                    return Ok(None);
                }
                Err(Error::Lost { segment: position.segment() })
            }
            _ => Ok(None),
        }
    }

    /// What a truncation takes of what was handed out.
    fn truncate(&mut self, truncation: Truncation) -> Option<RangeInclusive<u64>> {
        let Handed { low, high, since } = self.handed?;
        let (gone, (left_low, left_high)) = match truncation {
            Truncation::Before(index) => (0..=index.checked_sub(1)?, (low.max(index), high)),
            Truncation::After(index) => (index.checked_add(1)?..=u64::MAX, (low, high.min(index))),
            Truncation::Reset(_) => (0..=u64::MAX, (1, 0)),
        };
        if *gone.start() > high || *gone.end() < low {
            return None;
        }
        self.handed = (left_low <= left_high).then_some(Handed { low: left_low, high: left_high, since });
        self.undurable.retain(|(_, index)| !gone.contains(index));
        Some(gone)
    }

    /// Where the log was cut under this reader, goes back to what is certain.
    fn note_cut(&mut self) {
        let Some((position, cuts)) = self.view.cut_since(self.cuts) else { return };
        (self.cuts, self.is_second) = (cuts, false);
        // Not even the beginning is certain where it is another log, or nothing was known to be durable.
        if position == Position::ZERO || self.taken_to > position {
            return self.begin_again(position);
        }
        if self.at <= position {
            return;
        }
        let mut gone: Vec<u64> =
            self.undurable.iter().filter(|(at, _)| *at >= position).map(|(_, index)| *index).collect();
        self.undurable.retain(|(at, _)| *at < position);
        gone.sort_unstable();
        for ranges in gone.chunk_by(|a, b| a + 1 == *b) {
            if let (Some(first), Some(last)) = (ranges.first(), ranges.last()) {
                self.first.push_back(LogItem::Truncated { gone: *first..=*last, position });
            }
        }
        (self.at, self.scan, self.held, self.damage) = (position, None, None, None);
        self.batch.clear();
    }

    /// Takes everything back that was handed out, and begins anew.
    fn begin_again(&mut self, position: Position) {
        let gone = self.handed.take().map(|_| LogItem::Truncated { gone: 0..=u64::MAX, position });
        self.first.extend(gone);
        self.undurable.clear();
        self.batch.clear();
        (self.scan, self.held, self.damage, self.taken_to) = (None, None, None, Position::ZERO);
        self.told_to = 0;
        self.at = self.start();
    }
}

impl Iterator for Follow {
    type Item = Result<LogItem>;

    fn next(&mut self) -> Option<Self::Item> {
        self.wait(None).transpose()
    }
}

impl std::iter::FusedIterator for Follow {}

impl Drop for Follow {
    fn drop(&mut self) {
        self.view.followers.fetch_sub(1, Ordering::AcqRel);
    }
}
