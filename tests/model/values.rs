//! Numbers and bytes that look random and are the same in every run.

use std::sync::Arc;

/// SplitMix64.
#[derive(Debug, Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }
}

/// A value of so many bytes, different for each step and index.
pub(crate) fn value(salt: u64, index: u64, bytes: u32) -> Arc<[u8]> {
    let mut random = Random(salt << 48 ^ index);
    let words = (bytes as usize).div_ceil(8);
    let mut value: Vec<u8> = (0..words).flat_map(|_| random.next().to_le_bytes()).collect();
    value.truncate(bytes as usize);
    value.into()
}
