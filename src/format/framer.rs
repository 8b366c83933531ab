//! Laying records into blocks: one, many at a time, or in place.

use std::ops::Range;

use super::checksum::Checksum;
use super::fragment::{
    BLOCK_BYTES, FIELDS_BYTES, FRAGMENT_HEADER_BYTES_MAX, Fields, Part, RecordType, block_rest, bound, sum_of,
};

/// What [`Framer::frame_all`] wants before each payload: as much as the header of a fragment has with the usual checksum.
pub const ROOM_BYTES: usize = Checksum::Crc32.fragment_header_bytes();

/// One fragment, as it is laid into the file, of a record that is not whole in one.
#[derive(Debug, Clone, Copy)]
pub struct Laid<'a> {
    /// Where it starts.
    at: u32,
    header: [u8; FRAGMENT_HEADER_BYTES_MAX],
    header_bytes: usize,
    /// Its part of the record's payload.
    piece: [&'a [u8]; 2],
}

impl Laid<'_> {
    /// Its bytes: header and payload.
    pub fn parts(&self) -> [&[u8]; 3] {
        let [head, tail] = self.piece;
        [self.header.get(..self.header_bytes).unwrap_or_default(), head, tail]
    }

    /// Behind it.
    pub fn end(&self) -> u32 {
        self.at + self.parts().iter().map(|part| part.len() as u32).sum::<u32>()
    }
}

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
    /// All are laid out and get their headers before any is summed: who sums what was stored a moment ago waits for the stores, and the processor
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
        for ((record, payload), start) in records.clone().zip(&*starts) {
            let from = (start - first) as usize;
            if self.fits(*start, payload.len())
                && let Some(fragment) = framed.get_mut(from..from + header + payload.len())
            {
                self.head(fragment, record);
            }
        }
        for ((_, payload), start) in records.zip(&*starts) {
            let from = (start - first) as usize;
            if self.fits(*start, payload.len())
                && let Some(fragment) = framed.get_mut(from..from + header + payload.len())
            {
                self.seal(fragment, *start);
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
        let mut end = start;
        for laid in self.fragments(start, record, [payload, &[]]) {
            laid.parts().iter().for_each(|part| out.extend_from_slice(part));
            end = laid.end();
        }
        (start, end)
    }

    /// The fragments of a record that starts at `start` and is not whole in one; its payload is in two parts.
    pub fn fragments<'a>(
        &self,
        start: u32,
        record: RecordType,
        [mut head, mut tail]: [&'a [u8]; 2],
    ) -> impl Iterator<Item = Laid<'a>> + use<'a> {
        let (framer, header_bytes) = (*self, self.checksum.fragment_header_bytes());
        let (mut at, mut previous, mut is_done) = (start, None, false);
        std::iter::from_fn(move || {
            if is_done {
                return None;
            }
            let room = block_rest(at) as usize - header_bytes;
            let (first, rest) = head.split_at(room.min(head.len()));
            let (second, left) = tail.split_at((room - first.len()).min(tail.len()));
            (head, tail) = (rest, left);
            is_done = head.is_empty() && tail.is_empty();
            let part = match (previous.is_none(), is_done) {
                (true, _) => Part::First,
                (false, false) => Part::Middle,
                (false, true) => Part::Last,
            };
            let fields = framer.fields(record.code(part), first.len() + second.len());
            let sum = bound(framer.checksum.of_all(&[&fields, first, second]), at, previous);
            let mut header = [0; FRAGMENT_HEADER_BYTES_MAX];
            let sum_bytes = framer.checksum.sum_bytes();
            header.get_mut(..sum_bytes)?.copy_from_slice(sum.to_le_bytes().get(..sum_bytes)?);
            *header.get_mut(sum_bytes..)?.first_chunk_mut()? = fields;
            let laid = Laid { at, header, header_bytes, piece: [first, second] };
            (at, previous) = (laid.end(), Some(sum));
            Some(laid)
        })
    }

    /// Whether a record of `payload_bytes` appended at `at` would begin there and be whole in one fragment.
    #[inline]
    pub const fn fits(&self, at: u32, payload_bytes: usize) -> bool {
        payload_bytes + self.checksum.fragment_header_bytes() <= block_rest(at) as usize
    }

    /// Makes a record that [fits](Framer::fits) at `at` of `bytes`: room for a fragment header, and its payload.
    #[inline]
    pub fn frame_in_place(&self, bytes: &mut [u8], at: u32, record: RecordType) {
        self.head(bytes, record);
        self.seal(bytes, at);
    }

    /// Fills in what the only fragment of a record says of itself, but for its checksum.
    #[inline]
    fn head(&self, bytes: &mut [u8], record: RecordType) {
        let payload_bytes = bytes.len().saturating_sub(self.checksum.fragment_header_bytes());
        if let Some(fields) = bytes.get_mut(self.checksum.sum_bytes()..).and_then(|rest| rest.first_chunk_mut()) {
            *fields = self.fields(record.code(Part::Full), payload_bytes);
        }
    }

    #[inline]
    fn fields(&self, code: u8, payload_bytes: usize) -> [u8; FIELDS_BYTES] {
        Fields { length: payload_bytes as u16, code, log_number: self.log_number }.to_bytes()
    }

    /// Fills in the checksum of the only fragment of a record.
    #[inline]
    fn seal(&self, bytes: &mut [u8], at: u32) {
        if let Some((sum_field, covered)) = bytes.split_at_mut_checked(self.checksum.sum_bytes()) {
            let sum = sum_of(self.checksum, covered, at, None).to_le_bytes();
            sum_field.copy_from_slice(sum.get(..sum_field.len()).unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Kind;

    #[test]
    fn a_payload_in_two_parts_is_laid_as_one_is_wherever_it_is_parted() {
        for checksum in [Checksum::Crc32, Checksum::Crc64] {
            let framer = Framer { checksum, log_number: 7 << 16 };
            let record = RecordType::alone(Kind::Entry);
            let payload: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
            for start in [64, 20_000, BLOCK_BYTES - 40] {
                let mut framed = Vec::new();
                let (_, end) = framer.frame(&mut framed, start, record, &payload);
                let room = (block_rest(start) as usize).saturating_sub(checksum.fragment_header_bytes());
                for cut in [0, 1, room - 1, room, room + 1, 50_000, payload.len() - 1, payload.len()] {
                    let (head, tail) = payload.split_at(cut);
                    let laid: Vec<_> = framer.fragments(start, record, [head, tail]).collect();
                    let bytes: Vec<u8> = laid.iter().flat_map(|laid| laid.parts().concat()).collect();
                    assert!(bytes == framed, "{checksum:?}, from {start}, parted at {cut}");
                    assert_eq!(laid.last().map(Laid::end), Some(end));
                }
            }
        }
    }
}
