//! A log opened for reading only: beside a writer, of a log that nobody writes, of a damaged one; and `verify`, which any
//! reader can.

mod beside;
mod broken;
mod common;
mod footers;
mod mirror;
mod traces;
mod verify;
