//! Fragments: how a record is laid into 32 KiB blocks.
//!
//! ```text
//! block   0           32 KiB          64 KiB
//!         | header | A | B | C: first | C: last | D | 0 |
//!
//! fragment  +0        +4|8     +6|10  +7|11        +11|15
//!           checksum | length | type | log number | payload ...
//!           u32|u64    u16      u8     u32          length bytes
//!
//! type      bits 0-3 kind   bits 4-5 part   bit 6 begins a batch   bit 7 ends a batch
//! ```
//!
//! A fragment never crosses a block; a rest of a block too small for a fragment header is zero. The checksum covers
//! the payload, then length, type and log number as stored, then the fragment's own offset in the file as u64, and for
//! a middle or last fragment the stored checksum of the fragment before it. So a stale, moved, swapped or mixed
//! fragment fails, and the payload's part can be computed before the place is known.

use super::checksum::{Checksum, Digest};

/// Size of a block; a fragment never crosses a multiple of it.
pub const BLOCK_BYTES: u32 = 32 * 1024;

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// An index, a key and a value.
    Entry = 1,
    /// The deletion of an index.
    Tombstone = 2,
    /// The removal of all entries before or after an index.
    Truncation = 3,
    /// A metadata key set or removed.
    Meta = 4,
    /// All before a position is durable.
    Watermark = 5,
    /// The first record of a segment: where the log stood.
    HeadStamp = 6,
    /// After an unclean open: the log number changes.
    Resume = 7,
    /// Stands for bytes that were lost.
    Gap = 8,
    /// A piece of a footer.
    Footer = 9,
    /// Zeros that move what follows to a fresh block; may be skipped by readers.
    Padding = 12,
}

/// Kinds from here to 15 may be skipped by a reader that does not know them; all others must be known.
const KIND_MAY_SKIP: u8 = 12;

impl Kind {
    #[inline]
    fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Kind::Entry,
            2 => Kind::Tombstone,
            3 => Kind::Truncation,
            4 => Kind::Meta,
            5 => Kind::Watermark,
            6 => Kind::HeadStamp,
            7 => Kind::Resume,
            8 => Kind::Gap,
            9 => Kind::Footer,
            KIND_MAY_SKIP..=15 => Kind::Padding,
            _ => return None,
        })
    }
}

/// Which part of its record a fragment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The whole record.
    Full,
    /// The first of several.
    First,
    /// Neither first nor last.
    Middle,
    /// The last of several.
    Last,
}

impl Part {
    const fn code(self) -> u8 {
        match self {
            Part::Full => 0,
            Part::First => 1,
            Part::Middle => 2,
            Part::Last => 3,
        }
    }

    const fn from_code(code: u8) -> Self {
        match code & 3 {
            0 => Part::Full,
            1 => Part::First,
            2 => Part::Middle,
            _ => Part::Last,
        }
    }
}

/// The kind of a record and its place in a batch; every fragment of the record bears it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordType {
    /// What the record is.
    pub kind: Kind,
    /// Whether it is the first of its batch.
    pub begins: bool,
    /// Whether it is the last of its batch.
    pub ends: bool,
}

impl RecordType {
    /// A record that is a batch of its own.
    pub const fn alone(kind: Kind) -> Self {
        RecordType { kind, begins: true, ends: true }
    }

    #[inline]
    fn from_code(code: u8) -> Option<Self> {
        let kind = Kind::from_code(code & 15)?;
        Some(RecordType { kind, begins: code & 0x40 != 0, ends: code & 0x80 != 0 })
    }

    const fn code(self, part: Part) -> u8 {
        self.kind as u8 | part.code() << 4 | (self.begins as u8) << 6 | (self.ends as u8) << 7
    }
}

/// The bits of [`Part`] in a type; none is set in a whole record.
const PART_MASK: u8 = 0x30;

