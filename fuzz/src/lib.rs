//! What the fuzz targets do: each module has a function `run` that takes any bytes and panics where the crate breaks a
//! promise. The fuzzer calls them (`fuzz_targets`), and `tests/fuzz_corpus.rs` of the main crate, on the corpus.

#![allow(missing_docs, reason = "the modules say what they are")]

pub mod cache;
mod common;
pub mod decode;
pub mod directory;
pub mod footer;
pub mod image;
pub mod independent;
pub mod manifest;
pub mod options;
pub mod reader;
pub mod round_trip;
pub mod scan;
pub mod stateful;

/// One target: it takes any bytes, and panics where a promise is broken.
pub type Run = fn(&[u8]);

/// All targets, by the names of their corpora.
pub const TARGETS: [(&str, Run); 10] = [
    ("f1_decode", decode::run),
    ("f2_scan", scan::run),
    ("f3_manifest", manifest::run),
    ("f4_footer", footer::run),
    ("f5_directory", directory::run),
    ("f6_round_trip", round_trip::run),
    ("f7_stateful", stateful::run),
    ("f8_reader", independent::run),
    ("f9_options", options::run),
    ("f10_cache", cache::run),
];
