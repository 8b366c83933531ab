//! Counts the bytes that a process has allocated, while it is asked to.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};

/// Off but for the moments when a log is opened, so that what is measured pays one branch that is never taken.
static COUNTING: AtomicBool = AtomicBool::new(false);
static BYTES: AtomicI64 = AtomicI64::new(0);

struct Counting;

fn count(bytes: i64) {
    if COUNTING.load(Relaxed) {
        BYTES.fetch_add(bytes, Relaxed);
    }
}

// SAFETY: every call is passed on to the system's allocator as it came; counting allocates nothing.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller vouches for the layout.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller vouches for the layout.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        // SAFETY: the caller vouches that the pointer came from here with this layout, and so from the system.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as i64 - layout.size() as i64);
        // SAFETY: as `dealloc`; the caller vouches for the new size.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Starts counting from zero.
pub(crate) fn start() {
    BYTES.store(0, Relaxed);
    COUNTING.store(true, Relaxed);
}

/// Ends counting. Returns the bytes that were allocated since the start and not freed.
pub(crate) fn stop() -> i64 {
    COUNTING.store(false, Relaxed);
    BYTES.load(Relaxed)
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_kept_is_counted() {
        super::start();
        let kept = std::hint::black_box(vec![0_u8; 10_000_000]);
        let counted = super::stop();
        assert!(counted >= 10_000_000, "{counted}");
        drop(kept);
    }
}
