//! The main index: which segments there are, which indexes each holds, and where.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::error::Error;
use crate::format::Truncation;
use crate::position::Position;
use crate::segment::Segment;

use super::clip::Clip;
use super::keys::Keys;
use super::sealed::Sealed;
use super::tmp::Tmp;

/// The indexes of one segment.
#[derive(Debug, Clone)]
pub(crate) enum Indexes {
    /// In memory with their offsets: not sealed yet, or sealed with a footer that is damaged.
    Tmp(Arc<Tmp>),
    /// In memory, but for the offsets.
    Sealed(Arc<Sealed>),
}

/// Where the entry of an index stands, or what tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spot {
    /// At this offset; and where the next one begins, if that is known.
    At(u32, Option<u32>),
    /// Where the footer says for this place of the members.
    Member(u32),
}

macro_rules! either {
    ($self:expr, $indexes:ident => $tmp:expr, $members:ident => $sealed:expr) => {
        match $self {
            Indexes::Tmp($indexes) => $tmp,
            Indexes::Sealed(sealed) => {
                let $members = &sealed.members;
                $sealed
            }
        }
    };
    ($self:expr, $indexes:ident => $value:expr) => {
        either!($self, $indexes => $value, $indexes => $value)
    };
}

/// One segment as the index sees it.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) segment: Arc<Segment>,
    pub(crate) indexes: Indexes,
    /// What truncations in later segments have left.
    pub(crate) clip: Clip,
    /// The offset behind the last record; none while the segment takes records.
    pub(crate) end: Option<u32>,
}

impl Row {
    pub(crate) fn number(&self) -> u32 {
        self.segment.number
    }

    /// Where the taken index stands, if it is in this segment.
    pub(crate) fn find(&self, index: u64) -> Option<Spot> {
        if !self.clip.contains(index) {
            return None;
        }
        either!(&self.indexes,
            tmp => tmp.find(index).map(|(offset, next)| Spot::At(offset, next)),
            members => members.find(index).map(Spot::Member))
    }

    /// The first and last of consecutive taken indexes around one that is taken, in a log that ends at `tail`.
    fn run(&self, index: u64, tail: Position) -> (u64, u64) {
        let (first, last) = match &self.indexes {
            Indexes::Tmp(tmp) if self.number() == tail.segment_number() => tmp.run(index, tail.offset32()),
            Indexes::Tmp(tmp) => tmp.run(index, u32::MAX),
            Indexes::Sealed(sealed) => sealed.members.run(index).unwrap_or((index, index)),
        };
        let (lo, hi) = self.clip.bounds().unwrap_or((index, index));
        (first.max(lo), last.min(hi))
    }

    fn at_or_above(&self, index: u64) -> Option<u64> {
        let (lo, hi) = self.clip.bounds()?;
        either!(&self.indexes, indexes => indexes.at_or_above(index.max(lo))).filter(|found| *found <= hi)
    }

    fn at_or_below(&self, index: u64) -> Option<u64> {
        let (lo, hi) = self.clip.bounds()?;
        either!(&self.indexes, indexes => indexes.at_or_below(index.min(hi))).filter(|found| *found >= lo)
    }

    /// The lowest and highest taken index.
    pub(crate) fn bounds(&self) -> Option<(u64, u64)> {
        self.at_or_above(0).zip(self.at_or_below(u64::MAX))
    }

    /// Taken indexes that truncations have left.
    pub(crate) fn count(&self) -> u64 {
        self.clip.bounds().map_or(0, |(lo, hi)| either!(&self.indexes, indexes => indexes.count(lo, hi)))
    }

    pub(crate) fn memory(&self) -> usize {
        match &self.indexes {
            Indexes::Tmp(tmp) => tmp.memory(),
            Indexes::Sealed(sealed) => sealed.memory(),
        }
    }

    /// Bytes of memory held for keys.
    pub(crate) fn key_memory(&self) -> usize {
        match &self.indexes {
            Indexes::Tmp(tmp) => tmp.keys().map_or(0, Keys::memory),
            Indexes::Sealed(sealed) => sealed.key_memory(),
        }
    }

