//! The storage: a handle, and its writing half.

use std::error::Error as StdError;
use std::path::Path;
use std::sync::Arc;

use casklog::{Batch, Commit, Durability, IndexOrder, Options, Reader, Store};
use parking_lot::RwLock;
use raft::Ready;
use raft::eraftpb::{ConfState, Entry, HardState, Snapshot, SnapshotMetadata};

use crate::error::{Error, Result};
use crate::snapshot::{Image, SnapshotRequest, Snapshots};
use crate::state::{self, Compacted, State};
use crate::step::Step;

/// The storage of a raft-rs node, in a log. A cheap handle that can be cloned: one for the `RawNode`, others for whoever
/// applies, compacts or watches.
///
/// Every call that writes is one batch. A crash, be it a kill or a power cut, leaves all of it or nothing, and batches in
/// the order of the calls: a hard state is never there without the entries that were written with it or before. What is
/// durable when a call returns, each call says.
///
/// After an error that is [`casklog::Error::Failed`] it takes no more writes until it is opened again; stop the node.
///
/// ```
/// use casklog_raft_rs::CasklogStorage;
/// use raft::Storage;
/// use raft::eraftpb::{ConfState, Entry, HardState};
///
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// let storage = CasklogStorage::open(dir)?;
/// if !storage.initial_state()?.initialized() {
///     storage.set_conf_state(&ConfState::from((vec![1, 2, 3], vec![])))?; // the same on every node of a new cluster
/// }
/// storage.append(&[Entry { index: 1, term: 1, ..Default::default() }])?;
/// storage.set_hard_state(&HardState { term: 1, vote: 2, commit: 1, ..Default::default() })?;
/// storage.close()?;
///
/// let storage = CasklogStorage::open(dir)?;
/// assert_eq!((storage.last_index()?, storage.term(1)?), (1, 1));
/// assert_eq!(storage.initial_state()?.hard_state.vote, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct CasklogStorage {
    pub(crate) store: Store,
    /// Taken by whoever writes until the batch is placed, so that the state is that of the last batch; not across a sync.
    pub(crate) inner: Arc<RwLock<Inner>>,
    pub(crate) snapshots: Snapshots,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) state: State,
    /// The last ready that was submitted. Those before it are durable when it is.
    submitted: Option<Commit>,
}

