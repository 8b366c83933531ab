//! `casklog truncate`

use std::io::Write as _;

use clap::Args;
use serde::Serialize;

use crate::args::Global;
use crate::failure::{End, Result};
use crate::log::Writing;
use crate::output::Output;
use crate::units::counted;

/// Remove the entries at one end of the log, for good
///
/// With --before, segments that are empty then go, and lower indexes are refused from then on. With --after, the indexes
/// are free again.
#[derive(Debug, Args)]
pub(crate) struct Truncate {
    #[command(flatten)]
    end: Side,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Side {
    /// Remove the entries below this index
    #[arg(long, value_name = "INDEX")]
    before: Option<u64>,
    /// Remove the entries above this index
    #[arg(long, value_name = "INDEX")]
    after: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Removed {
    removed: u64,
    entries: u64,
    next_index: Option<u64>,
}

impl Truncate {
    pub(crate) fn run(self, global: &Global, out: &mut Output) -> Result<End> {
        let removed = global.write(&Writing::default(), |store| {
            let before = store.len();
            if let Some(index) = self.end.before {
                store.truncate_before(index)?;
            }
            if let Some(index) = self.end.after {
                store.truncate_after(index)?;
            }
            let entries = store.len();
            Ok(Removed { removed: before.saturating_sub(entries), entries, next_index: store.next_index() })
        })?;
        out.show(&removed, |out| {
            let left = counted(removed.entries, "entry");
            writeln!(out, "removed {}, {left} left", counted(removed.removed, "entry"))
        })?;
        Ok(End::Done)
    }
}
