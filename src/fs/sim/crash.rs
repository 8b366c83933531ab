//! Power cuts: which pending changes reached the disk, and the file system that is found afterwards.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::SimFs;
use super::disk::{Body, Disk, Node, Slot, Step, change_content};
use super::sample::sample;

const SECTOR: u64 = 512;

/// Zeros written ahead reach the disk in pieces of this many bytes.
const ZERO_STEP: u64 = 1 << 20;

/// What a freshly allocated sector holds when its file's size reached the disk and its data did not.
const GARBAGE: u8 = 0xA5;

/// What becomes of one pending unit in a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fate {
    /// It did not reach the disk.
    Lost,
    /// It did.
    Kept,
    /// Its sector was allocated and holds 0xA5. Only data in a sector wholly behind the durable end of the file can
    /// meet this fate; for everything else it means [`Lost`](Self::Lost).
    Garbage,
}

impl From<bool> for Fate {
    fn from(kept: bool) -> Self {
        if kept { Self::Kept } else { Self::Lost }
    }
}

/// The smallest thing that a power cut takes or leaves.
#[derive(Debug, Clone)]
pub struct PendingUnit {
    /// The operation it belongs to; [`SimFs::op_name`] tells more.
    pub op: usize,
    /// The path that the operation was called with.
    pub path: Arc<Path>,
    /// What it changes.
    pub change: Change,
}

/// What a [`PendingUnit`] changes on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Data within one sector of 512 bytes.
    Data {
        /// The first byte.
        at: u64,
        /// How many bytes.
        length: usize,
    },
    /// Zeros written by the preparation of a region.
    Zeros {
        /// The first byte.
        from: u64,
        /// The byte behind the last.
        to: u64,
    },
    /// The size of a file.
    Size {
        /// The new size.
        size: u64,
    },
    /// A name created, renamed, linked or removed.
    Name,
}

impl fmt::Display for PendingUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "op {} {}", self.op, self.path.display())?;
        match &self.change {
            Change::Data { at, length } => write!(f, " {at}+{length}"),
            Change::Zeros { from, to } => write!(f, " zeros {from}..{to}"),
            Change::Size { size } => write!(f, " size {size}"),
            Change::Name => write!(f, " name"),
        }
    }
}

/// A unit, and where its bytes are.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) public: PendingUnit,
    /// The place in the disk's list of pending operations.
    pub(super) pending: usize,
    /// The file it changes, or the directory.
    pub(super) target: Node,
    /// Where its data begin among the bytes of the write.
    start: usize,
    /// Whether its sector lies behind the durable end of the file.
    pub(super) fresh: bool,
}

/// The disk at the moment of a power cut, with its pending units.
#[derive(Debug)]
pub(super) struct Cut {
    disk: Disk,
    pub(super) units: Vec<Unit>,
    op: usize,
}

impl Cut {
    pub(super) fn new(disk: Disk, op: usize) -> Self {
        let mut units = Vec::new();
        for (number, pending) in disk.pending.iter().enumerate() {
            let mut add = |target: Node, change: Change, start: usize, fresh: bool| {
                let public = PendingUnit { op: pending.op, path: Arc::clone(&pending.path), change };
                units.push(Unit { public, pending: number, target, start, fresh });
            };
            match &pending.step {
                Step::Write { file, at, bytes, grows_to } => {
                    if let Some(size) = *grows_to {
                        add(*file, Change::Size { size }, 0, false);
                    }
                    let end = at + bytes.len() as u64;
                    let durable = durable_size(&disk, *file);
                    for (from, to) in steps(*at, end, SECTOR) {
                        let change = Change::Data { at: from, length: (to - from) as usize };
                        add(*file, change, (from - at) as usize, from / SECTOR * SECTOR >= durable);
                    }
                }
                Step::Zero { file, from, to } => {
                    for (from, to) in steps(*from, *to, ZERO_STEP) {
                        add(*file, Change::Zeros { from, to }, 0, false);
                    }
                }
                Step::Size { file, size, .. } => add(*file, Change::Size { size: *size }, 0, false),
                Step::Names { edits, .. } => {
                    add(edits.last().map_or(0, |edit| edit.dir), Change::Name, 0, false);
                }
                Step::Sync { .. } | Step::SyncDir { .. } => {}
            }
        }
        Self { disk, units, op }
    }

    pub(super) fn public_units(&self) -> impl Iterator<Item = &PendingUnit> {
        self.units.iter().map(|unit| &unit.public)
    }

    /// The nodes of the disk that is found when the units met these fates.
    pub(super) fn nodes(&self, fates: &[Fate]) -> Vec<Body> {
        let mut disk = Disk::new(self.disk.nodes.clone());
        for (unit, fate) in self.units.iter().zip(fates) {
            match fate {
                Fate::Kept => self.keep(&mut disk, unit),
                Fate::Garbage if unit.fresh => spoil(&mut disk, unit),
                Fate::Lost | Fate::Garbage => {}
            }
        }
        disk.nodes.iter_mut().for_each(settle_names);
        disk.nodes
    }

