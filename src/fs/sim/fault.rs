//! Failures to order.

use std::io;
use std::path::Path;

use super::sync_failure::Broken;

/// A kind of call that may fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OpKind {
    /// Every call that can fail at all.
    Any,
    /// Every call that changes or syncs something; on a file system that went read-only all of these fail.
    Change,
    /// [`File::read_at`](crate::fs::File::read_at) and [`File::map`](crate::fs::File::map).
    Read,
    /// [`File::write_at`](crate::fs::File::write_at), and placing into a region that is not mapped.
    Write,
    /// Preparing a region.
    Prepare,
    /// Cutting or extending a file.
    SetSize,
    /// Asking for the size of a file.
    Size,
    /// Syncing a file.
    Sync,
    /// Syncing a directory.
    SyncDir,
    /// Creating a file.
    Create,
    /// Opening an existing file.
    Open,
    /// Renaming a file.
    Rename,
    /// Making a hard link.
    Link,
    /// Making a file that shares the space of another.
    Reflink,
    /// Removing a name.
    Remove,
    /// Listing a directory.
    List,
    /// Creating one directory.
    CreateDir,
    /// Taking a lock.
    Lock,
}

impl OpKind {
    /// All kinds of single calls.
    pub const CALLS: [OpKind; 16] = [
        OpKind::Read,
        OpKind::Write,
        OpKind::Prepare,
        OpKind::SetSize,
        OpKind::Size,
        OpKind::Sync,
        OpKind::SyncDir,
        OpKind::Create,
        OpKind::Open,
        OpKind::Rename,
        OpKind::Link,
        OpKind::Reflink,
        OpKind::Remove,
        OpKind::List,
        OpKind::CreateDir,
        OpKind::Lock,
    ];

    fn matches(self, call: OpKind) -> bool {
        match self {
            OpKind::Any => true,
            OpKind::Change => !matches!(call, OpKind::Read | OpKind::Size | OpKind::Open | OpKind::List | OpKind::Lock),
            kind => kind == call,
        }
    }
}

/// An order to fail a call with an error of the operating system.
///
/// A failed call has no effect, but for a failed sync (see [`SyncFailure`](super::SyncFailure)) and for
/// [`after_bytes`](Self::after_bytes).
#[derive(Debug, Clone)]
pub struct Fault {
    kind: OpKind,
    /// The matching calls to let pass before.
    passes: u64,
    errno: i32,
    sticky: bool,
    path_part: Option<String>,
    bytes_first: usize,
    /// Not an error, but a transfer of so many bytes at most.
    short: Option<usize>,
}

impl Fault {
    /// Fails the next call of `kind`, once, with the error number `errno`.
    pub fn new(kind: OpKind, errno: i32) -> Self {
        Self { kind, passes: 0, errno, sticky: false, path_part: None, bytes_first: 0, short: None }
    }

    /// Lets the next read or write transfer no more than `bytes` bytes (one at least), which is no error: as
    /// [`File`](crate::fs::File) promises, the rest follows in a call of its own, which may fail, or be cut off by a
    /// power cut.
    pub fn short(kind: OpKind, bytes: usize) -> Self {
        Self { short: Some(bytes.max(1)), ..Self::new(kind, 0) }
    }

    /// Fails the `n`th matching call from now; 1 is the next.
    pub fn nth(mut self, n: u64) -> Self {
        self.passes = n.saturating_sub(1);
        self
    }

    /// Fails every matching call after the first failure too.
    pub fn sticky(mut self) -> Self {
        self.sticky = true;
        self
    }

    /// Matches only calls on paths that contain `part`.
    pub fn on(mut self, part: &str) -> Self {
        self.path_part = Some(part.to_owned());
        self
    }

    /// Lets a failing read or write transfer its first `bytes` bytes before.
    pub fn after_bytes(mut self, bytes: usize) -> Self {
        self.bytes_first = bytes;
        self
    }
}

/// The error of an injected fault, and how much of a write comes before it.
pub(super) struct Injected {
    pub(super) error: io::Error,
    pub(super) bytes_first: usize,
}

impl From<Injected> for io::Error {
    fn from(injected: Injected) -> Self {
        injected.error
    }
}

/// The faults that wait for their call.
#[derive(Debug, Default)]
pub(super) struct Faults {
    armed: Vec<Fault>,
    /// What a failed sync left of the file system.
    pub(super) broken: Option<Broken>,
    /// The operation before which nothing that was written since the boot is in its place, but in the journal only.
    pub(super) unplaced: Option<usize>,
    pub(super) calls: u64,
    pub(super) calls_by_kind: [u64; OpKind::CALLS.len()],
    pub(super) hits: u64,
}

impl Faults {
    pub(super) fn arm(&mut self, fault: Fault) {
        self.armed.push(fault);
    }

    pub(super) fn disarm(&mut self) {
        self.armed.clear();
    }

    /// Counts a call, and fails it if that was ordered. Else it says how many bytes the call may transfer, if not all.
    pub(super) fn check(&mut self, call: OpKind, path: &Path) -> Result<Option<usize>, Injected> {
        self.calls += 1;
        if let Some(kind) = OpKind::CALLS.iter().position(|kind| *kind == call) {
            self.calls_by_kind[kind] += 1;
        }
        if let Some(errno) = self.broken.and_then(|broken| broken.refuses(call)) {
            return Err(Injected { error: io::Error::from_raw_os_error(errno), bytes_first: 0 });
        }
        let mut hit = None;
        self.armed.retain_mut(|fault| {
            let path_matches = fault.path_part.as_ref().is_none_or(|part| path.to_string_lossy().contains(part));
            if hit.is_some() || !fault.kind.matches(call) || !path_matches {
                return true;
            }
            if fault.passes > 0 {
                fault.passes -= 1;
                return true;
            }
            hit = Some(fault.clone());
            fault.sticky
        });
        let Some(fault) = hit else { return Ok(None) };
        self.hits += 1;
        match fault.short {
            Some(bytes) => Ok(Some(bytes)),
            None => Err(Injected { error: io::Error::from_raw_os_error(fault.errno), bytes_first: fault.bytes_first }),
        }
    }
}
