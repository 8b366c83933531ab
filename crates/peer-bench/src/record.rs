//! The records that every engine gets: a key of 16 bytes and a value that does not compress, both told by the index.

use anyhow::{Result, ensure};

/// Bytes of a key.
pub(crate) const KEY_BYTES: usize = 16;

/// Where values are cut from. It fits the second level of a processor's cache, so that making a record costs little.
const POOL_BYTES: usize = 1 << 20;

/// One record, borrowed from the pool.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record<'a> {
    /// Its number, from 0.
    pub(crate) index: u64,
    pub(crate) key: [u8; KEY_BYTES],
    pub(crate) value: &'a [u8],
}

impl Record<'_> {
    /// Key and value in one, for engines that know one payload a record.
    pub(crate) fn join(&self, buffer: &mut Vec<u8>) {
        buffer.clear();
        buffer.extend_from_slice(&self.key);
        buffer.extend_from_slice(self.value);
    }
}

/// Makes records.
#[derive(Debug)]
pub(crate) struct Records {
    pool: Vec<u8>,
    value_bytes: usize,
}

impl Records {
    pub(crate) fn new(value_bytes: usize) -> Self {
        let words = (0..(POOL_BYTES / 8) as u64).map(mix);
        Records { pool: words.flat_map(u64::to_le_bytes).collect(), value_bytes }
    }

    /// Bytes of one record.
    pub(crate) fn record_bytes(&self) -> u64 {
        (KEY_BYTES + self.value_bytes) as u64
    }

    #[inline]
    pub(crate) fn at(&self, index: u64) -> Record<'_> {
        let mixed = mix(index);
        let from = (mixed % (POOL_BYTES - self.value_bytes) as u64) as usize;
        let mut key = [0; KEY_BYTES];
        key[..8].copy_from_slice(&index.to_be_bytes());
        key[8..].copy_from_slice(&mixed.to_be_bytes());
        Record { index, key, value: &self.pool[from..from + self.value_bytes] }
    }

    /// Whether a record came back as it was appended.
    pub(crate) fn check(&self, index: u64, key: &[u8], value: &[u8]) -> Result<()> {
        let record = self.at(index);
        ensure!(key == record.key, "record {index} came back with the key {key:02x?}");
        ensure!(value == record.value, "record {index} came back with another value, of {} bytes", value.len());
        Ok(())
    }
}

/// Splitmix64: neighbours become unlike each other.
#[inline]
pub(crate) fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_told_by_its_index_and_another_one_is_noticed() {
        let records = Records::new(128);
        let record = records.at(7);
        assert_eq!(record.value.len(), 128);
        records.check(7, &record.key, record.value).unwrap();
        records.check(8, &record.key, record.value).unwrap_err();
        let mut value = record.value.to_vec();
        value[127] ^= 1;
        records.check(7, &record.key, &value).unwrap_err();
    }
}
