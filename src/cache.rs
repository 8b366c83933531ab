//! The block cache: checked blocks of records and pages of footers, within a budget of bytes.
//!
//! * A block is checked once, when it is loaded. What is found here needs no system call and no checksum.
//! * A block of 32 KiB costs several times what reading one small record costs, so that it is not loaded before it was
//!   asked for a few times: at worst twice the cost of the best choice in hindsight, as for who rents before he buys
//!   (Karlin et al., Competitive snoopy caching, 1988).
//! * A full cache takes a block only if it was asked for more often, byte for byte, than what it would push out (after
//!   TinyLFU; Einziger et al., 2017). So neither a scan nor reads all over a log that is much larger push out what is hot.
//! * A hit takes no lock: blocks stand in slots of their own on the shelf of their segment. Of misses of a block one in six
//!   looks into the books, behind their lock, for whether there is something less popular; the others only count.

mod books;
mod counts;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::format::{BLOCK_BYTES, PAGE_BYTES};
use crate::segment::{Block, PageBytes, Shelf, Slot};
use crate::stats::{STRIPES, stripe};
use crate::sync::Mutex;

use books::Books;
use counts::{Counts, Row};

/// How often a block is asked for before it is worth loading; where the books say no, as often again.
const WORTH: u8 = 6;

/// A shard has room for a good number of blocks.
const SHARD_BYTES: u64 = 1 << 20;
const SHARDS: usize = 16;

/// What a block costs beside its bytes: its slot, which its neighbours may leave alone, and its place in the books.
const OVERHEAD_BYTES: usize = 128;

/// A block or page of a segment, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Block(u32),
    Page(u32),
}

impl Part {
    const fn bytes(self) -> usize {
        match self {
            Part::Block(_) => BLOCK_BYTES as usize,
            Part::Page(_) => PAGE_BYTES as usize,
        }
    }
}

/// A part of the segment with this id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key {
    segment_id: u32,
    part: Part,
}

/// 32 bits, any of which are as good as others.
#[derive(Debug, Clone, Copy)]
struct Hash(u32);

impl Hash {
    /// One of so many places.
    const fn among(self, places: usize) -> usize {
        ((self.0 as u64 * places as u64) >> 32) as usize
    }
}

impl Key {
    const fn word(self) -> u64 {
        let part = match self.part {
            Part::Block(number) => number,
            // No block of 32 KiB has such a number.
            Part::Page(number) => number | 1 << 31,
        };
        (self.segment_id as u64) << 32 | part as u64
    }

    /// Fibonacci hashing: the upper bits are the good ones.
    const fn hash(self) -> Hash {
        Hash((self.word().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32)
    }

    /// For other uses among keys with similar hashes.
    const fn second_hash(self) -> Hash {
        Hash((self.word().wrapping_mul(0xc2b2_ae3d_27d4_eb4f) >> 32) as u32)
    }
}

/// What a look into the cache gave.
#[derive(Debug)]
pub(crate) enum Lookup<T> {
    Found(T),
    /// Not there, and worth loading.
    Wanted,
    /// Not there.
    Absent,
}

/// See the module. What is cached stands on the shelves of the segments; here are the books.
#[derive(Debug)]
pub(crate) struct Cache {
    shards: Box<[Shard]>,
    is_off: bool,
    lookups: Box<[Lookups]>,
    /// Which shard forgets next what was hot.
    turn: AtomicUsize,
}

/// Some of what is and what could be cached, by its hash.
#[derive(Debug)]
struct Shard {
    counts: Counts,
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Lookups {
    hits: AtomicU64,
    misses: AtomicU64,
    /// Misses, those in a row taken as one.
    asked: AtomicU64,
    /// One for each shard: who looks here and there by turns may still ask in a row in both places.
    rows: [Row; SHARDS],
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
        let shards = 1 << (bytes / SHARD_BYTES).clamp(1, SHARDS as u64).ilog2();
        let room = usize::try_from(bytes / shards).unwrap_or(usize::MAX);
        Cache {
            shards: (0..shards)
                .map(|_| Shard { counts: Counts::new(room), books: Mutex::new(Books::new(room)) })
                .collect(),
            is_off: bytes == 0,
            lookups: (0..STRIPES).map(|_| Lookups::default()).collect(),
            turn: AtomicUsize::new(0),
        }
    }

