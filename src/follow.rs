//! Following a log: what is in it, and then what is written to it, as it is written.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use event_listener::{EventListener, Listener};
use futures_core::Stream;

use crate::entry::Entry;
use crate::error::{Error, Result};
use crate::format::{EntryRecord, Kind, Tombstone, Truncation};
use crate::index::{Held, Indexes, Row, Spot};
use crate::log::View;
use crate::log_order::LogItem;
use crate::options::IndexOrder;
use crate::position::Position;
use crate::reads;
use crate::segment::{DATA_START, Scan, Scanned, Segment, Stop, Window, next_fragment};

/// A thread looks for news of a writer in another process after pauses between these, longer the longer there are none.
const PAUSE_LEAST: Duration = Duration::from_millis(1);
const PAUSE_MOST: Duration = Duration::from_millis(100);

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
    held: Option<Held>,
    /// The lowest and highest index handed out that no truncation has taken since.
    handed: Option<(u64, u64)>,
    /// What was handed out before it was known to be durable, of a log that another process writes.
    undurable: VecDeque<(Position, u64)>,
    /// Behind the last deletion or truncation that it has taken into account: where a cut takes that back, what it took is
    /// there again.
    taken_to: Position,
    /// Cuts of the log that are dealt with.
    cuts: u64,
    /// To be handed out first.
    first: VecDeque<LogItem>,
    is_second: bool,
    is_over: bool,
}

impl std::fmt::Debug for Follow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follow").field("from", &self.from).field("at", &self.at).finish_non_exhaustive()
    }
}

impl Follow {
    pub(crate) fn new(view: Arc<View>, from: u64) -> Result<Self> {
        view.check_open()?;
        if from < view.removed_below() {
            return Err(view.removed());
        }
        view.followers.fetch_add(1, Ordering::SeqCst);
        let mut follow = Follow {
            cuts: view.last_cut().0,
            view,
            from,
            durable_only: false,
            at: Position::ZERO,
            scan: None,
            batch: Vec::new(),
            shown: 0,
            held: None,
            handed: None,
            undurable: VecDeque::new(),
            taken_to: Position::ZERO,
            first: VecDeque::new(),
            is_second: false,
            is_over: false,
        };
        watch(&follow.view)?;
        follow.at = loop {
            match follow.start() {
                Err(error @ Error::Missing { .. }) if follow.view.is_doubtful(&error) => {}
                at => break at?,
            }
        };
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
    fn start(&mut self) -> Result<Position> {
        let view = self.view.clone();
        let (table, tail) = view.index.now();
        let reaches = |row: &&Row| row.bounds().is_some_and(|(_, high)| high >= self.from);
        let Some(row) = table.rows().iter().find(reaches) else {
            return Ok(tail);
        };
        if row.segment.stamp.state.order != IndexOrder::Any
            && let Some(index) = table.at_or_above(self.from)
            && let Some(place) = table.find(index)
        {
            let (offset, _) = reads::offset(&view, place.row, place.spot)?;
            if place.row.segment.batch_begins_at(offset, place.row.end_at(tail))?.is_some() {
                return Ok(Position::new(place.row.number(), offset));
            }
        }
        Ok(Position::new(row.number(), DATA_START))
    }

    /// What comes next, if it is there already.
    ///
    /// # Errors
    /// As the iterator's items.
    pub fn try_next(&mut self) -> Result<Option<LogItem>> {
        if self.is_over {
            return Ok(None);
        }
        let step = self.step();
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
            let listener = self.view.moved.listen();
            let item = self.try_next()?;
            if item.is_some() || self.is_over {
                return Ok(item);
            }
            match deadline {
                None => listener.wait(),
                Some(deadline) if listener.wait_deadline(deadline).is_some() => {}
                Some(_) => return self.try_next(),
            }
        }
    }

    /// As a stream, for any asynchronous runtime.
    pub fn into_stream(self) -> FollowStream {
        FollowStream { follow: self, listener: None }
    }

    fn step(&mut self) -> Result<Option<LogItem>> {
        loop {
            self.view.check_open()?;
            self.note_cut()?;
            if let Some(item) = self.first.pop_front() {
                return Ok(Some(item));
            }
            while self.shown < self.batch.len() {
                self.shown += 1;
                if let Some(item) = self.show(self.shown - 1)? {
                    return Ok(Some(item));
                }
            }
            if !self.read_batch()? {
                return self.view.take_trouble().map_or(Ok(None), Err);
            }
        }
    }

