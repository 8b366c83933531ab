//! Iterators over the live entries in index order.

use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use crate::entry::{Entry, EntryRef, Parts};
use crate::error::{Error, Result};
use crate::format::Kind;
use crate::index::{Held, Indexes, LostRange, Near, Snapshot, Stretch};
use crate::log::View;
use crate::options::ReadMode;
use crate::position::Position;
use crate::reads;
use crate::segment::{Ahead, Toward};

/// Live entries in index order. See [`Reader::range`](crate::Reader::range).
///
/// It shows the log as it was when the iterator was made, however long it lives: later writes and deletions do not
/// change it. Where a truncation or retention takes entries that it has not handed out, it ends with
/// [`Error::Truncated`] or [`Error::Removed`], never silently; it may end with the latter, too, where all that retention took
/// had been deleted before, for a deletion is forgotten with its entry. Each range of indexes that was lost to damage is one
/// [`Error::Lost`], and each damaged entry one [`Error::Damaged`]; it goes on behind them.
///
/// An entry is a part of a larger read, which stays in memory as long as the entry does; [`Entry::detach`] copies it out.
#[derive(Debug)]
pub struct Iter {
    view: Arc<View>,
    snapshot: Snapshot,
    /// What is left: the lowest and highest index that is still to come. A live entry stands at both, so that a truncation
    /// that takes one of them is noticed, and one that takes none is not.
    left: Option<(u64, u64)>,
    /// Ranges that were lost and not told of yet.
    lost: Vec<LostRange>,
    front: Cursor,
    back: Cursor,
    /// What [`next_ref`](Iter::next_ref) lends that is no part of a window.
    lent: Option<Entry>,
}

/// One end of an iterator: where the next entries stand.
#[derive(Debug, Default)]
struct Cursor {
    /// The row it is in, and the next entries there.
    stretch: Option<(usize, Stretch)>,
    /// Where those stand, since one of them was read. None as long as there is a lost range to tell of.
    near: Option<Near>,
    held: Option<Held>,
    ahead: Option<Ahead>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Front,
    Back,
}

impl Iter {
    pub(crate) fn new(view: Arc<View>, range: impl RangeBounds<u64>) -> Self {
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
        let (front, back) = (Cursor::default(), Cursor::default());
        let mut iter =
            Iter { snapshot: view.index.snapshot(), view, left: asked, lost: Vec::new(), front, back, lent: None };
        iter.left = loop {
            let ends = iter.find(End::Front).zip(iter.find(End::Back));
            // A truncation that comes before both are found is one before the iterator was made.
            if iter.snapshot.kept.bounds() == (0, u64::MAX) {
                break ends;
            }
            iter.snapshot = iter.view.index.snapshot();
            (iter.front, iter.back) = (Cursor::default(), Cursor::default());
        };
        if let Some((low, high)) = asked {
            let lost = iter.snapshot.table.lost().iter().filter(|range| range.within(low, high).is_some());
            iter.lost = lost.copied().collect();
        }
        iter
    }

    /// The next index from one end of what is left, as far as truncations have left it.
    fn find(&mut self, end: End) -> Option<u64> {
        let (low, high) = self.left?;
        let Snapshot { table, tail, .. } = &self.snapshot;
        let index = &self.view.index;
        let (cursor, at) = match end {
            End::Front => (&mut self.front, low),
            End::Back => (&mut self.back, high),
        };
        let known = cursor.stretch.filter(|(_, known)| known.contains(at)).map(|(row, _)| table.rows()[row].number());
        if known.is_some_and(|segment| !index.is_deleted_in(segment, at, *tail)) {
            return Some(at);
        }
        index.consistent(|| {
            let found = match end {
                End::Front => index.first_from(low, table, *tail).filter(|found| *found <= high),
                End::Back => index.last_to(high, table, *tail).filter(|found| *found >= low),
            };
            cursor.near = None;
            cursor.stretch = found.and_then(|found| {
                let place = table.find_before(found, *tail)?;
                Some((place.number, place.row.stretch(found, *tail)?))
            });
            found
        })
    }

