//! `casklog meta`

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::args::Global;
use crate::failure::{End, Failure, Result};
use crate::key::{Shown, Typed, from_hex};
use crate::log::Writing;
use crate::output::Output;

/// Show and change metadata
///
/// Metadata is a small set of keys and values, bytes both, that the log keeps beside its entries.
#[derive(Debug, Args)]
pub(crate) struct Meta {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show all keys and their values
    List,
    /// Show the value of a key
    Get {
        key: Typed,
        /// Write the bytes of the value, and nothing else
        #[arg(long)]
        raw: bool,
    },
    /// Set a key
    Put {
        key: Typed,
        #[command(flatten)]
        value: Bytes,
    },
    /// Remove a key
    Delete { key: Typed },
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Bytes {
    /// The value
    value: Option<OsString>,
    /// The value as hexadecimal digits
    #[arg(long, value_name = "DIGITS")]
    hex: Option<String>,
    /// The value is the contents of a file
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Line<'a> {
    key: Shown<'a>,
    value: Shown<'a>,
}

impl Meta {
    pub(crate) fn run(self, global: &Global, out: &mut Output) -> Result<End> {
        match self.command {
            Command::List => list(global, out),
            Command::Get { key, raw } => get(&key.bytes(global)?, raw, global, out),
            Command::Put { key, value } => {
                let (key, value) = (key.bytes(global)?, value.read()?);
                global.write(&Writing::default(), |store| Ok(store.put_meta(&key, &value)?))?;
                Ok(End::Done)
            }
            Command::Delete { key } => {
                let key = key.bytes(global)?;
                match global.write(&Writing::default(), |store| Ok(store.delete_meta(&key)?))? {
                    true => Ok(End::Done),
                    false => Err(absent(&key)),
                }
            }
        }
    }
}

fn list(global: &Global, out: &mut Output) -> Result<End> {
    for (key, value) in global.reader()?.all_meta() {
        show(out, &key, &value)?;
    }
    Ok(End::Done)
}

fn get(key: &[u8], raw: bool, global: &Global, out: &mut Output) -> Result<End> {
    let value = global.reader()?.meta(key).ok_or_else(|| absent(key))?;
    match raw {
        true => out.write_all(&value)?,
        false => show(out, key, &value)?,
    }
    Ok(End::Done)
}

fn show(out: &mut Output, key: &[u8], value: &[u8]) -> Result<()> {
    let style = out.styles.key;
    let line = Line { key: Shown(key), value: Shown(value) };
    Ok(out.show(&line, |out| writeln!(out, "{style}{}{style:#}\t{}", line.key, line.value))?)
}

fn absent(key: &[u8]) -> Failure {
    Failure::Absent(format!("there is no metadata under the key {}", Shown(key)))
}

impl Bytes {
    fn read(self) -> Result<Vec<u8>> {
        match (self.value, self.hex, self.file) {
            (_, Some(digits), _) => from_hex(digits.as_bytes())
                .ok_or_else(|| Failure::Usage(format!("{digits:?} is not hexadecimal, two digits a byte"))),
            (_, _, Some(path)) => std::fs::read(&path).map_err(Failure::file("read", &path)),
            (value, None, None) => Ok(value.unwrap_or_default().into_encoded_bytes()),
        }
    }
}
