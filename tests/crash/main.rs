//! Crash tests on the simulated file system: power cuts at every operation, failing calls and syncs, full disks, damaged
//! files. `tier` says how much of each is tried, `tests/support` what must hold.

#![allow(clippy::unwrap_used)]

mod after_failure;
mod failing_calls;
mod failing_syncs;
#[path = "../common/figures.rs"]
mod figures;
mod found;
mod full_disk;
mod modes;
mod named;
mod power_cuts;
mod stale;
#[path = "../support/mod.rs"]
mod support;
mod sweep;
mod threads;
mod tier;
mod workloads;
