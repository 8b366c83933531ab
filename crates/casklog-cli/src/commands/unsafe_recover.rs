//! `casklog unsafe-recover`

use std::io::Write as _;

use clap::Args;
use serde::Serialize;

use super::verify::Report;
use crate::args::Global;
use crate::failure::{End, Result, note};
use crate::output::Output;
use crate::units::counted;

/// Drop damaged segments, so that a log can be written again
///
/// Whole segments go, good entries in them included. Their files lie unchanged in the folder PREFIXquarantine then, and
/// what they held is told as lost by whatever reads it. Restore a copy instead, where there is one. Without --yes the
/// command only says what it would drop.
#[derive(Debug, Args)]
pub(crate) struct UnsafeRecover {
    /// Do it
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Serialize)]
struct Dropped {
    is_done: bool,
    segments: Vec<String>,
    quarantine: String,
}

impl UnsafeRecover {
    pub(crate) fn run(self, global: &Global, out: &mut Output) -> Result<End> {
        let segments: Vec<String> = if self.yes {
            global.must_exist()?;
            let dropped = global.options().unsafe_recover()?;
            dropped.iter().map(|path| path.display().to_string()).collect()
        } else {
            let report = Report::make(&global.reader()?)?;
            let mut paths: Vec<_> = report.damage.into_iter().map(|damage| damage.path).collect();
            paths.dedup();
            paths
        };
        let quarantine = global.file("quarantine").display().to_string();
        let dropped = Dropped { is_done: self.yes, segments, quarantine };
        let count = dropped.segments.len() as u64;
        out.show(&dropped, |out| {
            let verb = if self.yes { "dropped" } else { "would drop" };
            for path in &dropped.segments {
                writeln!(out, "{verb} {path}")?;
            }
            match (count, self.yes) {
                (0, _) => writeln!(out, "no segment is damaged; nothing to drop"),
                (_, true) => writeln!(out, "{} kept in {}", counted(count, "file"), dropped.quarantine),
                (_, false) => Ok(()),
            }
        })?;
        if self.yes || count == 0 {
            return Ok(End::Done);
        }
        out.flush()?;
        note("hint", "restore a copy of these files if there is one; else run it again with --yes");
        Ok(End::Damaged)
    }
}
