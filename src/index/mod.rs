//! Where things are: what readers share with the one writer.
//!
//! * The **published tail** is one word, stored after a whole record or batch is placed and indexed. A reader loads it
//!   once and accepts nothing above it, so that half a batch is never seen.
//! * Additions need no more than that: an entry above the tail does not exist yet.
//! * Truncations take entries out of what readers look at. The **epoch** is odd meanwhile; a reader that saw it odd or
//!   changed reads again. It is odd for memory operations only, never across a call to the disk.
//! * Deletions bear the position of their tombstone, so a reader that loaded an older tail still sees the entry.

mod clip;
mod keys;
mod members;
#[cfg(all(casklog_loom, test))]
mod models;
mod sealed;
mod sealed_keys;
mod table;
mod tmp;

use std::ops::RangeInclusive;
use std::sync::{Arc, Weak};

use crate::format::Truncation;
use crate::position::Position;
use crate::sync::atomic::{AtomicU64, Ordering, fence};
use crate::sync::{ArcSwap, DashMap, Guard, Mutex, thread};

pub(crate) use clip::Clip;
pub(crate) use keys::{KeyHash, Keys, Standing};
pub(crate) use members::Members;
pub(crate) use sealed::{Held, Near, Sealed};
pub(crate) use sealed_keys::Candidates;
pub(crate) use table::{Indexes, LostRange, Place, Row, Spot, Stretch, Table, truncate_rows};
pub(crate) use tmp::Tmp;

/// See the module.
#[derive(Debug)]
pub(crate) struct Index {
    table: ArcSwap<Table>,
    /// Deleted indexes, which stay taken, and where their tombstones stand.
    deleted: DashMap<u64, Position>,
    deleted_len: AtomicU64,
    tail: AtomicU64,
    epoch: AtomicU64,
    /// Live entries.
    live: AtomicU64,
    /// No live entry has a lower index. A hint that makes a long row of deleted entries cheap to skip.
    first_hint: AtomicU64,
    /// No live entry has a higher index.
    last_hint: AtomicU64,
    snapshots: Mutex<Vec<Weak<Kept>>>,
    /// Where the last segment ended that was removed with entries in it.
    removed_to: AtomicU64,
}

/// What truncations have left of the entries that a snapshot may still hand out.
#[derive(Debug)]
pub(crate) struct Kept {
    lo: AtomicU64,
    hi: AtomicU64,
    /// Where the snapshot ends.
    tail: AtomicU64,
}

impl Kept {
    /// The lowest and highest index that no truncation since the snapshot has taken.
    pub(crate) fn bounds(&self) -> (u64, u64) {
        (self.lo.load(Ordering::Acquire), self.hi.load(Ordering::Acquire))
    }

    fn truncate(&self, truncation: Truncation) {
        match truncation {
            Truncation::Before(index) => self.lo.fetch_max(index, Ordering::AcqRel),
            Truncation::After(index) => self.hi.fetch_min(index, Ordering::AcqRel),
            Truncation::Reset(_) => {
                self.lo.store(u64::MAX, Ordering::Release);
                self.hi.swap(0, Ordering::AcqRel)
            }
        };
    }
}

/// The log at one moment: its segments and its end.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    pub(crate) table: Arc<Table>,
    pub(crate) tail: Position,
    pub(crate) kept: Arc<Kept>,
}

impl Index {
    pub(crate) fn new(tail: Position) -> Self {
        Index {
            table: ArcSwap::from_pointee(Table::default()),
            deleted: DashMap::new(),
            deleted_len: AtomicU64::new(0),
            tail: AtomicU64::new(tail.to_word()),
            epoch: AtomicU64::new(0),
            live: AtomicU64::new(0),
            first_hint: AtomicU64::new(u64::MAX),
            last_hint: AtomicU64::new(0),
            snapshots: Mutex::default(),
            removed_to: AtomicU64::new(0),
        }
    }

