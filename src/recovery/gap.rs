//! What an earlier repair gave up, as a record tells it.

use crate::error::{Error, Result};
use crate::format::{Framer, Gap};
use crate::segment::{DATA_START, Scanned};

use super::survey::Member;

/// A gap record, and the bytes that it stands for.
#[derive(Debug, Clone, Copy)]
pub(super) struct FoundGap {
    pub(super) from: u32,
    pub(super) to: u32,
    /// Nothing stands behind it in its segment.
    pub(super) is_rest: bool,
    pub(super) indexes: Option<(u64, u64)>,
}

impl FoundGap {
    /// `framer` is one of the segment: a gap that does not say where it ends, ends with its record.
    pub(super) fn new(member: &Member, scanned: &Scanned, framer: Framer) -> Result<Self> {
        let from = scanned.start;
        let malformed = || Error::damaged(&member.path, from.into(), "malformed gap");
        let gap = Gap::decode(&scanned.payload).map_err(|_| malformed())?;
        let own_end = || u32::try_from(framer.end(from.into(), scanned.payload.len() as u64)).ok();
        // The log goes on behind it, and never in a header.
        let to = gap.end.or_else(own_end).filter(|to| *to >= DATA_START).ok_or_else(malformed)?;
        Ok(FoundGap { from, to, is_rest: gap.end.is_some(), indexes: gap.indexes })
    }
}
