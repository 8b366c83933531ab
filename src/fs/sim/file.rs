//! Open files and regions of the simulation.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::MutexGuard;

use super::disk::{self, Body, Node, Step, SyncResult};
use super::fault::{OpKind, SyncFailure};
use super::{SimFs, State};
use crate::fs::recent::RecentBlocks;
use crate::fs::{File, Placement, Region};

const ENOSPC: i32 = 28;

/// An open file. It goes on after its last name was removed.
#[derive(Debug)]
pub(super) struct SimFile {
    fs: SimFs,
    node: Node,
    path: Arc<Path>,
    writable: bool,
}

impl SimFile {
    pub(super) fn new(fs: SimFs, node: Node, path: &Path, writable: bool) -> Self {
        Self { fs, node, path: Arc::from(path), writable }
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.writable { Ok(()) } else { Err(ErrorKind::PermissionDenied.into()) }
    }

    /// Writes what the disk has room for.
    fn write(&self, state: &mut State, bytes: &[u8], at: u64) -> io::Result<()> {
        let size = state.content(self.node)?.size();
        let end = at.checked_add(bytes.len() as u64).ok_or(ErrorKind::InvalidInput)?;
        if end <= size {
            state.write(self, "write", bytes, at);
            return Ok(());
        }
        let limit = state.size_limit(self.node);
        let fits = limit.saturating_sub(at).min(bytes.len() as u64) as usize;
        state.write(self, "write", &bytes[..fits], at);
        if fits == bytes.len() { Ok(()) } else { Err(io::Error::from_raw_os_error(ENOSPC)) }
    }

    /// Waits as long as a sync takes, outside of the lock.
    fn sync_delay(&self, state: MutexGuard<'_, State>) {
        let delay = state.sync_delay;
        drop(state);
        if !delay.is_zero() {
            std::thread::sleep(delay);
        }
    }
}

impl File for SimFile {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let mut state = self.fs.lock_state();
        state.faults.check(OpKind::Read, &self.path)?;
        Ok(state.content(self.node)?.read(at, buf))
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.check_writable()?;
        let mut state = self.fs.lock_state();
        if let Err(injected) = state.faults.check(OpKind::Write, &self.path) {
            let first = &bytes[..injected.bytes_first.min(bytes.len())];
            self.write(&mut state, first, at)?;
            return Err(injected.into());
        }
        self.write(&mut state, bytes, at)
    }

    fn size(&self) -> io::Result<u64> {
        let mut state = self.fs.lock_state();
        state.faults.check(OpKind::Size, &self.path)?;
        Ok(state.content(self.node)?.size())
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.check_writable()?;
        let mut state = self.fs.lock_state();
        state.faults.check(OpKind::SetSize, &self.path)?;
        if size > state.size_limit(self.node) {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        state.change_file(self, "set_size", Step::Size { file: self.node, size, exact: true });
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.fs.lock_state();
        let checked = state.faults.check(OpKind::Sync, &self.path);
        let covers = state.journal.ops.len();
        let model = state.settings.sync_failure;
        self.sync_delay(state);

        let mut state = self.fs.lock_state();
        let (verb, result) = match (&checked, model) {
            (Ok(()), _) => ("sync", SyncResult::Written),
            (Err(_), SyncFailure::Lies) => ("failed sync", SyncResult::Dropped),
            (Err(_), SyncFailure::KeepsPending) => ("failed sync", SyncResult::Kept),
            (Err(_), SyncFailure::Writes) => ("failed sync", SyncResult::Written),
        };
        state.record(verb, &self.path, Step::Sync { file: self.node, covers, result });
        checked?;
        state.file_syncs += 1;
        Ok(())
    }

    fn drop_cache(&self) {
        let mut state = self.fs.lock_state();
        if !state.settings.drops_cache {
            return;
        }
        let op = state.journal.ops.len();
        if let Some(view) = state.journal.disk_before(op).dirty_view(self.node) {
            state.nodes[self.node] = Body::File(view);
        }
    }

    fn region(self: Arc<Self>, placement: Placement, capacity: u64) -> io::Result<Arc<dyn Region>> {
        self.check_writable()?;
        Ok(Arc::new(SimRegion {
            file: self,
            placement,
            capacity,
            ready: AtomicU64::new(0),
            placed_end: AtomicU64::new(0),
            recent: RecentBlocks::default(),
        }))
    }

    fn map(self: Arc<Self>) -> io::Result<Bytes> {
        let mut state = self.fs.lock_state();
        state.faults.check(OpKind::Read, &self.path)?;
        Ok(state.content(self.node)?.to_bytes().into())
    }
}

