//! What asks the allocator for nothing: counted by an allocator that counts what this thread asks for.

#![allow(unsafe_code)] // An allocator cannot be written without it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use casklog::{Durability, Options, ReadMode, SyncPolicy};

struct Counting;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: all is left to the system's allocator; the count is a plain number of this thread.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.set(CALLS.get() + 1);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        CALLS.set(CALLS.get() + 1);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(memory, layout, bytes) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// How often this thread asks for memory in `run`.
fn allocations(run: impl FnOnce()) -> u64 {
    let before = CALLS.get();
    run();
    CALLS.get() - before
}

const ENTRIES: u64 = 20_000;
const BLOCK_BYTES: u64 = 32 << 10;

/// About 4 MB in several segments, the last of which takes records.
fn filled(dir: &std::path::Path) -> Options {
    let options = Options::new(dir).sync(SyncPolicy::None).segment_bytes(1 << 20);
    let store = options.clone().open().unwrap();
    for _ in 0..ENTRIES {
        store.append_bytes_with([3; 16], [7; 170], Durability::Written).unwrap();
    }
    store.close().unwrap();
    options
}

/// From the cache, from the file, through a mapping: into a buffer that was used before.
#[test]
fn a_get_into_a_buffer_allocates_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let options = filled(dir.path());
    for (cache_bytes, mode) in [(64 << 20, ReadMode::Positioned), (64 << 20, ReadMode::Mapped), (0, ReadMode::Mapped)] {
        let store = options.clone().cache_bytes(cache_bytes).read_mode(mode).open().unwrap();
        // The parts of a record over two blocks are joined in memory of their own.
        let is_whole =
            |index: &u64| store.get(*index).unwrap().unwrap().position().offset() % BLOCK_BYTES < BLOCK_BYTES - 300;
        let whole: Vec<u64> = (1..=ENTRIES).filter(is_whole).collect();
        let mut buffer = Vec::new();
        let mut pass = || {
            for index in &whole {
                let entry = store.get_into(*index, &mut buffer).unwrap().unwrap();
                assert_eq!((entry.index(), entry.bytes().unwrap()), (*index, &[7; 170][..]));
            }
        };
        // What is asked for often enough is loaded, once.
        (0..8).for_each(|_| pass());
        assert_eq!(allocations(pass), 0, "a cache of {cache_bytes} bytes, {mode:?}");
        store.close().unwrap();
    }
}

/// The offsets of entries stand in pieces, eight of them to each doubling: within one nothing else is needed.
#[test]
fn an_append_allocates_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Options::new(dir.path()).sync(SyncPolicy::None).open().unwrap();
    let append = |count: u64| {
        for _ in 0..count {
            store.append_bytes_with([3; 16], [7; 128], Durability::Written).unwrap();
        }
    };
    // A piece holds those from 237,568 up to 253,952.
    append(238_000);
    assert_eq!(allocations(|| append(15_000)), 0);
    store.close().unwrap();
}
