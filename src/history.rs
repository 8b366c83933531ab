//! Entries by key: the newest one, and all of them from the newest to the oldest.
//!
//! Segments are walked from the newest to the oldest, in each the candidates that its key index names. A candidate counts
//! if its index still stands at exactly this place, as of the tail that the walk began with, and if the entry that is read
//! there has the key: hashes collide.

use std::borrow::Cow;
use std::sync::Arc;

use crate::entry::Entry;
use crate::error::{Error, Result};
use crate::format::Kind;
use crate::index::{Candidates, Indexes, Kept, KeyHash, Row, Snapshot, Spot, Standing, Table, Tmp};
use crate::log::View;
use crate::position::Position;
use crate::reads;

/// How many candidates of a segment that is not sealed are copied at once: the writer waits meanwhile.
const CHUNK: usize = 64;

/// The live entries of a key, the one written last first. See [`Reader::history`](crate::Reader::history).
///
/// It shows the log as it was when the iterator was made, however long it lives: later writes and deletions do not change
/// it. Where a truncation takes an entry of the key that it has not handed out, it ends with [`Error::Truncated`]; where
/// retention takes a segment that it has not come to, with [`Error::Removed`], never silently. Each damaged entry that may
/// be one of the key is one [`Error::Damaged`], and each part of the log that was lost to damage one [`Error::Lost`]; it
/// goes on behind them. Any other error ends it.
#[derive(Debug)]
pub struct History {
    view: Arc<View>,
    snapshot: Snapshot,
    walk: Walk<'static>,
    is_over: bool,
}

impl History {
    pub(crate) fn new(view: Arc<View>, key: &[u8]) -> Result<Self> {
        view.check_open()?;
        loop {
            let snapshot = view.index.snapshot();
            let mut walk = Walk::new(&view, &snapshot.table, Cow::Owned(key.to_vec()))?;
            // What is not sealed yet forgets what a truncation takes, so that it is asked now.
            let live = view.index.consistent(|| walk.live_unsealed(&view, &snapshot.table, snapshot.tail));
            walk.unsealed = Some(live?);
            // Was it the same log for both? A truncation that comes later is noticed when its entries are come to.
            if snapshot.kept.bounds() == (0, u64::MAX) {
                return Ok(History { view, snapshot, walk, is_over: false });
            }
        }
    }
}

impl Iterator for History {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let Snapshot { table, tail, kept } = &self.snapshot;
        let next = self.walk.next(&self.view, table, *tail, Some(kept));
        let next = next.inspect_err(|error| self.view.notice(error));
        self.is_over = !matches!(next, Ok(Some(_)) | Err(Error::Damaged { .. } | Error::Lost { .. }));
        next.transpose()
    }
}

impl std::iter::FusedIterator for History {}

/// The live entry of a key that was written last.
pub(crate) fn latest(view: &Arc<View>, key: &[u8]) -> Result<Option<Entry>> {
    // Without a snapshot: its registration is a lock that all readers would share. What was found counts if no truncation
    // came meanwhile; else an older entry might be taken for the newest, which went together with it.
    let found = view.index.undisturbed(|| {
        let (table, tail) = view.index.now();
        Walk::new(view, &table, Cow::Borrowed(key))?.next(view, &table, tail, None)
    });
    if let Some(found) = found {
        return found.inspect_err(|error| view.notice(error));
    }
    loop {
        match History::new(view.clone(), key)?.next() {
            // It went before it was read: now another one is the newest.
            Some(Err(Error::Truncated | Error::Removed { .. })) => {}
            found => return found.transpose(),
        }
    }
}

/// A walk over the entries of a key in one table, as of one tail.
#[derive(Debug)]
struct Walk<'a> {
    key: Cow<'a, [u8]>,
    bits: u32,
    /// How the keys of the segment at hand are hashed, and the hash of this one.
    hash: Option<(KeyHash, u64)>,
    /// The row at hand; those above it are done.
    row: usize,
    left: Left,
    /// The candidates that were live when the walk began, by row, of all segments that were not sealed then. `None`: the
    /// index is asked when they are come to, and somebody else sees to it that no truncation comes meanwhile.
    unsealed: Option<Vec<(usize, Vec<Standing>)>>,
    /// Segments in which something was lost and that were not come to yet, ascending.
    lost: Vec<u32>,
}

