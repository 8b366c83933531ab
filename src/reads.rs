//! Reading single entries: one look into the index, and what it leads to from the cache, from memory or with one
//! positioned read.
//!
//! Nothing here takes a lock that is held across a call to the disk, or that writers wait for.

use crate::cache::{Key, Lookup};
use crate::entry::{Entry, EntryRef};
use crate::error::{Error, Result};
use crate::format::{BLOCK_BYTES, Kind};
use crate::index::{Indexes, Row, Spot};
use crate::log::View;
use crate::options::ReadMode;
use crate::position::Position;
use crate::segment::Record;

/// What is read at once where nothing tells the length of a record.
const GUESS_BYTES: usize = 512;

/// A longer record is not believed in before its header says so: its neighbour may stand anywhere.
const GUESS_MOST: usize = 1 << 20;

/// How long the record at `offset` probably is, in a segment that ends at `end`: entries of consecutive indexes mostly
/// follow each other, so that the next one's place tells this one's length.
pub(crate) fn guess(offset: u32, next: Option<u32>, end: u32) -> usize {
    let next = next.filter(|next| *next > offset && *next <= end).map(|next| (next - offset) as usize);
    next.filter(|length| *length <= GUESS_MOST).unwrap_or(GUESS_BYTES).min(end.saturating_sub(offset) as usize)
}

/// Where in its segment an entry stands, and where the next one does, if that is known.
pub(crate) fn offset(view: &View, row: &Row, spot: Spot) -> Result<(u32, Option<u32>)> {
    match (spot, &row.indexes) {
        (Spot::At(offset, next), _) => Ok((offset, next)),
        (Spot::Member(place), Indexes::Sealed(sealed)) => sealed.offset(&row.segment, &view.cache, place),
        (Spot::Member(_), Indexes::Tmp(_)) => unreachable!("the spot was found in this row"),
    }
}

/// Reads the record at `offset`, which the index names, in a log that ends at `tail`.
///
/// # Errors
/// [`Error::Removed`] where the segment was retired; what is wrong with it or with the record.
pub(crate) fn record(view: &View, row: &Row, (offset, next): (u32, Option<u32>), tail: Position) -> Result<Record> {
    let segment = &row.segment;
    if segment.is_retired() {
        return Err(view.removed());
    }
    segment.check_gap(offset)?;
    let end = row.end_at(tail);
    let guess = guess(offset, next, end);
    if row.end.is_none()
        && let Some(record) = segment.read_recent(offset, guess, end)
    {
        return Ok(record);
    }
    let start = offset - offset % BLOCK_BYTES;
    // A block below the tail never changes, whether its segment is sealed or not.
    if u64::from(start) + u64::from(BLOCK_BYTES) <= u64::from(end) {
        let key = Key::new(segment.id, start);
        let block = match view.cache.get(key, BLOCK_BYTES as usize) {
            Lookup::Found(block) => Some(block),
            Lookup::Wanted => {
                segment.load_block(start).ok().flatten().inspect(|block| view.cache.put(key, block.clone()))
            }
            Lookup::Absent => None,
        };
        if let Some(record) = block.and_then(|block| segment.read_checked(&block, offset)) {
            return Ok(record);
        }
    }
    let is_mapped = view.options.read_mode == ReadMode::Mapped && matches!(row.indexes, Indexes::Sealed(_));
    let record = if is_mapped { segment.read_mapped(offset, end) } else { segment.read(offset, guess, end) };
    match record {
        // The file may have gone while it was being opened.
        Err(Error::Missing { .. }) if segment.is_retired() => Err(view.removed()),
        other => other,
    }
}

/// The live entry of an index.
pub(crate) fn get(view: &View, index: u64) -> Result<Option<Entry>> {
    find(view, index, |payload, position, is_durable| {
        Entry::new(payload, position, is_durable).filter(|entry| entry.index() == index)
    })
}

/// The live entry of an index, in the caller's buffer.
pub(crate) fn get_into<'a>(view: &View, index: u64, buffer: &'a mut Vec<u8>) -> Result<Option<EntryRef<'a>>> {
    buffer.clear();
    let found = find(view, index, |payload, position, is_durable| {
        buffer.extend_from_slice(&payload);
        Some((position, is_durable))
    })?;
    let Some((position, is_durable)) = found else { return Ok(None) };
    let entry = EntryRef::new(buffer, position, is_durable).filter(|entry| entry.index() == index);
    entry.map(Some).ok_or_else(|| misplaced(view, position))
}

