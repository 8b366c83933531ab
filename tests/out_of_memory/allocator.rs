//! An allocator that counts, and that has no memory left from some allocation on.

#![allow(unsafe_code, reason = "an allocator is unsafe to write")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How many allocations of the process there were.
static COUNT: AtomicU64 = AtomicU64::new(0);
/// From this one on there is no memory.
static END: AtomicU64 = AtomicU64::new(u64::MAX);

thread_local! {
    static LIVE: Cell<i64> = const { Cell::new(0) };
    static PEAK: Cell<i64> = const { Cell::new(0) };
}

fn took(bytes: i64) {
    let live = LIVE.get() + bytes;
    LIVE.set(live);
    PEAK.set(PEAK.get().max(live));
}

fn is_at_end() -> bool {
    COUNT.fetch_add(1, Ordering::Relaxed) >= END.load(Ordering::Relaxed)
}

// SAFETY: all is the system's, but that some allocations fail, which any may.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_at_end() {
            return std::ptr::null_mut();
        }
        took(layout.size() as i64);
        // SAFETY: the caller's promises are handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_at_end() {
            return std::ptr::null_mut();
        }
        took(layout.size() as i64);
        // SAFETY: the caller's promises are handed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if is_at_end() {
            return std::ptr::null_mut();
        }
        took(size as i64 - layout.size() as i64);
        // SAFETY: the caller's promises are handed on.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        took(-(layout.size() as i64));
        // SAFETY: the caller's promises are handed on.
        unsafe { System.dealloc(at, layout) }
    }
}

/// How many allocations there were so far.
pub(crate) fn count() -> u64 {
    COUNT.load(Ordering::Relaxed)
}

/// So many allocations from now on succeed.
pub(crate) fn end_after(allocations: u64) {
    END.store(count().saturating_add(allocations), Ordering::Relaxed);
}

/// The most bytes that this thread held at once while it ran this, beyond what it held before.
pub(crate) fn peak(run: impl FnOnce()) -> i64 {
    let before = LIVE.get();
    PEAK.set(before);
    run();
    PEAK.get() - before
}
