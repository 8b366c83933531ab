//! The footer of a sealed segment: a cache of what a scan of it would find. It proves nothing about durability.
//!
//! A stream of bytes, cut into pages, each a record of its own, then a trailer of fixed size that ends the file. The place
//! of every byte of the stream can be computed; see [`Trailer`].
//!
//! ```text
//! | records ... | page | page | ... | trailer |
//!               ^ data end                    ^ end of file
//!
//! stream       members | tombstones | truncations | resumes | offsets | keys      each begins at a multiple of 12
//! members      runs of consecutive indexes, ascending; see `Runs`
//! tombstones   index u64, offset of the tombstone u32: deletions in force at the end of the segment
//! truncations  what u32, offset u32, index u64: those that reach back before this segment
//! resumes      offset u32, log number u32
//! offsets      u32 for each index of the members, in their order
//! keys         hash u64, place in the members u32, ascending; all indexes or none
//! ```
//!
//! The first four are read at open and kept in memory, the last two are read where an entry is looked for.

use super::fragment::{Kind, RecordType, block_rest};
use super::framer::Framer;
use super::runs::{Run, Runs, encode_runs};
use super::trailer::{KEYS, OFFSETS, Pages, SECTIONS, TRAILER_BYTES, Trailer, UNIT};
use super::{Checksum, Cursor, Malformed, Truncation, TruncationAt};
use crate::position::Position;

/// A deletion in force at the end of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TombstoneAt {
    /// The deleted index.
    pub index: u64,
    /// Where its tombstone stands in the segment.
    pub offset: u32,
}

/// The key of an entry, hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyAt {
    /// See [`key_hash`].
    pub hash: u64,
    /// Which of the members has this key.
    pub place: u32,
}

impl KeyAt {
    /// Reads the twelve bytes of a key hash.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut cursor = Cursor(bytes);
        Some(KeyAt { hash: cursor.u64()?, place: cursor.u32()? })
    }
}

/// The hash of a key: SipHash-2-4 (Aumasson and Bernstein, 2012) under the log id, so that nobody who does not know the
/// log can make keys that collide.
pub fn key_hash(log_id: u128, key: &[u8]) -> u64 {
    siphasher::sip::SipHasher24::new_with_key(&log_id.to_le_bytes()).hash(key)
}

/// What a footer holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Footer {
    /// The taken indexes of the segment, ascending.
    pub runs: Vec<Run>,
    /// The offset of each, in the order of `runs`.
    pub offsets: Vec<u32>,
    /// The key of each, ascending by hash; or nothing.
    pub keys: Vec<KeyAt>,
    /// Deletions, ascending by index; also of entries of earlier segments.
    pub tombstones: Vec<TombstoneAt>,
    /// Truncations that reach back before the segment.
    pub truncations: Vec<TruncationAt>,
    /// The resume records: offset, and the log number in force behind it.
    pub resumes: Vec<(u32, u32)>,
}

/// What of a footer is kept in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// The taken indexes, coded; see [`Runs`].
    pub members: Vec<u8>,
    /// As in [`Footer`].
    pub tombstones: Vec<TombstoneAt>,
    /// As in [`Footer`].
    pub truncations: Vec<TruncationAt>,
    /// As in [`Footer`].
    pub resumes: Vec<(u32, u32)>,
}

