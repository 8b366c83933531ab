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

    /// A checksum of nothing yet.
    #[inline]
    pub fn digest(self) -> Digest {
        match self {
            Checksum::Crc32 => Digest::Crc32(EMPTY.clone()),
            Checksum::Crc64 => Digest::Crc64(crc64fast::Digest::new()),
        }
    }
}

/// A checksum on the way: clone it to go on from the same bytes twice.
#[derive(Clone)]
pub enum Digest {
    /// See [`Checksum::Crc32`].
    Crc32(crc32fast::Hasher),
    /// See [`Checksum::Crc64`].
    Crc64(crc64fast::Digest),
}

impl Digest {
    /// Adds `bytes`.
    #[inline]
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Digest::Crc32(hasher) => hasher.update(bytes),
            Digest::Crc64(digest) => digest.write(bytes),
        }
    }

    /// The checksum of all bytes added.
    #[inline]
    pub fn finish(self) -> u64 {
        match self {
            Digest::Crc32(hasher) => u64::from(hasher.finalize()),
            Digest::Crc64(digest) => digest.sum64(),
        }
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Digest::Crc32(_) => "Digest::Crc32",
            Digest::Crc64(_) => "Digest::Crc64",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(kind: Checksum, bytes: &[u8]) -> u64 {
        let mut digest = kind.digest();
        digest.update(bytes);
        digest.finish()
    }

    #[test]
    fn check_values_are_those_of_the_catalogue() {
        assert_eq!(sum(Checksum::Crc32, b"123456789"), 0xcbf4_3926);
        assert_eq!(sum(Checksum::Crc64, b"123456789"), 0x995d_c9bb_df19_39fa);
    }

    #[test]
    fn codes_round_trip() {
        for code in 0..=255 {
            assert!(Checksum::from_code(code).is_none_or(|kind| kind.code() == code));
        }
    }
}
