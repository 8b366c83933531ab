//! A file system whose contents are exchanged while files are open.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use casklog::fs::sim::SimFs;
use casklog::fs::{Access, DirEntry, File, Fs, Lock, Placement, Region};
use parking_lot::Mutex;

/// A file system whose contents are exchanged under its readers, as a power cut exchanges them under a machine that
/// reads them over a network. Open files show the new contents, unless their names are gone.
#[derive(Debug, Clone)]
pub(crate) struct Swap(Arc<Mutex<(u64, SimFs)>>);

impl Swap {
    pub(crate) fn new(sim: &SimFs) -> Self {
        Swap(Arc::new(Mutex::new((0, sim.clone()))))
    }

    pub(crate) fn set(&self, sim: &SimFs) {
        let mut now = self.0.lock();
        *now = (now.0 + 1, sim.clone());
    }

    fn now(&self) -> SimFs {
        self.0.lock().1.clone()
    }
}

impl Fs for Swap {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.now().create_dir_all(dir)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.now().list(dir)
    }
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        let (version, sim) = self.0.lock().clone();
        let file = sim.open(path, access)?;
        Ok(Arc::new(SwapFile { fs: self.clone(), path: path.to_owned(), now: Mutex::new((version, file)) }))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.now().rename(from, to)
    }
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.now().hard_link(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.now().remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.now().sync_dir(dir)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        self.now().lock(path)
    }
    fn overwrites_in_place(&self, dir: &Path) -> bool {
        self.now().overwrites_in_place(dir)
    }
}

#[derive(Debug)]
struct SwapFile {
    fs: Swap,
    path: PathBuf,
    now: Mutex<(u64, Arc<dyn File>)>,
}

impl SwapFile {
    fn now(&self) -> Arc<dyn File> {
        let (version, sim) = self.fs.0.lock().clone();
        let mut now = self.now.lock();
        if now.0 != version {
            now.0 = version;
            if let Ok(file) = sim.open(&self.path, Access::Read) {
                now.1 = file;
            }
        }
        now.1.clone()
    }
}

impl File for SwapFile {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        self.now().read_at(buf, at)
    }
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.now().write_at(bytes, at)
    }
    fn size(&self) -> io::Result<u64> {
        self.now().size()
    }
    fn set_size(&self, size: u64) -> io::Result<()> {
        self.now().set_size(size)
    }
    fn sync(&self) -> io::Result<()> {
        self.now().sync()
    }
    fn drop_cache(&self, _: u64) {}
    fn region(self: Arc<Self>, placement: Placement, capacity: u64) -> io::Result<Arc<dyn Region>> {
        self.now().region(placement, capacity)
    }
    fn map(self: Arc<Self>) -> io::Result<Bytes> {
        self.now().map()
    }
}
