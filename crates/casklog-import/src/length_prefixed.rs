//! Payloads behind their length, and nothing else: what many small logs are. Such a file has no checksum and no mark,
//! so that it is not recognized, damage in it is not noticed, and behind a length that cannot be, nothing can be
//! read.

use std::io;

use crate::error::Reason;
use crate::format::Prefix;
use crate::frames::{Entry, Frame, Frames, Label};
use crate::window::Window;

#[derive(Debug)]
pub(crate) struct LengthPrefixed(pub(crate) Prefix);

impl Prefix {
    const fn bytes(self) -> u64 {
        match self {
            Prefix::U16Le | Prefix::U16Be => 2,
            Prefix::U32Le | Prefix::U32Be => 4,
            Prefix::U64Le | Prefix::U64Be => 8,
        }
    }

    fn decode(self, bytes: &[u8]) -> Option<u64> {
        match self {
            Prefix::U16Le => bytes.first_chunk().map(|bytes| u16::from_le_bytes(*bytes).into()),
            Prefix::U16Be => bytes.first_chunk().map(|bytes| u16::from_be_bytes(*bytes).into()),
            Prefix::U32Le => bytes.first_chunk().map(|bytes| u32::from_le_bytes(*bytes).into()),
            Prefix::U32Be => bytes.first_chunk().map(|bytes| u32::from_be_bytes(*bytes).into()),
            Prefix::U64Le => bytes.first_chunk().map(|bytes| u64::from_le_bytes(*bytes)),
            Prefix::U64Be => bytes.first_chunk().map(|bytes| u64::from_be_bytes(*bytes)),
        }
    }
}

impl Frames for LengthPrefixed {
    fn at(&mut self, window: &mut Window, offset: u64) -> io::Result<Frame> {
        let left = window.left(offset);
        if left == 0 {
            return Ok(Frame::End);
        }
        let start = offset + self.0.bytes();
        match self.0.decode(window.up_to(offset, self.0.bytes())?) {
            Some(length) if length <= window.left(start) => {
                let value = window.up_to(start, length)?.to_vec();
                Ok(Frame::Record(Entry { label: Label::None, value, start: offset, end: start + length }))
            }
            _ => Ok(Frame::Bad { offset, reason: Reason::CutShort, claimed_end: None }),
        }
    }

    fn find(&mut self, _window: &mut Window, _bad: u64) -> io::Result<Option<u64>> {
        Ok(None)
    }
}
