//! Raft log storage for [openraft](https://docs.rs/openraft) on [`casklog`].
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used))]

mod codec;
mod entries;
mod error;
mod line;
mod raft_log;
mod storage;
#[cfg(feature = "openraft-0-10")]
pub mod v0_10;
#[cfg(feature = "openraft-0-9")]
pub mod v0_9;

pub use error::{Error, Result};
pub use storage::Storage;
