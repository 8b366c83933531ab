//! Power cuts: which pending changes reached the disk, and the file system that is found afterwards.

use std::sync::Arc;

use super::disk::{Body, Disk, Node, Slot, Step, change_content};
use super::fate::{Change, Fate, PendingUnit};
use super::personality::{Personality, Role};

const SECTOR: u64 = 512;

/// Zeros written ahead reach the disk in pieces of this many bytes.
const ZERO_STEP: u64 = 1 << 20;

/// How much of zeros written ahead that were lost is garbage.
const SPOILED_ZEROS: u64 = 4 << 10;

/// What a freshly allocated sector holds when its file's size reached the disk and its data did not.
const GARBAGE: u8 = 0xA5;

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
    pub(super) role: Role,
}

/// The disk at the moment of a power cut, with its pending units.
#[derive(Debug)]
pub(super) struct Cut {
    disk: Disk,
    pub(super) units: Vec<Unit>,
    op: usize,
    personality: Personality,
    torn_block: Option<u64>,
}

impl Cut {
    pub(super) fn new(disk: Disk, op: usize, personality: Personality, torn_block: Option<u64>) -> Self {
        let mut units = Vec::new();
        for (number, pending) in disk.pending.iter().enumerate() {
            let mut add = |target: Node, change: Change, start: usize, fresh: bool, role: Role| {
                let public = PendingUnit { op: pending.op, path: Arc::clone(&pending.path), change };
                units.push(Unit { public, pending: number, target, start, fresh, role });
            };
            match &pending.step {
                Step::Write { file, at, bytes, grows_to } => {
                    if let Some(size) = *grows_to {
                        add(*file, Change::Size { size }, 0, false, Role::Growth);
                    }
                    let end = at + bytes.len() as u64;
                    let durable = disk.size(*file);
                    for (from, to) in steps(*at, end, SECTOR) {
                        let change = Change::Data { at: from, length: (to - from) as usize };
                        add(*file, change, (from - at) as usize, from / SECTOR * SECTOR >= durable, Role::Data);
                    }
                }
                Step::Zero { file, from, to } => {
                    let durable = disk.size(*file);
                    for (from, to) in steps(*from, *to, ZERO_STEP) {
                        add(*file, Change::Zeros { from, to }, 0, from >= durable, Role::Data);
                    }
                }
                Step::Size { file, size, .. } => add(*file, Change::Size { size: *size }, 0, false, Role::Metadata),
                Step::Names { edits, .. } => {
                    add(edits.last().map_or(0, |edit| edit.dir), Change::Name, 0, false, Role::Metadata);
                }
                Step::Sync { .. } | Step::SyncDir { .. } => {}
            }
        }
        Self { disk, units, op, personality, torn_block }
    }

    /// Whether some unit can leave garbage where nothing was written.
    pub(super) fn may_spoil(&self) -> bool {
        self.personality == Personality::Posix && self.units.iter().any(|unit| unit.fresh)
    }

    /// Whether a unit can spoil the block around it.
    pub(super) fn may_tear(&self) -> bool {
        self.torn_block.is_some()
    }

    /// Turns fates that cannot be into others that can: by what the units are, and by the personality.
    pub(super) fn make_lawful(&self, fates: &mut [Fate]) {
        for (unit, fate) in self.units.iter().zip(fates.iter_mut()) {
            let is_possible = match fate {
                Fate::Lost | Fate::Kept => true,
                Fate::Garbage | Fate::Stale => unit.fresh,
                Fate::Torn => self.may_tear() && matches!(unit.public.change, Change::Data { .. }),
            };
            if !is_possible {
                *fate = Fate::Lost;
            }
        }
        self.personality.restrict(&self.disk, &self.units, fates);
    }

    pub(super) fn public_units(&self) -> impl Iterator<Item = &PendingUnit> {
        self.units.iter().map(|unit| &unit.public)
    }

    /// The nodes of the disk that is found when the units met these fates, which are lawful.
    pub(super) fn nodes(&self, fates: &[Fate]) -> Vec<Body> {
        let mut disk = Disk::new(self.disk.nodes.clone());
        for (unit, fate) in self.units.iter().zip(fates) {
            match fate {
                Fate::Kept => self.keep(&mut disk, unit),
                Fate::Garbage | Fate::Stale => self.spoil(&mut disk, unit, *fate),
                Fate::Lost | Fate::Torn => {}
            }
        }
        // A torn block is the last that the device did to it.
        for (unit, fate) in self.units.iter().zip(fates) {
            if *fate == Fate::Torn {
                self.tear(&mut disk, unit);
            }
        }
        disk.nodes.iter_mut().for_each(settle_names);
        disk.nodes
    }

    fn spoil(&self, disk: &mut Disk, unit: &Unit, fate: Fate) {
        let (from, to) = match unit.public.change {
            Change::Data { at, length } => (at / SECTOR * SECTOR, at + length as u64),
            Change::Zeros { from, to } => (from, to.min(from + SPOILED_ZEROS)),
            Change::Size { .. } | Change::Name => return,
        };
        let mut bytes = vec![GARBAGE; (to - from) as usize];
        if fate == Fate::Stale {
            self.stale(unit.target, from, &mut bytes);
        }
        disk.change(unit.target, |content| content.write(from, &bytes));
    }

    /// What the youngest other file that has anything at `from` holds there.
    fn stale(&self, file: Node, from: u64, bytes: &mut [u8]) {
        let mut found = vec![0; bytes.len()];
        for body in self.disk.nodes[..file.min(self.disk.nodes.len())].iter().rev() {
            let Body::File(content) = body else { continue };
            found.fill(0);
            if content.read(from, &mut found) > 0 && found.iter().any(|&byte| byte != 0) {
                bytes.copy_from_slice(&found);
                return;
            }
        }
    }

    /// The block around the unit is garbage, as far as the file goes.
    fn tear(&self, disk: &mut Disk, unit: &Unit) {
        let (Change::Data { at, length }, Some(block)) = (&unit.public.change, self.torn_block) else { return };
        let (from, end) = (at / block * block, at + *length as u64);
        let to = end.next_multiple_of(block).min(disk.size(unit.target)).max(end);
        let garbage = vec![GARBAGE; (to - from) as usize];
        disk.change(unit.target, |content| content.write(from, &garbage));
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
                Fate::Stale => words.push_str(&format!("; stale: {}", unit.public)),
                Fate::Torn => words.push_str(&format!("; torn: {}", unit.public)),
            }
        }
        words
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
