#![doc = include_str!("../README.md")]
#![cfg_attr(not(test), deny(clippy::unwrap_used))]

mod backbone81;
mod blocks;
mod detect;
mod error;
mod export;
pub mod fgrosse;
mod format;
mod frames;
mod gowal;
mod import;
mod length_prefixed;
mod log;
mod msgpack;
mod names;
mod ndjson;
mod nogodb;
mod open;
mod raw;
mod record;
mod rosedb;
mod stream;
mod window;

pub use detect::detect;
pub use error::{Error, Reason, Unreadable};
pub use export::{Exported, export};
pub use format::{ExportFormat, Format, Prefix};
pub use import::{Existing, ImportOptions, Numbering, Report, UNREADABLE_KEPT, import_into};
pub use open::open;
pub use record::{ReadOptions, Record, Records};
