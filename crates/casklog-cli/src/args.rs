//! The command line as it is typed: what all commands share.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, ValueEnum};

use crate::commands::Command;
use crate::failure::EXIT_CODES;

/// Looks into a casklog log, writes to it, checks it and mends it.
///
/// Commands that only read take no lock and change no byte: they work beside a program that writes the log, and where
/// nothing may be written. Commands that write take the lock, and what they wrote is on the disk when they return.
#[derive(Debug, Parser)]
#[command(name = "casklog", version, after_help = EXIT_CODES, max_term_width = 100)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options that every command has.
#[derive(Debug, Clone, ClapArgs)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    /// The directory of the log
    #[arg(long, short, global = true, value_name = "DIR", default_value = ".")]
    pub(crate) dir: PathBuf,
    /// What the names of its files begin with
    #[arg(long, global = true, value_name = "PREFIX", default_value = "segment_")]
    pub(crate) prefix: String,
    /// How results are shown; JSON is one object on each line
    #[arg(long, global = true, value_enum, value_name = "FORMAT", default_value_t = Format::Text)]
    pub(crate) format: Format,
    /// Keys on the command line are hexadecimal
    #[arg(long, global = true)]
    pub(crate) hex_keys: bool,
}

/// How results are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Text,
    /// For programs
    Json,
}
