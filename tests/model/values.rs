//! The values of entries.

use std::sync::Arc;

use crate::numbers::Numbers;

/// A value of so many bytes, different for each step and index.
pub(crate) fn value(salt: u64, index: u64, bytes: u32) -> Arc<[u8]> {
    Numbers(salt << 48 ^ index).bytes(bytes as usize).into()
}
