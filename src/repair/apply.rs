//! Puts planned files in the place of those that are there, and takes them back.
//!
//! The order of a repair, so that a crash at any line leaves each segment the old one or the new one, and everything that
//! is needed to complete it and to undo it:
//!
//! 1. The record of all that is to be replaced is written in quarantine, under a name that says that it is not finished;
//!    it is durable before anything else is done.
//! 2. All replacements are written under foreign names and synced, then the directory. A crash before this is complete has
//!    replaced nothing: the next run takes record and replacements away and plans anew.
//! 3. For each segment: the old file gets a second name in quarantine, which is synced; the replacement is renamed over it.
//!    Then the directory is synced. A run after a crash goes on here, whatever can be read by then: a file that stood under
//!    another's name may be there no longer.
//! 4. The record gets the name that says that all is done.
//!
//! Undoing looks at every file before it touches one. Each segment gets its old file back by a rename; then the record
//! goes, and last the second names in quarantine. A run after a crash finds some that are back already and goes on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::fs::{Access, File};
use crate::log::Dir;

use super::record::{Content, Record, Step};
use super::report::RepairReport;

/// Segments, and what takes their place.
pub(super) type Files = BTreeMap<u32, Arc<dyn File>>;

/// How much of a file is copied at once.
const COPY_BYTES: usize = 1 << 20;
/// A record is a few lines for each segment.
const RECORD_BYTES_MAX: u64 = 1 << 28;

/// The records in quarantine.
struct Records<'a> {
    dir: &'a Dir,
    folder: PathBuf,
    /// The number of the last one, and whether it is finished; none where there is none.
    last: Option<(u64, bool)>,
    /// All names there.
    names: Vec<String>,
}

impl<'a> Records<'a> {
    fn new(dir: &'a Dir) -> Result<Self> {
        let folder = dir.path.join(dir.names.quarantine());
        let listed = match dir.fs.list(&folder) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            listed => listed.map_err(|e| Error::io("list", &folder, e))?,
        };
        let names: Vec<String> = listed.iter().map(|entry| entry.name.to_string_lossy().into_owned()).collect();
        let number = |name: &String| {
            let rest = name.strip_prefix("repair-")?;
            let (number, is_finished) = rest.strip_suffix(".unfinished").map_or((rest, true), |number| (number, false));
            Some((number.parse().ok()?, is_finished))
        };
        // Of one number the finished one, where a crash left both names.
        let last = names.iter().filter_map(number).max();
        Ok(Records { dir, folder, last, names })
    }

    fn path(&self, number: u64, is_finished: bool) -> PathBuf {
        self.folder.join(format!("repair-{number}{}", if is_finished { "" } else { ".unfinished" }))
    }

    /// The last one, if it is not finished.
    fn unfinished(&self) -> Result<Option<(u64, Record)>> {
        let Some((number, false)) = self.last else { return Ok(None) };
        Ok(self.read_last()?.map(|record| (number, record)))
    }

    fn read_last(&self) -> Result<Option<Record>> {
        let Some((number, is_finished)) = self.last else { return Ok(None) };
        let path = self.path(number, is_finished);
        let io = |e| Error::io("read", &path, e);
        let file = self.dir.fs.open(&path, Access::Read).map_err(io)?;
        let mut bytes = vec![0; file.size().map_err(io)?.min(RECORD_BYTES_MAX) as usize];
        let read = file.read_at(&mut bytes, 0).map_err(io)?;
        bytes.truncate(read);
        let record = String::from_utf8(bytes).ok().and_then(|text| Record::parse(&text));
        record.map(Some).ok_or_else(|| Error::damaged(&path, 0, "this is no record of a repair"))
    }

    /// Writes a record that is not finished, durably. There is no other that is not.
    fn begin(&self, record: &Record, report: &RepairReport) -> Result<u64> {
        let Records { dir, folder, .. } = self;
        let number = self.last.map_or(1, |(number, _)| number.saturating_add(1));
        let (path, unnamed) = (self.path(number, false), folder.join("repair.new"));
        write(dir, &unnamed, |file| file.write_at(record.to_text(report).as_bytes(), 0))?;
        dir.fs.rename(&unnamed, &path).map_err(|e| Error::io("rename", &unnamed, e))?;
        sync_folder(dir, folder)?;
        Ok(number)
    }

    fn finish(&self, number: u64) -> Result<PathBuf> {
        let (from, to) = (self.path(number, false), self.path(number, true));
        self.dir.fs.rename(&from, &to).map_err(|e| Error::io("rename", &from, e))?;
        sync_folder(self.dir, &self.folder)?;
        Ok(to)
    }
}