impl CasklogStorage {
    /// Opens the storage in `dir`, creating it where it is missing, with the log's default options. A new one is empty: its
    /// first index is 1, its last index 0.
    ///
    /// # Errors
    /// As [`open_with`](CasklogStorage::open_with).
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(Options::new(dir))
    }

    /// As [`open`](CasklogStorage::open), with options of the caller's. Index order and first index are set here. The sync
    /// policy does not matter: each call below says what it waits for.
    ///
    /// # Errors
    /// [`Error::Retention`] for options that would remove entries; [`Error::NotARaftLog`] and [`Error::Unsupported`] for a
    /// log of something else; [`Error::Lost`] where a recovery mode or a repair has got past damage: a node must not forget
    /// what it has told others; [`Error::Store`] as [`Options::open`].
    pub fn open_with(options: Options) -> Result<Self> {
        if options.has_retention() {
            return Err(Error::Retention);
        }
        let store = options.index_order(IndexOrder::Sequential).first_index(1).open()?;
        // The caller may want to open it in another way at once.
        let state = load(&store).inspect_err(|_| drop(store.close()))?;
        let inner = Arc::new(RwLock::new(Inner { state, submitted: None }));
        Ok(CasklogStorage { store, inner, snapshots: Snapshots::default() })
    }

    /// Lets `make` answer when a follower needs a snapshot: with an image of the state machine, or with `None` where none is
    /// ready; then raft-rs asks again later. It is called by the thread that drives the `RawNode`, which waits for it: where
    /// an image takes long to make, begin it and answer `None` until it is there.
    ///
    /// Needed as soon as anything is [compacted](CasklogStorage::compact): without it, and where `make` returns an error,
    /// raft-rs panics when it has to send a snapshot.
    ///
    /// ```
    /// # use std::sync::{Arc, Mutex};
    /// use casklog_raft_rs::{CasklogStorage, Image};
    /// # let dir = tempfile::tempdir()?;
    /// let machine = Arc::new(Mutex::new((0, String::new()))); // the applied index, and what was applied
    /// let shared = machine.clone();
    /// let storage = CasklogStorage::open(dir.path())?.with_snapshots(move |request| {
    ///     let (index, data) = shared.lock().map_err(|error| error.to_string())?.clone();
    ///     Ok(Some(Image { index, conf_state: request.conf_state.clone(), data: data.into_bytes() }))
    /// });
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_snapshots<F>(mut self, make: F) -> Self
    where
        F: Fn(SnapshotRequest<'_>) -> Result<Option<Image>, Box<dyn StdError + Send + Sync>> + Send + Sync + 'static,
    {
        self.snapshots = Snapshots::new(make);
        self
    }

    /// Writes what a `Ready` holds for the disk: its snapshot's metadata, its entries and its hard state, in one batch.
    ///
    /// When it returns, all of it is durable, with whatever was written or [submitted](CasklogStorage::submit) before:
    /// send `persisted_messages`, then call `advance` or `advance_append`. Only a commit index that has risen
    /// (`must_sync` is false) is not waited for: it survives a kill, and a power cut may take it back, which Raft allows.
    ///
    /// The data of a snapshot are the application's: make them durable *before* this call, as
    /// [`apply_snapshot`](CasklogStorage::apply_snapshot) says.
    ///
    /// # Errors
    /// As [`append`](CasklogStorage::append), [`set_hard_state`](CasklogStorage::set_hard_state) and
    /// [`apply_snapshot`](CasklogStorage::apply_snapshot).
    pub fn persist(&self, ready: &Ready) -> Result<()> {
        self.write_lazily(|step| fill_from_ready(step, ready))?;
        // Once this returns, raft-rs takes all readies before this one for durable too.
        let submitted = self.inner.read().submitted.clone();
        match submitted {
            _ if ready.must_sync() => self.store.sync()?,
            Some(commit) => commit.wait()?,
            None => {}
        }
        Ok(())
    }

    /// As [`persist`](CasklogStorage::persist), without waiting: the ready is visible to raft-rs when this returns, so
    /// that `advance_append_async` may be called, and `on_durable` is called once it is durable or has failed. Then send
    /// `persisted_messages` and call `on_persist_ready`.
    ///
    /// `on_durable` runs on a thread of the log, or in this call, and should do no more than pass the number of the ready
    /// on. Readies become durable, and are called back, in the order in which they were submitted, whatever they hold. A
    /// crash before it leaves the readies up to some one, each whole.
    ///
    /// ```
    /// # use casklog_raft_rs::CasklogStorage;
    /// # use raft::{Config, RawNode, eraftpb::ConfState};
    /// # let dir = tempfile::tempdir()?;
    /// # let storage = CasklogStorage::open(dir.path())?;
    /// # storage.set_conf_state(&ConfState::from((vec![1], vec![])))?;
    /// # let logger = slog::Logger::root(slog::Discard, slog::o!());
    /// let mut node = RawNode::new(&Config::new(1), storage.clone(), &logger)?;
    /// node.campaign()?;
    /// let (persisted, numbers) = std::sync::mpsc::channel();
    /// while node.raft.state != raft::StateRole::Leader {
    ///     let ready = node.ready();
    ///     let (number, persisted) = (ready.number(), persisted.clone());
    ///     storage.submit(&ready, move |outcome| _ = persisted.send(outcome.map(|()| number)))?;
    ///     node.advance_append_async(ready);
    ///     // Other work, until it is known:
    ///     node.on_persist_ready(numbers.recv()??);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`persist`](CasklogStorage::persist), and [`casklog::Error::Busy`] where too many bytes wait to become durable: then
    /// submit it again after the next callback. After an error `on_durable` is not called.
    pub fn submit(&self, ready: &Ready, on_durable: impl FnOnce(Result<()>) + Send + 'static) -> Result<()> {
        let commit = self.place(
            |step| fill_from_ready(step, ready),
            |store, batch, submitted| {
                let commit = store.submit_batch(batch)?;
                *submitted = Some(commit.clone());
                Ok(commit)
            },
        )?;
        commit.on_durable(|outcome| on_durable(outcome.map_err(Error::from)));
        Ok(())
    }

    /// Appends entries. Those that are there from the first given index on are replaced, in the same batch. Durable when
    /// it returns.
    ///
    /// # Errors
    /// [`Error::Compacted`] for entries below the first index; [`Error::Gap`] for entries that do not follow;
    /// [`Error::CommitAhead`] where committed entries would go and not come back; [`Error::Store`], among them
    /// [`casklog::Error::TooLarge`] for an entry over `record_bytes_max` or all of them over `batch_bytes_max`.
    pub fn append(&self, entries: &[Entry]) -> Result<()> {
        self.write(|step| step.append(entries))
    }

    /// Stores term, vote and commit index. Durable when it returns. A commit index below what is compacted is raised to it.
    ///
    /// # Errors
    /// [`Error::CommitAhead`] for a commit index above the last index; [`Error::Store`].
    pub fn set_hard_state(&self, hard_state: &HardState) -> Result<()> {
        self.write(|step| {
            step.state.hard_state = hard_state.clone();
            Ok(())
        })
    }

    /// Stores the configuration: what `RawNode::apply_conf_change` returned, or the first one of a new cluster. Durable
    /// when it returns. All metadata of a log has [64 KiB](casklog::Options::meta_bytes_max): some thousand nodes.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn set_conf_state(&self, conf_state: &ConfState) -> Result<()> {
        self.write(|step| {
            step.state.conf_state = conf_state.clone();
            Ok(())
        })
    }

    /// Raises the commit index, as for `LightReady::commit_index`. Does not wait for the disk: it survives a kill, and a
    /// power cut may take it back, which Raft allows. A lower one changes nothing. Unlike that of `MemStorage` it leaves
    /// the term of the hard state alone.
    ///
    /// # Errors
    /// [`Error::CommitAhead`] for an index above the last one; [`Error::Store`].
    pub fn commit_to(&self, index: u64) -> Result<()> {
        self.write_lazily(|step| {
            step.commit_to(index);
            Ok(())
        })
    }

    /// Discards the entries below `index`, which stays; the term of the one before it is kept. An index at or below the first
    /// one changes nothing, one above the last empties the log. The commit index is raised to `index - 1` where it is lower.
    ///
    /// Only compact what was applied, and what the state machine has made durable. Does not wait for the disk: a power cut
    /// may take it back, never in part. Space is freed in whole segments, in the background.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where `index - 1` is above the last index; [`Error::Store`].
    pub fn compact(&self, index: u64) -> Result<()> {
        self.write_lazily(|step| {
            if index <= step.state.first_index() {
                return Ok(());
            }
            let (before, last) = (index - 1, step.last_index());
            if before > last {
                return Err(Error::Unavailable { index: before, last });
            }
            step.compact(Compacted { index: before, term: self.stored_term(before)? });
            Ok(())
        })
    }

    /// Lets a snapshot take the place of all entries: its index becomes the commit index and the one before the first, its
    /// configuration is stored, its term is what `term` says of its index. Durable when it returns.
    ///
    /// Only the metadata is kept. The data belong to the state machine: install them and make them durable first, so that a
    /// crash between the two leaves a state machine that is ahead of the log, which
    /// [`resume_from`](CasklogStorage::resume_from) mends. The other way round entries would be missing.
    ///
    /// # Errors
    /// [`Error::SnapshotOutOfDate`] for an index below the first one; [`Error::Store`].
    pub fn apply_snapshot(&self, snapshot: &Snapshot) -> Result<()> {
        self.write(|step| step.install(snapshot.get_metadata()))
    }

    /// Brings the log to where the state machine is: to be called when both are open, before the `RawNode` is made, with
    /// the index and term of the entry that the state machine has applied last, and the configuration behind it. Then use
    /// its index as `Config::applied`. An index of 0, a state machine that is new, changes nothing. Durable when it returns.
    ///
    /// raft-rs cannot be started with an `applied` above the commit index, and a crash may leave just that: a commit index
    /// alone is not waited for, and a snapshot reaches the state machine before the log. Nor may the configuration be
    /// ahead: the changes behind `applied` are applied again. An empty configuration leaves the stored one, for state
    /// machines that do not keep it and clusters that never change.
    ///
    /// # Errors
    /// [`Error::MachineBehind`] where entries that the state machine lacks are compacted; [`Error::Store`].
    pub fn resume_from(&self, applied: &SnapshotMetadata) -> Result<()> {
        let (index, term) = (applied.index, applied.term);
        self.write(|step| {
            let Compacted { index: compacted, .. } = step.state.compacted;
            if index < compacted {
                return Err(Error::MachineBehind { applied: index, first: compacted + 1 });
            }
            let is_in_log = index == compacted || index <= step.last_index() && self.stored_term(index)? == term;
            let stored = step.state.conf_state.clone();
            match is_in_log {
                true => step.commit_to(index),
                false => step.install(applied)?,
            }
            let given = applied.get_conf_state();
            step.state.conf_state = if *given == ConfState::default() { stored } else { given.clone() };
            Ok(())
        })
    }

    /// The log itself, for reading: statistics, verification, checkpoints, iteration. The key of an entry is its term in
    /// eight bytes, big-endian; its value is the entry in protobuf.
    pub fn log(&self) -> &Reader {
        &self.store
    }

    /// Makes everything durable and releases the log; all handles are closed then. A second call returns what the first did.
    ///
    /// # Errors
    /// [`Error::Store`] with the failure that stopped the log, if one did.
    pub fn close(&self) -> Result<()> {
        Ok(self.store.close()?)
    }

    /// The last index, for whoever holds the lock.
    pub(crate) fn end(&self) -> u64 {
        state::last_index(&self.store)
    }

    fn write(&self, fill: impl FnOnce(&mut Step<'_>) -> Result<()>) -> Result<()> {
        self.write_lazily(fill)?;
        Ok(self.store.sync()?)
    }

    fn write_lazily(&self, fill: impl FnOnce(&mut Step<'_>) -> Result<()>) -> Result<()> {
        self.place(fill, |store, batch, _| store.write_batch_with(batch, Durability::Written)).map(drop)
    }

    fn place<T>(
        &self,
        fill: impl FnOnce(&mut Step<'_>) -> Result<()>,
        put: impl FnOnce(&Store, &Batch, &mut Option<Commit>) -> casklog::Result<T>,
    ) -> Result<T> {
        let mut inner = self.inner.write();
        let mut step = Step::new(&inner.state, self.end());
        fill(&mut step)?;
        let (state, batch) = step.finish()?;
        let placed = put(&self.store, &batch, &mut inner.submitted)?;
        inner.state = state;
        Ok(placed)
    }
}

fn load(store: &Store) -> Result<State> {
    let report = store.recovery_report();
    if let Some(damage) = report.damage.iter().chain(&report.gaps).next() {
        return Err(Error::Lost { reason: format!("{}: {}", damage.path.display(), damage.reason) });
    }
    State::load(store)
}

/// In the order in which raft-rs means it: entries follow the snapshot, and the hard state is that of both.
fn fill_from_ready(step: &mut Step<'_>, ready: &Ready) -> Result<()> {
    if !ready.snapshot().is_empty() {
        step.install(ready.snapshot().get_metadata())?;
    }
    step.append(ready.entries())?;
    if let Some(hard_state) = ready.hs() {
        step.state.hard_state = hard_state.clone();
    }
    Ok(())
}
