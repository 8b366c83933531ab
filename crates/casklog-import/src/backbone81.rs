//! Backbone81's write-ahead-log.
//!
//! Files `<number of 20 digits>.wal`, named for the sequence number of their first entry, from 0. Numbers are
//! little-endian.
//!
//! ```text
//! offset  0        4         6                 7          8
//!         "WAL\0" | version | length encoding | checksum | first sequence number
//!
//!         length | data | checksum of both
//! ```
//!
//! The version is 1. Lengths are u16 (1), u32 (2), u64 (3) or, as Go encodes them, uvarint (4). Checksums are CRC-32
//! (IEEE, 1) or CRC-64 (ISO, 2). What follows the last entry of a file that was allocated ahead is zero.

use std::io;

use crc::{CRC_64_GO_ISO, Crc};

use crate::error::Reason;
use crate::frames::{Entry, Frame, Frames, Label, Start};
use crate::names::Names;
use crate::window::Window;

const HEADER_BYTES: u64 = 16;
const MAGIC: [u8; 4] = *b"WAL\0";
const VERSION: u16 = 1;
const LENGTH_BYTES_MAX: u64 = 10;

/// Nothing marks where an entry begins: behind a damaged one, every byte is tried, until so many bytes have been summed
/// up in vain. That takes a second or two; one damaged entry among good ones takes no time.
const SEARCH_BYTES: u64 = 1 << 30;

static CRC_64: Crc<u64> = Crc::<u64>::new(&CRC_64_GO_ISO);

pub(crate) fn names() -> Names {
    Names::new("", ".wal", 20).not_consecutive()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    U16,
    U32,
    U64,
    Uvarint,
}

impl Length {
    const ALL: [Length; 4] = [Length::U16, Length::U32, Length::U64, Length::Uvarint];

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.get(usize::from(byte).checked_sub(1)?).copied()
    }

    /// The length at the front of `bytes`, and how many bytes it takes.
    fn decode(self, bytes: &[u8]) -> Option<(u64, u64)> {
        match self {
            Length::U16 => bytes.first_chunk().map(|bytes| (u16::from_le_bytes(*bytes).into(), 2)),
            Length::U32 => bytes.first_chunk().map(|bytes| (u32::from_le_bytes(*bytes).into(), 4)),
            Length::U64 => bytes.first_chunk().map(|bytes| (u64::from_le_bytes(*bytes), 8)),
            Length::Uvarint => uvarint(bytes),
        }
    }
}

/// Seven bits in each byte, the lowest first; all but the last byte have their highest bit set.
fn uvarint(bytes: &[u8]) -> Option<(u64, u64)> {
    let mut number = 0;
    for (place, byte) in (0..).zip(bytes.iter().take(LENGTH_BYTES_MAX as usize)) {
        let bits = u64::from(byte & 0x7f);
        number |= bits.checked_shl(7 * place).filter(|shifted| shifted >> (7 * place) == bits)?;
        if byte & 0x80 == 0 {
            return Some((number, u64::from(place) + 1));
        }
    }
    None
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Checksum {
    Crc32,
    Crc64,
}

impl Checksum {
    const ALL: [Checksum; 2] = [Checksum::Crc32, Checksum::Crc64];

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.get(usize::from(byte).checked_sub(1)?).copied()
    }

    fn bytes(self) -> u64 {
        match self {
            Checksum::Crc32 => 4,
            Checksum::Crc64 => 8,
        }
    }

    fn matches(self, summed: &[u8], stored: &[u8]) -> bool {
        match self {
            Checksum::Crc32 => crc32fast::hash(summed).to_le_bytes() == *stored,
            Checksum::Crc64 => CRC_64.checksum(summed).to_le_bytes() == *stored,
        }
    }
}

/// How the entries of a file are framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Framing {
    length: Length,
    checksum: Checksum,
}

impl Framing {
    fn entry(self, window: &mut Window, offset: u64) -> io::Result<Frame> {
        let bad = |reason, claimed_end| Ok(Frame::Bad { offset, reason, claimed_end });
        let Some((length, length_bytes)) = self.length.decode(window.up_to(offset, LENGTH_BYTES_MAX)?) else {
            return bad(Reason::CutShort, None);
        };
        let summed_bytes = length.saturating_add(length_bytes);
        let entry_bytes = summed_bytes.saturating_add(self.checksum.bytes());
        if entry_bytes > window.left(offset) {
            return bad(Reason::CutShort, None);
        }
        let end = offset + entry_bytes;
        let (summed, stored) = window.up_to(offset, entry_bytes)?.split_at(summed_bytes as usize);
        if !self.checksum.matches(summed, stored) {
            return bad(Reason::Checksum, Some(end));
        }
        let value = summed[length_bytes as usize..].to_vec();
        Ok(Frame::Record(Entry { label: Label::None, value, start: offset, end }))
    }
}

#[derive(Debug)]
pub(crate) struct Backbone81 {
    framing: Framing,
    /// The sequence number of the next entry, as long as none was passed over.
    next: Option<u64>,
    /// Where the zeros at the end of the file begin, once that was needed.
    data_end: Option<u64>,
}

impl Backbone81 {
    pub(crate) fn new() -> Self {
        Backbone81 { framing: Framing { length: Length::U32, checksum: Checksum::Crc32 }, next: None, data_end: None }
    }

