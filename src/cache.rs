//! The block cache: checked blocks of records and pages of footers, within a budget of bytes.
//!
//! * A block is checked once, when it is loaded. What is found here needs no system call and no checksum.
//! * A block of 32 KiB costs several times what reading one small record costs, so that it is not loaded before it was
//!   asked for a few times: at worst twice the cost of the best choice in hindsight, as for who rents before he buys
//!   (Karlin et al., Competitive snoopy caching, 1988).
//! * A full cache takes a block only if it was asked for more often, byte for byte, than what it would push out (after
//!   TinyLFU; Einziger et al., 2017). So neither a scan nor reads all over a log that is much larger push out what is hot.

use lru::LruCache;
use rustc_hash::FxBuildHasher;

use crate::segment::Block;
use crate::sync::Mutex;

/// How often a block is asked for before it is worth loading.
const WORTH: u8 = 6;

/// A shard has room for a good number of blocks.
const SHARD_BYTES: u64 = 1 << 20;
const SHARDS: u64 = 16;

/// What a block costs beside its bytes: its place in the list and in the map.
const OVERHEAD_BYTES: usize = 128;

/// Counts are halved when each counter was counted up so often, on average: what was hot once does not stay so.
const AGE: u32 = 4;

/// Counts of what is cached end here, so that what becomes hot later can outdo what was hot once.
const COUNT_MOST: u8 = 60;

/// A hit moves a block to the front of the list only once in so many times: neighbours in the list are touched by it, and
/// are not in the processor's cache.
const PROMOTE: u8 = 8;

/// The id of a segment and where in it a block or page starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    word: u64,
}

impl Key {
    pub(crate) const fn new(segment_id: u32, offset: u32) -> Self {
        Key { word: (segment_id as u64) << 32 | offset as u64 }
    }

