//! Laying records into blocks: one, many at a time, or in place.

use std::ops::Range;

use super::checksum::Checksum;
use super::fragment::{BLOCK_BYTES, FIELDS_BYTES, Fields, Part, RecordType, block_rest, sum_of};

/// What [`Framer::frame_all`] wants before each payload: as much as the header of a fragment has with the usual checksum.
pub const ROOM_BYTES: usize = Checksum::Crc32.fragment_header_bytes();

/// Lays records into blocks.
#[derive(Debug, Clone, Copy)]
pub struct Framer {
    /// The segment's checksum.
    pub checksum: Checksum,
    /// The log number in force.
    pub log_number: u32,
}

impl Framer {
    /// Where the first fragment of a record goes that is appended at `at`: `at`, or the next block.
    pub const fn start(&self, at: u32) -> u32 {
        let rest = block_rest(at);
        if (rest as usize) < self.checksum.fragment_header_bytes() { at + rest } else { at }
    }

    /// Where a record of `payload_bytes` ends that is appended at `at`; may lie beyond 4 GiB.
    pub const fn end(&self, at: u64, payload_bytes: u64) -> u64 {
        let header = self.checksum.fragment_header_bytes() as u64;
        let block = BLOCK_BYTES as u64;
        let rest = block - at % block;
        let (start, room) = if rest < header { (at + rest, block - header) } else { (at, rest - header) };
        if payload_bytes <= room {
            return start + header + payload_bytes;
        }
        let beyond = payload_bytes - room;
        let full = block - header;
        let whole = (beyond - 1) / full;
        start + header + room + whole * block + header + (beyond - whole * full)
    }

    /// The payload of a padding record at `at` behind which the next record starts at a multiple of `align`, which divides
    /// the block size; none where that is so already.
    pub fn padding(&self, at: u32, align: u32) -> Option<Vec<u8>> {
        let (at, header) = (self.start(at), self.checksum.fragment_header_bytes() as u32);
        let gap = if align == 0 { 0 } else { at.next_multiple_of(align) - at };
        let gap = if gap == 0 || gap >= header { gap } else { gap + align };
        (gap != 0).then(|| vec![0; (gap - header) as usize])
    }

    /// Appends to `out` the bytes of one record whose place in the file is `at`, zeros up to the next block included
    /// where the rest of this one is too small. Returns the offset of its first fragment and the offset behind it.
    pub fn frame(&self, out: &mut Vec<u8>, at: u32, record: RecordType, payload: &[u8]) -> (u32, u32) {
        let base = out.len();
        let (start, end) = self.lay(out, at, record, payload);
        if self.fits(start, payload.len())
            && let Some(fragment) = out.get_mut(base + (start - at) as usize..)
        {
            self.frame_in_place(fragment, start, record);
        }
        (start, end)
    }

    /// As [`frame`](Framer::frame), for records that follow each other; adds to `starts` where each begins. Each record comes
    /// with where its payload stands in `bytes`, behind [`ROOM_BYTES`] that are nobody's: those that follow each other there
    /// and stay in one block are copied at once.
    ///
    /// All are laid out before any is summed: who sums what was stored a moment ago waits for the stores, and the processor
    /// sums several at once where nothing comes between them.
    pub fn frame_all(
        &self,
        out: &mut Vec<u8>,
        mut at: u32,
        bytes: &[u8],
        records: impl Iterator<Item = (RecordType, Range<usize>)> + Clone,
        starts: &mut Vec<u32>,
    ) {
        let (base, first, header) = (out.len(), at, self.checksum.fragment_header_bytes());
        // Records that are not copied yet: with their rooms they are a part of what is framed.
        let mut run = 0..0;
        for (record, payload) in records.clone() {
            if header == ROOM_BYTES && self.fits(at, payload.len()) {
                if run.end != payload.start - ROOM_BYTES {
                    out.extend_from_slice(bytes.get(run).unwrap_or_default());
                    run = payload.start - ROOM_BYTES..0;
                }
                starts.push(at);
                at += (header + payload.len()) as u32;
                run.end = payload.end;
            } else {
                out.extend_from_slice(bytes.get(std::mem::take(&mut run)).unwrap_or_default());
                let start;
                (start, at) = self.lay(out, at, record, bytes.get(payload).unwrap_or_default());
                starts.push(start);
            }
        }
        out.extend_from_slice(bytes.get(run).unwrap_or_default());
        let framed = out.get_mut(base..).unwrap_or_default();
        for ((record, payload), start) in records.zip(&*starts) {
            let from = (start - first) as usize;
            if self.fits(*start, payload.len())
                && let Some(fragment) = framed.get_mut(from..from + header + payload.len())
            {
                self.frame_in_place(fragment, *start, record);
            }
        }
    }

