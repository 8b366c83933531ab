//! `casklog verify`

use std::io::{self, Write as _};
use std::time::Instant;

use casklog::{Reader, Verified};
use clap::Args;
use serde::Serialize;

use crate::args::Global;
use crate::damage::Damaged;
use crate::failure::{End, Result, note};
use crate::output::Output;
use crate::progress::while_reading;
use crate::units::{bytes, count, counted, duration};

/// Read every byte and check it
///
/// Works beside a program that writes the log, and changes nothing. The exit code is 3 where anything is damaged.
#[derive(Debug, Args)]
pub(crate) struct Verify {}

/// What was read and found.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) is_good: bool,
    pub(super) segments: u64,
    pub(super) records: u64,
    pub(super) bytes: u64,
    pub(super) seconds: f64,
    pub(super) damage: Vec<Damaged>,
    /// Sealed segments whose index at the end of the file is damaged; their records are good.
    pub(super) footers_damaged: Vec<u64>,
    pub(super) is_manifest_lost: bool,
    /// What earlier repairs gave up.
    pub(super) given_up: Vec<Damaged>,
}

impl Verify {
    pub(crate) fn run(self, global: &Global, out: &mut Output) -> Result<End> {
        let report = Report::make(&global.reader()?)?;
        out.show(&report, |out| report.write(out))?;
        if report.is_good {
            return Ok(End::Done);
        }
        // Behind what it is about, also where both go to one place.
        out.flush()?;
        note("hint", report.hint());
        Ok(End::Damaged)
    }
}

impl Report {
    pub(super) fn make(reader: &Reader) -> Result<Self> {
        let total = reader.segments().iter().map(|segment| segment.bytes).sum();
        let started = Instant::now();
        let verified = while_reading(total, "verifying", || reader.verify())?;
        let seconds = started.elapsed().as_secs_f64();
        let opened = reader.recovery_report();
        let Verified { segments, records, bytes, damage, footers_damaged, .. } = verified;
        // Which indexes a missing file held, only open tells, which looks at its neighbours.
        let guess = |number| opened.damage.iter().find(|seen| seen.segment == number).and_then(|seen| seen.indexes);
        let told = |damage: &casklog::Damage| {
            let indexes = damage.indexes.or(guess(damage.segment).filter(|_| damage.is_missing));
            Damaged { indexes, ..damage.into() }
        };
        let mut all: Vec<_> = damage.iter().map(told).collect();
        // What open met and could not pass. Where both have seen something in a segment, this has seen more of it.
        let is_new = |seen: &&casklog::Damage| damage.iter().all(|known| known.segment != seen.segment);
        all.extend(opened.damage.iter().filter(is_new).map(Damaged::from));
        all.sort_by_key(|damage| (damage.segment, damage.from));
        Ok(Report {
            is_good: all.is_empty() && footers_damaged.is_empty() && !opened.is_manifest_lost,
            segments,
            records,
            bytes,
            seconds,
            damage: all,
            footers_damaged,
            is_manifest_lost: opened.is_manifest_lost,
            given_up: opened.gaps.iter().map(Damaged::from).collect(),
        })
    }

    fn write(&self, out: &mut Output) -> io::Result<()> {
        let styles = out.styles;
        let took = duration(std::time::Duration::from_secs_f64(self.seconds));
        writeln!(
            out,
            "read {}, {}, {} in {took}",
            counted(self.segments, "segment"),
            counted(self.records, "record"),
            bytes(self.bytes)
        )?;
        for damage in &self.damage {
            writeln!(out, "{0}damage{0:#}  {damage}", styles.bad)?;
        }
        for number in &self.footers_damaged {
            writeln!(out, "{0}damage{0:#}  the footer of segment {1}; no entry is lost", styles.bad, count(*number))?;
        }
        if self.is_manifest_lost {
            writeln!(out, "{0}damage{0:#}  the manifest is missing or damaged; no entry is lost", styles.bad)?;
        }
        for gap in &self.given_up {
            writeln!(out, "{0}given up{0:#}  {gap}", styles.dim)?;
        }
        if self.is_good {
            writeln!(out, "{0}all of it is good{0:#}", styles.good)?;
        }
        Ok(())
    }

    /// What to do about the worst of it.
    fn hint(&self) -> &'static str {
        match (self.damage.is_empty(), self.footers_damaged.is_empty()) {
            (false, _) => {
                "restore the files from a copy, or let casklog repair keep what can be read; --dry-run says what that is"
            }
            (true, false) => {
                "such a segment is scanned when the log is opened; restore the file from a copy when you can"
            }
            (true, true) => "the next program that writes to the log makes it anew",
        }
    }
}
