//! Where the store is known to differ from what is documented. `found` has a program for each, which runs without.

/// What is let pass. A line goes with its fix, and the code that asks for it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Known {
    /// Removing a segment that truncations have emptied raises the floor of a log that keeps an order, and removing one
    /// for retention raises it higher than the highest index that went.
    pub(crate) floor_rises_further: bool,
    /// A log order ends with an error after a truncation that took nothing that it had still to show: what was
    /// truncated before it was made is in the file as well, and the index does not tell when it went.
    pub(crate) log_orders_end_early: bool,
    /// Iterators end with `Removed` where retention took nothing that they had still to show; of a range it is rare.
    pub(crate) removals_end_early: bool,
}

impl Known {
    /// What random programs let pass.
    pub(crate) const TODAY: Known =
        Known { floor_rises_further: true, log_orders_end_early: true, removals_end_early: true };
}
