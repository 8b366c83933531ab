//! The cached blocks and pages of one segment, found without a lock.
//!
//! Each block has a slot of its own, so that a lookup is one load and needs to compare nothing. The slots of a segment are
//! few enough for the processor's cache, and stand beside each other: what a lookup waits for is the block itself.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::format::{BLOCK_BYTES, PAGE_BYTES};
use crate::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use crate::sync::{ArcSwapOption, Guard};

/// Counts of what is cached end here, so that what becomes hot later can outdo what was hot once, and so that what is hot
/// is only read: threads that write to one line wait for each other.
const COUNT_MOST: u8 = 60;

/// Small in the model checks, which keep account of each slot.
const FIRST_CHUNK: usize = if cfg!(casklog_loom) { 1 } else { 64 };
/// Enough for the blocks of 4 GiB, and for as many pages as a footer of 1 GiB has.
const CHUNKS: usize = 12;

/// A block of records whose fragments were checked, but for those before `checked_from`.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    pub(crate) bytes: Arc<[u8; BLOCK_BYTES as usize]>,
    pub(crate) checked_from: u32,
}

/// The payload of a page of the footer, which was checked, and zeros behind it.
pub(crate) type PageBytes = Arc<[u8; PAGE_BYTES as usize]>;

/// See the module.
#[derive(Debug)]
pub(crate) struct Shelf {
    pub(crate) segment_id: u32,
    /// By their number in the file.
    pub(crate) blocks: Slots<{ BLOCK_BYTES as usize }>,
    /// By their number in the footer.
    pub(crate) pages: Slots<{ PAGE_BYTES as usize }>,
}

impl Shelf {
    pub(crate) fn new(segment_id: u32) -> Self {
        Shelf { segment_id, blocks: Slots::default(), pages: Slots::default() }
    }
}

/// Chunk n holds 64 * 2^n slots, and is made when one of them is needed.
#[derive(Debug)]
pub(crate) struct Slots<const BYTES: usize>([OnceLock<Box<[Slot<BYTES>]>>; CHUNKS]);

/// A place for the bytes of one block or page; what they are never changes.
#[derive(Debug)]
pub(crate) struct Slot<const BYTES: usize> {
    bytes: ArcSwapOption<[u8; BYTES]>,
    checked_from: AtomicU32,
    /// How often they were asked for. Threads that count at once may count one time less.
    count: AtomicU8,
}

impl<const BYTES: usize> Default for Slots<BYTES> {
    fn default() -> Self {
        Slots(std::array::from_fn(|_| OnceLock::new()))
    }
}

impl<const BYTES: usize> Slots<BYTES> {
    #[inline]
    fn place(number: u32) -> (usize, usize) {
        let number = number as usize;
        let chunk = (number / FIRST_CHUNK + 1).ilog2() as usize;
        (chunk, number - FIRST_CHUNK * ((1 << chunk) - 1))
    }

    /// The slot of this number, if anything near it was ever cached.
    #[inline]
    pub(crate) fn find(&self, number: u32) -> Option<&Slot<BYTES>> {
        let (chunk, place) = Self::place(number);
        self.0.get(chunk)?.get()?.get(place)
    }

    /// The slot of this number, made where there is none; none where no segment has so many.
    pub(crate) fn make(&self, number: u32) -> Option<&Slot<BYTES>> {
        let (chunk, place) = Self::place(number);
        let slots = || (0..FIRST_CHUNK << chunk).map(|_| Slot::default()).collect();
        self.0.get(chunk)?.get_or_init(slots).get(place)
    }
}

impl<const BYTES: usize> Default for Slot<BYTES> {
    fn default() -> Self {
        Slot { bytes: ArcSwapOption::empty(), checked_from: AtomicU32::new(0), count: AtomicU8::new(0) }
    }
}

impl<const BYTES: usize> Slot<BYTES> {
    #[inline]
    pub(crate) fn load(&self) -> Guard<Option<Arc<[u8; BYTES]>>> {
        self.bytes.load()
    }

    /// From where on the fragments of the block were checked. Of what was loaded before.
    #[inline]
    pub(crate) fn checked_from(&self) -> u32 {
        self.checked_from.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.load().is_none()
    }

    /// Counts that it was asked for.
    #[inline]
    pub(crate) fn ask(&self) {
        let count = self.count();
        if count < COUNT_MOST {
            self.count.store(count + 1, Ordering::Relaxed);
        }
    }

    #[inline]
    pub(crate) fn count(&self) -> u8 {
        self.count.load(Ordering::Relaxed)
    }

    pub(crate) fn halve_count(&self) {
        self.count.store(self.count() / 2, Ordering::Relaxed);
    }

    /// One thread at a time fills and empties.
    pub(crate) fn fill(&self, bytes: Arc<[u8; BYTES]>, checked_from: u32, count: u8) {
        self.count.store(count.min(COUNT_MOST), Ordering::Relaxed);
        // Before the bytes, which whoever looks at it has seen; of the same block it is the same each time.
        self.checked_from.store(checked_from, Ordering::Relaxed);
        self.bytes.store(Some(bytes));
    }

    pub(crate) fn empty(&self) {
        self.bytes.store(None);
    }
}

/// The same bytes for who keeps them.
pub(crate) fn shared<const BYTES: usize>(bytes: &Arc<[u8; BYTES]>) -> Bytes {
    struct Owner<const BYTES: usize>(Arc<[u8; BYTES]>);
    impl<const BYTES: usize> AsRef<[u8]> for Owner<BYTES> {
        fn as_ref(&self) -> &[u8] {
            &*self.0
        }
    }
    Bytes::from_owner(Owner(bytes.clone()))
}
