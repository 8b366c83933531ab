//! A bounded set of open descriptors.

use std::path::Path;
use std::sync::Arc;

use lru::LruCache;

use crate::error::{Error, Result};
use crate::fs::{Access, File, Fs};
use crate::stats::Reads;
use crate::sync::Mutex;

/// The descriptors of sealed segments, the least recently used closed first.
#[derive(Debug)]
pub(crate) struct Files {
    fs: Arc<dyn Fs>,
    open: Mutex<LruCache<u32, Arc<dyn File>>>,
    max_open: usize,
    /// What readers read from them.
    pub(crate) reads: Arc<Reads>,
}

impl Files {
    pub(crate) fn new(fs: Arc<dyn Fs>, max_open: usize) -> Self {
        // Not a cache with a bound of its own: it would take the memory for all descriptors at once.
        Files { fs, open: Mutex::new(LruCache::unbounded()), max_open, reads: Arc::default() }
    }

    /// The file of the segment with this id, opened outside the lock where it is not open yet.
    pub(crate) fn get(&self, id: u32, path: &Path) -> Result<Arc<dyn File>> {
        if let Some(file) = self.open.lock().get(&id) {
            return Ok(file.clone());
        }
        let file = self.fs.open(path, Access::Read).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => Error::Missing { path: path.to_owned() },
            _ => Error::io("open", path, source),
        })?;
        let mut open = self.open.lock();
        open.put(id, file.clone());
        if open.len() > self.max_open {
            open.pop_lru();
        }
        Ok(file)
    }

    #[cfg(all(casklog_loom, test))]
    pub(crate) fn open_count(&self) -> usize {
        self.open.lock().len()
    }

    pub(crate) fn close_all(&self) {
        self.open.lock().clear();
    }

    pub(crate) fn forget(&self, id: u32) {
        self.open.lock().pop(&id);
    }
}
