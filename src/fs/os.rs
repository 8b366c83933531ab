//! The real file system: `std::fs`, with rustix where the kernel has more to offer.
//!
//! Linux is what the tests run on. Elsewhere the same code compiles with full syncs in place of data syncs, without
//! hints to the page cache, and with zero-filled regions in place of mapped ones.

#![allow(clippy::disallowed_methods)] // This is the door that the others are sent to.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::recent::RecentBlocks;
use super::{Access, DirEntry, File, Fs, Lock, Placement, Region};

/// The file system of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsFs;

impl Fs for OsFs {
    /// A directory that exists but is still empty is synced in its parent as well: whoever made it may have been
    /// killed before that sync, and nobody could tell later.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let Some(parent) = parent(dir) else { return Ok(()) };
        match fs::metadata(dir) {
            Ok(found) if !found.is_dir() => return Err(ErrorKind::NotADirectory.into()),
            Ok(_) => return settle_empty_dir(dir, &parent),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        self.create_dir_all(&parent)?;
        match fs::create_dir(dir) {
            // Somebody else was faster, and may not have come to the sync yet.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            made => made?,
        }
        self.sync_dir(&parent)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            match entry.file_type() {
                Ok(kind) => entries.push(DirEntry { name: entry.file_name(), is_file: kind.is_file() }),
                // Removed by another process since the name was read.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(entries)
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options.read(true).write(access != Access::Read).create_new(access == Access::CreateNew);
        let file = open_regular(path, &mut options)?;
        Ok(Arc::new(OsFile { file }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn reflink(&self, from: &Path, to: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(OsFile { file: super::reflink::reflink(from, to)? }))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    #[cfg(unix)]
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir_or_current(dir))?.sync_all()
    }

    /// Directories cannot be synced here: the file system journals their changes by itself.
    #[cfg(not(unix))]
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::metadata(dir_or_current(dir)).map(drop)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let (file, read_only) = match open_regular(path, &mut options) {
            Ok(file) => (file, None),
            Err(error) => {
                let is_refused = matches!(error.kind(), ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied);
                let read = is_refused.then(|| open_regular(path, fs::OpenOptions::new().read(true)));
                match read {
                    Some(Ok(file)) => (file, Some(error.kind())),
                    _ => return Err(error),
                }
            }
        };
        match file.try_lock() {
            Ok(()) => Ok(Box::new(OsLock { file, read_only })),
            Err(fs::TryLockError::WouldBlock) => Err(ErrorKind::WouldBlock.into()),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    fn overwrites_in_place(&self, dir: &Path) -> bool {
        overwrites_in_place(dir_or_current(dir))
    }
}

/// A lock of the operating system, which goes when the descriptor is closed.
#[derive(Debug)]
struct OsLock {
    file: fs::File,
    read_only: Option<ErrorKind>,
}

/// Released by name, not by closing: a child that this process is just starting holds a copy of the descriptor until it
/// runs its program, and with it the lock.
impl Drop for OsLock {
    fn drop(&mut self) {
        let _ = self.file.unlock();
    }
}

impl Lock for OsLock {
    fn read_only(&self) -> Option<ErrorKind> {
        self.read_only
    }
}

/// The directory that holds the name `dir`; none for a root or the current directory.
fn parent(dir: &Path) -> Option<PathBuf> {
    if dir.as_os_str().is_empty() {
        return None;
    }
    // `..` and `.` have no name of their own to look up: they exist, or nothing can be done about it.
    dir.file_name()?;
    dir.parent().map(|parent| dir_or_current(parent).to_path_buf())
}

/// The empty path, which `Path::parent` gives for a bare name, means the current directory.
fn dir_or_current(dir: &Path) -> &Path {
    if dir.as_os_str().is_empty() { Path::new(".") } else { dir }
}

fn settle_empty_dir(dir: &Path, parent: &Path) -> io::Result<()> {
    if fs::read_dir(dir)?.next().is_some() {
        return Ok(());
    }
    match OsFs.sync_dir(parent) {
        // A directory made for us in a place that we may not read: its maker answers for it.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
        synced => synced,
    }
}

/// Opens `path` and refuses what is not a regular file. A fifo or a device must neither block the caller nor be
/// taken for data, and a link leads to a file that is none of ours.
pub(super) fn open_regular(path: &Path, options: &mut fs::OpenOptions) -> io::Result<fs::File> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOFOLLOW;
        options.custom_flags(flags.bits() as i32);
    }
    let file = options.open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(ErrorKind::InvalidInput, "not a regular file"))
    }
}

