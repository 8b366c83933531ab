//! Entries as lines: their index, key and value, and what became of them.

use std::io::{self, Write as _};

use casklog::{Entry, LogItem};
use clap::Args;
use serde::Serialize;

use crate::key::Shown;
use crate::output::Output;
use crate::value::{Hex, Json, Raw};

/// How values are shown.
#[derive(Debug, Clone, Copy, Args)]
#[group(multiple = false)]
pub(crate) struct ValueForm {
    /// Write the MessagePack of the values alone, one behind the other, and nothing else
    #[arg(long)]
    pub(crate) raw: bool,
    /// Show values as the hexadecimal digits of their MessagePack
    #[arg(long)]
    pub(crate) hex: bool,
    /// Leave values out
    #[arg(long)]
    pub(crate) no_values: bool,
}

/// A line of JSON.
#[derive(Debug, Serialize)]
struct Line<'a> {
    index: u64,
    key: Shown<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Value<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted: Option<bool>,
    position: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    durable: Option<bool>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Value<'a> {
    Json(Json<'a>),
    Raw(Raw<'a>),
}

#[derive(Debug, Serialize)]
struct Truncated {
    truncated: (u64, u64),
    position: String,
}

/// Shows one entry.
pub(crate) fn show_entry(out: &mut Output, entry: &Entry, form: ValueForm) -> io::Result<()> {
    let value = entry.raw_value();
    if form.raw {
        return out.write_all(value);
    }
    if out.is_json() {
        let value = if form.hex { Value::Raw(Raw(value)) } else { Value::Json(Json(value)) };
        return out.json(&Line {
            index: entry.index(),
            key: Shown(entry.key()),
            value: (!form.no_values).then_some(value),
            deleted: None,
            position: entry.position().to_string(),
            durable: Some(entry.is_durable()),
        });
    }
    start(out, entry.index(), entry.key())?;
    if form.no_values {
        return out.write_all(b"\n");
    }
    out.write_all(b"\t")?;
    if form.hex {
        return writeln!(out, "{}", Hex(value));
    }
    out.json(&Json(value))
}

/// Shows what stands in the log, in the order in which it was written.
pub(crate) fn show_item(out: &mut Output, item: &LogItem, form: ValueForm) -> io::Result<()> {
    match item {
        LogItem::Entry(entry) => show_entry(out, entry, form),
        // They have no value.
        _ if form.raw => Ok(()),
        LogItem::Deleted { index, key, position } if out.is_json() => out.json(&Line {
            index: *index,
            key: Shown(key),
            value: None,
            deleted: Some(true),
            position: position.to_string(),
            durable: None,
        }),
        LogItem::Deleted { index, key, .. } => {
            start(out, *index, key)?;
            let dim = out.styles.dim;
            writeln!(out, "\t{dim}(deleted){dim:#}")
        }
        LogItem::Truncated { gone, position } if out.is_json() => {
            out.json(&Truncated { truncated: (*gone.start(), *gone.end()), position: position.to_string() })
        }
        LogItem::Truncated { gone, .. } => {
            let dim = out.styles.dim;
            match *gone.end() {
                u64::MAX => writeln!(out, "{dim}(truncated from {} on){dim:#}", gone.start()),
                end => writeln!(out, "{dim}(truncated from {} to {end}){dim:#}", gone.start()),
            }
        }
        other => writeln!(out, "{other:?}"),
    }
}

fn start(out: &mut Output, index: u64, key: &[u8]) -> io::Result<()> {
    let styles = out.styles;
    write!(out, "{0}{index}{0:#}\t{1}{2}{1:#}", styles.index, styles.key, Shown(key))
}