    /// The next entry, if the index need not be asked and all of it is in the window at that end: its parts there. Whatever
    /// else there is to say is left to [`take`](Self::take).
    #[inline(always)]
    fn take_near(&mut self, end: End) -> Option<(Position, Parts)> {
        let (first, last) = self.left?;
        let (cursor, index) = match end {
            End::Front => (&mut self.front, first),
            End::Back => (&mut self.back, last),
        };
        let near = cursor.near.as_ref().filter(|near| near.contains(index))?;
        let offset = near.offset(index)?;
        let ahead = cursor.ahead.as_mut()?;
        let (low, high) = self.snapshot.kept.bounds();
        if index < low || index > high || ahead.segment().is_retired() || self.view.is_closed() {
            return None;
        }
        let parts = Parts::of(ahead.bytes(), ahead.entry(offset)?)?;
        if parts.index != index {
            return None;
        }
        ahead.ask_behind(parts.end());
        let number = ahead.segment().number;
        // As `find` says of the next one.
        let is_known = |next: u64| {
            let is_here = first < last && near.contains(next);
            is_here && !self.view.index.is_deleted_in(number, next, self.snapshot.tail)
        };
        match end {
            End::Front if is_known(first.wrapping_add(1)) => self.left = Some((first + 1, last)),
            End::Back if is_known(last.wrapping_sub(1)) => self.left = Some((first, last - 1)),
            _ => self.pass(end),
        }
        Some((Position::new(number, offset), parts))
    }

    #[inline]
    fn next_at(&mut self, end: End) -> Option<Result<Entry>> {
        let Some((position, parts)) = self.take_near(end) else {
            return self.take(end);
        };
        let is_durable = position < self.view.durable();
        let cursor = if end == End::Front { &self.front } else { &self.back };
        Some(Ok(Entry::within(cursor.ahead.as_ref()?.bytes(), parts, position, is_durable)))
    }

