//! The Raft log in a casklog store, for any line of openraft.
//!
//! An entry stands under its Raft index, with its log id in its value and without a key. Vote, committed id and last purged
//! id are metadata records of the same log. So there is one stream, and what survives a crash is what was written up to
//! some moment, entries or not. That is the invariant on which everything here rests:
//!
//! | what | durable when | a crash before that leaves |
//! |---|---|---|
//! | vote | `save_vote` returns | the vote before it, and nothing that was written after it |
//! | entries | the callback is called | those before them, or a part of them without a hole |
//! | truncation | `truncate` returns | the entries that were to go, and nothing that was to replace them |
//! | purge | something behind it is | the entries that were to go, and the older purged id |
//! | committed id | something behind it is | an older one, which is true as well |
//!
//! *Truncate* waits for the disk. What a node says to others stands behind it in the stream, but the node has a second
//! thing that becomes durable: the state machine, with its snapshots. That may hold what replaces the entries that were to
//! go before anything of the log behind the truncation is durable. A power cut then must not bring them back: the log would
//! have other entries in the place of what was applied, and openraft does not start from that, or goes wrong later.
//!
//! *Purge* is shown at once and written in front of the next write, whichever it is; closing the log does not write it.
//! openraft 0.9 purges when it has given a snapshot to the state machine, not when the snapshot is durable: written then, a
//! crash or a full disk would leave a log without entries that no snapshot covers. Behind the purge it takes nothing from its
//! queue but the answer to the leader, which waits until the snapshot is installed. So the next write is behind a durable
//! snapshot. openraft 0.10 purges when it is durable. A purge that is lost with a crash is asked for again: at the start, or
//! with the next snapshot.
//!
//! The record that moves the purged id and the removal are one batch. So no crash shows entries that are gone without the
//! id, nor an id above the last entry while the log still ends below it: behind the batch the log is empty and goes on at
//! the index after it. The store itself gives back no space before the batch is durable. Where another entry than the purged
//! one is in its place, all behind it go in the same batch: they follow on an entry that was never committed.

mod purge;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use casklog::{Batch, Commit, Durability, IndexOrder, Options, Reader, Store};
use parking_lot::Mutex;

use crate::codec;
use crate::entries::Entries;
use crate::error::{Error, Result};
use crate::line::Line;
use purge::{Purge, What};

const FORMAT: &str = "raft.format";
const VOTE: &str = "raft.vote";
const COMMITTED: &str = "raft.committed";
const PURGED: &str = "raft.purged";

/// An append is written in batches of at most this size, or one larger entry: never the reason for a segment larger than the
/// others.
const BATCH_BYTES: u64 = 4 << 20;

/// A handle on a Raft log; clones are handles on the same one.
pub(crate) struct RaftLog<L: Line> {
    store: Store,
    /// How large a batch of several entries may be.
    batch_bytes: u64,
    /// Beyond what the store has as purged. Held while it is written, so that none is written behind a later one.
    purge: Arc<Mutex<Option<Purge<L>>>>,
}

impl<L: Line> Clone for RaftLog<L> {
    fn clone(&self) -> Self {
        RaftLog { store: self.store.clone(), batch_bytes: self.batch_bytes, purge: self.purge.clone() }
    }
}

impl<L: Line> fmt::Debug for RaftLog<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RaftLog").field("store", &self.store).finish_non_exhaustive()
    }
}

impl<L: Line> RaftLog<L> {
    pub(crate) fn open(options: Options) -> Result<Self> {
        if options.has_retention() {
            return Err(Error::Retention);
        }
        let batch_bytes = options.batch_bytes().min(BATCH_BYTES);
        let store = options.index_order(IndexOrder::Sequential).open()?;
        // The caller may want to open it in another way at once.
        check::<L>(&store).inspect_err(|_| drop(store.close()))?;
        Ok(RaftLog { store, batch_bytes, purge: Arc::default() })
    }

    pub(crate) fn reader(&self) -> &Reader {
        &self.store
    }

    pub(crate) fn close(&self) -> Result<()> {
        Ok(self.store.close()?)
    }

    pub(crate) fn vote(&self) -> Result<Option<L::Vote>> {
        self.store.meta(VOTE).map(|bytes| codec::decode("vote", &bytes)).transpose()
    }

