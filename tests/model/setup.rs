//! How the store of a case is opened.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use casklog::fs::sim::SimFs;
use casklog::{Checksum, IndexOrder, Options, ReadMode, SyncPolicy};

/// When writes become durable; what the cases tell apart of [`SyncPolicy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    Immediate,
    Grouped,
    /// `SyncPolicy::None`, placed through a mapping or through positioned writes.
    Unsynced,
}

impl Policy {
    pub(crate) fn syncs_each_write(self) -> bool {
        self != Policy::Unsynced
    }

    fn sync(self) -> SyncPolicy {
        match self {
            Policy::Immediate => SyncPolicy::Immediate,
            Policy::Grouped => SyncPolicy::Grouped { window: Duration::ZERO },
            Policy::Unsynced => SyncPolicy::None,
        }
    }
}

/// Declares the options of a case once: their type, their plain value, their printed form and how they shrink.
macro_rules! setup {
    ($($name:ident: $type:ty = $plain:expr,)*) => {
        /// Options of a case. A new one is a line here, one in [`Setup::options`] and one where cases are drawn.
        #[derive(Clone, PartialEq)]
        pub(crate) struct Setup {
            $(pub(crate) $name: $type,)*
        }

        /// What [`Setup`] shrinks to, and what is not printed.
        pub(crate) const PLAIN: Setup = Setup { $($name: $plain,)* };

        impl Setup {
            /// Setups that are plainer in one option.
            pub(crate) fn plainer(&self) -> Vec<Setup> {
                let mut plainer = Vec::new();
                $(if self.$name != PLAIN.$name {
                    plainer.push(Setup { $name: PLAIN.$name, ..self.clone() });
                })*
                plainer
            }
        }

        impl fmt::Debug for Setup {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("Setup { ")?;
                $(if self.$name != PLAIN.$name {
                    write!(f, concat!(stringify!($name), ": {:?}, "), self.$name)?;
                })*
                f.write_str("..PLAIN }")
            }
        }
    };
}

setup! {
    order: IndexOrder = IndexOrder::Any,
    first_index: Option<u64> = None,
    policy: Policy = Policy::Immediate,
    mapped: bool = false,
    segment_bytes: u64 = 1 << 18,
    segment_entries: Option<u64> = None,
    max_segments: Option<u64> = None,
    checksum: Checksum = Checksum::Crc32,
    preallocate: bool = true,
    sync_align: u32 = 0,
    max_open_files: usize = 4,
    cache_bytes: u64 = 0,
    read_mode: ReadMode = ReadMode::Positioned,
    key_index: bool = false,
    key_hash_bits: u32 = 64,
}

impl Setup {
    /// The options of the store, on the file system `fs`.
    pub(crate) fn options(&self, fs: &SimFs) -> Options {
        let mut options = Options::new("/db")
            .fs(Arc::new(fs.clone()))
            .background(false)
            .index_order(self.order)
            .sync(self.policy.sync())
            .mapped(self.mapped)
            .segment_bytes(self.segment_bytes)
            .checksum(self.checksum)
            .preallocate(self.preallocate)
            .sync_align(self.sync_align)
            .max_open_files(self.max_open_files)
            .cache_bytes(self.cache_bytes)
            .read_mode(self.read_mode)
            .key_index(self.key_index)
            .key_hash_bits(self.key_hash_bits);
        if let Some(index) = self.first_index {
            options = options.first_index(index);
        }
        if let Some(entries) = self.segment_entries {
            options = options.segment_entries(entries);
        }
        if let Some(segments) = self.max_segments {
            options = options.max_segments(segments);
        }
        options
    }
}
