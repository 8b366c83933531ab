//! Directories: the file system's side of the traits.

use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::disk::{self, Body, Edit, Node, Op, ROOT, Step};
use super::fault::OpKind;
use super::file::SimFile;
use super::{SimFs, State};
use crate::fs::{Access, DirEntry, File, Fs, Lock};

impl Fs for SimFs {
    /// Like the real one: a directory that is there but empty is synced in its parent as well.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let names = components(dir);
        let mut path = PathBuf::new();
        for name in names {
            let parent = path.clone();
            path.push(name);
            if self.lock_state().make_dir(&path)? {
                self.sync_dir(&parent)?;
            }
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let mut state = self.lock_state();
        state.faults.check(OpKind::List, dir)?;
        let node = state.find(dir)?;
        let Body::Dir(names) = &state.nodes[node] else {
            return Err(ErrorKind::NotADirectory.into());
        };
        let entry = |(name, slot): (&OsString, &disk::Slot)| {
            let is_file = matches!(state.nodes[slot.node?], Body::File(_));
            Some(DirEntry { name: name.clone(), is_file })
        };
        Ok(names.iter().filter_map(entry).collect())
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        let mut state = self.lock_state();
        let node = if access == Access::CreateNew {
            state.faults.check(OpKind::Create, path)?;
            state.create(path)?
        } else {
            state.faults.check(OpKind::Open, path)?;
            state.find(path)?
        };
        state.content(node)?;
        if let Some(broken) = state.faults.broken.filter(|_| access == Access::Write) {
            return Err(io::Error::from_raw_os_error(broken.refuses_writers()));
        }
        state.open_files += 1;
        Ok(Arc::new(SimFile::new(self.clone(), node, path, access != Access::Read)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock_state();
        state.faults.check(OpKind::Rename, from)?;
        let node = state.find(from)?;
        state.content(node)?;
        let ((from_dir, from_name), (to_dir, to_name)) = (state.parent(from)?, state.parent(to)?);
        if let Some(replaced) = disk::lookup(&state.nodes, to_dir, &to_name) {
            state.content(replaced)?;
            if replaced == node {
                // Two names of one file: POSIX does nothing.
                return Ok(());
            }
        }
        let removed = Edit { dir: from_dir, name: from_name, node: None };
        let added = Edit { dir: to_dir, name: to_name, node: Some(node) };
        state.change_names("rename", to, vec![removed, added], None);
        Ok(())
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock_state();
        state.faults.check(OpKind::Link, to)?;
        let node = state.find(from)?;
        state.content(node)?;
        let (dir, name) = state.new_name(to)?;
        state.change_names("link", to, vec![Edit { dir, name, node: Some(node) }], None);
        Ok(())
    }

    /// What is in the new file reaches the disk as if it had been written there.
    fn reflink(&self, from: &Path, to: &Path) -> io::Result<Arc<dyn File>> {
        let mut state = self.lock_state();
        state.faults.check(OpKind::Reflink, to)?;
        if !state.settings.reflinks {
            return Err(ErrorKind::Unsupported.into());
        }
        let node = state.find(from)?;
        let bytes = state.content(node)?.to_bytes();
        let size = bytes.len() as u64;
        // No space is taken, but the sizes of files are what is counted here.
        let (limit, errno) = state.size_limit(node);
        if limit - size < size {
            return Err(io::Error::from_raw_os_error(errno));
        }
        let node = state.create(to)?;
        state.open_files += 1;
        let file = Arc::new(SimFile::new(self.clone(), node, to, true));
        state.write(&file, "reflink", &bytes, 0);
        Ok(file)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock_state();
        state.faults.check(OpKind::Remove, path)?;
        let node = state.find(path)?;
        state.content(node)?;
        let (dir, name) = state.parent(path)?;
        state.change_names("remove", path, vec![Edit { dir, name, node: None }], None);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock_state();
        state.faults.check(OpKind::SyncDir, dir)?;
        let node = state.find(dir)?;
        if state.content(node).is_ok() {
            return Err(ErrorKind::NotADirectory.into());
        }
        let (covers, names) = match state.faults.broken {
            // A file system that went read-only writes nothing any more, and says nothing.
            Some(_) => (0, 0),
            None => (state.journal.ops.len(), state.journal.names_synced_with(node, state.settings.personality)),
        };
        state.record("sync_dir", &Arc::from(dir), Step::SyncDir { dir: node, covers, names });
        state.dir_syncs += 1;
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let mut state = self.lock_state();
        state.faults.check(OpKind::Lock, path)?;
        let node = match state.find(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => state.create(path)?,
            found => found?,
        };
        state.content(node)?;
        if !state.locked.insert(node) {
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(SimLock { fs: self.clone(), node }))
    }

    fn overwrites_in_place(&self, _: &Path) -> bool {
        self.lock_state().settings.overwrites_in_place
    }

    fn now(&self) -> SystemTime {
        self.lock_state().settings.now.unwrap_or_else(SystemTime::now)
    }
}

impl SimFs {
    /// Chooses whether files can share their space ([`reflink`](crate::fs::Fs::reflink); they cannot by default).
    pub fn set_reflinks(&self, shares: bool) {
        self.lock_state().settings.reflinks = shares;
    }
}

/// A held lock of the simulation.
#[derive(Debug)]
struct SimLock {
    fs: SimFs,
    node: Node,
}

impl Lock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.fs.lock_state().locked.remove(&self.node);
    }
}

