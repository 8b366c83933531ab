//! Following a log: what is in it, and what is written to it, once and in order, whatever else happens to it.

mod beside;
mod common;
mod cut;
mod damage;
mod durable;
mod model;
#[path = "../common/numbers.rs"]
mod numbers;
mod retention;
mod stream;
mod swap;
mod truncation;
mod waiting;
mod writing;
