//! `casklog backup` and `casklog restore`

use std::io::Write as _;
use std::path::PathBuf;

use casklog::{Checkpoint, Error, Reader};
use clap::Args;
use serde::Serialize;

use crate::args::Global;
use crate::failure::{End, Failure, Result};
use crate::output::Output;
use crate::units::{bytes, counted};

/// Copy the log to another directory, while it is being written to
///
/// The copy is a log of its own and holds all that is durable now. Sealed segments take no space in it where both directories
/// are in one file system. Into a directory that holds an earlier backup of this log only what is new is copied; any other
/// log there is left alone.
#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// The directory of the copy
    #[arg(value_name = "TO")]
    to: PathBuf,
}

/// Make a log of a backup
///
/// The backup stays as it is. There must be no log in the directory yet.
#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The directory of the backup
    #[arg(value_name = "FROM")]
    from: PathBuf,
}

#[derive(Debug, Serialize)]
struct Made {
    to: String,
    end: String,
    segments: u64,
    linked: u64,
    reflinked: u64,
    copied: u64,
    kept: u64,
    removed: u64,
    copied_bytes: u64,
}

impl Backup {
    pub(crate) fn run(self, global: &Global, out: &mut Output) -> Result<End> {
        copy(&global.reader()?, &self.to, out)
    }
}

impl Restore {
    pub(crate) fn run(self, global: &Global, out: &mut Output) -> Result<End> {
        let backup = Global { dir: self.from, ..global.clone() };
        match global.reader() {
            Err(Failure::Log(Error::NotFound { .. } | Error::Unfinished { .. })) => {}
            Ok(_) | Err(_) => {
                let place = global.dir.display();
                let words = format!("there is a log in {place} already; choose another --dir, or move it away");
                return Err(Failure::Refused(words));
            }
        }
        copy(&backup.reader()?, &global.dir, out)
    }
}

fn copy(reader: &Reader, to: &std::path::Path, out: &mut Output) -> Result<End> {
    let Checkpoint { end, segments, linked, reflinked, copied, kept, removed, copied_bytes, .. } =
        reader.checkpoint(to)?;
    let to = to.display().to_string();
    let end = end.to_string();
    let made = Made { to, end, segments, linked, reflinked, copied, kept, removed, copied_bytes };
    out.show(&made, |out| {
        writeln!(out, "{} in {}, up to {}", counted(segments, "segment"), made.to, made.end)?;
        let parts = [
            (kept, "kept"),
            (linked, "linked"),
            (reflinked, "sharing space"),
            (copied, "copied"),
            (removed, "removed"),
        ];
        let parts = parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
        writeln!(out, "{}, {} written", parts.collect::<Vec<_>>().join(", "), bytes(copied_bytes))
    })?;
    Ok(End::Done)
}
