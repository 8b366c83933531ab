//! R16: a process that dies at any allocation leaves a log that opens, with all that was acknowledged; and lengths that
//! lie, under right checksums, take no more memory than the files and the options allow.
//!
//! A sample by default; every allocation and every byte:
//! `CASKLOG_R16=1 cargo test --release --test out_of_memory -- --nocapture`.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod allocator;
#[cfg(unix)]
mod child;
#[path = "../common/figures.rs"]
mod figures;
mod lengths;
#[allow(dead_code, unreachable_pub, reason = "the targets belong to a crate of their own")]
#[path = "../../fuzz/src/lib.rs"]
mod targets;
