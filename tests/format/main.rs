//! The bytes on disk: golden literals written once and for all, round trips, and what is refused.
//!
//! A golden that fails means that the format changed: old logs would not be read. Do not replace the literal, unless
//! no version with the old bytes was ever released.

#![allow(clippy::disallowed_methods, reason = "FORMAT.md is read as it is")]
#![allow(clippy::unwrap_used, reason = "these are tests")]

mod files;
mod footers;
mod forged;
mod fragments;
mod golden;
mod members;
mod model;
mod pages;
mod records;
mod robustness;
mod text;

/// The log id in all goldens.
const LOG_ID: u128 = 0x0011_2233_4455_6677_8899_aabb_ccdd_eeff;

/// The log number in all goldens.
const LOG_NUMBER: u32 = 0xa1b2_c3d4;
