//! The tmp index: indexes and offsets of the segment that is being written.
//!
//! One writer, many readers, no lock on the common path: consecutive indexes stand in a dense array that only grows;
//! what is out of order goes to an ordered map behind a lock. Readers may find an entry before it is published; they
//! compare its position with the published tail. A truncation rewrites both in place; the index's epoch makes readers
//! repeat what they read meanwhile.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use crate::format::{KeyAt, Run};
use crate::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use crate::sync::{RwLock, zeros};

use super::clip::Clip;
use super::keys::{Keys, Standing};

/// Offsets in the smallest chunk. One in the model checks, which keep account of each offset.
const FIRST_CHUNK: usize = if cfg!(casklog_loom) { 1 } else { 1024 };
/// So many chunks are of one size, before the next ones are twice as large: what is allocated and not used is at most
/// an eighth of the rest.
const ALIKE: usize = 8;
/// Sizes of chunks: room for more entries than a segment can hold.
const SIZES: usize = 15;

/// So many offsets, 64 KiB, are touched at once: else one write in a thousand would wait for a page.
const TOUCHED: usize = 1 << 14;
/// Offsets in a page.
const PAGE: usize = 1 << 10;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Tmp {
    dense: Dense,
    scattered: RwLock<BTreeMap<u64, u32>>,
    scattered_len: AtomicUsize,
    /// Where keys stand, if they are indexed.
    keys: Option<Keys>,
}

/// Consecutive indexes from `base + skipped` on, in chunks that are never moved.
#[derive(Debug, Default)]
struct Dense {
    base: AtomicU64,
    /// Entries at the front that a truncation took.
    skipped: AtomicUsize,
    len: AtomicUsize,
    chunks: [[OnceLock<Box<[AtomicU32]>>; ALIKE]; SIZES],
}

impl Dense {
    /// The chunk of a place, and where in it.
    ///
    /// Counted from `ALIKE * FIRST_CHUNK`, the chunks between two powers of two are those of one size.
    #[inline]
    fn slot(place: usize) -> (usize, usize) {
        let place = place + ALIKE * FIRST_CHUNK;
        let doublings = (place / (ALIKE * FIRST_CHUNK)).ilog2() as usize;
        let chunk = (place / FIRST_CHUNK) >> doublings;
        (ALIKE * doublings + chunk - ALIKE, place & (Self::chunk_len(ALIKE * doublings) - 1))
    }

    /// Offsets in a chunk: a power of two.
    #[inline]
    const fn chunk_len(chunk: usize) -> usize {
        FIRST_CHUNK << (chunk / ALIKE)
    }

    /// The offset at a place below `len`.
    fn offset(&self, place: usize) -> Option<u32> {
        let (chunk, slot) = Self::slot(place);
        Some(self.chunks.as_flattened().get(chunk)?.get()?.get(slot)?.load(Ordering::Relaxed))
    }

    /// Base, first place and end place.
    fn span(&self) -> (u64, usize, usize) {
        let len = self.len.load(Ordering::Acquire);
        (self.base.load(Ordering::Relaxed), self.skipped.load(Ordering::Relaxed).min(len), len)
    }

    /// The first and last index.
    fn bounds(&self) -> Option<(u64, u64)> {
        let (base, skipped, len) = self.span();
        (skipped < len).then(|| (base.wrapping_add(skipped as u64), base.wrapping_add(len as u64 - 1)))
    }

    fn find(&self, index: u64) -> Option<(u32, Option<u32>)> {
        let (base, skipped, len) = self.span();
        let place = usize::try_from(index.checked_sub(base)?).ok()?;
        if place < skipped || place >= len {
            return None;
        }
        Some((self.offset(place)?, if place + 1 < len { self.offset(place + 1) } else { None }))
    }

    /// Takes `index` where it is the next one, or the first of an empty array.
    #[inline]
    fn push(&self, index: u64, offset: u32) -> bool {
        let (mut base, _, len) = self.span();
        if len == 0 {
            // Nobody looks at the base of an empty array; the length published below publishes it.
            self.base.store(index, Ordering::Relaxed);
            base = index;
        }
        let (place, slot) = Self::slot(len);
        let Some(chunk) = self.chunks.as_flattened().get(place).filter(|_| base.checked_add(len as u64) == Some(index))
        else {
            return false;
        };
        let chunk = chunk.get_or_init(|| zeros(Self::chunk_len(place)));
        if slot.is_multiple_of(TOUCHED) {
            touch(&chunk[slot..(slot + TOUCHED).min(chunk.len())]);
        }
        chunk[slot].store(offset, Ordering::Relaxed);
        self.len.store(len + 1, Ordering::Release);
        true
    }

