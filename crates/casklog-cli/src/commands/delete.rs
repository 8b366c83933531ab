//! `casklog delete`

use std::io::Write as _;

use casklog::Batch;
use clap::Args;
use serde::Serialize;

use crate::args::Global;
use crate::failure::{End, Result, note};
use crate::log::Writing;
use crate::output::Output;
use crate::units::counted;

/// Delete entries
///
/// All of them in one step. Their indexes stay taken, and their bytes stay in the files until retention or a truncation
/// takes the segment.
#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// The indexes
    #[arg(value_name = "INDEX", required = true)]
    indexes: Vec<u64>,
}

#[derive(Debug, Serialize)]
struct Deleted {
    deleted: Vec<u64>,
    absent: Vec<u64>,
}

impl Delete {
    pub(crate) fn run(self, global: &Global, out: &mut Output) -> Result<End> {
        let mut indexes = self.indexes;
        indexes.sort_unstable();
        indexes.dedup();
        let deleted = global.write(&Writing::default(), |store| {
            let (deleted, absent): (Vec<u64>, Vec<u64>) =
                indexes.iter().copied().partition(|index| store.contains(*index));
            let mut batch = Batch::new();
            for index in &deleted {
                batch.delete(*index);
            }
            store.write_batch(&batch)?;
            Ok(Deleted { deleted, absent })
        })?;
        for index in &deleted.absent {
            note("error", &format!("there is no entry at index {index}"));
        }
        let count = deleted.deleted.len() as u64;
        out.show(&deleted, |out| match count {
            0 => Ok(()),
            count => writeln!(out, "deleted {}", counted(count, "entry")),
        })?;
        Ok(if deleted.absent.is_empty() { End::Done } else { End::Absent })
    }
}
