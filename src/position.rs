//! Where a record stands, and the names of the files it can stand in. File names are made and parsed here only.

use std::ffi::OsStr;
use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// The highest segment number: the number fits 32 bits, so that a position fits one atomic word.
pub const SEGMENT_NUMBER_MAX: u64 = u32::MAX as u64;

/// Where a record starts: a segment number and a byte offset in that segment's file.
///
/// Positions order as the log does: of two records, the one written first has the smaller position. A position stays
/// valid for as long as its segment is part of the log.
///
/// ```
/// use casklog::Position;
/// let position: Position = "3:4096".parse()?;
/// assert_eq!((position.segment(), position.offset()), (3, 4096));
/// assert_eq!(Position::from_bytes(position.to_bytes())?, position);
/// # Ok::<(), casklog::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(u64);

impl Position {
    /// Before everything.
    pub(crate) const ZERO: Position = Position(0);

    pub(crate) const fn new(segment: u32, offset: u32) -> Self {
        Position((segment as u64) << 32 | offset as u64)
    }

    /// The number of the segment, from 1.
    pub const fn segment(self) -> u64 {
        self.0 >> 32
    }

    /// The byte offset in the segment's file.
    pub const fn offset(self) -> u64 {
        self.0 & 0xffff_ffff
    }

    pub(crate) const fn segment_number(self) -> u32 {
        (self.0 >> 32) as u32
    }

    pub(crate) const fn offset32(self) -> u32 {
        self.0 as u32
    }

    /// One word whose order is the order of positions.
    pub(crate) const fn to_word(self) -> u64 {
        self.0
    }

    pub(crate) const fn from_word(word: u64) -> Self {
        Position(word)
    }

    /// The fixed form: segment number, then offset, each 8 bytes little-endian.
    pub fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.segment().to_le_bytes());
        bytes[8..].copy_from_slice(&self.offset().to_le_bytes());
        bytes
    }

    /// Reads the fixed form.
    ///
    /// # Errors
    /// [`Error::InvalidPosition`] where the segment number or the offset is out of range.
    pub fn from_bytes(bytes: [u8; 16]) -> Result<Self, Error> {
        let word = u128::from_le_bytes(bytes);
        Self::checked(word as u64, (word >> 64) as u64)
            .ok_or_else(|| Error::InvalidPosition { found: format!("{bytes:02x?}") })
    }

    fn checked(segment: u64, offset: u64) -> Option<Self> {
        Some(Position::new(u32::try_from(segment).ok()?, u32::try_from(offset).ok()?))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.segment(), self.offset())
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Position {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok()).flatten();
        text.split_once(':')
            .and_then(|(segment, offset)| Self::checked(digits(segment)?, digits(offset)?))
            .ok_or_else(|| Error::InvalidPosition { found: text.to_owned() })
    }
}

/// The names of one log's files: `<prefix><number>.log`, `<prefix>lock`, `<prefix>manifest`, the folder
/// `<prefix>quarantine` for what a repair took out, `<prefix>unfinished` where a call that makes or moves the log has not
/// come to its end, and `<prefix>checkpoint` in one that is a copy.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    prefix: String,
}

/// Digits of a segment number in a file name; leading zeros keep a listing in order.
const NUMBER_DIGITS: usize = 20;

impl Names {
    pub(crate) fn new(prefix: &str) -> Self {
        Names { prefix: prefix.to_owned() }
    }

    pub(crate) fn segment(&self, number: u32) -> String {
        format!("{}{number:020}.log", self.prefix)
    }

    pub(crate) fn lock(&self) -> String {
        format!("{}lock", self.prefix)
    }

    pub(crate) fn manifest(&self) -> String {
        format!("{}manifest", self.prefix)
    }

    pub(crate) fn quarantine(&self) -> String {
        format!("{}quarantine", self.prefix)
    }

    /// The mark of a log that is not complete.
    pub(crate) fn unfinished(&self) -> String {
        format!("{}unfinished", self.prefix)
    }

    /// What the manifest said when the log was last made a copy of another.
    pub(crate) fn checkpoint(&self) -> String {
        format!("{}checkpoint", self.prefix)
    }

    /// The foreign name under which one of the files above is made before it is renamed into place.
    pub(crate) fn new_name(name: &str) -> String {
        format!("{name}.new")
    }

    /// The foreign name under which a replacement for a segment is written before it is renamed into place.
    pub(crate) fn replacement(&self, number: u32) -> String {
        format!("{}{number:020}.replacement", self.prefix)
    }

    /// The number of a segment file; `None` for every name that is not exactly one.
    pub(crate) fn parse_segment(&self, name: &OsStr) -> Option<u32> {
        self.parse(name, ".log")
    }

    /// The number of the segment that was to be replaced.
    pub(crate) fn parse_replacement(&self, name: &OsStr) -> Option<u32> {
        self.parse(name, ".replacement")
    }

    fn parse(&self, name: &OsStr, suffix: &str) -> Option<u32> {
        let digits = name.to_str()?.strip_prefix(&self.prefix)?.strip_suffix(suffix)?;
        let well_formed = digits.len() == NUMBER_DIGITS && digits.bytes().all(|b| b.is_ascii_digit());
        let number = well_formed.then(|| digits.parse().ok()).flatten()?;
        (number != 0).then_some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn position_round_trips_and_refuses_garbage() {
        // R11
        for position in [Position::new(1, 64), Position::new(u32::MAX, u32::MAX), Position::ZERO] {
            assert_eq!(Position::from_bytes(position.to_bytes()).unwrap(), position);
            assert_eq!(position.to_string().parse::<Position>().unwrap(), position);
        }
        assert!(Position::from_bytes([0xff; 16]).is_err());
        for text in ["", ":", "1", "1:", ":1", "-1:2", "+1:2", "1:2:3", "1:4294967296", "4294967296:0", " 1:2", "a:b"] {
            assert!(text.parse::<Position>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn only_exact_names_are_segments() {
        let names = Names::new("events_");
        assert_eq!(names.parse_segment(OsStr::new(&names.segment(7))), Some(7));
        assert_eq!(names.segment(7), "events_00000000000000000007.log");
        for name in [
            "events_7.log",
            "events_00000000000000000000.log",
            "events_00000000000000000007.log.bak",
            "events_000000000000000000007.log",
            "events_0000000000000000000x.log",
            "events_99999999999999999999.log",
            "other_00000000000000000007.log",
        ] {
            assert_eq!(names.parse_segment(OsStr::new(name)), None, "{name}");
        }
    }
}
