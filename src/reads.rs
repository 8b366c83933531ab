//! Reading single entries: one look into the index, and what it leads to from the cache, from memory or with one
//! positioned read.
//!
//! Nothing here takes a lock that is held across a call to the disk, or that writers wait for.

use crate::cache::Lookup;
use crate::entry::{Entry, EntryRef};
use crate::error::{Error, Result};
use crate::format::{BLOCK_BYTES, Kind};
use crate::index::{Indexes, Row, Spot};
use crate::log::View;
use crate::options::ReadMode;
use crate::position::Position;
use crate::segment::{Copy, Found, Keep, Record, Take};

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

/// Whether the segment is read through a mapping.
fn is_mapped(view: &View, row: &Row) -> bool {
    view.options.read_mode == ReadMode::Mapped && matches!(row.indexes, Indexes::Sealed(_))
}

/// Where in its segment an entry stands, and where the next one does, if that is known.
pub(crate) fn offset(view: &View, row: &Row, spot: Spot) -> Result<(u32, Option<u32>)> {
    match (spot, &row.indexes) {
        (Spot::At(offset, next), _) => Ok((offset, next)),
        (Spot::Member(place), Indexes::Sealed(sealed)) => {
            let mapped = is_mapped(view, row).then(|| sealed.offset_mapped(&row.segment, place)).flatten();
            mapped.map_or_else(|| sealed.offset(&row.segment, &view.cache, place), Ok)
        }
        (Spot::Member(_), Indexes::Tmp(_)) => unreachable!("the spot was found in this row"),
    }
}

/// Reads the record at an offset that the index names, in a log that ends at `tail`.
///
/// # Errors
/// [`Error::Removed`] where the segment was retired; what is wrong with it or with the record.
pub(crate) fn record(view: &View, row: &Row, at: (u32, Option<u32>), tail: Position) -> Result<Record> {
    let Found { kind, payload } = look_up::<Keep>(view, row, at, tail, &mut Vec::new())?;
    Ok(Record { kind, payload })
}

/// As [`record`], with the payload as it is to be taken.
fn look_up<T: Take>(
    view: &View,
    row: &Row,
    (offset, next): (u32, Option<u32>),
    tail: Position,
    buffer: &mut Vec<u8>,
) -> Result<Found<T::Payload>> {
    let segment = &row.segment;
    if segment.is_retired() {
        return Err(view.removed());
    }
    segment.check_gap(offset)?;
    let end = row.end_at(tail);
    let found = if is_mapped(view, row) {
        segment.read_mapped::<T>(offset, end, buffer)
    } else {
        let guess = guess(offset, next, end);
        let recent = if row.end.is_none() { segment.read_recent::<T>(offset, guess, end, buffer) } else { None };
        match recent.or_else(|| cached::<T>(view, row, offset, end, buffer)) {
            Some(found) => return Ok(found),
            None => segment.read::<T>(offset, guess, end, buffer),
        }
    };
    match found {
        // The file may have gone while it was being opened.
        Err(Error::Missing { .. }) if segment.is_retired() => Err(view.removed()),
        other => other,
    }
}

/// The record from the cache, which may load the block for it.
fn cached<T: Take>(view: &View, row: &Row, offset: u32, end: u32, buffer: &mut Vec<u8>) -> Option<Found<T::Payload>> {
    let start = offset - offset % BLOCK_BYTES;
    // A block below the tail never changes, whether its segment is sealed or not.
    if u64::from(start) + u64::from(BLOCK_BYTES) > u64::from(end) {
        return None;
    }
    let (segment, number) = (&row.segment, offset / BLOCK_BYTES);
    let found = view.cache.block(&segment.shelf, number, |block, checked_from| {
        segment.read_checked::<T>(block, checked_from, offset, buffer)
    });
    match found {
        Lookup::Found(found) => found,
        Lookup::Wanted => {
            let block = segment.load_block(start).ok().flatten()?;
            view.cache.put_block(&segment.shelf, number, &block);
            segment.read_checked::<T>(&block.bytes, block.checked_from, offset, buffer)
        }
        Lookup::Absent => None,
    }
}

/// The live entry of an index.
pub(crate) fn get(view: &View, index: u64) -> Result<Option<Entry>> {
    let (payload, position, is_durable) = match find::<Keep>(view, index, &mut Vec::new()) {
        Ok(Some(found)) => found,
        Ok(None) => return Ok(None),
        Err(error) => return Err(noticed(view, error)),
    };
    let entry = Entry::new(payload, position, is_durable);
    own(view, entry, Entry::index, index, position)
}

/// The live entry of an index, in the caller's buffer.
pub(crate) fn get_into<'a>(view: &View, index: u64, buffer: &'a mut Vec<u8>) -> Result<Option<EntryRef<'a>>> {
    let (part, position, is_durable) = match find::<Copy>(view, index, buffer) {
        Ok(Some(found)) => found,
        Ok(None) => return Ok(None),
        Err(error) => return Err(noticed(view, error)),
    };
    let entry = EntryRef::new(&buffer[part], position, is_durable);
    own(view, entry, EntryRef::index, index, position)
}

/// The entry, if it is the one that the index led to.
fn own<T>(
    view: &View,
    entry: Option<T>,
    index_of: impl Fn(&T) -> u64,
    index: u64,
    position: Position,
) -> Result<Option<T>> {
    entry.filter(|entry| index_of(entry) == index).map(Some).ok_or_else(|| misplaced(view, position))
}

/// The payload of the live entry of `index`, where it stands and whether it is durable.
fn find<T: Take>(view: &View, index: u64, buffer: &mut Vec<u8>) -> Result<Option<(T::Payload, Position, bool)>> {
    let mut is_second = false;
    loop {
        view.check_open()?;
        let (table, tail, found) = view.index.locate(index);
        let Some((number, spot)) = found else {
            return table.lost_at(index).map_or(Ok(None), Err);
        };
        let row = &table.rows()[number];
        let read = offset(view, row, spot).and_then(|at| Ok((at.0, look_up::<T>(view, row, at, tail, buffer)?)));
        match read {
            // Retired since it was looked up: look again, it is no longer there.
            Err(Error::Removed { .. }) => {}
            Err(Error::Missing { .. }) if row.segment.is_retired() => {}
            Err(error @ Error::Missing { .. }) if view.is_doubtful(&error) => {}
            Err(error @ Error::Damaged { .. }) if !is_second && view.is_doubtful(&error) => is_second = true,
            Err(error) => return Err(error),
            Ok((offset, found)) => {
                let position = Position::new(row.number(), offset);
                if found.kind != Kind::Entry {
                    return Err(misplaced(view, position));
                }
                return Ok(Some((found.payload, position, position < view.durable())));
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
            read => return read.inspect_err(|error| view.notice(error)),
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
    let record = match row.segment.read::<Keep>(offset, guess(offset, None, end), end, &mut Vec::new()) {
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
#[cold]
#[inline(never)]
pub(crate) fn misplaced(view: &View, position: Position) -> Error {
    let path = view.dir.segment_path(position.segment_number());
    noticed(view, Error::damaged(&path, position.offset(), "another record than the index says"))
}

/// An error that goes to a caller who holds no lock.
#[cold]
#[inline(never)]
fn noticed(view: &View, error: Error) -> Error {
    view.notice(&error);
    error
}