    pub(crate) fn committed(&self) -> Result<Option<L::LogId>> {
        self.store.meta(COMMITTED).map(|bytes| codec::decode("committed log id", &bytes)).transpose()
    }

    pub(crate) fn purged(&self) -> Result<Option<L::LogId>> {
        if let Some(purge) = &*self.purge.lock() {
            return Ok(Some(purge.upto.clone()));
        }
        self.store.meta(PURGED).map(|bytes| codec::decode("purged log id", &bytes)).transpose()
    }

    /// The id of the last entry, or the last one that was purged where none is left.
    pub(crate) fn last(&self) -> Result<Option<L::LogId>> {
        match self.entries(..).last_entry()? {
            Some(entry) => Ok(Some(L::log_id(&entry))),
            None => self.purged(),
        }
    }

    /// Durable when it returns.
    pub(crate) async fn save_vote(&self, vote: &L::Vote) -> Result<()> {
        let mut batch = Batch::new();
        batch.put_meta(VOTE, codec::encode("vote", vote)?);
        Ok(self.submit(&batch).await?.await?)
    }

    pub(crate) fn save_committed(&self, committed: Option<&L::LogId>) -> Result<()> {
        let mut batch = Batch::new();
        match committed {
            Some(log_id) => batch.put_meta(COMMITTED, codec::encode("committed log id", log_id)?),
            None => batch.delete_meta(COMMITTED),
        };
        self.place(&batch)
    }

    /// Returns when the entries are readable; calls `flushed` once, when they are durable or cannot become so. Entries that
    /// were purged already are passed over.
    pub(crate) async fn append(
        &self,
        entries: impl Iterator<Item = L::Entry>,
        flushed: impl FnOnce(Result<()>) + Send + 'static,
    ) -> Result<()> {
        match self.submit_all(entries).await {
            Ok(commit) => {
                commit.on_durable(|outcome| flushed(outcome.map_err(Error::from)));
                Ok(())
            }
            Err(error) => {
                flushed(Err(error.clone()));
                Err(error)
            }
        }
    }

    async fn submit_all(&self, entries: impl Iterator<Item = L::Entry>) -> Result<Commit> {
        let purged = self.purged()?.map(|purged| L::index(&purged));
        let mut batch = Batch::new();
        for entry in entries {
            let index = L::index(&L::log_id(&entry));
            if index == u64::MAX {
                return Err(Error::IndexExhausted);
            }
            if purged.is_some_and(|purged| index <= purged) {
                continue;
            }
            if !batch.put_within(self.batch_bytes, index, [], &entry)? {
                // Whoever waits for the last batch waits for this one too.
                let _ = self.submit(&batch).await?;
                batch.clear();
                batch.put(index, [], &entry)?;
            }
        }
        self.submit(&batch).await
    }

    /// Writes a batch that is on its way to the disk when it returns. Where too much is on its way, it waits.
    async fn submit(&self, batch: &Batch) -> Result<Commit> {
        self.write_purge()?;
        loop {
            match self.store.submit_batch(batch) {
                Err(casklog::Error::Busy { .. }) => self.store.submit_sync()?.await?,
                submitted => return Ok(submitted?),
            }
        }
    }

    /// Writes a batch that becomes durable with whatever comes behind it.
    fn place(&self, batch: &Batch) -> Result<()> {
        self.write_purge()?;
        self.store.write_batch_with(batch, Durability::Written)?;
        Ok(())
    }

    /// Before any other write.
    fn write_purge(&self) -> Result<()> {
        let mut waiting = self.purge.lock();
        if let Some(purge) = &*waiting {
            self.store.write_batch_with(&purge.to_batch()?, Durability::Written)?;
            *waiting = None;
        }
        Ok(())
    }

    /// Removes the entries from `since` on. Durable when it returns.
    pub(crate) async fn truncate_since(&self, since: u64) -> Result<()> {
        if let Some(purged) = self.purged()?.map(|purged| L::index(&purged)).filter(|purged| since <= *purged) {
            return Err(Error::Purged { since, purged });
        }
        let mut batch = Batch::new();
        match since.checked_sub(1) {
            Some(last) => batch.truncate_after(last),
            // An empty log goes on to take any first index.
            None if self.store.is_empty() => return Ok(()),
            None => batch.reset_to(0),
        };
        Ok(self.submit(&batch).await?.await?)
    }