    /// As [`next`](Iterator::next), with an entry that borrows from the iterator: faster where entries are small and looked
    /// at one by one.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = casklog::Store::open(dir.path())?;
    /// store.write(1, "key", "value")?;
    /// let mut entries = store.iter();
    /// while let Some(entry) = entries.next_ref() {
    ///     let entry = entry?;
    ///     println!("{} {:?}", entry.index(), entry.value::<&str>()?);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As the iterator's items.
    pub fn next_ref(&mut self) -> Option<Result<EntryRef<'_>>> {
        match self.take_near(End::Front) {
            Some((position, parts)) => {
                let is_durable = position < self.view.durable();
                Some(Ok(EntryRef::within(self.front.ahead.as_ref()?.bytes(), parts, position, is_durable)))
            }
            None => {
                // It may keep the window, whose memory is to be used again.
                self.lent = None;
                Some(self.take(End::Front)?.map(|entry| self.lent.insert(entry).as_ref()))
            }
        }
    }

    #[cold]
    fn take(&mut self, end: End) -> Option<Result<Entry>> {
        let next = self.left.map(|(low, high)| if end == End::Front { low } else { high });
        if !self.lost.is_empty()
            && let Some(error) = self.tell_lost(end, next)
        {
            return Some(Err(error));
        }
        let next = next?;
        let (low, high) = self.snapshot.kept.bounds();
        let entry = if (low..=high).contains(&next) { self.read(next, end) } else { Err(Error::Truncated) };
        let entry = match entry {
            Err(error) if self.view.is_doubtful(&error) => self.read_again(next, end),
            entry => entry,
        };
        let entry = entry.inspect_err(|error| self.view.notice(error));
        if matches!(entry, Err(Error::Truncated | Error::Removed { .. } | Error::Closed)) {
            self.left = None;
            self.lost.clear();
        } else {
            // It goes on behind what cannot be read.
            self.pass(end);
        }
        Some(entry)
    }

    /// Moves one end on to the next entry. Where a truncation took that meanwhile, it moves to an index that was taken, too.
    fn pass(&mut self, end: End) {
        self.left = self.left.filter(|(low, high)| low < high).map(|(low, high)| match end {
            End::Front => (low + 1, high),
            End::Back => (low, high - 1),
        });
        let Some((low, high)) = self.left else { return };
        let found = self.find(end);
        let (kept_low, kept_high) = self.snapshot.kept.bounds();
        self.left = Some(match end {
            // An entry stood at the other end: if none is found, that is gone.
            End::Front if low >= kept_low => (found.unwrap_or(high), high),
            End::Back if high <= kept_high => (low, found.unwrap_or(low)),
            // What stood before the one that was found may have gone, and the entry that is handed out just now did.
            _ => (low, high),
        });
    }

    /// The range that was lost before `next`, seen from one end.
    fn tell_lost(&mut self, end: End, next: Option<u64>) -> Option<Error> {
        let is_due = |range: &LostRange| match (end, next) {
            (_, None) => true,
            (End::Front, Some(next)) => range.first < next,
            (End::Back, Some(next)) => range.last > next,
        };
        let place = match end {
            End::Front => self.lost.iter().position(is_due),
            End::Back => self.lost.iter().rposition(is_due),
        };
        place.map(|place| self.lost.remove(place).to_error())
    }

    /// Reads once more what a writer in another process may have taken away meanwhile.
    fn read_again(&mut self, index: u64, end: End) -> Result<Entry> {
        let (low, high) = self.snapshot.kept.bounds();
        if !(low..=high).contains(&index) {
            return Err(Error::Truncated);
        }
        let cursor = if end == End::Front { &mut self.front } else { &mut self.back };
        (cursor.held, cursor.ahead) = (None, None);
        match self.read(index, end) {
            Err(error @ Error::Missing { .. }) if self.view.is_doubtful(&error) => Err(self.view.removed()),
            read => read,
        }
    }

    /// Reads the entry of an index in the stretch at one end.
    fn read(&mut self, index: u64, end: End) -> Result<Entry> {
        let (cursor, toward) = match end {
            End::Front => (&mut self.front, Toward::End),
            End::Back => (&mut self.back, Toward::Start),
        };
        let Snapshot { table, tail, .. } = &self.snapshot;
        cursor.near = None;
        let Some((row, stretch)) = cursor.stretch else { return Err(Error::Truncated) };
        let row = &table.rows()[row];
        self.view.check_open()?;
        if row.segment.is_retired() {
            return Err(self.view.removed());
        }
        let at = match (&row.indexes, stretch.place(index)) {
            (Indexes::Sealed(sealed), Some(place)) => {
                sealed.offset_near(&row.segment, &self.view.cache, place, &mut cursor.held)
            }
            (Indexes::Tmp(tmp), _) => {
                let found = self.view.index.consistent(|| tmp.find(index));
                // A truncation may have come meanwhile, and another entry may stand under this index by now.
                let found = found.filter(|(offset, _)| Position::new(row.number(), *offset) < *tail);
                found.ok_or(Error::Truncated)
            }
            (Indexes::Sealed(_), None) => Err(Error::Truncated),
        };
        let is_here = cursor.ahead.as_ref().is_some_and(|ahead| ahead.segment().number == row.number());
        let limit = row.end_at(*tail);
        let ahead = match &mut cursor.ahead {
            Some(ahead) if is_here => ahead,
            ahead => {
                let is_mapped =
                    self.view.options.read_mode == ReadMode::Mapped && matches!(row.indexes, Indexes::Sealed(_));
                ahead.insert(Ahead::new(row.segment.clone(), is_mapped, limit))
            }
        };
        let read = at.and_then(|(offset, next)| {
            let guess = reads::guess(offset, next, limit);
            Ok((offset, ahead.record(offset, guess, toward)?))
        });
        let (offset, record) = match read {
            // The file may have gone while it was being opened.
            Err(Error::Missing { .. }) if row.segment.is_retired() => return Err(self.view.removed()),
            read => read?,
        };
        cursor.near = match &row.indexes {
            _ if !self.lost.is_empty() => None,
            Indexes::Sealed(sealed) => sealed.near(&row.segment, cursor.held.as_ref(), &stretch),
            Indexes::Tmp(tmp) => Some(Near::in_tmp(tmp, &stretch)),
        };
        let position = Position::new(row.number(), offset);
        let entry = (record.kind == Kind::Entry)
            .then(|| Entry::new(record.payload, position, position < self.view.durable()))
            .flatten();
        entry.filter(|entry| entry.index() == index).ok_or_else(|| reads::misplaced(&self.view, position))
    }
}

impl Iterator for Iter {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_at(End::Front)
    }
}

impl DoubleEndedIterator for Iter {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.next_at(End::Back)
    }
}

impl std::iter::FusedIterator for Iter {}
