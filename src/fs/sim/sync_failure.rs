//! What a failed sync does: to the data, to the page cache, and to the file system.

use super::disk::SyncResult;
use super::fault::OpKind;

const EIO: i32 = 5;
const EROFS: i32 = 30;

/// What a failed sync did to the data it was called for, and to what is done next.
///
/// Those that name a file system do what was measured on it, on Linux 6.18, by failing its device. In none of them does
/// the page cache show by itself that anything was lost: reads go on giving the new bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
#[non_exhaustive]
pub enum SyncFailure {
    /// ext4 with `data=ordered`, XFS and btrfs, where writing the data fails. They are not on the disk, and count as
    /// clean: the next sync succeeds without writing them, and [`drop_cache`](crate::fs::File::drop_cache) brings the
    /// old bytes back. A new size of the file stays pending, so that the lost bytes become zeros.
    #[default]
    Lies,
    /// As [`Lies`](Self::Lies), but the first sectors of each write, about half of them, are on the disk, and so is the
    /// size of the file.
    LiesInPart,
    /// The data wait for the next sync.
    KeepsPending,
    /// The data are on the disk all the same.
    Writes,
    /// ext4 with `data_err=abort`, where writing the data fails: as [`Lies`](Self::Lies), and from then on the file
    /// system is read-only: what changes something is EROFS, and so is a sync of a file that was written through a
    /// mapping afterwards; any other sync succeeds and does nothing.
    LiesThenReadOnly,
    /// ext4, where flushing the device fails: the data may or may not be on the disk, and the file system is read-only
    /// as above.
    FlushesNot,
    /// ext4 with `data=journal`: this sync and all later ones are EROFS, as is opening a file to write; the data may or
    /// may not be on the disk.
    AbortsJournal,
    /// ext4 with `data=journal`, where the journal is written and the places of the data are not, then or since the boot:
    /// the data of this sync are lost as with [`Lies`](Self::Lies); those of earlier syncs are durable, but a page that is
    /// dropped shows what stood in its place at the boot, until the power is cut and the journal is replayed.
    PlacesNothing,
    /// XFS, where flushing the device fails: the data may or may not be on the disk, and everything from then on is EIO.
    ShutsDown,
}

impl SyncFailure {
    /// All of them.
    pub const ALL: [SyncFailure; 9] = [
        SyncFailure::Lies,
        SyncFailure::LiesInPart,
        SyncFailure::KeepsPending,
        SyncFailure::Writes,
        SyncFailure::LiesThenReadOnly,
        SyncFailure::FlushesNot,
        SyncFailure::AbortsJournal,
        SyncFailure::PlacesNothing,
        SyncFailure::ShutsDown,
    ];

    pub(super) fn result(self) -> SyncResult {
        match self {
            SyncFailure::Lies | SyncFailure::LiesThenReadOnly | SyncFailure::PlacesNothing => SyncResult::Dropped,
            SyncFailure::LiesInPart => SyncResult::Halved,
            SyncFailure::Writes => SyncResult::Written,
            SyncFailure::KeepsPending | SyncFailure::FlushesNot => SyncResult::Kept,
            SyncFailure::AbortsJournal | SyncFailure::ShutsDown => SyncResult::Kept,
        }
    }

    /// The error of the failed sync, where it is not the one that was ordered.
    pub(super) fn errno(self) -> Option<i32> {
        (self == SyncFailure::AbortsJournal).then_some(EROFS)
    }

    /// What is left of the file system after operation `at`.
    pub(super) fn broken(self, at: usize) -> Option<Broken> {
        match self {
            SyncFailure::LiesThenReadOnly | SyncFailure::FlushesNot => Some(Broken::ReadOnly { at }),
            SyncFailure::AbortsJournal => Some(Broken::Aborted),
            SyncFailure::ShutsDown => Some(Broken::Dead),
            _ => None,
        }
    }
}

/// A file system that a failed sync has broken. Only a power cut mends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// Since operation `at`.
    ReadOnly {
        at: usize,
    },
    Aborted,
    Dead,
}

impl Broken {
    /// The error of a call that fails on it.
    pub(super) fn refuses(self, call: OpKind) -> Option<i32> {
        match (self, call) {
            (Broken::Dead, _) => Some(EIO),
            (_, OpKind::Read | OpKind::Size | OpKind::Open | OpKind::List) => None,
            (Broken::ReadOnly { .. }, OpKind::Sync | OpKind::SyncDir) => None,
            _ => Some(EROFS),
        }
    }

    /// The error of opening an existing file to write.
    pub(super) fn refuses_writers(self) -> i32 {
        if self == Broken::Dead { EIO } else { EROFS }
    }

    /// Since which operation what was stored through a mapping makes a sync fail.
    pub(super) fn read_only_since(self) -> Option<usize> {
        match self {
            Broken::ReadOnly { at } => Some(at),
            Broken::Aborted | Broken::Dead => None,
        }
    }
}
