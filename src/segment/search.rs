//! Looks for whole fragments at every byte offset, behind a place where the log cannot be followed any more.
//!
//! What a search finds is evidence only: a watermark that survived behind a hole proves that the hole was once
//! acknowledged. A fragment counts when its checksum holds, which covers its own offset, and the upper half of its log
//! number is the file's; so neither stale bytes nor a value that holds log bytes can forge one.

use memchr::memmem;

use crate::error::Result;
use crate::format::{BLOCK_BYTES, Expect, Header, Kind, Part, RecordType, block_rest, decode_watermark, read_fragment};
use crate::position::Position;

use super::scan::Window;

/// A whole fragment that starts a record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    pub(crate) at: u32,
    pub(crate) record: RecordType,
    pub(crate) log_number: u32,
    /// The position a watermark names.
    pub(crate) watermark: Option<Position>,
}

/// The first full or first fragment at or behind `from`.
pub(crate) fn next_fragment(window: &mut Window, header: &Header, from: u32) -> Result<Option<Found>> {
    let sum_bytes = header.checksum.sum_bytes();
    let header_bytes = header.checksum.fragment_header_bytes();
    // The upper half of the log number: the last two bytes of a fragment header.
    let mark = ((header.log_number >> 16) as u16).to_le_bytes();
    let finder = memmem::Finder::new(&mark);
    let mut at = from;
    while u64::from(at) < window.size() {
        let rest = block_rest(at) as usize;
        let block = window.get(at.into(), rest)?;
        if block.is_empty() {
            break;
        }
        let marks = block.get(header_bytes - 2..).unwrap_or_default();
        let mut next = 0;
        while let Some(ahead) = finder.find(&marks[next..]) {
            let skip = next + ahead;
            next = skip + 1;
            let bytes = &block[skip..];
            // No part of a record has the number zero.
            if bytes[sum_bytes + 2] == 0 {
                continue;
            }
            let here = at + skip as u32;
            let expect = Expect::File(header.log_number);
            let Ok(fragment) = read_fragment(header.checksum, bytes, here, expect, None) else {
                continue;
            };
            if !matches!(fragment.part, Part::Full | Part::First) {
                continue;
            }
            let is_watermark = fragment.record.kind == Kind::Watermark && fragment.part == Part::Full;
            let watermark = is_watermark.then(|| decode_watermark(fragment.payload).ok()).flatten();
            return Ok(Some(Found { at: here, record: fragment.record, log_number: fragment.log_number, watermark }));
        }
        at = at - at % BLOCK_BYTES + BLOCK_BYTES;
    }
    Ok(None)
}

/// What lies behind the end of a log.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Evidence {
    /// The highest position that a surviving watermark names.
    pub(crate) durable: Option<Position>,
    /// Whether any piece of a footer was found.
    pub(crate) footer: bool,
}

/// Searches a whole file from `from` on.
pub(crate) fn evidence(window: &mut Window, header: &Header, from: u32) -> Result<Evidence> {
    let mut evidence = Evidence::default();
    let mut at = from;
    while let Some(found) = next_fragment(window, header, at)? {
        evidence.footer |= found.record.kind == Kind::Footer;
        evidence.durable = evidence.durable.max(found.watermark);
        // Fragments do not overlap, but what was found may be a stale one inside a younger: try every offset.
        at = found.at + 1;
    }
    Ok(evidence)
}
