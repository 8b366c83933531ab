//! The words for what a power cut takes and leaves.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// What becomes of one pending unit in a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fate {
    /// It did not reach the disk.
    Lost,
    /// It did.
    Kept,
    /// Its sector was allocated and holds 0xA5. Only data in a sector wholly behind the durable end of the file can
    /// meet this fate, and only where the [`Personality`](super::Personality) shows space that was never written; for
    /// everything else it means [`Lost`](Self::Lost). Of zeros written ahead the first 4 KiB are garbage.
    Garbage,
    /// As [`Garbage`](Self::Garbage), but the sector holds what an older file of this file system holds, or held when it
    /// was removed, in the same place: the space was its before. Where no file has anything there, it is 0xA5.
    Stale,
    /// The device was writing it when the power went, and did not keep what stood around it: the whole block is 0xA5,
    /// what was durable in it and what nobody wrote included. Only data can meet this fate, and only after
    /// [`SimFs::set_torn_block`](super::SimFs::set_torn_block); for everything else it means [`Lost`](Self::Lost).
    Torn,
}

impl From<bool> for Fate {
    fn from(kept: bool) -> Self {
        if kept { Self::Kept } else { Self::Lost }
    }
}

/// The smallest thing that a power cut takes or leaves.
#[derive(Debug, Clone)]
pub struct PendingUnit {
    /// The operation it belongs to; [`SimFs::op_name`](super::SimFs::op_name) tells more.
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
