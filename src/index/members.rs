//! The indexes of a sealed segment, always in memory; where their entries stand is read from the footer.

use crate::format::{Run, Runs, encode_runs};

/// A walk over coded runs begins at most so many runs before the one it looks for.
const SKIP: usize = 32;

/// Ascending indexes as coded runs: next to nothing for consecutive ones, at most 9 bytes an index for others.
#[derive(Debug, Default)]
pub(crate) struct Members {
    code: Box<[u8]>,
    /// Every 32nd run.
    skips: Box<[Skip]>,
    len: u32,
    /// The one run, where there is one: mostly so, and looked up without decoding it.
    only: Option<Run>,
}

/// Where the code of a run starts, its first index, and how many indexes stand before it.
#[derive(Debug, Clone, Copy)]
struct Skip {
    first: u64,
    at: u32,
    place: u32,
}

/// A run and how many indexes stand before it.
#[derive(Debug, Clone, Copy)]
struct Placed {
    run: Run,
    place: u32,
}

impl Placed {
    fn behind(self) -> u32 {
        self.place + self.run.more + 1
    }
}

impl Members {
    /// Takes runs as a footer holds them. What is not well coded is left out; the footer was checked before.
    pub(crate) fn new(code: Vec<u8>) -> Self {
        let mut skips = Vec::new();
        let (mut len, mut count, mut runs) = (0u32, 0usize, Runs::new(&code));
        let mut only = None;
        loop {
            let at = runs.at() as u32;
            let Ok(Some(run)) = runs.next_run() else { break };
            if count.is_multiple_of(SKIP) {
                skips.push(Skip { first: run.first, at, place: len });
            }
            only = (count == 0).then_some(run);
            (len, count) = (len + run.more + 1, count + 1);
        }
        Members { code: code.into(), skips: skips.into(), len, only }
    }

    pub(crate) fn from_runs(runs: &[Run]) -> Self {
        let mut code = Vec::new();
        encode_runs(&mut code, runs);
        Members::new(code)
    }

    pub(crate) const fn len(&self) -> u32 {
        self.len
    }

    /// The runs from one at or before that of `index` on.
    fn near(&self, index: u64) -> impl Iterator<Item = Placed> {
        self.from(self.skips.partition_point(|skip| skip.first <= index))
    }

    /// The runs from the last skip of the first `behind` on.
    fn from(&self, behind: usize) -> impl Iterator<Item = Placed> {
        let skip = self.skips.get(behind.saturating_sub(1));
        let mut place = skip.map_or(0, |skip| skip.place);
        let mut runs = skip.map_or(Runs::new(&[]), |skip| Runs::resume(&self.code, skip.at as usize, skip.first));
        std::iter::from_fn(move || {
            let run = runs.next_run().ok().flatten()?;
            let placed = Placed { run, place };
            place = placed.behind();
            Some(placed)
        })
    }

