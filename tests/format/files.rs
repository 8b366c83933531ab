//! Segment headers and manifest slots.

use casklog::format::{
    Checksum, FORMAT_VERSION, HEADER_BYTES, Header, HeaderError, MANIFEST_BYTES, Manifest, SLOT_BYTES,
};
use quickcheck::QuickCheck;

use crate::golden::{check, from_hex};
use crate::model::{CHECKSUMS, position, sum};
use crate::{LOG_ID, LOG_NUMBER};

fn header(checksum: Checksum) -> Header {
    Header { checksum, log_id: LOG_ID, number: 7, log_number: LOG_NUMBER }
}

fn manifest() -> Manifest {
    Manifest {
        generation: 5,
        log_id: LOG_ID,
        first: 3,
        sealed: 6,
        last: 8,
        before: 7,
        next: 9,
        durable: position(7, 4096),
    }
}

pub(crate) const HEADER_CRC32: &str =
    "6361736b6c6f670a03000100 00*8 ffeeddccbbaa998877665544332211000700000000000000d4c3b2a1 00*12 2c314221";
const HEADER_CRC64: &str =
    "6361736b6c6f670a03000200 00*8 ffeeddccbbaa998877665544332211000700000000000000d4c3b2a1 00*12 7e1d6076";
pub(crate) const SLOT: &str = "6361736b6d616e0a03000000070000000500000000000000ffeeddccbbaa99887766554433221100 \
    0300000000000000060000000000000008000000000000000900000000000000070000000000000000100000000000 \
    009612ff2c 00*4004";

/// A header whose checksum is right whatever it says.
fn sealed(mut bytes: [u8; HEADER_BYTES as usize]) -> [u8; HEADER_BYTES as usize] {
    let sum = sum(Checksum::Crc32, &bytes[..60]) as u32;
    bytes[60..].copy_from_slice(&sum.to_le_bytes());
    bytes
}

#[test]
fn a_header_has_its_bytes() {
    for (checksum, golden) in CHECKSUMS.into_iter().zip([HEADER_CRC32, HEADER_CRC64]) {
        check("header", &header(checksum).to_bytes(), golden);
        assert_eq!(Header::from_bytes(&from_hex(golden)), Ok(header(checksum)));
    }
}

#[test]
fn a_header_with_a_flipped_bit_is_refused() {
    let bytes = header(Checksum::Crc64).to_bytes();
    for bit in 0..8 * bytes.len() {
        let mut other = bytes;
        other[bit / 8] ^= 1 << (bit % 8);
        let expected = if bit < 64 { HeaderError::Magic } else { HeaderError::Checksum };
        assert_eq!(Header::from_bytes(&other), Err(expected), "bit {bit}");
    }
    for len in 0..bytes.len() {
        assert_eq!(Header::from_bytes(&bytes[..len]), Err(HeaderError::Short));
    }
    assert_eq!(Header::from_bytes(&[0; 64]), Err(HeaderError::Zeros));
    // Rot is not taken for a newer version, whose files are left alone.
    for rot in
        [HeaderError::Short, HeaderError::Zeros, HeaderError::Magic, HeaderError::Checksum, HeaderError::Number(0)]
    {
        assert!(!rot.is_newer(), "{rot}");
    }
}

#[test]
fn what_a_later_version_writes_is_refused_by_name() {
    let bytes = header(Checksum::Crc32).to_bytes();
    let with = |at: usize, value: u8| {
        let mut other = bytes;
        other[at] = value;
        other
    };
    for version in [0u16, 1, 2, 4, 255, 256, 257, u16::MAX] {
        let mut other = bytes;
        other[8..10].copy_from_slice(&version.to_le_bytes());
        // Without its checksum it is rot; with it, a version.
        assert_eq!(Header::from_bytes(&other), Err(HeaderError::Checksum));
        assert_eq!(Header::from_bytes(&sealed(other)), Err(HeaderError::Version(version)));
        assert!(HeaderError::Version(version).is_newer());
    }
    for kind in [0, 3, 255] {
        assert_eq!(Header::from_bytes(&sealed(with(10, kind))), Err(HeaderError::ChecksumKind(kind)));
    }
    for bit in 0..64 {
        let other = with(12 + bit / 8, 1 << (bit % 8));
        assert_eq!(Header::from_bytes(&sealed(other)), Err(HeaderError::Features(1 << (bit % 32))));
    }
    // Reserved bytes are zero, and not looked at.
    for at in [11].into_iter().chain(48..60) {
        assert_eq!(Header::from_bytes(&sealed(with(at, 0xff))), Ok(header(Checksum::Crc32)), "{at}");
    }
}

