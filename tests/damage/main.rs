//! Bytes and sectors that a disk has changed: nothing is lost silently, nothing is wrong, nothing panics, and all that
//! reads reports the damage.
//!
//! By default a sample; `CASKLOG_DAMAGE_ALL=1 cargo test --release --test damage -- --nocapture` takes all,
//! `CASKLOG_DAMAGE_SEVERAL=100000` so many logs of each store with several bytes changed at once, and
//! `CASKLOG_DAMAGE_LARGE=1000000` so many of each store of 1 MiB with one byte changed.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod again;
mod bytes;
#[path = "../common/figures.rs"]
mod figures;
mod files;
mod flips;
mod headers;
mod large;
mod log;
#[path = "../common/numbers.rs"]
mod numbers;
mod sectors;
