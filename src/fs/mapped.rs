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
pub(crate) fn prefetch(_soon: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    for line in _soon.chunks(64) {
        // SAFETY: any address may be named.
        unsafe { std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(line.as_ptr().cast()) };
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
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::fs::recent::tests::{bytes_at, holds, place_beside_two_readers};
    use crate::fs::{Access, Fs, OsFs, Placement};

    const MIB: u64 = 1 << 20;

    fn mapped(dir: &Path, capacity: u64) -> (Arc<dyn crate::fs::File>, Arc<dyn Region>) {
        let file = OsFs.open(&dir.join("f"), Access::CreateNew).unwrap();
        let region = Arc::clone(&file).region(Placement::Mapped, capacity).unwrap();
        (file, region)
    }

    #[test]
    fn placed_bytes_are_read_through_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let (file, region) = mapped(dir.path(), 64 * MIB);
        region.prepare(0, MIB).unwrap();
        let bytes: Vec<u8> = (0..=255).cycle().take(300_000).collect();
        region.place(&bytes, 4_000).unwrap();
        let mut found = vec![0; bytes.len()];
        assert_eq!(file.read_at(&mut found, 4_000).unwrap(), bytes.len());
        assert!(found == bytes);
        file.sync().unwrap();
        drop(region);
        assert_eq!(file.size().unwrap(), MIB);
        let mut first = [1; 1];
        file.read_at(&mut first, 0).unwrap();
        assert_eq!(first, [0]);
    }

    #[test]
    fn bytes_outside_of_prepared_space_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (_file, region) = mapped(dir.path(), 2 * MIB);
        assert_eq!(region.place(b"a", 0).unwrap_err().kind(), ErrorKind::InvalidInput);
        region.prepare(0, MIB).unwrap();
        region.place(b"ab", MIB - 2).unwrap();
        for at in [MIB - 1, MIB, 2 * MIB, u64::MAX] {
            assert_eq!(region.place(b"ab", at).unwrap_err().kind(), ErrorKind::InvalidInput);
        }
        region.prepare(MIB, 2 * MIB).unwrap();
        region.place(b"ab", MIB).unwrap();
        assert_eq!(region.prepare(0, 2 * MIB + 1).unwrap_err().kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn warming_leaves_zeros_and_nothing_beside_them_changes() {
        let dir = tempfile::tempdir().unwrap();
        let (file, region) = mapped(dir.path(), 8 * MIB);
        region.prepare(0, 4 * MIB).unwrap();
        region.place(b"placed", 4_090).unwrap();
        region.warm(4_096, 4 * MIB);
        region.place(b" and more", 4_096).unwrap();
        let mut found = vec![1; 5 * MIB as usize];
        assert_eq!(file.read_at(&mut found, 0).unwrap(), 4 * MIB as usize, "the file is as long as it was");
        assert_eq!(&found[4_090..4_105], b"placed and more");
        assert!(found[..4_090].iter().chain(&found[4_105..4 * MIB as usize]).all(|byte| *byte == 0));
    }

    #[test]
    fn long_pieces_are_written_where_pages_are_cold_and_stored_where_they_are_warm() {
        let dir = tempfile::tempdir().unwrap();
        let (file, region) = mapped(dir.path(), 16 * MIB);
        region.prepare(0, 16 * MIB).unwrap();
        let mut end = 100;
        let place = |parts: &[&[u8]], end: &mut u64| {
            region.place_all(parts, *end).unwrap();
            *end += parts.iter().map(|part| part.len() as u64).sum::<u64>();
        };
        region.place(&bytes_at(0, 100), 0).unwrap();
        // More pieces than one system call takes, and empty ones among them.
        let pieces: Vec<Vec<u8>> = (0..3_000).map(|piece| bytes_at(100 + piece * 500, 500)).collect();
        let parts: Vec<&[u8]> = pieces.iter().flat_map(|piece| [&[][..], piece]).collect();
        place(&parts, &mut end);
        region.place(&bytes_at(end, 5_000), end).unwrap();
        end += 5_000;
        place(&[&bytes_at(end, 10), &bytes_at(end + 10, 20)], &mut end);
        let warm = end.next_multiple_of(4_096);
        region.warm(warm, 16 * MIB);
        // The first of them ends in warm pages and begins before.
        for _ in 0..100 {
            place(&[&bytes_at(end, 70_000), &bytes_at(end + 70_000, 30_000)], &mut end);
        }
        let mut found = vec![0; end as usize];
        file.read_at(&mut found, 0).unwrap();
        assert!(found == bytes_at(0, end as usize));
        assert!(holds(|buf, at| region.recent(buf, at), end - 200_000, 200_000));
        assert_eq!(region.place_all(&[&[0; 9_000]], end - 1).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(region.place_all(&[&[0; 9_000]], 16 * MIB - 1).unwrap_err().kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn a_gap_below_the_prepared_range_is_allocated_too() {
        let dir = tempfile::tempdir().unwrap();
        let (_file, region) = mapped(dir.path(), 16 * MIB);
        region.prepare(10 * MIB, 16 * MIB).unwrap();
        let blocks = std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(dir.path().join("f")).unwrap());
        assert!(blocks * 512 >= 16 * MIB);
        region.place(b"in the gap", 5 * MIB).unwrap();
    }

    #[test]
    fn what_the_file_held_stays_when_it_is_prepared_again() {
        let dir = tempfile::tempdir().unwrap();
        let (file, region) = mapped(dir.path(), MIB);
        region.prepare(0, MIB).unwrap();
        region.place(b"kept", 100).unwrap();
        drop(region);
        let region = Arc::clone(&file).region(Placement::Mapped, MIB).unwrap();
        region.prepare(104, MIB).unwrap();
        region.place(b" and more", 104).unwrap();
        let mut found = [0; 13];
        file.read_at(&mut found, 100).unwrap();
        assert_eq!(&found, b"kept and more");
    }

    #[test]
    fn dropping_the_region_unmaps_it() {
        let mapped_names = |path: &Path| {
            let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
            maps.lines().filter(|line| line.ends_with(path.to_str().unwrap())).count()
        };
        let dir = tempfile::tempdir().unwrap();
        let (_file, region) = mapped(dir.path(), MIB);
        assert_eq!(mapped_names(&dir.path().join("f")), 1);
        drop(region);
        assert_eq!(mapped_names(&dir.path().join("f")), 0);
    }

    #[test]
    fn a_second_writer_is_turned_away() {
        let region = MappedRegion::new(tempfile::tempfile().unwrap(), MIB).unwrap();
        region.prepare(0, MIB).unwrap();
        region.placing.store(true, Ordering::Relaxed);
        assert_eq!(region.place(b"second", 0).unwrap_err().kind(), ErrorKind::ResourceBusy);
        region.placing.store(false, Ordering::Relaxed);
        region.place(b"first", 0).unwrap();
    }

    #[test]
    fn bytes_once_placed_are_not_placed_again() {
        let dir = tempfile::tempdir().unwrap();
        let (_file, region) = mapped(dir.path(), MIB);
        region.prepare(0, MIB).unwrap();
        region.place(b"abc", 10).unwrap();
        for at in [0, 10, 12] {
            assert_eq!(region.place(b"x", at).unwrap_err().kind(), ErrorKind::InvalidInput);
        }
        region.place(b"d", 13).unwrap();
        let mut found = [0; 4];
        assert!(region.recent(&mut found, 10));
        assert_eq!(&found, b"abcd");
    }

    #[test]
    fn only_what_the_region_placed_lately_is_read_through_the_mapping() {
        let dir = tempfile::tempdir().unwrap();
        let (file, region) = mapped(dir.path(), 16 * MIB);
        let is_recent = |at, length| holds(|buf: &mut [u8], at| region.recent(buf, at), at, length);
        file.write_at(&bytes_at(0, 500), 0).unwrap();
        region.prepare(0, 16 * MIB).unwrap();
        assert!(!is_recent(0, 1));
        region.place(&bytes_at(500, 100), 500).unwrap();
        assert!(is_recent(500, 100) && is_recent(599, 1));
        assert!(!is_recent(499, 2) && !is_recent(599, 2) && !is_recent(600, 1));
        assert!(!is_recent(u64::MAX, 1) && !is_recent(500, 32 << 20));
        // A gap, which nobody placed.
        region.place(&bytes_at(1_000, 100), 1_000).unwrap();
        assert!(is_recent(1_000, 100) && !is_recent(599, 1) && !is_recent(999, 1));
        let end = 1_000 + RECENT_BYTES;
        region.place(&bytes_at(1_100, RECENT_BYTES as usize - 100), 1_100).unwrap();
        assert!(is_recent(1_000, RECENT_BYTES as usize));
        region.place(&bytes_at(end, 1), end).unwrap();
        assert!(!is_recent(1_000, 1) && is_recent(1_001, RECENT_BYTES as usize));
    }

    #[test]
    fn readers_get_what_was_placed_while_the_writer_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let (_file, region) = mapped(dir.path(), 16 * MIB);
        region.prepare(0, 16 * MIB).unwrap();
        let place = |bytes: &[u8], at| region.place(bytes, at).unwrap();
        place_beside_two_readers(place, |buf, at| region.recent(buf, at), 12_345, 16 * MIB);
    }

    #[test]
    fn a_mapped_file_is_there_as_long_as_its_bytes_are_held() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let file = OsFs.open(&path, Access::CreateNew).unwrap();
        assert!(Arc::clone(&file).map().unwrap().is_empty());
        file.write_at(&bytes_at(0, 10_000), 0).unwrap();
        drop(file);
        let mapped = OsFs.open(&path, Access::Read).unwrap().map().unwrap();
        OsFs.remove(&path).unwrap();
        let part = mapped.slice(5_000..);
        assert!(mapped == bytes_at(0, 10_000));
        drop(mapped);
        assert!(part == bytes_at(5_000, 5_000));
    }

    #[test]
    fn a_failed_allocation_leaves_the_file_as_long_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        // No disk has this much, and no file of ext4 or XFS with 4 KiB blocks may be this long.
        let (file, region) = mapped(dir.path(), 1 << 46);
        region.prepare(0, MIB).unwrap();
        assert!(region.prepare(MIB, 1 << 46).is_err());
        assert_eq!(file.size().unwrap(), MIB);
        region.place(b"still ready", 0).unwrap();
        assert!(region.place(b"not ready", MIB).is_err());
    }

    #[test]
    fn a_region_of_one_thread_is_prepared_by_another_while_it_is_filled() {
        let dir = tempfile::tempdir().unwrap();
        let (file, region) = mapped(dir.path(), 8 * MIB);
        region.prepare(0, MIB).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| (1..8).for_each(|step| region.prepare(step * MIB, (step + 1) * MIB).unwrap()));
            for at in (0..MIB).step_by(1_000).take(1_000) {
                region.place(&[7; 1_000], at).unwrap();
            }
        });
        assert_eq!(file.size().unwrap(), 8 * MIB);
        let mut found = vec![0; 1_000_000];
        file.read_at(&mut found, 0).unwrap();
        assert!(found.iter().all(|&byte| byte == 7));
    }
}
