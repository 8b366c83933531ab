//! `casklog completions`

use std::io::Write as _;

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::args::{self, Global};
use crate::failure::{End, Result};
use crate::output::Output;

/// Write a completion script for a shell
///
/// For bash: casklog completions bash > ~/.local/share/bash-completion/completions/casklog
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self, _: &Global, out: &mut Output) -> Result<End> {
        // Into memory first: it takes a closed pipe for a bug.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut args::Args::command(), "casklog", &mut script);
        out.write_all(&script)?;
        Ok(End::Done)
    }
}
