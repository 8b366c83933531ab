//! The steps of writer, committer, keeper and recovery, and what may go wrong between them.
//!
//! The committer, the keeper and recovery work off lists of [`Step`]s. Steps that wait for no disk are taken together with
//! what stands before them: a power cut chooses freely among all that is pending, so that no state is missed.

mod check;
mod recover;
mod run;

use stateright::{Model, Property};

use crate::Broken;
use crate::disk::{BLOCKS, Block, Cache, Disk, Kind, Position, Slot, Slots, at};
use crate::judge::{Judgement, Placed};

pub use check::Verdict;

/// How far the checker goes, and what it may do.
#[derive(Debug, Clone, Copy)]
pub struct Protocol {
    /// The flaw.
    pub broken: Option<Broken>,
    /// What a failed sync leaves in the page cache.
    pub cache: Cache,
    /// What a power cut leaves of a slot.
    pub slots: Slots,
    /// Entries that are written at most.
    pub entries: u8,
    /// Batches of two entries are written, too.
    pub batches: bool,
    /// Watermarks that are written because the log is idle.
    pub marks: u8,
    /// Files that are made at most.
    pub files: u8,
    /// Crashes fall into the making of files, too.
    pub prepares: bool,
    /// Kills and power cuts.
    pub crashes: u8,
    /// Syncs that fail.
    pub failures: u8,
    /// What rots.
    pub rots: u8,
    /// Rotated segments are sealed.
    pub seals: bool,
    /// Sealed segments are retired.
    pub retires: bool,
    /// The log is closed, and opened again.
    pub closes: bool,
}

impl Protocol {
    /// A right protocol of one segment, in which nothing goes wrong.
    pub const fn new(entries: u8, cache: Cache) -> Self {
        Protocol {
            broken: None,
            cache,
            slots: Slots::Whole,
            entries,
            batches: false,
            marks: 0,
            files: 1,
            prepares: false,
            crashes: 0,
            failures: 0,
            rots: 0,
            seals: false,
            retires: false,
            closes: false,
        }
    }
}

/// Where the process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Not there.
    Off,
    /// Recovery writes.
    Opening,
    /// The log takes records.
    Running,
    /// A sync has failed.
    Failed,
    /// Nothing more is looked at.
    Over,
}

/// The segment that takes records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Active {
    number: u8,
    end: u8,
    epoch: u8,
    /// Behind the last record that is not a watermark.
    records_end: u8,
    has_records: bool,
}

/// A change of the manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Change {
    /// A segment exists.
    Last(u8),
    /// A segment is sealed, and W.
    Sealed(u8),
    /// The first live segment, and W.
    First(u8),
    /// Nothing above this one.
    DropTo(u8),
    /// W.
    Durable(Position),
    /// As it was.
    Same,
}

/// What the committer, the keeper and recovery do.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step {
    /// Syncs what was written into a segment before this block.
    SyncFile(u8, u8),
    /// Syncs the directory.
    SyncNames,
    /// Syncs the manifest.
    SyncSlots,
    /// Makes a file with a header.
    Create(u8),
    /// Writes the older slot.
    WriteSlot(Change),
    /// Removes a name.
    Unlink(u8),
    /// Writes a block.
    Write(Position, Block),
    /// Writes zeros where something stands behind the end.
    Erase(Position),
    /// Drops the pages of a segment.
    DropCache(u8),
    /// Drops the pages of the manifest.
    DropSlots,
    /// Writes the newest slot as it is.
    SlotAgain,
    /// Writes a block that is not seen any more.
    Restore(Position, Block),
    /// W has got there.
    Durable(Position),
    /// W has got to the tail.
    DurableTail,
    /// There is a segment to rotate to.
    Spare(u8),
    /// The oldest rotated segment is sealed.
    Sealed,
    /// Recovery is over.
    Opened,
    /// The log is closed.
    Closed,
}

impl Step {
    const fn waits(&self) -> bool {
        matches!(self, Step::SyncFile(..) | Step::SyncNames | Step::SyncSlots)
    }
}

/// Who takes steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Thread {
    /// Whoever leads a commit.
    Committer,
    /// The keeper, or recovery.
    Keeper,
}

/// A segment that takes no more records and is not sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rotated {
    number: u8,
    end: u8,
    epoch: u8,
}

/// What has rotted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rot {
    /// A record, to something bad or to zeros.
    Record(Position),
    /// A header.
    Header(u8),
    /// A slot.
    Slot(u8),
    /// A whole file.
    File(u8),
}

/// Everything there is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    disk: Disk,
    phase: Phase,
    active: Option<Active>,
    ended: Option<Position>,
    spare: Option<u8>,
    rotated: Vec<Rotated>,
    durable: Position,
    marked: Position,
    manifest: Slot,
    committer: Vec<Step>,
    keeper: Vec<Step>,
    found: Option<Box<Judgement>>,
    /// What was written and not given up, in order.
    log: Vec<Placed>,
    /// The last entry that was acknowledged.
    acknowledged: u8,
    /// The last entry that retention may have taken.
    retired: u8,
    /// The last entry of all.
    last_id: u8,
    draws: u8,
    marks: u8,
    crashes: u8,
    failures: u8,
    rots: u8,
    rot: Option<Rot>,
    verdict: Option<Verdict>,
}

