//! A region filled through a shared mapping: an append is one copy and no system call, and still survives a kill,
//! because the pages belong to the file and not to the process. What was placed lately is read through it as well. And
//! whole files mapped for reading.
//!
//! The only file of the crate with `unsafe` in it. Linux only; elsewhere a region of zero-filled space stands in.

#![cfg(target_os = "linux")]
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use memmap2::{Advice, MmapOptions, MmapRaw};
use rustix::fs::FallocateFlags;

use super::Region;
use super::os::{ZEROS, check_bounds, cut_back};

/// How far back [`recent`](Region::recent) reads the mapping. Pages placed so lately are dirty or were written a moment
/// ago, and in memory: a page fault that has to read the disk, and would end in SIGBUS where it fails, is not to be
/// feared. What is older is read through the file, where an I/O error is an error and not a signal.
const RECENT_BYTES: u64 = 8 << 20;

/// How far ahead of a short record cache lines are asked for. The keeper warmed the pages, so that its processor has the
/// lines: without this the writer's stores get them one by one, and its next locked instruction waits for all of them.
const CLAIMED_AHEAD: usize = 1 << 10;

/// The mapping of a file from byte 0 up to a capacity, most of which may lie behind the end of the file.
///
/// Invariants: the mapping is not moved while the value lives; the file is allocated, without holes, from byte 0 to
/// `ready`, which only rises; no byte at or above `ready` is touched. The mapping is read below `placed_end` only, and
/// stored to at or above it only, so that no byte is ever read while it is stored or written to. Whoever shortens the file must
/// have stopped placing, and leave what was placed: an access behind the end of a file is SIGBUS.
#[derive(Debug)]
pub(super) struct MappedRegion {
    map: MmapRaw,
    file: File,
    capacity: u64,
    ready: AtomicU64,
    /// All from here to `placed_end` was placed through this region, without a gap. It and `placed_end` only rise.
    placed_first: AtomicU64,
    /// Where the last place ended. Stored with `Release` when its bytes are there.
    placed_end: AtomicU64,
    /// Set while a thread is in [`place`](Region::place). There is one writer by contract; this flag keeps a broken
    /// contract from becoming a data race.
    placing: AtomicBool,
    /// The pages that were [warmed](Region::warm) last: from here to `warm_end`. Only for a choice of ways that do the same.
    warm_start: AtomicU64,
    warm_end: AtomicU64,
}

/// From this length on a piece of bytes that meets a page for the first time is written through the file: a system call
/// brings pages in by many at once, and a store takes a fault for each.
const WRITE_BYTES: usize = 4096;

/// A system call takes so many pieces (`IOV_MAX`).
const PIECES_MAX: usize = 1024;

impl MappedRegion {
    /// Maps `file`, which must be open for reading and writing. Nothing is ready until it was prepared, not even what
    /// the file already holds: that may be sparse.
    pub(super) fn new(file: File, capacity: u64) -> io::Result<Self> {
        let length = usize::try_from(capacity).map_err(|_| io::Error::from(ErrorKind::InvalidInput))?;
        let map = MmapOptions::new().len(length).map_raw(&file)?;
        Ok(Self {
            map,
            file,
            capacity,
            ready: AtomicU64::new(0),
            placed_first: AtomicU64::new(0),
            placed_end: AtomicU64::new(0),
            placing: AtomicBool::new(false),
            warm_start: AtomicU64::new(0),
            warm_end: AtomicU64::new(0),
        })
    }

    /// As [`place`](Region::place), of `length` bytes that `put` stores or writes.
    fn place_with(&self, at: u64, length: usize, put: impl FnOnce(bool) -> io::Result<()>) -> io::Result<()> {
        let end = at.saturating_add(length as u64);
        check_bounds(end, self.ready.load(Ordering::Acquire))?;
        if self.placing.swap(true, Ordering::Acquire) {
            return Err(io::Error::new(ErrorKind::ResourceBusy, "two threads place into one region at once"));
        }
        let is_warm = || self.warm_start.load(Ordering::Relaxed) <= at && end <= self.warm_end.load(Ordering::Relaxed);
        let done = self.check_start(at).and_then(|()| put(length < WRITE_BYTES || is_warm()));
        if done.is_ok() {
            self.placed_end.store(end, Ordering::Release);
        }
        self.placing.store(false, Ordering::Release);
        done
    }