    /// Reads the next batch, or moves on to where one may be. Returns whether there may be one.
    fn read_batch(&mut self) -> Result<bool> {
        let view = self.view.clone();
        let (table, tail) = view.index.now();
        let limit = if self.durable_only { tail.min(view.durable()) } else { tail };
        let here = table.row(self.at.segment());
        let later = table.rows().partition_point(|row| u64::from(row.number()) <= self.at.segment());
        let next = table.rows().get(later);
        let Some(row) = here.filter(|row| !row.segment.is_retired()) else {
            let removed_to = view.index.removed_to();
            // Read to its end before it was removed?
            let before = next.and_then(|next| next.segment.stamp.predecessor);
            let is_done =
                before.is_some_and(|b| Position::new(b.number, b.end) == self.at) || self.at == Position::ZERO;
            let is_gone = removed_to > self.at.segment_number() || removed_to == self.at.segment_number() && !is_done;
            if is_gone && self.at != Position::ZERO {
                return Err(view.removed());
            }
            return Ok(next.is_some_and(|next| self.enter(next)));
        };
        let end = row.end_at(limit);
        if self.at.offset32() >= end {
            let is_done = row.end.is_some_and(|end| self.at.offset32() >= end);
            return Ok(is_done && next.is_some_and(|next| next.number() <= limit.segment_number() && self.enter(next)));
        }
        self.scan(row, end)
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
                Err(Error::Missing { .. }) if row.segment.is_retired() => return Ok(true),
                file => file?,
            };
            let mut scan = Scan::new(Window::within(file, &row.segment.path, end), row.segment.header);
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
            Some(_) => self.batch.clear(),
        }
        let (at, reason) = match stop {
            Some(Stop::Bad { at, why }) => (at, why.to_string()),
            _ => (scan.end(), "the segment ends too early".to_owned()),
        };
        let error = Error::damaged(&row.segment.path, at.into(), reason);
        if !std::mem::replace(&mut self.is_second, true) && self.view.is_doubtful(&error) {
            self.scan = None;
            return Ok(true);
        }
        self.is_second = false;
        // What stands behind the damage can be read all the same.
        let mut window = Window::within(row.segment.file()?, &row.segment.path, end);
        let found = next_fragment(&mut window, &row.segment.header, at.saturating_add(1))?;
        match found.filter(|found| found.at < end && found.record.kind != Kind::Footer) {
            Some(found) => {
                scan.resume_at(found.at, found.log_number);
                self.at = Position::new(row.number(), found.at);
            }
            None => {
                scan.resume_at(end, scan.log_number());
                self.at = Position::new(row.number(), end);
            }
        }
        Err(error)
    }

    /// What a record of the batch shows.
    fn show(&mut self, number: usize) -> Result<Option<LogItem>> {
        let (Some(scanned), Some((segment, _))) = (self.batch.get(number), &self.scan) else { return Ok(None) };
        let position = Position::new(segment.number, scanned.start);
        let malformed = |what: &str| Error::damaged(&segment.path, position.offset(), format!("malformed {what}"));
        let durable = self.view.durable();
        match scanned.record.kind {
            Kind::Entry => {
                let index = EntryRecord::decode(&scanned.payload).map_err(|e| malformed(e.0))?.index;
                if index < self.from {
                    return Ok(None);
                }
                if !stands(&self.view, index, position, &mut self.held)? {
                    self.taken_to = self.taken_to.max(self.view.index.tail());
                    return Ok(None);
                }
                self.handed = Some(self.handed.map_or((index, index), |(lo, hi)| (lo.min(index), hi.max(index))));
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
                Ok((index >= self.from).then(|| LogItem::Deleted { index, key: key.to_vec(), position }))
            }
            Kind::Truncation => {
                let truncation = Truncation::decode(&scanned.payload).map_err(|e| malformed(e.0))?;
                self.taken_to = self.taken_to.max(self.at);
                Ok(self.truncate(truncation).map(|gone| LogItem::Truncated { gone, position }))
            }
            Kind::Gap => Err(Error::Lost { segment: position.segment() }),
            _ => Ok(None),
        }
    }

    /// What a truncation takes of what was handed out.
    fn truncate(&mut self, truncation: Truncation) -> Option<RangeInclusive<u64>> {
        let (low, high) = self.handed?;
        let (gone, left) = match truncation {
            Truncation::Before(index) => (0..=index.checked_sub(1)?, (low.max(index), high)),
            Truncation::After(index) => (index.checked_add(1)?..=u64::MAX, (low, high.min(index))),
            Truncation::Reset(_) => (0..=u64::MAX, (1, 0)),
        };
        if *gone.start() > high || *gone.end() < low {
            return None;
        }
        self.handed = Some(left).filter(|(low, high)| low <= high);
        Some(gone)
    }

    /// Where the log was cut under this reader, goes back to what is certain.
    fn note_cut(&mut self) -> Result<()> {
        let (cuts, position) = self.view.last_cut();
        if cuts == self.cuts {
            return Ok(());
        }
        let is_only = cuts == self.cuts + 1;
        self.cuts = cuts;
        // Not even the beginning is certain where it is another log, or nothing was known to be durable.
        if !is_only || position == Position::ZERO || self.taken_to > position {
            return self.begin_again(position);
        }
        if self.at <= position {
            return Ok(());
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
        (self.at, self.scan, self.held) = (position, None, None);
        self.batch.clear();
        Ok(())
    }

    /// Takes everything back that was handed out, and begins anew.
    fn begin_again(&mut self, position: Position) -> Result<()> {
        let gone = self.handed.take().map(|_| LogItem::Truncated { gone: 0..=u64::MAX, position });
        self.first.extend(gone);
        self.undurable.clear();
        self.batch.clear();
        (self.scan, self.held, self.taken_to) = (None, None, Position::ZERO);
        self.at = self.start()?;
        Ok(())
    }
}

