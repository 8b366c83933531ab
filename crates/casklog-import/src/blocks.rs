//! What rosedb and nogodb have in common: records in chunks, chunks in blocks of 32 KiB.
//!
//! ```text
//! offset  0               4        6      7
//!         checksum, CRC-32 | length | type | more of the header, in nogodb | payload
//! ```
//!
//! Numbers are little-endian. The checksum (IEEE) is of all that follows it, the length that of the payload. A chunk
//! does not cross a block; a record that does not fit is a first chunk, middle ones and a last one. Where no more
//! than a header is left of a block, it is zero, and the next chunk begins with the next block. Records do not cross
//! files.

use std::io;

use crate::error::Reason;
use crate::frames::{Entry, Frame, Frames, Label};
use crate::window::Window;

const BLOCK_BYTES: u64 = 32 << 10;

/// What the two differ in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Blocks {
    pub(crate) header_bytes: u64,
    pub(crate) full: u8,
    pub(crate) first: u8,
    pub(crate) middle: u8,
    pub(crate) last: u8,
}

/// What stands at a place.
#[derive(Debug)]
enum Chunk {
    Good { kind: u8, start: u64, end: u64 },
    Bad { start: u64, reason: Reason, claimed_end: Option<u64> },
    End,
}

impl Blocks {
    /// The chunk at `offset`, or behind the padding there.
    fn chunk(&self, window: &mut Window, offset: u64) -> io::Result<Chunk> {
        let block_left = BLOCK_BYTES - offset % BLOCK_BYTES;
        let mut start = offset;
        if block_left <= self.header_bytes {
            let padding = window.up_to(offset, block_left)?;
            if padding.iter().any(|byte| *byte != 0) {
                let reason = Reason::malformed("the padding at the end of a block is not zero");
                return Ok(Chunk::Bad { start, reason, claimed_end: Some(offset + padding.len() as u64) });
            }
            start += block_left;
        }
        if window.left(start) == 0 {
            return Ok(Chunk::End);
        }
        let bad = |reason, claimed_end| Ok(Chunk::Bad { start, reason, claimed_end });
        let header = window.up_to(start, self.header_bytes)?;
        let (Some(&[c0, c1, c2, c3, l0, l1, kind]), true) =
            (header.first_chunk(), header.len() as u64 == self.header_bytes)
        else {
            return bad(Reason::CutShort, None);
        };
        let checksum = u32::from_le_bytes([c0, c1, c2, c3]);
        let chunk_bytes = self.header_bytes + u64::from(u16::from_le_bytes([l0, l1]));
        if chunk_bytes > BLOCK_BYTES - start % BLOCK_BYTES {
            return bad(Reason::malformed("a chunk is longer than what is left of its block"), None);
        }
        if chunk_bytes > window.left(start) {
            return bad(Reason::CutShort, None);
        }
        let end = start + chunk_bytes;
        if crc32fast::hash(&window.up_to(start, chunk_bytes)?[4..]) != checksum {
            return bad(Reason::Checksum, Some(end));
        }
        if ![self.full, self.first, self.middle, self.last].contains(&kind) {
            return bad(Reason::malformed(format!("a chunk is of type {kind}, which is not known")), Some(end));
        }
        Ok(Chunk::Good { kind, start, end })
    }

    /// Appends the payload of a good chunk.
    fn payload(&self, window: &mut Window, value: &mut Vec<u8>, start: u64, end: u64) -> io::Result<()> {
        value.extend_from_slice(&window.up_to(start, end - start)?[self.header_bytes as usize..]);
        Ok(())
    }
}

impl Frames for Blocks {
    fn at(&mut self, window: &mut Window, offset: u64) -> io::Result<Frame> {
        let (kind, start, mut end) = match self.chunk(window, offset)? {
            Chunk::Good { kind, start, end } => (kind, start, end),
            Chunk::Bad { start, reason, claimed_end } => return Ok(Frame::Bad { offset: start, reason, claimed_end }),
            Chunk::End => return Ok(Frame::End),
        };
        let bad = |reason| Ok(Frame::Bad { offset: start, reason, claimed_end: None });
        if kind != self.full && kind != self.first {
            return bad(Reason::malformed("a part of a record stands without the first one"));
        }
        let mut value = Vec::new();
        self.payload(window, &mut value, start, end)?;
        let mut is_whole = kind == self.full;
        while !is_whole {
            match self.chunk(window, end)? {
                Chunk::Good { kind, start, end: chunk_end } if kind == self.middle || kind == self.last => {
                    self.payload(window, &mut value, start, chunk_end)?;
                    (is_whole, end) = (kind == self.last, chunk_end);
                }
                Chunk::Good { .. } => return bad(Reason::malformed("a record stands without its last part")),
                Chunk::Bad { reason, .. } => return bad(reason),
                Chunk::End => return bad(Reason::CutShort),
            }
        }
        Ok(Frame::Record(Entry { label: Label::None, value, start, end }))
    }

    /// Goes from chunk to chunk, and behind one that is damaged, too, to the next block.
    fn find(&mut self, window: &mut Window, bad: u64) -> io::Result<Option<u64>> {
        let mut at = bad;
        loop {
            at = match self.chunk(window, at)? {
                Chunk::Good { kind, start, .. } if start > bad && (kind == self.full || kind == self.first) => {
                    return Ok(Some(start));
                }
                Chunk::Good { end, .. } => end,
                Chunk::Bad { start, claimed_end, .. } => {
                    let next_block = start - start % BLOCK_BYTES + BLOCK_BYTES;
                    match claimed_end {
                        Some(end) if matches!(self.chunk(window, end)?, Chunk::Good { .. } | Chunk::End) => end,
                        _ => next_block,
                    }
                }
                Chunk::End => return Ok(None),
            }
        }
    }
}
