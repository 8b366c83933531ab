//! `casklog man`

use std::io::Write as _;
use std::path::PathBuf;

use clap::{Args, CommandFactory as _};

use crate::args::{self, Global};
use crate::failure::{End, Failure, Result};
use crate::output::Output;

/// Write manual pages
///
/// To read one: casklog man cat | man -l -
#[derive(Debug, Args)]
pub(crate) struct Man {
    /// The command that the page is about; without it, the page of casklog
    #[arg(value_name = "COMMAND")]
    name: Option<String>,
    /// Write the pages of all commands into this directory
    #[arg(long, value_name = "DIR", conflicts_with = "name")]
    all: Option<PathBuf>,
}

impl Man {
    pub(crate) fn run(self, _: &Global, out: &mut Output) -> Result<End> {
        let mut command = args::Args::command();
        command.build();
        if let Some(dir) = &self.all {
            std::fs::create_dir_all(dir).map_err(Failure::file("create", dir))?;
            clap_mangen::generate_to(args::Args::command(), dir).map_err(Failure::file("write into", dir))?;
            return Ok(End::Done);
        }
        let page = match &self.name {
            None => clap_mangen::Man::new(command),
            Some(name) => {
                let absent = || Failure::Usage(format!("there is no command {name:?}; casklog --help lists them"));
                let found = command.find_subcommand(name).ok_or_else(absent)?;
                let source = concat!("casklog ", env!("CARGO_PKG_VERSION"));
                clap_mangen::Man::new(found.clone()).title(format!("casklog-{name}")).source(source)
            }
        };
        let mut bytes = Vec::new();
        page.render(&mut bytes)?;
        out.write_all(&bytes)?;
        Ok(End::Done)
    }
}
