//! Where the store is known to differ from what is documented. `found` has a program for each, which runs without.

/// What is let pass. A line goes with its fix, and the code that asks for it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Known {
    /// Removing a segment that truncations have emptied raises the floor of a log that keeps an order, and removing one
    /// for retention raises it higher than the highest index that went.
    pub(crate) floor_rises_further: bool,
    /// Iterators end with an error after a truncation or removal that took nothing that they had still to show.
    pub(crate) iterators_end_early: bool,
    /// A log order that is under way passes over the deletion of an entry that retention took meanwhile.
    pub(crate) deletions_go_with_entries: bool,
}

impl Known {
    /// What random programs let pass.
    pub(crate) const TODAY: Known =
        Known { floor_rises_further: true, iterators_end_early: true, deletions_go_with_entries: false };
}