#[derive(Debug)]
struct OsFile {
    file: fs::File,
}

impl File for OsFile {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match read_some_at(&self.file, &mut buf[done..], at + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            match write_some_at(&self.file, &bytes[done..], at + done as u64) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => done += written,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.file.set_len(size)
    }

    fn sync(&self) -> io::Result<()> {
        // `fdatasync` writes a changed size too, as that is needed to read the data. macOS needs the full sync, which
        // std asks for there.
        if cfg!(target_os = "linux") { self.file.sync_data() } else { self.file.sync_all() }
    }

    #[cfg(target_os = "linux")]
    fn start_sync(&self, at: u64, length: u64) {
        super::mapped::start_write_back(&self.file, at, length);
    }

    fn drop_cache(&self, from: u64) {
        #[cfg(target_os = "linux")]
        let _ = rustix::fs::fadvise(&self.file, from, None, rustix::fs::Advice::DontNeed);
        #[cfg(not(target_os = "linux"))]
        let _ = from;
    }

    fn region(self: Arc<Self>, placement: Placement, capacity: u64) -> io::Result<Arc<dyn Region>> {
        #[cfg(target_os = "linux")]
        if placement == Placement::Mapped {
            let file = self.file.try_clone()?;
            return Ok(Arc::new(super::mapped::MappedRegion::new(file, capacity)?));
        }
        let zero_filled = placement != Placement::Growing;
        Ok(Arc::new(WrittenRegion { file: self, capacity, zero_filled, recent: RecentBlocks::default() }))
    }

    #[cfg(target_os = "linux")]
    fn map(self: Arc<Self>) -> io::Result<Bytes> {
        super::mapped::map_whole(&self.file)
    }

    #[cfg(not(target_os = "linux"))]
    fn map(self: Arc<Self>) -> io::Result<Bytes> {
        Err(ErrorKind::Unsupported.into())
    }
}

/// A region filled by positioned writes.
#[derive(Debug)]
struct WrittenRegion {
    file: Arc<OsFile>,
    capacity: u64,
    /// Whether [`prepare`](Region::prepare) fills with zeros; else it does nothing and the file grows as it is written.
    zero_filled: bool,
    recent: RecentBlocks,
}

/// One write of zeros: large enough for the disk, small enough not to hold the file's lock for long.
const ZERO_STEP: usize = 1 << 20;

pub(super) static ZEROS: [u8; ZERO_STEP] = [0; ZERO_STEP];

impl WrittenRegion {
    fn fill_with_zeros(&self, from: u64, to: u64) -> io::Result<()> {
        let mut at = from;
        while at < to {
            let step = (to - at).min(ZERO_STEP as u64);
            self.file.write_at(&ZEROS[..step as usize], at)?;
            // Left alone, all of it would be written by the first sync of a commit, which somebody waits for.
            #[cfg(target_os = "linux")]
            super::mapped::start_write_back(&self.file.file, at, step);
            at += step;
        }
        Ok(())
    }
}

impl Region for WrittenRegion {
    fn prepare(&self, from: u64, to: u64) -> io::Result<()> {
        check_bounds(to, self.capacity)?;
        if !self.zero_filled || from >= to {
            return Ok(());
        }
        let size_before = self.file.size()?;
        self.fill_with_zeros(from, to).inspect_err(|_| cut_back(&self.file.file, size_before))
    }

    fn place(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        check_bounds(at.saturating_add(bytes.len() as u64), self.capacity)?;
        self.file.write_at(bytes, at)?;
        self.recent.keep(bytes, at);
        Ok(())
    }