/// What happens next.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    /// An entry is written, or a batch of two.
    Append(u8),
    /// A watermark is written because the log is idle.
    Mark,
    /// The log moves on to the spare.
    Rotate,
    /// Somebody leads a commit.
    Commit,
    /// The keeper makes a spare.
    Prepare,
    /// The keeper seals the oldest rotated segment.
    Seal,
    /// The keeper retires the oldest segment.
    Retire,
    /// The log is closed.
    Close,
    /// The next sync returns, and what follows is done.
    Go(Thread),
    /// The next sync fails, with these of what it was for on the disk.
    Fail(Thread, u32),
    /// The process is killed.
    Kill,
    /// The power is cut, and this is left.
    PowerCut(usize),
    /// Something rots while the machine is off.
    Rot(Rot, Block),
    /// The log is opened.
    Open,
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let disk = Disk::new(self.cache);
        let manifest = disk.slots()[1];
        vec![State {
            disk,
            phase: Phase::Running,
            active: None,
            ended: None,
            spare: Some(1),
            rotated: Vec::new(),
            durable: at(0, 0),
            marked: at(0, 0),
            manifest,
            committer: Vec::new(),
            keeper: Vec::new(),
            found: None,
            log: Vec::new(),
            acknowledged: 0,
            retired: 0,
            last_id: 0,
            draws: 0,
            marks: 0,
            crashes: 0,
            failures: 0,
            rots: 0,
            rot: None,
            verdict: None,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        match state.phase {
            Phase::Over => {}
            Phase::Off => {
                actions.push(Action::Open);
                if state.rots < self.rots && state.disk.is_settled() {
                    state.rots_to_come(actions);
                }
            }
            Phase::Opening | Phase::Failed | Phase::Running => {
                if state.phase == Phase::Running {
                    self.writes(state, actions);
                }
                if state.phase != Phase::Failed {
                    self.steps(state, actions);
                }
                if state.crashes < self.crashes {
                    actions.push(Action::Kill);
                    actions.extend((0..state.disk.power_cuts(self.slots)).map(Action::PowerCut));
                }
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Append(count) => state.append(count, self.broken),
            Action::Mark => state.mark(self.broken),
            Action::Rotate => state.rotate(),
            Action::Commit => state.commit(self.broken),
            Action::Prepare => state.prepare(self),
            Action::Seal => state.seal(self.broken),
            Action::Retire => state.retire(self.broken),
            Action::Close => state.close(),
            Action::Go(thread) => state.go(thread, self.cache),
            Action::Fail(thread, written) => state.fail(thread, written, self),
            Action::Kill => state.stop(),
            Action::PowerCut(choice) => {
                state.disk.power_cut(choice, self.slots);
                state.stop();
            }
            Action::Rot(rot, value) => state.decay(rot, value),
            Action::Open => state.open(self),
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        check::properties()
    }
}

impl Protocol {
    fn writes(&self, state: &State, actions: &mut Vec<Action>) {
        let marks = u8::from(state.durable > state.marked);
        // One block is kept for the footer.
        let room = state.active.map_or(0, |active| (BLOCKS - 1).saturating_sub(active.end + marks));
        let left = self.entries - state.last_id;
        if room >= 1 && left >= 1 {
            actions.push(Action::Append(1));
        }
        if room >= 2 && left >= 2 && self.batches {
            actions.push(Action::Append(2));
        }
        let is_mark_due =
            |active: Active| state.durable > state.marked && at(active.number, active.records_end) > state.marked;
        if state.marks < self.marks && room >= 1 && state.active.is_some_and(is_mark_due) {
            actions.push(Action::Mark);
        }
        if state.spare.is_some() && state.active.is_none_or(|active| active.has_records) && left >= 1 {
            actions.push(Action::Rotate);
        }
        if state.committer.is_empty() && state.tail() > state.durable {
            actions.push(Action::Commit);
        }
        if !state.keeper.is_empty() {
            return;
        }
        if state.spare.is_none() && state.disk.created() < self.files {
            actions.push(Action::Prepare);
        }
        if self.seals && !state.rotated.is_empty() {
            actions.push(Action::Seal);
        }
        if self.retires && state.may_retire(self.broken) {
            actions.push(Action::Retire);
        }
        let is_durable = state.tail() == state.durable && state.committer.is_empty();
        if self.closes && is_durable && state.crashes < self.crashes && state.manifest.durable != state.durable {
            actions.push(Action::Close);
        }
    }

    fn steps(&self, state: &State, actions: &mut Vec<Action>) {
        for (thread, steps) in [(Thread::Committer, &state.committer), (Thread::Keeper, &state.keeper)] {
            let Some(step) = steps.first() else { continue };
            actions.push(Action::Go(thread));
            if state.failures < self.failures {
                let waiting = match step {
                    Step::SyncFile(number, _) => state.disk.pending(*number),
                    Step::SyncSlots => 1,
                    _ => 0,
                };
                actions.extend((0..1 << waiting).map(|written| Action::Fail(thread, written)));
            }
        }
    }
}

fn record(epoch: u8, kind: Kind) -> Block {
    Block::Record { epoch, kind }
}
