//! gowal 0.0.4: nothing but MessagePack maps, one behind the other.
//!
//! ```text
//! {"Idx": uint, "Key": str, "Value": bin, "Checksum": uint}
//! ```
//!
//! The checksum is the CRC-32 (IEEE) of the index as 8 bytes little-endian, the key, and the value.

use std::io;

use crc32fast::Hasher;

use crate::error::Reason;
use crate::frames::{Frame, Frames};
use crate::raw::Bad;
use crate::window::Window;

use super::{Fields, record};

/// How every record begins.
const START: &[u8] = b"\x84\xa3Idx";

/// Most records are read at once with this.
const GUESS_BYTES: u64 = 4096;

/// What is read beyond what a length asks for: the fields behind a value.
const BEHIND_BYTES: u64 = 64;

#[derive(Debug)]
pub(crate) struct Gowal0;

/// Reads the record at the front of `bytes`, which stand at `start`.
fn parse(bytes: &[u8], start: u64) -> Result<Frame, Bad> {
    let mut rest = bytes;
    let fields = Fields::parse(&mut rest, 4)?;
    let end = start + (bytes.len() - rest.len()) as u64;
    let Fields { index: Some(index), key: Some(key), value: Some(value), checksum: Some(checksum) } = fields else {
        return Err(Bad::Malformed("a record has a field twice"));
    };
    let mut hasher = Hasher::new();
    hasher.update(&index.to_le_bytes());
    hasher.update(key);
    hasher.update(value);
    Ok(if u64::from(hasher.finalize()) == checksum {
        record(index, key, value, start, end)
    } else {
        Frame::Bad { offset: start, reason: Reason::Checksum, claimed_end: Some(end) }
    })
}

impl Frames for Gowal0 {
    fn at(&mut self, window: &mut Window, offset: u64) -> io::Result<Frame> {
        let left = window.left(offset);
        if left == 0 {
            return Ok(Frame::End);
        }
        let mut count = GUESS_BYTES.min(left);
        loop {
            let reason = match parse(window.up_to(offset, count)?, offset) {
                Ok(frame) => return Ok(frame),
                Err(Bad::Cut { missing }) if missing <= left - count => {
                    count = count.saturating_add(missing + BEHIND_BYTES).min(left);
                    continue;
                }
                Err(Bad::Cut { .. }) => Reason::CutShort,
                Err(Bad::Malformed(what)) => Reason::malformed(what),
            };
            return Ok(Frame::Bad { offset, reason, claimed_end: None });
        }
    }

    fn find(&mut self, window: &mut Window, bad: u64) -> io::Result<Option<u64>> {
        let mut from = bad + 1;
        while let Some(place) = window.find(from, START)? {
            if let Frame::Record(_) = self.at(window, place)? {
                return Ok(Some(place));
            }
            from = place + 1;
        }
        Ok(None)
    }
}
