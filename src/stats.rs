//! Counters that the parts of a store keep, and the snapshot of them that callers get.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::position::Position;

/// What a store has done since it was opened, and what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Entries written.
    pub entries_written: u64,
    /// Bytes of encoded records written, deletions, truncations and metadata included, framing not.
    pub bytes_written: u64,
    /// Syncs of segment files.
    pub syncs: u64,
    /// Rotations to a new segment.
    pub rotations: u64,
    /// Segments sealed with a footer.
    pub seals: u64,
    /// Segments removed by retention or truncation.
    pub segments_removed: u64,
    /// Segments the log consists of.
    pub segments: u64,
    /// Live entries.
    pub entries: u64,
    /// Deleted entries whose index is still taken.
    pub deleted: u64,
    /// Bytes of memory of the index: of segments that are not sealed 4 bytes an entry (24 where indexes are out of
    /// order); of sealed ones next to nothing for consecutive indexes, at most 9 bytes an entry for scattered ones.
    pub index_bytes: u64,
    /// Bytes of memory of the key index: of segments that are not sealed some 40 to 80 bytes an entry; of sealed ones
    /// nothing, but 12 bytes an entry where it was not written with the segment or is damaged there.
    pub key_index_bytes: u64,
    /// Bytes of memory of the block cache.
    pub cache_bytes: u64,
    /// Blocks and footer pages that were found in the cache.
    pub cache_hits: u64,
    /// Blocks and footer pages that were looked for in the cache and not found.
    pub cache_misses: u64,
    /// Everything before this position can be read.
    pub tail: Position,
    /// Everything before this position is durable.
    pub durable: Position,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) entries: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) syncs: AtomicU64,
    pub(crate) rotations: AtomicU64,
    pub(crate) seals: AtomicU64,
    pub(crate) segments_removed: AtomicU64,
}

impl Counters {
    /// Called under the writer lock: plain loads and stores do.
    pub(crate) fn appended(&self, entries: u64, bytes: u64) {
        self.entries.store(self.entries.load(Ordering::Relaxed) + entries, Ordering::Relaxed);
        self.bytes.store(self.bytes.load(Ordering::Relaxed) + bytes, Ordering::Relaxed);
    }

    pub(crate) fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }
}
