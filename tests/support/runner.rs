//! Runs operations on a store over the simulated file system and remembers what was promised when.

use std::sync::Arc;
use std::time::Duration;

use casklog::fs::sim::SimFs;
use casklog::{Batch, Durability, Error, IndexOrder, Options, Position, Store, SyncPolicy};

use super::model::{Change, Model, Numbers};

/// One operation of a workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Act {
    Append(usize),
    Put(u64, usize),
    Synced(usize),
    Submit(usize),
    /// Truncation first, then puts at the next indexes, a deletion, metadata.
    Batch {
        truncate: Option<Change>,
        puts: Vec<usize>,
        delete: Option<u64>,
        meta: Option<usize>,
    },
    Meta(u8, usize),
    DeleteMeta(u8),
    Delete(u64),
    Truncate(Change),
    Rotate,
    Sync,
    Idle,
    Reopen,
    Drop,
}

/// How the store is opened.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) sync: SyncPolicy,
    pub(crate) mapped: bool,
    pub(crate) order: IndexOrder,
    pub(crate) segment_bytes: u64,
    pub(crate) segment_entries: Option<u64>,
    pub(crate) max_segments: Option<u64>,
    pub(crate) sync_align: u32,
    pub(crate) preallocate: bool,
}

impl Setup {
    pub(crate) fn new(sync: SyncPolicy) -> Self {
        Setup {
            sync,
            mapped: false,
            order: IndexOrder::Any,
            segment_bytes: 1 << 16,
            segment_entries: Some(4),
            max_segments: None,
            sync_align: 0,
            preallocate: true,
        }
    }

    pub(crate) fn options(&self, fs: &SimFs) -> Options {
        let mut options = Options::new("/db")
            .fs(Arc::new(fs.clone()))
            .background(false)
            .sync(self.sync)
            .mapped(self.mapped)
            .index_order(self.order)
            .segment_bytes(self.segment_bytes)
            .sync_align(self.sync_align)
            .preallocate(self.preallocate)
            .record_bytes_max(1 << 20)
            .batch_bytes_max(1 << 20);
        if let Some(entries) = self.segment_entries {
            options = options.segment_entries(entries);
        }
        if let Some(segments) = self.max_segments {
            options = options.max_segments(segments);
        }
        options
    }
}

pub(crate) const GROUPED: SyncPolicy = SyncPolicy::Grouped { window: Duration::ZERO };

pub(crate) const PERIODIC: SyncPolicy =
    SyncPolicy::Periodic { every: Duration::from_secs(3600), entries: 3, bytes: 5_000 };

/// One operation that was run.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) act: Option<Act>,
    /// Operations in the journal when it began and when it returned.
    pub(crate) begin: usize,
    pub(crate) end: usize,
    /// Operations in the journal when it was known to be durable.
    pub(crate) durable_at: Option<usize>,
    /// What the log holds with it.
    pub(crate) model: Arc<Model>,
    tail: Position,
}

/// A running store, and its history since the file system's journal began.
pub(crate) struct Runner {
    pub(crate) fs: SimFs,
    pub(crate) setup: Setup,
    pub(crate) store: Store,
    pub(crate) model: Model,
    pub(crate) steps: Vec<Step>,
    /// What may be found where nothing was acknowledged yet.
    pub(crate) before: Vec<Arc<Model>>,
    /// What the log may hold after an operation that failed.
    pub(crate) failed: Option<Model>,
    salt: u64,
}

impl Runner {
    /// Creates a log.
    pub(crate) fn create(setup: &Setup, salt: u64) -> Self {
        let fs = SimFs::new();
        let store = setup.options(&fs).open().expect("a new log opens");
        Self::adopt(fs, setup, store, Model::default(), vec![Arc::default()], salt)
    }

    /// Goes on with a store that was found to hold `model`; a crash before it was open may leave any of `before`.
    pub(crate) fn adopt(
        fs: SimFs,
        setup: &Setup,
        store: Store,
        model: Model,
        before: Vec<Arc<Model>>,
        salt: u64,
    ) -> Self {
        let mut runner =
            Runner { fs, setup: setup.clone(), store, model, steps: Vec::new(), before, failed: None, salt };
        runner.finish(None, 0, true);
        runner
    }