fn sync_folder(dir: &Dir, folder: &Path) -> Result<()> {
    dir.fs.sync_dir(folder).map_err(|e| Error::io("sync the directory", folder, e))
}

/// Makes a new file, in the place of one that a crash left, and syncs it.
fn write(dir: &Dir, path: &Path, fill: impl FnOnce(&dyn File) -> std::io::Result<()>) -> Result<()> {
    remove(dir, path)?;
    let io = |what| move |e| Error::io_or_full(what, path, e);
    let file = dir.fs.open(path, Access::CreateNew).map_err(io("create"))?;
    // Half a file on a full disk is of use to nobody.
    let written = fill(&*file).map_err(io("write")).and_then(|()| file.sync().map_err(io("sync")));
    written.inspect_err(|_| _ = dir.fs.remove(path))
}

fn remove(dir: &Dir, path: &Path) -> Result<()> {
    match dir.fs.remove(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path, e)),
        _ => Ok(()),
    }
}

/// Shows the whole file, piece by piece.
fn pieces(file: &dyn File, mut see: impl FnMut(&[u8], u64) -> std::io::Result<()>) -> std::io::Result<()> {
    let mut piece = vec![0; COPY_BYTES];
    let mut at = 0;
    loop {
        let read = file.read_at(&mut piece, at)?;
        if read == 0 {
            return Ok(());
        }
        see(&piece[..read], at)?;
        at += read as u64;
    }
}

fn content(file: &dyn File, path: &Path) -> Result<Content> {
    let (mut digest, mut bytes) = (crc64fast::Digest::new(), 0);
    let all = pieces(file, |piece, _| {
        digest.write(piece);
        bytes += piece.len() as u64;
        Ok(())
    });
    all.map_err(|e| Error::io("read", path, e))?;
    Ok(Content { bytes, sum: digest.sum64() })
}

/// The content of the file, where there is one.
fn content_of(dir: &Dir, path: &Path) -> Result<Option<Content>> {
    match dir.fs.open(path, Access::Read) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        file => content(&*file.map_err(|e| Error::io("open", path, e))?, path).map(Some),
    }
}

/// The generation of the log's manifest, 0 where there is none.
fn generation(dir: &Dir) -> Result<u64> {
    let slots = dir.read_manifest()?.unwrap_or_default();
    Ok(slots.iter().map(|slot| slot.generation).max().unwrap_or(0))
}

fn replacement(dir: &Dir, number: u32) -> PathBuf {
    dir.path.join(dir.names.replacement(number))
}

/// What an interrupted run had still to put in its place, once all of it was durable.
pub(super) fn pending(dir: &Dir) -> Result<Files> {
    let unfinished = Records::new(dir)?.unfinished()?;
    Ok(unfinished.map_or(Ok(None), |(_, record)| still_to_do(dir, &record))?.unwrap_or_default())
}

/// The steps of a record that are not done, and their replacements; `None` where one is not there, or its segment is not
/// what it was.
fn still_to_do(dir: &Dir, record: &Record) -> Result<Option<Files>> {
    let mut left = Files::new();
    for Step { number, old, new, .. } in &record.steps {
        let now = content_of(dir, &dir.segment_path(*number))?;
        if now == Some(*new) {
            continue;
        }
        let path = replacement(dir, *number);
        // What was written into the segment since is in no replacement.
        if now != *old || content_of(dir, &path)? != Some(*new) {
            return Ok(None);
        }
        left.insert(*number, dir.fs.open(&path, Access::Read).map_err(|e| Error::io("open", &path, e))?);
    }
    Ok(Some(left))
}

/// Completes a run that was interrupted, or takes away what it has left where it had replaced nothing. Returns its record,
/// if it was completed.
pub(super) fn complete(dir: &Dir) -> Result<Option<PathBuf>> {
    let records = Records::new(dir)?;
    let Some((number, record)) = records.unfinished()? else { return Ok(None) };
    if still_to_do(dir, &record)?.is_none() {
        record.steps.iter().try_for_each(|step| remove(dir, &replacement(dir, step.number)))?;
        let is_done = |step: &Step| Ok::<_, Error>(content_of(dir, &dir.segment_path(step.number))? == Some(step.new));
        for step in &record.steps {
            if is_done(step)? {
                // The log was written to before all of it was done: the record stays, of what was.
                dir.sync_dir()?;
                return records.finish(number).map(Some);
            }
        }
        remove(dir, &records.path(number, false))?;
        sync_folder(dir, &records.folder)?;
        return Ok(None);
    }
    exchange(dir, &records, number, &record).map(Some)
}

