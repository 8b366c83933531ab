//! The two checksums a segment may use.

use std::sync::LazyLock;

/// Made once: a hasher asks each time anew what the processor can do.
static EMPTY: LazyLock<crc32fast::Hasher> = LazyLock::new(crc32fast::Hasher::new);

/// The checksum of a segment's fragments, chosen per segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Checksum {
    /// CRC-32/ISO-HDLC, the one of zlib and Ethernet; 4 bytes.
    #[default]
    Crc32,
    /// CRC-64/XZ, the reflected ECMA-182 polynomial; 8 bytes.
    Crc64,
}

impl Checksum {
    /// The code in a segment header.
    pub const fn code(self) -> u8 {
        match self {
            Checksum::Crc32 => 1,
            Checksum::Crc64 => 2,
        }
    }

    /// The checksum with this code.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Checksum::Crc32),
            2 => Some(Checksum::Crc64),
            _ => None,
        }
    }

    /// Width of the checksum field in bytes.
    pub const fn sum_bytes(self) -> usize {
        match self {
            Checksum::Crc32 => 4,
            Checksum::Crc64 => 8,
        }
    }

    /// Width of a fragment header in bytes: the checksum, then length u16, type u8, log number u32.
    pub const fn fragment_header_bytes(self) -> usize {
        self.sum_bytes() + 7
    }

    /// The checksum of `bytes`.
    #[inline]
    pub fn of(self, bytes: &[u8]) -> u64 {
        match self {
            Checksum::Crc32 => {
                let mut hasher = EMPTY.clone();
                hasher.update(bytes);
                hasher.finalize().into()
            }
            Checksum::Crc64 => {
                let mut digest = crc64fast::Digest::new();
                digest.write(bytes);
                digest.sum64()
            }
        }
    }

    /// The checksum of bytes that follow each other. For long ones: the loop costs 30 instructions.
    pub fn of_all(self, parts: &[&[u8]]) -> u64 {
        match self {
            Checksum::Crc32 => {
                let mut hasher = EMPTY.clone();
                parts.iter().for_each(|bytes| hasher.update(bytes));
                hasher.finalize().into()
            }
            Checksum::Crc64 => {
                let mut digest = crc64fast::Digest::new();
                parts.iter().for_each(|bytes| digest.write(bytes));
                digest.sum64()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_values_are_those_of_the_catalogue() {
        assert_eq!(Checksum::Crc32.of(b"123456789"), 0xcbf4_3926);
        assert_eq!(Checksum::Crc64.of(b"123456789"), 0x995d_c9bb_df19_39fa);
        for kind in [Checksum::Crc32, Checksum::Crc64] {
            assert_eq!(kind.of_all(&[b"1234", b"", b"56789"]), kind.of(b"123456789"));
        }
    }

    #[test]
    fn codes_round_trip() {
        for code in 0..=255 {
            assert!(Checksum::from_code(code).is_none_or(|kind| kind.code() == code));
        }
    }
}
