//! What a checkpoint consists of. Decided from what is in memory; of the files only the manifest is read.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::Manifest;
use crate::fs::File;
use crate::index::{Indexes, Row, Table};
use crate::log::View;
use crate::position::Position;
use crate::segment::Segment;

/// What of a segment goes into the copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// All of its file. Nobody changes it any more, neither here nor in the copy, so that the two may share it.
    ///
    /// That must be plain to whoever opens the copy even where its manifest is lost, since recovery writes back what it
    /// does not know to be durable, and seals what it does not know to be sealed. So a head stamp of the copy has to name
    /// the end of the segment as durable, and the segment in which the copy ends is never shared.
    Sealed,
    /// All of its file, which stands in for a segment that was lost: where it ends its bytes do not tell.
    Gap,
    /// The records before this offset.
    Records(u32),
}

/// One segment of the copy.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub(super) segment: Arc<Segment>,
    pub(super) part: Part,
    /// Of what has to be copied, and waited for: retention may take the name meanwhile, and not the file.
    file: Option<Arc<dyn File>>,
}

impl Piece {
    /// The file in the log, for reading.
    pub(super) fn file(&self) -> Result<Arc<dyn File>> {
        self.file.as_ref().map_or_else(|| self.segment.file(), |file| Ok(file.clone()))
    }
}

/// All that the copy will be.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) log_id: u128,
    /// Oldest first, at least one.
    pub(super) pieces: Vec<Piece>,
    /// Where the copy ends: everything before it is durable.
    pub(super) end: Position,
    next: u64,
}

impl Plan {
    /// Up to what is durable now; `None` where nothing is. What an older copy holds is durable, too, also where a reader
    /// beside a writer does not know it yet.
    ///
    /// # Errors
    /// [`Error::Missing`] where a segment is not there, which may have been retired just now; [`Error::Damaged`],
    /// [`Error::Lost`] where the log does not hang together.
    pub(super) fn new(view: &View, copied: Option<Manifest>) -> Result<Option<Self>> {
        // Before the table and the bytes: both hold what is durable by now.
        let durable = view.durable();
        let (table, tail) = {
            let (table, tail) = view.index.now();
            (Arc::clone(&table), tail)
        };
        let Some(log_id) = table.rows().first().map(|row| row.segment.header.log_id) else { return Ok(None) };
        let copied = copied.filter(|copied| copied.log_id == log_id).map_or(Position::ZERO, |copied| copied.durable);
        let durable = durable.max(copied).min(tail);
        if durable == Position::ZERO {
            return Ok(None);
        }
        if table.row(durable.segment()).is_none() {
            return Err(Error::Missing { path: view.dir.segment_path(durable.segment_number()) });
        }
        let is_begun = |row: &&Row| Position::new(row.number(), row.segment.stamp_end) <= durable;
        let rows: Vec<&Row> = table.rows().iter().take_while(is_begun).collect();
        let Some(last) = rows.last() else { return Ok(None) };
        // Behind the table: what was retired by then may be in it, and nothing that is live is missed.
        let manifest = view.dir.read_manifest()?.and_then(|slots| slots.first().copied());
        let live_from = manifest.filter(|manifest| manifest.log_id == log_id).map_or(u32::MAX, |m| m.first);
        check(view, &table, &rows, live_from)?;

        let proven = rows.iter().map(|row| row.segment.stamp.durable).max().unwrap_or_default();
        let end_of = |row: &Row| row.segment.gap.map_or(row.end_at(durable), |(_, end)| end);
        let piece = |row: &&Row| {
            let is_proven = Position::new(row.number(), end_of(row)) <= proven && row.number() != last.number();
            let part = match (row.segment.gap, &row.indexes) {
                (Some(_), _) => Part::Gap,
                (None, Indexes::Sealed(_)) if is_proven => Part::Sealed,
                (None, _) => Part::Records(end_of(row)),
            };
            let segment = row.segment.clone();
            let file = if part == Part::Sealed { None } else { Some(segment.file()?) };
            Ok(Piece { segment, part, file })
        };
        let next = manifest.map_or(0, |manifest| manifest.next).max(u64::from(last.number()) + 1);
        let end = Position::new(last.number(), end_of(last));
        let pieces: Result<Vec<Piece>> = rows.iter().map(piece).collect();
        Ok(Some(Plan { log_id, pieces: pieces?, end, next }))
    }

    pub(super) fn first(&self) -> u32 {
        self.pieces.first().map_or(0, |piece| piece.segment.number)
    }

    pub(super) fn piece(&self, number: u32) -> Option<&Piece> {
        let place = self.pieces.binary_search_by_key(&number, |piece| piece.segment.number);
        place.ok().map(|place| &self.pieces[place])
    }

    /// What the manifest of the copy says behind `before`: that the log ends here, and cleanly.
    pub(super) fn manifest(&self, before: Manifest) -> Manifest {
        let numbers = || self.pieces.iter().rev().map(|piece| piece.segment.number);
        let sealed = self.pieces.iter().rev().find(|piece| piece.part == Part::Sealed);
        Manifest {
            generation: before.generation,
            log_id: self.log_id,
            first: self.first(),
            sealed: sealed.map_or(0, |piece| piece.segment.number),
            last: self.end.segment_number(),
            before: numbers().nth(1).unwrap_or(0),
            next: self.next.max(before.next),
            durable: self.end,
        }
    }
}

/// Whether the segments follow each other, as their head stamps say, from `live_from` on and without a gap that nobody
/// has given up: else the copy would be damaged as the log is.
fn check(view: &View, table: &Table, rows: &[&Row], live_from: u32) -> Result<()> {
    let missing = |number| Err(Error::Missing { path: view.dir.segment_path(number) });
    let mut before: Option<&Row> = None;
    for row in rows {
        match (row.segment.stamp.predecessor, before) {
            (Some(named), Some(before)) if named.number == before.number() => {
                if before.end != Some(named.end) {
                    let reason = format!("it ends elsewhere than segment {} says", row.number());
                    return Err(Error::damaged(&before.segment.path, named.end.into(), reason));
                }
            }
            (Some(named), Some(_)) => return missing(named.number),
            (Some(named), None) if named.number >= live_from => return missing(named.number),
            (Some(_) | None, None) => {}
            (None, Some(before)) => return missing(before.number()),
        }
        before = Some(row);
    }
    let is_repaired = |segment: u32| table.row(segment.into()).is_some_and(|row| row.segment.has_gaps());
    match table.lost().iter().find(|lost| !is_repaired(lost.segment)) {
        Some(lost) => Err(lost.to_error()),
        None => Ok(()),
    }
}