    /// Where it ends in a log that ends at `tail`. The tail must have been loaded before the table.
    pub(crate) fn end_at(&self, tail: Position) -> u32 {
        let end = self.end.unwrap_or(u32::MAX);
        match self.number().cmp(&tail.segment_number()) {
            Ordering::Less => end,
            Ordering::Equal => end.min(tail.offset32()),
            Ordering::Greater => 0,
        }
    }

    /// Bytes of records in it; for the active segment up to `tail`.
    pub(crate) fn bytes(&self, tail: Position) -> u64 {
        self.end_at(tail).into()
    }
}

/// Consecutive taken indexes in one segment, and where the first one stands or what tells it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stretch {
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// In a sealed segment: the place of the first one among its members.
    place: Option<u32>,
}

impl Stretch {
    pub(crate) const fn contains(&self, index: u64) -> bool {
        self.first <= index && index <= self.last
    }

    /// The place of an index among the members of a sealed segment.
    pub(crate) fn place(&self, index: u64) -> Option<u32> {
        Some(self.place? + (index - self.first) as u32)
    }
}

impl Row {
    /// The stretch around an index that is taken here, in a log that ends at `tail`.
    pub(crate) fn stretch(&self, index: u64, tail: Position) -> Option<Stretch> {
        let spot = self.find(index)?;
        let (first, last) = self.run(index, tail);
        let place = match spot {
            Spot::Member(place) => Some(place - (index - first) as u32),
            Spot::At(..) => None,
        };
        Some(Stretch { first, last, place })
    }
}

/// Applies a truncation that stands behind all of `rows`.
pub(crate) fn truncate_rows(rows: &mut [Row], truncation: Truncation) {
    rows.iter_mut().for_each(|row| row.clip.truncate(truncation));
}

/// A place found for an index.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) row: &'a Row,
    /// Which of the table's rows that is.
    pub(crate) number: usize,
    pub(crate) spot: Spot,
}

impl Place<'_> {
    /// Whether it stands before `position`. Everything in a sealed segment stands before the tail that was loaded with it
    /// (see `Index::now`), and before the tombstones in that segment: those in force at its end are of entries before.
    pub(crate) fn is_before(&self, position: Position) -> bool {
        match self.spot {
            Spot::At(offset, _) => Position::new(self.row.number(), offset) < position,
            Spot::Member(_) => self.row.number() <= position.segment_number(),
        }
    }
}

/// All segments at one moment; replaced whole, never changed.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// Ascending by number; the last one takes records.
    rows: Vec<Row>,
    /// The others that hold indexes: lowest, highest, place in `rows`, highest of this and all before; by lowest.
    spans: Vec<Span>,
    /// Ranges that were lost to damage.
    lost: Vec<LostRange>,
    /// The last segment whose offsets are on disk.
    sealed_to: u32,
}

#[derive(Debug, Clone, Copy)]
struct Span {
    low: u64,
    high: u64,
    row: usize,
    high_so_far: u64,
}

/// Indexes that may have stood in a part of the log that was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LostRange {
    pub(crate) segment: u32,
    /// Where in it that part ends.
    end: u32,
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// What truncations behind it have left: nobody misses the rest.
    clip: Clip,
}

impl LostRange {
    /// Of a part that ends at `end`.
    pub(crate) const fn new(end: Position, (first, last): (u64, u64), clip: Clip) -> Self {
        LostRange { segment: end.segment_number(), end: end.offset32(), first, last, clip }
    }

    /// Whether all of that part stood before `position`.
    pub(crate) fn is_before(&self, position: Position) -> bool {
        Position::new(self.segment, self.end) <= position
    }

    pub(crate) fn truncate(&mut self, truncation: Truncation) {
        self.clip.truncate(truncation);
    }

    /// The lowest and highest index that is missed, of those from `low` to `high`.
    pub(crate) fn within(&self, low: u64, high: u64) -> Option<(u64, u64)> {
        let (lo, hi) = self.clip.bounds()?;
        let (first, last) = (self.first.max(lo).max(low), self.last.min(hi).min(high));
        (first <= last).then_some((first, last))
    }

    pub(crate) fn to_error(self) -> Error {
        Error::Lost { segment: self.segment.into() }
    }
}

