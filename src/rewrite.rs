//! Writing a log anew: what is live of it, in the order in which it was written, into a new log with other options.
//!
//! The source is locked and only read. The new log is marked as unfinished before its first file is made, and the mark
//! goes when all of it is durable, closed, read again and found to be the same. So a crash leaves nothing of the new log,
//! one that opens with an error and is begun anew by a rerun, or all of it; the source is never changed.

#![deny(clippy::unwrap_used, clippy::expect_used)]

use crate::batch::Batch;
use crate::entry::Entry;
use crate::error::{Error, Result};
use crate::format::{Next, State};
use crate::fs::Lock;
use crate::log::Dir;
use crate::log_order::LogItem;
use crate::options::{Options, SyncPolicy};
use crate::reader::Reader;
use crate::recovery::{lock, open_read_only};
use crate::store::Store;

/// What [`Options::rewrite`] has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rewritten {
    /// Entries of the new log: all that were live.
    pub entries: u64,
    /// Segments of the log, and of the new one.
    pub segments: (u64, u64),
    /// Bytes of their records, framing and headers included.
    pub bytes: (u64, u64),
}

impl Options {
    /// Writes what is live of the log that these options describe, and that is not open, into the new log that `to`
    /// describes: in another directory, or under another prefix. So segments are merged or split, the checksum or the index
    /// order is changed, and what was deleted or truncated takes no more space.
    ///
    /// Entries keep their index, key and value, and the order in which they were written; metadata, the floor and the next
    /// index are kept, too. Positions change, and the new log has an identity of its own, so that no
    /// [checkpoint](crate::Reader::checkpoint) of the old one can be brought up to date from it. Where indexes need no
    /// order, those of deleted entries are free again. A new order must fit: entries in another order, or with gaps
    /// between their indexes under [`IndexOrder::Sequential`](crate::IndexOrder::Sequential), are [`Error::IndexOrder`].
    /// Nothing is retired: limits of `to` are for whoever opens the new log.
    ///
    /// Every entry is read again from the new log, by its place and its index, and compared with the old one before the
    /// call returns. It takes the time of writing the live entries once and reading both logs. The old log stays as it is,
    /// byte for byte: see below for how to replace it.
    ///
    /// ```
    /// # use casklog::{Options, Store};
    /// # let dir = tempfile::tempdir()?;
    /// let old = Options::new(dir.path()).segment_entries(10);
    /// let store = old.clone().open()?;
    /// for index in 1..=100 {
    ///     store.write(index, "key", &index)?;
    /// }
    /// store.delete(50)?;
    /// store.close()?;
    ///
    /// let new = Options::new(dir.path()).prefix("merged_");
    /// let rewritten = old.rewrite(new.clone())?;
    /// assert_eq!((rewritten.entries, rewritten.segments.1), (99, 1));
    /// assert_eq!(new.open()?.get(51)?.expect("it is there").value::<u64>()?, 51);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # To replace the old log
    /// In one directory: [`rename`](Options::rename) the old log to a third prefix, then the new one to the old prefix, and
    /// open it before the old one is removed. A crash in between is told by whoever opens either. Of two directories,
    /// rename these the same way.
    ///
    /// # After a crash
    /// There is no new log, all of it, or one that is not complete: opening it is [`Error::Unfinished`], and the same call
    /// begins it anew.
    ///
    /// # Errors
    /// [`Error::Exists`] where `to` describes a log that is there; [`Error::Locked`] where either is open;
    /// [`Error::NotFound`] where there is nothing to rewrite; [`Error::Damaged`], [`Error::Missing`], [`Error::Lost`] where
    /// something of the old log cannot be read or was given up: nothing is left out in silence; [`Error::TooLarge`] for
    /// an entry over the limits of `to`; [`Error::IndexOrder`]; [`Error::NoSpace`], [`Error::Io`]. But for a crash, nothing
    /// of the new log is left then, as far as that can be removed.
    pub fn rewrite(self, to: Options) -> Result<Rewritten> {
        let options = self.create(false);
        let to = Options { completes: true, ..to.create(true).allow_read_only(false) };
        options.validate()?;
        to.validate()?;
        let _lock = lock(&options, &Dir::new(&options))?;
        let source = Source::open(options)?;
        let dir = Dir::new(&to);
        let held = lock(&to, &dir)?;
        let mark = format!("Options::rewrite (casklog rewrite) of log {:032x}", source.log_id);
        begin(&dir, &mark)?;
        let outcome = fill(&source, &to, dir, held).and_then(|()| {
            let dir = Dir::new(&to);
            let _held = lock(&to, &dir)?;
            let rewritten = compare(&source, &to)?;
            dir.unmark().map(|()| rewritten)
        });
        outcome.inspect_err(|_| give_up(&to))
    }
}

/// The log that is rewritten.
struct Source {
    reader: Reader,
    state: State,
    log_id: u128,
}

