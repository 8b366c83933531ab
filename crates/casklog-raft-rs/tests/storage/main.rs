//! `CasklogStorage` as raft-rs and its application see it, on the disk and on the simulated one.

mod beside;
mod cluster;
mod common;
mod failures;
mod follower;
mod mem_storage;
mod model;
mod power_cuts;
mod refused;
mod resume;
