//! Open files and regions of the simulation.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::disk::{self, Body, Node, Step, SyncResult};
use super::fault::OpKind;
use super::sync_failure::SyncFailure;
use super::{MutexGuard, SimFs, State};
use crate::fs::recent::RecentBlocks;
use crate::fs::{File, Placement, Region};
use crate::sync::thread;

const EROFS: i32 = 30;

/// An open file. It goes on after its last name was removed.
#[derive(Debug)]
pub(super) struct SimFile {
    fs: SimFs,
    node: Node,
    path: Arc<Path>,
    writable: bool,
}

impl SimFile {
    /// The caller has counted it in `open_files`.
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
        let (limit, errno) = state.size_limit(self.node);
        let fits = limit.saturating_sub(at).min(bytes.len() as u64) as usize;
        state.write(self, "write", &bytes[..fits], at);
        if fits == bytes.len() { Ok(()) } else { Err(io::Error::from_raw_os_error(errno)) }
    }

    /// Waits as long as a sync takes, outside of the lock.
    fn sync_delay(&self, state: MutexGuard<'_, State>) {
        let delay = state.sync_delay;
        drop(state);
        if !delay.is_zero() {
            thread::sleep(delay);
        }
    }
}

impl File for SimFile {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let mut state = self.fs.lock_state();
        let mut done = 0;
        loop {
            let length = match state.faults.check(OpKind::Read, &self.path) {
                Ok(short) => short.map_or(buf.len(), |bytes| buf.len().min(done + bytes)),
                Err(injected) => {
                    let end = buf.len().min(done + injected.bytes_first);
                    state.content(self.node)?.read(at + done as u64, &mut buf[done..end]);
                    return Err(injected.into());
                }
            };
            let read = state.content(self.node)?.read(at + done as u64, &mut buf[done..length]);
            done += read;
            if done < length || done == buf.len() {
                return Ok(done);
            }
        }
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.check_writable()?;
        let mut state = self.fs.lock_state();
        let mut done = 0;
        loop {
            let (left, at) = (&bytes[done..], at.checked_add(done as u64).ok_or(ErrorKind::InvalidInput)?);
            match state.faults.check(OpKind::Write, &self.path) {
                Ok(short) => {
                    let length = short.map_or(left.len(), |bytes| left.len().min(bytes));
                    self.write(&mut state, &left[..length], at)?;
                    done += length;
                }
                Err(injected) => {
                    self.write(&mut state, &left[..injected.bytes_first.min(left.len())], at)?;
                    return Err(injected.into());
                }
            }
            if done == bytes.len() {
                return Ok(());
            }
        }
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
        let (limit, errno) = state.size_limit(self.node);
        if size > limit {
            return Err(io::Error::from_raw_os_error(errno));
        }
        state.change_file(self, "set_size", Step::Size { file: self.node, size, exact: true });
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.fs.lock_state();
        let outcome = state.sync_outcome(self);
        let covers = state.journal.ops.len();
        let names = state.journal.names_synced_with(self.node, state.settings.personality);
        self.sync_delay(state);

        let mut state = self.fs.lock_state();
        let (verb, result) = match &outcome {
            Ok(result) => ("sync", *result),
            Err((result, _)) => ("failed sync", *result),
        };
        state.record(verb, &self.path, Step::Sync { file: self.node, covers, names, result });
        match outcome {
            Ok(_) => state.file_syncs += 1,
            Err((_, error)) => return Err(error),
        }
        Ok(())
    }

    fn drop_cache(&self, from: u64) {
        let mut state = self.fs.lock_state();
        if state.settings.drops_cache {
            state.drop_clean_pages(self.node, from);
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

impl Drop for SimFile {
    fn drop(&mut self) {
        self.fs.lock_state().open_files -= 1;
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
        let (limit, errno) = state.size_limit(file.node);
        if to > limit {
            return Err(io::Error::from_raw_os_error(errno));
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

    fn can_warm(&self) -> bool {
        self.placement == Placement::Mapped
    }

    /// All pages are there already. It takes as long as a sync, and what has to hold meanwhile is looked at.
    fn warm(&self, from: u64, to: u64) {
        assert!(to <= self.ready.load(Ordering::Acquire), "warmed what is not prepared");
        self.file.sync_delay(self.file.fs.lock_state());
        assert!(from >= self.placed_end.load(Ordering::Relaxed), "zeros over what was placed");
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
    /// What a sync that is called now does with the data, and its error.
    fn sync_outcome(&mut self, file: &SimFile) -> Result<SyncResult, (SyncResult, io::Error)> {
        let broken = self.faults.broken;
        match self.faults.check(OpKind::Sync, &file.path) {
            Ok(_) => match broken.and_then(|broken| broken.read_only_since()) {
                None => Ok(SyncResult::Written),
                Some(at) if self.journal.writes_since(at, file.node) => {
                    Err((SyncResult::Kept, io::Error::from_raw_os_error(EROFS)))
                }
                Some(_) => Ok(SyncResult::Kept),
            },
            Err(injected) if broken.is_some() => Err((SyncResult::Kept, injected.error)),
            Err(injected) => {
                let model = self.settings.sync_failure;
                let at = self.journal.ops.len();
                self.faults.broken = model.broken(at);
                if model == SyncFailure::PlacesNothing {
                    self.faults.unplaced = Some(at);
                }
                Err((model.result(), model.errno().map_or(injected.error, io::Error::from_raw_os_error)))
            }
        }
    }

    /// Shows of a file, from the page on in which `from` is, only what is in its place on the disk or still to be written
    /// there.
    pub(super) fn drop_clean_pages(&mut self, file: Node, from: u64) {
        let view = match self.faults.unplaced {
            None => self.journal.disk_before(self.journal.ops.len()).dirty_view(file),
            // What is written behind the failure finds its place.
            Some(at) => {
                let mut view = self.journal.disk_before(0).dirty_view(file).unwrap_or_default();
                let content = Arc::make_mut(&mut view);
                let since = self.journal.ops[at..].iter().filter(|op| op.step.file() == Some(file));
                since.for_each(|op| disk::change_content(content, &op.step));
                content.set_size(self.content(file).map_or(0, |content| content.size()));
                Some(view)
            }
        };
        let (Some(mut view), Body::File(seen)) = (view, &self.nodes[file]) else { return };
        Arc::make_mut(&mut view).take_pages_before(seen, from);
        self.nodes[file] = Body::File(view);
    }

    /// Writes `bytes`, all of them.
    pub(super) fn write(&mut self, to: &SimFile, verb: &'static str, bytes: &[u8], at: u64) {
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