/// A region, of whatever placement.
#[derive(Debug)]
struct SimRegion {
    file: Arc<SimFile>,
    placement: Placement,
    capacity: u64,
    /// The end of the space into which a mapping may store.
    ready: AtomicU64,
    /// Where the last place through a mapping ended.
    placed_end: AtomicU64,
    /// A mapped region has it too: what readers may ask for is the same.
    recent: RecentBlocks,
}

impl SimRegion {
    fn check_bounds(end: u64, limit: u64) -> io::Result<()> {
        if end <= limit { Ok(()) } else { Err(ErrorKind::InvalidInput.into()) }
    }
}

impl Region for SimRegion {
    fn prepare(&self, from: u64, to: u64) -> io::Result<()> {
        Self::check_bounds(to, self.capacity)?;
        if self.placement == Placement::Growing {
            return Ok(());
        }
        let file = &*self.file;
        let mut state = file.fs.lock_state();
        state.faults.check(OpKind::Prepare, &file.path)?;
        if to > state.size_limit(file.node) {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        if self.placement == Placement::Mapped {
            // Allocated space reads as zeros, whatever a power cut does: only the size is to be lost.
            if to > state.content(file.node)?.size() {
                state.change_file(file, "prepare", Step::Size { file: file.node, size: to, exact: false });
            }
            self.ready.fetch_max(to, Ordering::AcqRel);
        } else if from < to {
            state.change_file(file, "prepare", Step::Zero { file: file.node, from, to });
        }
        Ok(())
    }

    fn place(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let end = at.saturating_add(bytes.len() as u64);
        if self.placement != Placement::Mapped {
            Self::check_bounds(end, self.capacity)?;
            self.file.write_at(bytes, at)?;
            self.recent.keep(bytes, at);
            return Ok(());
        }
        Self::check_bounds(end, self.ready.load(Ordering::Acquire))?;
        let mut state = self.file.fs.lock_state();
        Self::check_bounds(self.placed_end.load(Ordering::Relaxed), at)?;
        assert!(end <= state.content(self.file.node)?.size(), "SIGBUS: a store behind the end of a mapped file");
        state.write(&self.file, "place", bytes, at);
        self.placed_end.store(end, Ordering::Relaxed);
        self.recent.keep(bytes, at);
        Ok(())
    }

    /// No call of the file system: it cannot fail, and nothing counts it.
    fn recent(&self, buf: &mut [u8], at: u64) -> bool {
        let is_held = self.recent.copy(buf, at);
        if is_held && self.placement == Placement::Mapped {
            let state = self.file.fs.lock_state();
            let size = state.content(self.file.node).map_or(0, |content| content.size());
            assert!(at + buf.len() as u64 <= size, "SIGBUS: a load behind the end of a mapped file");
        }
        is_held
    }
}

impl State {
    /// Writes `bytes`, all of them.
    fn write(&mut self, to: &SimFile, verb: &'static str, bytes: &[u8], at: u64) {
        if bytes.is_empty() {
            return;
        }
        let end = at + bytes.len() as u64;
        let grows_to = self.content(to.node).is_ok_and(|content| content.size() < end).then_some(end);
        self.change_file(to, verb, Step::Write { file: to.node, at, bytes: bytes.into(), grows_to });
    }

    /// Shows the running system what `step` does to its file, and puts it into the journal.
    fn change_file(&mut self, file: &SimFile, verb: &'static str, step: Step) {
        if let Body::File(content) = &mut self.nodes[file.node] {
            disk::change_content(Arc::make_mut(content), &step);
        }
        self.record(verb, &file.path, step);
    }
}