    /// Everything before this position may be read.
    pub(crate) fn tail(&self) -> Position {
        Position::from_word(self.tail.load(Ordering::Acquire))
    }

    pub(crate) fn table(&self) -> Guard<Arc<Table>> {
        self.table.load()
    }

    /// Runs `look` until no truncation fell into it.
    pub(crate) fn consistent<T>(&self, mut look: impl FnMut() -> T) -> T {
        loop {
            if let Some(seen) = self.undisturbed(&mut look) {
                return seen;
            }
            thread::yield_now();
        }
    }

    /// Runs `look` once; `None` where a truncation fell into it.
    pub(crate) fn undisturbed<T>(&self, look: impl FnOnce() -> T) -> Option<T> {
        let before = self.epoch.load(Ordering::Acquire);
        if before & 1 != 0 {
            return None;
        }
        let seen = look();
        fence(Ordering::Acquire);
        (self.epoch.load(Ordering::Relaxed) == before).then_some(seen)
    }

    /// The segments and the tail that belongs to them: the tail was loaded before the table, and behind every segment
    /// whose offsets are on disk, so that nothing in those stands above it.
    pub(crate) fn now(&self) -> (Guard<Arc<Table>>, Position) {
        loop {
            let tail = self.tail();
            let table = self.table.load();
            // A segment is sealed long after the tail has left it.
            if table.sealed_to() < tail.segment_number() || table.sealed_to() == 0 {
                return (table, tail);
            }
            if table.rows().last().is_some_and(|row| row.number() == table.sealed_to()) {
                // No segment takes records: the last one ends the log.
                return (table, tail);
            }
        }
    }

