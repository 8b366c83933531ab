//! The store: the handle that users hold.

mod commit;
mod fill;
mod write;

use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use crate::commit::Commits;
use crate::error::{Error, Result};
use crate::keeper::Keeper;
use crate::log::{Log, Wishes};
use crate::options::Options;
use crate::reader::Reader;
use crate::recovery::{self, Opened};
use crate::sync::Mutex;

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
    reader: Reader,
    shared: Arc<Shared>,
}

/// Shared by all handles, not by the background threads: when it goes, the last handle is gone.
#[derive(Debug)]
struct Shared {
    log: Arc<Log>,
    commits: Arc<Commits>,
    keeper: Arc<Keeper>,
    /// The outcome of `close`, once it was called.
    closed: Mutex<Option<Result<()>>>,
}

/// Reading is the same for all who read: see [`Reader`].
impl Deref for Store {
    type Target = Reader;

    fn deref(&self) -> &Reader {
        &self.reader
    }
}

impl Store {
    /// Opens the log in `dir`, creating directory and log where they are missing, with the default [`Options`].
    ///
    /// After a crash this needs nobody's help: what was acknowledged as durable is there, and bytes behind it that do
    /// not form whole records and batches are cut and [reported](Reader::recovery_report).
    ///
    /// # Errors
    /// As [`Options::open`].
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        Options::new(dir).open()
    }

    pub(crate) fn open_with(options: Options) -> Result<Self> {
        Store::run(recovery::open(options)?)
    }

    fn run(opened: Opened) -> Result<Self> {
        let log = Arc::new(opened.log);
        *log.lock.lock() = Some(opened.lock);
        let commits = Arc::new(Commits::new(log.clone()));
        let keeper = Arc::new(Keeper::new(log.clone(), commits.clone()));
        let reader = Reader::new(log.view.clone(), opened.report)?;
        let shared = Shared { log, commits, keeper, closed: Mutex::default() };
        shared.keeper.start()?;
        shared.commits.start_periodic()?;
        let store = Store { reader, shared: Arc::new(shared) };
        store.catch_up_inline()?;
        Ok(store)
    }

    fn log(&self) -> &Log {
        &self.shared.log
    }

    /// Without threads, whoever makes a step due takes it, and tells of it.
    #[inline]
    fn catch_up_inline(&self) -> Result<()> {
        if self.log().options.background { Ok(()) } else { self.catch_up() }
    }

    #[cold]
    fn catch_up(&self) -> Result<()> {
        let outcome = match self.log().latch.check() {
            Ok(()) => {
                self.shared.commits.run_inline();
                self.shared.keeper.catch_up()
            }
            // Whoever met the failure was told of it.
            Err(_) => Ok(()),
        };
        self.log().events.tell_inline();
        outcome
    }

    /// Without threads, whoever fails tells of it.
    #[cold]
    fn tell_inline(&self, error: Error) -> Error {
        self.log().events.tell_inline();
        error
    }

    /// Whether writes are possible.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::ReadOnly`], or [`Error::Failed`] with the first cause.
    pub fn writable(&self) -> Result<()> {
        let log = self.log();
        log.check_writable(&log.writer.lock())
    }

    /// The watermark that idleness would bring. For tests that run without threads.
    ///
    /// # Errors
    /// The failure that stopped the store.
    #[cfg(feature = "testing")]
    pub fn idle(&self) -> Result<()> {
        let outcome = self.shared.keeper.idle();
        self.log().events.tell_inline();
        outcome
    }

    /// Finishes what was begun, makes everything durable and releases the log; a [listener](Options::on_event) has heard
    /// everything by then. Other handles then get [`Error::Closed`], but for what never fails, which answers from memory; a
    /// second call returns what the first did.
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
        // Sealing is not put off any longer. Not in `refuse_writes`: dropping the last handle must not wait for the disk, and
        // leaves it to the next open.
        shared.log.writer.lock().hurries = false;
        shared.keeper.join();
        let outcome = shared.finish();
        *closed = Some(outcome.clone());
        // Not held while callbacks run: one of them may close the store too.
        drop(closed);
        shared.commits.stop(true);
        shared.log.release();
        let (dir, end) = (shared.log.options.dir.display(), shared.log.index.tail());
        tracing::info!(%dir, %end, failed = outcome.is_err(), "closed the log");
        shared.log.events.stop();
        shared.log.events.join();
        outcome
    }
}

impl Shared {
    fn refuse_writes(&self) {
        let mut writer = self.log.writer.lock();
        writer.is_closed = true;
        writer.wishes = Wishes { retention: writer.wishes.retention, ..Wishes::default() };
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
        self.log.trim();
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
        // Iterators that are still there read files which are no longer this process's.
        self.log.view.close();
    }
}