/// The names on the way from the root.
pub(super) fn components(path: &Path) -> Vec<&OsStr> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name),
            Component::ParentDir => drop(names.pop()),
            Component::Prefix(_) | Component::RootDir | Component::CurDir => {}
        }
    }
    names
}

impl State {
    pub(super) fn find(&self, path: &Path) -> io::Result<Node> {
        let mut node = ROOT;
        for name in components(path) {
            if self.content(node).is_ok() {
                return Err(ErrorKind::NotADirectory.into());
            }
            node = disk::lookup(&self.nodes, node, name).ok_or(ErrorKind::NotFound)?;
        }
        Ok(node)
    }

    /// The directory that holds the name `path`, which need not exist, and that name.
    pub(super) fn parent(&self, path: &Path) -> io::Result<(Node, OsString)> {
        let names = components(path);
        let (name, dirs) = names.split_last().ok_or(ErrorKind::InvalidInput)?;
        let dir = self.find(&dirs.iter().collect::<PathBuf>())?;
        match &self.nodes[dir] {
            Body::Dir(_) => Ok((dir, (*name).to_owned())),
            Body::File(_) => Err(ErrorKind::NotADirectory.into()),
        }
    }

    /// As [`parent`](Self::parent), for a name that must not exist yet.
    fn new_name(&self, path: &Path) -> io::Result<(Node, OsString)> {
        let (dir, name) = self.parent(path)?;
        match disk::lookup(&self.nodes, dir, &name) {
            Some(_) => Err(ErrorKind::AlreadyExists.into()),
            None => Ok((dir, name)),
        }
    }

    fn create(&mut self, path: &Path) -> io::Result<Node> {
        let (dir, name) = self.new_name(path)?;
        self.nodes.push(Body::File(Arc::default()));
        let node = self.nodes.len() - 1;
        self.change_names("create", path, vec![Edit { dir, name, node: Some(node) }], None);
        Ok(node)
    }

    /// Makes one directory, if it is missing. Whether its parent must be synced.
    fn make_dir(&mut self, path: &Path) -> io::Result<bool> {
        match self.find(path) {
            Ok(node) => match &self.nodes[node] {
                Body::Dir(names) => Ok(names.is_empty()),
                Body::File(_) => Err(ErrorKind::NotADirectory.into()),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.faults.check(OpKind::CreateDir, path)?;
                let (dir, name) = self.new_name(path)?;
                self.nodes.push(Body::Dir(Arc::default()));
                let node = self.nodes.len() - 1;
                self.change_names("mkdir", path, vec![Edit { dir, name, node: Some(node) }], Some(node));
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }

    fn change_names(&mut self, verb: &'static str, path: &Path, edits: Vec<Edit>, new_dir: Option<Node>) {
        edits.iter().for_each(|edit| self.set_name(edit));
        let mut dirs: Vec<Node> = edits.iter().map(|edit| edit.dir).collect();
        dirs.dedup();
        self.record(verb, &Arc::from(path), Step::Names { edits: edits.into(), dirs, new_dir });
    }

    pub(super) fn record(&mut self, verb: &'static str, path: &Arc<Path>, step: Step) {
        self.journal.ops.push(Op { verb, path: Arc::clone(path), step });
    }
}
