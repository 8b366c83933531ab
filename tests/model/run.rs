//! Runs a program on a store and on the model, and compares what each step says.

use std::ops::Bound;

use casklog::fs::sim::{Fate, SimFs};
use casklog::{Batch, Error, Position, RecoveryMode, Store};

use crate::held::Held;
use crate::known::Known;
use crate::look;
use crate::model::{Change, Model, Refusal};
use crate::numbers::Numbers;
use crate::op::{Case, Exit, KEYS, META_KEYS, Member, Op, Spot};
use crate::retention::Segments;
use crate::setup::{PLAIN, Setup};
use crate::values::value;

/// Fails with a message where a condition does not hold.
macro_rules! ensure {
    ($holds:expr, $($message:tt)*) => {
        if !$holds {
            return Err(format!($($message)*));
        }
    };
}
pub(crate) use ensure;

/// Everything is compared after every so many steps, and at the end.
const LOOK_EVERY: usize = 5;

/// Runs a program.
///
/// # Errors
/// What differs between store and model, and at which step.
pub(crate) fn run(case: &Case, known: Known) -> Result<(), String> {
    let mut runner = Runner::new(&case.setup, known)?;
    for (number, op) in case.ops.iter().enumerate() {
        let outcome = runner.step(number, op);
        outcome.map_err(|what| format!("step {number}, {op:?}: {what}"))?;
    }
    let end = runner.reopen(Exit::Close).and_then(|()| runner.look());
    end.map_err(|what| format!("at the end, after close and open: {what}"))
}

/// A store and its model.
struct Runner {
    setup: Setup,
    known: Known,
    fs: SimFs,
    store: Store,
    model: Model,
    /// Every entry that was ever written: its position and index.
    written: Vec<(Position, u64)>,
    segments: Segments,
    held: Vec<Held>,
    /// Makes values differ that have the same length and index.
    salt: u64,
}

/// The words in which the model refuses.
fn refusal(error: Error) -> Result<Refusal, String> {
    Ok(match error {
        Error::IndexExists { index } => Refusal::IndexExists(index),
        Error::IndexOrder { index, expected, .. } => Refusal::IndexOrder { index, expected },
        Error::BelowFloor { index, floor } => Refusal::BelowFloor { index, floor },
        Error::IndexExhausted => Refusal::IndexExhausted,
        Error::BatchDuplicate { index } => Refusal::BatchDuplicate(index),
        Error::BatchGap { after, index } => Refusal::BatchGap { after, index },
        Error::BatchDeletesPut { index } => Refusal::BatchDeletesPut(index),
        Error::TooLarge { what: "metadata", bytes, .. } => Refusal::MetaTooLarge(bytes),
        other => return Err(unexpected(other)),
    })
}

fn unexpected(error: Error) -> String {
    format!("failed with {error:?}")
}

impl Runner {
    fn new(setup: &Setup, known: Known) -> Result<Self, String> {
        let fs = SimFs::new();
        let store = setup.options(&fs).open().map_err(unexpected)?;
        let model = Model::new(setup);
        let (setup, written, segments, held) = (setup.clone(), Vec::new(), Segments::default(), Vec::new());
        Ok(Runner { setup, known, fs, store, model, written, segments, held, salt: 0 })
    }

    fn step(&mut self, number: usize, op: &Op) -> Result<(), String> {
        self.salt = number as u64;
        match op {
            Op::One(member) => self.one(member)?,
            Op::Append(key, bytes) => self.append(*key, *bytes)?,
            Op::Batch(members) => self.batch(members)?,
            Op::Rotate => self.whole_log(Store::rotate)?,
            Op::Sync => self.whole_log(Store::sync)?,
            Op::Idle => self.whole_log(Store::idle)?,
            Op::Reopen(exit) => {
                self.reopen(*exit)?;
                return self.look();
            }
            Op::Get(spot) => look::at_index(&self.store, &self.model, self.index(*spot))?,
            Op::Read(_) if self.written.is_empty() => {}
            Op::Read(nth) => {
                let (position, index) = self.written[usize::from(*nth) % self.written.len()];
                look::at_position(&self.store, &self.model, position, index)?;
                look::from_position(&self.store, &self.model, position)?;
            }
            Op::Range(from, to, turns) => {
                look::range(&self.store, &self.model, (self.bound(*from), self.bound(*to)), *turns)?;
            }
            Op::Hold(from, to, front, back) => {
                let range = (self.bound(*from), self.bound(*to));
                self.held.push(Held::range(&self.store, &self.model, range, *front, *back)?);
            }
            Op::HoldLog(taken) => self.held.push(Held::log_order(&self.store, &self.model, *taken)?),
            Op::Drain => self.drain()?,
            Op::Look => self.look()?,
        }
        look::ends(&self.store, &self.model)?;
        if number % LOOK_EVERY == LOOK_EVERY - 1 { self.look() } else { Ok(()) }
    }

