//! What file systems promise beyond POSIX: which changes reach the disk only together or in order.

use std::collections::BTreeMap;

use super::crash::Unit;
use super::disk::{Disk, Node};
use super::fate::{Change, Fate};

/// How a file system orders what it writes. Each promises more than the one before it in this list of rules:
///
/// | | [`Posix`](Self::Posix) | [`Xfs`](Self::Xfs) | [`Ext4`](Self::Ext4) |
/// |---|---|---|---|
/// | names, cut and allocated sizes | any subset is lost | lost from one on, in the order of the calls | the same |
/// | a sync of a file that was created or got a new size since its last one | does nothing for names | makes names durable up to the last change of its own metadata | makes all names durable |
/// | a sync of a directory | its names | all names up to the last change in it | all names |
/// | space behind the durable end that was not written | zeros, garbage or stale bytes | zeros | zeros |
/// | a file that grows by writes | any sectors, any size | any sectors, holes are zeros | from its old end on, without holes |
///
/// What survives on POSIX survives on all of them; the others find code that relies on losing *more*, such as recovery
/// that takes a file's presence as a sign that an older one was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Personality {
    /// Nothing but what POSIX promises, with the freedom that the standard leaves.
    #[default]
    Posix,
    /// ext4 with `data=ordered`.
    Ext4,
    /// XFS.
    Xfs,
}

/// What a pending unit is to a journaling file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Data,
    /// The size that a write gave the file; it becomes durable when the data do.
    Growth,
    /// A name, or a size that was asked for: it is in the journal.
    Metadata,
}

impl Personality {
    /// Whether syncs make names durable that nobody asked about.
    pub(super) fn journals_names(self) -> bool {
        self != Personality::Posix
    }

    /// Changes `fates` to what this file system can leave.
    pub(super) fn restrict(self, disk: &Disk, units: &[Unit], fates: &mut [Fate]) {
        if self == Personality::Posix {
            return;
        }
        let mut is_behind_loss = false;
        for (unit, fate) in units.iter().zip(fates.iter_mut()) {
            if unit.role == Role::Metadata {
                is_behind_loss |= *fate == Fate::Lost;
                *fate = Fate::from(!is_behind_loss);
            }
            if matches!(fate, Fate::Garbage | Fate::Stale) {
                *fate = Fate::Lost;
            }
        }
        if self == Personality::Ext4 {
            grow_without_holes(disk, units, fates);
        }
    }
}

/// Loses what was written behind the end that a file has on the disk, if something in front of it was lost.
fn grow_without_holes(disk: &Disk, units: &[Unit], fates: &mut [Fate]) {
    let mut ends: BTreeMap<Node, u64> = BTreeMap::new();
    for (unit, fate) in units.iter().zip(fates.iter_mut()) {
        let (from, to) = match unit.public.change {
            Change::Data { at, length } => (at, at + length as u64),
            Change::Zeros { from, to } => (from, to),
            Change::Size { size } if unit.role == Role::Metadata => {
                if *fate == Fate::Kept {
                    ends.insert(unit.target, size);
                }
                continue;
            }
            // The data tell the size.
            Change::Size { .. } => {
                *fate = Fate::Lost;
                continue;
            }
            Change::Name => continue,
        };
        let end = ends.entry(unit.target).or_insert_with(|| disk.size(unit.target));
        if from > *end || (to > *end && *fate == Fate::Lost) {
            *fate = Fate::Lost;
        } else {
            *end = to.max(*end);
        }
    }
}