    /// What `take` makes of the block of this number, and of where its checked part begins. Asking counts.
    #[inline]
    pub(crate) fn block<T>(
        &self,
        shelf: &Arc<Shelf>,
        number: u32,
        take: impl FnOnce(&Arc<[u8; BLOCK_BYTES as usize]>, u32) -> T,
    ) -> Lookup<T> {
        self.look(shelf, Part::Block(number), shelf.blocks.find(number), take)
    }

    /// What `take` makes of the page of this number in the footer. Asking counts.
    #[inline]
    pub(crate) fn page<T>(&self, shelf: &Arc<Shelf>, number: u32, take: impl FnOnce(&PageBytes) -> T) -> Lookup<T> {
        self.look(shelf, Part::Page(number), shelf.pages.find(number), |bytes, _| take(bytes))
    }

    #[inline]
    fn look<const BYTES: usize, T>(
        &self,
        shelf: &Arc<Shelf>,
        part: Part,
        slot: Option<&Slot<BYTES>>,
        take: impl FnOnce(&Arc<[u8; BYTES]>, u32) -> T,
    ) -> Lookup<T> {
        if let Some(slot) = slot
            && let Some(bytes) = &*slot.load()
        {
            slot.ask();
            self.lookups().hits.fetch_add(1, Ordering::Relaxed);
            return Lookup::Found(take(bytes, slot.checked_from()));
        }
        if self.ask(Key { segment_id: shelf.segment_id, part }) { Lookup::Wanted } else { Lookup::Absent }
    }

    /// Counts a miss; whether the block is worth loading.
    fn ask(&self, key: Key) -> bool {
        if self.is_off {
            return false;
        }
        let lookups = self.lookups();
        lookups.misses.fetch_add(1, Ordering::Relaxed);
        let number = self.shard_number(key);
        let shard = &self.shards[number];
        let count = lookups.rows[number].up(key).unwrap_or_else(|| {
            let asked = lookups.asked.load(Ordering::Relaxed) + 1;
            lookups.asked.store(asked, Ordering::Relaxed);
            // One shard each time, so that all of them take as long as their counters live.
            if asked.is_multiple_of(shard.counts.lifetime()) {
                self.age();
            }
            shard.counts.up(key)
        });
        // A page is read in any case.
        matches!(key.part, Part::Block(_))
            && count.is_multiple_of(WORTH)
            && shard.books.lock().admits(key, shard.counts.of(key))
    }

    #[cold]
    fn age(&self) {
        let shard = &self.shards[self.turn.fetch_add(1, Ordering::Relaxed) % self.shards.len()];
        shard.counts.halve();
        shard.books.lock().age();
    }

    /// Keeps a block, if it is worth what has to go for it.
    pub(crate) fn put_block(&self, shelf: &Arc<Shelf>, number: u32, block: &Block) {
        let slot = || shelf.blocks.make(number);
        self.put(shelf, Part::Block(number), slot, &block.bytes, block.checked_from);
    }

    /// As [`put_block`](Self::put_block), of a page.
    pub(crate) fn put_page(&self, shelf: &Arc<Shelf>, number: u32, page: &PageBytes) {
        self.put(shelf, Part::Page(number), || shelf.pages.make(number), page, 0);
    }

    fn put<'a, const BYTES: usize>(
        &self,
        shelf: &Arc<Shelf>,
        part: Part,
        slot: impl FnOnce() -> Option<&'a Slot<BYTES>>,
        bytes: &Arc<[u8; BYTES]>,
        checked_from: u32,
    ) {
        if self.is_off {
            return;
        }
        let key = Key { segment_id: shelf.segment_id, part };
        let Shard { counts, books } = self.shard(key);
        let mut books = books.lock();
        // Whatever fills or empties this slot holds this lock.
        if let Some(slot) = slot()
            && slot.is_empty()
            && let Some(count) = books.take(counts, shelf, key)
        {
            slot.fill(bytes.clone(), checked_from, count);
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        self.shards.iter().for_each(|shard| shard.books.lock().clear());
    }

    pub(crate) fn stats(&self) -> CacheStats {
        let sum = |of: fn(&Lookups) -> &AtomicU64| self.lookups.iter().map(|one| of(one).load(Ordering::Relaxed)).sum();
        CacheStats {
            hits: sum(|lookups| &lookups.hits),
            misses: sum(|lookups| &lookups.misses),
            bytes: self.shards.iter().map(|shard| shard.books.lock().bytes as u64).sum(),
        }
    }

    fn shard(&self, key: Key) -> &Shard {
        &self.shards[self.shard_number(key)]
    }

    fn shard_number(&self, key: Key) -> usize {
        key.hash().among(self.shards.len())
    }

    /// Where this thread counts.
    #[inline]
    fn lookups(&self) -> &Lookups {
        &self.lookups[stripe()]
    }
}

#[cfg(all(casklog_loom, test))]
mod models;

#[cfg(test)]
mod tests {
    use super::*;

