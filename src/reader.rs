//! The reading half of a log, whoever writes to it.

use std::ops::RangeBounds;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::checkpoint::{Checkpoint, checkpoint};
use crate::entry::{Entry, EntryRef};
use crate::error::{Error, Result};
use crate::events::Event;
use crate::follow::Follow;
use crate::format::Next;
use crate::history::{self, History};
use crate::iter::Iter;
use crate::log::{Meta, View};
use crate::log_order::LogOrder;
use crate::options::Options;
use crate::position::Position;
use crate::reads;
use crate::recovery::{self, RecoveryReport};
use crate::stats::Stats;
use crate::verify::{Verified, verify};

/// All that can be read of a log: what a [`Store`](crate::Store) offers beside writing, and what
/// [`Options::open_read_only`](crate::Options::open_read_only) gives beside a writer in another process.
///
/// A cheap handle that can be cloned and shared between threads. A store derefs to its reader, so that every method here
/// is one of the store, too. Readers never wait for a write, a sync or a rotation.
#[derive(Debug, Clone)]
pub struct Reader {
    view: Arc<View>,
    report: Arc<RecoveryReport>,
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

impl Reader {
    /// A reader of a log that was opened just now; tells of that.
    ///
    /// # Errors
    /// [`Error::Io`] where there is somebody to tell, and no thread to be had for it.
    pub(crate) fn new(view: Arc<View>, report: RecoveryReport) -> Result<Self> {
        let report = Arc::new(report);
        view.events.note(|| Event::Opened { report: report.clone() });
        report.damage.iter().for_each(|damage| view.notice(&damage.to_error()));
        if view.options.background {
            view.events.start(&view.options.dir)?;
        }
        Ok(Reader { view, report })
    }

    pub(crate) fn open(options: Options) -> Result<Self> {
        let (view, report, _) = recovery::open_read_only(options)?;
        let reader = Reader::new(view, report)?;
        reader.view.events.tell_inline();
        Ok(reader)
    }

    /// Takes over what a writer in another process has written, removed or cut since the log was opened or refreshed
    /// last. Returns whether there was anything. A reader of a store in this process sees every write at once; for it
    /// this does nothing.
    ///
    /// Reads that find a bad record or a missing file refresh by themselves before they call it damage.
    ///
    /// # Errors
    /// What is wrong with the log; [`Error::Io`]. The reader shows what it showed before.
    pub fn refresh(&self) -> Result<bool> {
        self.view.check_open()?;
        self.view.refresh()
    }

    /// The live entry at `index`, or `None`. One look into the index and one positioned read.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = casklog::Store::open(dir.path())?;
    /// store.write(7, "user:42", "Ada")?;
    /// let entry = store.get(7)?.expect("it was just written");
    /// assert_eq!((entry.key(), entry.value::<&str>()?), (&b"user:42"[..], "Ada"));
    /// assert!(store.get(8)?.is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Damaged`] where its bytes fail their checksum; [`Error::Lost`] where it may have stood in a part of the
    /// log that was given up; [`Error::Io`]; [`Error::Closed`].
    pub fn get(&self, index: u64) -> Result<Option<Entry>> {
        self.view.check_open()?;
        reads::get(&self.view, index)
    }

