//! Checkpoints: a consistent copy of a log that is being written to, in another directory.
//!
//! The copy is a log of its own, with the identity and the positions of this one. It ends at W as it was when the copy was
//! begun, and its manifest says so: it opens as one that was closed cleanly. Sealed segments are linked into it and take
//! no space; the records of the others are copied up to W.
//!
//! What stands in the directory, step by step, and what a crash leaves:
//!
//! 1. The lock of the copy is taken, so that nobody writes to it meanwhile. *What was there.*
//! 2. It is looked at: nothing, an older checkpoint of this log, or what a checkpoint that was interrupted has left. All
//!    else is refused. *What was there.*
//! 3. Where there was nothing, the log is marked as unfinished, durably: from here on it opens with an error that says
//!    so, and not as a log that is empty or has holes. *Nothing, or an unfinished log.*
//! 4. Segments that are new or changed are linked or copied under names that mean nothing to a log, and synced. *What step
//!    3 left: the older checkpoint is untouched and opens. A rerun removes these names.*
//! 5. An older checkpoint is marked as unfinished, durably. *It or an unfinished log. From here on all takes
//!    milliseconds.* What the manifest will say is put into a file of its own, synced, name and all: by it the next run knows
//!    that nobody has written since. This is the last step that needs space, and that is taken back if it fails.
//! 6. The new files are renamed to their own names, the directory is synced; both slots of the manifest say where the
//!    log begins and ends, each synced; segments that retention has removed from the source are removed, the directory is
//!    synced. *An unfinished log.* A rerun does not trust what it finds, and makes anew what is not as it should be.
//! 7. The mark goes, and the directory is synced. *An unfinished log, whose rerun finds nothing to do, or the newer
//!    checkpoint.*
//!
//! A file that two logs share is never written to: see `Part::Sealed` for which those are, and why neither log ever
//! does.

#![deny(clippy::unwrap_used, clippy::expect_used)]

mod plan;
mod stage;
mod target;

use std::path::Path;

use crate::error::{Error, Result};
use crate::format::Manifest;
use crate::fs::Lock;
use crate::log::{Dir, View};
use crate::options::Options;
use crate::position::Position;
use crate::recovery::lock;

use plan::Plan;
use stage::Stage;
use target::Found;

/// How much is copied or compared at once.
const COPY_BYTES: usize = 1 << 20;

/// How often a checkpoint is begun at most where retention takes segments before they are copied.
const ATTEMPTS: u32 = 10;

/// How often something of a log that another process writes is damaged before that is believed.
const DAMAGED: u32 = 3;

/// What [`Reader::checkpoint`](crate::Reader::checkpoint) has made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checkpoint {
    /// Everything before this position is in it, and nothing else. `Position::default()` where nothing of the log was
    /// durable: then nothing was made.
    pub end: Position,
    /// Segments it consists of.
    pub segments: u64,
    /// Of these: new, and a second name of the file in the log.
    pub linked: u64,
    /// New, and sharing their space with the file in the log.
    pub reflinked: u64,
    /// Copied, because they were not sealed, or could not be shared.
    pub copied: u64,
    /// There from the checkpoint before.
    pub kept: u64,
    /// Removed from the checkpoint before: the log has them no longer.
    pub removed: u64,
    /// Bytes that were copied.
    pub copied_bytes: u64,
}

/// See [`Reader::checkpoint`](crate::Reader::checkpoint).
pub(crate) fn checkpoint(view: &View, to: &Path) -> Result<Checkpoint> {
    let mut options = view.options.clone();
    (options.dir, options.create, options.allow_read_only) = (to.to_owned(), true, false);
    let dir = Dir::new(&options);
    let mut work: Option<Work<'_>> = None;
    for attempt in 1.. {
        view.check_open()?;
        view.refresh()?;
        let outcome = target::copied(&dir).and_then(|copied| Plan::new(view, copied)).and_then(|plan| {
            let Some(plan) = plan else { return Ok(Checkpoint::default()) };
            let work = match &mut work {
                Some(work) => work,
                None => work.insert(Work::begin(&options, &dir)?),
            };
            work.run(view, &plan)
        });
        let has_moved_on = outcome.as_ref().is_err_and(|error| has_moved_on(view, error, attempt));
        match outcome {
            Err(error) if has_moved_on && attempt < ATTEMPTS => {
                tracing::info!(%error, attempt, "the log has moved on; the checkpoint begins anew");
            }
            Err(error) => {
                work.iter_mut().for_each(Work::give_up);
                return Err(if has_moved_on { view.removed() } else { error });
            }
            Ok(made) => {
                tracing::info!(end = %made.end, copied = made.copied_bytes, to = %to.display(), "made a checkpoint");
                return Ok(made);
            }
        }
    }
    unreachable!("the last attempt returns")
}