    /// Removes the entries up to that of `log_id`, which may lie before or behind all that are there, and all entries where
    /// another one has its index. They are hidden at once, and removed with the next write.
    pub(crate) fn purge(&self, log_id: &L::LogId) -> Result<()> {
        let upto = L::index(log_id);
        if self.purged()?.is_some_and(|purged| L::index(&purged) >= upto) {
            return Ok(());
        }
        let is_fork = self.read(upto..=upto, 0)?.iter().any(|entry| L::log_id(entry) != *log_id);
        let mut waiting = self.purge.lock();
        let all_go = is_fork || waiting.as_ref().is_some_and(|purge| purge.what == What::All);
        *waiting = Some(Purge::new(log_id.clone(), if all_go { What::All } else { What::Prefix })?);
        Ok(())
    }

    /// The entries in `range`, one by one, as it stands now. A truncation that comes meanwhile ends it with an error.
    pub(crate) fn entries(&self, range: impl RangeBounds<u64>) -> Entries<L> {
        let first = self.purge.lock().as_ref().map_or(0, Purge::first);
        let from = match range.start_bound() {
            Bound::Included(from) => Bound::Included(first.max(*from)),
            Bound::Excluded(before) if first <= *before => Bound::Excluded(*before),
            Bound::Excluded(_) | Bound::Unbounded => Bound::Included(first),
        };
        Entries::new(self.store.range((from, range.end_bound().cloned())))
    }

    /// The entries in `range`: all of them, or the first ones that have no more than `bytes_max` together, and at least one.
    /// They are of one moment.
    pub(crate) fn read(&self, range: impl RangeBounds<u64> + Clone, bytes_max: u64) -> Result<Vec<L::Entry>> {
        loop {
            match self.read_once(range.clone(), bytes_max) {
                // The log was truncated or purged meanwhile, so there is a later moment to be shown.
                Err(Error::Store(casklog::Error::Truncated | casklog::Error::Removed { .. })) => {}
                read => return read,
            }
        }
    }

    fn read_once(&self, range: impl RangeBounds<u64>, bytes_max: u64) -> Result<Vec<L::Entry>> {
        let mut entries = self.entries(range);
        let mut read = Vec::new();
        while let Some(entry) = entries.next().transpose()? {
            if entries.bytes() > bytes_max && !read.is_empty() {
                break;
            }
            read.push(entry);
        }
        Ok(read)
    }
}

fn check<L: Line>(store: &Store) -> Result<()> {
    let report = store.recovery_report();
    if let Some(damage) = report.damage.iter().chain(&report.gaps).next() {
        return Err(Error::Lost { reason: format!("{}: {}", damage.path.display(), damage.reason) });
    }
    check_format::<L>(store)
}

/// Marks a new log, and refuses one that was written by somebody else. The mark need not be durable: nothing behind it can
/// be without it.
fn check_format<L: Line>(store: &Store) -> Result<()> {
    let path = || store.segments().into_iter().next().map(|segment| segment.path).unwrap_or_default();
    let Some(found) = store.meta(FORMAT) else {
        if !store.is_empty() || !store.all_meta().is_empty() {
            return Err(Error::NotARaftLog { path: path() });
        }
        let mut batch = Batch::new();
        batch.put_meta(FORMAT, L::NAME);
        store.write_batch_with(&batch, Durability::Written)?;
        return Ok(());
    };
    // Another storage may mark its logs under the same key.
    if !found.starts_with(b"openraft ") {
        return Err(Error::NotARaftLog { path: path() });
    }
    if found != L::NAME.as_bytes() {
        let found = String::from_utf8_lossy(&found).into_owned();
        return Err(Error::Line { path: path(), found, expected: L::NAME });
    }
    let has_form = |key, has_form: fn(&[u8]) -> bool| store.meta(key).is_none_or(|bytes| has_form(&bytes));
    let fits = has_form(VOTE, codec::has_form::<L::Vote>)
        && has_form(COMMITTED, codec::has_form::<L::LogId>)
        && has_form(PURGED, codec::has_form::<L::LogId>);
    if fits { Ok(()) } else { Err(Error::Types { path: path() }) }
}
