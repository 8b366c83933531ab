//! What happens in a life, drawn by chance.

use std::time::Duration;

use casklog::SyncPolicy;
use casklog::fs::sim::{Fault, OpKind, Personality, SimFs};
use shuttle::rand::{Rng, thread_rng};

use crate::support::runner::{GROUPED, Setup};

/// Who is there beside the writers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Other {
    /// Gets, iterates and reads the log.
    Reader,
    /// Follows all there is.
    Mirror,
    /// The same, sleeping until there is more or the store is gone.
    Patient,
    /// Follows what is durable.
    DurableMirror,
    /// Takes what is left of a process that is killed.
    Killer,
    /// Syncs, rotates, writes metadata.
    Housekeeper,
}

/// How it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Closed when all is written.
    Close,
    /// Closed while others write.
    CloseMeanwhile,
    /// All handles dropped.
    Drop,
}

/// What is taken away. Not both: then a deletion might hit an index that was taken again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taking {
    Nothing,
    /// Deletions, unless retention frees indexes too, and truncations of the beginning.
    Before,
    /// Truncations of the end.
    After,
}

#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) setup: Setup,
    pub(crate) writers: u64,
    pub(crate) writes: u64,
    pub(crate) others: Vec<Other>,
    pub(crate) taking: Taking,
    pub(crate) end: End,
    /// Somebody listens to its events, and uses the store when he is told.
    pub(crate) listens: bool,
    /// The sync that fails, counted from the open.
    pub(crate) failing_sync: Option<u64>,
    pub(crate) personality: Personality,
}

fn one_of<T: Copy>(all: &[T]) -> T {
    all[thread_rng().gen_range(0..all.len())]
}

fn chance(percent: u32) -> bool {
    thread_rng().gen_ratio(percent, 100)
}

impl Plan {
    pub(crate) fn draw() -> Self {
        let periodic = SyncPolicy::Periodic { every: Duration::from_millis(2), entries: 3, bytes: 5_000 };
        let mut setup = Setup::new(one_of(&[GROUPED, GROUPED, SyncPolicy::Immediate, SyncPolicy::None, periodic]));
        setup.mapped = chance(40);
        setup.preallocate = chance(70);
        setup.segment_entries = Some(one_of(&[2, 3, 5]));
        setup.max_segments = chance(40).then(|| one_of(&[1, 2, 3]));
        let others =
            [Other::Reader, Other::Mirror, Other::Patient, Other::DurableMirror, Other::Killer, Other::Housekeeper];
        let others = (0..one_of(&[1, 1, 2])).map(|_| one_of(&others)).collect();
        Plan {
            setup,
            writers: one_of(&[2, 2, 3]),
            writes: one_of(&[3, 4, 6]),
            others,
            taking: one_of(&[Taking::Nothing, Taking::Before, Taking::After]),
            end: one_of(&[End::Close, End::CloseMeanwhile, End::Drop]),
            listens: chance(40),
            failing_sync: chance(15).then(|| thread_rng().gen_range(0..12)),
            personality: one_of(&[Personality::Posix, Personality::Posix, Personality::Ext4, Personality::Xfs]),
        }
    }

    /// The file system that the store is opened on.
    pub(crate) fn disk(&self) -> SimFs {
        let fs = SimFs::new();
        fs.set_personality(self.personality);
        fs
    }

    /// Orders what is to fail.
    pub(crate) fn arm(&self, fs: &SimFs) {
        if let Some(after) = self.failing_sync {
            fs.inject(Fault::new(OpKind::Sync, 5).nth(after + 1));
        }
    }

    pub(crate) fn has_truncations(&self) -> bool {
        self.taking != Taking::Nothing || self.setup.max_segments.is_some()
    }
}

/// A write of a life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Write {
    Append,
    AppendSynced,
    /// An entry of its own index and another, one batch.
    Batch,
    /// The same, waited for later.
    Submit,
    /// The same, and a callback when it is durable.
    SubmitAndTell,
    /// A batch that takes something away first.
    Take,
}

impl Write {
    pub(crate) fn draw(plan: &Plan) -> Self {
        match thread_rng().gen_range(0..10) {
            0..=1 => Write::Append,
            2..=3 => Write::AppendSynced,
            4..=5 => Write::Batch,
            6 => Write::Submit,
            7 => Write::SubmitAndTell,
            _ if plan.taking == Taking::Nothing => Write::Append,
            _ => Write::Take,
        }
    }
}