    fn truncate(&self, clip: Clip) {
        let Some((first, last)) = self.bounds() else { return };
        let left = clip.bounds().map(|(lo, hi)| (lo.max(first), hi.min(last))).filter(|(lo, hi)| lo <= hi);
        let base = self.base.load(Ordering::Relaxed);
        let (skipped, len) = left.map_or((0, 0), |(lo, hi)| ((lo - base) as usize, (hi - base) as usize + 1));
        // An array that became empty starts anew: the next index gives it a base.
        self.len.store(len, Ordering::Release);
        self.skipped.store(skipped, Ordering::Relaxed);
    }
}

/// Has the kernel give pages to offsets that nobody has written yet.
#[cold]
fn touch(offsets: &[AtomicU32]) {
    offsets.iter().step_by(PAGE).for_each(|offset| offset.store(0, Ordering::Relaxed));
}

impl Tmp {
    pub(crate) fn new(keys: Option<Keys>) -> Self {
        Tmp { keys, ..Tmp::default() }
    }

    /// Where keys stand, if they are indexed.
    pub(crate) fn keys(&self) -> Option<&Keys> {
        self.keys.as_ref()
    }

    /// Adds an index that is not in it.
    #[inline]
    pub(crate) fn insert(&self, index: u64, offset: u32) {
        if !self.dense.push(index, offset) {
            self.scattered.write().insert(index, offset);
            self.scattered_len.fetch_add(1, Ordering::Release);
        }
    }

    fn has_scattered(&self) -> bool {
        self.scattered_len.load(Ordering::Acquire) != 0
    }

    /// The offset of an index, and that of the entry behind it where that is known.
    pub(crate) fn find(&self, index: u64) -> Option<(u32, Option<u32>)> {
        let dense = self.dense.find(index);
        if dense.is_some() || !self.has_scattered() {
            return dense;
        }
        self.scattered.read().get(&index).map(|offset| (*offset, None))
    }

