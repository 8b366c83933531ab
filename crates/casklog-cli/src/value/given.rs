//! The value of a new entry, however it is given.

use std::io::{self, Read as _};
use std::path::PathBuf;

use clap::Args;

use super::typed::parse_json;
use crate::failure::{Failure, Result};
use crate::key::from_hex;

/// One of the ways to give a value.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Given {
    /// The value as JSON; `-` reads it from standard input
    #[arg(value_name = "JSON", allow_negative_numbers = true)]
    json: Option<String>,
    /// A value that is text
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    text: Option<String>,
    /// A value that is bytes, as hexadecimal digits
    #[arg(long, value_name = "DIGITS")]
    bytes: Option<String>,
    /// A value that is the bytes of a file; `-` is standard input
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// What is to be written.
#[derive(Debug)]
pub(crate) enum New {
    Value(rmpv::Value),
    Bytes(Vec<u8>),
}

impl Given {
    pub(crate) fn read(self) -> Result<New> {
        if let Some(text) = self.text {
            return Ok(New::Value(text.into()));
        }
        if let Some(digits) = self.bytes {
            let bytes = from_hex(digits.as_bytes());
            let refuse = || Failure::Usage(format!("{digits:?} is not hexadecimal, two digits a byte"));
            return bytes.map(New::Bytes).ok_or_else(refuse);
        }
        if let Some(path) = self.file {
            let bytes = match path.as_os_str() == "-" {
                true => stdin(),
                false => std::fs::read(&path),
            };
            return bytes.map(New::Bytes).map_err(Failure::file("read", &path));
        }
        let json = match self.json.as_deref() {
            Some("-") => {
                let bytes = stdin().map_err(Failure::file("read", "standard input".as_ref()))?;
                String::from_utf8(bytes).map_err(|_| Failure::Usage("what was read is not UTF-8".to_owned()))?
            }
            json => json.unwrap_or_default().to_owned(),
        };
        parse_json(&json).map(New::Value)
    }
}

fn stdin() -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io::stdin().lock().read_to_end(&mut bytes)?;
    Ok(bytes)
}