impl Table {
    pub(crate) fn new(rows: Vec<Row>, lost: Vec<LostRange>) -> Self {
        let fixed = rows.len().saturating_sub(1);
        let mut spans: Vec<Span> = rows[..fixed]
            .iter()
            .enumerate()
            .filter_map(|(row, this)| this.bounds().map(|(low, high)| Span { low, high, row, high_so_far: high }))
            .collect();
        spans.sort_unstable_by_key(|span| span.low);
        let mut high_so_far = 0;
        for span in &mut spans {
            high_so_far = span.high.max(high_so_far);
            span.high_so_far = high_so_far;
        }
        let sealed = rows.iter().rev().find(|row| matches!(row.indexes, Indexes::Sealed(_)));
        let sealed_to = sealed.map_or(0, Row::number);
        Table { rows, spans, lost, sealed_to }
    }

    pub(crate) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The last segment whose offsets are on disk.
    pub(crate) const fn sealed_to(&self) -> u32 {
        self.sealed_to
    }

    /// The rows, but the last, whose span reaches `index`; those that begin above it are not among them.
    fn spans_at(&self, index: u64) -> impl Iterator<Item = &Span> {
        let begun = self.spans.partition_point(|span| span.low <= index);
        let reaching = self.spans[..begun].iter().rev().take_while(move |span| span.high_so_far >= index);
        reaching.filter(move |span| span.high >= index)
    }

    /// Where the entry of an index stands.
    pub(crate) fn find(&self, index: u64) -> Option<Place<'_>> {
        let place = |number: usize| -> Option<Place<'_>> {
            let row = self.rows.get(number)?;
            row.find(index).map(|spot| Place { row, number, spot })
        };
        let active = self.rows.len().checked_sub(1).and_then(place);
        active.or_else(|| self.spans_at(index).find_map(|span| place(span.row)))
    }

    /// As [`find`](Self::find), of what stands before `tail`: an index that retention has freed may have been written again,
    /// into the active segment, which an older table shares.
    pub(crate) fn find_before(&self, index: u64, tail: Position) -> Option<Place<'_>> {
        let last = self.rows.len().checked_sub(1)?;
        let place = |number: usize| {
            let row = &self.rows[number];
            row.find(index).map(|spot| Place { row, number, spot })
        };
        let active = place(last).filter(|place| place.is_before(tail));
        if active.is_some() {
            return active;
        }
        // As `spans_at`, in a loop: every `get` comes through here.
        let begun = self.spans.partition_point(|span| span.low <= index);
        for span in self.spans[..begun].iter().rev() {
            if span.high_so_far < index {
                return None;
            }
            if span.high >= index
                && let Some(place) = place(span.row)
            {
                return Some(place);
            }
        }
        None
    }

    /// The lowest taken index at or above `index`.
    pub(crate) fn at_or_above(&self, index: u64) -> Option<u64> {
        let active = self.rows.last().and_then(|row| row.at_or_above(index));
        let reaching = self.spans_at(index).filter_map(|span| self.rows[span.row].at_or_above(index)).min();
        let begun = self.spans.partition_point(|span| span.low <= index);
        let later = self.spans.get(begun).map(|span| span.low);
        [active, reaching, later].into_iter().flatten().min()
    }

    /// The highest taken index at or below `index`.
    pub(crate) fn at_or_below(&self, index: u64) -> Option<u64> {
        let active = self.rows.last().and_then(|row| row.at_or_below(index));
        let begun = self.spans.partition_point(|span| span.low <= index);
        let mut best = active;
        for span in self.spans[..begun].iter().rev() {
            // No span further down reaches above what was found.
            if best.is_some_and(|best| span.high_so_far <= best) {
                break;
            }
            best = best.max(self.rows[span.row].at_or_below(index));
        }
        best
    }

    /// The row of a segment.
    pub(crate) fn row(&self, number: u64) -> Option<&Row> {
        let place = self.rows.partition_point(|row| u64::from(row.number()) < number);
        self.rows.get(place).filter(|row| u64::from(row.number()) == number)
    }

    /// The error where an absent index may have been lost to damage.
    pub(crate) fn lost_at(&self, index: u64) -> Option<Error> {
        self.lost.iter().find(|range| range.within(index, index).is_some()).map(|range| range.to_error())
    }

    /// Ranges that were lost to damage.
    pub(crate) fn lost(&self) -> &[LostRange] {
        &self.lost
    }
}
