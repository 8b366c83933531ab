#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used))]

mod entry;
mod error;
mod read;
mod snapshot;
mod state;
mod step;
mod storage;

pub use error::{Error, Result};
pub use snapshot::{Image, SnapshotRequest};
pub use storage::CasklogStorage;