    fn finish(&mut self, act: Option<Act>, begin: usize, is_durable: bool) {
        let (end, stats) = (self.fs.ops(), self.store.stats());
        self.steps.push(Step {
            act,
            begin,
            end,
            durable_at: is_durable.then_some(end),
            model: Arc::new(self.model.clone()),
            tail: stats.tail,
        });
        let durable = self.steps.iter_mut().filter(|step| step.tail <= stats.durable);
        durable.for_each(|step| _ = step.durable_at.get_or_insert(end));
    }

    /// The states that a power cut before journal operation `op` may leave.
    pub(crate) fn allowed(&self, op: usize) -> Vec<Arc<Model>> {
        self.states_from(op, |step| step.durable_at.is_some_and(|at| at <= op))
    }

    /// The states that the death of the process before journal operation `op` may leave.
    pub(crate) fn allowed_after_kill(&self, op: usize) -> Vec<Arc<Model>> {
        self.states_from(op, |step| step.end <= op)
    }

    fn states_from(&self, op: usize, is_sure: impl Fn(&Step) -> bool) -> Vec<Arc<Model>> {
        let attempted = self.steps.iter().take_while(|step| step.begin < op || step.begin == 0).count();
        let models = |from: usize| self.steps[from..attempted].iter().map(|step| step.model.clone());
        match self.steps[..attempted].iter().rposition(is_sure) {
            Some(sure) => models(sure).collect(),
            None => self.before.iter().cloned().chain(models(0)).collect(),
        }
    }

    /// The operations that a store holding `model` lacks.
    pub(crate) fn acts_behind(&self, model: &Model, op: usize) -> Vec<Act> {
        let attempted = self.steps.iter().filter(|step| step.begin < op).count();
        let held = self.steps[..attempted].iter().rposition(|step| *step.model == *model);
        let lost = &self.steps[held.map_or(0, |held| held + 1)..attempted];
        lost.iter().filter_map(|step| step.act.clone()).collect()
    }

    pub(crate) fn run(&mut self, acts: &[Act]) -> Result<(), Error> {
        acts.iter().try_for_each(|act| self.act(act))
    }

    fn bytes(&self, length: usize) -> (Vec<u8>, Vec<u8>) {
        let mut random = Numbers(self.salt ^ (self.steps.len() as u64) << 32 ^ length as u64);
        let value = random.bytes(length);
        (format!("k{:02}", random.below(100)).into_bytes(), value)
    }

    fn put(&self, index: u64, length: usize) -> (Change, Vec<u8>, Vec<u8>) {
        let (key, value) = self.bytes(length);
        let change = Change::Put { index, key: key.clone(), value: value.clone() };
        (change, key, value)
    }