/// The candidates that are left in the row at hand.
#[derive(Debug)]
enum Left {
    Nothing,
    /// The last is the next; more may stand before `below`.
    Standings {
        standings: Vec<Standing>,
        below: u32,
    },
    Places(Candidates),
}

impl<'a> Walk<'a> {
    /// # Errors
    /// [`Error::KeyIndexOff`].
    fn new(view: &View, table: &Table, key: Cow<'a, [u8]>) -> Result<Self> {
        if !view.options.key_index {
            return Err(Error::KeyIndexOff);
        }
        let lost = table.lost().iter().filter(|range| range.within(0, u64::MAX).is_some());
        let mut lost: Vec<u32> = lost.map(|range| range.segment).collect();
        lost.sort_unstable();
        let bits = view.options.key_hash_bits;
        Ok(Walk { key, bits, hash: None, row: table.rows().len(), left: Left::Nothing, unsealed: None, lost })
    }

    /// The hash of the key in this row. All segments of a log have the same log id.
    fn hash(&mut self, row: &Row) -> (KeyHash, u64) {
        let by = KeyHash::new(row.segment.header.log_id, self.bits);
        match self.hash {
            Some((known, hash)) if known == by => (by, hash),
            _ => *self.hash.insert((by, by.of(&self.key))),
        }
    }

    /// The live candidates in segments that are not sealed.
    fn live_unsealed(&mut self, view: &View, table: &Table, tail: Position) -> Result<Vec<(usize, Vec<Standing>)>> {
        let mut live = Vec::new();
        for (number, row) in table.rows().iter().enumerate() {
            let Indexes::Tmp(tmp) = &row.indexes else { continue };
            let keys = tmp.keys().ok_or(Error::KeyIndexOff)?;
            let (_, hash) = self.hash(row);
            let (mut standings, mut chunk, mut below) = (Vec::new(), Vec::new(), row.end_at(tail));
            loop {
                keys.newest(hash, below, CHUNK, &mut chunk);
                let Some(first) = chunk.first() else { break };
                below = first.offset;
                let drained = chunk.drain(..).rev();
                standings.extend(drained.filter(|standing| find(view, row, tmp, *standing, tail).is_some()));
            }
            standings.reverse();
            live.push((number, standings));
        }
        Ok(live)
    }

    /// # Errors
    /// As [`History`] says; behind [`Error::Damaged`] and [`Error::Lost`] it may be called again.
    fn next(&mut self, view: &View, table: &Table, tail: Position, kept: Option<&Kept>) -> Result<Option<Entry>> {
        loop {
            view.check_open()?;
            let rows = table.rows();
            while let Some(row) = rows.get(self.row)
                && let Some((index, spot)) = self.candidate(view, row, tail)?
            {
                let read = self.read(view, row, index, spot, tail);
                let is_taken = kept.is_some_and(|kept| !reaches(kept, index, index));
                match read {
                    Ok(None) => {}
                    // Read all the same: it might have been an entry of another key.
                    Ok(Some(_)) | Err(Error::Removed { .. }) if is_taken => return Err(Error::Truncated),
                    read => return read,
                }
            }
            let next = self.row.checked_sub(1).and_then(|next| rows.get(next));
            if let Some(segment) = self.lost.pop_if(|lost| next.is_none_or(|row| *lost >= row.number())) {
                return Err(Error::Lost { segment: segment.into() });
            }
            let Some(row) = next else { return Ok(None) };
            self.row -= 1;
            self.left = self.begin(view, row, tail, kept).map_err(|error| gone(view, row, error))?;
        }
    }

