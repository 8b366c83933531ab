//! `casklog rewrite`

use std::io::Write as _;
use std::path::PathBuf;

use casklog::{Options, Rewritten};
use clap::Args;
use serde::Serialize;

use super::init::Order;
use crate::args::Global;
use crate::failure::{End, Result};
use crate::log::Writing;
use crate::output::Output;
use crate::units::{bytes, counted};

/// Write what is live into a new log, with other options
///
/// So segments are merged or split, the checksum or the order of indexes is changed, and what was deleted or truncated takes
/// no more space. Every entry is read again from the new log and compared. The old log stays as it is; `casklog rename` puts
/// the new one in its place.
#[derive(Debug, Args)]
pub(crate) struct Rewrite {
    /// The directory of the new log
    #[arg(value_name = "TO")]
    to: PathBuf,
    /// What the names of its files begin with [default: that of the old one]
    #[arg(long, value_name = "PREFIX")]
    to_prefix: Option<String>,
    /// Which indexes may be written to the new log [default: as in the old one]
    #[arg(long, value_enum, value_name = "ORDER")]
    order: Option<Order>,
    #[command(flatten)]
    writing: Writing,
}

#[derive(Debug, Serialize)]
struct Done {
    to: String,
    entries: u64,
    segments_before: u64,
    segments: u64,
    bytes_before: u64,
    bytes: u64,
}

impl Rewrite {
    pub(crate) fn run(self, global: &Global, out: &mut Output) -> Result<End> {
        global.must_exist()?;
        let prefix = self.to_prefix.as_deref().unwrap_or(&global.prefix);
        let mut to = self.writing.apply(Options::new(&self.to).prefix(prefix));
        let stored = global.stored_order()?;
        to = to.index_order(self.order.map_or(stored, Into::into));
        let Rewritten { entries, segments, bytes: size, .. } = global.options().index_order(stored).rewrite(to)?;
        let to = self.to.display().to_string();
        let (segments_before, segments, bytes_before, size) = (segments.0, segments.1, size.0, size.1);
        let done = Done { to, entries, segments_before, segments, bytes_before, bytes: size };
        out.show(&done, |out| {
            let (before, now) = (counted(segments_before, "segment"), counted(segments, "segment"));
            let (size_before, size) = (bytes(bytes_before), bytes(size));
            writeln!(out, "wrote {} to {}, all compared", counted(entries, "entry"), done.to)?;
            writeln!(out, "{before} of {size_before} before, {now} of {size} now")
        })?;
        Ok(End::Done)
    }
}
