//! `casklog map`

mod picture;
mod survey;

use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;

use clap::Args;

use crate::args::Global;
use crate::failure::{End, Failure, Result};
use crate::output::Output;

use survey::Survey;

/// Draw the log as a page for a browser
///
/// One HTML file with nothing to load from elsewhere: the segments and how full they are, what of them is dead (deleted or
/// truncated), the indexes they hold, and damage. Every entry is read once to find out what is dead; --quick does without.
#[derive(Debug, Args)]
pub(crate) struct Map {
    /// Where to write the page; `-` is standard output
    #[arg(long, short, value_name = "FILE", default_value = "-")]
    output: PathBuf,
    /// Read no entries: the page does not tell dead ones from live ones then
    #[arg(long)]
    quick: bool,
}

impl Map {
    pub(crate) fn run(self, global: &Global, out: &mut Output) -> Result<End> {
        let to_stdout = self.output.as_os_str() == "-";
        if to_stdout && !out.is_json() && io::stdout().is_terminal() {
            return Err(Failure::Usage("a page is for a browser: write it to a file with --output FILE".to_owned()));
        }
        let survey = Survey::make(&global.reader()?, global, self.quick)?;
        if out.is_json() {
            out.json(&survey)?;
        } else if to_stdout {
            out.write_all(picture::page(&survey).as_bytes())?;
        } else {
            std::fs::write(&self.output, picture::page(&survey)).map_err(Failure::file("write", &self.output))?;
            writeln!(out, "wrote {}", self.output.display())?;
        }
        Ok(if survey.is_damaged() { End::Damaged } else { End::Done })
    }
}
