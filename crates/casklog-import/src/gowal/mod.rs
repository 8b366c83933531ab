//! gowal, which stores an index and a key with each value.
//!
//! A log is a directory of files `<prefix><number>`, numbered in decimal from 0 without zeros in front; the oldest go
//! where there are too many. Both versions write each record as a MessagePack map; they differ in how it is framed.
//!
//! An entry is overwritten by a later record with its index. The only one that gowal writes is a tombstone: index and
//! key of the entry, and the value `tombstone`. Nothing else tells it from an entry whose value is that word. So a
//! lone record of that kind is an entry if all files from the first on are there and could be read up to it, and a
//! tombstone if not: then the entry it deletes may have been lost or removed.

mod v0;
mod v1;

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::path::PathBuf;

use crate::error::{Reason, Unreadable};
use crate::frames::{Files, Frame, Label, Placed};
use crate::raw::{self, Bad, Item};
use crate::record::Record;

pub(crate) use v0::Gowal0;
pub(crate) use v1::Gowal1;

const TOMBSTONE: &[u8] = b"tombstone";

/// A record's fields.
#[derive(Debug, Default)]
struct Fields<'a> {
    index: Option<u64>,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    checksum: Option<u64>,
}

impl<'a> Fields<'a> {
    /// Takes a map of `count` fields off the front.
    fn parse(rest: &mut &'a [u8], count: u32) -> Result<Self, Bad> {
        if raw::item(rest)? != Item::Map(count) {
            return Err(Bad::Malformed("there is no record here"));
        }
        let mut fields = Fields::default();
        for _ in 0..count {
            match raw::item(rest)? {
                Item::Str(b"Idx" | b"Index") => fields.index = Some(uint(rest)?),
                Item::Str(b"Key") => fields.key = Some(bytes(rest)?),
                Item::Str(b"Value") => fields.value = Some(bytes(rest)?),
                Item::Str(b"Checksum") => fields.checksum = Some(uint(rest)?),
                _ => return Err(Bad::Malformed("a record has a field that is not known")),
            }
        }
        Ok(fields)
    }

    fn label(index: u64, key: &[u8]) -> Label {
        Label::Index { index, key: key.to_vec() }
    }
}

fn uint(rest: &mut &[u8]) -> Result<u64, Bad> {
    match raw::item(rest)? {
        Item::Unsigned(number) => Ok(number),
        _ => Err(Bad::Malformed("a record has a number that is none")),
    }
}

/// Go encodes no bytes at all as nil.
fn bytes<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Bad> {
    match raw::item(rest)? {
        Item::Str(bytes) | Item::Bin(bytes) => Ok(bytes),
        Item::Nil => Ok(&[]),
        _ => Err(Bad::Malformed("a record has a key or value that is no bytes")),
    }
}

/// Where the last record of an index stands.
#[derive(Debug, Clone, Copy)]
struct Last {
    file: u32,
    offset: u64,
    is_deleted: bool,
}

/// The entries of a log: the last record of each index, but for tombstones.
///
/// The files are read twice: once for the indexes, which are kept with the places of their last records, some 40 bytes
/// each; and once for the entries, in the order of the files. Values are never kept.
pub(crate) struct Latest {
    files: Files,
    last: HashMap<u64, Last>,
    /// Entries of the first reading that are still to come in the second.
    expected: u64,
    path: PathBuf,
}

impl Latest {
    /// Reads the files for the first time. `is_whole` is whether they begin with the first that the log had.
    pub(crate) fn new(path: PathBuf, is_whole: bool, files: impl Fn() -> Files) -> Self {
        let mut last = HashMap::new();
        let mut is_whole = is_whole;
        for placed in files() {
            let Ok(Placed { file, entry }) = placed else {
                is_whole = false;
                continue;
            };
            let Label::Index { index, .. } = entry.label else { continue };
            let is_tombstone = entry.value == TOMBSTONE;
            match last.entry(index) {
                Slot::Occupied(mut slot) => {
                    slot.insert(Last { file, offset: entry.start, is_deleted: is_tombstone });
                }
                Slot::Vacant(slot) => {
                    slot.insert(Last { file, offset: entry.start, is_deleted: is_tombstone && !is_whole });
                }
            }
        }
        let expected = last.values().filter(|last| !last.is_deleted).count() as u64;
        Latest { files: files(), last, expected, path }
    }
}

impl Iterator for Latest {
    type Item = Result<Record, Unreadable>;

    fn next(&mut self) -> Option<Self::Item> {
        for placed in self.files.by_ref() {
            let Placed { file, entry } = match placed {
                Ok(placed) => placed,
                Err(unreadable) => return Some(Err(unreadable)),
            };
            let Label::Index { index, key } = entry.label else { continue };
            let is_live = |last: &Last| (last.file, last.offset, last.is_deleted) == (file, entry.start, false);
            if self.last.get(&index).is_some_and(is_live) {
                self.expected -= 1;
                return Some(Ok(Record::from_bytes(Some(index), key, &entry.value)));
            }
        }
        let missing = std::mem::take(&mut self.expected);
        (missing > 0).then(|| {
            let records = if missing == 1 { "record has" } else { "records have" };
            let reason = Reason::Missing(format!("{missing} {records} gone while the files were read"));
            Err(Unreadable { path: self.path.clone(), offset: 0, passed_over: 0, reason })
        })
    }
}

/// A record of fields that were found good.
fn record(index: u64, key: &[u8], value: &[u8], start: u64, end: u64) -> Frame {
    Frame::Record(crate::frames::Entry { label: Fields::label(index, key), value: value.to_vec(), start, end })
}
