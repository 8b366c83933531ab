//! The end of a sealed segment: the trailer, and where each page of the footer stands.
//!
//! The footer's stream is cut into pages of 4 KiB, each one fragment, so that one entry's offset is read and checked
//! with one small read. A page holds a multiple of 12 bytes of the stream, which keeps its numbers whole. The first page
//! begins at the data end and reaches to a multiple of 4 KiB; the last one is as long as what is left.

use super::fragment::{Bad, Expect, Kind, Part, block_rest, read_fragment};
use super::{Checksum, Cursor};

const MAGIC: [u8; 8] = *b"caskfoot";

/// Sections of a footer's stream.
pub(super) const SECTIONS: usize = 6;
pub(super) const OFFSETS: usize = 4;
pub(super) const KEYS: usize = 5;

/// Every section starts at a multiple of this in the stream, and every page holds a multiple of it.
pub(super) const UNIT: u32 = 12;

/// Size of a page of the footer, its fragment header included.
pub const PAGE_BYTES: u32 = 4096;

/// Size of a trailer's payload.
pub const TRAILER_BYTES: u32 = 8 + 4 * 4 + 8 + 2 * 8 + SECTIONS as u32 * 8;

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
    pub(super) stream_bytes: u32,
    pub(super) sections: [(u32, u32); SECTIONS],
}

/// One fragment of the footer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// Its offset in the file.
    pub at: u32,
    /// Its size, fragment header included.
    pub bytes: u32,
    /// The bytes of the stream before it.
    pub before: u32,
    /// The bytes of the stream in it.
    pub holds: u32,
}

impl Page {
    /// Whether it holds this byte of the stream.
    pub const fn holds_stream(&self, at: u32) -> bool {
        at >= self.before && at - self.before < self.holds
    }

    /// Reads the payload; `bytes` are those of the file from the page's offset on.
    ///
    /// # Errors
    /// [`Bad`] where this is not the page.
    pub fn read<'a>(&self, bytes: &'a [u8], checksum: Checksum, log_number: u32) -> Result<&'a [u8], Bad> {
        let fragment = read_fragment(checksum, bytes, self.at, Expect::Exact(log_number), None)?;
        let fits = self.at.checked_add(self.bytes) == Some(fragment.end);
        if fits && fragment.record.kind == Kind::Footer && fragment.part == Part::Full {
            Ok(fragment.payload)
        } else {
            Err(Bad::Sequence)
        }
    }
}

/// The pages of a stream of `stream_bytes` behind `data_end`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pages {
    header: u32,
    stream_bytes: u32,
    first: u32,
    /// Where the second page would start.
    second: u32,
}

impl Pages {
    pub(super) fn new(checksum: Checksum, data_end: u32, stream_bytes: u32) -> Self {
        let header = checksum.fragment_header_bytes() as u32;
        let rest = block_rest(data_end);
        let first = if rest < header { data_end.saturating_add(rest) } else { data_end };
        // A rest of a page too small for a fragment goes with the next page, which stands in the same block.
        let second = first.saturating_add(header).checked_next_multiple_of(PAGE_BYTES).unwrap_or(u32::MAX);
        Pages { header, stream_bytes, first, second }
    }

    /// The bytes of the stream that a page of this size has room for.
    const fn room(&self, bytes: u32) -> u32 {
        let room = bytes.saturating_sub(self.header);
        room - room % UNIT
    }

    fn page(&self, number: u32) -> Option<Page> {
        let in_first = self.room(self.second - self.first);
        let (at, end, before) = match number.checked_sub(1) {
            None => (self.first, self.second, 0),
            Some(whole) => {
                let at = self.second.checked_add(whole.checked_mul(PAGE_BYTES)?)?;
                (at, at.checked_add(PAGE_BYTES)?, in_first.checked_add(whole.checked_mul(self.room(PAGE_BYTES))?)?)
            }
        };
        let left = self.stream_bytes.checked_sub(before).filter(|left| *left != 0)?;
        let holds = self.room(end - at).min(left);
        let bytes = if holds == left { self.header + holds } else { end - at };
        Some(Page { at, bytes, before, holds })
    }

