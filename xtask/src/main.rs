//! Tasks of the project: `cargo xtask reliability` runs the reliability programme and writes down what it comes to.

mod bugs;
mod lock;
mod machine;
mod page;
mod record;
mod rows;
mod run;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use lexopt::{Arg, Parser, ValueExt as _};

use crate::lock::Lock;
use crate::record::{Measured, Record};
use crate::rows::{ROWS, Row};
use crate::run::Effort;

const USAGE: &str = "\
cargo xtask reliability [--tier 0|1] [--only R1,R9] [--scale PERCENT] [--out DIR]
    Runs the rows of the tier one after another and writes DIR/reliability.json and DIR/RELIABILITY.md after each; a row
    that does not run keeps its figures. Tier 0 is what `cargo test` tries, tier 1 what is tried before a release.
      --only   these rows, by their ids, or by words of their titles: --only 'R9,a log of 1 MiB'
      --scale  so much of what tier 1 tries; what it asks for stays
      --out    default docs. Somewhere else for a trial
cargo xtask seeded-bugs [--only WORDS]
    Puts each of the bugs of xtask/bugs.toml, or those whose names contain the words, into a copy of the library, and
    runs the test that must notice it. What cargo and the tests say is in target/reliability/seeded-bugs.log.
cargo xtask page
    Writes docs/RELIABILITY.md anew from docs/reliability.json.
cargo xtask rows
    Lists the rows.
Logs, and what fuzzing finds, are in target/reliability. One run at a time works there; another one wants a target
directory of its own (CARGO_TARGET_DIR).";

struct Arguments {
    task: String,
    tier: u8,
    only: Vec<String>,
    scale_percent: u64,
    out: PathBuf,
}

fn arguments(root: &Path) -> Result<Arguments, lexopt::Error> {
    let mut found =
        Arguments { task: String::new(), tier: 0, only: Vec::new(), scale_percent: 100, out: root.join("docs") };
    let mut parser = Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("tier") => {
                found.tier = parser.value()?.parse_with(|text| match text {
                    "0" => Ok(0),
                    "1" => Ok(1),
                    _ => Err("there are the tiers 0 and 1"),
                })?
            }
            Arg::Long("only") => found.only.extend(parser.value()?.string()?.split(',').map(str::to_owned)),
            Arg::Long("scale") => found.scale_percent = parser.value()?.parse()?,
            Arg::Long("out") => found.out = parser.value()?.into(),
            Arg::Value(task) if found.task.is_empty() => found.task = task.string()?,
            _ => return Err(argument.unexpected()),
        }
    }
    let is_by_row = found.task != "seeded-bugs";
    match found.only.iter().find(|id| is_by_row && !ROWS.iter().any(|row| row.is_named(id))) {
        Some(id) => Err(format!("there is no row {id}; `cargo xtask rows` lists them").into()),
        None => Ok(found),
    }
}

/// Where builds go.
fn target(root: &Path) -> Result<PathBuf, String> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    std::path::absolute(target).map_err(|error| error.to_string())
}

/// Runs what was asked for; returns whether nothing failed.
fn reliability(arguments: &Arguments, root: &Path) -> Result<bool, String> {
    let Arguments { tier, only, scale_percent, out, .. } = arguments;
    let target = target(root)?;
    let effort = Effort { tier: *tier, scale_percent: *scale_percent, root: root.to_owned(), target };
    let _lock = Lock::take(&effort.workshop())?;
    std::fs::create_dir_all(out).map_err(|error| format!("{}: {error}", out.display()))?;
    let mut record = Record::read(&out.join("reliability.json"))?;
    let mut bad = Vec::new();
    let is_chosen = |row: &Row| only.is_empty() || only.iter().any(|name| row.is_named(name));
    for row in ROWS.iter().filter(|row| row.is_in(*tier) && is_chosen(row)) {
        println!("{}: {} ...", row.id, row.title);
        let measured = effort.run(row)?;
        println!("    {}", summary(&measured));
        if measured.failed || measured.violations > 0 {
            bad.push(row.id);
        }
        record.put(measured);
        record.write(&out.join("reliability.json"))?;
        write_page(&record, out, root)?;
    }
    if !bad.is_empty() {
        println!("failed: {}", bad.join(", "));
    }
    Ok(bad.is_empty())
}

fn summary(measured: &Measured) -> String {
    let Measured { reached, asked, counted, violations, seconds, a_second, skipped, .. } = measured;
    let asked = if *asked == 0 { String::new() } else { format!(" of {asked}") };
    let failed = if measured.failed { ", FAILED" } else { "" };
    let skipped = if skipped.is_empty() { String::new() } else { format!(", {} skipped", skipped.len()) };
    format!("{reached}{asked} {counted}, {violations} violations, {seconds} s, {a_second}/s{skipped}{failed}")
}

/// The page beside the record; the part that is written by hand comes from the project's own page.
fn write_page(record: &Record, out: &Path, root: &Path) -> Result<(), String> {
    let from = root.join("docs/RELIABILITY.md");
    let page = std::fs::read_to_string(&from).map_err(|error| format!("{}: {error}", from.display()))?;
    let to = out.join("RELIABILITY.md");
    std::fs::write(&to, page::renew(&page, record)?).map_err(|error| format!("{}: {error}", to.display()))
}

fn run() -> Result<bool, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("it is a member of the workspace");
    let arguments = arguments(root).map_err(|error| format!("{error}\n\n{USAGE}"))?;
    match arguments.task.as_str() {
        "reliability" => reliability(&arguments, root),
        "page" => {
            write_page(&Record::read(&arguments.out.join("reliability.json"))?, &arguments.out, root).map(|()| true)
        }
        "seeded-bugs" => bugs::try_out(root, &target(root)?, &arguments.only),
        "rows" => {
            ROWS.iter().for_each(|row| println!("{:7} {}", row.id, row.title));
            Ok(true)
        }
        _ => Err(USAGE.to_owned()),
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
