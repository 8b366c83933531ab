//! `casklog stats`

use casklog::Stats as Figures;
use clap::Args;
use serde::Serialize;

use crate::args::Global;
use crate::failure::{End, Result};
use crate::output::Output;
use crate::units::{bytes, count};

/// Show figures: entries, bytes, and the memory that the index takes
///
/// They are those of a reader that has just opened the log. What a program that writes it has done since it opened it, only
/// that program knows.
#[derive(Debug, Args)]
pub(crate) struct Stats {}

#[derive(Debug, Serialize)]
struct Shown {
    entries: u64,
    deleted: u64,
    segments: u64,
    bytes: u64,
    bytes_each: u64,
    index_bytes: u64,
    tail: String,
    durable: String,
    open_ms: f64,
    scanned_bytes: u64,
}

impl Stats {
    pub(crate) fn run(self, global: &Global, out: &mut Output) -> Result<End> {
        let started = std::time::Instant::now();
        let reader = global.reader()?;
        let open_ms = started.elapsed().as_secs_f64() * 1e3;
        let Figures { entries, deleted, segments, index_bytes, tail, durable, .. } = reader.stats();
        let all: u64 = reader.segments().iter().map(|segment| segment.bytes).sum();
        let shown = Shown {
            entries,
            deleted,
            segments,
            bytes: all,
            bytes_each: all / (entries + deleted).max(1),
            index_bytes,
            tail: tail.to_string(),
            durable: durable.to_string(),
            open_ms,
            scanned_bytes: reader.recovery_report().scanned_bytes,
        };
        out.show(&shown, |out| {
            out.fields(&[
                ("entries", &count(entries)),
                ("deleted", &count(deleted)),
                ("segments", &count(segments)),
                ("records", &bytes(shown.bytes)),
                ("each", &bytes(shown.bytes_each)),
                ("index", &format!("{} of memory", bytes(index_bytes))),
                ("opened", &format!("in {open_ms:.1} ms, {} scanned", bytes(shown.scanned_bytes))),
                ("tail", &tail),
                ("durable", &durable),
            ])
        })?;
        Ok(End::Done)
    }
}
