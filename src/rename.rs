//! Moving a log to another prefix of its directory.
//!
//! Files hold no prefix, so that only their names change. Both logs are locked, so that nobody writes to either, and what
//! a crash leaves is told by two marks, one under each prefix, each durable before the next step:
//!
//! 1. The new prefix is marked, then the old one. *The log under its old prefix. With the first mark the new one opens
//!    with an error, with both marks either does.*
//! 2. The files get their new names, and the directory is synced. *Both are marked: some files have the one name, some
//!    the other, and nobody takes either part for a log.*
//! 3. The mark of the new prefix goes, then that of the old one. *The log under its new prefix, once its mark is gone.*
//!
//! So the mark of the new prefix alone says that nothing was moved yet, that of the old one alone that all was; a rerun
//! goes on from there. Were it the other way round, somebody could begin a new log under the old prefix before the rerun.

#![deny(clippy::unwrap_used, clippy::expect_used)]

use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::log::Dir;
use crate::options::Options;
use crate::recovery::lock;

impl Options {
    /// Moves the log that these options describe, and that is not open, to another prefix of the same directory. Looks
    /// into no file, so that a damaged log may be moved, too.
    ///
    /// The lock file stays, and so does the folder `<prefix>quarantine`, which is no part of the log.
    ///
    /// ```
    /// # use casklog::{Options, Store};
    /// # let dir = tempfile::tempdir()?;
    /// let store = Store::open(dir.path())?;
    /// store.write(1, "key", "value")?;
    /// store.close()?;
    /// Options::new(dir.path()).rename("events_")?;
    /// let store = Options::new(dir.path()).prefix("events_").open()?;
    /// assert_eq!(store.len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # After a crash
    /// The log is there under its old prefix, or under its new one, or opening it under either is [`Error::Unfinished`]
    /// and names this call: run again, it completes the move. Never are there two logs.
    ///
    /// # Errors
    /// [`Error::NotFound`] where there is no log to move; [`Error::Exists`] where there is one with the new prefix;
    /// [`Error::Locked`] where either is open; [`Error::Unfinished`] where another call has left one of them so;
    /// [`Error::InvalidOption`] for the prefix; [`Error::Io`], [`Error::NoSpace`]: run it again.
    pub fn rename(self, new_prefix: impl Into<String>) -> Result<()> {
        let options = self.create(false);
        let renamed = options.clone().prefix(new_prefix);
        options.validate()?;
        renamed.validate()?;
        if options.prefix == renamed.prefix {
            let reason = "the log has this prefix already; choose another one".to_owned();
            return Err(Error::InvalidOption { option: "prefix", reason });
        }
        let (from, to) = (Dir::new(&options), Dir::new(&renamed));
        let _locks = (lock(&options, &from)?, lock(&renamed, &to)?);
        let mark = format!("Options::rename (casklog rename) of prefix {:?} to {:?}", options.prefix, renamed.prefix);
        match (mark_of(&from, &mark)?, mark_of(&to, &mark)?) {
            (false, _) => {
                if files(&from)?.is_empty() {
                    return Err(Error::NotFound { path: options.dir });
                }
                must_be_empty(&to)?;
                let marked = to.mark(&mark).and_then(|()| from.mark(&mark));
                marked.inspect_err(|_| _ = from.unmark().and_then(|()| to.unmark()))?;
                give_names(&from, &to)?;
            }
            (true, true) => give_names(&from, &to)?,
            (true, false) => must_be_empty(&from)?,
        }
        to.unmark()?;
        from.unmark()
    }
}

/// Whether a log has this very mark.
///
/// # Errors
/// [`Error::Unfinished`] where it has another one.
fn mark_of(dir: &Dir, mark: &str) -> Result<bool> {
    match dir.read_mark()? {
        None => Ok(false),
        Some(found) if found == mark => Ok(true),
        Some(what) => Err(Error::Unfinished { path: dir.path.clone(), what }),
    }
}

fn must_be_empty(dir: &Dir) -> Result<()> {
    match files(dir)?.into_iter().next() {
        Some(path) => Err(Error::Exists { path }),
        None => Ok(()),
    }
}

/// The files of the log, as they are named now.
fn files(dir: &Dir) -> Result<Vec<PathBuf>> {
    let listed = dir.list()?;
    let names = Dir::small_files(&dir.names);
    let small = listed.iter().filter(|entry| entry.is_file && names.iter().any(|name| entry.name == name.as_str()));
    let small = small.map(|entry| dir.path.join(&entry.name));
    let segments = dir.list_segments()?;
    Ok(segments.into_iter().map(|number| dir.segment_path(number)).chain(small).collect())
}

/// Step 2. Both are marked.
fn give_names(from: &Dir, to: &Dir) -> Result<()> {
    let segments = from.list_segments()?.into_iter().map(|number| (from.segment_path(number), to.segment_path(number)));
    let small = Dir::small_files(&from.names).into_iter().zip(Dir::small_files(&to.names));
    let small = small.map(|(old, new)| (from.path.join(old), to.path.join(new)));
    let (here, there) = (files(from)?, files(to)?);
    let moves: Vec<(PathBuf, PathBuf)> = segments.chain(small).filter(|(old, _)| here.contains(old)).collect();
    // Of two files one would be lost. No crash leaves both names.
    if let Some((_, new)) = moves.iter().find(|(_, new)| there.contains(new)) {
        return Err(Error::Exists { path: new.clone() });
    }
    for (old, new) in &moves {
        from.fs.rename(old, new).map_err(|e| Error::io("rename", old, e))?;
    }
    from.sync_dir()
}
