//! `Repair`: keeps every record that can be read, says exactly what is lost, loses no byte, and can be undone.
//!
//! By default a sample of the bytes; `CASKLOG_REPAIR_STEP=1 cargo test --release --test repair -- --nocapture` takes all.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod crashes;
mod each_byte;
mod files;
mod kinds;
mod log;
mod stale;
