//! A log opened for reading only: beside a writer, of a log that nobody writes, of a damaged one; and `verify`, which any
//! reader can.

mod beside;
mod broken;
mod common;
mod footers;
#[path = "../common/log.rs"]
mod log;
mod mirror;
#[path = "../common/numbers.rs"]
mod numbers;
mod traces;
mod verify;
