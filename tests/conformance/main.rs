//! What a user of any log in this family may expect, case by case, through the public API or the files on disk.
//!
//! The first comment line of a test names its cases; `README.md` beside this file lists every case.

#![allow(clippy::disallowed_methods, reason = "black-box tests look at the files themselves")]
#![allow(clippy::unwrap_used, reason = "these are tests")]

mod backbone;
mod backbone_files;
mod batches;
mod common;
mod corruption;
mod crashes;
mod durability;
mod faults;
mod fgrosse;
mod gowal;
mod gowal_limits;
mod indexes;
mod iterators;
#[path = "../common/log.rs"]
mod log;
mod log_order;
mod meta;
mod nogodb;
#[path = "../common/numbers.rs"]
mod numbers;
mod opening;
mod other_process;
mod reading;
mod recover;
mod rosedb;
mod rosedb_upkeep;
mod table;
mod truncation;