    fn data_end(&mut self, window: &mut Window) -> io::Result<u64> {
        match self.data_end {
            Some(end) => Ok(end),
            None => Ok(*self.data_end.insert(window.data_end(HEADER_BYTES)?)),
        }
    }

    /// Reads the header; returns the framing and the first sequence number.
    fn header(bytes: &[u8]) -> Option<(Framing, u64)> {
        let (magic, rest) = bytes.split_first_chunk()?;
        let (version, rest) = rest.split_first_chunk()?;
        let ([length, checksum], rest) = rest.split_first_chunk()?;
        let first = rest.first_chunk()?;
        let framing = Framing { length: Length::from_byte(*length)?, checksum: Checksum::from_byte(*checksum)? };
        (*magic == MAGIC && u16::from_le_bytes(*version) == VERSION).then_some((framing, u64::from_le_bytes(*first)))
    }

    /// How the entries behind a header that is damaged or does not fit are framed, if the first is good in some way.
    fn guess(window: &mut Window) -> io::Result<Option<Framing>> {
        for length in Length::ALL {
            for checksum in Checksum::ALL {
                let framing = Framing { length, checksum };
                if let Frame::Record(_) = framing.entry(window, HEADER_BYTES)? {
                    return Ok(Some(framing));
                }
            }
        }
        Ok(None)
    }
}

impl Frames for Backbone81 {
    fn start(&mut self, window: &mut Window, number: Option<u64>) -> io::Result<Start> {
        let last_next = self.next.take();
        self.data_end = None;
        let file_bytes = window.file_bytes();
        if file_bytes < HEADER_BYTES {
            return Ok(Start { offset: file_bytes, complaint: Some((Reason::CutShort, file_bytes)) });
        }
        let header = Self::header(window.up_to(0, HEADER_BYTES)?);
        let is_right = match header {
            Some((framing, _)) => matches!(framing.entry(window, HEADER_BYTES)?, Frame::Record(_)),
            None => false,
        };
        let guess = if is_right { None } else { Self::guess(window)? };
        let (framing, first) = match (header, guess) {
            (Some(header), None) => header,
            (_, guess) => {
                let offset = if guess.is_some() { HEADER_BYTES } else { file_bytes };
                self.framing = guess.unwrap_or(self.framing);
                let reason = Reason::malformed("the header of the file is damaged");
                return Ok(Start { offset, complaint: Some((reason, offset)) });
            }
        };
        (self.framing, self.next) = (framing, Some(first));
        let complaint = match (number, last_next) {
            (Some(number), _) if number != first => {
                self.next = None;
                Some(Reason::malformed(format!("the header says that the first entry is {first}")))
            }
            (_, Some(next)) if next < first => {
                Some(Reason::Missing(format!("entries {next} to {} are missing", first - 1)))
            }
            (_, Some(next)) if next > first => Some(Reason::malformed(format!(
                "the file begins with entry {first}, and the one before ended with {}",
                next - 1
            ))),
            _ => None,
        };
        Ok(Start { offset: HEADER_BYTES, complaint: complaint.map(|reason| (reason, 0)) })
    }

    fn at(&mut self, window: &mut Window, offset: u64) -> io::Result<Frame> {
        if window.left(offset) == 0 {
            return Ok(Frame::End);
        }
        let frame = self.framing.entry(window, offset)?;
        let Frame::Bad { offset, reason, claimed_end } = frame else { return Ok(frame) };
        let data_end = self.data_end(window)?;
        if offset >= data_end {
            return Ok(Frame::End);
        }
        // A length that leads into the zeros at the end is not to be believed, unless those are the checksum's.
        let claimed_end = claimed_end.filter(|end| *end <= data_end + self.framing.checksum.bytes());
        Ok(Frame::Bad { offset, reason, claimed_end })
    }

    fn find(&mut self, window: &mut Window, bad: u64) -> io::Result<Option<u64>> {
        let mut budget = SEARCH_BYTES;
        // No entry begins among the zeros at the end: its checksum would not be zero.
        for offset in bad + 1..self.data_end(window)? {
            match self.framing.entry(window, offset)? {
                Frame::Record(_) => return Ok(Some(offset)),
                Frame::Bad { claimed_end: Some(end), .. } => match budget.checked_sub(end - offset) {
                    Some(left) => budget = left,
                    None => return Ok(None),
                },
                Frame::Bad { .. } | Frame::End => {}
            }
        }
        Ok(None)
    }

    fn took(&mut self, entry: Option<&Entry>) {
        self.next = entry.and_then(|_| self.next?.checked_add(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_as_go_writes_them() {
        for (bytes, expected) in [
            (&[0x00][..], Some((0, 1))),
            (&[0x7f], Some((127, 1))),
            (&[0x80, 0x01], Some((128, 2))),
            (&[0xac, 0x02, 0xff], Some((300, 2))),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], Some((u64::MAX, 10))),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02], None),
            (&[0x80], None),
            (&[0x80; 11], None),
            (&[], None),
        ] {
            assert_eq!(uvarint(bytes), expected, "{bytes:02x?}");
        }
        assert_eq!(Length::U64.decode(&[0xff; 8]), Some((u64::MAX, 8)));
        assert_eq!(Length::U32.decode(&[0xff; 3]), None);
        assert_eq!([Length::from_byte(0), Length::from_byte(5)], [None, None]);
    }
}
