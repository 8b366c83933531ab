#![doc = include_str!("../README.md")]
#![deny(clippy::disallowed_methods)]
#![cfg_attr(not(test), deny(clippy::unwrap_used))]

mod batch;
mod commit;
mod entry;
mod error;
pub mod format;
#[cfg(feature = "testing")]
pub mod fs;
#[cfg(not(feature = "testing"))]
#[allow(unreachable_pub)]
mod fs;
mod index;
mod iter;
mod keeper;
mod latch;
mod log;
mod options;
mod position;
mod reads;
mod recovery;
mod repair;
mod retention;
mod segment;
mod stats;
mod store;

pub use batch::Batch;
pub use entry::{Entry, EntryRef};
pub use error::{Error, Result, SystemError};
pub use format::Checksum;
pub use iter::{Iter, LogItem, LogOrder};
pub use options::{Durability, IndexOrder, Options, RecoveryMode, SyncPolicy};
pub use position::{Position, SEGMENT_NUMBER_MAX};
pub use recovery::{Damage, RecoveryReport, TornTail};
pub use repair::UnsafeRecover;
pub use stats::Stats;
pub use store::{Appended, Commit, CommitFuture, SegmentInfo, Store};
