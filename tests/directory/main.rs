//! Directories in which files are missing, doubled, moved, swapped, of another log or of an older copy, and things that
//! are no files (R8); and what `Repair`, `UnsafeRecover` and `Salvage` make of every kind of damage (R30).
//!
//! By default each fault alone and a sample of pairs. All pairs, and all bytes, sectors and cuts:
//! `CASKLOG_R8_PAIRS=1000000 CASKLOG_R8_ALL=1 CASKLOG_R30=1 cargo test --release --test directory -- --nocapture`.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod alone;
mod by_force;
mod faults;
#[path = "../common/figures.rs"]
mod figures;
mod logs;
mod mended;
#[cfg(unix)]
mod no_files;
#[path = "../support/mod.rs"]
mod support;