    fn block() -> Block {
        Block { bytes: Arc::new([0; BLOCK_BYTES as usize]), checked_from: 0 }
    }

    fn found(cache: &Cache, shelf: &Arc<Shelf>, number: u32) -> bool {
        matches!(cache.block(shelf, number, |_, _| ()), Lookup::Found(()))
    }

    /// Asks for what is not there, so that it is one time more popular.
    fn ask(cache: &Cache, shelf: &Arc<Shelf>, number: u32) {
        assert!(!found(cache, shelf, number));
        // In between for something else: asking in a row makes nothing popular.
        found(cache, shelf, 1_000);
    }

    const COST: u64 = BLOCK_BYTES as u64 + OVERHEAD_BYTES as u64;

    /// A cache with room for exactly ten blocks, in one shard, full.
    fn full(shelf: &Arc<Shelf>) -> Cache {
        let cache = Cache::new(10 * COST);
        (0..10).for_each(|number| cache.put_block(shelf, number, &block()));
        assert_eq!(cache.stats().bytes, 10 * COST);
        cache
    }

    #[test]
    fn a_block_that_two_have_loaded_counts_once() {
        let (cache, shelf) = (Cache::new(1 << 20), Arc::new(Shelf::new(1)));
        (0..3).for_each(|_| cache.put_block(&shelf, 0, &block()));
        assert_eq!(cache.stats().bytes, COST);
        cache.clear();
        assert_eq!(cache.stats().bytes, 0);
        assert!(!found(&cache, &shelf, 0));
    }

    #[test]
    fn what_is_asked_for_more_often_takes_the_place_of_what_is_not() {
        let shelf = Arc::new(Shelf::new(1));
        let cache = full(&shelf);
        (0..10).for_each(|number| assert!(found(&cache, &shelf, number)));
        (0..3).for_each(|_| ask(&cache, &shelf, 100));
        cache.put_block(&shelf, 100, &block());
        assert!(found(&cache, &shelf, 100));
        assert_eq!(cache.stats().bytes, 10 * COST);
    }

    #[test]
    fn what_is_asked_for_less_often_does_not() {
        let shelf = Arc::new(Shelf::new(1));
        let cache = full(&shelf);
        (0..10).for_each(|_| (0..10).for_each(|number| assert!(found(&cache, &shelf, number))));
        (0..5).for_each(|_| ask(&cache, &shelf, 100));
        cache.put_block(&shelf, 100, &block());
        assert!(!found(&cache, &shelf, 100));
        (0..10).for_each(|number| assert!(found(&cache, &shelf, number)));
    }

    /// The oldest one is the one that is asked for all the time: another one goes.
    #[test]
    fn what_is_hot_does_not_keep_what_is_cold() {
        let shelf = Arc::new(Shelf::new(1));
        let cache = full(&shelf);
        (0..30).for_each(|_| assert!(found(&cache, &shelf, 0)));
        (0..5).for_each(|_| ask(&cache, &shelf, 100));
        cache.put_block(&shelf, 100, &block());
        assert!(found(&cache, &shelf, 100) && found(&cache, &shelf, 0));
    }

    /// A scan by single reads asks for one block as often as it has records, and then never again.
    #[test]
    fn a_block_is_worth_loading_when_it_was_asked_for_a_few_times_and_not_each_time_after() {
        let (cache, shelf) = (Cache::new(1 << 20), Arc::new(Shelf::new(1)));
        let wanted = |number: u32, between: Option<u32>| {
            let ask = |number| matches!(cache.block(&shelf, number, |_, _| ()), Lookup::Wanted);
            let times = (1..=20).filter(|_| {
                between.map(ask);
                ask(number)
            });
            times.collect::<Vec<_>>()
        };
        assert_eq!(wanted(7, None), [6, 12, 18]);
        assert_eq!(wanted(8, Some(9)), [6, 12, 18]);
    }

