//! The disk: what is durable on it, what may have reached it besides, and what each operation does to both.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::content::Content;

/// A file or a directory, whatever its names are. Numbers are never used again.
pub(super) type Node = usize;

/// The directory that all paths begin at.
pub(super) const ROOT: Node = 0;

/// What a node holds. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) enum Body {
    File(Arc<Content>),
    Dir(Arc<Dir>),
}

/// The names in a directory. A removed name stays as a slot without a node, so that an older operation on it, should it
/// reach the disk later, does not undo the younger.
pub(super) type Dir = BTreeMap<OsString, Slot>;

#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    /// One more than the operation that last wrote this slot; 0 if there was none.
    pub(super) stamp: usize,
    pub(super) node: Option<Node>,
}

/// One name set or removed.
#[derive(Debug, Clone)]
pub(super) struct Edit {
    pub(super) dir: Node,
    pub(super) name: OsString,
    pub(super) node: Option<Node>,
}

/// One line of the journal.
#[derive(Debug, Clone)]
pub(super) struct Op {
    pub(super) verb: &'static str,
    pub(super) path: Arc<Path>,
    pub(super) step: Step,
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.path.display())?;
        match &self.step {
            Step::Write { at, bytes, .. } => write!(f, " {at}+{}", bytes.len()),
            Step::Zero { from, to, .. } => write!(f, " {from}..{to}"),
            Step::Size { size, .. } => write!(f, " {size}"),
            _ => Ok(()),
        }
    }
}

/// What an operation does to the disk, sooner or later.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// `grows_to` is the size this write gave the file, if it extended it.
    Write {
        file: Node,
        at: u64,
        bytes: Arc<[u8]>,
        grows_to: Option<u64>,
    },
    /// Zeros in `from..to` and a size of at least `to`.
    Zero {
        file: Node,
        from: u64,
        to: u64,
    },
    /// A size, exactly or at least.
    Size {
        file: Node,
        size: u64,
        exact: bool,
    },
    /// Names changed together or not at all; durable when all of `dirs` were synced.
    Names {
        edits: Arc<[Edit]>,
        dirs: Vec<Node>,
        new_dir: Option<Node>,
    },
    /// A sync that was called when the journal had `covers` operations. It makes the names durable that were changed
    /// before operation `names`, whatever they are names of.
    Sync {
        file: Node,
        covers: usize,
        names: usize,
        result: SyncResult,
    },
    SyncDir {
        dir: Node,
        covers: usize,
        names: usize,
    },
}

/// What became of the data that a sync was called for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SyncResult {
    Written,
    /// The data were not written and count as clean: no later sync writes them.
    Dropped,
    /// The data were not written and wait for the next sync.
    Kept,
    /// The first half of each write is on the disk, and the rest counts as clean.
    Halved,
}

/// A change behind the journal's back, by a test: durable at once, before operation `at`.
#[derive(Debug, Clone)]
pub(super) struct Direct {
    pub(super) at: usize,
    pub(super) edit: Edit,
    /// The new body of the edit's node.
    pub(super) body: Option<Body>,
}

/// An operation whose effect is not durable yet.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    pub(super) op: usize,
    pub(super) path: Arc<Path>,
    pub(super) step: Step,
}

/// What the disk holds, and what may or may not have reached it besides.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    pub(super) nodes: Vec<Body>,
    /// In the order of the journal.
    pub(super) pending: Vec<Pending>,
    /// How many operations of the journal are behind this state.
    pub(super) op: usize,
    /// How many direct changes are.
    pub(super) direct: usize,
}

impl Disk {
    pub(super) fn new(nodes: Vec<Body>) -> Self {
        Self { nodes, pending: Vec::new(), op: 0, direct: 0 }
    }

    /// Sets the value of one slot, unless a younger operation did so before.
    fn apply_edit(&mut self, edit: &Edit, stamp: usize) {
        if let Some(Body::Dir(dir)) = self.nodes.get_mut(edit.dir) {
            let slot = Arc::make_mut(dir).entry(edit.name.clone()).or_insert(Slot { stamp: 0, node: None });
            if slot.stamp <= stamp {
                *slot = Slot { stamp, node: edit.node };
            }
        }
    }

    pub(super) fn apply_edits(&mut self, edits: &[Edit], op: usize) {
        edits.iter().for_each(|edit| self.apply_edit(edit, op + 1));
    }

    /// Changes the content of a file through `change`.
    pub(super) fn change(&mut self, file: Node, change: impl FnOnce(&mut Content)) {
        if let Some(Body::File(content)) = self.nodes.get_mut(file) {
            change(Arc::make_mut(content));
        }
    }

    /// Makes all of a pending operation durable.
    pub(super) fn settle(&mut self, pending: &Pending) {
        match &pending.step {
            Step::Names { edits, .. } => self.apply_edits(edits, pending.op),
            step => {
                if let Some(file) = pending.file() {
                    self.change(file, |content| change_content(content, step));
                }
            }
        }
    }

    fn settle_file(&mut self, file: Node, covers: usize) {
        let covered = |pending: &mut Pending| pending.op < covers && pending.file() == Some(file);
        let settled: Vec<_> = self.pending.extract_if(.., covered).collect();
        settled.iter().for_each(|pending| self.settle(pending));
    }

    /// Forgets the data written to `file`. Its size is metadata, which the failed write of the data does not touch.
    fn drop_data(&mut self, file: Node, covers: usize) {
        self.pending.retain_mut(|pending| {
            let Step::Write { file: of, grows_to, .. } = &pending.step else {
                return true;
            };
            if *of != file || pending.op >= covers {
                return true;
            }
            let Some(size) = *grows_to else { return false };
            pending.step = Step::Size { file, size, exact: false };
            true
        });
    }

