//! MessagePack for exchange: arrays `[index, key, value]`, one behind the other, plain or compressed with gzip.
//!
//! The index is an unsigned integer, or nil where the log shall choose one; the key is bin, or str; the value is any
//! value. An export copies it as it stands in the log. Nothing marks where an array begins, and nothing is checked:
//! behind what is no such array, the rest of the file cannot be believed and is passed over.

use std::io::{self, BufRead, Read as _};
use std::path::PathBuf;

use casklog::EntryRef;

use crate::error::{Reason, Unreadable};
use crate::raw::{self, Bad, Item};
use crate::record::Record;

/// At least so much is read at once.
const STEP_BYTES: u64 = 1 << 18;

/// The records of a file.
pub(crate) struct Arrays {
    reader: Box<dyn BufRead + Send>,
    path: PathBuf,
    /// Where in the file `buffer[from]` stands.
    offset: u64,
    buffer: Vec<u8>,
    /// What stands before it has been read.
    from: usize,
    is_at_end: bool,
    is_done: bool,
}

impl Arrays {
    pub(crate) fn new(reader: Box<dyn BufRead + Send>, path: PathBuf) -> Self {
        Arrays { reader, path, offset: 0, buffer: Vec::new(), from: 0, is_at_end: false, is_done: false }
    }

    /// Reads on, so much that what was read is read again only a few times, however long it is.
    fn fill(&mut self, missing: u64) -> io::Result<()> {
        self.buffer.drain(..self.from);
        self.from = 0;
        let wanted = missing.max(STEP_BYTES).max(self.buffer.len() as u64);
        // Memory grows with what comes, not with what a length claims.
        let read = self.reader.by_ref().take(wanted).read_to_end(&mut self.buffer)?;
        self.is_at_end = (read as u64) < wanted;
        Ok(())
    }

    /// Goes over `count` bytes of the buffer.
    fn pass(&mut self, count: usize) {
        self.from += count;
        self.offset += count as u64;
    }

    /// Passes over all that is left.
    fn give_up(&mut self, reason: Reason) -> Unreadable {
        self.is_done = true;
        let behind = io::copy(&mut self.reader, &mut io::sink()).unwrap_or(0);
        let passed_over = (self.buffer.len() - self.from) as u64 + behind;
        Unreadable { path: self.path.clone(), offset: self.offset, passed_over, reason }
    }
}

impl Iterator for Arrays {
    type Item = Result<Record, Unreadable>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.is_done {
            let bytes = &self.buffer[self.from..];
            if bytes.is_empty() && self.is_at_end {
                return None;
            }
            let mut rest = bytes;
            let parsed = parse(&mut rest);
            let length = bytes.len() - rest.len();
            match parsed {
                Ok(Ok(record)) => {
                    self.pass(length);
                    return Some(Ok(record));
                }
                Ok(Err(what)) => {
                    let (path, offset, passed_over) = (self.path.clone(), self.offset, length as u64);
                    self.pass(length);
                    return Some(Err(Unreadable { path, offset, passed_over, reason: Reason::Malformed(what) }));
                }
                Err(Bad::Cut { missing }) if !self.is_at_end => match self.fill(missing) {
                    Ok(()) => {}
                    Err(error) => return Some(Err(self.give_up(Reason::Io(error)))),
                },
                Err(Bad::Cut { .. }) => return Some(Err(self.give_up(Reason::CutShort))),
                Err(Bad::Malformed(what)) => return Some(Err(self.give_up(Reason::malformed(what)))),
            }
        }
        None
    }
}

/// Takes an array off the front. Where it ends is known even if its value cannot be kept.
fn parse(rest: &mut &[u8]) -> Result<Result<Record, String>, Bad> {
    if raw::item(rest)? != Item::Array(3) {
        return Err(Bad::Malformed("there is no array of index, key and value here"));
    }
    let index = match raw::item(rest)? {
        Item::Unsigned(index) => Some(index),
        Item::Nil => None,
        _ => return Err(Bad::Malformed("an index is neither an unsigned integer nor nil")),
    };
    let key = match raw::item(rest)? {
        Item::Bin(key) | Item::Str(key) => key.to_vec(),
        _ => return Err(Bad::Malformed("a key is neither bin nor str")),
    };
    Ok(raw::encode(raw::value(rest)?).map(|value| Record { index, key, value }))
}

/// Whether the file begins as one of arrays does.
pub(crate) fn is_likely(reader: Box<dyn BufRead + Send>) -> bool {
    Arrays::new(reader, PathBuf::new()).next().is_some_and(|record| record.is_ok())
}

/// Appends the array of an entry.
pub(crate) fn write(out: &mut Vec<u8>, entry: EntryRef<'_>) -> io::Result<()> {
    let (index, key, value) = (entry.index(), entry.key(), entry.raw_value());
    rmp::encode::write_array_len(out, 3)?;
    rmp::encode::write_uint(out, index)?;
    rmp::encode::write_bin(out, key)?;
    out.extend_from_slice(value);
    Ok(())
}