    /// All indexes, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u64> {
        self.near(0).flat_map(|placed| placed.run.first..=placed.run.last())
    }

    /// The place of an index among all.
    #[inline]
    pub(crate) fn find(&self, index: u64) -> Option<u32> {
        match self.only {
            Some(run) => {
                index.checked_sub(run.first).filter(|place| *place <= run.more.into()).map(|place| place as u32)
            }
            None => self.find_in_runs(index),
        }
    }

    fn find_in_runs(&self, index: u64) -> Option<u32> {
        let Placed { run, place } = self.near(index).find(|placed| placed.run.last() >= index)?;
        Some(place + u32::try_from(index.checked_sub(run.first)?).ok()?)
    }

    /// The index at a place.
    pub(crate) fn index(&self, place: u32) -> Option<u64> {
        let mut runs = self.from(self.skips.partition_point(|skip| skip.place <= place));
        let Placed { run, place: first } = runs.find(|placed| placed.behind() > place)?;
        Some(run.first + u64::from(place - first))
    }

    /// The lowest index at or above `index`.
    pub(crate) fn at_or_above(&self, index: u64) -> Option<u64> {
        let placed = self.near(index).find(|placed| placed.run.last() >= index)?;
        Some(placed.run.first.max(index))
    }

    /// The highest index at or below `index`.
    pub(crate) fn at_or_below(&self, index: u64) -> Option<u64> {
        let placed = self.near(index).take_while(|placed| placed.run.first <= index).last()?;
        Some(placed.run.last().min(index))
    }

    /// The first and last index of the run that holds `index`.
    pub(crate) fn run(&self, index: u64) -> Option<(u64, u64)> {
        let run = self.near(index).find(|placed| placed.run.last() >= index)?.run;
        (run.first <= index).then_some((run.first, run.last()))
    }

    /// How many indexes lie below `index`.
    fn rank(&self, index: u64) -> u32 {
        match self.near(index).find(|placed| placed.run.last() >= index) {
            None => self.len,
            Some(Placed { run, place }) => place + index.saturating_sub(run.first) as u32,
        }
    }

    /// How many indexes lie between `lo` and `hi`, both included.
    pub(crate) fn count(&self, lo: u64, hi: u64) -> u64 {
        let below_end = hi.checked_add(1).map_or(self.len, |end| self.rank(end));
        below_end.saturating_sub(self.rank(lo)).into()
    }

    /// Bytes of memory held.
    pub(crate) fn memory(&self) -> usize {
        self.code.len() + self.skips.len() * size_of::<Skip>()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use quickcheck::quickcheck;

    use super::*;

    fn members(indexes: &BTreeSet<u64>) -> Members {
        let mut runs = Vec::<Run>::new();
        for index in indexes {
            match runs.last_mut() {
                Some(run) if run.last().checked_add(1) == Some(*index) => run.more += 1,
                _ => runs.push(Run { first: *index, more: 0 }),
            }
        }
        Members::from_runs(&runs)
    }

    quickcheck! {
        fn agrees_with_an_ordered_set(indexes: Vec<(u64, u8)>, probes: Vec<u64>) -> bool {
            let indexes: BTreeSet<u64> =
                indexes.iter().flat_map(|(first, more)| (0..=u64::from(*more % 8)).filter_map(|i| first.checked_add(i))).collect();
            let members = members(&indexes);
            let near = indexes.iter().flat_map(|index| [*index, index.saturating_add(1), index.saturating_sub(1)]);
            let placed = indexes.iter().enumerate().all(|(place, index)| members.index(place as u32) == Some(*index));
            placed && members.index(members.len()).is_none() && near.chain(probes).chain([0, u64::MAX]).all(|probe| {
                let place = indexes.range(..probe).count();
                members.find(probe).map(|place| place as usize) == indexes.contains(&probe).then_some(place)
                    && members.at_or_above(probe) == indexes.range(probe..).next().copied()
                    && members.at_or_below(probe) == indexes.range(..=probe).next_back().copied()
                    && members.count(0, probe) == indexes.range(..=probe).count() as u64
                    && members.count(probe, u64::MAX) == indexes.range(probe..).count() as u64
            })
        }
    }

    #[test]
    fn memory_for_each_index_is_bounded() {
        let count = 10_000u64;
        let consecutive: BTreeSet<u64> = (5..5 + count).collect();
        let gapped: BTreeSet<u64> = (0..count).map(|n| n * 7).collect();
        let mut state = 1u64;
        let random: BTreeSet<u64> = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        })
        .take(count as usize)
        .collect();
        let bytes = |indexes: &BTreeSet<u64>| members(indexes).memory() as f64 / indexes.len() as f64;
        assert!(bytes(&consecutive) < 0.01);
        assert!(bytes(&gapped) < 1.6, "{}", bytes(&gapped));
        assert!(bytes(&random) < 9.0, "{}", bytes(&random));
    }
}
