//! Raft log storage for [openraft](https://docs.rs/openraft) on [`casklog`].
//!
//! `v0_9::CasklogStorage<C>` implements `RaftLogStorage` and `RaftLogReader` of openraft 0.9 with its feature `storage-v2`,
//! `v0_10::CasklogStorage<C>` those of 0.10. Open it and give it to `Raft::new`; the state machine is yours.
//!
//! ```
//! # #[cfg(feature = "openraft-0-9")]
//! # mod example {
//! # use std::io::Cursor;
//! openraft_0_9::declare_raft_types!(pub Types: D = String, R = String);
//! # pub fn open(dir: &std::path::Path) -> Result<(), Box<dyn std::error::Error>> {
//! use casklog_openraft::v0_9::CasklogStorage;
//!
//! let log_store = CasklogStorage::<Types>::open(dir)?;
//! // Raft::new(id, config, network, log_store, state_machine).await?
//! # Ok(())
//! # }
//! # }
//! # #[cfg(feature = "openraft-0-9")]
//! # example::open(tempfile::tempdir()?.path())?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//! In your crate the package is `openraft`: `openraft = { version = "0.9.25", features = ["serde", "storage-v2"] }`. This
//! crate turns its feature `serde` on, so that `D`, `R`, node id and node must implement `Serialize` and `Deserialize`.
//!
//! # What survives
//! Whatever a crash or power cut leaves, the log is found as it stood at one moment, and that moment is not before the last
//! vote that `save_vote` returned for, nor before the last append that was called back as flushed. Vote, committed id, purged
//! id and entries are records of one stream, so that none of them overtakes another.
//!
//! * `save_vote` is durable when it returns. It awaits the disk, and blocks no thread.
//! * `append` returns when the entries can be read; the callback comes when they are durable, once, in the order of the
//!   appends, from a thread of the log, or within the call where the outcome is known by then. Appends that come meanwhile
//!   share the next sync. If the disk fails, every callback gets the error, and all later writes fail until the log is
//!   opened again; reads go on.
//! * `truncate` (`truncate_after`) is durable when it returns, so that a state machine with a durability of its own never
//!   holds what replaced entries that a power cut brings back.
//! * `purge` writes nothing: it is seen at once, and written in front of the next write, for openraft 0.9 asks for it while
//!   the state machine still writes the snapshot. Neither closing the log nor dropping it writes it; openraft asks for it
//!   again. [`reader`](Storage::reader) shows the entries until it is written. It frees whole segments, shortly after that.
//!   Your state machine must have a snapshot on the disk before `build_snapshot` or `install_snapshot` returns; at start,
//!   compare `last_purged_log_id` with what it covers, as `examples/raft-kv` does.
//! * `save_committed` costs one small record and no sync.
//!
//! A log that has lost something (`RecoveryMode::Salvage`, a repair) is not opened ([`Error::Lost`]): a node that forgets
//! what it has promised can make a cluster lose what was committed. Take it out of the cluster and add it under a new id.
//!
//! # Reading
//! A range is read as of one moment, also while the log is cut. A hole in it is [`Error::Hole`]; what is purged before it or
//! not yet there behind it is left out. `limited_get_log_entries` stops at 1 MiB, or what
//! [`limited_read_bytes`](Storage::limited_read_bytes) says. `entries_stream` of 0.10 reads as it is polled; where the
//! log is truncated or purged meanwhile it ends with an error. Entries that were appended a moment ago come from memory,
//! older ones from the cache or the disk, on the thread that asks.
//!
//! # Stored form
//! Entries, votes and ids are MessagePack with field names; the command line `casklog` shows them. A log remembers which line
//! of openraft it was written through and is refused by the other ([`Error::Line`]), and so is one whose vote or ids are of
//! another form than the types it is opened with ([`Error::Types`]): a switch of the leader id's type, say. A field that the
//! payload of entries gains needs a serde default.
//!
//! # Limits
//! * An index is at most `u64::MAX - 1`: [`Error::IndexExhausted`].
//! * An entry has at most [`record_bytes_max`](casklog::Options::record_bytes_max) bytes, encoded; an append may be of any
//!   size: it is written in batches of up to 4 MiB or [`batch_bytes_max`](casklog::Options::batch_bytes_max), and after a
//!   crash the first of them may be there alone, which is a log without a hole. Within a batch it is all or nothing.
//! * An append beyond [`undurable_bytes_max`](casklog::Options::undurable_bytes_max) waits until the disk has caught up.
//! * Entries that were purged and are appended again are passed over.
//! * An append or truncation may wait for a moment, on the thread that asks, where the next segment is not prepared yet.
//! * Callbacks are sent from another thread: openraft's `singlethreaded` and `single-threaded` are not supported.
//!
//! # Features
//! `openraft-0-9` (default) and `openraft-0-10`; both may be on. 0.10 is not released yet, and the pre-release is pinned.
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