    /// Asks for each of these blocks as often as for its records, and loads it as reads do.
    fn scan(cache: &Cache, shelf: &Arc<Shelf>, blocks: &[u32]) {
        for number in (0..200).flat_map(|_| blocks) {
            if let Lookup::Wanted = cache.block(shelf, *number, |_, _| ()) {
                cache.put_block(shelf, *number, &block());
            }
        }
    }

    #[test]
    fn a_scan_by_single_reads_leaves_what_is_hot() {
        let shelf = Arc::new(Shelf::new(1));
        let cache = full(&shelf);
        (0..60).for_each(|_| (0..10).for_each(|number| assert!(found(&cache, &shelf, number))));
        (100..300).for_each(|number| scan(&cache, &shelf, &[number]));
        assert!((0..10).all(|number| found(&cache, &shelf, number)));
    }

    /// One thread goes through two parts of a log by turns.
    #[test]
    fn two_scans_in_two_shards_leave_what_is_hot() {
        let (cache, shelf) = (Cache::new(2 << 20), Arc::new(Shelf::new(1)));
        let shard_of = |number: &u32| cache.shard_number(Key { segment_id: 1, part: Part::Block(*number) });
        (0..100).for_each(|number| cache.put_block(&shelf, number, &block()));
        let hot: Vec<u32> = (0..100).filter(|number| found(&cache, &shelf, *number)).collect();
        (0..60).for_each(|_| hot.iter().for_each(|number| assert!(found(&cache, &shelf, *number))));
        let in_shard = |shard| (1_000..).filter(move |number| shard_of(number) == shard);
        in_shard(0).zip(in_shard(1)).take(50).for_each(|(a, b)| scan(&cache, &shelf, &[a, b]));
        assert!(hot.iter().all(|number| found(&cache, &shelf, *number)));
    }

    #[test]
    fn all_shards_forget_by_turns_how_often_they_were_asked() {
        let (cache, shelf) = (Cache::new(2 << 20), Arc::new(Shelf::new(1)));
        let key = |number| Key { segment_id: 1, part: Part::Block(number) };
        let in_shard = |shard, nth| (0..).filter(|number| cache.shard_number(key(*number)) == shard).nth(nth).unwrap();
        // By turns, so that none of them is asked for in a row.
        let [firsts, seconds] = [0, 1].map(|nth| [0, 1].map(|shard| in_shard(shard, nth)));
        (0..5).for_each(|_| firsts.iter().chain(&seconds).for_each(|number| assert!(!found(&cache, &shelf, *number))));
        let counts = || firsts.map(|number| cache.shard(key(number)).counts.of(key(number)));
        assert_eq!(counts(), [5, 5]);
        cache.age();
        cache.age();
        assert_eq!(counts(), [2, 2]);
    }

    #[test]
    fn what_was_hot_once_does_not_stay_so() {
        let shelf = Arc::new(Shelf::new(1));
        let cache = full(&shelf);
        (0..60).for_each(|_| (0..10).for_each(|number| assert!(found(&cache, &shelf, number))));
        let take_place = |number| {
            (0..8).for_each(|_| ask(&cache, &shelf, number));
            cache.put_block(&shelf, number, &block());
            found(&cache, &shelf, number)
        };
        assert!(!take_place(100));
        // Others that nobody asks for twice.
        (1_000_000..1_010_000).for_each(|number| assert!(!found(&cache, &shelf, number)));
        assert!(take_place(101));
    }

    /// One page takes as little as an eighth of a block, and one block the room of eight pages.
    #[test]
    fn pages_and_blocks_are_weighed_by_their_bytes() {
        let (cache, shelf) = (Cache::new(4 * COST), Arc::new(Shelf::new(1)));
        let page = || Arc::new([0; PAGE_BYTES as usize]);
        let page_cost = u64::from(PAGE_BYTES) + OVERHEAD_BYTES as u64;
        let pages = (4 * COST / page_cost) as u32;
        (0..pages + 1).for_each(|number| cache.put_page(&shelf, number, &page()));
        assert_eq!(cache.stats().bytes, u64::from(pages) * page_cost);
        let is_here = |number| matches!(cache.page(&shelf, number, |_| ()), Lookup::Found(()));
        assert!((0..pages).all(is_here));
        (0..8).for_each(|_| ask(&cache, &shelf, 7));
        cache.put_block(&shelf, 7, &block());
        assert!(!found(&cache, &shelf, 7), "asked for eight times, for eight times the bytes");
        assert!(cache.stats().bytes <= 4 * COST);
    }
}
