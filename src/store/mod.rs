//! The store: the handle that users hold.

mod commit;
mod write;

use std::ops::RangeBounds;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use crate::commit::Commits;
use crate::entry::{Entry, EntryRef};
use crate::error::{Error, Result};
use crate::format::Next;
use crate::iter::{Iter, LogOrder};
use crate::keeper::Keeper;
use crate::log::{Log, Meta};
use crate::options::Options;
use crate::position::Position;
use crate::reads;
use crate::recovery::{self, RecoveryReport};
use crate::stats::Stats;

pub use commit::{Commit, CommitFuture};
pub use write::Appended;

/// An open log: a cheap handle that can be cloned and shared between threads.
///
/// Keys are bytes, values anything that serde can serialize. Writes go to the end of the log; reads find an entry by
/// its index or position. What is durable when, the [`SyncPolicy`](crate::SyncPolicy) says: by default every write is
/// on the disk when it returns.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// let store = casklog::Store::open(dir.path())?;
/// store.write(1, "greeting", "hello")?;
/// let appended = store.append("greeting", "hello again")?;
/// assert_eq!(appended.index, 2);
/// for entry in store.iter() {
///     let entry = entry?;
///     println!("{} {:?}", entry.index(), entry.value::<String>()?);
/// }
/// store.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # After a failure
/// The first write, sync or rotation that fails stops the store: every later write is [`Error::Failed`] with the first
/// cause, until the log is opened again. Reads go on. Nothing that was acknowledged as durable is lost. A full disk is
/// not such a failure where space is allocated ahead: [`Error::NoSpace`] says that nothing was placed, and the write
/// may be tried again.
#[derive(Debug, Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

/// Shared by all handles, not by the background threads: when it goes, the last handle is gone.
#[derive(Debug)]
struct Shared {
    log: Arc<Log>,
    commits: Arc<Commits>,
    keeper: Arc<Keeper>,
    report: RecoveryReport,
    /// The outcome of `close`, once it was called.
    closed: Mutex<Option<Result<()>>>,
}

/// A segment of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentInfo {
    /// Its number.
    pub number: u64,
    /// Its file.
    pub path: PathBuf,
    /// The lowest and highest taken index in it.
    pub indexes: Option<(u64, u64)>,
    /// Taken indexes in it; deleted entries count, truncated ones do not.
    pub entries: u64,
    /// Bytes of records, header and framing included.
    pub bytes: u64,
    /// Whether it takes no more records.
    pub is_sealed: bool,
}

