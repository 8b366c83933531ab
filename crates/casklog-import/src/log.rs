//! The logs of other libraries as directories: which files, and what they are read with.

use std::path::{Path, PathBuf};

use crate::backbone81::{self, Backbone81};
use crate::detect::EVENTS;
use crate::error::Error;
use crate::format::Format;
use crate::frames::{Files, Frames};
use crate::gowal::{Gowal0, Gowal1, Latest};
use crate::length_prefixed::LengthPrefixed;
use crate::names::{self, Names, Segment};
use crate::record::{ReadOptions, Records};
use crate::{nogodb, rosedb};

/// A log, or a single file of one.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    format: Format,
    names: Names,
    segments: Vec<Segment>,
}

impl Log {
    /// Looks for the files of a log. Where several gowal logs share the directory and no prefix is given, it is the one
    /// with records of that version.
    ///
    /// # Errors
    /// [`Error::NoFiles`], [`Error::AmbiguousPrefix`], [`Error::Io`].
    pub(crate) fn find(path: &Path, format: Format, prefix: Option<&str>) -> Result<Self, Error> {
        let none = || Error::NoFiles { path: path.to_owned(), format };
        let names = match format {
            Format::Gowal0 | Format::Gowal1 => match prefix {
                Some(prefix) => Names::new(prefix, "", 1),
                None if path.is_dir() => return Self::find_gowal(path, format)?.ok_or_else(none),
                None => Names::new("", "", 1),
            },
            Format::Rosedb => rosedb::names(),
            Format::Nogodb => nogodb::names(),
            Format::Backbone81 => backbone81::names(),
            Format::LengthPrefixed(_) if path.is_dir() => return Err(none()),
            Format::LengthPrefixed(_) => Names::new("", "", 1),
            Format::Ndjson | Format::Msgpack => return Err(none()),
        };
        let log = Self::new(path, format, names)?;
        if log.segments.is_empty() { Err(none()) } else { Ok(log) }
    }

    fn new(path: &Path, format: Format, names: Names) -> Result<Self, Error> {
        let segments = names.list(path).map_err(|error| Error::io("list", path, error))?;
        Ok(Log { path: path.to_owned(), format, names, segments })
    }

    fn find_gowal(path: &Path, format: Format) -> Result<Option<Self>, Error> {
        let prefixes = names::prefixes(path).map_err(|error| Error::io("list", path, error))?;
        let mut logs = Vec::new();
        for prefix in &prefixes {
            logs.push((prefix, Self::new(path, format, Names::new(prefix, "", 1))?));
        }
        if logs.len() > 1 {
            logs.retain(|(_, log)| log.has_records());
        }
        if logs.len() > 1 {
            let prefixes = logs.into_iter().map(|(prefix, _)| prefix.clone()).collect();
            return Err(Error::AmbiguousPrefix { path: path.to_owned(), prefixes });
        }
        Ok(logs.pop().map(|(_, log)| log))
    }

    fn frames(&self) -> Box<dyn Frames> {
        match self.format {
            Format::Gowal0 => Box::new(Gowal0),
            Format::Gowal1 => Box::new(Gowal1),
            Format::Rosedb => Box::new(rosedb::CHUNKS),
            Format::Nogodb => Box::new(nogodb::CHUNKS),
            Format::Backbone81 => Box::new(Backbone81::new()),
            Format::LengthPrefixed(prefix) => Box::new(LengthPrefixed(prefix)),
            Format::Ndjson | Format::Msgpack => unreachable!("`find` makes no log of them"),
        }
    }

    fn files(&self) -> Files {
        Files::new(self.frames(), self.names.clone(), self.segments.clone())
    }

    /// Whether a record of this format is found before long.
    pub(crate) fn has_records(&self) -> bool {
        self.files().take(EVENTS).any(|placed| placed.is_ok())
    }

    pub(crate) fn records(self, options: &ReadOptions) -> Records {
        match self.format {
            Format::Gowal0 | Format::Gowal1 => {
                let is_whole = self.segments.first().is_some_and(|segment| segment.number == Some(0));
                Records::new(Latest::new(self.path.clone(), is_whole, || self.files()))
            }
            _ => Records::new(self.files().numbered(options)),
        }
    }
}
