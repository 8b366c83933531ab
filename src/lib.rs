#![doc = include_str!("../README.md")]
#![deny(clippy::disallowed_methods)]
#![cfg_attr(not(test), deny(clippy::unwrap_used))]

mod batch;
mod cache;
mod checkpoint;
mod commit;
mod entry;
mod error;
mod events;
mod follow;
pub mod format;
#[cfg(feature = "testing")]
pub mod fs;
#[cfg(not(feature = "testing"))]
#[allow(unreachable_pub)]
mod fs;
mod histogram;
mod history;
mod index;
mod iter;
mod keeper;
mod latch;
mod log;
mod log_order;
#[cfg(feature = "metrics")]
mod metrics;
mod options;
mod position;
mod reader;
mod reads;
mod recovery;
mod rename;
mod repair;
mod retention;
mod rewrite;
mod segment;
mod stats;
mod store;
mod sync;
mod verify;

#[cfg(feature = "metrics")]
pub use crate::metrics::Metrics;
pub use batch::Batch;
pub use checkpoint::Checkpoint;
pub use entry::{Entry, EntryRef};
pub use error::{Error, Result, SystemError};
pub use events::Event;
pub use follow::{Follow, FollowStream};
pub use format::Checksum;
pub use histogram::Histogram;
pub use history::History;
pub use iter::Iter;
pub use log_order::{LogItem, LogOrder};
pub use options::{Durability, IndexOrder, Options, ReadMode, RecoveryMode, SyncPolicy};
pub use position::{Position, SEGMENT_NUMBER_MAX};
pub use reader::{Reader, SegmentInfo};
pub use recovery::{Damage, RecoveryReport, TornTail};
pub use repair::{Cause, LostBytes, Repair, RepairReport, RepairedSegment, TakenAgain, UnsafeRecover};
pub use rewrite::Rewritten;
pub use stats::Stats;
pub use store::{Appended, Commit, CommitFuture, Store};
pub use verify::Verified;
