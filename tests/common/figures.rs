//! What a test tried, for `docs/RELIABILITY.md`: lines of JSON in the file that `CASKLOG_FIGURES` names. `xtask` names it
//! and reads it; without it nothing is written.

#![allow(dead_code, reason = "each test uses some of it")]

use std::io::Write as _;
use std::time::Instant;

use serde::Serialize;

/// One count of one row. A test writes it when it knows the count, before it fails for what the count came to.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Figure<'a> {
    /// As the table of `xtask` has it: `R9`.
    pub(crate) row: &'a str,
    /// What tells it from other figures of the row. Those that have the same name and count the same are added up.
    pub(crate) what: &'a str,
    /// What is counted: `states`, `kills`.
    pub(crate) counted: &'a str,
    pub(crate) count: u64,
    pub(crate) violations: u64,
    pub(crate) seconds: f64,
    /// What else there is to say, in words.
    pub(crate) detail: String,
}

impl Figure<'_> {
    pub(crate) fn record(&self) {
        write(&serde_json::json!(self));
    }
}

/// One count of a row that has got here, so that nothing was wrong.
pub(crate) fn record(row: &str, counted: &str, count: u64, started: Instant) {
    let seconds = started.elapsed().as_secs_f64();
    println!("{row}: {count} {counted}, 0 violations, {seconds:.1} s");
    Figure { row, counted, count, seconds, ..Figure::default() }.record();
}

/// The number that an environment variable sets, or this one.
pub(crate) fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().expect("a number"))
}

/// That `what` of a row cannot be tried here. Says so where everybody sees it, too: the output of a test that passes is
/// not shown.
pub(crate) fn skipped(row: &str, what: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED {row}: {why}");
    write(&serde_json::json!({ "row": row, "what": what, "skipped": why }));
}

fn write(line: &serde_json::Value) {
    let Some(path) = std::env::var_os("CASKLOG_FIGURES") else { return };
    let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
    // In one piece: other processes may write to it.
    let written = file.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
    written.expect("the file of figures");
}
