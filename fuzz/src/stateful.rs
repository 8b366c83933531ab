//! F7: operations, faults and crashes against a small model. The log shows what one prefix of the attempted operations
//! leaves, and that prefix has everything that was acknowledged.

use std::collections::BTreeMap;

use arbitrary::{Arbitrary, Unstructured};
use casklog::fs::sim::{Fault, OpKind, SimFs, SyncFailure};
use casklog::{Batch, Error, Options, Store, SyncPolicy};

use super::common::{copy, look, options};

#[derive(Debug, Clone, Arbitrary)]
enum Op {
    Append(u16),
    Put { index: u8, length: u8 },
    Delete(u8),
    Batch { count: u8, length: u16, delete: u8, after: Option<u8> },
    Meta(u8, u8),
    After(u8),
    Before(u8),
    Reset(u8),
    Sync,
    Rotate,
    Idle,
    Close,
    Kill,
    Power { back: u8, which: u8, seed: u16 },
    Fault { kind: u8, nth: u8, errno: u8, is_sticky: bool, bytes: u8 },
    Failure(u8),
}

/// What a log shows: entries (deleted ones as none) and metadata.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct State {
    live: BTreeMap<u64, Vec<u8>>,
    meta: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// A state that the log went through.
struct Step {
    state: State,
    /// The journal when the operation that led here began, and when it was known to be durable.
    begin: usize,
    durable: Option<usize>,
}

struct Run {
    fs: SimFs,
    policy: SyncPolicy,
    store: Store,
    steps: Vec<Step>,
    salt: u8,
    /// Faults are ordered, or were.
    is_faulty: bool,
    /// The journal when the log was opened last; power cuts are looked for behind it.
    base: usize,
}

const ERRNOS: [i32; 8] = [5, 28, 122, 4, 11, 24, 30, 27];
const KINDS: [OpKind; 12] = [
    OpKind::Any,
    OpKind::Change,
    OpKind::Write,
    OpKind::Prepare,
    OpKind::SetSize,
    OpKind::Sync,
    OpKind::SyncDir,
    OpKind::Create,
    OpKind::Open,
    OpKind::Remove,
    OpKind::Read,
    OpKind::Rename,
];

fn opened(fs: &SimFs, policy: SyncPolicy) -> Options {
    options(fs).segment_bytes(2000).segment_entries(5).sync(policy)
}

pub fn run(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let policy = match u.int_in_range(0..=3).unwrap_or(0) {
        0 | 1 => SyncPolicy::default(),
        2 => SyncPolicy::None,
        _ => SyncPolicy::Periodic { every: std::time::Duration::from_secs(3600), entries: 3, bytes: 2000 },
    };
    let fs = SimFs::new();
    let store = opened(&fs, policy).open().expect("a new log");
    let base = fs.ops();
    let first = Step { state: State::default(), begin: 0, durable: Some(base) };
    let mut run = Run { fs, policy, store, steps: vec![first], salt: 0, is_faulty: false, base };
    for _ in 0..60 {
        match Op::arbitrary(&mut u) {
            Ok(op) if !u.is_empty() => run.take(&op),
            _ => break,
        }
    }
    run.power(0, 0, 1);
    run.power(0, 1, 1);
}

impl Run {
    fn state(&self) -> State {
        self.steps.last().expect("there is always one").state.clone()
    }

    fn value(&mut self, length: usize) -> Vec<u8> {
        self.salt = self.salt.wrapping_add(1);
        let mut value = vec![self.salt; length];
        value.push(self.salt);
        value
    }

