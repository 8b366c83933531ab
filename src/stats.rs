//! Counters that the parts of a store keep, and the snapshot of them that callers get.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::histogram::{Histogram, Sizes, Times};
use crate::position::Position;
use crate::sync::{Instant, thread_number};

/// What a store has done since it was opened, and what it holds.
///
/// All of it is counted at all times and costs next to nothing: an append and a read that the cache serves are not timed,
/// nor counted but where they were before. What takes longer, because it waits for the disk or for another thread, is.
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
    /// Reads of segment files by readers. What the cache, a mapping or the memory of the active segment gave does not
    /// count, nor what open reads.
    pub reads: u64,
    /// Bytes that these reads gave.
    pub bytes_read: u64,
    /// How long these reads took, in nanoseconds: of every eighth, as a read of the page cache is too short for more.
    pub read_ns: Histogram,
    /// How long those who waited for a write to become durable did so, in nanoseconds: durable writes,
    /// [`sync`](crate::Store::sync), [`Commit::wait`](crate::Commit::wait), and the keeper before it removes a segment.
    /// Who found it durable already is not among them, nor who awaits a commit or has a callback.
    pub commit_wait_ns: Histogram,
    /// How long writes waited for room, in nanoseconds: for space in the active segment or for the next segment.
    pub stall_ns: Histogram,
    /// How long each sync of a segment file took, in nanoseconds.
    pub sync_ns: Histogram,
    /// How many bytes each of these syncs made durable.
    pub sync_bytes: Histogram,
    /// How long each rotation kept other writers waiting, in nanoseconds.
    pub rotation_ns: Histogram,
    /// How long it took to seal a segment, in nanoseconds: its footer, its sync, the manifest.
    pub seal_ns: Histogram,
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
    pub(crate) commit_wait: Times,
    pub(crate) stall: Times,
    pub(crate) sync: Times,
    pub(crate) sync_bytes: Sizes,
    pub(crate) rotation: Times,
    pub(crate) seal: Times,
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

/// Threads count in so many places: in one they would wait for each other longer than what they count takes.
pub(crate) const STRIPES: usize = 16;

/// Where this thread counts.
#[inline]
pub(crate) fn stripe() -> usize {
    thread_number() % STRIPES
}

/// One read in so many is timed: two readings of the clock are a tenth of what a read of the page cache takes.
const TIMED_OF: u64 = 8;

/// Reads of segment files.
#[derive(Debug, Default)]
pub(crate) struct Reads([Stripe; STRIPES]);

#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe {
    count: AtomicU64,
    bytes: AtomicU64,
    times: Times,
}

impl Reads {
    /// Counts what `read` reads; some of it is timed.
    pub(crate) fn count(&self, read: impl FnOnce() -> std::io::Result<usize>) -> std::io::Result<usize> {
        let stripe = &self.0[stripe()];
        let number = stripe.count.fetch_add(1, Ordering::Relaxed);
        let begun = number.is_multiple_of(TIMED_OF).then(Instant::now);
        let bytes = read()?;
        stripe.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        if let Some(begun) = begun {
            stripe.times.record_time(begun.elapsed());
        }
        Ok(bytes)
    }

    /// How many there were, how many bytes they gave, and how long those took that were timed.
    pub(crate) fn snapshot(&self) -> (u64, u64, Histogram) {
        let sum = |of: fn(&Stripe) -> &AtomicU64| self.0.iter().map(|one| of(one).load(Ordering::Relaxed)).sum();
        let mut times = Times::default().snapshot();
        self.0.iter().for_each(|stripe| times.merge(&stripe.times.snapshot()));
        (sum(|stripe| &stripe.count), sum(|stripe| &stripe.bytes), times)
    }
}