/// The bytes from `at` to the end of its block.
pub const fn block_rest(at: u32) -> u32 {
    BLOCK_BYTES - at % BLOCK_BYTES
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
    ///
    /// `payload_digest`, the digest of exactly `payload`, saves a pass over it where the record fits one fragment.
    pub fn frame(
        &self,
        out: &mut Vec<u8>,
        at: u32,
        record: RecordType,
        payload: &[u8],
        payload_digest: Option<Digest>,
    ) -> (u32, u32) {
        let header = self.checksum.fragment_header_bytes();
        let start = self.start(at);
        out.resize(out.len() + (start - at) as usize, 0);
        if payload.len() <= block_rest(start) as usize - header {
            let digest = payload_digest.unwrap_or_else(|| self.payload_digest(payload));
            self.fragment(out, start, record.code(Part::Full), payload, digest, None);
            return (start, start + (header + payload.len()) as u32);
        }
        let (mut at, mut rest, mut previous) = (start, payload, None);
        loop {
            let room = block_rest(at) as usize - header;
            let (piece, tail) = rest.split_at(room.min(rest.len()));
            let part = match (previous.is_none(), tail.is_empty()) {
                (true, _) => Part::First,
                (false, false) => Part::Middle,
                (false, true) => Part::Last,
            };
            let digest = self.payload_digest(piece);
            previous = Some(self.fragment(out, at, record.code(part), piece, digest, previous));
            at += (header + piece.len()) as u32;
            rest = tail;
            if part == Part::Last {
                return (start, at);
            }
        }
    }

    /// The digest of a payload, for [`frame`](Framer::frame).
    pub fn payload_digest(&self, payload: &[u8]) -> Digest {
        let mut digest = self.checksum.digest();
        digest.update(payload);
        digest
    }

    fn fragment(
        &self,
        out: &mut Vec<u8>,
        at: u32,
        code: u8,
        payload: &[u8],
        digest: Digest,
        previous: Option<u64>,
    ) -> u64 {
        let fields = Fields { length: payload.len() as u16, code, log_number: self.log_number }.to_bytes();
        let sum = finish(self.checksum, digest, &fields, at, previous);
        match self.checksum {
            Checksum::Crc32 => out.extend_from_slice(&(sum as u32).to_le_bytes()),
            Checksum::Crc64 => out.extend_from_slice(&sum.to_le_bytes()),
        }
        out.extend_from_slice(&fields);
        out.extend_from_slice(payload);
        sum
    }
}

/// The header of a fragment behind its checksum.
struct Fields {
    length: u16,
    code: u8,
    log_number: u32,
}

impl Fields {
    fn to_bytes(&self) -> [u8; 7] {
        let [a, b] = self.length.to_le_bytes();
        let [d, e, f, g] = self.log_number.to_le_bytes();
        [a, b, self.code, d, e, f, g]
    }

    #[inline]
    fn from_bytes([a, b, code, d, e, f, g]: [u8; 7]) -> Self {
        Fields { length: u16::from_le_bytes([a, b]), code, log_number: u32::from_le_bytes([d, e, f, g]) }
    }
}

/// Ends a fragment's checksum: `digest` has seen the payload. One call of `update`, for the bytes behind are few.
fn finish(checksum: Checksum, mut digest: Digest, fields: &[u8; 7], at: u32, previous: Option<u64>) -> u64 {
    let mut tail = [0u8; 23];
    let (head, rest) = tail.split_at_mut(7);
    head.copy_from_slice(fields);
    let (offset, before) = rest.split_at_mut(8);
    offset.copy_from_slice(&u64::from(at).to_le_bytes());
    before.copy_from_slice(&previous.unwrap_or(0).to_le_bytes());
    let used = 15 + if previous.is_some() { checksum.sum_bytes() } else { 0 };
    digest.update(tail.get(..used).unwrap_or_default());
    digest.finish()
}

/// The checksum of a fragment that is whole. Its last call takes one byte of the payload along: 16 bytes are a block to
/// the hardware, and one less is done byte by byte.
#[inline]
fn sum_of(checksum: Checksum, payload: &[u8], fields: &[u8; 7], at: u32, previous: Option<u64>) -> u64 {
    let mut digest = checksum.digest();
    if previous.is_none()
        && let Some((last, before)) = payload.split_last()
    {
        digest.update(before);
        let [a, b, c, d, e, f, g] = *fields;
        let tail = [[*last, a, b, c, d, e, f, g], u64::from(at).to_le_bytes()];
        digest.update(tail.as_flattened());
        return digest.finish();
    }
    digest.update(payload);
    finish(checksum, digest, fields, at, previous)
}

/// Which log numbers a reader accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Exactly this one: the number in force.
    Exact(u32),
    /// Any whose upper half is that of this one: some number of this file. For searches.
    File(u32),
}

impl Expect {
    const fn accepts(self, log_number: u32) -> bool {
        match self {
            Expect::Exact(expected) => log_number == expected,
            Expect::File(expected) => log_number >> 16 == expected >> 16,
        }
    }
}

/// Why there is no fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    /// The header is all zeros: nothing was ever placed here, or it was lost.
    #[error("zeros where a record should be")]
    Zeros,
    /// The file or the block ends before the fragment does.
    #[error("cut short")]
    Short,
    /// The fragment belongs to another file, or to bytes from before a restart.
    #[error("foreign or stale log number")]
    LogNumber,
    /// The checksum does not match.
    #[error("bad checksum")]
    Checksum,
    /// The fragment is intact but does not follow from the one before it.
    #[error("fragment out of sequence")]
    Sequence,
    /// The fragment is intact and its kind is neither known nor to be skipped.
    #[error("record of unknown kind {0}")]
    Unknown(u8),
}

/// One fragment that passed its checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment<'a> {
    /// The record it belongs to.
    pub record: RecordType,
    /// Which part of it.
    pub part: Part,
    /// The log number it bears.
    pub log_number: u32,
    /// The bytes.
    pub payload: &'a [u8],
    /// Its stored checksum, which the next fragment of the record covers.
    pub sum: u64,
    /// The offset behind it in the file.
    pub end: u32,
}