/// Whether an entry that was read is still in the log, deleted or not: no truncation has taken it.
///
/// # Errors
/// [`Error::Removed`] where its segment was retired meanwhile, so that nobody can tell.
fn stands(view: &View, index: u64, position: Position, held: &mut Option<Held>) -> Result<bool> {
    loop {
        let (table, found) = view.index.consistent(|| {
            let (table, _) = view.index.now();
            let found = table.find(index).filter(|place| place.row.number() == position.segment_number());
            let found = found.map(|place| (place.number, place.spot));
            (table, found)
        });
        let Some((number, spot)) = found else {
            let is_gone = table.row(position.segment()).is_none();
            let had_entries = view.index.removed_to() >= position.segment_number();
            return if is_gone && had_entries { Err(view.removed()) } else { Ok(false) };
        };
        let row = &table.rows()[number];
        let offset = match (spot, &row.indexes) {
            (Spot::Member(place), Indexes::Sealed(sealed)) => {
                sealed.offset_near(&row.segment, &view.cache, place, held).map(|(offset, _)| offset)
            }
            (spot, _) => reads::offset(view, row, spot).map(|(offset, _)| offset),
        };
        match offset {
            Err(Error::Missing { .. }) if row.segment.is_retired() => {}
            Err(error @ Error::Missing { .. }) if view.is_doubtful(&error) => {}
            offset => return Ok(offset? == position.offset32()),
        }
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

/// A [`Follow`] for asynchronous code: the same items, and the task sleeps until the next one is there.
#[derive(Debug)]
pub struct FollowStream {
    follow: Follow,
    listener: Option<EventListener>,
}

impl Stream for FollowStream {
    type Item = Result<LogItem>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(listener) = &mut self.listener {
                if Pin::new(listener).poll(context).is_pending() {
                    return Poll::Pending;
                }
                self.listener = None;
            }
            if let Some(item) = self.follow.try_next().transpose() {
                return Poll::Ready(Some(item));
            }
            if self.follow.is_over {
                return Poll::Ready(None);
            }
            // Listening first and looking once more: nothing that comes in between is missed.
            let listener = self.follow.view.moved.listen();
            if let Some(item) = self.follow.try_next().transpose() {
                return Poll::Ready(Some(item));
            }
            if self.follow.is_over {
                return Poll::Ready(None);
            }
            self.listener = Some(listener);
        }
    }
}

/// Starts the thread that looks for what a writer in another process has written, as long as anybody follows.
fn watch(view: &Arc<View>) -> Result<()> {
    let Some(foreign) = &view.foreign else { return Ok(()) };
    if foreign.watched().swap(true, Ordering::SeqCst) {
        return Ok(());
    }
    let weak = Arc::downgrade(view);
    let thread = std::thread::Builder::new().name("casklog-watch".to_owned()).spawn(move || look_for_news(&weak));
    if let Err(e) = thread {
        foreign.watched().store(false, Ordering::Release);
        return Err(Error::io("start a thread for", &view.dir.path, e));
    }
    Ok(())
}

fn look_for_news(view: &Weak<View>) {
    let mut pause = PAUSE_LEAST;
    while let Some(view) = view.upgrade() {
        let Some(foreign) = &view.foreign else { return };
        let has_followers = || view.followers.load(Ordering::SeqCst) != 0;
        if !has_followers() {
            foreign.watched().store(false, Ordering::SeqCst);
            // A follower that came meanwhile has counted itself first, and either sees that it has to start a thread, or
            // this one goes on.
            if !has_followers() || foreign.watched().swap(true, Ordering::SeqCst) {
                return;
            }
        }
        pause = match view.refresh() {
            Ok(true) => PAUSE_LEAST,
            Ok(false) => (2 * pause).min(PAUSE_MOST),
            Err(error) => {
                view.set_trouble(error);
                PAUSE_MOST
            }
        };
        drop(view);
        std::thread::sleep(pause);
    }
}