    /// Fibonacci hashing: the upper bits are the good ones.
    const fn hash(self) -> u64 {
        self.word.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// What a look into the cache gave.
#[derive(Debug)]
pub(crate) enum Lookup<T = Block> {
    Found(T),
    /// Not there, and worth loading.
    Wanted,
    /// Not there.
    Absent,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Cache {
    shards: Box<[Mutex<Shard>]>,
    is_off: bool,
}

/// What the cache did and holds.
#[derive(Debug, Default)]
pub(crate) struct CacheStats {
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) bytes: u64,
}

impl Cache {
    /// A cache of at most `bytes`, 0 for none.
    pub(crate) fn new(bytes: u64) -> Self {
        let shards = 1 << (bytes / SHARD_BYTES).clamp(1, SHARDS).ilog2();
        let room = usize::try_from(bytes / shards).unwrap_or(usize::MAX);
        Cache { shards: (0..shards).map(|_| Mutex::new(Shard::new(room))).collect(), is_off: bytes == 0 }
    }

    fn shard(&self, key: Key) -> &Mutex<Shard> {
        // The middle bits: the highest choose the counter.
        &self.shards[(key.hash() >> 32) as usize & (self.shards.len() - 1)]
    }

    /// Looks for what starts at `key` and has so many bytes. Asking counts.
    pub(crate) fn get(&self, key: Key, bytes: usize) -> Lookup {
        self.with(key, bytes, Block::clone)
    }

    /// As [`get`](Self::get), handing out what `take` makes of the block, which must be quick.
    pub(crate) fn with<T>(&self, key: Key, bytes: usize, take: impl FnOnce(&Block) -> T) -> Lookup<T> {
        if self.is_off {
            return Lookup::Absent;
        }
        let mut shard = self.shard(key).lock();
        let (age, promotes) = (shard.age, shard.hits.is_multiple_of(PROMOTE.into()));
        if let Some(slot) = shard.blocks.peek_mut(&key.word) {
            let taken = take(&slot.block);
            slot.count = (slot.count_at(age) + 1).min(COUNT_MOST);
            slot.age = age;
            shard.hits += 1;
            if promotes {
                shard.blocks.promote(&key.word);
            }
            return Lookup::Found(taken);
        }
        shard.misses += 1;
        let asked = shard.count(key);
        if asked >= WORTH && shard.admits(key, bytes) { Lookup::Wanted } else { Lookup::Absent }
    }

    /// Keeps a block, if it is worth what has to go for it.
    pub(crate) fn put(&self, key: Key, block: Block) {
        if !self.is_off {
            self.shard(key).lock().put(key, block);
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            shard.blocks.clear();
            shard.bytes = 0;
        }
    }

    pub(crate) fn stats(&self) -> CacheStats {
        let mut stats = CacheStats::default();
        for shard in &self.shards {
            let shard = shard.lock();
            stats.hits += shard.hits;
            stats.misses += shard.misses;
            stats.bytes += shard.bytes as u64;
        }
        stats
    }
}

/// A part of the cache behind a lock of its own, which is never held while a block is read or checked.
#[derive(Debug)]
struct Shard {
    blocks: LruCache<u64, Slot, FxBuildHasher>,
    bytes: usize,
    room: usize,
    /// How often each block that is not here was asked for of late. Blocks that share a counter share its count: it is an
    /// estimate.
    counters: Box<[u8]>,
    /// What was asked for last and was not here, and how often in a row.
    last: u64,
    in_a_row: u8,
    /// Until the counters are halved next.
    left: u32,
    /// How often they were.
    age: u8,
    hits: u64,
    misses: u64,
}

#[derive(Debug)]
struct Slot {
    block: Block,
    /// How often it was asked for, as of `age`.
    count: u8,
    age: u8,
}

impl Slot {
    /// Halved once for each time the counters were since.
    fn count_at(&self, age: u8) -> u8 {
        self.count.checked_shr(age.wrapping_sub(self.age).into()).unwrap_or(0)
    }

    fn cost(&self) -> usize {
        self.block.bytes.len() + OVERHEAD_BYTES
    }
}

impl Shard {
    fn new(room: usize) -> Self {
        // Four for each page that it could hold.
        let counters = (room / 1024).clamp(256, 1 << 20).next_power_of_two();
        Shard {
            blocks: LruCache::unbounded_with_hasher(FxBuildHasher),
            bytes: 0,
            room,
            counters: vec![0; counters].into(),
            last: 0,
            in_a_row: 0,
            left: AGE * counters as u32,
            age: 0,
            hits: 0,
            misses: 0,
        }
    }

    fn counter(&mut self, key: Key) -> &mut u8 {
        let shift = 64 - self.counters.len().ilog2();
        &mut self.counters[(key.hash() >> shift) as usize]
    }

    /// Counts that a block was asked for that is not here. Asking many times in a row makes it worth loading where there is
    /// room, but no more popular: a scan, record by record, must not push out what is asked for all the time.
    fn count(&mut self, key: Key) -> u8 {
        if key.word == self.last {
            self.in_a_row = self.in_a_row.saturating_add(1);
            return self.in_a_row;
        }
        (self.last, self.in_a_row) = (key.word, 1);
        self.left -= 1;
        if self.left == 0 {
            self.left = AGE * self.counters.len() as u32;
            self.age = self.age.wrapping_add(1);
            self.counters.iter_mut().for_each(|counter| *counter /= 2);
        }
        let counter = self.counter(key);
        *counter = counter.saturating_add(1);
        *counter
    }

    fn admits(&mut self, key: Key, bytes: usize) -> bool {
        let cost = bytes + OVERHEAD_BYTES;
        if self.bytes + cost <= self.room {
            return true;
        }
        let count = usize::from(*self.counter(key));
        let Some((_, victim)) = self.blocks.peek_lru() else { return false };
        // Asked for how often, byte for byte: each count against the bytes of the other.
        cost <= self.room && count * victim.block.bytes.len() > usize::from(victim.count_at(self.age)) * bytes
    }

    fn put(&mut self, key: Key, block: Block) {
        if self.blocks.contains(&key.word) || !self.admits(key, block.bytes.len()) {
            return;
        }
        let slot = Slot { block, count: (*self.counter(key)).min(COUNT_MOST), age: self.age };
        self.bytes += slot.cost();
        self.blocks.put(key.word, slot);
        while self.bytes > self.room
            && let Some((word, gone)) = self.blocks.pop_lru()
        {
            self.bytes -= gone.cost();
            // Should it be asked for again, it is not unknown.
            *self.counter(Key { word }) = gone.count_at(self.age);
        }
    }
}

#[cfg(all(casklog_loom, test))]
mod models;

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: usize = 1000;

    fn block() -> Block {
        Block::whole(vec![0; BLOCK].into())
    }

    /// Asks for what is not there, so that it is one time more popular.
    fn ask(cache: &Cache, offset: u32) {
        assert!(!matches!(cache.get(Key::new(1, offset), BLOCK), Lookup::Found(_)));
        // In between for something else: asking in a row makes nothing popular.
        cache.get(Key::new(2, 0), BLOCK);
    }

    fn holds(cache: &Cache, offset: u32) -> bool {
        matches!(cache.get(Key::new(1, offset), BLOCK), Lookup::Found(_))
    }

    /// A cache with room for exactly ten blocks, in one shard, full.
    fn full() -> Cache {
        let cache = Cache::new(10 * (BLOCK + OVERHEAD_BYTES) as u64);
        (0..10).for_each(|offset| cache.put(Key::new(1, offset), block()));
        assert_eq!(cache.stats().bytes, 10 * (BLOCK + OVERHEAD_BYTES) as u64);
        cache
    }

    #[test]
    fn a_block_that_two_have_loaded_counts_once() {
        let cache = Cache::new(1 << 20);
        (0..3).for_each(|_| cache.put(Key::new(1, 0), block()));
        assert_eq!(cache.stats().bytes, (BLOCK + OVERHEAD_BYTES) as u64);
        cache.clear();
        assert_eq!(cache.stats().bytes, 0);
        assert!(!holds(&cache, 0));
    }

    #[test]
    fn what_is_asked_for_more_often_takes_the_place_of_what_is_not() {
        let cache = full();
        (0..10).for_each(|offset| assert!(holds(&cache, offset)));
        (0..3).for_each(|_| ask(&cache, 100));
        cache.put(Key::new(1, 100), block());
        assert!(holds(&cache, 100));
        assert_eq!(cache.stats().bytes, 10 * (BLOCK + OVERHEAD_BYTES) as u64);
    }

    #[test]
    fn what_is_asked_for_less_often_does_not() {
        let cache = full();
        (0..10).for_each(|_| (0..10).for_each(|offset| assert!(holds(&cache, offset))));
        (0..5).for_each(|_| ask(&cache, 100));
        cache.put(Key::new(1, 100), block());
        assert!(!holds(&cache, 100));
        (0..10).for_each(|offset| assert!(holds(&cache, offset)));
    }

    /// The oldest one is the one that is asked for all the time: another one goes.
    #[test]
    fn what_is_hot_does_not_keep_what_is_cold() {
        let cache = full();
        (0..30).for_each(|_| assert!(holds(&cache, 0)));
        (0..5).for_each(|_| ask(&cache, 100));
        cache.put(Key::new(1, 100), block());
        assert!(holds(&cache, 100) && holds(&cache, 0));
    }
}