/// What the header of a fragment says that was checked before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trusted {
    /// The kind of its record.
    pub kind: Kind,
    /// Which part of the record it is.
    pub part: Part,
    /// How long its payload is, behind the header.
    pub payload_bytes: usize,
}

/// Reads the header at the start of `bytes`, of a fragment that [`read_fragment`] has accepted before.
pub fn trust_fragment(checksum: Checksum, bytes: &[u8]) -> Option<Trusted> {
    let fields: &[u8; 7] = bytes.get(checksum.sum_bytes()..)?.first_chunk()?;
    let Fields { length, code, .. } = Fields::from_bytes(*fields);
    let part = Part::from_code(code >> 4);
    Some(Trusted { kind: Kind::from_code(code & 15)?, part, payload_bytes: length.into() })
}

/// The offset behind the fragment at `at`, by what its header says. Nothing is checked.
pub fn skip_fragment(checksum: Checksum, bytes: &[u8], at: u32) -> Option<u32> {
    let trusted = trust_fragment(checksum, bytes)?;
    at.checked_add((checksum.fragment_header_bytes() + trusted.payload_bytes) as u32)
}

/// A record that is whole in one fragment and passed its checksum. Its payload stands behind the fragment header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whole {
    /// What it is.
    pub record: RecordType,
    /// Its stored checksum.
    pub sum: u64,
    /// The offset behind it in the file.
    pub end: u32,
}

/// Reads a record that is whole in one fragment at offset `at`, as [`read_fragment`] does, for walks over many of them;
/// `None` where there is something else.
#[inline]
pub fn read_whole(checksum: Checksum, bytes: &[u8], at: u32, log_number: u32) -> Option<Whole> {
    let (sum, fields, rest) = match checksum {
        Checksum::Crc32 => {
            let (sum, rest) = bytes.split_first_chunk()?;
            let (fields, rest) = rest.split_first_chunk()?;
            (u64::from(u32::from_le_bytes(*sum)), fields, rest)
        }
        Checksum::Crc64 => {
            let (sum, rest) = bytes.split_first_chunk()?;
            let (fields, rest) = rest.split_first_chunk()?;
            (u64::from_le_bytes(*sum), fields, rest)
        }
    };
    let found = Fields::from_bytes(*fields);
    let length = checksum.fragment_header_bytes() as u32 + u32::from(found.length);
    if found.log_number != log_number || found.code & PART_MASK != 0 || length > block_rest(at) {
        return None;
    }
    let payload = rest.get(..usize::from(found.length))?;
    let is_good = sum_of(checksum, payload, fields, at, None) == sum;
    let end = at.checked_add(length).filter(|_| is_good)?;
    Some(Whole { record: RecordType::from_code(found.code)?, sum, end })
}

/// Reads the fragment at offset `at`; `bytes` are those of the file from there on, up to the end of the block or less
/// where the file ends. `previous` is the checksum of the fragment before, for a middle or last one.
///
/// # Errors
/// [`Bad`], without a look at any byte that the checksum does not cover.
pub fn read_fragment(
    checksum: Checksum,
    bytes: &[u8],
    at: u32,
    expect: Expect,
    previous: Option<u64>,
) -> Result<Fragment<'_>, Bad> {
    let header_bytes = checksum.fragment_header_bytes();
    let bytes = bytes.get(..(block_rest(at) as usize).min(bytes.len())).unwrap_or_default();
    let (header, rest) = bytes.split_at_checked(header_bytes).ok_or(Bad::Short)?;
    let (sum, fields) = match checksum {
        Checksum::Crc32 => header.split_first_chunk().map(|(sum, fields)| (u32::from_le_bytes(*sum).into(), fields)),
        Checksum::Crc64 => header.split_first_chunk().map(|(sum, fields)| (u64::from_le_bytes(*sum), fields)),
    }
    .ok_or(Bad::Short)?;
    let fields: &[u8; 7] = fields.try_into().map_err(|_| Bad::Short)?;
    if sum == 0 && *fields == [0; 7] {
        return Err(Bad::Zeros);
    }
    let Fields { length, code, log_number } = Fields::from_bytes(*fields);
    if !expect.accepts(log_number) {
        return Err(Bad::LogNumber);
    }
    let payload = rest.get(..usize::from(length)).ok_or(Bad::Short)?;
    // No segment reaches 4 GiB, but a forged one may say so.
    let end = at.checked_add(header_bytes as u32 + u32::from(length)).ok_or(Bad::Short)?;
    let part = Part::from_code(code >> 4);
    let previous = match part {
        Part::Full | Part::First => None,
        Part::Middle | Part::Last => Some(previous.ok_or(Bad::Sequence)?),
    };
    if sum_of(checksum, payload, fields, at, previous) != sum {
        return Err(Bad::Checksum);
    }
    let record = RecordType::from_code(code).ok_or(Bad::Unknown(code & 15))?;
    Ok(Fragment { record, part, log_number, payload, sum, end })
}