/// The record of the live entry of `index`, as `make` takes it; `make` gives `None` where it is another's.
fn find<T>(view: &View, index: u64, make: impl FnOnce(bytes::Bytes, Position, bool) -> Option<T>) -> Result<Option<T>> {
    let mut is_second = false;
    loop {
        view.check_open()?;
        let (table, tail, found) = view.index.locate(index);
        let Some((number, spot)) = found else {
            return table.lost_at(index).map_or(Ok(None), Err);
        };
        let row = &table.rows()[number];
        let read = offset(view, row, spot).and_then(|at| Ok((at.0, record(view, row, at, tail)?)));
        match read {
            // Retired since it was looked up: look again, it is no longer there.
            Err(Error::Removed { .. }) => {}
            Err(Error::Missing { .. }) if row.segment.is_retired() => {}
            Err(error @ Error::Missing { .. }) if view.is_doubtful(&error) => {}
            Err(error @ Error::Damaged { .. }) if !is_second && view.is_doubtful(&error) => is_second = true,
            Err(error) => return Err(error),
            Ok((offset, record)) => {
                let position = Position::new(row.number(), offset);
                let made = (record.kind == Kind::Entry)
                    .then(|| make(record.payload, position, position < view.durable()))
                    .flatten();
                return made.map(Some).ok_or_else(|| misplaced(view, position));
            }
        }
    }
}

/// The live entry at a position.
pub(crate) fn read(view: &View, position: Position) -> Result<Option<Entry>> {
    let mut is_second = false;
    loop {
        match read_once(view, position) {
            Err(error @ Error::Missing { .. }) if view.is_doubtful(&error) => {}
            Err(error @ Error::Damaged { .. }) if !is_second && view.is_doubtful(&error) => is_second = true,
            read => return read,
        }
    }
}

fn read_once(view: &View, position: Position) -> Result<Option<Entry>> {
    view.check_open()?;
    let (table, tail) = view.index.now();
    if position >= tail {
        return Ok(None);
    }
    let Some(row) = table.row(position.segment()) else {
        return Err(view.removed());
    };
    // Any position may be asked for: nothing but its own checksum says that a record starts there.
    let (offset, end) = (position.offset32(), row.end_at(tail));
    row.segment.check_gap(offset)?;
    let record = match row.segment.read(offset, guess(offset, None, end), end) {
        Ok(record) => record,
        Err(error @ Error::Damaged { .. }) => {
            // Damage, or not the start of a record: an entry begins there if the index says so.
            let is_entry = match &row.indexes {
                Indexes::Tmp(tmp) => tmp.holds_offset(offset),
                Indexes::Sealed(sealed) => sealed.holds_offset(&row.segment, &view.cache, offset)?,
            };
            return Err(if is_entry { error } else { Error::InvalidPosition { found: position.to_string() } });
        }
        Err(Error::Missing { .. }) if row.segment.is_retired() => return Err(view.removed()),
        Err(error) => return Err(error),
    };
    if record.kind != Kind::Entry {
        return Ok(None);
    }
    let entry = Entry::new(record.payload, position, position < view.durable());
    let entry = entry.ok_or_else(|| misplaced(view, position))?;
    Ok(stands_at(view, entry.index(), position)?.then_some(entry))
}

/// Whether the live entry of `index` is the one at `position`.
pub(crate) fn stands_at(view: &View, index: u64, position: Position) -> Result<bool> {
    let (table, _, found) = view.index.locate(index);
    let Some((number, spot)) = found else { return Ok(false) };
    let row = &table.rows()[number];
    Ok(row.number() == position.segment_number() && offset(view, row, spot)?.0 == position.offset32())
}

/// The index and the file must agree on what stands where.
pub(crate) fn misplaced(view: &View, position: Position) -> Error {
    let path = view.dir.segment_path(position.segment_number());
    Error::damaged(&path, position.offset(), "another record than the index says")
}
