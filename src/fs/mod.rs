//! The only door to the disk: object-safe traits over files and directories.
//!
//! [`OsFs`] is the real thing; the simulated file system behind the feature `testing` forgets what was not synced, so
//! that tests can cut the power at every operation. Nothing above this layer touches `std::fs`.

use std::ffi::OsString;
use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

mod mapped;
mod os;
mod recent;
mod reflink;
#[cfg(feature = "testing")]
pub mod sim;

#[cfg(target_os = "linux")]
pub(crate) use mapped::prefetch;
pub use os::OsFs;

/// Where files are not mapped, there is nothing to ask for.
#[cfg(not(target_os = "linux"))]
pub(crate) fn prefetch(_soon: &[u8]) {}

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// An existing file, for reading.
    Read,
    /// An existing file, for reading and writing.
    Write,
    /// A file that must not exist yet, for reading and writing.
    CreateNew,
}

/// How the bytes of a [`Region`] reach the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// Into a shared mapping of allocated space: one copy and no system call a write.
    Mapped,
    /// By positioned writes into space that was filled with zeros ahead, so that a sync has no metadata to write.
    ZeroFilled,
    /// By positioned writes that let the file grow; nothing is prepared ahead.
    Growing,
}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// The name, without the directory.
    pub name: OsString,
    /// Whether it is a regular file (a link to one is not).
    pub is_file: bool,
}

/// A file system: names, directories and their durability.
///
/// A created, renamed or removed name survives a power cut only after [`sync_dir`](Fs::sync_dir) of its directory.
pub trait Fs: Debug + Send + Sync {
    /// Creates `dir` and every missing directory above it; each one created is synced in its parent.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// The names in `dir`, in no order. `NotFound` where there is no such directory.
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>>;
    /// Opens a file. Never truncates.
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>>;
    /// Renames `from` to `to`, replacing what is there.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives the file `from` the second name `to`, which must not exist.
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes the file `to`, which must not exist, with the contents that `from` has now; the two share their space until
    /// one is changed. Neither is durable by it. `Unsupported` where the file system does not do that; after any error there
    /// is no `to`.
    fn reflink(&self, _from: &Path, _to: &Path) -> io::Result<Arc<dyn File>> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Removes the name of a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Takes the exclusive lock on the file `path`, creating it if missing. `WouldBlock` while another holder lives.
    /// The lock is released when the guard is dropped or the process ends. A file that is there and may not be written to is
    /// locked all the same; [`Lock::read_only`] says so.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>>;
    /// Whether the file system under `dir` is known to keep overwrites of allocated space in place, so that a store
    /// into a mapping cannot run out of space.
    fn overwrites_in_place(&self, dir: &Path) -> bool;
    /// The time that the system's clock shows; it may jump.
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// A held lock; dropping it releases it.
pub trait Lock: Debug + Send + Sync {
    /// Why the file could be opened for reading only, where it was so: then nothing in its directory is to be written.
    fn read_only(&self) -> Option<io::ErrorKind> {
        None
    }
}

/// An open file. All offsets are bytes from its start.
pub trait File: Debug + Send + Sync {
    /// Reads at `at` until `buf` is full or the file ends; returns the bytes read.
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize>;
    /// Writes all of `bytes` at `at`.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;
    /// The length in bytes.
    fn size(&self) -> io::Result<u64>;
    /// Cuts or extends (with a hole) the file to `size` bytes.
    fn set_size(&self, size: u64) -> io::Result<()>;
    /// Makes the contents durable, and the metadata needed to read them. After an error no further sync of this file
    /// may be believed.
    fn sync(&self) -> io::Result<()>;
    /// Lets the disk begin with what a sync of `length` bytes at `at` would ask of it, and does not wait. Best effort: it says
    /// nothing, and a sync comes later anyway.
    fn start_sync(&self, _at: u64, _length: u64) {}
    /// Asks the kernel to forget the cached pages from `from` on that are clean. Best effort, never relied on. What a
    /// file system has in its journal and could not write to its place is gone from sight then, until it is mounted anew.
    fn drop_cache(&self, from: u64);
    /// A region for appending: space from byte 0 up to `capacity` may be prepared and then filled.
    fn region(self: Arc<Self>, placement: Placement, capacity: u64) -> io::Result<Arc<dyn Region>>;
    /// The whole file as it is now, for reading, as shared bytes that stay valid as long as they are held. Only for a
    /// file that nobody changes or cuts any more. They may be a mapping: what a read would report as an I/O error is
    /// then a signal (SIGBUS) to whoever touches them. `Unsupported` where files cannot be mapped.
    fn map(self: Arc<Self>) -> io::Result<Bytes>;
}

/// The space of a file into which the single writer places bytes.
///
/// One thread places while another prepares further up and many read further down: none touches bytes that another
/// changes. So each place begins at or above the end of the one before; a mapped region refuses one that does not.
pub trait Region: Debug + Send + Sync {
    /// Makes `from..to` ready for [`place`](Region::place): allocates it, or fills it with zeros, as the placement asks.
    /// Bytes in that range become zero or stay what they were. An error leaves the file no longer than it was.
    fn prepare(&self, from: u64, to: u64) -> io::Result<()>;
    /// Does now, in the calling thread, what the first [`place`](Region::place) in `from..to` would have to do for each page:
    /// space that is prepared, and that nobody has placed anything into or does meanwhile. It makes the pages dirty, so that
    /// a sync has more to write. Best effort. Not worth it for long pieces of bytes, which fill pages by many at once.
    fn warm(&self, _from: u64, _to: u64) {}
    /// Whether [`warm`](Region::warm) does anything.
    fn can_warm(&self) -> bool {
        false
    }
    /// Puts `bytes` at `at`, within prepared space (or anywhere below the capacity where the placement is
    /// [`Placement::Growing`]). When it returns, the bytes survive the death of the process.
    fn place(&self, bytes: &[u8], at: u64) -> io::Result<()>;
    /// Puts `parts`, one behind the other, at `at`; else as [`place`](Region::place).
    fn place_all(&self, parts: &[&[u8]], at: u64) -> io::Result<()> {
        self.place(&parts.concat(), at)
    }
    /// Fills `buf` with the bytes that were placed at `at` through this region, without a system call, where they are
    /// still in memory, as the last ones are; else it is false, and `buf` holds anything.
    ///
    /// Only for bytes that [`place`](Region::place) has returned for: the reader knows of them through an atomic that
    /// the writer stored with `Release` afterwards and that it loaded with `Acquire`. The file must not have been cut
    /// below them.
    fn recent(&self, buf: &mut [u8], at: u64) -> bool;
}
