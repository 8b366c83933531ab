//! What reading needs of a log, whether this process writes to it or another one does.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::events::{Event, Events};
use crate::format::{Next, State};
use crate::index::Index;
use crate::options::Options;
use crate::position::Position;
use crate::stats::Counters;
use crate::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use crate::sync::{Event as Moved, Mutex, RwLock};

use super::{Dir, Meta};

/// The writer of a log in another process.
pub(crate) trait Foreign: std::fmt::Debug + Send + Sync {
    /// Takes over what it wrote. Returns whether there was anything.
    ///
    /// # Errors
    /// What is wrong with the log, for certain.
    fn refresh(&self, view: &View) -> Result<bool>;

    /// Whether a thread looks for news.
    fn watched(&self) -> &AtomicBool;
}

/// See the module. Shared by the writer, the background threads and all readers.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) options: Options,
    pub(crate) dir: Dir,
    pub(crate) index: Arc<Index>,
    pub(crate) cache: Cache,
    pub(crate) meta: Arc<RwLock<Meta>>,
    pub(crate) counters: Counters,
    pub(crate) events: Arc<Events>,
    /// Where damage was found that was told: file and offset.
    damaged: Mutex<BTreeSet<(PathBuf, u64)>>,
    /// Everything before this position is durable.
    durable: AtomicU64,
    /// Reads are refused.
    is_closed: AtomicBool,
    /// The next index, and whether there is one: see [`Next`].
    next: AtomicU64,
    next_kind: AtomicU64,
    /// Indexes below it were removed, or may have been.
    removed_below: AtomicU64,
    /// Told when the log has grown, when more of it is durable, and when it is closed.
    pub(crate) moved: Moved,
    /// Where the log was cut under this reader, each time it was, and how often.
    cuts: Mutex<Vec<Position>>,
    cut_count: AtomicU64,
    /// Iterators that follow the log.
    pub(crate) followers: AtomicUsize,
    /// Why news of the log could not be had.
    trouble: Mutex<Option<Error>>,
    /// Where another process writes the log.
    pub(crate) foreign: Option<Box<dyn Foreign>>,
}

const UNSET: u64 = 0;
const AT: u64 = 1;
const EXHAUSTED: u64 = 2;

/// Damage in so many places is told.
const DAMAGED_MOST: usize = 1024;

impl View {
    pub(crate) fn new(
        mut options: Options,
        dir: Dir,
        index: Arc<Index>,
        meta: Arc<RwLock<Meta>>,
        durable: Position,
    ) -> Self {
        View {
            events: Arc::new(Events::new(options.listener.take())),
            damaged: Mutex::default(),
            cache: Cache::new(options.cache_bytes),
            options,
            dir,
            index,
            meta,
            counters: Counters::default(),
            durable: AtomicU64::new(durable.to_word()),
            is_closed: AtomicBool::new(false),
            next: AtomicU64::new(0),
            next_kind: AtomicU64::new(UNSET),
            removed_below: AtomicU64::new(0),
            moved: Moved::new(),
            cuts: Mutex::default(),
            cut_count: AtomicU64::new(0),
            followers: AtomicUsize::new(0),
            trouble: Mutex::default(),
            foreign: None,
        }
    }

    /// Everything before this position is durable.
    pub(crate) fn durable(&self) -> Position {
        Position::from_word(self.durable.load(Ordering::Acquire))
    }

    /// A sync that was issued when the log ended at `position` has returned, for this and all segments before.
    pub(crate) fn advance_durable(&self, position: Position) {
        self.durable.fetch_max(position.to_word(), Ordering::AcqRel);
        self.moved.notify(usize::MAX);
    }

    /// Another process says what is durable.
    pub(crate) fn set_durable(&self, position: Position) {
        self.durable.store(position.to_word(), Ordering::Release);
    }

    /// Takes over what another process wrote. Returns whether there was anything.
    pub(crate) fn refresh(&self) -> Result<bool> {
        self.foreign.as_ref().map_or(Ok(false), |foreign| foreign.refresh(self))
    }

    /// Whether an error may come from a writer in another process that was faster. Then the log was looked at anew. Of a
    /// file that is missing it is certain: the log does without it by now, so that what failed may be tried again until it
    /// does not fail so. What is damaged is to be tried once more.
    pub(crate) fn is_doubtful(&self, error: &Error) -> bool {
        if self.foreign.is_none() {
            return false;
        }
        match error {
            Error::Damaged { .. } => self.refresh().is_ok(),
            // A writer says so in the manifest before it removes a file, and the manifest was read just now.
            Error::Missing { path } => {
                let number = path.file_name().and_then(|name| self.dir.names.parse_segment(name));
                self.refresh().is_ok() && number.is_some_and(|number| self.index.table().row(number.into()).is_none())
            }
            _ => false,
        }
    }