#[test]
fn segment_numbers_fit_32_bits_and_begin_with_one() {
    for number in [0u64, 1 << 32, u64::MAX] {
        let mut bytes = header(Checksum::Crc32).to_bytes();
        bytes[36..44].copy_from_slice(&number.to_le_bytes());
        assert_eq!(Header::from_bytes(&sealed(bytes)), Err(HeaderError::Number(number)));
    }
    for number in [1, u32::MAX] {
        let header = Header { number, ..header(Checksum::Crc32) };
        assert_eq!(Header::from_bytes(&header.to_bytes()), Ok(header));
    }
}

#[test]
fn headers_and_slots_round_trip() {
    fn property(id: u128, number: u32, log_number: u32, generation: u64, next: u64) -> bool {
        let number = number.max(1);
        let header = Header { checksum: CHECKSUMS[(number % 2) as usize], log_id: id, number, log_number };
        let manifest = Manifest {
            generation,
            log_id: id,
            first: number,
            sealed: number ^ log_number,
            before: number.rotate_left(7),
            last: log_number,
            next,
            durable: position(number, log_number),
        };
        Header::from_bytes(&header.to_bytes()) == Ok(header)
            && Manifest::from_slot(&manifest.to_slot()) == Some(manifest)
    }
    QuickCheck::new().tests(2000).quickcheck(property as fn(u128, u32, u32, u64, u64) -> bool);
}

#[test]
fn a_manifest_slot_has_its_bytes() {
    check("slot", &manifest().to_slot(), SLOT);
    assert_eq!(Manifest::from_slot(&from_hex(SLOT)), Some(manifest()));
    assert_eq!((manifest().slot_offset(), SLOT_BYTES, MANIFEST_BYTES), (4096, 4096, 8192));
}

#[test]
fn a_slot_with_a_flipped_bit_is_refused_or_says_the_same() {
    let slot = manifest().to_slot();
    for bit in 0..8 * SLOT_BYTES {
        let mut other = slot;
        other[bit / 8] ^= 1 << (bit % 8);
        let expected = (bit >= 8 * 92).then(manifest);
        assert_eq!(Manifest::from_slot(&other), expected, "bit {bit}");
    }
    for len in 0..SLOT_BYTES {
        assert_eq!(Manifest::from_slot(&slot[..len]), (len >= 92).then(manifest));
    }
    let mut later = slot;
    later[8] += 1;
    let checksum = sum(Checksum::Crc32, &later[..88]) as u32;
    later[88..92].copy_from_slice(&checksum.to_le_bytes());
    assert_eq!(Manifest::from_slot(&later), None);
    let mut foreign = slot;
    foreign[0] = b'C';
    let checksum = sum(Checksum::Crc32, &foreign[..88]) as u32;
    foreign[88..92].copy_from_slice(&checksum.to_le_bytes());
    assert_eq!(Manifest::from_slot(&foreign), None);
}

#[test]
fn only_a_whole_slot_of_a_later_version_is_called_newer() {
    let with_version = |version: u16| {
        let mut slot = manifest().to_slot();
        slot[8..10].copy_from_slice(&version.to_le_bytes());
        let checksum = sum(Checksum::Crc32, &slot[..88]) as u32;
        slot[88..92].copy_from_slice(&checksum.to_le_bytes());
        slot
    };
    for version in [0, 1, FORMAT_VERSION] {
        assert_eq!(Manifest::newer_version(&with_version(version)), None);
    }
    for version in [FORMAT_VERSION + 1, 256, u16::MAX] {
        let slot = with_version(version);
        assert_eq!(Manifest::newer_version(&slot), Some(version));
        for len in 0..SLOT_BYTES {
            assert_eq!(Manifest::newer_version(&slot[..len]), (len >= 92).then_some(version), "{len} bytes");
        }
        // Rot is no version.
        for bit in 0..8 * 92 {
            let mut other = slot;
            other[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Manifest::newer_version(&other), None, "bit {bit}");
        }
    }
    // Nor is another kind of file.
    let mut foreign = with_version(FORMAT_VERSION + 1);
    foreign[0] = b'C';
    let checksum = sum(Checksum::Crc32, &foreign[..88]) as u32;
    foreign[88..92].copy_from_slice(&checksum.to_le_bytes());
    assert_eq!(Manifest::newer_version(&foreign), None);
    assert_eq!(Manifest::newer_version(&[0; SLOT_BYTES]), None);
}

#[test]
fn the_newer_valid_slot_counts() {
    let (old, new) = (Manifest { generation: 4, next: 8, ..manifest() }, manifest());
    let mut file = vec![0; MANIFEST_BYTES];
    assert_eq!(Manifest::from_file(&file), []);
    for manifest in [old, new] {
        file[manifest.slot_offset() as usize..][..SLOT_BYTES].copy_from_slice(&manifest.to_slot());
    }
    assert_eq!(Manifest::from_file(&file), [new, old]);
    file[4096 + 20] ^= 1;
    assert_eq!(Manifest::from_file(&file), [old]);
    for len in 0..file.len() {
        assert_eq!(Manifest::from_file(&file[..len]).len(), usize::from(len >= 92));
    }
}
