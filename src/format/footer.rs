//! The footer of a sealed segment: a cache of what a scan of it would find. It proves nothing about durability.
//!
//! A stream of bytes, cut into footer fragments, each a record of its own, then a trailer of fixed size that ends the
//! file. All fragments but the last of the stream fill their block, their payloads a multiple of 4 bytes long, so the
//! place of every byte of the stream can be computed.
//!
//! ```text
//! | records ... | footer | footer | ... | trailer |
//!               ^ data end                        ^ end of file
//!
//! stream    members | offsets | tombstones | truncations | resumes | keys      each begins at a multiple of 4
//! members   runs of consecutive indexes, ascending: LEB128 gap (first minus the index behind the run before), LEB128 length - 1
//! offsets   u32 for each index of the members, in their order
//! tombstones   index u64, offset of the tombstone u32: deletions in force at the end of the segment
//! truncations  what u32, offset u32, index u64: those that reach back before this segment
//! resumes   offset u32, log number u32
//! keys      empty in this version of the code
//! ```

use super::fragment::{Bad, Expect, Framer, Kind, Part, RecordType, block_rest, read_fragment};
use super::{Checksum, Cursor, Malformed, Truncation, TruncationAt};
use crate::position::Position;

const MAGIC: [u8; 8] = *b"caskfoot";
const SECTIONS: usize = 6;

/// Size of a trailer's payload.
pub const TRAILER_BYTES: u32 = 8 + 4 * 4 + 8 + 2 * 8 + SECTIONS as u32 * 8;

/// Indexes `first ..= first + more`, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The first index.
    pub first: u64,
    /// How many follow it.
    pub more: u32,
}

impl Run {
    /// The last index.
    pub const fn last(self) -> u64 {
        self.first.saturating_add(self.more as u64)
    }
}

/// A deletion in force at the end of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TombstoneAt {
    /// The deleted index.
    pub index: u64,
    /// Where its tombstone stands in the segment.
    pub offset: u32,
}

/// What a footer holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Footer {
    /// The taken indexes of the segment, ascending.
    pub runs: Vec<Run>,
    /// The offset of each, in the order of `runs`.
    pub offsets: Vec<u32>,
    /// Deletions, ascending by index; also of entries of earlier segments.
    pub tombstones: Vec<TombstoneAt>,
    /// Truncations that reach back before the segment.
    pub truncations: Vec<TruncationAt>,
    /// The resume records: offset, and the log number in force behind it.
    pub resumes: Vec<(u32, u32)>,
}

/// The last record of a sealed segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trailer {
    /// The offset behind the last record.
    pub data_end: u32,
    /// The log number in force there, which the footer bears.
    pub log_number: u32,
    /// Taken indexes.
    pub entries: u32,
    /// The time of the last write, in milliseconds since 1970.
    pub last_write_ms: u64,
    /// The lowest and highest taken index; `None` where there is none.
    pub indexes: Option<(u64, u64)>,
    stream_bytes: u32,
    sections: [(u32, u32); SECTIONS],
}

/// The stream's pieces that start at `data_end`: offset of the fragment's payload, and its length.
fn pieces(checksum: Checksum, data_end: u32, stream_bytes: u32) -> impl Iterator<Item = (u32, u32)> {
    let header = checksum.fragment_header_bytes() as u32;
    let (mut at, mut left) = (u64::from(data_end), stream_bytes);
    std::iter::from_fn(move || {
        if left == 0 {
            return None;
        }
        let mut start = u32::try_from(at).ok()?;
        if block_rest(start) < header {
            start = start.checked_add(block_rest(start))?;
        }
        let piece = left.min((block_rest(start) - header) & !3);
        left -= piece;
        at = u64::from(start) + u64::from(header) + u64::from(piece);
        Some((start.checked_add(header)?, piece))
    })
}

/// Where the trailer's fragment would start in a sealed file of `file_bytes`; `None` where the file is too short.
pub fn footer_locate(checksum: Checksum, file_bytes: u64) -> Option<u32> {
    let fragment = checksum.fragment_header_bytes() as u64 + u64::from(TRAILER_BYTES);
    u32::try_from(file_bytes.checked_sub(fragment)?).ok().filter(|at| u64::from(block_rest(*at)) >= fragment)
}

