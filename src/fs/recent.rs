//! The bytes placed last into a region that is filled by positioned writes, kept in memory: what was just written is
//! what readers ask for most, and a copy costs them no system call.

use std::fmt;
use std::ops::Range;

use crate::sync::RwLock;

const BLOCK_BYTES: usize = 32 << 10;
const BLOCKS: usize = 32;
const RING_BYTES: usize = BLOCK_BYTES * BLOCKS;

/// The last blocks of a file, as far as they were placed: each in the slot that its number leads to, until a later
/// block takes its place.
#[derive(Default)]
pub(super) struct RecentBlocks {
    slots: [RwLock<Slot>; BLOCKS],
}

/// One block. The memory comes with its first bytes, so that a small log stays small.
#[derive(Default)]
struct Slot {
    /// Which block of the file it is.
    number: u64,
    /// What of the block is held. In front of it may be bytes that somebody else wrote into the file.
    held: Range<usize>,
    bytes: Box<[u8]>,
}

impl RecentBlocks {
    /// Keeps `bytes`, which now stand at `at` in the file; of more than the ring takes, the last.
    pub(super) fn keep(&self, bytes: &[u8], at: u64) {
        let skipped = bytes.len().saturating_sub(RING_BYTES);
        let bytes = &bytes[skipped..];
        for (number, start, piece) in pieces(at + skipped as u64, bytes.len()) {
            self.slot(number).write().keep(number, start, &bytes[piece]);
        }
    }

    /// Fills `buf` with the bytes at `at`; false, and `buf` holds anything, where not all of them are held.
    ///
    /// Each block is locked by itself. They fit together all the same, as bytes once kept do not change.
    pub(super) fn copy(&self, buf: &mut [u8], at: u64) -> bool {
        at.checked_add(buf.len() as u64).is_some()
            && pieces(at, buf.len())
                .all(|(number, start, piece)| self.slot(number).read().copy(number, start, &mut buf[piece]))
    }

    fn slot(&self, number: u64) -> &RwLock<Slot> {
        &self.slots[(number % BLOCKS as u64) as usize]
    }
}

impl fmt::Debug for RecentBlocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecentBlocks").finish_non_exhaustive()
    }
}

impl Slot {
    fn keep(&mut self, number: u64, start: usize, piece: &[u8]) {
        if self.bytes.is_empty() {
            self.bytes = vec![0; BLOCK_BYTES].into_boxed_slice();
        }
        let follows_on = self.number == number && self.held.end == start;
        if !follows_on {
            self.number = number;
            self.held.start = start;
        }
        self.held.end = start + piece.len();
        self.bytes[start..start + piece.len()].copy_from_slice(piece);
    }

    fn copy(&self, number: u64, start: usize, buf: &mut [u8]) -> bool {
        let end = start + buf.len();
        let is_held = self.number == number && self.held.start <= start && end <= self.held.end;
        if is_held {
            buf.copy_from_slice(&self.bytes[start..end]);
        }
        is_held
    }
}

