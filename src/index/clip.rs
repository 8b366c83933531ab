//! What truncations leave of a segment.

use crate::format::Truncation;

/// The indexes of a segment that truncations in later segments have left: those from `lo` to `hi`.
///
/// A truncation hides entries that stand before it, whatever was written after; so each segment bears its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Clip {
    pub(crate) lo: u64,
    pub(crate) hi: u64,
    pub(crate) is_empty: bool,
}

impl Clip {
    /// Nothing is hidden.
    pub(crate) const ALL: Clip = Clip { lo: 0, hi: u64::MAX, is_empty: false };

    pub(crate) fn truncate(&mut self, truncation: Truncation) {
        match truncation {
            Truncation::Before(index) => self.lo = self.lo.max(index),
            Truncation::After(index) => self.hi = self.hi.min(index),
            Truncation::Reset(_) => self.is_empty = true,
        }
        self.is_empty |= self.lo > self.hi;
    }

    /// What both leave.
    pub(crate) fn and(self, other: Clip) -> Clip {
        let (lo, hi) = (self.lo.max(other.lo), self.hi.min(other.hi));
        Clip { lo, hi, is_empty: self.is_empty || other.is_empty || lo > hi }
    }

    pub(crate) const fn contains(&self, index: u64) -> bool {
        !self.is_empty && index >= self.lo && index <= self.hi
    }

    /// The bounds; `None` where everything is hidden.
    pub(crate) fn bounds(&self) -> Option<(u64, u64)> {
        (!self.is_empty).then_some((self.lo, self.hi))
    }
}
