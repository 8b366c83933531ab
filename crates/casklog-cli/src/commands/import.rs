//! `casklog import`

use std::io::{self, Write as _};
use std::path::PathBuf;

use casklog_import::{
    Existing, Format, ImportOptions, Numbering, ReadOptions, Records, Report, UNREADABLE_KEPT, detect, import_into,
    open,
};
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::args::Global;
use crate::failure::{End, Failure, Result, note};
use crate::key::Typed;
use crate::log::Writing;
use crate::output::Output;
use crate::units::{bytes, counted};

/// Write the entries of another log, or of an export, to the log
///
/// Reads what `casklog export` writes, and logs of gowal, rosedb/wal, nogodb's go-wal and Backbone81's write-ahead-log. The
/// log is made where it is missing. What cannot be read is told with file and offset and never passed over in silence; the
/// exit code is 3 then. An import that was interrupted is run again: what is there already is compared and passed over.
#[derive(Debug, Args)]
pub(crate) struct Import {
    /// A file, the directory of another log, or - for standard input
    #[arg(value_name = "FROM")]
    from: PathBuf,
    /// What it is, instead of finding out: gowal-0.0.4, gowal-1.0, rosedb, nogodb, backbone81, ndjson, msgpack, or
    /// length-prefixed-u16-le, -u32-be and the like
    #[arg(long, value_name = "KIND")]
    kind: Option<Format>,
    /// What the names of gowal's files begin with, where a directory holds several logs
    #[arg(long, value_name = "PREFIX")]
    from_prefix: Option<String>,
    /// The key of each entry, for logs that have none
    #[arg(long, value_name = "KEY")]
    key: Option<Typed>,
    /// The index of the first entry, for logs that have none
    #[arg(long, value_name = "INDEX", default_value_t = 1)]
    first_index: u64,
    /// Number all entries anew, from the next index of the log on
    #[arg(long)]
    renumber: bool,
    /// What to do with an index that is taken
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = Taken::Compare)]
    taken: Taken,
    #[command(flatten)]
    writing: Writing,
}

/// What to do with an index that is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Taken {
    /// Pass over an entry that is the same, and stop at another
    Compare,
    /// Pass over
    Skip,
    /// Stop
    Refuse,
}

impl From<Taken> for Existing {
    fn from(taken: Taken) -> Self {
        match taken {
            Taken::Compare => Existing::SkipIdentical,
            Taken::Skip => Existing::Skip,
            Taken::Refuse => Existing::Refuse,
        }
    }
}

#[derive(Debug, Serialize)]
struct Imported {
    kind: String,
    read: u64,
    written: u64,
    identical: u64,
    skipped: u64,
    unreadable: u64,
    bytes_passed_over: u64,
    indexes: Option<(u64, u64)>,
}

impl Imported {
    fn new(kind: Format, report: &Report) -> Self {
        let Report { read, written, identical, skipped, unreadable, bytes_passed_over, indexes, .. } = *report;
        let kind = kind.to_string();
        Imported { kind, read, written, identical, skipped, unreadable, bytes_passed_over, indexes }
    }

    fn write(&self, out: &mut Output) -> io::Result<()> {
        let which = self.indexes.map_or(String::new(), |(first, last)| format!(", indexes {first} to {last}"));
        writeln!(out, "read {} of {}; wrote {}{which}", counted(self.read, "record"), self.kind, self.written)?;
        for (count, what) in [(self.identical, "there already, the same"), (self.skipped, "there already, passed over")]
        {
            if count > 0 {
                writeln!(out, "{count} {what}")?;
            }
        }
        Ok(())
    }
}

impl Import {
    pub(crate) fn run(self, global: &Global, out: &mut Output) -> Result<End> {
        let (kind, records) = self.records(global)?;
        let numbering = if self.renumber { Numbering::Renumber } else { Numbering::Keep };
        let options = ImportOptions::new().numbering(numbering).existing(self.taken.into());
        let report = global.write_or_make(&self.writing, |store| Ok(import_into(store, records, &options)?))?;
        let imported = Imported::new(kind, &report);
        for unreadable in &report.unreadable_first {
            note("damage", &unreadable.to_string());
        }
        if report.unreadable > UNREADABLE_KEPT as u64 {
            note("damage", &format!("and {} more stretches", report.unreadable - UNREADABLE_KEPT as u64));
        }
        out.show(&imported, |out| imported.write(out))?;
        if report.unreadable == 0 {
            return Ok(End::Done);
        }
        let (count, size) = (counted(report.unreadable, "stretch"), bytes(report.bytes_passed_over));
        note("note", &format!("{count} could not be read, {size}; all else was imported"));
        Ok(End::Damaged)
    }

    fn records(&self, global: &Global) -> Result<(Format, Records)> {
        if self.from.as_os_str() == "-" {
            let kind = self.kind.unwrap_or(Format::Ndjson);
            return Ok((kind, Records::from_reader(io::stdin(), "standard input", kind)?));
        }
        let kind = self.kind.map_or_else(|| detect(&self.from), Ok)?;
        let mut options = ReadOptions::new().first_index(self.first_index);
        if let Some(key) = &self.key {
            options = options.key(key.bytes(global)?);
        }
        if let Some(prefix) = &self.from_prefix {
            options = options.prefix(prefix);
        }
        Ok((kind, open(&self.from, kind, &options)?))
    }
}

impl From<casklog_import::Error> for Failure {
    fn from(error: casklog_import::Error) -> Self {
        use casklog_import::Error;
        match error {
            Error::Store(error) => Failure::Log(error),
            Error::Output(error) => Failure::Output(error),
            Error::Io { what, path, source } => Failure::File { what, path, source },
            Error::NoSuchFormat { .. } | Error::OtherFormat { .. } | Error::NoFiles { .. } => {
                Failure::Usage(error.to_string())
            }
            error => Failure::Refused(error.to_string()),
        }
    }
}
