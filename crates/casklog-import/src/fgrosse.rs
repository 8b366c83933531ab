//! fgrosse/wal, whose entries only the application can tell apart.
//!
//! Files `<n>.wal` from 1. Numbers are big-endian.
//!
//! ```text
//! offset  0        4      5                          9
//!         number | type | CRC-32 (IEEE) of payload | payload
//! ```
//!
//! Entries are numbered one by one, through all files. No length is stored: how far a payload reaches, its type and its
//! own bytes tell to those who know them. The checksum does not cover number and type. So a number is believed where it
//! follows the one before, or the next entry's follows it; a damaged type is noticed only if the payload then seems
//! to end elsewhere.

use std::fmt;
use std::io;
use std::path::Path;

use crate::error::{Error, Reason, Unreadable};
use crate::frames::{Entry, Files, Frame, Frames, Label, Numbering, Placed};
use crate::names::Names;
use crate::record::{ReadOptions, Record};
use crate::window::Window;

const HEADER_BYTES: usize = 9;

/// A record of fgrosse/wal, and the type under which the application had registered it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypedRecord {
    /// The type.
    pub kind: u8,
    /// The record. Its index counts the entries that could be read; its key is that of the options.
    pub record: Record,
}

/// Reads a log that fgrosse/wal wrote. `payload_length` is given the type of an entry and the bytes from the start of
/// its payload to the end of the file, and says how many of them are the payload; `None` where there is no such
/// entry. It is asked about damaged bytes, too, and may be asked twice.
///
/// A file is held in memory while it is read.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path();
/// # std::fs::write(path.join("1.wal"), [0, 0, 0, 1, 7, 0x65, 0x8f, 0x35, 0x2f, 2, b'h', b'i'])?;
/// use casklog_import::{ReadOptions, fgrosse};
/// // Type 7 is text behind a byte with its length.
/// let entries = fgrosse::read(path, &ReadOptions::new(), |kind, bytes| match kind {
///     7 => Some(1 + usize::from(*bytes.first()?)),
///     _ => None,
/// })?;
/// for entry in entries {
///     let entry = entry?;
///     assert_eq!((entry.kind, entry.record.bytes()), (7, Some(&b"\x02hi"[..])));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::UnknownFormat`] where no file has such a name; [`Error::Io`].
pub fn read(
    path: impl AsRef<Path>,
    options: &ReadOptions,
    payload_length: impl FnMut(u8, &[u8]) -> Option<usize> + Send + 'static,
) -> Result<TypedRecords, Error> {
    let path = path.as_ref();
    let names = Names::new("", ".wal", 1);
    let segments = names.list(path).map_err(|error| Error::io("list", path, error))?;
    if segments.is_empty() {
        return Err(Error::UnknownFormat { path: path.to_owned(), reason: "no file is named as 1.wal".to_owned() });
    }
    let files = Files::new(Box::new(Fgrosse { payload_length, next: None }), names, segments);
    Ok(TypedRecords { files, numbering: Numbering::new(options) })
}

/// The records of a log, in its order, and what of it could not be read.
pub struct TypedRecords {
    files: Files,
    numbering: Numbering,
}

impl Iterator for TypedRecords {
    type Item = Result<TypedRecord, Unreadable>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.files.next()?.map(|Placed { entry, .. }| {
            // These frames label every entry so.
            let kind = if let Label::Kind { kind, .. } = entry.label { kind } else { 0 };
            TypedRecord { kind, record: self.numbering.record(&entry.value) }
        }))
    }
}

impl fmt::Debug for TypedRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TypedRecords")
    }
}

struct Fgrosse<L> {
    payload_length: L,
    /// The number of the next entry, as long as none was passed over.
    next: Option<u32>,
}

impl<L: FnMut(u8, &[u8]) -> Option<usize>> Fgrosse<L> {
    fn entry(&mut self, window: &mut Window, offset: u64) -> io::Result<Frame> {
        let bad = |reason, claimed_end| Ok(Frame::Bad { offset, reason, claimed_end });
        // To the end of the file: only the application can tell how much of it is wanted.
        let bytes = window.up_to(offset, window.left(offset))?;
        let Some((&[n0, n1, n2, n3, kind, c0, c1, c2, c3], payload)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
            return bad(Reason::CutShort, None);
        };
        let Some(length) = (self.payload_length)(kind, payload) else {
            return bad(Reason::malformed(format!("the application knows no such entry of type {kind}")), None);
        };
        let Some(payload) = payload.get(..length) else {
            return bad(Reason::CutShort, None);
        };
        let end = offset + (HEADER_BYTES + length) as u64;
        if crc32fast::hash(payload) != u32::from_be_bytes([c0, c1, c2, c3]) {
            return bad(Reason::Checksum, Some(end));
        }
        let label = Label::Kind { number: u32::from_be_bytes([n0, n1, n2, n3]), kind };
        Ok(Frame::Record(Entry { label, value: payload.to_vec(), start: offset, end }))
    }

    /// Whether the entry at `offset` has the number behind `number`.
    fn is_followed(window: &mut Window, offset: u64, number: u32) -> io::Result<bool> {
        let bytes = window.up_to(offset, HEADER_BYTES as u64)?;
        let next = (bytes.len() == HEADER_BYTES).then(|| bytes.first_chunk()).flatten();
        Ok(next.is_some_and(|next| u32::from_be_bytes(*next) == number.wrapping_add(1)))
    }
}

impl<L: FnMut(u8, &[u8]) -> Option<usize> + Send> Frames for Fgrosse<L> {
    fn at(&mut self, window: &mut Window, offset: u64) -> io::Result<Frame> {
        if window.left(offset) == 0 {
            return Ok(Frame::End);
        }
        let frame = self.entry(window, offset)?;
        let Frame::Record(Entry { label: Label::Kind { number, .. }, end, .. }) = frame else {
            return Ok(frame);
        };
        let is_last = window.left(end) < HEADER_BYTES as u64;
        let is_followed = Self::is_followed(window, end, number)?;
        let bad = |reason, claimed_end| Ok(Frame::Bad { offset, reason, claimed_end: Some(claimed_end) });
        match self.next {
            Some(next) if next == number => Ok(frame),
            Some(next) if is_followed => {
                bad(Reason::Missing(format!("entry {number} stands where entry {next} should")), offset)
            }
            None if is_followed || is_last => Ok(frame),
            _ => bad(Reason::malformed(format!("the entry's number, {number}, is not in line")), end),
        }
    }

    fn find(&mut self, window: &mut Window, bad: u64) -> io::Result<Option<u64>> {
        for offset in bad + 1..window.file_bytes() {
            if let Frame::Record(_) = self.at(window, offset)? {
                return Ok(Some(offset));
            }
        }
        Ok(None)
    }

    fn took(&mut self, entry: Option<&Entry>) {
        self.next = match entry {
            Some(Entry { label: Label::Kind { number, .. }, .. }) => Some(number.wrapping_add(1)),
            _ => None,
        };
    }
}