/// Replaces the segments; returns the record of it, none where nothing was to be done. No run is unfinished.
pub(super) fn apply(dir: &Dir, files: &BTreeMap<u32, Arc<dyn File>>, report: &RepairReport) -> Result<Option<PathBuf>> {
    if files.is_empty() {
        return Ok(None);
    }
    let records = Records::new(dir)?;
    dir.fs.create_dir_all(&records.folder).map_err(|e| Error::io("create", &records.folder, e))?;
    let mut record = Record { generation: generation(dir)?, steps: Vec::new() };
    for (number, file) in files {
        let path = dir.segment_path(*number);
        let old = content_of(dir, &path)?;
        let kept_as = old.map(|_| free_name(&records.names, &path));
        record.steps.push(Step { number: *number, kept_as, old, new: content(&**file, &path)? });
    }
    let number = records.begin(&record, report)?;
    for (number, file) in files {
        let path = replacement(dir, *number);
        write(dir, &path, |copy| pieces(&**file, |piece, at| copy.write_at(piece, at)))?;
    }
    dir.sync_dir()?;
    exchange(dir, &records, number, &record).map(Some)
}

/// Steps 3 and 4.
fn exchange(dir: &Dir, records: &Records<'_>, number: u64, record: &Record) -> Result<PathBuf> {
    for step in &record.steps {
        let (path, replacement) = (dir.segment_path(step.number), replacement(dir, step.number));
        if content_of(dir, &path)? == Some(step.new) {
            // Done before. The replacement is there once more where a crash undid a part of the rename.
            remove(dir, &replacement)?;
            continue;
        }
        if let Some(name) = &step.kept_as {
            let kept = records.folder.join(name);
            match dir.fs.hard_link(&path, &kept) {
                Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return Err(Error::io("link", &kept, e)),
                _ => sync_folder(dir, &records.folder)?,
            }
        }
        dir.fs.rename(&replacement, &path).map_err(|e| Error::io("rename", &replacement, e))?;
        tracing::warn!(path = %path.display(), "replaced a damaged segment");
    }
    // Also where a run before has renamed them: nothing says that it came to this.
    dir.sync_dir()?;
    records.finish(number)
}

/// A name in quarantine that nothing has.
fn free_name(names: &[String], path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut all = std::iter::once(name.clone()).chain((1..=names.len() + 1).map(|n| format!("{name}.{n}")));
    all.find(|name| !names.contains(name)).unwrap_or(name)
}

/// Gives the segments of the last repair their old files back; returns their paths.
///
/// # Errors
/// [`Error::Changed`] where one is neither what the repair made nor what it was, or the log was written to.
pub(super) fn undo(dir: &Dir) -> Result<Vec<PathBuf>> {
    let records = Records::new(dir)?;
    let (Some((number, is_finished)), Some(record)) = (records.last, records.read_last()?) else {
        return Ok(Vec::new());
    };
    if generation(dir)? != record.generation {
        return Err(Error::Changed { path: dir.manifest_path() });
    }
    let mut paths = Vec::new();
    for Step { number, kept_as, new, .. } in &record.steps {
        let path = dir.segment_path(*number);
        let now = content_of(dir, &path)?;
        let kept = kept_as.as_ref().map(|name| records.folder.join(name));
        let old = kept.map_or(Ok(None), |kept| content_of(dir, &kept))?;
        // A run that was interrupted may not have come to it.
        let is_untouched = !is_finished && old.is_none() && kept_as.is_some();
        if now != Some(*new) && now != old && !is_untouched {
            return Err(Error::Changed { path });
        }
        if is_finished && old.is_none() && kept_as.is_some() {
            let kept = records.folder.join(kept_as.as_deref().unwrap_or_default());
            return Err(Error::Missing { path: kept });
        }
        paths.push(path);
    }
    for Step { number, kept_as, .. } in &record.steps {
        let (path, replacement) = (dir.segment_path(*number), replacement(dir, *number));
        remove(dir, &replacement)?;
        let Some(name) = kept_as else {
            remove(dir, &path)?;
            continue;
        };
        match dir.fs.hard_link(&records.folder.join(name), &replacement) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            linked => linked.map_err(|e| Error::io("link", &replacement, e))?,
        }
        dir.fs.rename(&replacement, &path).map_err(|e| Error::io("rename", &replacement, e))?;
        // Two names of one file: a rename leaves both.
        remove(dir, &replacement)?;
    }
    dir.sync_dir()?;
    remove(dir, &records.path(number, is_finished))?;
    sync_folder(dir, &records.folder)?;
    for name in record.steps.iter().filter_map(|step| step.kept_as.as_ref()) {
        remove(dir, &records.folder.join(name))?;
    }
    sync_folder(dir, &records.folder)?;
    tracing::warn!(segments = paths.len(), "took back a repair");
    Ok(paths)
}
