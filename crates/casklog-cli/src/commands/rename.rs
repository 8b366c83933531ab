//! `casklog rename`

use std::io::Write as _;

use clap::Args;
use serde::Serialize;

use crate::args::Global;
use crate::failure::{End, Result};
use crate::output::Output;

/// Move the log to another prefix
///
/// Only the names of its files change. Should it be interrupted, whoever opens the log is told so, and the same command
/// completes it.
#[derive(Debug, Args)]
pub(crate) struct Rename {
    /// What the names of its files are to begin with
    #[arg(value_name = "PREFIX")]
    to: String,
}

#[derive(Debug, Serialize)]
struct Renamed {
    from: String,
    to: String,
}

impl Rename {
    pub(crate) fn run(self, global: &Global, out: &mut Output) -> Result<End> {
        global.options().rename(&self.to)?;
        let renamed = Renamed { from: global.prefix.clone(), to: self.to };
        out.show(&renamed, |out| writeln!(out, "the log has the prefix {:?} now", renamed.to))?;
        Ok(End::Done)
    }
}
