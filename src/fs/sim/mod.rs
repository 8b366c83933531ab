//! A file system in memory that can tell what the disk holds after a power cut at any moment.
//!
//! [`SimFs`] keeps two things: what a running system sees (the page cache), and a journal of every operation that
//! changes or syncs something. From the journal the disk can be rebuilt as it stood before any operation, without
//! running the workload again; everything not yet synced by then is a list of [`PendingUnit`]s, each of which may have
//! reached the disk or not.
//!
//! # The model
//!
//! * Data are pending in units of one sector (512 bytes) of one write, until the file is synced. A sector is never
//!   torn and a rewritten sector keeps its unchanged bytes (powersafe overwrite). Units reach the disk in any
//!   combination; where two cover the same bytes the younger wins if it got there.
//! * A changed size is pending by itself. Data that reach the disk behind its end extend the file with zeros. A sector
//!   that is new to its file and was not written holds zeros, garbage, or what an older file left there ([`Fate`]).
//! * Names (create, rename, link, remove, mkdir) are pending until their directory is synced; a rename between two
//!   directories until both are. Syncing a file does nothing for its name. A rename is atomic. Any subset may be lost.
//! * Real file systems promise more, and a program may come to rely on it, or be hurt by it: see [`Personality`].
//! * Devices may promise less: see [`SimFs::set_torn_block`].
//! * A sync covers what was done before it was called. A failed sync behaves as [`SyncFailure`] says.
//! * Calls fail as [`Fault`] says; a full disk and a used-up quota fail what would grow a file.
//! * After a kill the page cache lives on ([`SimFs::killed`]); after a power cut only the disk does
//!   ([`SimFs::crash_at`], [`SimFs::crash_images`]).
//!
//! Paths begin at one root: `/log`, `log` and `./log` are the same directory.
//!
//! # Testing a program that keeps its state in a log
//!
//! Run it once on a [`SimFs`] ([`Options::fs`](crate::Options::fs), and
//! [`Options::background(false)`](crate::Options::background), so that each run is the same), and note [`SimFs::ops`] each
//! time it confirms something to somebody. Then, for each operation, open the program on each of the
//! [`SimFs::crash_images`] and compare: everything confirmed by then must be there, and nothing half. An image is a
//! [`SimFs`] like any other, so that recovery can be cut in turn. `examples/crash_test.rs` is such a test, of fifty lines.
//!
//! What this model does not have: torn sectors that keep half of what was written, reads that return other bytes than
//! were written (change bytes with [`SimFs::write_file`] for that), and two mounts of one disk.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use self::content::Content;
use self::crash::Cut;
use self::disk::{Body, Direct, Edit, Node, ROOT, Slot};
use self::fault::Faults;
use self::journal::Journal;
// In a model the disk is not one of those that meet: its lock would multiply their orders, and no thread stops under it.
#[cfg(casklog_loom)]
use parking_lot::{Mutex, MutexGuard};

#[cfg(not(casklog_loom))]
use crate::sync::{Mutex, MutexGuard};

mod content;
mod crash;
mod disk;
mod fate;
mod fault;
mod file;
mod images;
mod journal;
mod names;
mod personality;
mod sample;
mod sync_failure;
#[cfg(test)]
mod tests;

pub use self::fate::{Change, Fate, PendingUnit};
pub use self::fault::{Fault, OpKind};
pub use self::images::CrashImages;
pub use self::personality::Personality;
pub use self::sync_failure::SyncFailure;

const ENOSPC: i32 = 28;
const EDQUOT: i32 = 122;

/// The simulated file system. Clones are handles to the same one; threads may share it.
///
/// # Examples
///
/// What was synced survives, what was not may not:
///
/// ```
/// use std::path::Path;
///
/// use casklog::fs::sim::{Fate, SimFs};
/// use casklog::fs::{Access, Fs};
///
/// # fn main() -> std::io::Result<()> {
/// let fs = SimFs::new();
/// let path = Path::new("log/segment");
/// fs.create_dir_all(Path::new("log"))?;
/// let file = fs.open(path, Access::CreateNew)?;
/// file.write_at(b"first", 0)?;
/// file.sync()?;
/// fs.sync_dir(Path::new("log"))?;
/// file.write_at(b", second", 5)?;
///
/// let lost = fs.crash_at(fs.ops(), &mut |_| Fate::Lost);
/// assert_eq!(lost.read_file(path).unwrap(), b"first");
/// for found in fs.crash_images(fs.ops(), 100, 1) {
///     let bytes = found.read_file(path).unwrap();
///     assert!(bytes.starts_with(b"first"), "{}", found.origin());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct SimFs {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    /// What a running system sees, by node.
    nodes: Vec<Body>,
    journal: Journal,
    locked: HashSet<Node>,
    faults: Faults,
    settings: Settings,
    sync_delay: Duration,
    file_syncs: u64,
    dir_syncs: u64,
    open_files: u64,
    origin: Option<(Arc<Cut>, Box<[Fate]>)>,
}

