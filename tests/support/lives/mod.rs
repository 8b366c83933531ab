//! A process that writes to a log and says in a pipe what it was told, and the comparison of the log with that: for all
//! tests that end the process, or take the disk from under it, and look what is left.
//!
//! The child is the test binary itself, which runs the test `child_process`. A parent starts one with [`Life::start`],
//! ends it as it likes, hands what it said to [`tell`], and has the log compared by [`verify`].
#![allow(dead_code, unused_imports, reason = "each test needs a part")]

mod child;
mod figures;
mod life;
mod model;
mod plan;

pub(crate) use child::Task;
pub(crate) use figures::Figures;
pub(crate) use life::{End, Life, Said, child_process, tell, verify};
pub(crate) use model::{Model, Verdict};
pub(crate) use plan::{Kill, Kind, Plan, Rng, Series, Value};