    /// Appends the fragments of a record. Of one that is whole in one fragment the header is zeros.
    #[inline]
    fn lay(&self, out: &mut Vec<u8>, at: u32, record: RecordType, payload: &[u8]) -> (u32, u32) {
        let header = self.checksum.fragment_header_bytes();
        let start = self.start(at);
        out.reserve((start - at) as usize + header + payload.len());
        out.resize(out.len() + (start - at) as usize, 0);
        if self.fits(start, payload.len()) {
            out.resize(out.len() + header, 0);
            out.extend_from_slice(payload);
            return (start, start + (header + payload.len()) as u32);
        }
        let (mut at, mut rest, mut previous) = (start, payload, None::<u64>);
        loop {
            let (piece, tail) = rest.split_at((block_rest(at) as usize - header).min(rest.len()));
            let part = match (previous.is_none(), tail.is_empty()) {
                (true, _) => Part::First,
                (false, false) => Part::Middle,
                (false, true) => Part::Last,
            };
            let begin = out.len();
            self.lay_fragment(out, record.code(part), piece);
            previous = self.seal(out.get_mut(begin..).unwrap_or_default(), at, previous);
            at += (header + piece.len()) as u32;
            rest = tail;
            if part == Part::Last {
                return (start, at);
            }
        }
    }

    /// Appends a fragment whose checksum is zero.
    #[inline]
    fn lay_fragment(&self, out: &mut Vec<u8>, code: u8, piece: &[u8]) {
        match self.checksum {
            Checksum::Crc32 => out.extend_from_slice(&[0; 4]),
            Checksum::Crc64 => out.extend_from_slice(&[0; 8]),
        }
        out.extend_from_slice(&self.fields(code, piece.len()));
        out.extend_from_slice(piece);
    }

    /// Whether a record of `payload_bytes` appended at `at` would begin there and be whole in one fragment.
    #[inline]
    pub const fn fits(&self, at: u32, payload_bytes: usize) -> bool {
        payload_bytes + self.checksum.fragment_header_bytes() <= block_rest(at) as usize
    }

    /// Makes a record that [fits](Framer::fits) at `at` of `bytes`: room for a fragment header, and its payload.
    #[inline]
    pub fn frame_in_place(&self, bytes: &mut [u8], at: u32, record: RecordType) {
        let payload_bytes = bytes.len().saturating_sub(self.checksum.fragment_header_bytes());
        if let Some(fields) = bytes.get_mut(self.checksum.sum_bytes()..).and_then(|rest| rest.first_chunk_mut()) {
            *fields = self.fields(record.code(Part::Full), payload_bytes);
            self.seal(bytes, at, None);
        }
    }

    #[inline]
    fn fields(&self, code: u8, payload_bytes: usize) -> [u8; FIELDS_BYTES] {
        Fields { length: payload_bytes as u16, code, log_number: self.log_number }.to_bytes()
    }

    /// Fills in the checksum of a fragment, and returns it.
    #[inline]
    fn seal(&self, bytes: &mut [u8], at: u32, previous: Option<u64>) -> Option<u64> {
        let (sum_field, covered) = bytes.split_at_mut_checked(self.checksum.sum_bytes())?;
        let sum = sum_of(self.checksum, covered, at, previous);
        let stored = sum.to_le_bytes();
        sum_field.copy_from_slice(stored.get(..sum_field.len())?);
        Some(sum)
    }
}
