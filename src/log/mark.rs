//! The mark of a log that is not complete: a call that makes it or moves it has begun and not come to its end. Whoever
//! opens the log is told, and what to run again.
//!
//! The mark is a small file that holds the name of the call. It is durable before the call changes anything that others
//! would take for the log, and goes when all that the call did is durable. So a crash in between leaves the mark, and the
//! same call finds its own.

use crate::error::{Error, Result};
use crate::format::{Manifest, SLOT_BYTES};
use crate::fs::{Access, DirEntry};
use crate::position::Names;

use super::Dir;

/// No mark is longer.
const MARK_BYTES_MAX: usize = 1024;

impl Dir {
    /// Marks the log: `what` is run again to complete it.
    ///
    /// A crash before it has returned leaves no mark or a whole one.
    pub(crate) fn mark(&self, what: &str) -> Result<()> {
        self.put_file(&self.names.unfinished(), what.as_bytes()).map(drop)
    }

    /// Takes the mark away. All that it stood for must be durable, names included.
    ///
    /// A crash before it has returned leaves the mark or not: the log is complete, and the call finds nothing to do.
    pub(crate) fn unmark(&self) -> Result<()> {
        let path = self.path.join(self.names.unfinished());
        match self.fs.remove(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::io("remove", &path, e)),
            _ => {}
        }
        self.sync_dir()
    }

    /// Removes what there is of a log that is marked; the mark stays. A crash leaves it, and some of the rest.
    pub(crate) fn clear(&self) -> Result<()> {
        for name in Dir::small_files(&self.names) {
            let path = self.path.join(name);
            match self.fs.remove(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::io("remove", &path, e)),
                _ => {}
            }
        }
        self.unlink(self.list_segments()?)?;
        self.sync_dir()
    }

    /// The mark, if there is one.
    pub(crate) fn read_mark(&self) -> Result<Option<String>> {
        let bytes = self.read_small(&self.names.unfinished(), MARK_BYTES_MAX)?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// # Errors
    /// [`Error::Unfinished`] where the mark is in what was `listed`.
    pub(super) fn check_complete(&self, listed: &[DirEntry]) -> Result<()> {
        let name = self.names.unfinished();
        let is_marked = listed.iter().any(|entry| entry.is_file && entry.name.to_str() == Some(name.as_str()));
        if !is_marked || self.is_ours {
            return Ok(());
        }
        match self.read_mark()? {
            Some(what) => Err(Error::Unfinished { path: self.path.clone(), what }),
            // Completed meanwhile.
            None => Ok(()),
        }
    }

    /// Notes that the log is a copy, whose manifest says this.
    pub(crate) fn sign_checkpoint(&self, manifest: &Manifest) -> Result<()> {
        self.put_file(&self.names.checkpoint(), &manifest.to_slot()).map(drop)
    }

    /// What the manifest said when the log was last made a copy, if it was.
    pub(crate) fn read_checkpoint(&self) -> Result<Option<Manifest>> {
        let bytes = self.read_small(&self.names.checkpoint(), SLOT_BYTES)?;
        Ok(bytes.and_then(|bytes| Manifest::from_slot(&bytes)))
    }

    fn read_small(&self, name: &str, bytes_max: usize) -> Result<Option<Vec<u8>>> {
        let path = self.path.join(name);
        let file = match self.fs.open(&path, Access::Read) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io("open", &path, e)),
        };
        let mut bytes = vec![0; bytes_max];
        let read = file.read_at(&mut bytes, 0).map_err(|e| Error::io("read", &path, e))?;
        bytes.truncate(read);
        Ok(Some(bytes))
    }

    /// The files that make up the log beside its segments, but for its lock.
    pub(crate) fn small_files(names: &Names) -> [String; 2] {
        [names.manifest(), names.checkpoint()]
    }
}