/// Whether an error comes from a segment that retention has removed, or of which a writer in another process has made
/// another since it was looked at. What is damaged again and again is damaged.
fn has_moved_on(view: &View, error: &Error, attempt: u32) -> bool {
    match error {
        Error::Missing { path } if view.foreign.is_none() => {
            let number = path.file_name().and_then(|name| view.dir.names.parse_segment(name));
            number.is_some_and(|number| view.index.table().row(number.into()).is_none())
        }
        Error::Missing { .. } => view.is_doubtful(error),
        Error::Damaged { .. } => attempt < DAMAGED && view.is_doubtful(error),
        _ => false,
    }
}

/// A checkpoint that is being made, from the moment on in which its lock is held.
struct Work<'a> {
    dir: &'a Dir,
    stage: Stage<'a>,
    /// There was nothing: all that is there by now was made here.
    is_first: bool,
    /// A mark was put there.
    is_marked: bool,
    /// Files that others take for the log were changed.
    is_switched: bool,
    _lock: Box<dyn Lock>,
}

impl<'a> Work<'a> {
    fn begin(options: &Options, dir: &'a Dir) -> Result<Self> {
        let lock = lock(options, dir)?;
        Ok(Work { dir, stage: Stage::new(dir)?, is_first: false, is_marked: false, is_switched: false, _lock: lock })
    }

    fn run(&mut self, view: &View, plan: &Plan) -> Result<Checkpoint> {
        let mark = format!("Reader::checkpoint (casklog checkpoint) of log {:032x}", plan.log_id);
        let dir = self.dir;
        let found = target::look(dir, plan, &mark)?;
        let before = found.manifest();
        if found == Found::Nothing {
            self.is_first = true;
            self.mark(&mark)?;
        }
        let kept = target::kept(dir, plan, &found)?;
        let is_new = |number: u32| plan.piece(number).is_some() && !kept.contains(&number);
        self.stage.retain(is_new)?;
        let mut made = Checkpoint { end: plan.end, segments: plan.pieces.len() as u64, ..Checkpoint::default() };
        made.kept = kept.len() as u64;
        for piece in plan.pieces.iter().filter(|piece| is_new(piece.segment.number)) {
            view.check_open()?;
            self.stage.make(piece)?;
        }
        self.stage.count(&mut made);
        let gone: Vec<u32> = dir.list_segments()?.into_iter().filter(|number| plan.piece(*number).is_none()).collect();
        made.removed = gone.len() as u64;
        if let Some(manifest) = before {
            dir.manifest.lock().now = manifest;
        }
        let now = plan.manifest(dir.manifest.lock().now);
        let is_same = matches!(found, Found::Older(before) if Manifest { next: before.next, ..now } == before);
        if is_same && gone.is_empty() && self.stage.numbers().next().is_none() {
            return Ok(made);
        }
        if matches!(found, Found::Older(_)) {
            self.mark(&mark)?;
        }
        let signed = dir.sign_checkpoint(&Manifest { generation: now.generation + 2, ..now });
        // Where the disk is full it has changed nothing.
        self.is_switched = !matches!(signed, Err(Error::NoSpace { .. }));
        signed?;
        self.switch(now, &gone)?;
        Ok(made)
    }

    fn mark(&mut self, mark: &str) -> Result<()> {
        self.is_marked = true;
        self.dir.mark(mark)
    }

    /// Steps 6 and 7.
    fn switch(&mut self, now: Manifest, gone: &[u32]) -> Result<()> {
        let dir = self.dir;
        for number in self.stage.numbers() {
            let (from, to) = (self.stage.path(number), dir.segment_path(number));
            dir.fs.rename(&from, &to).map_err(|e| Error::io("rename", &from, e))?;
        }
        dir.sync_dir()?;
        dir.update_manifest_twice(|manifest| *manifest = Manifest { generation: manifest.generation, ..now })?;
        dir.unlink(gone.iter().copied())?;
        dir.unmark()?;
        dir.close_files();
        Ok(())
    }

    /// Behind an error: takes away what means nothing, as far as that is possible, and leaves what was there.
    fn give_up(&mut self) {
        if self.is_first {
            self.stage.discard();
            // Without a mark nothing was made, or all is.
            if let Ok(Some(_)) = self.dir.read_mark() {
                let _ = self.dir.clear().and_then(|()| self.dir.unmark());
            }
        } else if !self.is_switched {
            self.stage.discard();
            if self.is_marked {
                let _ = self.dir.unmark();
            }
        }
    }
}
