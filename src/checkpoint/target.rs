//! What is in the directory that a checkpoint is made in, and whether it may be changed.

use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::Manifest;
use crate::fs::{Access, File};
use crate::log::Dir;
use crate::segment::{Segment, Window, read_header};

use super::COPY_BYTES;
use super::plan::{Part, Piece, Plan};

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// No log of this prefix.
    Nothing,
    /// What a checkpoint of this log that was interrupted has left, whatever its manifest says.
    Unfinished(Option<Manifest>),
    /// An older checkpoint of this log, and its manifest.
    Older(Manifest),
}

impl Found {
    pub(super) fn manifest(&self) -> Option<Manifest> {
        match self {
            Found::Nothing => None,
            Found::Unfinished(manifest) => *manifest,
            Found::Older(manifest) => Some(*manifest),
        }
    }
}

/// What the manifest says of a copy, finished or not: what is durable in it is so in the log.
pub(super) fn copied(dir: &Dir) -> Result<Option<Manifest>> {
    match dir.read_mark()? {
        Some(_) => Ok(dir.read_manifest()?.and_then(|slots| slots.first().copied())),
        None => signed(dir),
    }
}

/// The same of one that is finished, and that nobody has written to.
fn signed(dir: &Dir) -> Result<Option<Manifest>> {
    let manifest = dir.read_manifest()?.and_then(|slots| slots.first().copied());
    Ok(if manifest.is_some() { dir.read_checkpoint()?.filter(|signed| Some(*signed) == manifest) } else { None })
}

/// Looks at the directory, whose lock is held. Changes nothing.
///
/// # Errors
/// [`Error::NotACheckpoint`]; [`Error::Unfinished`] of another call than `mark`; I/O errors.
pub(super) fn look(dir: &Dir, plan: &Plan, mark: &str) -> Result<Found> {
    let slots = dir.read_manifest()?;
    let manifest = slots.as_ref().and_then(|slots| slots.first().copied());
    match dir.read_mark()? {
        Some(found) if found == mark => match manifest {
            Some(manifest) if manifest.log_id != plan.log_id => return refuse(dir, "it is another log"),
            Some(manifest) if manifest.durable > plan.end => return refuse(dir, reaches_further(&manifest, plan)),
            _ => return Ok(Found::Unfinished(manifest)),
        },
        Some(what) => return Err(Error::Unfinished { path: dir.path.clone(), what }),
        None => {}
    }
    match (slots, manifest) {
        (_, Some(manifest)) => check_older(dir, plan, &manifest).map(|()| Found::Older(manifest)),
        (None, None) if dir.list_segments()?.is_empty() => Ok(Found::Nothing),
        (_, None) => refuse(dir, "its manifest is lost"),
    }
}

fn refuse<T>(dir: &Dir, reason: impl Into<String>) -> Result<T> {
    Err(Error::NotACheckpoint { path: dir.path.clone(), reason: reason.into() })
}

fn reaches_further(manifest: &Manifest, plan: &Plan) -> String {
    format!("it reaches to {}, this one to {}", manifest.durable, plan.end)
}

/// Whether the log is a checkpoint that nobody has written to, and what this log was some time ago.
///
/// What it says of itself tells whether a store has written to it, or it was no checkpoint ever, above all this log
/// itself, whose records above W must not be cut off. What its segments hold tells whether this log has the same past: a
/// log that was restored from an older checkpoint and written to has the same identity and another one.
fn check_older(dir: &Dir, plan: &Plan, manifest: &Manifest) -> Result<()> {
    if manifest.log_id != plan.log_id {
        return refuse(dir, "it is another log");
    }
    if signed(dir)?.as_ref() != Some(manifest) {
        return refuse(dir, "it was not made as a checkpoint, or was written to since");
    }
    if manifest.durable > plan.end {
        return refuse(dir, reaches_further(manifest, plan));
    }
    for number in dir.list_segments()?.into_iter().filter(|n| (manifest.first..=manifest.last).contains(n)) {
        let path = dir.segment_path(number);
        let Some(file) = open(dir, number)? else { continue };
        match plan.piece(number) {
            Some(piece) if read_header(&*file, &path)? != Ok(piece.segment.header) => {
                return refuse(dir, format!("its segment {number} is another one"));
            }
            None if number >= plan.first() => return refuse(dir, format!("this one has no segment {number}")),
            Some(_) | None => {}
        }
    }
    check_end(dir, plan, manifest)
}

