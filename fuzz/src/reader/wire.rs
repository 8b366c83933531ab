//! Numbers and checksums.

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

/// Of up to 8 bytes.
pub(crate) fn number_of(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

const fn table(polynomial: u64) -> [u64; 256] {
    let (mut table, mut byte) = ([0; 256], 0);
    while byte < 256 {
        let (mut value, mut bit) = (byte as u64, 0);
        while bit < 8 {
            value = if value & 1 == 1 { (value >> 1) ^ polynomial } else { value >> 1 };
            bit += 1;
        }
        table[byte] = value;
        byte += 1;
    }
    table
}

static CRC_32: [u64; 256] = table(0xedb8_8320);
static CRC_64: [u64; 256] = table(0xc96c_5795_d787_0f42);

/// Of the parts, one behind the other, with 4 or 8 bytes.
pub(crate) fn crc(width: usize, parts: &[&[u8]]) -> u64 {
    let (table, ones) = if width == 4 { (&CRC_32, 0xffff_ffff) } else { (&CRC_64, u64::MAX) };
    let step = |sum: u64, byte: &u8| (sum >> 8) ^ table[usize::from(sum as u8 ^ byte)];
    parts.iter().flat_map(|part| part.iter()).fold(ones, step) ^ ones
}

pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    crc(4, &[bytes]) as u32
}

#[test]
fn check_values_are_those_of_the_text() {
    assert_eq!(crc(4, &[b"12345", b"6789"]), 0xcbf4_3926);
    assert_eq!(crc(8, &[b"123456789"]), 0x995d_c9bb_df19_39fa);
}