impl Store {
    /// Opens the log in `dir`, creating directory and log where they are missing, with the default [`Options`].
    ///
    /// After a crash this needs nobody's help: what was acknowledged as durable is there, and bytes behind it that do
    /// not form whole records and batches are cut and [reported](Store::recovery_report).
    ///
    /// # Errors
    /// As [`Options::open`].
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        Options::new(dir).open()
    }

    pub(crate) fn open_with(options: Options) -> Result<Self> {
        let opened = recovery::open(options)?;
        let log = Arc::new(opened.log);
        *log.lock.lock() = Some(opened.lock);
        let commits = Arc::new(Commits::new(log.clone()));
        let keeper = Arc::new(Keeper::new(log.clone(), commits.clone()));
        let shared = Shared { log, commits, keeper, report: opened.report, closed: Mutex::default() };
        shared.keeper.start()?;
        shared.commits.start_periodic()?;
        let store = Store { shared: Arc::new(shared) };
        store.catch_up_inline()?;
        Ok(store)
    }

    fn log(&self) -> &Log {
        &self.shared.log
    }

    /// Without threads, whoever makes a step due takes it.
    fn catch_up_inline(&self) -> Result<()> {
        if self.log().options.background || self.log().latch.check().is_err() {
            return Ok(());
        }
        self.shared.commits.run_inline();
        self.shared.keeper.catch_up()
    }

    /// The live entry at `index`, or `None`. One look into the index and one positioned read.
    ///
    /// # Errors
    /// [`Error::Damaged`] where its bytes fail their checksum; [`Error::Lost`] where it may have stood in a part of the
    /// log that was given up; [`Error::Io`]; [`Error::Closed`].
    pub fn get(&self, index: u64) -> Result<Option<Entry>> {
        self.check_readable()?;
        reads::get(self.log(), index)
    }

    /// As [`get`](Store::get), with key and value in `buffer`, whose memory is reused.
    ///
    /// # Errors
    /// As [`get`](Store::get).
    pub fn get_into<'a>(&self, index: u64, buffer: &'a mut Vec<u8>) -> Result<Option<EntryRef<'a>>> {
        self.check_readable()?;
        reads::get_into(self.log(), index, buffer)
    }

    /// Whether there is a live entry at `index`. Never touches the disk.
    pub fn contains(&self, index: u64) -> bool {
        self.log().index.find(index, |_, place, _| place.is_some())
    }

    /// The live entry at a position that a write or an entry gave; `None` where it was deleted or truncated since.
    ///
    /// # Errors
    /// [`Error::Removed`] where its segment is gone; [`Error::InvalidPosition`] where no record starts there; else as
    /// [`get`](Store::get).
    pub fn read(&self, position: Position) -> Result<Option<Entry>> {
        self.check_readable()?;
        reads::read(self.log(), position)
    }

    /// All live entries by index, from either end.
    pub fn iter(&self) -> Iter {
        self.range(..)
    }

    /// The live entries with an index in `range`, by index, from either end.
    pub fn range(&self, range: impl RangeBounds<u64>) -> Iter {
        Iter::new(self.shared.log.clone(), range)
    }

    /// Entries and deletions in the order in which they were written. What was truncated is left out.
    pub fn log_order(&self) -> LogOrder {
        LogOrder::new(self.shared.log.clone(), Position::ZERO)
    }

    /// As [`log_order`](Store::log_order), from `position` on.
    ///
    /// # Errors
    /// [`Error::Removed`] where the segment of that position is gone.
    pub fn iter_from(&self, position: Position) -> Result<LogOrder> {
        let table = self.log().index.table();
        let first = table.rows().first().map_or(0, |row| u64::from(row.number()));
        // Segments count from 1: before the first of all is the beginning.
        if position != Position::ZERO && position.segment() < first {
            return Err(Error::Removed { first: self.first_index() });
        }
        Ok(LogOrder::new(self.shared.log.clone(), position))
    }

    /// The lowest live index.
    pub fn first_index(&self) -> Option<u64> {
        self.log().index.first()
    }

    /// The highest live index.
    pub fn last_index(&self) -> Option<u64> {
        self.log().index.last()
    }

    /// The index that [`append`](Store::append) takes next; `None` where `u64::MAX` is taken.
    pub fn next_index(&self) -> Option<u64> {
        match self.log().writer.lock().state().next {
            Next::Unset => Some(1),
            Next::At(index) => Some(index),
            Next::Exhausted => None,
        }
    }

    /// The number of live entries.
    pub fn len(&self) -> u64 {
        self.log().index.live()
    }

    /// Whether there is no live entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of a metadata key.
    pub fn meta(&self, key: impl AsRef<[u8]>) -> Option<Vec<u8>> {
        let log = self.log();
        log.index.consistent(|| log.meta.read().get(key.as_ref()).cloned())
    }

    /// All metadata.
    pub fn all_meta(&self) -> Meta {
        self.log().index.consistent(|| self.log().meta.read().clone())
    }

    /// The segments of the log, oldest first; the last one takes records.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        let log = self.log();
        let tail = log.index.tail();
        let table = log.index.table();
        let info = |row: &crate::index::Row| SegmentInfo {
            number: row.number().into(),
            path: row.segment.path.clone(),
            indexes: row.bounds(),
            entries: row.count(),
            bytes: row.bytes(tail),
            is_sealed: row.end.is_some(),
        };
        log.index.consistent(|| table.rows().iter().map(info).collect())
    }

    /// What the store did since it was opened, and what it holds.
    pub fn stats(&self) -> Stats {
        let log = self.log();
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &log.counters;
        Stats {
            entries_written: count(&counters.entries),
            bytes_written: count(&counters.bytes),
            syncs: count(&counters.syncs),
            rotations: count(&counters.rotations),
            seals: count(&counters.seals),
            segments_removed: count(&counters.segments_removed),
            segments: log.index.table().rows().len() as u64,
            entries: log.index.live(),
            deleted: log.index.deleted_count(),
            index_bytes: log.index.memory(),
            tail: log.index.tail(),
            durable: log.durable(),
        }
    }

    /// What open found and did.
    pub fn recovery_report(&self) -> &RecoveryReport {
        &self.shared.report
    }

    /// Whether writes are possible.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::ReadOnly`], or [`Error::Failed`] with the first cause.
    pub fn writable(&self) -> Result<()> {
        let log = self.log();
        log.check_open(&log.writer.lock())
    }

    fn check_readable(&self) -> Result<()> {
        if reads::is_closed(self.log()) { Err(Error::Closed) } else { Ok(()) }
    }

    /// The watermark that idleness would bring. For tests that run without threads.
    ///
    /// # Errors
    /// The failure that stopped the store.
    #[cfg(feature = "testing")]
    pub fn idle(&self) -> Result<()> {
        self.shared.keeper.idle()
    }

    /// Finishes what was begun, makes everything durable and releases the log. Other handles then get
    /// [`Error::Closed`], but for what never fails, which answers from memory; a second call returns what the first did.
    ///
    /// # Errors
    /// The failure that stopped the store, if one did; then nothing is written.
    pub fn close(&self) -> Result<()> {
        let shared = &*self.shared;
        let mut closed = shared.closed.lock();
        if let Some(outcome) = &*closed {
            return outcome.clone();
        }
        shared.refuse_writes();
        shared.keeper.join();
        let outcome = shared.finish();
        *closed = Some(outcome.clone());
        // Not held while callbacks run: one of them may close the store too.
        drop(closed);
        shared.commits.stop(true);
        shared.log.release();
        outcome
    }
}

impl Shared {
    fn refuse_writes(&self) {
        let mut writer = self.log.writer.lock();
        writer.is_closed = true;
        (writer.wishes.spare, writer.wishes.spare_room, writer.wishes.room) = (false, None, None);
        self.log.wish.notify_all();
        self.log.done.notify_all();
    }

    /// Seals, syncs, and lets the manifest say that the log ends here.
    fn finish(&self) -> Result<()> {
        match self.log.latch.check() {
            Ok(()) => {}
            Err(Error::ReadOnly { .. }) => return Ok(()),
            Err(error) => return Err(error),
        }
        self.keeper.catch_up()?;
        let tail = self.log.index.tail();
        self.commits.wait(tail)?;
        let tail = self.log.index.tail();
        if self.log.dir.manifest.lock().now.durable != tail {
            self.log.dir.update_manifest(|manifest| manifest.durable = tail).map_err(|e| self.log.fail(e))?;
        }
        Ok(())
    }
}

/// Does what it can without waiting for the disk: nothing more is written, the threads end by themselves, and with
/// them the lock. A log that is to be opened again at once is closed first.
impl Drop for Shared {
    fn drop(&mut self) {
        if self.closed.get_mut().is_some() {
            return;
        }
        self.refuse_writes();
        let is_resting = self.keeper.is_resting();
        self.commits.stop(is_resting);
        if is_resting {
            self.keeper.join();
        }
    }
}