/// What belongs to the disk and the kernel, and is the same after a crash.
#[derive(Debug, Clone, Copy)]
struct Settings {
    personality: Personality,
    torn_block: Option<u64>,
    capacity: Option<u64>,
    quota: Option<u64>,
    sync_failure: SyncFailure,
    drops_cache: bool,
    overwrites_in_place: bool,
    reflinks: bool,
    now: Option<SystemTime>,
}

impl Default for SimFs {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for SimFs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimFs").field("ops", &self.ops()).finish_non_exhaustive()
    }
}

impl SimFs {
    /// Makes an empty file system.
    pub fn new() -> Self {
        let settings = Settings {
            personality: Personality::default(),
            torn_block: None,
            capacity: None,
            quota: None,
            sync_failure: SyncFailure::default(),
            drops_cache: true,
            overwrites_in_place: true,
            reflinks: false,
            now: None,
        };
        let nodes = vec![Body::Dir(Arc::default())];
        Self::from_state(State::new(nodes.clone(), Journal::new(nodes), settings))
    }

    fn from_state(state: State) -> Self {
        Self { state: Arc::new(Mutex::new(state)) }
    }

    fn lock_state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// How many operations are in the journal. Reads, opening what exists and failed calls are not, but for failed
    /// syncs and for what a failed write left.
    pub fn ops(&self) -> usize {
        self.lock_state().journal.ops.len()
    }

    /// Operation `op` in words, such as `sync log/segment_1`; for messages.
    pub fn op_name(&self, op: usize) -> String {
        self.lock_state().journal.ops.get(op).map_or_else(|| "the end".to_owned(), ToString::to_string)
    }

    /// How many syncs of files succeeded.
    pub fn file_syncs(&self) -> u64 {
        self.lock_state().file_syncs
    }

    /// How many syncs of directories succeeded.
    pub fn dir_syncs(&self) -> u64 {
        self.lock_state().dir_syncs
    }

    /// How many calls were made that a [`Fault`] could have failed.
    pub fn calls(&self) -> u64 {
        self.lock_state().faults.calls
    }

    /// How many calls of one kind were made. [`OpKind::CALLS`] are the kinds that are counted.
    pub fn calls_of(&self, kind: OpKind) -> u64 {
        let place = OpKind::CALLS.iter().position(|other| *other == kind);
        place.map_or(0, |place| self.lock_state().faults.calls_by_kind[place])
    }

    /// How many files are open now: descriptors that nobody has dropped. Locks are not counted.
    pub fn open_files(&self) -> u64 {
        self.lock_state().open_files
    }

    /// How many calls a [`Fault`] failed or cut short. What fails because a failed sync broke the file system is not
    /// counted.
    pub fn faults_hit(&self) -> u64 {
        self.lock_state().faults.hits
    }

    /// Makes every sync of a file take this long. Nothing else waits for it.
    pub fn set_sync_delay(&self, delay: Duration) {
        self.lock_state().sync_delay = delay;
    }

    /// Orders a failure. Faults add up; where two match one call, the first ordered fails it and the other waits on.
    pub fn inject(&self, fault: Fault) {
        self.lock_state().faults.arm(fault);
    }

    /// Forgets all ordered failures. What a [`SyncFailure`] did to the file system stays, until the power is cut.
    pub fn clear_faults(&self) {
        self.lock_state().faults.disarm();
    }

    /// Chooses what failed syncs do from now on.
    pub fn set_sync_failure(&self, model: SyncFailure) {
        self.lock_state().settings.sync_failure = model;
    }

    /// Chooses which file system this is like.
    pub fn set_personality(&self, personality: Personality) {
        self.lock_state().settings.personality = personality;
    }

    /// Takes powersafe overwrite away: a write that a power cut interrupts may spoil all of the aligned block of so many
    /// bytes around it ([`Fate::Torn`]). None, and a sector keeps what is not being changed in it.
    ///
    /// # Panics
    ///
    /// Where the block is not a multiple of 512 bytes, or zero.
    pub fn set_torn_block(&self, bytes: Option<u64>) {
        assert!(bytes.is_none_or(|bytes| bytes > 0 && bytes % 512 == 0), "a block is a multiple of 512 bytes");
        self.lock_state().settings.torn_block = bytes;
    }

