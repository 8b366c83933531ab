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
//! A fragment never crosses a block; a rest of a block too small for a fragment header is zero. The checksum is that of
//! the bytes behind it, from the length to the end of the payload, combined by exclusive or with the fragment's own
//! offset in the file, and in a middle or last fragment with the stored checksum of the fragment before it. So a stale,
//! moved, swapped or mixed fragment fails, and one run of bytes is summed in one call.

use super::checksum::Checksum;

/// Size of a block; a fragment never crosses a multiple of it.
pub const BLOCK_BYTES: u32 = 32 * 1024;

/// The longer of the two fragment headers.
pub(crate) const FRAGMENT_HEADER_BYTES_MAX: usize = Checksum::Crc64.fragment_header_bytes();

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
    #[inline(always)]
    fn from_code(code: u8) -> Option<Self> {
        // Nearly all that is read.
        if code == Kind::Entry as u8 {
            return Some(Kind::Entry);
        }
        Some(match code {
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

    #[inline(always)]
    fn from_code(code: u8) -> Option<Self> {
        let kind = Kind::from_code(code & 15)?;
        Some(RecordType { kind, begins: code & 0x40 != 0, ends: code & 0x80 != 0 })
    }

    pub(super) const fn code(self, part: Part) -> u8 {
        self.kind as u8 | part.code() << 4 | (self.begins as u8) << 6 | (self.ends as u8) << 7
    }
}

/// The bits of [`Part`] in a type; none is set in a whole record.
const PART_MASK: u8 = 0x30;

/// The bytes from `at` to the end of its block.
pub const fn block_rest(at: u32) -> u32 {
    BLOCK_BYTES - at % BLOCK_BYTES
}

/// Size of the header of a fragment behind its checksum.
pub(super) const FIELDS_BYTES: usize = 7;

/// The header of a fragment behind its checksum.
pub(super) struct Fields {
    pub(super) length: u16,
    pub(super) code: u8,
    pub(super) log_number: u32,
}

impl Fields {
    #[inline]
    pub(super) fn to_bytes(&self) -> [u8; FIELDS_BYTES] {
        let [a, b] = self.length.to_le_bytes();
        let [d, e, f, g] = self.log_number.to_le_bytes();
        [a, b, self.code, d, e, f, g]
    }

    #[inline]
    fn from_bytes([a, b, code, d, e, f, g]: [u8; FIELDS_BYTES]) -> Self {
        Fields { length: u16::from_le_bytes([a, b]), code, log_number: u32::from_le_bytes([d, e, f, g]) }
    }
}

/// The checksum of a fragment: `covered` are its bytes behind the field that holds it. Another offset, or another
/// fragment before it, always gives another checksum.
#[inline]
pub(super) fn sum_of(checksum: Checksum, covered: &[u8], at: u32, previous: Option<u64>) -> u64 {
    bound(checksum.of(covered), at, previous)
}

/// The same, of the checksum of what is covered.
pub(super) fn bound(sum: u64, at: u32, previous: Option<u64>) -> u64 {
    sum ^ u64::from(at) ^ previous.unwrap_or(0)
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
#[inline]
pub fn trust_fragment(checksum: Checksum, bytes: &[u8]) -> Option<Trusted> {
    let fields: &[u8; FIELDS_BYTES] = bytes.get(checksum.sum_bytes()..)?.first_chunk()?;
    let Fields { length, code, .. } = Fields::from_bytes(*fields);
    let part = Part::from_code(code >> 4);
    Some(Trusted { kind: Kind::from_code(code & 15)?, part, payload_bytes: length.into() })
}

/// The offset behind the fragment at `at`, by what its header says. Nothing is checked.
pub fn skip_fragment(checksum: Checksum, bytes: &[u8], at: u32) -> Option<u32> {
    let trusted = trust_fragment(checksum, bytes)?;
    at.checked_add((checksum.fragment_header_bytes() + trusted.payload_bytes) as u32)
}

/// Reads a record that is whole in one fragment at offset `at`, as [`read_fragment`] does, for walks over many of them;
/// `None` where there is something else.
#[inline(always)]
pub fn read_whole(checksum: Checksum, bytes: &[u8], at: u32, log_number: u32) -> Option<Fragment<'_>> {
    // Of each checksum by itself, so that its widths are known.
    match checksum {
        Checksum::Crc32 => read_whole_of(Checksum::Crc32, bytes, at, log_number),
        Checksum::Crc64 => read_whole_of(Checksum::Crc64, bytes, at, log_number),
    }
}

#[inline(always)]
fn read_whole_of(checksum: Checksum, bytes: &[u8], at: u32, log_number: u32) -> Option<Fragment<'_>> {
    let (sum, rest) = split_sum(checksum, bytes)?;
    let found = Fields::from_bytes(*rest.first_chunk()?);
    let covered = rest.get(..FIELDS_BYTES + usize::from(found.length))?;
    let length = checksum.fragment_header_bytes() as u32 + u32::from(found.length);
    let is_here = found.log_number == log_number && found.code & PART_MASK == 0 && length <= block_rest(at);
    if !is_here || sum_of(checksum, covered, at, None) != sum {
        return None;
    }
    let (record, payload) = (RecordType::from_code(found.code)?, covered.get(FIELDS_BYTES..)?);
    Some(Fragment { record, part: Part::Full, log_number, payload, sum, end: at.checked_add(length)? })
}

/// The checksum at the start of a fragment, and what it covers with all that follows.
#[inline]
fn split_sum(checksum: Checksum, bytes: &[u8]) -> Option<(u64, &[u8])> {
    match checksum {
        Checksum::Crc32 => bytes.split_first_chunk().map(|(sum, rest)| (u64::from(u32::from_le_bytes(*sum)), rest)),
        Checksum::Crc64 => bytes.split_first_chunk().map(|(sum, rest)| (u64::from_le_bytes(*sum), rest)),
    }
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
    let (sum, rest) = split_sum(checksum, bytes).ok_or(Bad::Short)?;
    let fields: &[u8; FIELDS_BYTES] = rest.first_chunk().ok_or(Bad::Short)?;
    if sum == 0 && *fields == [0; FIELDS_BYTES] {
        return Err(Bad::Zeros);
    }
    let Fields { length, code, log_number } = Fields::from_bytes(*fields);
    if !expect.accepts(log_number) {
        return Err(Bad::LogNumber);
    }
    let covered = rest.get(..fields.len() + usize::from(length)).ok_or(Bad::Short)?;
    // No segment reaches 4 GiB, but a forged one may say so.
    let end = at.checked_add(header_bytes as u32 + u32::from(length)).ok_or(Bad::Short)?;
    let part = Part::from_code(code >> 4);
    let previous = match part {
        Part::Full | Part::First => None,
        Part::Middle | Part::Last => Some(previous.ok_or(Bad::Sequence)?),
    };
    if sum_of(checksum, covered, at, previous) != sum {
        return Err(Bad::Checksum);
    }
    let payload = covered.get(fields.len()..).ok_or(Bad::Short)?;
    let record = RecordType::from_code(code).ok_or(Bad::Unknown(code & 15))?;
    Ok(Fragment { record, part, log_number, payload, sum, end })
}
