//! The log as a repair would leave it, before a byte on the disk is changed: files that are changed in memory, above the
//! real ones. Whatever reads a log can read this one, so that a plan is judged by the same code that opens the log
//! afterwards.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::fs::{Access, DirEntry, File, Fs, Lock, Placement, Region};
use crate::sync::Mutex;

use super::fill::Filling;

/// Real files, and above them those that are to be changed. Only for reading.
#[derive(Debug)]
pub(super) struct Overlay {
    below: Arc<dyn Fs>,
    changed: Mutex<BTreeMap<PathBuf, Arc<dyn File>>>,
}

/// A file with some of its bytes replaced, cut or made longer.
#[derive(Debug)]
pub(super) struct Patched {
    /// What shows where nothing is replaced.
    below: Option<Arc<dyn File>>,
    /// By where they begin; none reaches into the next.
    patches: BTreeMap<u64, Patch>,
    size: u64,
}

/// Bytes that show in the place of others.
#[derive(Debug)]
enum Patch {
    Bytes(Vec<u8>),
    /// Made when they are read: a gap may be as large as a segment.
    Gap(Filling),
}

impl Patch {
    fn end(&self, start: u64) -> u64 {
        match self {
            Patch::Bytes(bytes) => start + bytes.len() as u64,
            Patch::Gap(filling) => filling.until.into(),
        }
    }

    fn bytes(&self) -> Cow<'_, [u8]> {
        match self {
            Patch::Bytes(bytes) => bytes.into(),
            Patch::Gap(filling) => filling.to_bytes().into(),
        }
    }
}

fn refused() -> io::Error {
    io::ErrorKind::ReadOnlyFilesystem.into()
}

impl Overlay {
    pub(super) fn new(below: Arc<dyn Fs>) -> Self {
        Overlay { below, changed: Mutex::default() }
    }

    /// Shows `file` at `path` from now on.
    pub(super) fn change(&self, path: PathBuf, file: Arc<dyn File>) {
        self.changed.lock().insert(path, file);
    }
}

impl Fs for Overlay {
    fn create_dir_all(&self, _dir: &Path) -> io::Result<()> {
        Err(refused())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let mut listed = self.below.list(dir)?;
        for path in self.changed.lock().keys().filter(|path| path.parent() == Some(dir)) {
            let name = path.file_name().unwrap_or_default();
            // What has the name and is no file is replaced, too.
            listed.retain(|entry| entry.name != name);
            listed.push(DirEntry { name: name.to_owned(), is_file: true });
        }
        Ok(listed)
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        if access != Access::Read {
            return Err(refused());
        }
        let changed = self.changed.lock().get(path).cloned();
        changed.map_or_else(|| self.below.open(path, Access::Read), Ok)
    }

    fn rename(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        Err(refused())
    }

    fn hard_link(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        Err(refused())
    }

    fn remove(&self, _path: &Path) -> io::Result<()> {
        Err(refused())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        Err(refused())
    }

    fn lock(&self, _path: &Path) -> io::Result<Box<dyn Lock>> {
        Err(refused())
    }

    fn overwrites_in_place(&self, _dir: &Path) -> bool {
        false
    }

    fn now(&self) -> std::time::SystemTime {
        self.below.now()
    }
}

impl Patched {
    /// `below`, cut or filled up with zeros to `size` bytes.
    pub(super) fn new(below: Option<Arc<dyn File>>, size: u64) -> Self {
        Patched { below, patches: BTreeMap::new(), size }
    }

    /// Puts `bytes` at `at`, where nothing was put before.
    pub(super) fn put(self, at: u64, bytes: Vec<u8>) -> Self {
        self.patch(at, Patch::Bytes(bytes))
    }

    /// Puts a gap in its place, where nothing was put before.
    pub(super) fn put_gap(self, filling: Filling) -> Self {
        self.patch(filling.at.into(), Patch::Gap(filling))
    }

    fn patch(mut self, at: u64, patch: Patch) -> Self {
        self.size = self.size.max(patch.end(at));
        self.patches.insert(at, patch);
        self
    }
}

impl File for Patched {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let wanted = (buf.len() as u64).min(self.size.saturating_sub(at)) as usize;
        let buf = &mut buf[..wanted];
        let read = self.below.as_ref().map_or(Ok(0), |below| below.read_at(buf, at))?;
        buf[read..].fill(0);
        let end = at + wanted as u64;
        let first = self.patches.range(..=at).next_back().map_or(at, |(start, _)| *start);
        for (start, patch) in self.patches.range(first..end) {
            let (from, to) = ((*start).max(at), patch.end(*start).min(end));
            if from < to {
                let part = &patch.bytes()[(from - start) as usize..(to - start) as usize];
                buf[(from - at) as usize..(to - at) as usize].copy_from_slice(part);
            }
        }
        Ok(wanted)
    }

    fn write_at(&self, _bytes: &[u8], _at: u64) -> io::Result<()> {
        Err(refused())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.size)
    }

    fn set_size(&self, _size: u64) -> io::Result<()> {
        Err(refused())
    }

    fn sync(&self) -> io::Result<()> {
        Err(refused())
    }

    fn drop_cache(&self, _from: u64) {}

    fn region(self: Arc<Self>, _placement: Placement, _capacity: u64) -> io::Result<Arc<dyn Region>> {
        Err(refused())
    }

    fn map(self: Arc<Self>) -> io::Result<Bytes> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_show_where_they_are_and_the_file_below_elsewhere() {
        let below: Arc<dyn File> = Arc::new(Patched::new(None, 0).put(0, (0..20).collect()));
        let file = Patched::new(Some(below), 12).put(3, vec![100; 4]).put(10, vec![101; 5]);
        let expected = [0, 1, 2, 100, 100, 100, 100, 7, 8, 9, 101, 101, 101, 101, 101];
        assert_eq!(file.size().unwrap(), expected.len() as u64);
        for at in 0..expected.len() {
            for len in 0..20 {
                let mut buf = vec![0xff; len];
                let read = file.read_at(&mut buf, at as u64).unwrap();
                assert_eq!(buf[..read], expected[at..(at + len).min(expected.len())], "{at}, {len}");
            }
        }
    }
}
