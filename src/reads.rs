//! Reading entries: one look into the index, one positioned read.

use crate::entry::{Entry, EntryRef};
use crate::error::{Error, Result};
use crate::format::Kind;
use crate::index::{Place, Row};
use crate::log::Log;
use crate::position::Position;
use crate::segment::Record;

/// What is read at once where nothing tells the length of a record.
const GUESS_BYTES: usize = 512;

/// Where an entry was found: all that is needed to read it without the index.
struct Target {
    row: Row,
    offset: u32,
    guess: usize,
    end: u32,
}

impl Target {
    fn new(place: &Place<'_>, tail: Position) -> Self {
        let end = place.row.end_at(tail);
        // Entries of consecutive indexes mostly follow each other, so the next one tells this one's length.
        let bound = place.next.filter(|next| *next > place.offset && *next <= end).unwrap_or(end);
        let known = place.next.is_some_and(|next| next == bound);
        let length = (bound - place.offset) as usize;
        let guess = if known && length <= 1 << 20 { length } else { GUESS_BYTES.min(length) };
        Target { row: place.row.clone(), offset: place.offset, guess, end }
    }

    fn position(&self) -> Position {
        Position::new(self.row.number(), self.offset)
    }

    fn read(&self, log: &Log) -> Result<Record> {
        if is_closed(log) {
            return Err(Error::Closed);
        }
        let segment = &self.row.segment;
        let record = if segment.is_retired() {
            Err(Error::Removed { first: log.index.first() })
        } else {
            segment.read(self.offset, self.guess, self.end)
        };
        match record {
            // The file may have gone while it was being opened.
            Err(Error::Missing { .. }) if segment.is_retired() => Err(Error::Removed { first: log.index.first() }),
            Ok(record) if record.kind != Kind::Entry => {
                Err(Error::damaged(&segment.path, self.offset.into(), "no entry where the index says one is"))
            }
            other => other,
        }
    }
}

pub(crate) fn is_closed(log: &Log) -> bool {
    log.is_closed.load(std::sync::atomic::Ordering::Acquire)
}

/// The live entry of an index.
pub(crate) fn get(log: &Log, index: u64) -> Result<Option<Entry>> {
    let Some((record, position)) = find(log, index)? else {
        return Ok(None);
    };
    let entry = Entry::new(record.payload, position, position < log.durable());
    checked(log, index, position, entry).map(Some)
}

/// The live entry of an index, in the caller's buffer.
pub(crate) fn get_into<'a>(log: &Log, index: u64, buffer: &'a mut Vec<u8>) -> Result<Option<EntryRef<'a>>> {
    let Some((record, position)) = find(log, index)? else {
        return Ok(None);
    };
    buffer.clear();
    buffer.extend_from_slice(&record.payload);
    let entry = EntryRef::new(buffer, position, position < log.durable()).filter(|entry| entry.index() == index);
    match entry {
        Some(entry) => Ok(Some(entry)),
        None => Err(misplaced(log, position)),
    }
}

fn find(log: &Log, index: u64) -> Result<Option<(Record, Position)>> {
    loop {
        let target = log.index.find(index, |table, place, tail| match place {
            Some(place) => Ok(Some(Target::new(&place, tail))),
            None => table.lost_at(index).map_or(Ok(None), Err),
        })?;
        let Some(target) = target else { return Ok(None) };
        match target.read(log) {
            // Retired since it was looked up: look again, it is no longer there.
            Err(Error::Removed { .. }) => continue,
            other => return other.map(|record| Some((record, target.position()))),
        }
    }
}

/// The entry at a place of a snapshot.
pub(crate) fn entry_at(log: &Log, place: &Place<'_>, tail: Position) -> Result<Entry> {
    let target = Target::new(place, tail);
    let position = target.position();
    let record = target.read(log)?;
    let entry = Entry::new(record.payload, position, position < log.durable());
    entry.ok_or_else(|| misplaced(log, position))
}

/// The live entry at a position.
pub(crate) fn read(log: &Log, position: Position) -> Result<Option<Entry>> {
    let tail = log.index.tail();
    let table = log.index.table();
    if position >= tail {
        return Ok(None);
    }
    let Some(row) = table.row(position.segment()) else {
        return Err(Error::Removed { first: log.index.first() });
    };
    let end = row.end_at(tail);
    let target = Target { row: row.clone(), offset: position.offset32(), guess: GUESS_BYTES, end };
    let record =
        match row.segment.read(target.offset, target.guess.min(end.saturating_sub(target.offset) as usize), end) {
            Ok(record) => record,
            Err(error @ Error::Damaged { .. }) => {
                // Damage, or not the start of a record: an entry begins there if the index says so.
                let is_entry = row.holds_offset(target.offset);
                return Err(if is_entry { error } else { Error::InvalidPosition { found: position.to_string() } });
            }
            Err(error) => return Err(error),
        };
    if record.kind != Kind::Entry {
        return Ok(None);
    }
    let entry = Entry::new(record.payload, position, position < log.durable());
    let entry = entry.ok_or_else(|| misplaced(log, position))?;
    let is_live = log.index.find(entry.index(), |_, place, _| place.is_some_and(|place| place.position() == position));
    Ok(is_live.then_some(entry))
}

/// The index and the file must agree on what stands where.
fn checked(log: &Log, index: u64, position: Position, entry: Option<Entry>) -> Result<Entry> {
    entry.filter(|entry| entry.index() == index).ok_or_else(|| misplaced(log, position))
}

fn misplaced(log: &Log, position: Position) -> Error {
    let path = log.dir.segment_path(position.segment_number());
    Error::damaged(&path, position.offset(), "another entry than the index says")
}
