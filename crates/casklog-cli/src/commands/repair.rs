//! `casklog repair`

use std::io::Write as _;

use casklog::{LostBytes, RepairReport, RepairedSegment};
use clap::Args;
use serde::Serialize;

use crate::args::Global;
use crate::failure::{End, Result, note};
use crate::output::Output;
use crate::units::counted;

/// Mend a damaged log, and keep all of it that can be read
///
/// Bytes that cannot be read are given up, in a copy of their segment that takes its place; every other entry stays where
/// it is. The old files lie unchanged in the folder PREFIXquarantine, beside a text that says what was done. Restore a
/// copy of the log instead, where there is one. The exit code is 3 where entries are lost, or may be.
#[derive(Debug, Args)]
pub(crate) struct Repair {
    /// Say what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Take the last repair back, byte for byte; possible until the log is written to
    #[arg(long, conflicts_with = "dry_run")]
    undo: bool,
}

/// More than these ranges of indexes are not shown as text.
const RANGES_SHOWN: usize = 6;

/// A report, as JSON.
#[derive(Debug, Serialize)]
struct Shown {
    is_dry_run: bool,
    segments: Vec<Segment>,
    /// Deleted entries that are there again.
    returned: Vec<u64>,
    taken_again: Vec<Again>,
    /// What was done, as a text.
    record: Option<String>,
    /// What an earlier run had begun and this one completed.
    completed: Option<String>,
}

#[derive(Debug, Serialize)]
struct Segment {
    number: u64,
    path: String,
    cause: String,
    kept: Vec<(u64, u64)>,
    lost: Vec<Lost>,
}

#[derive(Debug, Serialize)]
struct Lost {
    from: u64,
    to: u64,
    cause: String,
    indexes: Vec<(u64, u64)>,
    is_exact: bool,
}

#[derive(Debug, Serialize)]
struct Again {
    index: u64,
    older_segment: u64,
    newer: String,
}

#[derive(Debug, Serialize)]
struct Undone {
    segments: Vec<String>,
}

impl From<&RepairReport> for Shown {
    fn from(report: &RepairReport) -> Self {
        let lost = |lost: &LostBytes| Lost {
            from: lost.bytes.0,
            to: lost.bytes.1,
            cause: lost.cause.to_string(),
            indexes: lost.indexes.clone(),
            is_exact: lost.is_exact,
        };
        let segment = |segment: &RepairedSegment| Segment {
            number: segment.number,
            path: segment.path.display().to_string(),
            cause: segment.cause.to_string(),
            kept: segment.kept.clone(),
            lost: segment.lost.iter().map(lost).collect(),
        };
        let again = report.taken_again.iter().map(|again| Again {
            index: again.index,
            older_segment: again.older_segment,
            newer: again.newer.to_string(),
        });
        Shown {
            is_dry_run: report.is_dry_run,
            segments: report.segments.iter().map(segment).collect(),
            returned: report.returned.clone(),
            taken_again: again.collect(),
            record: report.record.as_ref().map(|path| path.display().to_string()),
            completed: report.completed.as_ref().map(|path| path.display().to_string()),
        }
    }
}

impl Repair {
    pub(crate) fn run(self, global: &Global, out: &mut Output) -> Result<End> {
        global.must_exist()?;
        let repair = global.options().repair().dry_run(self.dry_run);
        if self.undo {
            return undo(repair, out);
        }
        let report = repair.run()?;
        out.show(&Shown::from(&report), |out| write(&report, out))?;
        let loses = |lost: &LostBytes| !lost.indexes.is_empty() || !lost.is_exact;
        let is_loss = report.segments.iter().flat_map(|segment| &segment.lost).any(loses);
        if report.is_dry_run && report.is_damaged() {
            out.flush()?;
            note("hint", "run it again without --dry-run to do this; it can be undone");
        }
        Ok(if is_loss || !report.returned.is_empty() { End::Damaged } else { End::Done })
    }
}

fn undo(repair: casklog::Repair, out: &mut Output) -> Result<End> {
    let segments: Vec<String> = repair.undo()?.iter().map(|path| path.display().to_string()).collect();
    out.show(&Undone { segments: segments.clone() }, |out| {
        segments.iter().try_for_each(|path| writeln!(out, "{path} is what it was"))?;
        if segments.is_empty() { writeln!(out, "there is no repair to undo") } else { Ok(()) }
    })?;
    Ok(if segments.is_empty() { End::Absent } else { End::Done })
}

fn write(report: &RepairReport, out: &mut Output) -> std::io::Result<()> {
    let styles = out.styles;
    let verb = if report.is_dry_run { "would mend" } else { "mended" };
    for segment in &report.segments {
        writeln!(out, "{verb} {} ({})", segment.path.display(), segment.cause)?;
        let kept: u64 = segment.kept.iter().map(|(first, last)| last - first + 1).sum();
        writeln!(out, "  {0}kept{0:#}  {1}{2}", styles.good, counted(kept, "entry"), which(&segment.kept))?;
        for lost in &segment.lost {
            writeln!(out, "  {0}lost{0:#}  {lost}", styles.bad)?;
        }
    }
    for index in &report.returned {
        writeln!(out, "{0}back{0:#}  {index} had been deleted, and that is lost", styles.bad)?;
    }
    for again in &report.taken_again {
        let (index, older, newer) = (again.index, again.older_segment, again.newer);
        writeln!(out, "{0}twice{0:#} {index}: the one at {newer} counts, not that in segment {older}", styles.bad)?;
    }
    if let Some(record) = &report.completed {
        writeln!(out, "completed an earlier repair; what it did: {}", record.display())?;
    }
    match &report.record {
        _ if !report.is_damaged() && report.completed.is_none() => writeln!(out, "nothing is damaged"),
        Some(record) => writeln!(out, "the old files and a record of this: {}", record.display()),
        None => Ok(()),
    }
}

/// The first of the ranges, and the last where there are many.
fn which(ranges: &[(u64, u64)]) -> String {
    let words =
        |(first, last): &(u64, u64)| if first == last { first.to_string() } else { format!("{first} to {last}") };
    let shown = |ranges: &[(u64, u64)]| ranges.iter().map(words).collect::<Vec<_>>().join(", ");
    match ranges {
        [] => String::new(),
        few if few.len() <= RANGES_SHOWN => format!(": {}", shown(few)),
        [first @ .., last] => format!(": {}, ..., {}", shown(&first[..RANGES_SHOWN - 1]), words(last)),
    }
}
