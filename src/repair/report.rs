//! What a repair found, kept and gave up.

use std::fmt;
use std::path::PathBuf;

use crate::position::Position;

/// What a repair did, or a dry run would have done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RepairReport {
    /// Nothing was changed.
    pub is_dry_run: bool,
    /// The segments that were damaged, ascending. None: the log is whole.
    pub segments: Vec<RepairedSegment>,
    /// Indexes of entries that were deleted and are there again, because their deletion is lost. As far as that can be
    /// told: only a sealed segment says in a second place what was deleted in it.
    pub returned: Vec<u64>,
    /// Indexes that came twice, because what had freed them is lost: of each time the first. Older entries above it, which
    /// were gone then, too, are gone.
    pub taken_again: Vec<TakenAgain>,
    /// The file in quarantine that says what was done, and by which it can be undone.
    pub record: Option<PathBuf>,
    /// The record of an earlier run that was interrupted and is completed now. It says what that one found; this report
    /// says what was damaged besides.
    pub completed: Option<PathBuf>,
}

/// A segment that was damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RepairedSegment {
    /// Its file.
    pub path: PathBuf,
    /// Its number.
    pub number: u64,
    /// What had happened to it; to the first damaged bytes, where it could be used but for those.
    pub cause: Cause,
    /// First and last index of each range that was kept of it, ascending; none where nothing could be read.
    pub kept: Vec<(u64, u64)>,
    /// What was given up, in the order of the file.
    pub lost: Vec<LostBytes>,
}

/// Bytes of a segment that are given up.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LostBytes {
    /// From and up to. Records are lost whole: the damage itself may be smaller. Up to where the segment was known to reach,
    /// where its file ends before.
    pub bytes: (u64, u64),
    /// What happened to them, by what is there.
    pub cause: Cause,
    /// First and last index of each range that stood there. None may be: the bytes held no entry.
    pub indexes: Vec<(u64, u64)>,
    /// Whether exactly these stood there. Else they are what the neighbours leave room for.
    pub is_exact: bool,
}

/// What happened to lost bytes, by what is there now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// The file ends before them.
    Torn,
    /// They are zeros.
    Zeroed,
    /// They are something else than what was written.
    BitRot,
    /// There is no such file.
    MissingFile,
    /// The file is another segment of this log.
    SwappedFile,
    /// The file is a segment of another log.
    ForeignFile,
}

/// An index that two entries have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct TakenAgain {
    /// The index.
    pub index: u64,
    /// The segment of the older entry, which cannot be reached any more.
    pub older_segment: u64,
    /// The later entry, which counts.
    pub newer: Position,
}

impl RepairReport {
    /// Whether the log was damaged.
    pub fn is_damaged(&self) -> bool {
        !self.segments.is_empty()
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cause::Torn => "torn",
            Cause::Zeroed => "zeroed",
            Cause::BitRot => "bit rot",
            Cause::MissingFile => "missing file",
            Cause::SwappedFile => "swapped file",
            Cause::ForeignFile => "foreign file",
        })
    }
}

impl fmt::Display for LostBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LostBytes { bytes: (from, to), cause, indexes, is_exact } = self;
        write!(f, "bytes {from} to {to} ({cause})")?;
        match (indexes.is_empty(), is_exact) {
            (true, true) => f.write_str(", no entry"),
            (true, false) => f.write_str(", entries unknown"),
            (false, _) => {
                let is_one = matches!(indexes[..], [(first, last)] if first == last);
                f.write_str(match (is_one, is_exact) {
                    (true, true) => ", index",
                    (true, false) => ", perhaps index",
                    (false, true) => ", indexes",
                    (false, false) => ", indexes among",
                })?;
                indexes.iter().enumerate().try_for_each(|(place, (first, last))| {
                    f.write_str(if place == 0 { " " } else { ", " })?;
                    if first == last { write!(f, "{first}") } else { write!(f, "{first} to {last}") }
                })
            }
        }
    }
}
