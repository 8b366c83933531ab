//! The manifest: two slots, written in turn, of which the newer valid one counts.
//!
//! ```text
//!  slot   0       8         10  12       16           24       40      48       56     64     72        80       88
//!         magic | version | 0 | before | generation | log id | first | sealed | last | next | W segm. | W offs. | CRC-32
//!         8 B     u16           u32      u64          16 B     u64     u64      u64    u64    u64       u64       u32
//! ```
//!
//! It is a witness: with it, open can say that a segment or an acknowledged tail is missing. It is never needed to
//! read the log.

use super::{Cursor, FORMAT_VERSION};
use crate::position::Position;

/// Size of a slot.
pub const SLOT_BYTES: usize = 4096;

/// Size of the file.
pub const MANIFEST_BYTES: usize = 2 * SLOT_BYTES;

const MAGIC: [u8; 8] = *b"caskman\n";

/// What the checksum of a slot covers.
const COVERED_BYTES: usize = 88;

/// The contents of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manifest {
    /// Counts the writes; slot `generation % 2` holds it.
    pub generation: u64,
    /// The log's identity.
    pub log_id: u128,
    /// The first live segment; files below it are leftovers.
    pub first: u32,
    /// Segments up to this one have a whole footer, or had one when they were sealed: their files are not changed any
    /// more. Behind it a crash may have left half a footer.
    pub sealed: u32,
    /// The highest number of a segment whose file is known to exist; 0 where there is none.
    pub last: u32,
    /// What `last` was before that file was made, so that it exists, too, unless it lies below `first`; 0 where nothing
    /// is known of it. While `last` is a spare, that is where the log is written.
    pub before: u32,
    /// The next number to give to a file; never falls.
    pub next: u64,
    /// Everything before this position is durable.
    pub durable: Position,
}

impl Manifest {
    /// The bytes of a slot.
    pub fn to_slot(&self) -> [u8; SLOT_BYTES] {
        let mut out = Vec::with_capacity(SLOT_BYTES);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&self.before.to_le_bytes());
        out.extend_from_slice(&self.generation.to_le_bytes());
        out.extend_from_slice(&self.log_id.to_le_bytes());
        for number in [self.first, self.sealed, self.last] {
            out.extend_from_slice(&u64::from(number).to_le_bytes());
        }
        out.extend_from_slice(&self.next.to_le_bytes());
        out.extend_from_slice(&self.durable.to_bytes());
        out.extend_from_slice(&crc32fast::hash(&out).to_le_bytes());
        out.resize(SLOT_BYTES, 0);
        let mut slot = [0; SLOT_BYTES];
        slot.copy_from_slice(&out);
        slot
    }

    /// Where the slot of this generation stands in the file.
    pub const fn slot_offset(&self) -> u64 {
        (self.generation % 2) * SLOT_BYTES as u64
    }

    /// Reads one slot; `None` where it is not valid.
    pub fn from_slot(slot: &[u8]) -> Option<Self> {
        let (covered, rest) = slot.split_at_checked(COVERED_BYTES)?;
        let (sum, _) = rest.split_first_chunk::<4>()?;
        if crc32fast::hash(covered) != u32::from_le_bytes(*sum) {
            return None;
        }
        let mut cursor = Cursor(covered);
        let known = cursor.array::<8>()? == MAGIC && cursor.u16()? == FORMAT_VERSION;
        cursor.array::<2>()?;
        let manifest = Manifest {
            before: cursor.u32()?,
            generation: cursor.u64()?,
            log_id: cursor.array().map(u128::from_le_bytes)?,
            first: u32::try_from(cursor.u64()?).ok()?,
            sealed: u32::try_from(cursor.u64()?).ok()?,
            last: u32::try_from(cursor.u64()?).ok()?,
            next: cursor.u64()?,
            durable: Position::from_bytes(cursor.array()?).ok()?,
        };
        known.then_some(manifest)
    }

    /// The version of a slot that is whole and was written by later code.
    pub fn newer_version(slot: &[u8]) -> Option<u16> {
        let (covered, rest) = slot.split_at_checked(COVERED_BYTES)?;
        let (sum, _) = rest.split_first_chunk::<4>()?;
        let mut cursor = Cursor(covered);
        let is_ours = cursor.array::<8>()? == MAGIC && crc32fast::hash(covered) == u32::from_le_bytes(*sum);
        cursor.u16().filter(|version| is_ours && *version > FORMAT_VERSION)
    }

    /// Reads the file: the valid slots that stand in their place, the newest first.
    pub fn from_file(bytes: &[u8]) -> Vec<Self> {
        let place = |(number, slot)| Self::from_slot(slot).filter(|slot| slot.generation % 2 == number);
        let mut slots: Vec<_> = (0..2).zip(bytes.chunks(SLOT_BYTES)).filter_map(place).collect();
        slots.sort_by_key(|slot| std::cmp::Reverse(slot.generation));
        slots
    }
}
