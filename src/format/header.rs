//! The 64-byte header of a segment file: its identity, and nothing that changes.
//!
//! ```text
//!  0        8         10         11   12            16           20       36               44           48   60
//!  magic  | version | checksum | 0  | must-know   | may-read   | log id | segment number | log number | 0  | CRC-32
//!  8 bytes  u16       u8         u8   u32 features  u32 features 16       u64              u32          12   u32
//! ```

use super::{Checksum, Cursor};

/// Size of the header.
pub const HEADER_BYTES: u32 = 64;

/// The version this code writes and reads.
pub const FORMAT_VERSION: u16 = 3;

const MAGIC: [u8; 8] = *b"casklog\n";

/// The identity of a segment file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The checksum of its fragments.
    pub checksum: Checksum,
    /// 128 random bits, the same in all segments of a log.
    pub log_id: u128,
    /// The number that is also in its name.
    pub number: u32,
    /// The log number its fragments begin with; drawn for this file.
    pub log_number: u32,
}

/// Why a header cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The file ends before its header does.
    #[error("the file is shorter than a segment header")]
    Short,
    /// All zeros: never written.
    #[error("the header is zero")]
    Zeros,
    /// Some other kind of file.
    #[error("this is not a segment file (wrong magic)")]
    Magic,
    /// The checksum does not match.
    #[error("the header has a bad checksum")]
    Checksum,
    /// Written by a later version.
    #[error("format version {0} is not known")]
    Version(u16),
    /// Needs a feature that this code lacks.
    #[error("feature set {0:#x} is not known")]
    Features(u32),
    /// Needs a checksum that this code lacks.
    #[error("checksum kind {0} is not known")]
    ChecksumKind(u8),
    /// A number that no segment has.
    #[error("segment number {0} is out of range")]
    Number(u64),
}

impl HeaderError {
    /// Whether a newer version of this code could read the file.
    pub const fn is_newer(self) -> bool {
        matches!(self, HeaderError::Version(_) | HeaderError::Features(_) | HeaderError::ChecksumKind(_))
    }
}

impl Header {
    /// The bytes at the start of the file.
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES as usize] {
        let mut out = Vec::with_capacity(HEADER_BYTES as usize);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&[self.checksum.code(), 0]);
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&self.log_id.to_le_bytes());
        out.extend_from_slice(&u64::from(self.number).to_le_bytes());
        out.extend_from_slice(&self.log_number.to_le_bytes());
        out.extend_from_slice(&[0; 12]);
        out.extend_from_slice(&crc32fast::hash(&out).to_le_bytes());
        let mut bytes = [0; HEADER_BYTES as usize];
        bytes.copy_from_slice(&out);
        bytes
    }

    /// Reads the header from the first bytes of a file.
    ///
    /// # Errors
    /// [`HeaderError`], the checksum before the version, so that rot is not taken for a newer version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, HeaderError> {
        let header: &[u8; HEADER_BYTES as usize] = bytes.first_chunk().ok_or(HeaderError::Short)?;
        if header.iter().all(|byte| *byte == 0) {
            return Err(HeaderError::Zeros);
        }
        let (covered, sum) = header.split_last_chunk::<4>().ok_or(HeaderError::Short)?;
        let mut cursor = Cursor(covered);
        let magic = cursor.array::<8>().ok_or(HeaderError::Short)?;
        if magic != MAGIC {
            return Err(HeaderError::Magic);
        }
        if crc32fast::hash(covered) != u32::from_le_bytes(*sum) {
            return Err(HeaderError::Checksum);
        }
        let version = cursor.u16().ok_or(HeaderError::Short)?;
        if version != FORMAT_VERSION {
            return Err(HeaderError::Version(version));
        }
        let checksum = cursor.u8().ok_or(HeaderError::Short)?;
        cursor.u8();
        // No feature is defined yet: one that must be known refuses the file, one that may be ignored by readers
        // would refuse writing, and this code only reads a file it may write.
        for _ in 0..2 {
            let features = cursor.u32().ok_or(HeaderError::Short)?;
            if features != 0 {
                return Err(HeaderError::Features(features));
            }
        }
        let checksum = Checksum::from_code(checksum).ok_or(HeaderError::ChecksumKind(checksum))?;
        let log_id = cursor.array().map(u128::from_le_bytes).ok_or(HeaderError::Short)?;
        let number = cursor.u64().ok_or(HeaderError::Short)?;
        let number = u32::try_from(number).ok().filter(|n| *n != 0).ok_or(HeaderError::Number(number))?;
        let log_number = cursor.u32().ok_or(HeaderError::Short)?;
        Ok(Header { checksum, log_id, number, log_number })
    }
}
