//! Checkpoints: a copy of a log that is being written to, made and brought up to date.

mod beside;
mod common;
mod copies;
mod crashes;
#[path = "../common/log.rs"]
mod log;
mod refused;
mod retired;
mod shared;