    /// As [`get`](Reader::get), with key and value in `buffer`, whose memory is reused.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = casklog::Store::open(dir.path())?;
    /// store.write_bytes(1, "a", [1; 100])?;
    /// store.write_bytes(2, "b", [2; 100])?;
    /// let mut buffer = Vec::new();
    /// for index in 1..=2 {
    ///     let entry = store.get_into(index, &mut buffer)?.expect("it was just written");
    ///     assert_eq!(entry.bytes()?, [index as u8; 100]);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`get`](Reader::get).
    pub fn get_into<'a>(&self, index: u64, buffer: &'a mut Vec<u8>) -> Result<Option<EntryRef<'a>>> {
        self.view.check_open()?;
        reads::get_into(&self.view, index, buffer)
    }

    /// Whether there is a live entry at `index`. Never touches the disk.
    pub fn contains(&self, index: u64) -> bool {
        self.view.index.find(index, |_, place, _| place.is_some())
    }

    /// The live entry at a position that a write or an entry gave; `None` where it was deleted or truncated since.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = casklog::Store::open(dir.path())?;
    /// let position = store.write(1, "key", "value")?;
    /// assert_eq!(store.read(position)?.expect("it is there").index(), 1);
    /// store.delete(1)?;
    /// assert!(store.read(position)?.is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Removed`] where its segment is gone; [`Error::InvalidPosition`] where no record starts there; else as
    /// [`get`](Reader::get).
    pub fn read(&self, position: Position) -> Result<Option<Entry>> {
        self.view.check_open()?;
        reads::read(&self.view, position)
    }

    /// All live entries by index, from either end.
    pub fn iter(&self) -> Iter {
        self.range(..)
    }

    /// The live entries with an index in `range`, by index, from either end.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = casklog::Store::open(dir.path())?;
    /// for index in 1..=10 {
    ///     store.write(index, "key", &index)?;
    /// }
    /// let some: Result<Vec<u64>, _> = store.range(3..6).map(|entry| Ok::<_, casklog::Error>(entry?.index())).collect();
    /// assert_eq!(some?, [3, 4, 5]);
    /// let last = store.range(..).next_back().expect("there are entries")?;
    /// assert_eq!(last.index(), 10);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn range(&self, range: impl RangeBounds<u64>) -> Iter {
        Iter::new(self.view.clone(), range)
    }

    /// Entries and deletions in the order in which they were written. What was truncated is left out.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = casklog::Store::open(dir.path())?;
    /// store.write(2, "b", "first")?;
    /// store.write(1, "a", "second")?;
    /// store.delete(2)?;
    /// let items: Result<Vec<_>, _> = store.log_order().collect();
    /// assert_eq!(items?.iter().map(casklog::LogItem::index).collect::<Vec<_>>(), [2, 1, 2]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn log_order(&self) -> LogOrder {
        LogOrder::new(self.view.clone(), Position::ZERO)
    }

    /// As [`log_order`](Reader::log_order), from `position` on.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = casklog::Store::open(dir.path())?;
    /// store.write(1, "key", "old")?;
    /// let position = store.write(2, "key", "new")?;
    /// assert_eq!(store.iter_from(position)?.count(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Removed`] where the segment of that position is gone.
    pub fn iter_from(&self, position: Position) -> Result<LogOrder> {
        let table = self.view.index.table();
        let first = table.rows().first().map_or(0, |row| u64::from(row.number()));
        // Segments count from 1: before the first of all is the beginning.
        if position != Position::ZERO && position.segment() < first {
            return Err(Error::Removed { first: self.first_index() });
        }
        Ok(LogOrder::new(self.view.clone(), position))
    }

    /// The live entry of `key` that was written last, or `None`. Needs [`Options::key_index`](crate::Options::key_index).
    ///
    /// Of several live entries with one key it is the one that stands last in the log, whatever their indexes. An entry
    /// that was deleted or truncated does not hide the one before it.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// let store = casklog::Options::new(dir.path()).key_index(true).open()?;
    /// store.append("user:42", "Ada")?;
    /// let second = store.append("user:42", "Ada Lovelace")?;
    /// let latest = store.latest("user:42")?.expect("it was written twice");
    /// assert_eq!(latest.value::<&str>()?, "Ada Lovelace");
    ///
    /// store.delete(second.index)?;
    /// assert_eq!(store.latest("user:42")?.expect("one is left").value::<&str>()?, "Ada");
    /// assert!(store.latest("user:43")?.is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Cost
    /// One or two pages of the footer of each segment from the newest to the one that holds the key, from the cache or the
    /// disk, and one read of the entry. A segment that was sealed without a key index is read as a whole when it is first
    /// come to, and then indexed in memory.
    ///
    /// # Errors
    /// [`Error::KeyIndexOff`]; [`Error::Damaged`] where an entry that may be the one asked for cannot be read;
    /// [`Error::Lost`] where it may have stood in a part of the log that was given up: [`history`](Reader::history) goes
    /// on behind both; [`Error::Io`]; [`Error::Closed`].
    pub fn latest(&self, key: impl AsRef<[u8]>) -> Result<Option<Entry>> {
        history::latest(&self.view, key.as_ref())
    }

    /// The live entries of `key`, the one written last first. Needs [`Options::key_index`](crate::Options::key_index).
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// let store = casklog::Options::new(dir.path()).key_index(true).open()?;
    /// for step in ["ordered", "paid", "sent"] {
    ///     store.append("order:7", step)?;
    /// }
    /// let mut steps = Vec::new();
    /// for entry in store.history("order:7")? {
    ///     steps.push(entry?.value::<String>()?);
    /// }
    /// assert_eq!(steps, ["sent", "paid", "ordered"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::KeyIndexOff`], [`Error::Closed`]; what the iterator meets is among its items: see [`History`].
    pub fn history(&self, key: impl AsRef<[u8]>) -> Result<History> {
        History::new(self.view.clone(), key.as_ref())
    }

    /// What is in the log and what will be written to it, in the order in which it was written: entries with an index of
    /// at least `from`, deletions of such, and truncations that take what was handed out. Each entry comes once, however
    /// the log rotates; what a truncation took before it was handed out does not come at all.
    ///
    /// Waits for what comes next, in this process without polling; for a writer in another process the log is looked at
    /// after 1 ms, and less often, down to every 100 ms, the longer nothing happens. See [`Follow`] for time-outs, for
    /// durable entries only, and for asynchronous code.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// use casklog::{LogItem, Store};
    /// let store = Store::open(dir.path())?;
    /// let mut news = store.follow(0)?;
    /// store.write(1, "key", "value")?;
    /// assert!(matches!(news.next().expect("it waits")?, LogItem::Entry(entry) if entry.index() == 1));
    /// assert!(news.next_timeout(std::time::Duration::from_millis(10))?.is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Removed`] where `from` is an index that retention or a truncation of the front has removed: what follows
    /// would have a gap; [`Error::Closed`]; [`Error::Io`].
    pub fn follow(&self, from: u64) -> Result<Follow> {
        Follow::new(self.view.clone(), from)
    }

    /// Reads every record and every footer of the log as it is now, and checks all of it, several
    /// segments at a time, on as many threads as there are processors, 8 at most. Takes as long as reading the files;
    /// writes go on meanwhile. Changes nothing.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = casklog::Store::open(dir.path())?;
    /// store.write(1, "key", "value")?;
    /// assert!(!store.verify()?.is_damaged());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Closed`]. Damage is in the outcome.
    pub fn verify(&self) -> Result<Verified> {
        verify(&self.view)
    }

    /// Makes a copy of the log in the directory `dir`, as it is durable now, while it is being written to; or brings the
    /// copy that is there up to date.
    ///
    /// The copy is a log with the same prefix, identity and positions, and opens as one that was closed cleanly. It holds
    /// all that was durable when the call began, and nothing else: [`sync`](crate::Store::sync) first where the policy does
    /// not sync each write. Sealed segments are linked into it where both directories are in one file system, which costs
    /// nothing but a name; else they share their space where the file system does that (`reflink`), or are copied. The
    /// segment that is written, and the last ones before it (those that are not sealed yet; see
    /// [`rotate`](crate::Store::rotate)), are copied and checked, record by record, up to what is durable. What is linked is
    /// not read: [`verify`](Reader::verify) the copy where that matters.
    ///
    /// ```
    /// # use casklog::{Options, Store};
    /// # let (dir, copy) = (tempfile::tempdir()?, tempfile::tempdir()?);
    /// let store = Store::open(dir.path())?;
    /// store.write(1, "key", "value")?;
    /// store.checkpoint(copy.path())?;
    /// store.write(2, "key", "not in the copy")?;
    ///
    /// let reader = Options::new(copy.path()).open_read_only()?;
    /// assert_eq!(reader.len(), 1);
    /// store.checkpoint(copy.path())?;
    /// reader.refresh()?;
    /// assert_eq!(reader.len(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Again into the same directory
    /// Segments that the copy has are kept, new ones are added, those that retention has removed from this log are
    /// removed. Only a copy that this call has made of this very log is touched, and only if nobody has written to it
    /// since: anything else is [`Error::NotACheckpoint`]. Open a copy with
    /// [`open_read_only`](crate::Options::open_read_only) if it is to be brought up to date later: a store that opens it
    /// may have segments to seal, and then it is a log of its own.
    ///
    /// # Going back to a copy
    /// It is a log like any other: open it, or make a checkpoint of it where the log is to be. A store that writes to it
    /// changes no file that it shares with this log, nor the other way round.
    ///
    /// # After a crash
    /// The older copy is there, or the newer one, or a log that is not complete: opening it is [`Error::Unfinished`], and
    /// to make the checkpoint again completes it. While the copy is being made the older one stays as it is; it is
    /// exchanged at the end, within milliseconds. This log is never changed. The copy is durable when the call returns.
    ///
    /// # Errors
    /// [`Error::NotACheckpoint`]; [`Error::Locked`] where the copy is open for writing; [`Error::Damaged`],
    /// [`Error::Missing`], [`Error::Lost`] where this log is damaged, as far as that was seen: repair it first;
    /// [`Error::Removed`] where retention took segments faster than they could be copied; [`Error::NoSpace`],
    /// [`Error::Io`], [`Error::Closed`]. But for a crash, what was there before stays as it was, unless the error comes
    /// from the exchange itself: then the copy is [`Error::Unfinished`].
    pub fn checkpoint(&self, dir: impl AsRef<Path>) -> Result<Checkpoint> {
        if let Some(damage) = self.report.damage.first() {
            return Err(damage.to_error());
        }
        checkpoint(&self.view, dir.as_ref())
    }

    /// The lowest live index.
    pub fn first_index(&self) -> Option<u64> {
        self.view.index.first()
    }

    /// The highest live index.
    pub fn last_index(&self) -> Option<u64> {
        self.view.index.last()
    }

    /// The index that [`append`](crate::Store::append) takes next; `None` where `u64::MAX` is taken.
    pub fn next_index(&self) -> Option<u64> {
        match self.view.next() {
            Next::Unset => Some(1),
            Next::At(index) => Some(index),
            Next::Exhausted => None,
        }
    }

    /// The number of live entries.
    pub fn len(&self) -> u64 {
        self.view.index.live()
    }

    /// Whether there is no live entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of a metadata key.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = casklog::Store::open(dir.path())?;
    /// store.put_meta("vote", b"node 1")?;
    /// assert_eq!(store.meta("vote").as_deref(), Some(&b"node 1"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn meta(&self, key: impl AsRef<[u8]>) -> Option<Vec<u8>> {
        let log = &*self.view;
        log.index.consistent(|| log.meta.read().get(key.as_ref()).cloned())
    }

    /// All metadata.
    pub fn all_meta(&self) -> Meta {
        self.view.index.consistent(|| self.view.meta.read().clone())
    }

    /// The segments of the log, oldest first; the last one takes records.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        let log = &*self.view;
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
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let store = casklog::Store::open(dir.path())?;
    /// store.write(1, "key", "value")?;
    /// let stats = store.stats();
    /// assert_eq!((stats.entries, stats.entries_written, stats.durable), (1, 1, stats.tail));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stats(&self) -> Stats {
        let log = &*self.view;
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let (counters, cache) = (&log.counters, log.cache.stats());
        let (reads, bytes_read, read_ns) = log.dir.files.reads.snapshot();
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
            key_index_bytes: log.index.key_memory(),
            cache_bytes: cache.bytes,
            cache_hits: cache.hits,
            cache_misses: cache.misses,
            reads,
            bytes_read,
            read_ns,
            commit_wait_ns: counters.commit_wait.snapshot(),
            stall_ns: counters.stall.snapshot(),
            sync_ns: counters.sync.snapshot(),
            sync_bytes: counters.sync_bytes.snapshot(),
            rotation_ns: counters.rotation.snapshot(),
            seal_ns: counters.seal.snapshot(),
            tail: log.index.tail(),
            durable: log.durable(),
        }
    }

    /// Its directory and prefix, by which one log is told from others.
    #[cfg(feature = "metrics")]
    pub(crate) fn name(&self) -> String {
        let options = &self.view.options;
        options.dir.join(&options.prefix).display().to_string()
    }

    /// What open found and did.
    pub fn recovery_report(&self) -> &RecoveryReport {
        &self.report
    }
}
