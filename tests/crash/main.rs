//! Crash tests on the simulated file system: power cuts at every operation, failing calls, damaged files.
//!
//! `CASKLOG_CRASH_STATES` sets how many states the sweep checks, `CASKLOG_CRASH_SEED` where it begins.

#![allow(clippy::unwrap_used)]

mod checker;
mod faults;
mod model;
mod modes;
mod named;
#[path = "../common/numbers.rs"]
mod numbers;
mod runner;
mod stale;
mod sweep;
mod threads;