    fn keep(&self, disk: &mut Disk, unit: &Unit) {
        let pending = &self.disk.pending[unit.pending];
        match (&pending.step, &unit.public.change) {
            (Step::Names { edits, .. }, _) => disk.apply_edits(edits, pending.op),
            (Step::Write { bytes, .. }, Change::Data { at, length }) => {
                disk.change(unit.target, |content| content.write(*at, &bytes[unit.start..unit.start + length]));
            }
            (Step::Write { .. }, Change::Size { size }) => {
                disk.change(unit.target, |content| content.extend(*size));
            }
            (Step::Zero { .. }, Change::Zeros { from, to }) => {
                disk.change(unit.target, |content| content.zero(*from, *to));
            }
            (step, _) => disk.change(unit.target, |content| change_content(content, step)),
        }
    }

    /// Says in words what was lost.
    pub(super) fn describe(&self, fates: &[Fate]) -> String {
        let mut words = format!("power cut before op {}", self.op);
        for (unit, fate) in self.units.iter().zip(fates) {
            match fate {
                Fate::Kept => {}
                Fate::Lost => words.push_str(&format!("; lost: {}", unit.public)),
                Fate::Garbage => words.push_str(&format!("; garbage: {}", unit.public)),
            }
        }
        words
    }
}

fn durable_size(disk: &Disk, file: Node) -> u64 {
    match disk.nodes.get(file) {
        Some(Body::File(content)) => content.size(),
        _ => 0,
    }
}

fn spoil(disk: &mut Disk, unit: &Unit) {
    if let Change::Data { at, length } = unit.public.change {
        let from = at / SECTOR * SECTOR;
        let garbage = [GARBAGE; SECTOR as usize];
        let length = (at - from) as usize + length;
        disk.change(unit.target, |content| content.write(from, &garbage[..length]));
    }
}

/// Forgets which operations made the names: to those who find the disk they were always there.
fn settle_names(body: &mut Body) {
    let Body::Dir(dir) = body else { return };
    if dir.values().any(|slot| slot.stamp > 0 || slot.node.is_none()) {
        let found = dir.iter().filter(|(_, slot)| slot.node.is_some());
        *dir = Arc::new(found.map(|(name, slot)| (name.clone(), Slot { stamp: 0, node: slot.node })).collect());
    }
}

/// Cuts `from..to` at the multiples of `step`.
fn steps(from: u64, to: u64, step: u64) -> impl Iterator<Item = (u64, u64)> {
    let mut at = from;
    std::iter::from_fn(move || {
        let piece = (at, to.min((at / step + 1) * step));
        at = piece.1;
        (piece.0 < piece.1).then_some(piece)
    })
}

/// The disks that may be found after a power cut; made by [`SimFs::crash_images`].
///
/// Each is built when it is asked for. [`SimFs::origin`] of an image says what it lost.
#[derive(Debug)]
pub struct CrashImages {
    of: SimFs,
    cut: Arc<Cut>,
    plans: Plans,
}

#[derive(Debug)]
enum Plans {
    /// Every subset, as the bits of a counter. From `spoiled` on, the bit above those of the units says that what is
    /// lost left garbage where it can.
    All {
        next: u64,
        spoiled: u64,
        count: u64,
    },
    Sampled(std::vec::IntoIter<Box<[Fate]>>),
}

impl CrashImages {
    pub(super) fn new(of: SimFs, cut: Arc<Cut>, limit: usize, seed: u64) -> Self {
        let plans = match 1_u64.checked_shl(cut.units.len() as u32) {
            Some(subsets) if subsets <= limit as u64 => {
                let spoils = cut.units.iter().any(|unit| unit.fresh) && 2 * subsets <= limit as u64;
                Plans::All { next: 0, spoiled: subsets, count: if spoils { 2 * subsets } else { subsets } }
            }
            _ => Plans::Sampled(sample(&cut.units, limit, seed).into_iter()),
        };
        Self { of, cut, plans }
    }

    /// Whether every subset of the pending units is among them.
    pub fn is_exhaustive(&self) -> bool {
        matches!(self.plans, Plans::All { .. })
    }
}

impl Iterator for CrashImages {
    type Item = SimFs;

    fn next(&mut self) -> Option<SimFs> {
        let fates = match &mut self.plans {
            Plans::Sampled(plans) => plans.next()?,
            Plans::All { next, spoiled, count } => {
                let subset = *next;
                if subset == *count {
                    return None;
                }
                *next += 1;
                let loss = if subset < *spoiled { Fate::Lost } else { Fate::Garbage };
                let fate = |unit| if subset >> unit & 1 == 1 { Fate::Kept } else { loss };
                (0..self.cut.units.len()).map(fate).collect()
            }
        };
        Some(self.of.found_after(&self.cut, fates))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = match &self.plans {
            Plans::All { next, count, .. } => (count - next) as usize,
            Plans::Sampled(plans) => plans.len(),
        };
        (left, Some(left))
    }
}

impl ExactSizeIterator for CrashImages {}