    fn look(&self) -> Result<(), String> {
        look::everything(&self.store, &self.model, &self.setup)?;
        self.written.iter().try_for_each(|(at, index)| look::at_position(&self.store, &self.model, *at, *index))
    }

    fn drain(&mut self) -> Result<(), String> {
        self.held.drain(..).try_for_each(|held| held.drain(&self.model, self.known))
    }

    fn index(&self, spot: Spot) -> u64 {
        let next = self.model.next_index();
        match spot {
            Spot::At(index) => index,
            Spot::Ahead(above) => next.unwrap_or(u64::MAX).saturating_add(above),
            Spot::Behind(below) => next.map_or(u64::MAX, |next| next.saturating_sub(1)).saturating_sub(below),
        }
    }

    fn bound(&self, bound: Bound<Spot>) -> Bound<u64> {
        bound.map(|spot| self.index(spot))
    }

    fn resolve(&self, member: &Member) -> Change {
        let index = |spot: &Spot| self.index(*spot);
        match member {
            Member::Put(spot, key, bytes) => {
                let index = index(spot);
                Change::Put { index, key: key_bytes(*key), value: value(self.salt, index, *bytes) }
            }
            Member::Delete(spot) => Change::Delete(index(spot)),
            Member::Before(spot) => Change::Before(index(spot)),
            Member::After(spot) => Change::After(index(spot)),
            Member::Reset(spot) => Change::Reset(index(spot)),
            Member::Set(key, bytes) => Change::Set(meta_key(*key), value(self.salt, u64::from(*key), *bytes).to_vec()),
            Member::Unset(key) => Change::Unset(meta_key(*key)),
        }
    }

    fn one(&mut self, member: &Member) -> Result<(), String> {
        let change = self.resolve(member);
        let (was_live, was_set) = match &change {
            Change::Delete(index) => (self.model.live_at(*index).is_some(), false),
            Change::Unset(key) => (false, self.model.meta.contains_key(key)),
            _ => (false, false),
        };
        let none = |()| Vec::new();
        let mut told = None;
        let outcome = match &change {
            Change::Put { index, key, value } => self.store.write_bytes(*index, key, value).map(|at| vec![at]),
            Change::Delete(index) => self.store.delete(*index).map(|is| none(_ = told.insert((is, was_live)))),
            Change::Before(index) => self.store.truncate_before(*index).map(none),
            Change::After(index) => self.store.truncate_after(*index).map(none),
            Change::Reset(index) => self.store.reset_to(*index).map(none),
            Change::Set(key, value) => self.store.put_meta(key, value).map(none),
            Change::Unset(key) => self.store.delete_meta(key).map(|is| none(_ = told.insert((is, was_set)))),
        };
        ensure!(told.is_none_or(|(said, was)| said == was), "returned {told:?}, and should have the second");
        self.written(&[change], outcome)
    }

    fn append(&mut self, key: u8, bytes: u32) -> Result<(), String> {
        let next = self.model.next_index();
        let key = key_bytes(key);
        let value = value(self.salt, next.unwrap_or(0), bytes);
        let outcome = self.store.append_bytes(&key, &value);
        let Some(index) = next else {
            let is_refused = matches!(outcome, Err(Error::IndexExhausted));
            ensure!(is_refused, "returned {outcome:?}, and no index is left");
            return Ok(());
        };
        if let Ok(appended) = &outcome {
            ensure!(appended.index == index, "took index {} and not {index}", appended.index);
        }
        self.written(&[Change::Put { index, key, value }], outcome.map(|appended| vec![appended.position]))
    }

    fn batch(&mut self, members: &[Member]) -> Result<(), String> {
        let changes: Vec<Change> = members.iter().map(|member| self.resolve(member)).collect();
        let mut batch = Batch::new();
        for change in &changes {
            match change {
                Change::Put { index, key, value } => batch.put_bytes(*index, key, value),
                Change::Delete(index) => batch.delete(*index),
                Change::Before(index) => batch.truncate_before(*index),
                Change::After(index) => batch.truncate_after(*index),
                Change::Reset(index) => batch.reset_to(*index),
                Change::Set(key, value) => batch.put_meta(key, value),
                Change::Unset(key) => batch.delete_meta(key),
            };
        }
        ensure!(batch.len() == members.len(), "the batch has {} members", batch.len());
        let outcome = self.store.write_batch(&batch);
        self.written(&changes, outcome)
    }