    fn recent(&self, buf: &mut [u8], at: u64) -> bool {
        self.recent.copy(buf, at)
    }
}

/// Refuses what ends behind `limit`.
pub(super) fn check_bounds(end: u64, limit: u64) -> io::Result<()> {
    if end <= limit {
        return Ok(());
    }
    Err(io::Error::new(ErrorKind::InvalidInput, format!("byte {end} is behind the end of the region, {limit}")))
}

/// Gives back what a failed preparation got, so that a full disk gets its last space back. The error that led here is
/// the one worth reporting.
pub(super) fn cut_back(file: &fs::File, size_before: u64) {
    if file.metadata().is_ok_and(|now| now.len() > size_before) {
        let _ = file.set_len(size_before);
    }
}

#[cfg(unix)]
fn read_some_at(file: &fs::File, buf: &mut [u8], at: u64) -> io::Result<usize> {
    // Not the C library's, which prepares for each call to be a point where the thread is cancelled.
    Ok(rustix::io::pread(file, buf, at)?)
}

#[cfg(unix)]
fn write_some_at(file: &fs::File, bytes: &[u8], at: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::write_at(file, bytes, at)
}

#[cfg(windows)]
fn read_some_at(file: &fs::File, buf: &mut [u8], at: u64) -> io::Result<usize> {
    match std::os::windows::fs::FileExt::seek_read(file, buf, at) {
        // ERROR_HANDLE_EOF: a read that begins behind the end.
        Err(error) if error.raw_os_error() == Some(38) => Ok(0),
        read => read,
    }
}

#[cfg(windows)]
fn write_some_at(file: &fs::File, bytes: &[u8], at: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_write(file, bytes, at)
}

/// ext2/3/4, XFS and tmpfs. Copy-on-write file systems (btrfs, bcachefs, ZFS, overlays on them) need new space for an
/// overwrite, and a store into a mapping would then end in SIGBUS on a full disk.
#[cfg(target_os = "linux")]
fn overwrites_in_place(dir: &Path) -> bool {
    const EXT: u32 = 0xEF53;
    const XFS: u32 = 0x5846_5342;
    const TMPFS: u32 = 0x0102_1994;
    // The type of `f_type` differs between architectures; a magic number has 32 bits on all.
    rustix::fs::statfs(dir).is_ok_and(|found| matches!(found.f_type as u32, EXT | XFS | TMPFS))
}

