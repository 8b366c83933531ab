//! Makes the files of a checkpoint, each under a name that no log has.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::fs::{Access, File};
use crate::log::Dir;
use crate::segment::{Scan, Segment, Stop, Window, read_header};

use super::plan::{Part, Piece};
use super::{COPY_BYTES, Checkpoint};

/// What was made so far. What is in it is durable but for its names.
pub(super) struct Stage<'a> {
    dir: &'a Dir,
    done: BTreeMap<u32, (Part, How)>,
}

/// How a file was made.
#[derive(Debug, Clone, Copy)]
enum How {
    Linked,
    Reflinked,
    /// So many bytes.
    Copied(u64),
}

impl<'a> Stage<'a> {
    /// Begins, and removes what an interrupted run has left.
    pub(super) fn new(dir: &'a Dir) -> Result<Self> {
        for entry in dir.list()?.iter().filter(|entry| entry.is_file) {
            if dir.names.parse_replacement(&entry.name).is_some() {
                remove(dir, &dir.path.join(&entry.name))?;
            }
        }
        Ok(Stage { dir, done: BTreeMap::new() })
    }

    /// The numbers of what was made.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> {
        self.done.keys().copied()
    }

    /// Gives up what is not wanted any more.
    pub(super) fn retain(&mut self, is_wanted: impl Fn(u32) -> bool) -> Result<()> {
        let gone: Vec<u32> = self.numbers().filter(|number| !is_wanted(*number)).collect();
        for number in gone {
            remove(self.dir, &self.path(number))?;
            self.done.remove(&number);
        }
        Ok(())
    }

    /// Counts what was made.
    pub(super) fn count(&self, made: &mut Checkpoint) {
        for (_, how) in self.done.values() {
            match how {
                How::Linked => made.linked += 1,
                How::Reflinked => made.reflinked += 1,
                How::Copied(bytes) => (made.copied, made.copied_bytes) = (made.copied + 1, made.copied_bytes + bytes),
            }
        }
    }

    /// Gives up everything, as far as that is possible.
    pub(super) fn discard(&mut self) {
        for number in std::mem::take(&mut self.done).into_keys() {
            let _ = remove(self.dir, &self.path(number));
        }
    }

    pub(super) fn path(&self, number: u32) -> PathBuf {
        self.dir.path.join(self.dir.names.replacement(number))
    }

    /// Makes a segment, unless it was made.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Damaged`] with the path in the source; [`Error::Io`], [`Error::NoSpace`].
    pub(super) fn make(&mut self, piece: &Piece) -> Result<()> {
        let Piece { segment, part, .. } = piece;
        if self.done.get(&segment.number).is_some_and(|(done, _)| done == part) {
            return Ok(());
        }
        let path = self.path(segment.number);
        remove(self.dir, &path)?;
        // From here on something may be there.
        self.done.remove(&segment.number);
        let made = match part {
            Part::Sealed => share(self.dir, piece, &path),
            Part::Gap => copy_whole(self.dir, piece, &path),
            Part::Records(end) => copy_records(self.dir, piece, *end, &path),
        };
        let how = made.inspect_err(|_| _ = remove(self.dir, &path))?;
        self.done.insert(segment.number, (*part, how));
        Ok(())
    }
}

fn remove(dir: &Dir, path: &Path) -> Result<()> {
    match dir.fs.remove(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io("remove", path, e)),
        _ => Ok(()),
    }
}