/// Cuts a range of the file at the borders of blocks: the block's number, where the piece starts in it, the piece's
/// place in the range.
fn pieces(at: u64, length: usize) -> impl Iterator<Item = (u64, usize, Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == length {
            return None;
        }
        let position = at + done as u64;
        let start = (position % BLOCK_BYTES as u64) as usize;
        let end = length.min(done + BLOCK_BYTES - start);
        let piece = (position / BLOCK_BYTES as u64, start, done..end);
        done = end;
        Some(piece)
    })
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::fs::{Access, Fs, OsFs, Placement};

    const BLOCK: u64 = BLOCK_BYTES as u64;
    const RING: u64 = RING_BYTES as u64;

    /// Bytes that tell where they stand, so that those of another block are noticed.
    pub(in crate::fs) fn bytes_at(at: u64, length: usize) -> Vec<u8> {
        (at..).take(length).map(|at| (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
    }

    /// Whether the bytes at `at` are held; those that are must be right.
    pub(in crate::fs) fn holds(recent: impl Fn(&mut [u8], u64) -> bool, at: u64, length: usize) -> bool {
        let mut found = vec![0; length];
        let is_held = recent(&mut found, at);
        assert!(!is_held || found == bytes_at(at, length), "{length} bytes at {at}");
        is_held
    }

    /// Places `from..to`, piece by piece, while two readers ask for what they know to be placed, most of it lately.
    pub(in crate::fs) fn place_beside_two_readers(
        place: impl Fn(&[u8], u64),
        recent: impl Fn(&mut [u8], u64) -> bool + Sync,
        from: u64,
        to: u64,
    ) {
        let tail = AtomicU64::new(from);
        let read = |seed: u64| {
            let mut state = seed;
            loop {
                let end = tail.load(Ordering::Acquire);
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let back = ((state >> 33) % (2 * RING)) >> (state >> 59);
                let at = end.saturating_sub(back).max(from);
                holds(&recent, at, (end - at).min(100_000) as usize);
                if end == to {
                    return;
                }
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| read(1));
            scope.spawn(|| read(2));
            let mut at = from;
            while at < to {
                let length = (to - at).min(1 + at * 7 % 5_000);
                place(&bytes_at(at, length as usize), at);
                at += length;
                tail.store(at, Ordering::Release);
            }
        });
        assert!(holds(&recent, to - 100_000, 100_000));
    }

    fn keep(ring: &RecentBlocks, at: u64, length: usize) {
        ring.keep(&bytes_at(at, length), at);
    }

    fn ring_holds(ring: &RecentBlocks, at: u64, length: usize) -> bool {
        holds(|buf, at| ring.copy(buf, at), at, length)
    }

    #[test]
    fn bytes_kept_piece_by_piece_come_back_across_blocks() {
        let ring = RecentBlocks::default();
        (0..3 * BLOCK).step_by(1_000).for_each(|at| keep(&ring, at, 1_000));
        assert!(ring_holds(&ring, 0, 3 * BLOCK_BYTES));
        assert!(ring_holds(&ring, BLOCK - 1, 2) && ring_holds(&ring, BLOCK, BLOCK_BYTES));
        assert!(ring_holds(&ring, 7, 0));
    }

    #[test]
    fn only_bytes_that_were_kept_are_given_out() {
        let ring = RecentBlocks::default();
        assert!(!ring_holds(&ring, 0, 1));
        keep(&ring, 100, 50);
        assert!(ring_holds(&ring, 100, 50));
        assert!(!ring_holds(&ring, 99, 2) && !ring_holds(&ring, 149, 2));
        for at in [0, 150, 100 + BLOCK, 100 + RING, u64::MAX] {
            assert!(!ring_holds(&ring, at, 1), "{at}");
        }
        assert!(!ring_holds(&ring, 100, 2 * RING_BYTES));
        // A gap: what is in front of it is forgotten, what is in it was never there.
        keep(&ring, 200, 50);
        assert!(ring_holds(&ring, 200, 50) && !ring_holds(&ring, 120, 100));
        // Placed again, further down.
        keep(&ring, 120, 100);
        assert!(ring_holds(&ring, 120, 100) && !ring_holds(&ring, 230, 1));
    }

    #[test]
    fn a_later_block_takes_the_slot_of_an_earlier_one() {
        let ring = RecentBlocks::default();
        (0..RING).step_by(BLOCK_BYTES).for_each(|at| keep(&ring, at, BLOCK_BYTES));
        assert!(ring_holds(&ring, 0, RING_BYTES));
        keep(&ring, RING, 1);
        assert!(!ring_holds(&ring, 0, 1) && !ring_holds(&ring, 0, RING_BYTES));
        assert!(ring_holds(&ring, BLOCK, RING_BYTES - BLOCK_BYTES + 1));
    }

    #[test]
    fn of_a_run_longer_than_the_ring_the_last_part_stays() {
        for (at, length) in
            [(5, RING_BYTES), (5, RING_BYTES + 1), (BLOCK, 2 * RING_BYTES), (BLOCK, 3 * RING_BYTES + 777)]
        {
            let ring = RecentBlocks::default();
            keep(&ring, 0, 5);
            keep(&ring, at, length);
            let end = at + length as u64;
            // The last block may be begun, and has taken the slot of the first.
            let first = (end - RING).next_multiple_of(BLOCK);
            assert!(ring_holds(&ring, first, (end - first) as usize));
            assert!(!ring_holds(&ring, first - 1, 2) && !ring_holds(&ring, 0, 5));
        }
    }

    #[test]
    fn a_block_takes_memory_when_it_is_first_needed() {
        let ring = RecentBlocks::default();
        let blocks = || ring.slots.iter().filter(|slot| !slot.read().bytes.is_empty()).count();
        assert_eq!(blocks(), 0);
        keep(&ring, 10 * BLOCK + 5, 1_000);
        assert_eq!(blocks(), 1);
        keep(&ring, 11 * BLOCK - 1, 2);
        assert_eq!(blocks(), 2);
        keep(&ring, 11 * BLOCK + 1, 5 * RING_BYTES);
        assert_eq!(blocks(), BLOCKS);
    }

    #[test]
    fn readers_get_what_was_kept_while_the_writer_goes_on() {
        let ring = RecentBlocks::default();
        let recent = |buf: &mut [u8], at| ring.copy(buf, at);
        place_beside_two_readers(|bytes, at| ring.keep(bytes, at), recent, 12_345, 12_345 + 16 * RING);
    }

    #[test]
    fn a_region_gives_out_what_was_placed_last_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let file = OsFs.open(&dir.path().join("f"), Access::CreateNew).unwrap();
        file.write_at(b"before", 0).unwrap();
        let region = Arc::clone(&file).region(Placement::Growing, 1 << 30).unwrap();
        region.place(b"placed", 6).unwrap();
        // Behind the region's back: only the file can tell.
        file.write_at(b"rotten", 6).unwrap();
        let mut found = [0; 6];
        assert!(region.recent(&mut found, 6));
        assert_eq!(&found, b"placed");
        assert!(!region.recent(&mut found, 5) && !region.recent(&mut found, 7));
        let long = vec![7; 3 << 20];
        region.place(&long, 12).unwrap();
        assert!(!region.recent(&mut found, 6) && !region.recent(&mut found, 12));
        assert!(region.recent(&mut found, 12 + (3 << 20) - 6));
        assert_eq!(found, [7; 6]);
    }

    #[test]
    fn what_a_region_could_not_write_is_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        OsFs.open(&path, Access::CreateNew).unwrap();
        let read_only = OsFs.open(&path, Access::Read).unwrap();
        let region = read_only.region(Placement::Growing, 100).unwrap();
        assert!(region.place(b"abc", 0).is_err());
        assert!(!region.recent(&mut [0; 3], 0));
    }
}