    /// Records from `position` on were given up by their writer's successor. Called when readers wait for the table that
    /// says so, so that whoever sees that table knows of the cut.
    pub(crate) fn note_cut(&self, position: Position) {
        self.cache.clear();
        let mut cuts = self.cuts.lock();
        cuts.push(position);
        self.cut_count.store(cuts.len() as u64, Ordering::Release);
    }

    /// How often the log was cut.
    pub(crate) fn cuts(&self) -> u64 {
        self.cut_count.load(Ordering::Acquire)
    }

    /// The lowest place where the log was cut since it had been cut `known` times, and how often it has been by now.
    pub(crate) fn cut_since(&self, known: u64) -> Option<(Position, u64)> {
        if self.cuts() == known {
            return None;
        }
        let cuts = self.cuts.lock();
        let lowest = cuts.iter().skip(known as usize).min()?;
        Some((*lowest, cuts.len() as u64))
    }

    /// News of the log cannot be had: whoever waits for them is told.
    pub(crate) fn set_trouble(&self, error: Error) {
        *self.trouble.lock() = Some(error);
        self.moved.notify(usize::MAX);
    }

    /// Why news of the log cannot be had, told once.
    pub(crate) fn take_trouble(&self) -> Option<Error> {
        self.trouble.lock().take()
    }

    /// An error goes to a caller, of which it is certain: tells of damage, of each place once. The caller holds no lock.
    #[cold]
    pub(crate) fn notice(&self, error: &Error) {
        let place = match error {
            Error::Damaged { path, at, .. } => (path.clone(), *at),
            Error::Missing { path } => (path.clone(), 0),
            _ => return,
        };
        let mut damaged = self.damaged.lock();
        let is_told = damaged.len() < DAMAGED_MOST && damaged.insert(place);
        drop(damaged);
        if is_told {
            tracing::warn!(%error, "damage was found");
            self.events.note(|| Event::DamageFound { error: error.clone() });
            self.events.tell_inline();
        }
    }

    /// # Errors
    /// [`Error::Closed`].
    pub(crate) fn check_open(&self) -> Result<()> {
        if self.is_closed() { Err(Error::Closed) } else { Ok(()) }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Refuses reads from now on.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.moved.notify(usize::MAX);
    }

    /// Wakes whoever waits for what was published just now.
    pub(crate) fn announce(&self) {
        // Who follows has counted itself before it looks at the tail; one of the two sees the other. To look at a count
        // costs a tenth of what the event would.
        fence(Ordering::SeqCst);
        if self.followers.load(Ordering::Relaxed) != 0 {
            self.moved.notify(usize::MAX);
        }
    }

    /// Shows the next index of the writer.
    pub(crate) fn set_next(&self, next: Next) {
        let (kind, next) = match next {
            Next::Unset => (UNSET, 0),
            Next::At(index) => (AT, index),
            Next::Exhausted => (EXHAUSTED, 0),
        };
        self.next.store(next, Ordering::Relaxed);
        self.next_kind.store(kind, Ordering::Release);
    }

    /// Shows the writer's state.
    pub(crate) fn set_state(&self, state: &State) {
        self.set_next(state.next);
        let floor = if state.floor > self.begun_at() { state.floor } else { 0 };
        let below = state.retired.map_or(floor, |retired| floor.max(retired.saturating_add(1)));
        self.removed_below.store(below, Ordering::Release);
    }

    /// The floor that the log was begun with, as far as that can still be told: it took nothing.
    fn begun_at(&self) -> u64 {
        match self.index.table().rows().first().map(|row| &row.segment.stamp) {
            None => self.options.first_index.unwrap_or(0),
            Some(stamp) if stamp.predecessor.is_none() => stamp.state.floor,
            Some(_) => 0,
        }
    }

    /// The next index, as it was after the last write.
    pub(crate) fn next(&self) -> Next {
        match self.next_kind.load(Ordering::Acquire) {
            UNSET => Next::Unset,
            AT => Next::At(self.next.load(Ordering::Relaxed)),
            _ => Next::Exhausted,
        }
    }

    /// Entries below this index were removed by retention or by truncation of the front.
    pub(crate) fn removed_below(&self) -> u64 {
        self.removed_below.load(Ordering::Acquire)
    }

    /// The error for what retention took.
    pub(crate) fn removed(&self) -> Error {
        Error::Removed { first: self.index.first() }
    }

    /// The same for who follows the log: it may go on from the index in it.
    pub(crate) fn overtaken(&self) -> Error {
        let first = self.index.consistent(|| {
            let (table, tail) = self.index.now();
            self.index.first_from(self.removed_below(), &table, tail)
        });
        Error::Removed { first }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.events.stop();
    }
}