    /// Makes the sizes of `file` durable, and the first sectors of what was written to it, about half of them.
    fn settle_half(&mut self, file: Node, covers: usize) {
        let covered = |pending: &mut Pending| pending.op < covers && pending.file() == Some(file);
        let settled: Vec<_> = self.pending.extract_if(.., covered).collect();
        for pending in &settled {
            match &pending.step {
                Step::Write { at, bytes, grows_to, .. } => {
                    let end = (at + bytes.len() as u64 / 2).next_multiple_of(512);
                    let half = end.saturating_sub(*at).min(bytes.len() as u64) as usize;
                    self.change(file, |content| {
                        content.extend(grows_to.unwrap_or(0));
                        content.write(*at, &bytes[..half]);
                    });
                }
                _ => self.settle(pending),
            }
        }
    }

    /// Makes all names durable that were changed before operation `before`.
    fn settle_names(&mut self, before: usize) {
        let covered = |pending: &mut Pending| pending.op < before && matches!(pending.step, Step::Names { .. });
        let settled: Vec<_> = self.pending.extract_if(.., covered).collect();
        settled.iter().for_each(|pending| self.settle(pending));
    }

    fn settle_dir(&mut self, dir: Node, covers: usize) {
        let covered = |pending: &mut Pending| match &mut pending.step {
            Step::Names { dirs, .. } if pending.op < covers => {
                dirs.retain(|waiting| *waiting != dir);
                dirs.is_empty()
            }
            _ => false,
        };
        let settled: Vec<_> = self.pending.extract_if(.., covered).collect();
        settled.iter().for_each(|pending| self.settle(pending));
    }

    pub(super) fn apply_direct(&mut self, direct: &Direct) {
        if let (Some(node), Some(body)) = (direct.edit.node, &direct.body) {
            self.ensure(node);
            self.nodes[node] = body.clone();
            self.pending.retain(|pending| pending.file() != Some(node));
        }
        self.apply_edit(&direct.edit, direct.at);
    }

    /// The size of a file on the disk.
    pub(super) fn size(&self, file: Node) -> u64 {
        match self.nodes.get(file) {
            Some(Body::File(content)) => content.size(),
            _ => 0,
        }
    }

    /// Makes room for `node`, as an empty file.
    fn ensure(&mut self, node: Node) {
        if self.nodes.len() <= node {
            self.nodes.resize_with(node + 1, || Body::File(Arc::default()));
        }
    }

    pub(super) fn execute(&mut self, op: &Op) {
        match &op.step {
            Step::Sync { file, covers, names, result: SyncResult::Written } => {
                self.settle_names(*names);
                self.settle_file(*file, *covers);
            }
            Step::Sync { file, covers, result: SyncResult::Dropped, .. } => self.drop_data(*file, *covers),
            Step::Sync { file, covers, result: SyncResult::Halved, .. } => self.settle_half(*file, *covers),
            Step::Sync { result: SyncResult::Kept, .. } => {}
            Step::SyncDir { dir, covers, names } => {
                self.settle_names(*names);
                self.settle_dir(*dir, *covers);
            }
            step => {
                if let Step::Names { edits, new_dir, .. } = step {
                    edits.iter().filter_map(|edit| edit.node).for_each(|node| self.ensure(node));
                    if let Some(dir) = *new_dir {
                        self.nodes[dir] = Body::Dir(Arc::default());
                    }
                }
                self.pending.push(Pending { op: self.op, path: Arc::clone(&op.path), step: step.clone() });
            }
        }
    }

    /// What the page cache shows of `file` when all its clean pages were forgotten.
    pub(super) fn dirty_view(&self, file: Node) -> Option<Arc<Content>> {
        let Some(Body::File(content)) = self.nodes.get(file) else {
            return None;
        };
        let mut view = Content::clone(content);
        for pending in self.pending.iter().filter(|pending| pending.file() == Some(file)) {
            change_content(&mut view, &pending.step);
        }
        Some(Arc::new(view))
    }
}

/// Applies what a step does to its file.
pub(super) fn change_content(content: &mut Content, step: &Step) {
    match step {
        Step::Write { at, bytes, .. } => content.write(*at, bytes),
        Step::Zero { from, to, .. } => content.zero(*from, *to),
        Step::Size { size, exact: true, .. } => content.set_size(*size),
        Step::Size { size, exact: false, .. } => content.extend(*size),
        Step::Names { .. } | Step::Sync { .. } | Step::SyncDir { .. } => {}
    }
}

impl Step {
    /// The file whose content this changes; none for names.
    pub(super) fn file(&self) -> Option<Node> {
        match *self {
            Step::Write { file, .. } | Step::Zero { file, .. } | Step::Size { file, .. } => Some(file),
            _ => None,
        }
    }
}

impl Pending {
    pub(super) fn file(&self) -> Option<Node> {
        self.step.file()
    }
}

/// Calls `visit` for each file under `dir`.
pub(super) fn walk(nodes: &[Body], dir: Node, path: &Path, visit: &mut dyn FnMut(PathBuf, Node, &Arc<Content>)) {
    let Some(Body::Dir(names)) = nodes.get(dir) else { return };
    for (name, slot) in names.iter() {
        let Some(node) = slot.node else { continue };
        match &nodes[node] {
            Body::File(content) => visit(path.join(name), node, content),
            Body::Dir(_) => walk(nodes, node, &path.join(name), visit),
        }
    }
}

pub(super) fn lookup(nodes: &[Body], dir: Node, name: &OsStr) -> Option<Node> {
    match nodes.get(dir) {
        Some(Body::Dir(names)) => names.get(name)?.node,
        _ => None,
    }
}