    /// The page that holds this byte of the stream.
    pub(super) fn at(&self, stream_at: u32) -> Option<Page> {
        let behind_first = stream_at.checked_sub(self.room(self.second - self.first));
        let number = behind_first.map_or(0, |bytes| bytes / self.room(PAGE_BYTES) + 1);
        self.page(number).filter(|_| stream_at < self.stream_bytes)
    }

    /// All pages, in order. The first may have room for nothing.
    pub(super) fn iter(self) -> impl Iterator<Item = Page> {
        (0..).map_while(move |number| self.page(number))
    }
}

/// Where the trailer's fragment would start in a sealed file of `file_bytes`; `None` where the file is too short.
pub fn footer_locate(checksum: Checksum, file_bytes: u64) -> Option<u32> {
    let fragment = checksum.fragment_header_bytes() as u64 + u64::from(TRAILER_BYTES);
    u32::try_from(file_bytes.checked_sub(fragment)?).ok().filter(|at| u64::from(block_rest(*at)) >= fragment)
}

impl Trailer {
    /// The page that holds the offset of the `place`th index of the members, and where in its payload; four bytes.
    pub fn offset_slot(&self, checksum: Checksum, place: u32) -> Option<(Page, usize)> {
        self.slot(checksum, OFFSETS, place, 4)
    }

    /// The page that holds the `place`th key hash, and where in its payload; twelve bytes.
    pub fn key_slot(&self, checksum: Checksum, place: u32) -> Option<(Page, usize)> {
        self.slot(checksum, KEYS, place, 12)
    }

    /// Where in the stream that offset starts.
    pub const fn offset_start(&self, place: u32) -> u32 {
        let [.., (offsets, _), _] = self.sections;
        offsets.wrapping_add(place.wrapping_mul(4))
    }

    /// Whether the footer has key hashes.
    pub const fn has_keys(&self) -> bool {
        self.sections[KEYS].1 != 0 || self.entries == 0
    }

    fn slot(&self, checksum: Checksum, section: usize, place: u32, width: u32) -> Option<(Page, usize)> {
        let (start, len) = *self.sections.get(section)?;
        let at = place.checked_mul(width).filter(|at| *at < len)?.checked_add(start)?;
        let page = self.pages(checksum).at(at)?;
        Some((page, (at - page.before) as usize))
    }

    pub(super) fn pages(&self, checksum: Checksum) -> Pages {
        Pages::new(checksum, self.data_end, self.stream_bytes)
    }

    /// The offset behind the last page of what is kept in memory: all sections but the offsets and keys.
    pub fn summary_end(&self, checksum: Checksum) -> u32 {
        let bytes = self.sections.get(OFFSETS).map_or(0, |section| section.0);
        let last = bytes.checked_sub(1).and_then(|last| self.pages(checksum).at(last));
        last.map_or(self.data_end, |page| page.at.saturating_add(page.bytes))
    }

    pub(super) fn to_payload(self) -> Vec<u8> {
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
        let consistent = trailer.log_number == fragment.log_number && trailer.is_consistent(at, checksum);
        if consistent { Ok(trailer) } else { Err(Bad::Sequence) }
    }

    /// Whether the sections fit the stream and the stream ends before the trailer, which starts at `at`.
    fn is_consistent(&self, at: u32, checksum: Checksum) -> bool {
        let mut end = 0;
        let in_order = self.sections.iter().all(|(start, len)| {
            let follows = *start >= end && start.is_multiple_of(UNIT);
            end = start.saturating_add(*len);
            follows && end <= self.stream_bytes
        });
        let last = self.stream_bytes.checked_sub(1).map(|last| self.pages(checksum).at(last));
        let pages_end = match last {
            None => Some(self.data_end),
            Some(page) => page.and_then(|page| page.at.checked_add(page.bytes)),
        };
        let [offsets, keys] = [OFFSETS, KEYS].map(|section| self.sections.get(section).map_or(0, |section| section.1));
        let counts = u64::from(offsets) == u64::from(self.entries) * 4
            && (keys == 0 || u64::from(keys) == u64::from(self.entries) * 12);
        in_order && counts && pages_end.is_some_and(|end| end <= at)
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
