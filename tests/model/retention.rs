//! What happens to whole segments: the model learns from the store which are there, and checks that those that went were
//! due.

use std::collections::BTreeSet;

use casklog::{IndexOrder, Position, Store};

use crate::model::Model;
use crate::run::ensure;
use crate::setup::Setup;

/// The segments of a store as they were after the last step.
#[derive(Debug, Default)]
pub(crate) struct Segments {
    /// Those that are there, and all before them.
    seen: BTreeSet<u64>,
    first: u64,
    last: u64,
}

impl Segments {
    /// Removes from the model what stood in segments that are gone. An entry may go with its segment only where as many
    /// segments as are to be kept began behind it.
    pub(crate) fn follow(&mut self, model: &mut Model, store: &Store, setup: &Setup) -> Result<(), String> {
        let numbers: Vec<u64> = store.segments().iter().map(|segment| segment.number).collect();
        ensure!(numbers.is_sorted_by(|one, other| one < other), "segments {numbers:?} are out of order");
        let (Some(first), Some(last)) = (numbers.first().copied(), numbers.last().copied()) else {
            ensure!(self.seen.is_empty(), "no segment is left of {:?}", self.seen);
            return Ok(());
        };
        ensure!(self.first <= first, "segments {numbers:?} after {:?}", self.seen);
        self.seen.extend(&numbers);
        // A power cut may take a segment into which nothing was written yet.
        self.seen.retain(|number| *number < first || numbers.contains(number));
        let used = model.items.values().map(|item| item.position.segment());
        if let Some(youngest) = used.filter(|segment| *segment < first).max() {
            let Some(most) = setup.max_segments else {
                return Err(format!("segment {youngest} went with its entries, and none was to go"));
            };
            let younger = self.seen.range(youngest + 1..).count() as u64;
            ensure!(younger >= most, "segment {youngest} went, and only {younger} are younger");
        }
        let is_bounded = setup.max_segments.is_none_or(|most| numbers.len() as u64 <= most);
        ensure!(is_bounded, "{} segments are kept: {numbers:?}", numbers.len());
        if self.first < first && self.first != 0 {
            model.retire(first);
        }
        (self.first, self.last) = (first, last);
        Ok(())
    }

    /// Where a write stands: in one segment, which was not full, and is not too long unless nothing stood there before.
    /// `model` is the log before the write.
    pub(crate) fn is_in_place(
        &self,
        placed: &[(u64, Position)],
        model: &Model,
        store: &Store,
        setup: &Setup,
    ) -> Result<(), String> {
        let Some((_, first)) = placed.first() else { return Ok(()) };
        let number = first.segment();
        let is_whole = placed.iter().all(|(_, position)| position.segment() == number);
        ensure!(is_whole, "a batch was split: {placed:?}");
        let before = model.items.values().filter(|item| item.position.segment() == number).count() as u64;
        let is_full = setup.segment_entries.is_some_and(|most| before >= most);
        ensure!(!is_full, "segment {number} took a write with {before} entries in it");
        let segments = store.segments();
        let bytes = segments.iter().find(|segment| segment.number == number).map_or(0, |segment| segment.bytes);
        ensure!(before == 0 || bytes <= setup.segment_bytes, "segment {number} was carried to {bytes} bytes");
        Ok(())
    }

    /// After a truncation the log begins with a segment that holds entries, or with the last one. A log of increasing
    /// indexes may keep one whose removal would raise the floor over indexes that the truncation has freed.
    pub(crate) fn is_space_free(&self, model: &Model, setup: &Setup) -> Result<(), String> {
        let holds = model.items.values().any(|item| item.position.segment() == self.first);
        let may_stay = holds || self.first == self.last || setup.order == IndexOrder::Increasing;
        ensure!(may_stay, "segment {} is the first one, was emptied and not removed", self.first);
        Ok(())
    }
}
