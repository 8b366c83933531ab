//! The command line of casklog: `casklog COMMAND`.
//!
//! A command is a file in `commands`, and a line in the list there. It gets the options that all commands share and the
//! output, and returns how it ended; `failure` turns that into an exit code, and an error into words.

mod args;
mod commands;
mod damage;
mod entries;
mod failure;
mod files;
mod key;
mod log;
mod output;
mod progress;
mod units;
mod value;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use args::Args;
use failure::Failure;
use output::Output;

fn main() -> ExitCode {
    let Args { global, command } = Args::parse();
    let mut out = Output::stdout(global.format);
    let outcome = command.run(&global, &mut out);
    // What was written before an error is shown before the error.
    let flushed = out.flush().map_err(Failure::Output);
    failure::exit(outcome.and_then(|end| flushed.map(|()| end)), &global)
}
