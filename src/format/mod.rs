//! The bytes on disk: values in, bytes out, and back. Touches no file.
//!
//! FORMAT.md is the full text; the pictures stand beside the code that reads them. Numbers are little-endian outside
//! MessagePack payloads. Everything read is checked against a checksum first and against the space it may occupy
//! before it is used; nothing here panics on any input.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod checksum;
mod entry;
mod footer;
mod fragment;
mod framer;
mod header;
mod manifest;
mod record;
mod runs;
mod trailer;

pub use checksum::Checksum;
pub use entry::EntryRecord;
pub(crate) use entry::{HEAD_BYTES_MAX, decode_bin, encode_bin, encode_bin_header};
pub use footer::{Footer, KeyAt, Summary, TombstoneAt, key_hash};
pub(crate) use fragment::FRAGMENT_HEADER_BYTES_MAX;
pub use fragment::{
    BLOCK_BYTES, Bad, Expect, Fragment, Kind, Part, RecordType, Trusted, block_rest, read_fragment, read_whole,
    skip_fragment, trust_fragment,
};
pub use framer::{Framer, Laid, ROOM_BYTES};
pub use header::{FORMAT_VERSION, HEADER_BYTES, Header, HeaderError};
pub use manifest::{MANIFEST_BYTES, Manifest, SLOT_BYTES};
pub use record::{
    Gap, HeadStamp, MetaRecord, Next, Predecessor, Resume, State, Tombstone, Truncation, TruncationAt,
    decode_watermark, encode_watermark,
};
pub use runs::{Run, Runs, encode_runs};
pub use trailer::{PAGE_BYTES, Page, TRAILER_BYTES, Trailer, footer_locate};

/// A payload or a fixed block whose checksum holds but whose contents make no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed {0}")]
pub struct Malformed(pub &'static str);

/// Takes fixed-width little-endian numbers off the front of a slice.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk()?;
        self.0 = tail;
        Some(*head)
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
}
