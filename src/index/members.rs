//! The indexes of a sealed segment and where their entries stand.

use crate::format::{Footer, Run};

/// Ascending runs of consecutive indexes, and an offset for each index.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Members {
    runs: Vec<Run>,
    /// The place of each run's first index in `offsets`.
    starts: Vec<u32>,
    offsets: Vec<u32>,
}

impl Members {
    pub(crate) fn new(footer: &Footer) -> Self {
        Self::from_parts(footer.runs.clone(), footer.offsets.clone())
    }

    pub(crate) fn from_parts(runs: Vec<Run>, offsets: Vec<u32>) -> Self {
        let mut start = 0;
        let starts = runs
            .iter()
            .map(|run| {
                let this = start;
                start += run.more + 1;
                this
            })
            .collect();
        Members { runs, starts, offsets }
    }

    /// The run that holds `index`, or the first one above it.
    fn run_from(&self, index: u64) -> usize {
        self.runs.partition_point(|run| run.last() < index)
    }

    /// How many indexes lie below `index`.
    fn rank(&self, index: u64) -> usize {
        match self.runs.get(self.run_from(index)) {
            None => self.offsets.len(),
            Some(run) => {
                let start = self.starts[self.run_from(index)] as usize;
                start + index.saturating_sub(run.first) as usize
            }
        }
    }

    /// The offset of an index, and that of the entry behind it in index order.
    pub(crate) fn find(&self, index: u64) -> Option<(u32, Option<u32>)> {
        let number = self.run_from(index);
        let run = self.runs.get(number).filter(|run| run.first <= index)?;
        let place = self.starts[number] as usize + (index - run.first) as usize;
        Some((self.offsets[place], self.offsets.get(place + 1).copied()))
    }

    /// The lowest index at or above `index`.
    pub(crate) fn at_or_above(&self, index: u64) -> Option<u64> {
        self.runs.get(self.run_from(index)).map(|run| run.first.max(index))
    }

    /// The highest index at or below `index`.
    pub(crate) fn at_or_below(&self, index: u64) -> Option<u64> {
        let behind = self.runs.partition_point(|run| run.first <= index);
        behind.checked_sub(1).map(|number| self.runs[number].last().min(index))
    }

    /// How many indexes lie between `lo` and `hi`, both included.
    pub(crate) fn count(&self, lo: u64, hi: u64) -> u64 {
        let below_end = hi.checked_add(1).map_or(self.offsets.len(), |end| self.rank(end));
        below_end.saturating_sub(self.rank(lo)) as u64
    }

    /// Looks through all.
    pub(crate) fn holds_offset(&self, offset: u32) -> bool {
        self.offsets.contains(&offset)
    }

    /// Bytes of memory held.
    pub(crate) fn memory(&self) -> usize {
        self.runs.capacity() * size_of::<Run>() + (self.starts.capacity() + self.offsets.capacity()) * 4
    }
}
