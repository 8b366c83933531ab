//! What a row of the reliability programme did, in figures.

#![allow(dead_code, reason = "each test uses some of it")]

use std::io::Write as _;
use std::time::Instant;

/// Prints what a row did; adds it as a line of JSON to the file that `CASKLOG_FIGURES` names. A row that gets here has no
/// violations.
pub(crate) fn record(row: &str, counted: &str, count: u64, started: Instant) {
    let seconds = started.elapsed().as_secs_f64();
    println!("{row}: {count} {counted}, 0 violations, {seconds:.1} s");
    if let Ok(path) = std::env::var("CASKLOG_FIGURES") {
        let line = serde_json::json!({
            "row": row, "counted": counted, "count": count, "violations": 0, "seconds": seconds
        });
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        file.and_then(|mut file| writeln!(file, "{line}")).expect("the file of figures");
    }
}

/// The number that an environment variable sets, or this one.
pub(crate) fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().expect("a number"))
}