    /// Limits the sum of the sizes of all files; what would go beyond is ENOSPC. A write puts down what still fits.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock_state().settings.capacity = bytes;
    }

    /// As [`set_capacity`](Self::set_capacity), but the error is EDQUOT. Where both are reached it is ENOSPC.
    pub fn set_quota(&self, bytes: Option<u64>) {
        self.lock_state().settings.quota = bytes;
    }

    /// Takes all clean pages from the page cache, as the kernel does when memory is short.
    pub fn evict(&self) {
        let mut state = self.lock_state();
        (0..state.nodes.len()).for_each(|node| state.drop_clean_pages(node, 0));
    }

    /// The sum of the sizes of all files.
    pub fn used(&self) -> u64 {
        self.lock_state().used()
    }

    /// Chooses whether [`drop_cache`](crate::fs::File::drop_cache) does anything (it does by default).
    pub fn set_drops_cache(&self, drops: bool) {
        self.lock_state().settings.drops_cache = drops;
    }

    /// Chooses the answer of [`overwrites_in_place`](crate::fs::Fs::overwrites_in_place) (true by default).
    pub fn set_overwrites_in_place(&self, in_place: bool) {
        self.lock_state().settings.overwrites_in_place = in_place;
    }

    /// Sets the clock, which stands still until it is set again; none for the clock of the machine.
    pub fn set_now(&self, now: Option<SystemTime>) {
        self.lock_state().settings.now = now;
    }

    /// The units that were pending right before operation `op`.
    pub fn pending(&self, op: usize) -> Vec<PendingUnit> {
        self.cut(op).public_units().cloned().collect()
    }

    /// The file system that is found if the power goes right before operation `op` (after all of them, where `op` is
    /// [`ops`](Self::ops)) and each pending unit meets the fate that `fate` says.
    ///
    /// It has no locks, no faults and an empty journal. The capacity and the choices about disk and kernel stay. Where
    /// the personality cannot leave what `fate` says, more is lost.
    pub fn crash_at(&self, op: usize, fate: &mut dyn FnMut(&PendingUnit) -> Fate) -> SimFs {
        let cut = self.cut(op);
        let mut fates: Box<[Fate]> = cut.public_units().map(fate).collect();
        cut.make_lawful(&mut fates);
        self.found_after(&Arc::new(cut), fates)
    }

    /// The file systems that may be found if the power goes right before operation `op`.
    ///
    /// All subsets of the pending units, where there are not more than `limit` (and, as far as the limit lets, each with
    /// garbage in the new sectors that were lost, with stale bytes there, and with one block torn). Else `limit` or fewer
    /// different ones, the same for the same `seed`: all lost, all kept, garbage or stale bytes in all new sectors; single
    /// operations and files lost or kept alone, prefixes, torn operations and blocks; then subsets of operations, pages
    /// and sectors by chance. Those that the personality cannot leave are left out.
    pub fn crash_images(&self, op: usize, limit: usize, seed: u64) -> CrashImages {
        CrashImages::new(self.clone(), Arc::new(self.cut(op)), limit, seed)
    }

    fn cut(&self, op: usize) -> Cut {
        let mut state = self.lock_state();
        let op = op.min(state.journal.ops.len());
        let Settings { personality, torn_block, .. } = state.settings;
        Cut::new(state.journal.disk_before(op).clone(), op, personality, torn_block)
    }

    fn found_after(&self, cut: &Arc<Cut>, fates: Box<[Fate]>) -> SimFs {
        let nodes = cut.nodes(&fates);
        let settings = self.lock_state().settings;
        let mut state = State::new(nodes.clone(), Journal::new(nodes), settings);
        state.origin = Some((Arc::clone(cut), fates));
        Self::from_state(state)
    }

    /// The file system that the next process finds when this one is killed: the page cache with all that was written,
    /// no locks and no faults. Its journal goes on where this one is, so that what is pending stays pending.
    pub fn killed(&self) -> SimFs {
        let state = self.lock_state();
        let mut next = State::new(state.nodes.clone(), state.journal.clone(), state.settings);
        (next.faults.broken, next.faults.unplaced) = (state.faults.broken, state.faults.unplaced);
        Self::from_state(next)
    }

    /// Which power cut made this file system and what it lost, in words.
    pub fn origin(&self) -> String {
        match &self.lock_state().origin {
            Some((cut, fates)) => cut.describe(fates),
            None => "no power cut".to_owned(),
        }
    }

    /// The bytes of a file as a running system sees them; none where there is no such file.
    pub fn read_file(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.lock_state();
        let node = state.find(path).ok()?;
        state.content(node).ok().map(|content| content.to_bytes())
    }

    /// Puts a file there, durable at once and not in the journal. Missing directories are made.
    ///
    /// # Panics
    ///
    /// Where the path goes through a file or names a directory.
    pub fn write_file(&self, path: &Path, bytes: &[u8]) {
        let mut state = self.lock_state();
        let names = names::components(path);
        let Some((name, dirs)) = names.split_last() else { panic!("{} is a directory", path.display()) };
        let mut dir = ROOT;
        for name in dirs {
            dir = state.put(dir, name, || Body::Dir(Arc::default()), None);
            assert!(matches!(state.nodes[dir], Body::Dir(_)), "{} goes through a file", path.display());
        }
        let body = Body::File(Arc::new(Content::from_bytes(bytes)));
        let is_dir = disk::lookup(&state.nodes, dir, name).is_some_and(|node| state.content(node).is_err());
        assert!(!is_dir, "{} is a directory", path.display());
        state.put(dir, name, || body.clone(), Some(body.clone()));
    }

    /// Takes a file away, durable at once and not in the journal; returns whether it was there.
    pub fn remove_file(&self, path: &Path) -> bool {
        let mut state = self.lock_state();
        let Ok((dir, name)) = state.parent(path) else {
            return false;
        };
        let is_file = disk::lookup(&state.nodes, dir, &name).is_some_and(|node| state.content(node).is_ok());
        if is_file {
            state.set_name(&Edit { dir, name: name.clone(), node: None });
            state.record_direct(Edit { dir, name, node: None }, None);
        }
        is_file
    }

    /// The paths of all files, sorted, from the root on.
    pub fn list_all(&self) -> Vec<PathBuf> {
        self.lock_state().files().into_iter().map(|(path, _)| path).collect()
    }

    /// Whether both have the same files with the same bytes, as running systems see them.
    pub fn same_bytes(&self, other: &SimFs) -> bool {
        // One lock at a time: the two may be the same.
        let files = self.lock_state().files();
        files == other.lock_state().files()
    }
}