impl Footer {
    /// Appends the footer and trailer of a segment whose records end at `data_end`. Returns the trailer and the size
    /// of the sealed file.
    pub fn encode(&self, out: &mut Vec<u8>, framer: Framer, data_end: u32, last_write_ms: u64) -> (Trailer, u32) {
        let mut stream = Vec::with_capacity(self.offsets.len() * 4 + self.tombstones.len() * 12 + 64);
        let mut sections = [(0, 0); SECTIONS];
        for (number, section) in sections.iter_mut().enumerate() {
            let start = stream.len();
            self.encode_section(number, &mut stream);
            *section = (start as u32, (stream.len() - start) as u32);
            stream.resize(stream.len().next_multiple_of(4), 0);
        }
        let trailer = Trailer {
            data_end,
            log_number: framer.log_number,
            entries: self.offsets.len() as u32,
            last_write_ms,
            indexes: self.runs.first().zip(self.runs.last()).map(|(first, last)| (first.first, last.last())),
            stream_bytes: stream.len() as u32,
            sections,
        };
        let footer = RecordType::alone(Kind::Footer);
        let (mut at, mut rest) = (data_end, stream.as_slice());
        for (payload_at, piece) in pieces(framer.checksum, data_end, trailer.stream_bytes) {
            let (piece, tail) = rest.split_at_checked(piece as usize).unwrap_or((rest, &[]));
            let start = payload_at - framer.checksum.fragment_header_bytes() as u32;
            out.resize(out.len() + (start - at) as usize, 0);
            (_, at) = framer.frame(out, start, footer, piece, None);
            rest = tail;
        }
        let fragment = framer.checksum.fragment_header_bytes() as u32 + TRAILER_BYTES;
        if block_rest(at) < fragment {
            // Never zeros where a header has room: a scan would take them for the end of the log.
            let rest = block_rest(at) as usize;
            match rest.checked_sub(framer.checksum.fragment_header_bytes()) {
                Some(room) => {
                    framer.frame(out, at, footer, &vec![0; room], None);
                }
                None => out.resize(out.len() + rest, 0),
            }
            at += rest as u32;
        }
        let (_, end) = framer.frame(out, at, footer, &trailer.to_payload(), None);
        (trailer, end)
    }

    fn encode_section(&self, number: usize, out: &mut Vec<u8>) {
        match number {
            0 => {
                let mut behind = 0;
                for run in &self.runs {
                    put_leb128(out, run.first.wrapping_sub(behind));
                    put_leb128(out, u64::from(run.more));
                    behind = run.last().wrapping_add(1);
                }
            }
            1 => self.offsets.iter().for_each(|offset| out.extend_from_slice(&offset.to_le_bytes())),
            2 => {
                for TombstoneAt { index, offset } in &self.tombstones {
                    out.extend_from_slice(&index.to_le_bytes());
                    out.extend_from_slice(&offset.to_le_bytes());
                }
            }
            3 => {
                for at in &self.truncations {
                    let (what, index) = match at.truncation {
                        Truncation::Before(index) => (0u32, index),
                        Truncation::After(index) => (1, index),
                        Truncation::Reset(index) => (2, index),
                    };
                    out.extend_from_slice(&what.to_le_bytes());
                    out.extend_from_slice(&at.position.offset32().to_le_bytes());
                    out.extend_from_slice(&index.to_le_bytes());
                }
            }
            4 => {
                for (offset, log_number) in &self.resumes {
                    out.extend_from_slice(&offset.to_le_bytes());
                    out.extend_from_slice(&log_number.to_le_bytes());
                }
            }
            _ => {}
        }
    }

    /// Reads the footer that `trailer` describes; `bytes` are those of the file from the trailer's data end on.
    ///
    /// # Errors
    /// [`Malformed`] where a fragment is bad or the contents contradict each other.
    pub fn decode(bytes: &[u8], checksum: Checksum, number: u32, trailer: &Trailer) -> Result<Self, Malformed> {
        let malformed = Malformed("footer");
        let mut stream = Vec::with_capacity((trailer.stream_bytes as usize).min(bytes.len()));
        for (payload_at, piece) in pieces(checksum, trailer.data_end, trailer.stream_bytes) {
            let start = payload_at - checksum.fragment_header_bytes() as u32;
            let from = bytes.get((start - trailer.data_end) as usize..).ok_or(malformed)?;
            let fragment = read_fragment(checksum, from, start, Expect::Exact(trailer.log_number), None)
                .map_err(|_: Bad| malformed)?;
            let fits = fragment.payload.len() == piece as usize;
            if !fits || fragment.record.kind != Kind::Footer || fragment.part != Part::Full {
                return Err(malformed);
            }
            stream.extend_from_slice(fragment.payload);
        }
        let section = |number: usize| {
            let (start, len) = trailer.sections.get(number).copied()?;
            stream.get(start as usize..(start as usize).checked_add(len as usize)?)
        };
        let footer = Footer {
            runs: decode_runs(section(0).ok_or(malformed)?).ok_or(malformed)?,
            offsets: records(section(1), |cursor| cursor.u32()).ok_or(malformed)?,
            tombstones: records(section(2), |cursor| Some(TombstoneAt { index: cursor.u64()?, offset: cursor.u32()? }))
                .ok_or(malformed)?,
            truncations: records(section(3), |cursor| {
                let (what, offset, index) = (cursor.u32()?, cursor.u32()?, cursor.u64()?);
                let truncation = match what {
                    0 => Truncation::Before(index),
                    1 => Truncation::After(index),
                    2 => Truncation::Reset(index),
                    _ => return None,
                };
                Some(TruncationAt { truncation, position: Position::new(number, offset) })
            })
            .ok_or(malformed)?,
            resumes: records(section(4), |cursor| Some((cursor.u32()?, cursor.u32()?))).ok_or(malformed)?,
        };
        let entries: u64 = footer.runs.iter().map(|run| u64::from(run.more) + 1).sum();
        let indexes = footer.runs.first().zip(footer.runs.last()).map(|(first, last)| (first.first, last.last()));
        let agrees = entries == footer.offsets.len() as u64
            && trailer.entries as usize == footer.offsets.len()
            && indexes == trailer.indexes
            && footer.offsets.iter().all(|offset| *offset < trailer.data_end);
        if agrees { Ok(footer) } else { Err(malformed) }
    }
}

