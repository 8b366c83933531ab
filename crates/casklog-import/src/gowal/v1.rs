//! gowal 1.0: MessagePack maps in frames. Numbers of the frame are big-endian.
//!
//! ```text
//! offset  0        4        8
//!         checksum | length | {"Index": uint, "Key": str, "Value": bin} | de ad c0 de
//! ```
//!
//! The checksum is the CRC-32 (IEEE) of the map, the length that of the map alone.

use std::io;

use crate::error::Reason;
use crate::frames::{Frame, Frames};
use crate::raw::Bad;
use crate::window::Window;

use super::{Fields, record};

const HEADER_BYTES: u64 = 8;
const TRAILER: [u8; 4] = [0xde, 0xad, 0xc0, 0xde];

/// How every map begins.
const START: &[u8] = b"\x83\xa5Index";

#[derive(Debug)]
pub(crate) struct Gowal1;

impl Frames for Gowal1 {
    fn at(&mut self, window: &mut Window, offset: u64) -> io::Result<Frame> {
        let bad = |reason, claimed_end| Ok(Frame::Bad { offset, reason, claimed_end });
        if window.left(offset) == 0 {
            return Ok(Frame::End);
        }
        let Some(header) = window.up_to(offset, HEADER_BYTES)?.first_chunk::<{ HEADER_BYTES as usize }>() else {
            return bad(Reason::CutShort, None);
        };
        let [c0, c1, c2, c3, l0, l1, l2, l3] = *header;
        let checksum = u32::from_be_bytes([c0, c1, c2, c3]);
        let length = u64::from(u32::from_be_bytes([l0, l1, l2, l3]));
        let behind = length + TRAILER.len() as u64;
        if behind > window.left(offset + HEADER_BYTES) {
            return bad(Reason::CutShort, None);
        }
        let end = offset + HEADER_BYTES + behind;
        let (payload, trailer) = window.up_to(offset + HEADER_BYTES, behind)?.split_at(length as usize);
        if trailer != TRAILER {
            return bad(Reason::malformed("a record does not end with its mark"), Some(end));
        }
        if crc32fast::hash(payload) != checksum {
            return bad(Reason::Checksum, Some(end));
        }
        let mut rest = payload;
        match Fields::parse(&mut rest, 3) {
            Ok(Fields { index: Some(index), key: Some(key), value: Some(value), .. }) if rest.is_empty() => {
                Ok(record(index, key, value, offset, end))
            }
            Err(Bad::Malformed(what)) => bad(Reason::malformed(what), Some(end)),
            Ok(_) | Err(Bad::Cut { .. }) => bad(Reason::malformed("a record has not the fields of one"), Some(end)),
        }
    }

    fn find(&mut self, window: &mut Window, bad: u64) -> io::Result<Option<u64>> {
        let mut from = bad + 1 + HEADER_BYTES;
        while let Some(place) = window.find(from, START)? {
            let start = place - HEADER_BYTES;
            if let Frame::Record(_) = self.at(window, start)? {
                return Ok(Some(start));
            }
            from = place + 1;
        }
        Ok(None)
    }
}
