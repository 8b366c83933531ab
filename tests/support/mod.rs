//! The one checker for every test that hurts a log: power cuts, kills, failing calls, damaged files.
//!
//! | | what must hold | checked by |
//! |---|---|---|
//! | I1 | every acknowledged entry is there, byte for byte | [`state::compare`] |
//! | I2 | nothing is there that nobody tried to write | [`state::compare`] |
//! | I3 | no index is there twice | [`look::look`] |
//! | I4 | the log ends at the end of a batch | [`state::find`]: the states are those between batches |
//! | I5 | what returned before something else was called stands before it | [`state::compare`] |
//! | I6 | all ways to read agree; tombstones and truncations hold | [`look::look`], [`state::compare`] |
//! | I7 | opening twice gives the same, and the second time writes nothing | [`crash::check`] |
//! | I8 | writing goes on afterwards, and survives a further crash | [`runner::Runner::adopt`], and `check` again |
//! | I9 | every error is typed and names the place; no byte of a failed checksum is returned | [`damage::Log::examine`] |
//! | I10 | no panic, no descriptor left open | [`crash::guarded`], [`crash::check`] |
//! | I11 | no sync of a file after one of it failed | [`crash::no_sync_after_a_failed_one`] |
//! | I12 | retention takes whole segments from the beginning, and no more than it may | [`crash::check`] |
//! | I13 | open deletes no good record, a failed open changes nothing | [`state::compare`], [`damage::Log::examine`] |
//! | I14 | after a clean close all is there | [`crash::check`], which closes and opens again |
//! | I15 | damage of what was acknowledged is reported by open, `get`, `iter` and `verify` | [`damage::Log::examine`] |
#![allow(dead_code, reason = "each test uses the part that it needs")]

pub(crate) mod crash;
pub(crate) mod damage;
pub(crate) mod look;
pub(crate) mod model;
#[path = "../common/numbers.rs"]
mod numbers;
pub(crate) mod runner;
pub(crate) mod state;

/// Leaves the function with a message where a condition does not hold.
macro_rules! ensure {
    ($holds:expr, $($message:tt)*) => {
        if !$holds {
            return Err(format!($($message)*));
        }
    };
}
pub(crate) use ensure;