    fn take(&mut self, op: &Op) {
        let (begin, mut then) = (self.fs.ops(), self.state());
        let next = self.store.next_index();
        let outcome = match op {
            Op::Append(length) => {
                let value = self.value(usize::from(*length) % 5000);
                let outcome = self.store.append_bytes("k", &value);
                if let Some(next) = next {
                    then.live.insert(next, value);
                }
                outcome.map(|_| true)
            }
            Op::Put { index, length } => {
                let value = self.value((*length).into());
                then.live.insert((*index).into(), value.clone());
                self.store.write_bytes((*index).into(), "k", value).map(|_| true)
            }
            Op::Delete(index) => {
                then.live.remove(&(*index).into());
                self.store.delete((*index).into())
            }
            Op::Batch { count, length, delete, after } => {
                let (mut batch, mut first) = (Batch::new(), next.unwrap_or(1));
                if let Some(after) = after {
                    batch.truncate_after((*after).into());
                    then.live.retain(|at, _| *at <= u64::from(*after));
                    first = first.min(u64::from(*after) + 1);
                }
                for place in 0..u64::from(*count % 6) {
                    let value = self.value(usize::from(*length) % 2000);
                    batch.put_bytes(first + place, "k", &value);
                    then.live.insert(first + place, value);
                }
                batch.delete((*delete).into()).put_meta("batch", [*count]);
                then.live.remove(&(*delete).into());
                then.meta.insert(b"batch".to_vec(), vec![*count]);
                self.store.write_batch(&batch).map(|_| true)
            }
            Op::Meta(key, value) => {
                then.meta.insert(vec![*key % 4], vec![*value]);
                self.store.put_meta([*key % 4], [*value]).map(|()| true)
            }
            Op::After(index) => {
                then.live.retain(|at, _| *at <= u64::from(*index));
                self.store.truncate_after((*index).into()).map(|()| true)
            }
            Op::Before(index) => {
                then.live.retain(|at, _| *at >= u64::from(*index));
                self.store.truncate_before((*index).into()).map(|()| true)
            }
            Op::Reset(index) => {
                then.live.clear();
                self.store.reset_to((*index).into()).map(|()| true)
            }
            Op::Sync => {
                if self.store.sync().is_ok() {
                    self.durable();
                }
                return;
            }
            Op::Rotate => return drop(self.store.rotate()),
            Op::Idle => return drop(self.store.idle()),
            Op::Close => {
                if self.store.close().is_ok() {
                    self.durable();
                }
                return self.reopen(self.fs.killed());
            }
            Op::Kill => return self.reopen(self.fs.killed()),
            Op::Power { back, which, seed } => return self.power(*back, *which, *seed),
            Op::Fault { kind, nth, errno, is_sticky, bytes } => {
                let errno = ERRNOS[usize::from(*errno) % ERRNOS.len()];
                let fault = Fault::new(KINDS[usize::from(*kind) % KINDS.len()], errno).nth(u64::from(*nth) % 16);
                let fault = if *is_sticky { fault.sticky() } else { fault };
                self.is_faulty = true;
                return self.fs.inject(fault.after_bytes((*bytes).into()));
            }
            Op::Failure(model) => {
                let models = [SyncFailure::Lies, SyncFailure::KeepsPending, SyncFailure::Writes];
                return self.fs.set_sync_failure(models[usize::from(*model) % 3]);
            }
        };
        match outcome {
            Ok(false) => {}
            Ok(true) => {
                self.steps.push(Step { state: then, begin, durable: None });
                if !matches!(self.policy, SyncPolicy::None | SyncPolicy::Periodic { .. }) {
                    self.durable();
                }
                if !self.is_faulty {
                    look(&self.store);
                    assert_eq!(Self::shown(&self.store), self.state(), "what the store shows");
                }
            }
            // Indeterminate, unless the store goes on.
            Err(Error::Io { .. } | Error::Failed { .. } | Error::NoSpace { .. }) if self.store.writable().is_err() => {
                self.steps.push(Step { state: then, begin, durable: None });
                self.reopen(self.fs.killed());
            }
            Err(_) => {}
        }
    }

    fn durable(&mut self) {
        let ops = self.fs.ops();
        for step in &mut self.steps {
            step.durable = step.durable.or(Some(ops));
        }
    }

    fn shown(store: &Store) -> State {
        let live = store.iter().map(|entry| {
            let entry = entry.unwrap_or_else(|error| panic!("{error:?}"));
            (entry.index(), entry.bytes().expect("bytes").to_vec())
        });
        State { live: live.collect(), meta: store.all_meta().into_iter().collect() }
    }

    /// What a power cut at one of the last operations leaves must be allowed.
    fn power(&mut self, back: u8, which: u8, seed: u16) {
        let ops = self.fs.ops().saturating_sub((back % 32).into()).max(self.base);
        let images = self.fs.crash_images(ops, 8, seed.into());
        let Some(found) = images.into_iter().nth((which % 8).into()) else { return };
        let words = found.origin();
        self.examine(&found, ops, &words);
    }

    fn examine(&self, found: &SimFs, ops: usize, words: &str) {
        let sure = self.steps.iter().rposition(|step| step.durable.is_some_and(|durable| durable <= ops)).unwrap_or(0);
        let store = opened(found, self.policy).open();
        let store = store.unwrap_or_else(|error| panic!("{words}: {error:?}"));
        look(&store);
        let shown = Self::shown(&store);
        let allowed = self.steps[sure..].iter().filter(|step| step.begin < ops);
        let found_one = allowed.map(|step| &step.state).chain([&self.steps[sure].state]).any(|state| *state == shown);
        assert!(found_one, "{words}: {shown:?} is no state from {sure} on: {:?}", self.steps[sure].state);
        let again = copy(found);
        drop(store);
        let store = opened(&again, self.policy).open().unwrap_or_else(|error| panic!("{words}, again: {error:?}"));
        assert_eq!(Self::shown(&store), shown, "{words}, again");
    }

    /// The process is killed, or closed; the machine lives on.
    fn reopen(&mut self, fs: SimFs) {
        let other = Options::new("/other").fs(std::sync::Arc::new(SimFs::new())).background(false);
        self.store = other.open().expect("another log");
        self.fs = fs;
        self.store = opened(&self.fs, self.policy).open().unwrap_or_else(|error| panic!("reopen: {error:?}"));
        let shown = Self::shown(&self.store);
        let sure = self.steps.iter().rposition(|step| step.durable.is_some()).unwrap_or(0);
        let at = self.steps[sure..].iter().position(|step| step.state == shown);
        assert!(at.is_some(), "{shown:?} is no state from {sure} on: {:?}", self.steps[sure].state);
        // Open has made it durable.
        self.base = self.fs.ops();
        self.steps = vec![Step { state: shown, begin: 0, durable: Some(self.base) }];
        self.is_faulty = false;
    }
}
