//! All that was done to a file system, and the disk as it stood before any operation of it.

use super::disk::Body;
use super::disk::{Direct, Disk, Node, Op, Step, SyncResult};
use super::personality::Personality;

/// Everything that happened since the file system was made, and the states of the disk that were asked for before.
#[derive(Debug, Clone)]
pub(super) struct Journal {
    pub(super) ops: Vec<Op>,
    pub(super) directs: Vec<Direct>,
    /// States to start from, by rising operation: every [`CHECKPOINT_OPS`]th, so that going backwards is cheap too.
    checkpoints: Vec<Disk>,
    cursor: Disk,
}

const CHECKPOINT_OPS: usize = 16;

impl Journal {
    pub(super) fn new(nodes: Vec<Body>) -> Self {
        let disk = Disk::new(nodes);
        Self { ops: Vec::new(), directs: Vec::new(), checkpoints: vec![disk.clone()], cursor: disk }
    }

    /// Before which operation all names are durable after a sync of `node` now: as far as the journal of a file system
    /// must be written for it.
    pub(super) fn names_synced_with(&self, node: Node, personality: Personality) -> usize {
        if !personality.journals_names() {
            return 0;
        }
        for (number, op) in self.ops.iter().enumerate().rev() {
            let is_metadata_of_node = match &op.step {
                Step::Sync { file, result: SyncResult::Written, .. } if *file == node => return 0,
                Step::SyncDir { dir, .. } if *dir == node => return 0,
                Step::Size { file, .. } | Step::Write { file, grows_to: Some(_), .. } => *file == node,
                Step::Zero { file, .. } => *file == node,
                Step::Names { edits, .. } => edits.iter().any(|edit| edit.dir == node || edit.node == Some(node)),
                _ => false,
            };
            if is_metadata_of_node {
                return if personality == Personality::Ext4 { self.ops.len() } else { number + 1 };
            }
        }
        0
    }

    /// Whether anything was written to `node` since operation `at`.
    pub(super) fn writes_since(&self, at: usize, node: Node) -> bool {
        self.ops[at..].iter().any(|op| matches!(op.step, Step::Write { file, .. } if file == node))
    }

    /// The disk right before operation `op`.
    pub(super) fn disk_before(&mut self, op: usize) -> &Disk {
        let op = op.min(self.ops.len());
        let checkpoint = self.checkpoints.partition_point(|disk| disk.op <= op) - 1;
        if self.cursor.op > op || self.cursor.op < self.checkpoints[checkpoint].op {
            self.cursor = self.checkpoints[checkpoint].clone();
        }
        self.advance(op);
        &self.cursor
    }

    fn advance(&mut self, op: usize) {
        loop {
            while let Some(direct) = self.directs.get(self.cursor.direct)
                && direct.at <= self.cursor.op
            {
                self.cursor.apply_direct(direct);
                self.cursor.direct += 1;
            }
            if self.cursor.op == op {
                return;
            }
            self.cursor.execute(&self.ops[self.cursor.op]);
            self.cursor.op += 1;
            let last = self.checkpoints.last().map_or(0, |disk| disk.op);
            if self.cursor.op >= last + CHECKPOINT_OPS {
                self.checkpoints.push(self.cursor.clone());
            }
        }
    }
}
