//! The formats and their names.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// What can be read. The name of each, as [`Display`](fmt::Display) gives it and [`FromStr`] takes it, is in quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// `gowal-0.0.4`: gowal as most of its documentation has it.
    Gowal0,
    /// `gowal-1.0`: gowal since it frames its records.
    Gowal1,
    /// `rosedb`: rosedb's log.
    Rosedb,
    /// `nogodb`: nogodb's go-wal.
    Nogodb,
    /// `backbone81`: Backbone81's write-ahead-log.
    Backbone81,
    /// `ndjson`: a JSON object on each line, plain or compressed with gzip.
    Ndjson,
    /// `msgpack`: MessagePack arrays of index, key and value, plain or compressed with gzip.
    Msgpack,
    /// `length-prefixed-u64-le` and the like: payloads behind their length, and nothing else. Never detected.
    LengthPrefixed(Prefix),
}

/// The length in front of a payload: its width, and which byte comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Prefix {
    /// 2 bytes, little-endian.
    U16Le,
    /// 2 bytes, big-endian.
    U16Be,
    /// 4 bytes, little-endian.
    U32Le,
    /// 4 bytes, big-endian.
    U32Be,
    /// 8 bytes, little-endian.
    U64Le,
    /// 8 bytes, big-endian.
    U64Be,
}

const NAMES: [(Format, &str); 13] = [
    (Format::Gowal0, "gowal-0.0.4"),
    (Format::Gowal1, "gowal-1.0"),
    (Format::Rosedb, "rosedb"),
    (Format::Nogodb, "nogodb"),
    (Format::Backbone81, "backbone81"),
    (Format::Ndjson, "ndjson"),
    (Format::Msgpack, "msgpack"),
    (Format::LengthPrefixed(Prefix::U16Le), "length-prefixed-u16-le"),
    (Format::LengthPrefixed(Prefix::U16Be), "length-prefixed-u16-be"),
    (Format::LengthPrefixed(Prefix::U32Le), "length-prefixed-u32-le"),
    (Format::LengthPrefixed(Prefix::U32Be), "length-prefixed-u32-be"),
    (Format::LengthPrefixed(Prefix::U64Le), "length-prefixed-u64-le"),
    (Format::LengthPrefixed(Prefix::U64Be), "length-prefixed-u64-be"),
];

impl Format {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Format> {
        NAMES.iter().map(|(format, _)| *format)
    }

    /// Which files it is looked for in, for messages.
    pub(crate) fn files(&self) -> &'static str {
        match self {
            Format::Gowal0 | Format::Gowal1 => "<prefix><number>",
            Format::Rosedb => "000000001.SEG and so on",
            Format::Nogodb => "0.wal and so on",
            Format::Backbone81 => "00000000000000000000.wal and so on",
            Format::Ndjson | Format::Msgpack | Format::LengthPrefixed(_) => "which is a single file",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(format, _)| format == self);
        f.write_str(name.map_or("", |(_, name)| name))
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        named(&NAMES, name)
    }
}

/// What can be written. The name of each, as [`Display`](fmt::Display) gives it and [`FromStr`] takes it, is in quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ExportFormat {
    /// `ndjson`: see [`Format::Ndjson`].
    Ndjson,
    /// `ndjson.gz`: the same, compressed with gzip.
    NdjsonGz,
    /// `msgpack`: see [`Format::Msgpack`].
    Msgpack,
}

const EXPORT_NAMES: [(ExportFormat, &str); 3] =
    [(ExportFormat::Ndjson, "ndjson"), (ExportFormat::NdjsonGz, "ndjson.gz"), (ExportFormat::Msgpack, "msgpack")];

impl ExportFormat {
    /// All of them.
    pub fn all() -> impl Iterator<Item = ExportFormat> {
        EXPORT_NAMES.iter().map(|(format, _)| *format)
    }
}

impl fmt::Display for ExportFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = EXPORT_NAMES.iter().find(|(format, _)| format == self);
        f.write_str(name.map_or("", |(_, name)| name))
    }
}

impl FromStr for ExportFormat {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        named(&EXPORT_NAMES, name)
    }
}

fn named<F: Copy>(names: &[(F, &str)], name: &str) -> Result<F, Error> {
    let found = names.iter().find(|(_, known)| *known == name);
    found.map(|(format, _)| *format).ok_or_else(|| Error::NoSuchFormat {
        name: name.to_owned(),
        names: names.iter().map(|(_, name)| *name).collect::<Vec<_>>().join(", "),
    })
}