    /// Refuses what begins below what was placed.
    fn check_start(&self, at: u64) -> io::Result<()> {
        let placed_end = self.placed_end.load(Ordering::Relaxed);
        if at < placed_end {
            let message = format!("byte {at} is below the end of what was placed, {placed_end}");
            return Err(io::Error::new(ErrorKind::InvalidInput, message));
        }
        if at > placed_end {
            self.placed_first.store(at, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Stores `bytes` at `at`. The caller holds `placing` and has checked that they begin at or above `placed_end` and end
    /// at or below `ready`.
    fn store(&self, bytes: &[u8], at: u64) {
        // SAFETY: `at + len <= ready <= capacity`, the length of the mapping, so that the destination lies inside it;
        // `capacity` fitted a `usize`, so `at` does. The mapping is writable and lives as long as `self`. No reference
        // into it exists, and `recent`, the only other place that touches it, reads below a `placed_end` that it
        // loaded, which is at or below `at`. `placing` keeps a second writer of this mapping out, and `bytes` cannot
        // overlap it, as it is handed to nobody. The file reaches to `ready` and has blocks there; should another
        // process cut it, the store is a signal (SIGBUS), not undefined behaviour.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.map.as_mut_ptr().add(at as usize), bytes.len());
        }
        if bytes.len() < CLAIMED_AHEAD {
            claim(self.map.as_mut_ptr().wrapping_add(at as usize + CLAIMED_AHEAD), bytes.len());
        }
    }

    /// Writes `parts`, one behind the other, at `at`: the mapping shows the very pages that the file has.
    fn write(&self, parts: &[&[u8]], mut at: u64) -> io::Result<()> {
        let mut slices: Vec<_> = parts.iter().filter(|part| !part.is_empty()).map(|part| IoSlice::new(part)).collect();
        let mut left = &mut slices[..];
        while !left.is_empty() {
            match rustix::io::pwritev(&self.file, &left[..left.len().min(PIECES_MAX)], at) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => {
                    IoSlice::advance_slices(&mut left, written);
                    at += written as u64;
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

impl Region for MappedRegion {
    fn prepare(&self, from: u64, to: u64) -> io::Result<()> {
        check_bounds(to, self.capacity)?;
        let ready = self.ready.load(Ordering::Acquire);
        if to > ready {
            // From `ready`, should `from` be above it: a hole between them would be SIGBUS on a full disk.
            let start = from.min(ready);
            let size_before = self.file.metadata()?.len();
            allocate(&self.file, start, to - start).inspect_err(|_| cut_back(&self.file, size_before))?;
            self.ready.fetch_max(to, Ordering::AcqRel);
        }
        Ok(())
    }

    fn can_warm(&self) -> bool {
        true
    }

    fn warm(&self, from: u64, to: u64) {
        // A write brings pages in by many at once, and page faults one by one.
        for at in (from..to).step_by(ZEROS.len()) {
            let step = (to - at).min(ZEROS.len() as u64);
            if self.file.write_all_at(&ZEROS[..step as usize], at).is_err() {
                return;
            }
        }
        let length = to.saturating_sub(from);
        let _ = self.map.advise_range(Advice::PopulateWrite, from as usize, length as usize);
        if from != self.warm_end.load(Ordering::Relaxed) {
            self.warm_start.store(from, Ordering::Relaxed);
        }
        self.warm_end.store(to, Ordering::Relaxed);
    }

    #[inline]
    fn place(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.place_with(at, bytes.len(), |stores| {
            if !stores {
                return self.write(&[bytes], at);
            }
            self.store(bytes, at);
            Ok(())
        })
    }

    fn place_all(&self, parts: &[&[u8]], at: u64) -> io::Result<()> {
        self.place_with(at, parts.iter().map(|part| part.len()).sum(), |stores| {
            if !stores {
                return self.write(parts, at);
            }
            let mut to = at;
            for part in parts {
                self.store(part, to);
                to += part.len() as u64;
            }
            Ok(())
        })
    }

    fn recent(&self, buf: &mut [u8], at: u64) -> bool {
        // In this order: a `placed_first` younger than `placed_end` lies above it and leaves nothing to read.
        let placed_end = self.placed_end.load(Ordering::Acquire);
        let first = self.placed_first.load(Ordering::Relaxed).max(placed_end.saturating_sub(RECENT_BYTES));
        if at < first || at.saturating_add(buf.len() as u64) > placed_end {
            return false;
        }
        // SAFETY: `at + len <= placed_end <= ready <= capacity`, the length of the mapping, so that the source lies
        // inside it, and `at` fits a `usize`. All stores below `placed_end` happened before this (`Release` in `store`,
        // `Acquire` above), and later ones are at or above it, so that none races with this read. The mapping is
        // readable, lives as long as `self`, and cannot overlap `buf`, as it is handed to nobody. Should another
        // process cut the file, the load is a signal (SIGBUS), not undefined behaviour.
        unsafe {
            std::ptr::copy_nonoverlapping(self.map.as_ptr().add(at as usize), buf.as_mut_ptr(), buf.len());
        }
        true
    }
}

/// The whole of `file` as a mapping of its own. Only for a file that nobody changes or cuts any more.
pub(super) fn map_whole(file: &File) -> io::Result<Bytes> {
    let size = usize::try_from(file.metadata()?.len()).map_err(|_| io::Error::from(ErrorKind::FileTooLarge))?;
    if size == 0 {
        return Ok(Bytes::new());
    }
    // SAFETY: called for sealed segments only, which no one ever changes in place or cuts, so that the bytes behind the
    // shared slice stay what they are; removing the file's name leaves them alone. The mapping lives in the `Bytes`
    // until the last clone is gone. An I/O error, or another process that cuts the file, is a signal (SIGBUS): the
    // documented risk of those who ask for mapped reads.
    let map = unsafe { MmapOptions::new().len(size).map(file)? };
    // Reads go from entry to entry; what the kernel would read ahead for them is mostly wasted.
    let _ = map.advise(Advice::Random);
    Ok(Bytes::from_owner(map))
}

/// Asks the processor, where it can be asked, to fetch what is read soon.
#[inline(always)]
#[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables))]
pub(crate) fn prefetch(soon: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    for line in soon.chunks(64) {
        // SAFETY: any address may be named.
        unsafe { std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(line.as_ptr().cast()) };
    }
}

/// Asks the processor, where it can be asked, for memory that is stored to soon.
#[inline(always)]
#[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables))]
fn claim(soon: *mut u8, length: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in (0..length).step_by(64) {
        // `_mm_prefetch` with a hint to write is one to read unless the target is known to have this instruction; processors
        // that have it not do nothing.
        // SAFETY: any address may be named, and nothing is changed.
        unsafe {
            std::arch::asm!("prefetchw [{}]", in(reg) soon.wrapping_add(line), options(readonly, nostack, preserves_flags));
        }
    }
}

fn allocate(file: &File, at: u64, length: u64) -> io::Result<()> {
    loop {
        match rustix::fs::fallocate(file, FallocateFlags::empty(), at, length) {
            Err(rustix::io::Errno::INTR) => {}
            done => return Ok(done?),
        }
    }
}

/// Starts writing `length` bytes at `at` to the disk and does not wait. Best effort: a sync comes later anyway.
pub(super) fn start_write_back(file: &File, at: u64, length: u64) {
    const SYNC_FILE_RANGE_WRITE: u32 = 2;
    // Neither std nor rustix has it. The offsets have 64 bits on all architectures, in glibc and musl alike.
    unsafe extern "C" {
        fn sync_file_range(fd: i32, offset: i64, bytes: i64, flags: u32) -> i32;
    }
    let Some((at, length)) = i64::try_from(at).ok().zip(i64::try_from(length).ok()) else { return };
    // SAFETY: the call takes no pointers, and the descriptor is open as long as `file` is borrowed.
    let _ = unsafe { sync_file_range(file.as_raw_fd(), at, length, SYNC_FILE_RANGE_WRITE) };
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // The tests look at the kernel's side of the file.
mod tests;
