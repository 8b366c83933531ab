//! `casklog init`

use std::io::Write as _;

use casklog::{Batch, Error, IndexOrder};
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::args::Global;
use crate::failure::{End, Failure, Result};
use crate::log::Writing;
use crate::output::Output;

/// Make a log
///
/// The directory is made, too, where it is missing. The order of indexes is fixed for good; the other options are those of
/// the first segment.
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// Which indexes may be written
    #[arg(long, value_enum, value_name = "ORDER", default_value_t = Order::Any)]
    order: Order,
    /// The lowest index, and the one that the first append takes [default: any, 1]
    #[arg(long, value_name = "INDEX")]
    first_index: Option<u64>,
    /// Be content where there is a log already, whatever its options
    #[arg(long)]
    if_missing: bool,
    #[command(flatten)]
    writing: Writing,
}

/// Which indexes may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Order {
    /// Any index that is free
    Any,
    /// Each above all before it
    Increasing,
    /// Each one above the one before it
    Sequential,
}

impl From<Order> for IndexOrder {
    fn from(order: Order) -> Self {
        match order {
            Order::Any => IndexOrder::Any,
            Order::Increasing => IndexOrder::Increasing,
            Order::Sequential => IndexOrder::Sequential,
        }
    }
}

#[derive(Debug, Serialize)]
struct Made {
    dir: String,
    prefix: String,
    is_new: bool,
}

impl Init {
    pub(crate) fn run(self, global: &Global, out: &mut Output) -> Result<End> {
        let is_new = match global.reader() {
            Ok(_) if self.if_missing => false,
            Ok(_) => {
                let place = global.dir.display();
                return Err(Failure::Refused(format!(
                    "there is a log with the prefix {:?} in {place} already; use it, or choose another --prefix or --dir",
                    global.prefix
                )));
            }
            Err(Failure::Log(Error::NotFound { .. })) => true,
            Err(error) => return Err(error),
        };
        if is_new {
            self.make(global)?;
        }
        let made = Made { dir: global.dir.display().to_string(), prefix: global.prefix.clone(), is_new };
        out.show(&made, |out| match is_new {
            true => writeln!(out, "made a log in {}", made.dir),
            false => writeln!(out, "there is a log in {} already", made.dir),
        })?;
        Ok(End::Done)
    }

    fn make(&self, global: &Global) -> Result<()> {
        let mut options = self.writing.apply(global.options()).index_order(self.order.into());
        if let Some(index) = self.first_index {
            options = options.first_index(index);
        }
        let store = options.open()?;
        // The options of a log are kept with the first thing that is written. This is one that changes nothing.
        let mut nothing = Batch::new();
        nothing.delete_meta("");
        let written = store.write_batch(&nothing);
        let closed = store.close();
        written?;
        Ok(closed?)
    }
}