    /// The first and last of the consecutive indexes around one that is in it, as far as that is easily told and they
    /// stand before `end`.
    pub(crate) fn run(&self, index: u64, end: u32) -> (u64, u64) {
        let dense = self.dense.bounds().filter(|(first, last)| (*first..=*last).contains(&index));
        let Some((first, last)) = dense else { return (index, index) };
        let is_before = |index| self.dense.find(index).is_some_and(|(offset, _)| offset < end);
        // Offsets rise with the index.
        let (mut low, mut high) = (index, last);
        while low < high {
            let middle = high - (high - low) / 2;
            if is_before(middle) {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        (first, low)
    }

    pub(crate) fn at_or_above(&self, index: u64) -> Option<u64> {
        let dense = self.dense.bounds().filter(|(_, last)| *last >= index).map(|(first, _)| first.max(index));
        if !self.has_scattered() {
            return dense;
        }
        let scattered = self.scattered.read().range(index..).next().map(|(index, _)| *index);
        [dense, scattered].into_iter().flatten().min()
    }

    pub(crate) fn at_or_below(&self, index: u64) -> Option<u64> {
        let dense = self.dense.bounds().filter(|(first, _)| *first <= index).map(|(_, last)| last.min(index));
        if !self.has_scattered() {
            return dense;
        }
        let scattered = self.scattered.read().range(..=index).next_back().map(|(index, _)| *index);
        dense.max(scattered)
    }

    pub(crate) fn count(&self, lo: u64, hi: u64) -> u64 {
        let dense = self.dense.bounds().map_or(0, |(first, last)| {
            let (first, last) = (first.max(lo), last.min(hi));
            if first <= last { last - first + 1 } else { 0 }
        });
        let scattered = if self.has_scattered() && lo <= hi { self.scattered.read().range(lo..=hi).count() } else { 0 };
        dense + scattered as u64
    }

    pub(crate) fn len(&self) -> usize {
        let (_, skipped, len) = self.dense.span();
        len - skipped + self.scattered_len.load(Ordering::Acquire)
    }

    /// Looks through all.
    pub(crate) fn holds_offset(&self, offset: u32) -> bool {
        let (_, skipped, len) = self.dense.span();
        (skipped..len).any(|place| self.dense.offset(place) == Some(offset))
            || self.scattered.read().values().any(|other| *other == offset)
    }

    /// Forgets what `clip` leaves out.
    pub(crate) fn truncate(&self, clip: Clip) {
        self.forget(clip);
        self.sweep_keys();
    }

    fn sweep_keys(&self) {
        if let Some(keys) = &self.keys {
            keys.sweep(self.len(), |standing| self.stands(standing).is_some());
        }
    }

    /// Where the next entry begins, if that is known, of an entry that stands where its key says; `None` where it does not.
    pub(crate) fn stands(&self, standing: Standing) -> Option<Option<u32>> {
        self.find(standing.index).filter(|(offset, _)| *offset == standing.offset).map(|(_, next)| next)
    }

    fn forget(&self, clip: Clip) {
        self.dense.truncate(clip);
        if self.has_scattered() {
            let mut scattered = self.scattered.write();
            scattered.retain(|index, _| clip.contains(*index));
            self.scattered_len.store(scattered.len(), Ordering::Release);
        }
    }

    /// As [`truncate`](Self::truncate), but only for entries that stand before `offset`.
    pub(crate) fn truncate_before(&self, offset: u32, clip: Clip) {
        self.retain(|index, at| at >= offset || clip.contains(index));
    }

    /// Forgets one index.
    pub(crate) fn remove(&self, index: u64) {
        self.retain(|other, _| other != index);
    }

    fn retain(&self, keep: impl Fn(u64, u32) -> bool) {
        let (runs, offsets) = self.to_runs();
        let indexes = runs.iter().flat_map(|run| run.first..=run.last());
        let kept: Vec<(u64, u32)> = indexes.zip(offsets).filter(|(index, at)| keep(*index, *at)).collect();
        self.forget(Clip { is_empty: true, ..Clip::ALL });
        kept.into_iter().for_each(|(index, at)| self.insert(index, at));
        self.sweep_keys();
    }

    /// All indexes, ascending, as runs with their offsets.
    pub(crate) fn to_runs(&self) -> (Vec<Run>, Vec<u32>) {
        let (mut runs, mut offsets) = (Vec::<Run>::new(), Vec::with_capacity(self.len()));
        let mut push = |index: u64, offset: u32| {
            match runs.last_mut() {
                Some(run) if run.last().checked_add(1) == Some(index) => run.more += 1,
                _ => runs.push(Run { first: index, more: 0 }),
            }
            offsets.push(offset);
        };
        let (base, skipped, len) = self.dense.span();
        let dense = (skipped..len).filter_map(|place| Some((base + place as u64, self.dense.offset(place)?)));
        let scattered = self.scattered.read();
        let mut scattered = scattered.iter().map(|(index, offset)| (*index, *offset)).peekable();
        for (index, offset) in dense {
            while let Some((index, offset)) = scattered.next_if(|(other, _)| *other < index) {
                push(index, offset);
            }
            push(index, offset);
        }
        scattered.for_each(|(index, offset)| push(index, offset));
        (runs, offsets)
    }

    /// The hash of each key, for a footer: of all indexes, or none where keys are not indexed.
    pub(crate) fn to_keys(&self) -> Vec<KeyAt> {
        let Some(keys) = &self.keys else { return Vec::new() };
        let mut hashes = Vec::with_capacity(self.len());
        keys.for_each(|hash, standing| {
            if self.stands(standing).is_some() {
                hashes.push((standing.index, hash));
            }
        });
        // A footer with fewer would not be read.
        if hashes.len() != self.len() {
            return Vec::new();
        }
        hashes.sort_unstable();
        let mut keys: Vec<_> = (0..).zip(hashes).map(|(place, (_, hash))| KeyAt { hash, place }).collect();
        keys.sort_unstable();
        keys
    }

    /// Bytes of memory held, but for keys.
    pub(crate) fn memory(&self) -> usize {
        let chunks = self.dense.chunks.iter().flatten();
        let dense: usize = chunks.filter_map(|chunk| chunk.get()).map(|chunk| chunk.len() * 4).sum();
        // An ordered map keeps about 11 of these in a node with some slack.
        dense + self.scattered_len.load(Ordering::Relaxed) * 24
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_follow_each_other_and_waste_at_most_an_eighth() {
        let mut place = 0;
        for chunk in 0..ALIKE * SIZES {
            let len = Dense::chunk_len(chunk);
            assert!(len <= FIRST_CHUNK.max(place / 8 + FIRST_CHUNK), "{chunk} holds {len}");
            assert_eq!(Dense::slot(place), (chunk, 0));
            assert_eq!(Dense::slot(place + len - 1), (chunk, len - 1));
            place += len;
        }
        // No record takes less than 16 bytes of the 4 GiB.
        assert!(place + ALIKE * FIRST_CHUNK >= 1 << 28);
    }
}