impl Footer {
    /// Appends the footer and trailer of a segment whose records end at `data_end`. Returns the trailer and the size
    /// of the sealed file.
    pub fn encode(&self, out: &mut Vec<u8>, framer: Framer, data_end: u32, last_write_ms: u64) -> (Trailer, u32) {
        let mut stream = Vec::with_capacity(self.offsets.len() * 4 + self.keys.len() * 12 + 256);
        let mut sections = [(0, 0); SECTIONS];
        for (number, section) in sections.iter_mut().enumerate() {
            stream.resize(stream.len().next_multiple_of(UNIT as usize), 0);
            let start = stream.len();
            self.encode_section(number, &mut stream);
            *section = (start as u32, (stream.len() - start) as u32);
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
        let header = framer.checksum.fragment_header_bytes() as u32;
        let mut at = data_end;
        for page in Pages::new(framer.checksum, data_end, trailer.stream_bytes).iter() {
            let from = page.before as usize;
            let mut payload = stream.get(from..from + page.holds as usize).unwrap_or_default().to_vec();
            payload.resize((page.bytes - header) as usize, 0);
            (_, at) = framer.frame(out, at, footer, &payload);
        }
        if block_rest(at) < header + TRAILER_BYTES {
            // Never zeros where a header has room: a scan would take them for the end of the log.
            let rest = block_rest(at);
            match rest.checked_sub(header) {
                Some(room) => {
                    framer.frame(out, at, footer, &vec![0; room as usize]);
                }
                None => out.resize(out.len() + rest as usize, 0),
            }
            at += rest;
        }
        let (_, end) = framer.frame(out, at, footer, &trailer.to_payload());
        (trailer, end)
    }

    fn encode_section(&self, number: usize, out: &mut Vec<u8>) {
        match number {
            0 => encode_runs(out, &self.runs),
            1 => {
                for TombstoneAt { index, offset } in &self.tombstones {
                    out.extend_from_slice(&index.to_le_bytes());
                    out.extend_from_slice(&offset.to_le_bytes());
                }
            }
            2 => {
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
            3 => {
                for (offset, log_number) in &self.resumes {
                    out.extend_from_slice(&offset.to_le_bytes());
                    out.extend_from_slice(&log_number.to_le_bytes());
                }
            }
            OFFSETS => self.offsets.iter().for_each(|offset| out.extend_from_slice(&offset.to_le_bytes())),
            KEYS => {
                for KeyAt { hash, place } in &self.keys {
                    out.extend_from_slice(&hash.to_le_bytes());
                    out.extend_from_slice(&place.to_le_bytes());
                }
            }
            _ => {}
        }
    }

    /// Reads the footer that `trailer` describes; `bytes` are those of the file from the trailer's data end on.
    ///
    /// # Errors
    /// [`Malformed`] where a page is bad or the contents contradict each other.
    pub fn decode(bytes: &[u8], checksum: Checksum, number: u32, trailer: &Trailer) -> Result<Self, Malformed> {
        let stream = read_stream(bytes, checksum, trailer, trailer.stream_bytes)?;
        let summary = summary(&stream, number, trailer)?;
        let mut runs = Vec::new();
        let mut walk = Runs::new(&summary.members);
        while let Some(run) = walk.next_run()? {
            runs.push(run);
        }
        let Summary { tombstones, truncations, resumes, .. } = summary;
        let malformed = Malformed("footer");
        let offsets = records(section(&stream, trailer, OFFSETS), |cursor| cursor.u32()).ok_or(malformed)?;
        let keys = section(&stream, trailer, KEYS);
        let keys = records(keys, |cursor| Some(KeyAt { hash: cursor.u64()?, place: cursor.u32()? }));
        let keys = keys.ok_or(malformed)?;
        let agrees = offsets.iter().all(|offset| *offset < trailer.data_end)
            && keys.is_sorted()
            && keys.iter().all(|key| key.place < trailer.entries);
        let footer = Footer { runs, offsets, keys, tombstones, truncations, resumes };
        if agrees { Ok(footer) } else { Err(malformed) }
    }
}

impl Summary {
    /// Reads what of a footer is kept in memory; `bytes` are those of the file from the trailer's data end to its
    /// [`summary_end`](Trailer::summary_end).
    ///
    /// # Errors
    /// As [`Footer::decode`].
    pub fn decode(bytes: &[u8], checksum: Checksum, number: u32, trailer: &Trailer) -> Result<Self, Malformed> {
        let wanted = trailer.sections.get(OFFSETS).map_or(0, |section| section.0);
        let stream = read_stream(bytes, checksum, trailer, wanted)?;
        summary(&stream, number, trailer)
    }
}

/// The first `wanted` bytes of the stream, and what else their pages hold.
fn read_stream(bytes: &[u8], checksum: Checksum, trailer: &Trailer, wanted: u32) -> Result<Vec<u8>, Malformed> {
    let malformed = Malformed("footer");
    let mut stream = Vec::with_capacity((wanted as usize).min(bytes.len()));
    for page in trailer.pages(checksum).iter().take_while(|page| page.before < wanted) {
        let from = bytes.get((page.at - trailer.data_end) as usize..).ok_or(malformed)?;
        let payload = page.read(from, checksum, trailer.log_number).map_err(|_| malformed)?;
        stream.extend_from_slice(payload.get(..page.holds as usize).ok_or(malformed)?);
    }
    Ok(stream)
}

fn section<'a>(stream: &'a [u8], trailer: &Trailer, number: usize) -> Option<&'a [u8]> {
    let (start, len) = trailer.sections.get(number).copied()?;
    stream.get(start as usize..(start as usize).checked_add(len as usize)?)
}

fn summary(stream: &[u8], number: u32, trailer: &Trailer) -> Result<Summary, Malformed> {
    let malformed = Malformed("footer");
    let members = section(stream, trailer, 0).ok_or(malformed)?.to_vec();
    let (mut entries, mut bounds) = (0, None::<(u64, u64)>);
    let mut walk = Runs::new(&members);
    while let Some(run) = walk.next_run()? {
        entries += u64::from(run.more) + 1;
        bounds = Some((bounds.map_or(run.first, |(first, _)| first), run.last()));
    }
    let tombstone = |cursor: &mut Cursor<'_>| Some(TombstoneAt { index: cursor.u64()?, offset: cursor.u32()? });
    let truncation = |cursor: &mut Cursor<'_>| {
        let (what, offset, index) = (cursor.u32()?, cursor.u32()?, cursor.u64()?);
        let truncation = match what {
            0 => Truncation::Before(index),
            1 => Truncation::After(index),
            2 => Truncation::Reset(index),
            _ => return None,
        };
        Some(TruncationAt { truncation, position: Position::new(number, offset) })
    };
    let resume = |cursor: &mut Cursor<'_>| Some((cursor.u32()?, cursor.u32()?));
    let summary = Summary {
        members,
        tombstones: records(section(stream, trailer, 1), tombstone).ok_or(malformed)?,
        truncations: records(section(stream, trailer, 2), truncation).ok_or(malformed)?,
        resumes: records(section(stream, trailer, 3), resume).ok_or(malformed)?,
    };
    let agrees = entries == u64::from(trailer.entries) && bounds == trailer.indexes;
    if agrees { Ok(summary) } else { Err(malformed) }
}

fn records<T>(section: Option<&[u8]>, mut read: impl FnMut(&mut Cursor<'_>) -> Option<T>) -> Option<Vec<T>> {
    let mut cursor = Cursor(section?);
    let mut records = Vec::new();
    while !cursor.0.is_empty() {
        records.push(read(&mut cursor)?);
    }
    Some(records)
}