    /// Runs one operation. On an error, `failed` is the state that it would have led to.
    pub(crate) fn act(&mut self, act: &Act) -> Result<(), Error> {
        let begin = self.fs.ops();
        let next = self.store.next_index().expect("small indexes");
        let store = self.store.clone();
        let syncs = matches!(self.setup.sync, SyncPolicy::Immediate | SyncPolicy::Grouped { .. });
        let mut is_durable = syncs || matches!(act, Act::Synced(_) | Act::Rotate | Act::Sync);
        let none = |()| Vec::new();
        let (changes, outcome) = match act {
            Act::Append(length) | Act::Synced(length) | Act::Submit(length) => {
                let (change, key, value) = self.put(next, *length);
                let positions = match act {
                    Act::Append(_) => store.append_bytes(&key, &value).map(|appended| vec![appended.position]),
                    Act::Synced(_) => {
                        let appended = store.append_bytes_with(&key, &value, Durability::Synced);
                        appended.map(|appended| vec![appended.position])
                    }
                    _ => {
                        let mut batch = Batch::new();
                        batch.put_bytes(next, &key, &value);
                        let commit = store.submit_batch(&batch);
                        is_durable = commit.as_ref().is_ok_and(|commit| commit.is_durable());
                        commit.map(|commit| commit.positions().to_vec())
                    }
                };
                (vec![change], positions)
            }
            Act::Put(index, length) => {
                let (change, key, value) = self.put(*index, *length);
                (vec![change], store.write_bytes(*index, &key, &value).map(|position| vec![position]))
            }
            Act::Batch { .. } => {
                let (batch, changes) = self.batch(act, next);
                (changes, store.write_batch(&batch))
            }
            Act::Meta(key, length) => {
                let value = self.bytes(*length).1;
                let outcome = store.put_meta([*key], &value).map(none);
                (vec![Change::Meta(vec![*key], Some(value))], outcome)
            }
            Act::DeleteMeta(key) => {
                let outcome = store.delete_meta([*key]).map(|_| Vec::new());
                (vec![Change::Meta(vec![*key], None)], outcome)
            }
            Act::Delete(index) => match store.delete(*index) {
                Ok(false) => (Vec::new(), Ok(Vec::new())),
                outcome => (vec![Change::Delete(*index)], outcome.map(|_| Vec::new())),
            },
            Act::Truncate(change) => {
                let outcome = match change {
                    Change::Before(index) => store.truncate_before(*index),
                    Change::After(index) => store.truncate_after(*index),
                    Change::Reset(index) => store.reset_to(*index),
                    other => unreachable!("{other:?} is no truncation"),
                };
                (vec![change.clone()], outcome.map(none))
            }
            Act::Rotate => (Vec::new(), store.rotate().map(none)),
            Act::Sync => (Vec::new(), store.sync().map(none)),
            Act::Idle => (Vec::new(), store.idle().map(none)),
            Act::Reopen | Act::Drop => {
                drop(store);
                return self.reopen(act, begin);
            }
        };
        let mut then = self.model.clone();
        match outcome {
            Ok(positions) => {
                let mut positions = positions.into_iter();
                for change in &changes {
                    let is_put = matches!(change, Change::Put { .. });
                    let position = if is_put { positions.next() } else { None };
                    then.apply(change, position.unwrap_or_default());
                }
                self.model = then;
                self.finish(Some(act.clone()), begin, is_durable);
                Ok(())
            }
            // Retention does not stand at the same place in every run.
            Err(Error::BelowFloor { .. } | Error::IndexExists { .. } | Error::BatchDeletesPut { .. })
                if !matches!(act, Act::Append(_) | Act::Synced(_) | Act::Submit(_)) =>
            {
                self.finish(Some(act.clone()), begin, is_durable);
                Ok(())
            }
            Err(error) => {
                changes.iter().for_each(|change| then.apply(change, Position::default()));
                self.failed = Some(then);
                Err(error)
            }
        }
    }

    fn batch(&self, act: &Act, next: u64) -> (Batch, Vec<Change>) {
        let Act::Batch { truncate, puts, delete, meta } = act else { unreachable!("a batch") };
        let mut batch = Batch::new();
        let (mut changes, mut first) = (Vec::new(), next);
        let mut trial = self.model.clone();
        if let Some(change) = truncate {
            match change {
                Change::Before(index) => batch.truncate_before(*index),
                Change::After(index) => batch.truncate_after(*index),
                Change::Reset(index) => batch.reset_to(*index),
                other => unreachable!("{other:?} is no truncation"),
            };
            trial.apply(change, Position::default());
            first = trial.next.unwrap_or(1);
            changes.push(change.clone());
        }
        // Filled backwards: a batch takes effect by index.
        for place in (0..puts.len()).rev() {
            let (change, key, value) = self.put(first + place as u64, puts[place] + place);
            batch.put_bytes(first + place as u64, &key, &value);
            changes.push(change);
        }
        if let Some(index) = delete {
            batch.delete(*index);
            changes.push(Change::Delete(*index));
        }
        if let Some(length) = meta {
            let value = self.bytes(*length).1;
            batch.put_meta("batch", &value).delete_meta([1]);
            changes.push(Change::Meta(b"batch".to_vec(), Some(value)));
            changes.push(Change::Meta(vec![1], None));
        }
        (batch, changes)
    }

    /// Closes, or drops without closing, and opens again.
    fn reopen(&mut self, act: &Act, mut begin: usize) -> Result<(), Error> {
        if *act == Act::Reopen {
            self.store.close()?;
            self.finish(None, begin, true);
            begin = self.fs.ops();
        } else {
            // Another handle of no log: the only one of this log goes.
            self.store = Options::new("/other").fs(Arc::new(SimFs::new())).background(false).open()?;
        }
        self.store = self.setup.options(&self.fs).open()?;
        self.finish(Some(act.clone()), begin, true);
        Ok(())
    }
}