impl Source {
    /// # Errors
    /// What of the log cannot be read.
    fn open(options: Options) -> Result<Self> {
        let (view, report, state) = open_read_only(options)?;
        if let Some(damage) = report.damage.first() {
            return Err(damage.to_error());
        }
        if let Some(gap) = report.gaps.first() {
            return Err(Error::Lost { segment: gap.segment });
        }
        let log_id = view.index.table().rows().first().map_or(0, |row| row.segment.header.log_id);
        Ok(Source { reader: Reader::new(view, report)?, state, log_id })
    }

    /// What is live, in the order in which it was written.
    fn entries(&self) -> impl Iterator<Item = Result<Entry>> {
        live(&self.reader)
    }
}

fn live(reader: &Reader) -> impl Iterator<Item = Result<Entry>> {
    reader.log_order().filter_map(move |item| match item {
        Ok(LogItem::Entry(entry)) => reader.contains(entry.index()).then_some(Ok(entry)),
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    })
}

/// Marks the new log, and removes what an interrupted run has left of it.
fn begin(dir: &Dir, mark: &str) -> Result<()> {
    match dir.read_mark()? {
        Some(found) if found == mark => return dir.clear(),
        Some(what) => return Err(Error::Unfinished { path: dir.path.clone(), what }),
        None => {}
    }
    if let Some(number) = dir.list_segments()?.first() {
        return Err(Error::Exists { path: dir.segment_path(*number) });
    }
    if dir.read_manifest()?.is_some() {
        return Err(Error::Exists { path: dir.manifest_path() });
    }
    dir.mark(mark)
}

/// Behind an error: leaves nothing of the new log, as far as that is possible.
fn give_up(to: &Options) {
    let dir = Dir::new(to);
    // Where it cannot be locked it is still in somebody's hands, and stays marked. Without a mark it is complete.
    if let Ok(_held) = lock(to, &dir)
        && let Ok(Some(_)) = dir.read_mark()
    {
        let _ = dir.clear().and_then(|()| dir.unmark());
    }
}

/// Writes all of `source` into the new log, makes it durable and closes it.
fn fill(source: &Source, to: &Options, dir: Dir, held: Box<dyn Lock>) -> Result<()> {
    let limitless = Options { max_segments: None, max_bytes: None, max_age: None, ..to.clone() };
    let store = Store::open_locked(limitless.sync(SyncPolicy::None), dir, held)?;
    let filled = write(source, to, &store);
    // Its lock must be free in any case; what it says behind a failure is not the cause.
    let closed = store.close();
    filled.and(closed)
}

fn write(source: &Source, to: &Options, store: &Store) -> Result<()> {
    // The first entry may have any index, as far as the floor admits it.
    store.set_state(State { next: Next::Unset, order: to.index_order, ..source.state });
    for entry in source.entries() {
        let entry = entry?;
        store.put_encoded(entry.index(), entry.key(), entry.raw_value())?;
    }
    let mut meta = Batch::new();
    for (key, value) in source.reader.all_meta() {
        meta.put_meta(key, value);
    }
    if !meta.is_empty() {
        store.write_batch(&meta)?;
    }
    let state = State { order: to.index_order, ..source.state };
    // What was deleted, or removed with its segment, may have had higher indexes: only a head stamp tells.
    if store.state() != state || store.segments().is_empty() {
        store.set_state(state);
        store.begin_segment()?;
    }
    store.sync()
}

/// Reads the new log, which is closed, and compares all of it.
fn compare(source: &Source, to: &Options) -> Result<Rewritten> {
    let (view, report, state) = open_read_only(to.clone())?;
    if let Some(damage) = report.damage.first() {
        return Err(damage.to_error());
    }
    let reader = Reader::new(view, report)?;
    let differs = |what: &str| Error::damaged(&to.dir, 0, format!("the new log has {what} than the old one"));
    let mut entries = 0;
    let mut written = live(&reader);
    for old in source.entries() {
        let (old, new) = (old?, written.next().transpose()?.ok_or_else(|| differs("fewer entries"))?);
        let by_index = reader.get(old.index())?.ok_or_else(|| differs("fewer indexes"))?;
        let is_same =
            |new: &Entry| (new.index(), new.key(), new.raw_value()) == (old.index(), old.key(), old.raw_value());
        if !is_same(&new) || !is_same(&by_index) {
            return Err(differs(&format!("another entry at index {}", old.index())));
        }
        entries += 1;
    }
    if written.next().is_some() || reader.len() != entries {
        return Err(differs("more entries"));
    }
    let wanted = State { order: to.index_order, ..source.state };
    if reader.all_meta() != source.reader.all_meta() || state != wanted {
        return Err(differs("other metadata, or another floor or next index,"));
    }
    let size = |reader: &Reader| {
        let segments = reader.segments();
        (segments.len() as u64, segments.iter().map(|segment| segment.bytes).sum::<u64>())
    };
    let (old, new) = (size(&source.reader), size(&reader));
    Ok(Rewritten { entries, segments: (old.0, new.0), bytes: (old.1, new.1) })
}