/// Gives a sealed segment a second name; shares its space, or copies it, where it cannot have one.
fn share(dir: &Dir, piece: &Piece, to: &Path) -> Result<How> {
    use ErrorKind::{CrossesDevices, NotFound, PermissionDenied, TooManyLinks, Unsupported};
    let segment = &*piece.segment;
    let missing = || Error::Missing { path: segment.path.clone() };
    match dir.fs.hard_link(&segment.path, to) {
        // Sealed, it is durable to its end: only the name is new.
        Ok(()) => {
            let file = dir.fs.open(to, Access::Read).map_err(|e| Error::io("open", to, e))?;
            return check_header(segment, &*file).map(|()| How::Linked);
        }
        Err(e) => match e.kind() {
            NotFound => return Err(missing()),
            // Another file system, or one that has no links, or does not let this user link this file.
            CrossesDevices | PermissionDenied | TooManyLinks | Unsupported => {}
            _ => return Err(Error::io_or_full("link", to, e)),
        },
    }
    match dir.fs.reflink(&segment.path, to) {
        Ok(file) => {
            check_header(segment, &*file)?;
            file.sync().map_err(|e| Error::io("sync", to, e))?;
            Ok(How::Reflinked)
        }
        Err(e) => match e.kind() {
            NotFound => Err(missing()),
            CrossesDevices | PermissionDenied | Unsupported => copy_whole(dir, piece, to),
            _ => Err(Error::io_or_full("share the space of", to, e)),
        },
    }
}

fn copy_whole(dir: &Dir, piece: &Piece, to: &Path) -> Result<How> {
    let (source, segment) = (piece.file()?, &*piece.segment);
    let bytes = source.size().map_err(|e| Error::io("read the size of", &segment.path, e))?;
    let copy = copy_bytes(dir, segment, &*source, bytes, to)?;
    check_header(segment, &*copy)?;
    copy.sync().map_err(|e| Error::io("sync", to, e))?;
    Ok(How::Copied(bytes))
}

/// Copies what stands before `end`, and reads it as a log would: whole batches, up to there.
fn copy_records(dir: &Dir, piece: &Piece, end: u32, to: &Path) -> Result<How> {
    let segment = &*piece.segment;
    let copy = copy_bytes(dir, segment, &*piece.file()?, end.into(), to)?;
    check_header(segment, &*copy)?;
    let mut scan = Scan::new(Window::within(copy.clone(), to, end), segment.header);
    let mut batch = Vec::new();
    let (at, reason) = loop {
        match scan.next_batch(&mut batch, end)? {
            None => {}
            Some(Stop::Limit) if scan.end() == end => break (end, None),
            Some(Stop::Bad { at, why }) => break (at, Some(why.to_string())),
            Some(_) => break (scan.end(), Some("no record ends where the durable part does".to_owned())),
        }
    };
    if let Some(reason) = reason {
        return Err(Error::damaged(&segment.path, at.into(), reason));
    }
    copy.sync().map_err(|e| Error::io("sync", to, e))?;
    Ok(How::Copied(end.into()))
}

/// Copies the first `bytes` of `source` into a new file, which is not durable yet.
fn copy_bytes(dir: &Dir, segment: &Segment, source: &dyn File, bytes: u64, to: &Path) -> Result<Arc<dyn File>> {
    let copy = dir.fs.open(to, Access::CreateNew).map_err(|e| Error::io_or_full("create", to, e))?;
    let mut buffer = vec![0; bytes.min(COPY_BYTES as u64) as usize];
    let mut at = 0;
    while at < bytes {
        let piece = &mut buffer[..(bytes - at).min(COPY_BYTES as u64) as usize];
        let read = source.read_at(piece, at).map_err(|e| Error::io("read", &segment.path, e))?;
        if read < piece.len() {
            return Err(Error::damaged(&segment.path, at + read as u64, "the file ends too early"));
        }
        copy.write_at(piece, at).map_err(|e| Error::io_or_full("write to", to, e))?;
        // The disk writes this piece while the next one is read.
        copy.start_sync(at, read as u64);
        at += read as u64;
    }
    Ok(copy)
}

/// Another file may stand under the name by now.
fn check_header(segment: &Segment, copy: &dyn File) -> Result<()> {
    match read_header(copy, &segment.path)? {
        Ok(header) if header == segment.header => Ok(()),
        Ok(_) => Err(Error::damaged(&segment.path, 0, "it has the header of another segment")),
        Err(why) => Err(Error::damaged(&segment.path, 0, why.to_string())),
    }
}