/// Whether the segment in which the older checkpoint ends holds what it held, and what this log holds there.
fn check_end(dir: &Dir, plan: &Plan, manifest: &Manifest) -> Result<()> {
    let (number, end) = (manifest.durable.segment_number(), manifest.durable.offset());
    let Some(file) = open(dir, number)? else { return Ok(()) };
    let path = dir.segment_path(number);
    if Window::new(file.clone(), &path)?.nonzero(end)?.is_some() {
        return refuse(dir, format!("it was written to since, behind {}", manifest.durable));
    }
    let Some(piece) = plan.piece(number).filter(|piece| piece.part != Part::Gap) else { return Ok(()) };
    let source = piece.file()?;
    if !are_equal((&*file, &path), (&*source, &piece.segment), 0, end)? {
        return refuse(dir, format!("its segment {number} holds something else"));
    }
    Ok(())
}

/// The segments of the plan that are there as they should be.
pub(super) fn kept(dir: &Dir, plan: &Plan, found: &Found) -> Result<Vec<u32>> {
    let there = dir.list_segments()?;
    let mut kept = Vec::new();
    for piece in plan.pieces.iter().filter(|piece| there.contains(&piece.segment.number)) {
        if is_kept(dir, piece, found)? {
            kept.push(piece.segment.number);
        }
    }
    Ok(kept)
}

fn is_kept(dir: &Dir, piece: &Piece, found: &Found) -> Result<bool> {
    let Piece { segment, part, .. } = piece;
    let Some(file) = open(dir, segment.number)? else { return Ok(false) };
    let path = dir.segment_path(segment.number);
    match (part, found) {
        // What is before its end was compared.
        (Part::Records(end), Found::Older(manifest)) => {
            let is_end = (manifest.durable.segment_number(), manifest.durable.offset32()) == (segment.number, *end);
            Ok(is_end && size(&*file, &path)? == u64::from(*end))
        }
        (Part::Records(_), _) => Ok(false),
        (Part::Sealed | Part::Gap, _) => {
            let source = piece.file()?;
            let bytes = size(&*source, &segment.path)?;
            let is_same = size(&*file, &path)? == bytes && read_header(&*file, &path)? == Ok(segment.header);
            // The trailer ends the file, and says under a checksum what stands before it.
            Ok(is_same && are_equal((&*file, &path), (&*source, segment), bytes.saturating_sub(TRAILER_ROOM), bytes)?)
        }
    }
}

/// More than a trailer with its fragment header takes.
const TRAILER_ROOM: u64 = 256;

fn open(dir: &Dir, number: u32) -> Result<Option<Arc<dyn File>>> {
    let path = dir.segment_path(number);
    match dir.fs.open(&path, Access::Read) {
        Ok(file) => Ok(Some(file)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("open", &path, e)),
    }
}

fn size(file: &dyn File, path: &Path) -> Result<u64> {
    file.size().map_err(|e| Error::io("read the size of", path, e))
}

/// Whether both have the bytes from `from` to `to`, and the same.
fn are_equal(
    (copy, path): (&dyn File, &Path),
    (source, segment): (&dyn File, &Segment),
    from: u64,
    to: u64,
) -> Result<bool> {
    let (mut at, mut ours, mut theirs) = (from, Vec::new(), Vec::new());
    while at < to {
        let bytes = (to - at).min(COPY_BYTES as u64) as usize;
        ours.resize(bytes, 0);
        theirs.resize(bytes, 0);
        let read = copy.read_at(&mut ours, at).map_err(|e| Error::io("read", path, e))?;
        let there = source.read_at(&mut theirs, at).map_err(|e| Error::io("read", &segment.path, e))?;
        if read != bytes || there != bytes || ours != theirs {
            return Ok(false);
        }
        at += bytes as u64;
    }
    Ok(true)
}