    /// Lets the model take what the store was given, and compares what they say.
    fn written(&mut self, changes: &[Change], outcome: Result<Vec<Position>, Error>) -> Result<(), String> {
        let found = match outcome {
            Ok(positions) => Ok(positions),
            Err(error) => Err(refusal(error)?),
        };
        let mut then = self.model.clone();
        let mut expected = then.write(changes);
        if let Err(refusal @ Refusal::BelowFloor { floor, .. }) = &found
            && expected.as_ref() != Err(refusal)
            && self.known.floor_rises_further
        {
            then = self.model.clone();
            then.learn_floor(*floor);
            expected = then.write(changes);
        }
        match (found, expected) {
            (Ok(positions), Ok(())) => self.place(&mut then, changes, &positions)?,
            (Err(found), Err(expected)) if found == expected => {}
            (Ok(_), Err(expected)) => return Err(format!("succeeded, and should be refused with {expected:?}")),
            (Err(found), expected) => return Err(format!("was refused with {found:?}, and should be {expected:?}")),
        }
        let truncated = then.cuts != self.model.cuts;
        self.model = then;
        self.segments.follow(&mut self.model, &self.store, &self.setup)?;
        if truncated { self.segments.is_space_free(&self.model, &self.setup) } else { Ok(()) }
    }

    /// Tells the model where entries stand: in the order of their indexes, behind all that was written before.
    fn place(&mut self, model: &mut Model, changes: &[Change], positions: &[Position]) -> Result<(), String> {
        let put = |change: &Change| if let Change::Put { index, .. } = change { Some(*index) } else { None };
        let indexes: Vec<u64> = changes.iter().filter_map(put).collect();
        ensure!(indexes.len() == positions.len(), "returned positions {positions:?}");
        let mut placed: Vec<(u64, Position)> = indexes.into_iter().zip(positions.iter().copied()).collect();
        placed.sort_unstable();
        self.segments.is_in_place(&placed, &self.model, &self.store, &self.setup)?;
        for (index, position) in placed {
            let is_behind = self.written.last().is_none_or(|(last, _)| *last < position);
            ensure!(is_behind, "index {index} at {position} does not stand behind what was written before");
            self.written.push((position, index));
            if let Some(item) = model.items.get_mut(&index) {
                item.position = position;
            }
        }
        Ok(())
    }

    fn whole_log(&mut self, act: fn(&Store) -> casklog::Result<()>) -> Result<(), String> {
        act(&self.store).map_err(unexpected)?;
        self.segments.follow(&mut self.model, &self.store, &self.setup)
    }

    /// Ends the store and opens the log again, as the next process finds it.
    fn reopen(&mut self, exit: Exit) -> Result<(), String> {
        self.drain()?;
        self.leave(exit)?;
        let mode = if exit == Exit::CloseStrict { RecoveryMode::Strict } else { RecoveryMode::TornTail };
        self.store = self.setup.options(&self.fs).recovery(mode).open().map_err(unexpected)?;
        let report = self.store.recovery_report();
        ensure!(!report.is_damaged(), "the log is damaged: {report:?}");
        let was_closed = matches!(exit, Exit::Close | Exit::CloseStrict);
        ensure!(!was_closed || report.is_clean, "the log is not clean after a close: {report:?}");
        self.segments.follow(&mut self.model, &self.store, &self.setup)
    }

    fn leave(&mut self, exit: Exit) -> Result<(), String> {
        match exit {
            Exit::Close | Exit::CloseStrict => {
                self.store.close().map_err(unexpected)?;
                let write = self.store.write_bytes(1, "", "");
                ensure!(matches!(write, Err(Error::Closed)), "a closed store takes a write: {write:?}");
            }
            Exit::Drop => self.store = self.nowhere()?,
            Exit::Kill => self.fs = self.fs.killed(),
            Exit::PowerCut(seed) => {
                if !self.setup.policy.syncs_each_write() {
                    self.store.sync().map_err(unexpected)?;
                }
                let mut random = Numbers(seed);
                let fates = [Fate::Kept, Fate::Lost, Fate::Garbage];
                self.fs = self.fs.crash_at(self.fs.ops(), &mut |_| fates[random.below(3) as usize]);
            }
        }
        Ok(())
    }

    /// A store of another log, for the time in which this one has none.
    fn nowhere(&self) -> Result<Store, String> {
        PLAIN.options(&SimFs::new()).open().map_err(unexpected)
    }
}

fn key_bytes(key: u8) -> Vec<u8> {
    KEYS[usize::from(key) % KEYS.len()].to_vec()
}

fn meta_key(key: u8) -> Vec<u8> {
    META_KEYS[usize::from(key) % META_KEYS.len()].to_vec()
}