#[cfg(not(target_os = "linux"))]
fn overwrites_in_place(_: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_in(dir: &Path) -> Arc<dyn File> {
        OsFs.open(&dir.join("f"), Access::CreateNew).unwrap()
    }

    #[test]
    fn bytes_written_at_an_offset_are_read_back_and_the_end_is_short() {
        let dir = tempfile::tempdir().unwrap();
        let file = file_in(dir.path());
        file.write_at(b"hello", 3).unwrap();
        let mut buf = [9; 10];
        assert_eq!(file.read_at(&mut buf, 0).unwrap(), 8);
        assert_eq!(&buf[..8], b"\0\0\0hello");
        assert_eq!(file.read_at(&mut buf, 100).unwrap(), 0);
        file.sync().unwrap();
        file.drop_cache(0);
        file.set_size(4).unwrap();
        assert_eq!(file.size().unwrap(), 4);
    }

    #[test]
    fn nested_directories_are_created_once_and_a_file_in_the_way_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b/c");
        OsFs.create_dir_all(&deep).unwrap();
        OsFs.create_dir_all(&deep).unwrap();
        file_in(&deep);
        OsFs.create_dir_all(&deep).unwrap();
        assert!(OsFs.create_dir_all(&deep.join("f")).is_err());
        assert!(OsFs.create_dir_all(&deep.join("f/g")).is_err());
        let names = OsFs.list(&dir.path().join("a")).unwrap();
        assert_eq!(names, [DirEntry { name: "b".into(), is_file: false }]);
        OsFs.create_dir_all(Path::new("")).unwrap();
        OsFs.create_dir_all(Path::new(".")).unwrap();
        OsFs.sync_dir(Path::new("")).unwrap();
    }

    #[test]
    fn a_lock_is_held_until_its_guard_is_dropped_and_keeps_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        file_in(dir.path()).write_at(b"kept", 0).unwrap();
        let held = OsFs.lock(&path).unwrap();
        assert_eq!(OsFs.lock(&path).unwrap_err().kind(), ErrorKind::WouldBlock);
        drop(held);
        OsFs.lock(&path).unwrap();
        assert_eq!(OsFs.open(&path, Access::Read).unwrap().size().unwrap(), 4);
    }

    #[test]
    fn only_regular_files_are_opened() {
        let dir = tempfile::tempdir().unwrap();
        assert!(OsFs.open(dir.path(), Access::Read).is_err());
        assert_eq!(OsFs.open(&dir.path().join("none"), Access::Write).unwrap_err().kind(), ErrorKind::NotFound);
        file_in(dir.path());
        let again = OsFs.open(&dir.path().join("f"), Access::CreateNew);
        assert_eq!(again.unwrap_err().kind(), ErrorKind::AlreadyExists);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_fifo_is_refused_without_waiting_for_its_other_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert!(OsFs.open(&path, Access::Read).is_err());
        assert!(OsFs.open(&path, Access::Write).is_err());
        assert!(!OsFs.list(dir.path()).unwrap()[0].is_file);
    }

    #[test]
    fn a_zero_filled_region_extends_with_zeros_and_takes_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let file = file_in(dir.path());
        let end = 2 * ZERO_STEP as u64 + 5;
        let region = Arc::clone(&file).region(Placement::ZeroFilled, end).unwrap();
        region.prepare(0, end).unwrap();
        assert_eq!(file.size().unwrap(), end);
        region.place(b"abc", end - 3).unwrap();
        let mut tail = [0; 4];
        file.read_at(&mut tail, end - 4).unwrap();
        assert_eq!(&tail, b"\0abc");
        assert_eq!(region.place(b"abc", end - 2).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(region.place(b"abc", u64::MAX).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(region.prepare(0, end + 1).unwrap_err().kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn a_failed_filling_with_zeros_leaves_the_file_as_long_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let file = file_in(dir.path());
        // The longest (sparse) file there may be: behind it the file system refuses, as it does when it is full.
        let (mut longest, mut refused) = (0, 1 << 63);
        while refused - longest > 1 {
            let middle = longest + (refused - longest) / 2;
            *if file.set_size(middle).is_ok() { &mut longest } else { &mut refused } = middle;
        }
        let step = ZERO_STEP as u64;
        let size_before = longest - 2 * step;
        file.set_size(size_before).unwrap();
        let region = Arc::clone(&file).region(Placement::ZeroFilled, u64::MAX).unwrap();
        assert!(region.prepare(size_before, longest + step).is_err());
        assert_eq!(file.size().unwrap(), size_before);
    }

    #[test]
    fn a_growing_region_prepares_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = file_in(dir.path());
        let region = Arc::clone(&file).region(Placement::Growing, 1 << 20).unwrap();
        region.prepare(0, 1 << 20).unwrap();
        assert_eq!(file.size().unwrap(), 0);
        region.place(b"abc", 10).unwrap();
        assert_eq!(file.size().unwrap(), 13);
    }

    #[test]
    fn names_are_linked_renamed_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        file_in(dir.path()).write_at(b"x", 0).unwrap();
        OsFs.hard_link(&at("f"), &at("g")).unwrap();
        assert_eq!(OsFs.hard_link(&at("f"), &at("g")).unwrap_err().kind(), ErrorKind::AlreadyExists);
        OsFs.rename(&at("f"), &at("h")).unwrap();
        OsFs.remove(&at("g")).unwrap();
        OsFs.sync_dir(dir.path()).unwrap();
        assert_eq!(OsFs.list(dir.path()).unwrap().len(), 1);
        assert_eq!(OsFs.open(&at("h"), Access::Read).unwrap().size().unwrap(), 1);
    }
}