    /// Whether there is a live entry of `index`, and where.
    pub(crate) fn find<T>(&self, index: u64, mut found: impl FnMut(&Table, Option<Place<'_>>, Position) -> T) -> T {
        self.consistent(|| {
            let (table, tail) = self.now();
            let place = table.find_before(index, tail).filter(|place| self.is_live(index, place, tail));
            // An entry above the tail is about to be published; for this reader it does not exist yet.
            found(&table, place, tail)
        })
    }

    /// The live entry of `index`: its row in the table and where it stands, for reading without the index.
    pub(crate) fn locate(&self, index: u64) -> (Guard<Arc<Table>>, Position, Option<(usize, Spot)>) {
        self.consistent(|| {
            let (table, tail) = self.now();
            let place = table.find_before(index, tail).filter(|place| self.is_live(index, place, tail));
            let found = place.map(|place| (place.number, place.spot));
            (table, tail, found)
        })
    }

    /// Whether the entry of `index` at `place` belongs to the log that ends at `tail`.
    pub(crate) fn is_live(&self, index: u64, place: &Place<'_>, tail: Position) -> bool {
        place.is_before(tail) && !self.tombstone(index).is_some_and(|at| at < tail && place.is_before(at))
    }

    /// Whether the entry of `index` in this segment is deleted as of `tail`.
    pub(crate) fn is_deleted_in(&self, segment: u32, index: u64, tail: Position) -> bool {
        self.tombstone(index).is_some_and(|at| at < tail && segment <= at.segment_number())
    }

    /// Where the tombstone of a deleted index stands.
    pub(crate) fn tombstone(&self, index: u64) -> Option<Position> {
        if self.deleted_len.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.deleted.get(&index).map(|at| *at)
    }

    pub(crate) fn live(&self) -> u64 {
        self.live.load(Ordering::Acquire)
    }

    pub(crate) fn deleted_count(&self) -> u64 {
        self.deleted_len.load(Ordering::Relaxed)
    }

    /// The first live index.
    pub(crate) fn first(&self) -> Option<u64> {
        self.consistent(|| {
            // First: the hint passes over what is deleted as of a tail that was published before it moved.
            let hint = self.first_hint.load(Ordering::Acquire);
            let (table, tail) = self.now();
            self.first_from(hint, &table, tail)
        })
    }

    /// The last live index.
    pub(crate) fn last(&self) -> Option<u64> {
        self.consistent(|| {
            let hint = self.last_hint.load(Ordering::Acquire);
            let (table, tail) = self.now();
            self.last_to(hint, &table, tail)
        })
    }

    /// The first index at or above `index` that is live in `table` as of `tail`.
    pub(crate) fn first_from(&self, mut index: u64, table: &Table, tail: Position) -> Option<u64> {
        loop {
            index = table.at_or_above(index)?;
            if table.find_before(index, tail).is_some_and(|place| self.is_live(index, &place, tail)) {
                return Some(index);
            }
            index = index.checked_add(1)?;
        }
    }

    /// The last index at or below `index` that is live in `table` as of `tail`.
    pub(crate) fn last_to(&self, mut index: u64, table: &Table, tail: Position) -> Option<u64> {
        loop {
            index = table.at_or_below(index)?;
            if table.find_before(index, tail).is_some_and(|place| self.is_live(index, &place, tail)) {
                return Some(index);
            }
            index = index.checked_sub(1)?;
        }
    }

    /// The log as it is now, for iterators.
    pub(crate) fn snapshot(&self) -> Snapshot {
        loop {
            let [lo, hi, tail] = [0, u64::MAX, u64::MAX].map(AtomicU64::new);
            let kept = Arc::new(Kept { lo, hi, tail });
            // Registered first, so that no truncation behind the snapshot is missed; where one came before it, the
            // snapshot stands behind that truncation and must not be cut by it: once more.
            let mut snapshots = self.snapshots.lock();
            snapshots.retain(|kept| kept.strong_count() > 0);
            snapshots.push(Arc::downgrade(&kept));
            drop(snapshots);
            let take = || {
                let (table, tail) = self.now();
                Snapshot { tail, table: Arc::clone(&table), kept: kept.clone() }
            };
            let snapshot = self.consistent(take);
            kept.tail.store(snapshot.tail.to_word(), Ordering::Release);
            if kept.bounds() == (0, u64::MAX) {
                return snapshot;
            }
        }
    }

    // What follows is called by the one writer.

    /// Replaces the table.
    pub(crate) fn set_table(&self, table: Table) {
        self.table.store(Arc::new(table));
    }

    /// Lets readers see everything before `tail`.
    pub(crate) fn publish(&self, tail: Position) {
        self.tail.store(tail.to_word(), Ordering::Release);
    }

    /// Runs a change that takes entries away, publication of its tail included. Readers wait for it.
    pub(crate) fn take_away<T>(&self, change: impl FnOnce() -> T) -> T {
        struct Odd<'a>(&'a AtomicU64);
        impl Drop for Odd<'_> {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::Release);
            }
        }
        self.epoch.fetch_add(1, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        let _odd = Odd(&self.epoch);
        change()
    }

    /// Counts added entries.
    pub(crate) fn added(&self, indexes: RangeInclusive<u64>) {
        let (first, last) = indexes.into_inner();
        // One thread writes at a time, so that a load and a store do. In recovery deletions may come first.
        let count = (last - first).wrapping_add(1);
        self.live.store(self.live.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
        if first < self.first_hint.load(Ordering::Relaxed) {
            self.first_hint.store(first, Ordering::Release);
        }
        if last > self.last_hint.load(Ordering::Relaxed) {
            self.last_hint.store(last, Ordering::Release);
        }
    }

    /// Marks a live entry as deleted by the tombstone at `position`.
    pub(crate) fn delete(&self, index: u64, position: Position) {
        self.deleted.insert(index, position);
        self.deleted_len.fetch_add(1, Ordering::Release);
        self.live.fetch_sub(1, Ordering::Relaxed);
    }

    /// Moves the hints off a deleted index, so that a long row of deletions from either end is walked over once. Called
    /// when the deletion is published, else a reader of an older tail would miss the entry.
    pub(crate) fn pass_over(&self, index: u64) {
        let (table, tail) = (self.table.load(), self.tail());
        if index == self.first_hint.load(Ordering::Relaxed)
            && let Some(first) = self.first_from(index, &table, tail)
        {
            self.first_hint.store(first, Ordering::Release);
        }
        if index == self.last_hint.load(Ordering::Relaxed)
            && let Some(last) = self.last_to(index, &table, tail)
        {
            self.last_hint.store(last, Ordering::Release);
        }
    }

    /// Tells open iterators what a truncation takes from them.
    pub(crate) fn cut_snapshots(&self, truncation: Truncation) {
        for kept in self.snapshots.lock().iter().filter_map(Weak::upgrade) {
            kept.truncate(truncation);
        }
    }

    /// Takes over what was read anew of a log that another process writes; open iterators that reach behind `cut` end.
    pub(crate) fn adopt(&self, other: &Index, cut: Option<Position>) {
        self.table.store(other.table.load_full());
        // A deletion that stays is there at every moment: iterators ask for it whatever the epoch is.
        for entry in &other.deleted {
            self.deleted.insert(*entry.key(), *entry.value());
        }
        let copy = |from: &AtomicU64, to: &AtomicU64| to.store(from.load(Ordering::Acquire), Ordering::Release);
        copy(&other.deleted_len, &self.deleted_len);
        copy(&other.live, &self.live);
        copy(&other.first_hint, &self.first_hint);
        copy(&other.last_hint, &self.last_hint);
        self.deleted.retain(|index, _| other.deleted.contains_key(index));
        self.publish(other.tail());
        if let Some(cut) = cut {
            if cut == Position::ZERO {
                // Nothing is left of the log that these were removed from.
                self.removed_to.store(0, Ordering::Release);
            }
            let is_cut = |kept: &Arc<Kept>| kept.tail.load(Ordering::Acquire) > cut.to_word();
            let snapshots = self.snapshots.lock();
            let cut = snapshots.iter().filter_map(Weak::upgrade).filter(is_cut);
            cut.for_each(|kept| kept.truncate(Truncation::Reset(0)));
        }
    }

    /// Entries went with the segments, the last of which ended at `end`.
    pub(crate) fn note_removed(&self, end: Position) {
        self.removed_to.fetch_max(end.to_word(), Ordering::AcqRel);
    }

    /// Where the last segment ended that was removed with entries in it.
    pub(crate) fn removed_to(&self) -> Position {
        Position::from_word(self.removed_to.load(Ordering::Acquire))
    }

    /// Counts anew after entries were taken away, in the table as it is now: `taken` indexes, those deleted included.
    /// A tombstone counts only for an entry that stands before it: its index may have been freed and written again.
    pub(crate) fn recount(&self, taken: u64) {
        let table = self.table.load();
        self.deleted.retain(|index, at| table.find(*index).is_some_and(|place| place.is_before(*at)));
        let deleted = self.deleted.len() as u64;
        self.deleted_len.store(deleted, Ordering::Release);
        self.live.store(taken.saturating_sub(deleted), Ordering::Release);
        self.first_hint.store(table.at_or_above(0).unwrap_or(u64::MAX), Ordering::Release);
        self.last_hint.store(table.at_or_below(u64::MAX).unwrap_or(0), Ordering::Release);
    }

    /// Notes a deletion found in a footer; `recount` follows.
    pub(crate) fn note_deleted(&self, index: u64, position: Position) {
        if self.deleted.insert(index, position).is_none() {
            self.deleted_len.fetch_add(1, Ordering::Release);
        }
    }

    /// Bytes of memory the key index holds.
    pub(crate) fn key_memory(&self) -> u64 {
        self.table.load().rows().iter().map(Row::key_memory).sum::<usize>() as u64
    }

    /// Bytes of memory the index holds, but for keys.
    pub(crate) fn memory(&self) -> u64 {
        let rows: usize = self.table.load().rows().iter().map(|row| row.memory() + size_of::<Row>()).sum();
        (rows + self.deleted.capacity() * size_of::<(u64, Position)>()) as u64
    }
}
