//! The main index: which segments there are, which indexes each holds, and where.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::error::Error;
use crate::format::Truncation;
use crate::position::Position;
use crate::segment::Segment;

use super::clip::Clip;
use super::members::Members;
use super::tmp::Tmp;

/// The indexes of one segment.
#[derive(Debug, Clone)]
pub(crate) enum Indexes {
    /// Not sealed yet.
    Tmp(Arc<Tmp>),
    /// Sealed.
    Sealed(Arc<Members>),
}

macro_rules! either {
    ($self:expr, $indexes:ident => $value:expr) => {
        match $self {
            Indexes::Tmp($indexes) => $value,
            Indexes::Sealed($indexes) => $value,
        }
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

    fn find(&self, index: u64) -> Option<(u32, Option<u32>)> {
        if !self.clip.contains(index) {
            return None;
        }
        either!(&self.indexes, indexes => indexes.find(index))
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

    /// Whether it held entries before truncations in later segments.
    pub(crate) fn has_entries(&self) -> bool {
        either!(&self.indexes, indexes => indexes.at_or_above(0)).is_some()
    }

    /// Whether an entry begins at `offset`.
    pub(crate) fn holds_offset(&self, offset: u32) -> bool {
        either!(&self.indexes, indexes => indexes.holds_offset(offset))
    }

    pub(crate) fn memory(&self) -> usize {
        either!(&self.indexes, indexes => indexes.memory())
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

/// Applies a truncation that stands behind all of `rows`.
pub(crate) fn truncate_rows(rows: &mut [Row], truncation: Truncation) {
    rows.iter_mut().for_each(|row| row.clip.truncate(truncation));
}

/// A place found for an index.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) row: &'a Row,
    pub(crate) offset: u32,
    /// Where the next entry in index order begins, if it is in the same segment: a bound of this one's length.
    pub(crate) next: Option<u32>,
}

impl Place<'_> {
    pub(crate) fn position(&self) -> Position {
        Position::new(self.row.number(), self.offset)
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
    pub(crate) first: u64,
    pub(crate) last: u64,
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
        Table { rows, spans, lost }
    }

    pub(crate) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The rows, but the last, whose span reaches `index`; those that begin above it are not among them.
    fn spans_at(&self, index: u64) -> impl Iterator<Item = &Span> {
        let begun = self.spans.partition_point(|span| span.low <= index);
        let reaching = self.spans[..begun].iter().rev().take_while(move |span| span.high_so_far >= index);
        reaching.filter(move |span| span.high >= index)
    }

    /// Where the entry of an index stands.
    pub(crate) fn find(&self, index: u64) -> Option<Place<'_>> {
        let place = |row| -> Option<Place<'_>> {
            let row: &Row = row;
            row.find(index).map(|(offset, next)| Place { row, offset, next })
        };
        let active = self.rows.last().and_then(place);
        active.or_else(|| self.spans_at(index).find_map(|span| place(&self.rows[span.row])))
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
        let range = self.lost.iter().find(|range| (range.first..=range.last).contains(&index))?;
        Some(Error::Lost { segment: range.segment.into() })
    }
}