    /// The candidates of a row.
    fn begin(&mut self, view: &View, row: &Row, tail: Position, kept: Option<&Kept>) -> Result<Left> {
        match &row.indexes {
            Indexes::Tmp(_) => Ok(match &mut self.unsealed {
                None => Left::Standings { standings: Vec::new(), below: row.end_at(tail) },
                Some(unsealed) => match unsealed.pop_if(|(number, _)| *number == self.row) {
                    Some((_, standings)) => Left::Standings { standings, below: 0 },
                    None => Left::Nothing,
                },
            }),
            Indexes::Sealed(sealed) => {
                // Where truncations had left nothing of it before, nothing is missed.
                let Some((low, high)) = row.bounds() else { return Ok(Left::Nothing) };
                if row.segment.is_retired() {
                    let is_emptied = kept.is_some_and(|kept| !reaches(kept, low, high));
                    return Err(if is_emptied { Error::Truncated } else { view.removed() });
                }
                let (by, hash) = self.hash(row);
                sealed.candidates(&row.segment, &view.cache, by, hash).map(Left::Places)
            }
        }
    }

    /// The next candidate of the row at hand: its index, which is live at this place, and the place.
    fn candidate(&mut self, view: &View, row: &Row, tail: Position) -> Result<Option<(u64, Spot)>> {
        loop {
            let (by, hash) = self.hash(row);
            match (&mut self.left, &row.indexes) {
                (Left::Standings { standings, below }, Indexes::Tmp(tmp)) => {
                    if standings.is_empty() && *below != 0 {
                        let keys = tmp.keys().ok_or(Error::KeyIndexOff)?;
                        keys.newest(hash, *below, CHUNK, standings);
                        *below = standings.first().map_or(0, |first| first.offset);
                    }
                    let Some(standing) = standings.pop() else { return Ok(None) };
                    let next = match self.unsealed {
                        None => find(view, row, tmp, standing, tail),
                        // It was live when the walk began.
                        Some(_) => Some(tmp.stands(standing).flatten()),
                    };
                    if let Some(next) = next {
                        return Ok(Some((standing.index, Spot::At(standing.offset, next))));
                    }
                }
                (Left::Places(candidates), Indexes::Sealed(sealed)) => {
                    let next = sealed.next_candidate(&row.segment, &view.cache, by, candidates);
                    let Some(place) = next.map_err(|error| gone(view, row, error))? else { return Ok(None) };
                    let index = sealed.members.index(place);
                    let live = |index: &u64| {
                        row.clip.contains(*index) && !view.index.is_deleted_in(row.number(), *index, tail)
                    };
                    if let Some(index) = index.filter(live) {
                        return Ok(Some((index, Spot::Member(place))));
                    }
                }
                _ => return Ok(None),
            }
        }
    }

    /// The entry at a place, if it has the key.
    fn read(&self, view: &View, row: &Row, index: u64, spot: Spot, tail: Position) -> Result<Option<Entry>> {
        let read = || {
            let at = reads::offset(view, row, spot)?;
            Ok((at.0, reads::record(view, row, at, tail)?))
        };
        let (offset, record) = read().map_err(|error| gone(view, row, error))?;
        let position = Position::new(row.number(), offset);
        let entry = (record.kind == Kind::Entry)
            .then(|| Entry::new(record.payload, position, position < view.durable()))
            .flatten();
        let entry = entry.filter(|entry| entry.index() == index).ok_or_else(|| reads::misplaced(view, position))?;
        Ok((entry.key() == &*self.key).then_some(entry))
    }
}

/// Whether a candidate below `tail` is live as of it; then also where the next entry begins, if that is known.
fn find(view: &View, row: &Row, tmp: &Tmp, standing: Standing, tail: Position) -> Option<Option<u32>> {
    let is_live = row.clip.contains(standing.index) && !view.index.is_deleted_in(row.number(), standing.index, tail);
    tmp.stands(standing).filter(|_| is_live)
}

/// Whether truncations have left any of the indexes from `first` to `last`.
fn reaches(kept: &Kept, first: u64, last: u64) -> bool {
    let (low, high) = kept.bounds();
    first.max(low) <= last.min(high)
}

/// The file of a retired segment may have gone while it was being read.
fn gone(view: &View, row: &Row, error: Error) -> Error {
    match error {
        Error::Missing { .. } if row.segment.is_retired() || view.is_doubtful(&error) => view.removed(),
        other => other,
    }
}