impl Trailer {
    fn to_payload(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(TRAILER_BYTES as usize);
        out.extend_from_slice(&MAGIC);
        for number in [self.data_end, self.log_number, self.entries, self.stream_bytes] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.last_write_ms.to_le_bytes());
        // First above last says that there is none.
        let (first, last) = self.indexes.unwrap_or((1, 0));
        out.extend_from_slice(&first.to_le_bytes());
        out.extend_from_slice(&last.to_le_bytes());
        for (start, len) in self.sections {
            out.extend_from_slice(&start.to_le_bytes());
            out.extend_from_slice(&len.to_le_bytes());
        }
        out
    }

    /// Reads the trailer; `bytes` are those of the file from [`footer_locate`] on, `log_number` any of the file's.
    ///
    /// # Errors
    /// [`Bad`] where there is no trailer: the segment was not sealed, or its end is damaged.
    pub fn decode(bytes: &[u8], checksum: Checksum, at: u32, log_number: u32) -> Result<Self, Bad> {
        let fragment = read_fragment(checksum, bytes, at, Expect::File(log_number), None)?;
        let is_trailer = fragment.record.kind == Kind::Footer && fragment.part == Part::Full;
        let trailer = Self::from_payload(fragment.payload).filter(|_| is_trailer).ok_or(Bad::Sequence)?;
        let consistent = trailer.log_number == fragment.log_number && trailer.data_end <= at;
        if consistent { Ok(trailer) } else { Err(Bad::Sequence) }
    }

    fn from_payload(payload: &[u8]) -> Option<Self> {
        let mut cursor = Cursor(payload);
        let magic = cursor.array::<8>()?;
        let (data_end, log_number, entries, stream_bytes) =
            (cursor.u32()?, cursor.u32()?, cursor.u32()?, cursor.u32()?);
        let last_write_ms = cursor.u64()?;
        let (first, last) = (cursor.u64()?, cursor.u64()?);
        let mut sections = [(0, 0); SECTIONS];
        for section in &mut sections {
            *section = (cursor.u32()?, cursor.u32()?);
        }
        let indexes = (first <= last).then_some((first, last));
        (magic == MAGIC).then_some(Trailer {
            data_end,
            log_number,
            entries,
            last_write_ms,
            indexes,
            stream_bytes,
            sections,
        })
    }
}

fn records<T>(section: Option<&[u8]>, mut read: impl FnMut(&mut Cursor<'_>) -> Option<T>) -> Option<Vec<T>> {
    let mut cursor = Cursor(section?);
    let mut records = Vec::new();
    while !cursor.0.is_empty() {
        records.push(read(&mut cursor)?);
    }
    Some(records)
}

fn decode_runs(section: &[u8]) -> Option<Vec<Run>> {
    let mut cursor = Cursor(section);
    let mut runs = Vec::new();
    let mut behind = Some(0u64);
    while !cursor.0.is_empty() {
        // A run that ends at u64::MAX leaves no index for another.
        let first = behind?.checked_add(take_leb128(&mut cursor)?)?;
        let run = Run { first, more: u32::try_from(take_leb128(&mut cursor)?).ok()? };
        behind = first.checked_add(u64::from(run.more))?.checked_add(1);
        runs.push(run);
    }
    Some(runs)
}

fn put_leb128(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take_leb128(cursor: &mut Cursor<'_>) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = cursor.u8()?;
        let bits = u64::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            return None;
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}
