//! How often what is not in the cache was asked for of late. Nothing here is locked.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

use super::{Key, WORTH};

/// Counts are halved when each counter was counted up so often, on average: what was hot once does not stay so.
const AGE: u64 = 4;

/// Where counts end: something that is asked for so often is worth a look into the books each time.
const COUNT_MOST: u8 = u8::MAX - u8::MAX % WORTH;

/// A counter for each block or page, by its hash. Those that share one share its count, and threads that count at once
/// may count one time less: it is an estimate.
#[derive(Debug)]
pub(super) struct Counts(Box<[AtomicU8]>);

impl Counts {
    /// For a shard with room for so many bytes: four for each page that it could hold.
    pub(super) fn new(room: usize) -> Self {
        Counts((0..(room / 1024).clamp(256, 1 << 20)).map(|_| AtomicU8::new(0)).collect())
    }

    fn counter(&self, key: Key) -> &AtomicU8 {
        &self.0[key.second_hash().among(self.0.len())]
    }

    pub(super) fn of(&self, key: Key) -> u8 {
        self.counter(key).load(Relaxed)
    }

    pub(super) fn set(&self, key: Key, count: u8) {
        self.counter(key).store(count, Relaxed);
    }

    /// Counts that this was asked for; how often it was.
    pub(super) fn up(&self, key: Key) -> u8 {
        let counter = self.counter(key);
        let count = counter.load(Relaxed).saturating_add(1).min(COUNT_MOST);
        counter.store(count, Relaxed);
        count
    }

    pub(super) fn halve(&self) {
        self.0.iter().for_each(|counter| counter.store(counter.load(Relaxed) / 2, Relaxed));
    }

    /// How often something is asked for until they are halved.
    pub(super) fn lifetime(&self) -> u64 {
        AGE * self.0.len() as u64
    }
}

/// What was asked for last in a shard by one thread, or by several that share this, and how often in a row.
///
/// Asking many times in a row makes a block worth loading where there is room, but no more popular: a scan, record by
/// record, must not push out what is asked for all the time.
#[derive(Debug)]
pub(super) struct Row {
    last: AtomicU64,
    count: AtomicU8,
}

impl Default for Row {
    fn default() -> Self {
        Row { last: AtomicU64::new(u64::MAX), count: AtomicU8::new(0) }
    }
}

impl Row {
    /// How often this was asked for in a row, now included; `None` where something else was asked for before.
    pub(super) fn up(&self, key: Key) -> Option<u8> {
        if self.last.load(Relaxed) != key.word() {
            self.last.store(key.word(), Relaxed);
            self.count.store(1, Relaxed);
            return None;
        }
        let count = self.count.load(Relaxed).wrapping_add(1);
        self.count.store(count, Relaxed);
        Some(count)
    }
}
