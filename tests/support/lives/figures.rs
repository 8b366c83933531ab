//! What was counted.

#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Figures {
    pub(crate) acknowledged: u64,
    /// Acknowledged entries that were found.
    pub(crate) present: u64,
    /// Acknowledged entries that were deleted, truncated or retired before anybody looked.
    pub(crate) taken_back: u64,
    /// Calls that the kill cut off, and how many of them took effect.
    pub(crate) in_doubt: u64,
    pub(crate) in_doubt_found: u64,
    /// Entries of calls that returned and were not durable when the power was cut.
    pub(crate) undurable: u64,
    /// Entries that were acknowledged as durable after the cut and are not there.
    pub(crate) late_gone: u64,
}

impl Figures {
    pub(crate) fn add(&mut self, other: Figures) {
        self.acknowledged += other.acknowledged;
        self.present += other.present;
        self.taken_back += other.taken_back;
        self.in_doubt += other.in_doubt;
        self.in_doubt_found += other.in_doubt_found;
        self.undurable += other.undurable;
        self.late_gone += other.late_gone;
    }
}