impl State {
    fn new(nodes: Vec<Body>, journal: Journal, settings: Settings) -> Self {
        Self {
            nodes,
            journal,
            locked: HashSet::new(),
            faults: Faults::default(),
            settings,
            sync_delay: Duration::ZERO,
            file_syncs: 0,
            dir_syncs: 0,
            open_files: 0,
            origin: None,
        }
    }

    fn content(&self, node: Node) -> io::Result<&Arc<Content>> {
        match &self.nodes[node] {
            Body::File(content) => Ok(content),
            Body::Dir(_) => Err(ErrorKind::IsADirectory.into()),
        }
    }

    fn files(&self) -> Vec<(PathBuf, Arc<Content>)> {
        let mut files = Vec::new();
        disk::walk(&self.nodes, ROOT, Path::new(""), &mut |path, _, content| files.push((path, Arc::clone(content))));
        files
    }

    /// Each file counts once, whatever its names; one without a name is gone.
    fn used(&self) -> u64 {
        let (mut used, mut seen) = (0, HashSet::new());
        disk::walk(&self.nodes, ROOT, Path::new(""), &mut |_, node, content| {
            if seen.insert(node) {
                used += content.size();
            }
        });
        used
    }

    /// How long a file may become, and the error of what would make it longer.
    fn size_limit(&self, file: Node) -> (u64, i32) {
        let Settings { capacity, quota, .. } = self.settings;
        let limits = [(capacity, ENOSPC), (quota, EDQUOT)];
        let limits = limits.into_iter().filter_map(|(limit, errno)| Some((limit?, errno)));
        let Some((limit, errno)) = limits.min() else { return (u64::MAX, ENOSPC) };
        let own = self.content(file).map_or(0, |content| content.size());
        (own + limit.saturating_sub(self.used()), errno)
    }

    fn set_name(&mut self, edit: &Edit) {
        let Body::Dir(dir) = &mut self.nodes[edit.dir] else {
            return;
        };
        let dir = Arc::make_mut(dir);
        match edit.node {
            Some(_) => dir.insert(edit.name.clone(), Slot { stamp: 0, node: edit.node }),
            None => dir.remove(&edit.name),
        };
    }

    fn record_direct(&mut self, edit: Edit, body: Option<Body>) {
        let at = self.journal.ops.len();
        self.journal.directs.push(Direct { at, edit, body });
    }

    /// Gives `name` a node, durable at once: what is there (with a new body if there is one), or a new one.
    fn put(&mut self, dir: Node, name: &OsStr, new: impl FnOnce() -> Body, body: Option<Body>) -> Node {
        let found = disk::lookup(&self.nodes, dir, name);
        let (node, body) = match found {
            Some(node) => (node, body),
            None => {
                self.nodes.push(new());
                let node = self.nodes.len() - 1;
                (node, Some(self.nodes[node].clone()))
            }
        };
        if let Some(body) = &body {
            self.nodes[node] = body.clone();
        }
        let edit = Edit { dir, name: name.to_owned(), node: Some(node) };
        self.set_name(&edit);
        self.record_direct(edit, body);
        node
    }
}
