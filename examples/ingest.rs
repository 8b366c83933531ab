//! Ingests a file of JSON lines into a log, opens the log again and compares every record with the file.
//!
//! ```text
//! cargo run --release --example ingest -- FILE.ndjson[.gz] [--dir DIR] [--batch N] [--sync none|immediate|grouped]
//! ```
//!
//! A line is an object with `value` (any JSON), and `index` and `key` where it has them: a line without an index is
//! appended, one without a key gets an empty key.
#![allow(clippy::disallowed_methods, reason = "an example reads its input as any program does")]

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use casklog::{Batch, Error, Options, Store, SyncPolicy};
use flate2::read::MultiGzDecoder;
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use serde::Deserialize;
use serde_json::Value;

const USAGE: &str = "usage: ingest FILE.ndjson[.gz] [--dir DIR] [--batch N] [--sync none|immediate|grouped]

  FILE     one JSON object on each line: {\"index\": 1, \"key\": \"a\", \"value\": ...}, plain or compressed with gzip;
           without an index the line is appended, without a key its key is empty
  --dir    where the log is, or is to be; without it the log is temporary and goes when the comparison is done
  --batch  lines that are written in one step, from 1 to 100000 (default 1000)
  --sync   when what is written is made durable (default grouped: before each write returns)";

/// So many bad lines are shown; the rest is counted.
const BAD_SHOWN: usize = 10;

type AnyError = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args_os().skip(1)) {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(message) => {
            eprintln!("ingest: {message}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("ingest: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Arguments {
    file: PathBuf,
    dir: Option<PathBuf>,
    batch: usize,
    sync: SyncPolicy,
}

impl Arguments {
    /// `None` where help was asked for.
    fn parse(mut rest: impl Iterator<Item = std::ffi::OsString>) -> Result<Option<Self>, String> {
        let (mut file, mut dir, mut batch, mut sync) = (None, None, 1000, SyncPolicy::default());
        while let Some(argument) = rest.next() {
            let name = argument.to_string_lossy().into_owned();
            let mut value = || rest.next().ok_or(format!("{name} needs a value"));
            match &*name {
                "-h" | "--help" => return Ok(None),
                "--dir" => dir = Some(PathBuf::from(value()?)),
                "--batch" => {
                    let text = value()?;
                    let number = text.to_str().and_then(|text| text.parse().ok());
                    batch = number
                        .filter(|number| (1..=100_000).contains(number))
                        .ok_or(format!("--batch is {text:?}; it must be a number from 1 to 100000"))?;
                }
                "--sync" => {
                    let text = value()?;
                    sync = match &*text.to_string_lossy() {
                        "none" => SyncPolicy::None,
                        "immediate" => SyncPolicy::Immediate,
                        "grouped" => SyncPolicy::default(),
                        _ => return Err(format!("--sync is {text:?}; it must be none, immediate or grouped")),
                    };
                }
                _ if name.starts_with('-') => return Err(format!("there is no option {name}")),
                _ if file.is_none() => file = Some(PathBuf::from(argument)),
                _ => return Err(format!("one file at a time: {name} is one too many")),
            }
        }
        let file = file.ok_or("which file?")?;
        Ok(Some(Arguments { file, dir, batch, sync }))
    }
}

/// Says whether every line went in and came back equal.
fn run(arguments: &Arguments) -> Result<bool, AnyError> {
    let temporary = match arguments.dir {
        Some(_) => None,
        None => Some(tempfile::tempdir()?),
    };
    let dir = arguments.dir.as_deref();
    let dir = dir.or(temporary.as_ref().map(|dir| dir.path())).expect("one of them");
    let file_bytes =
        std::fs::metadata(&arguments.file).map_err(|e| format!("cannot open {}: {e}", arguments.file.display()))?.len();
    println!("file      {}, {}", arguments.file.display(), HumanBytes(file_bytes));
    println!("log       {}, sync {}, batches of {}", dir.display(), arguments.sync, arguments.batch);

    let options = Options::new(dir).sync(arguments.sync);
    let store = options.clone().open()?;
    let before = store.len();
    if before != 0 {
        println!("          it holds {} entries already; lines are added to them", HumanCount(before));
    }
    let start = Instant::now();
    let ingested = ingest(&store, arguments, file_bytes)?;
    let took = start.elapsed();
    let syncs = store.stats().syncs;
    store.close()?;
    let count = ingested.indexes.len() as u64;
    println!(
        "read      {:>10} lines, {} bad",
        HumanCount(ingested.lines).to_string(),
        HumanCount(ingested.bad.len() as u64)
    );
    println!("written   {}, {} syncs", rate(count, ingested.json_bytes, took), HumanCount(syncs));
    println!("closed    in {:.1?}", start.elapsed() - took);

    let start = Instant::now();
    let store = options.open()?;
    let report = store.recovery_report();
    println!(
        "reopened  in {:.1?}, {}",
        start.elapsed(),
        if report.is_clean { "clean, nothing to recover" } else { "NOT CLEAN after a close" }
    );
    let start = Instant::now();
    let different = compare(&store, arguments, file_bytes, &ingested)?;
    println!("compared  {}", rate(count, ingested.json_bytes, start.elapsed()));

    let (mut used, mut on_disk) = (0, 0);
    let segments = store.segments();
    for segment in &segments {
        used += segment.bytes;
        on_disk += std::fs::metadata(&segment.path)?.len();
    }
    println!(
        "on disk   {} segment{}, {} of records in {} of files",
        segments.len(),
        if segments.len() == 1 { "" } else { "s" },
        HumanBytes(used),
        HumanBytes(on_disk)
    );
    let is_right = different == 0 && report.is_clean && store.len() == before + count;
    store.close()?;
    let verdict = match (is_right, ingested.bad.is_empty()) {
        (true, true) => format!("all {} records came back equal", HumanCount(count)),
        (true, false) => format!(
            "{} records came back equal; {} lines were left out, see above",
            HumanCount(count),
            HumanCount(ingested.bad.len() as u64)
        ),
        (false, _) => format!("WRONG: {} of {} records differ", HumanCount(different), HumanCount(count)),
    };
    println!("result    {verdict}");
    Ok(is_right && ingested.bad.is_empty())
}

fn rate(count: u64, bytes: u64, took: Duration) -> String {
    let seconds = took.as_secs_f64().max(1e-9);
    format!(
        "{:>10} records in {seconds:.2} s, {} records/s, {}/s of JSON",
        HumanCount(count).to_string(),
        HumanCount((count as f64 / seconds) as u64),
        HumanBytes((bytes as f64 / seconds) as u64)
    )
}

/// One line of the file. A field with another name would be lost, so it is refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    index: Option<u64>,
    #[serde(default)]
    key: String,
    value: Value,
}

#[derive(Default)]
struct Ingested {
    lines: u64,
    json_bytes: u64,
    /// The index of each line that was written, in the file's order.
    indexes: Vec<u64>,
    /// The numbers of the lines that were not.
    bad: BTreeSet<u64>,
}

impl Ingested {
    fn refuse(&mut self, bar: &ProgressBar, number: u64, why: &str) {
        if self.bad.len() < BAD_SHOWN {
            bar.suspend(|| eprintln!("line {number}: {why}"));
        } else if self.bad.len() == BAD_SHOWN {
            bar.suspend(|| eprintln!("further bad lines are only counted"));
        }
        self.bad.insert(number);
    }
}

fn ingest(store: &Store, arguments: &Arguments, file_bytes: u64) -> Result<Ingested, AnyError> {
    let bar = progress(file_bytes, "ingest");
    let mut ingested = Ingested::default();
    let mut lines =
        Lines::open(&arguments.file, &bar).map_err(|e| format!("cannot read {}: {e}", arguments.file.display()))?;
    let mut group = Vec::with_capacity(arguments.batch);
    // A batch names its indexes; this process is the log's only writer, so it can count them itself.
    let mut next = store.next_index().ok_or("the log has no index left")?;
    loop {
        let line = lines.next()?;
        let is_over = line.is_none();
        if let Some((number, text)) = line {
            ingested.lines += 1;
            ingested.json_bytes += text.len() as u64;
            match serde_json::from_slice::<Line>(text) {
                Ok(line) => {
                    let index = line.index.unwrap_or(next);
                    next = next.max(index.saturating_add(1));
                    group.push((number, index, line));
                }
                Err(error) => {
                    let why = error.to_string();
                    let why = why.rsplit_once(" at line 1 ").map_or(why.clone(), |(why, at)| format!("{why} ({at})"));
                    let why = format!("{why}; correct it: a line is {{\"index\": 1, \"key\": \"a\", \"value\": ...}}");
                    ingested.refuse(&bar, number, &why);
                }
            }
        }
        if group.len() == arguments.batch || is_over {
            write(store, &mut group, &mut ingested, &bar)?;
        }
        if is_over {
            bar.finish_and_clear();
            return Ok(ingested);
        }
    }
}

/// Writes lines in one step. A batch is refused as a whole, so that the lines of a refused one are written one by one:
/// then the store names the line that is in the way, and the others go in.
fn write(
    store: &Store,
    group: &mut Vec<(u64, u64, Line)>,
    ingested: &mut Ingested,
    bar: &ProgressBar,
) -> Result<(), AnyError> {
    let mut batch = Batch::new();
    for (_, index, line) in &*group {
        batch.put(*index, &line.key, &line.value)?;
    }
    match store.write_batch(&batch) {
        Ok(_) => ingested.indexes.extend(group.drain(..).map(|(_, index, _)| index)),
        Err(error) if is_about_a_line(&error) => {
            for (number, index, line) in group.drain(..) {
                match store.write(index, &line.key, &line.value) {
                    Ok(_) => ingested.indexes.push(index),
                    Err(error) if is_about_a_line(&error) => ingested.refuse(bar, number, &error.to_string()),
                    Err(error) => return Err(format!("line {number}: {error}").into()),
                }
            }
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// Whether other lines may still go in.
fn is_about_a_line(error: &Error) -> bool {
    matches!(
        error,
        Error::IndexExists { .. }
            | Error::IndexOrder { .. }
            | Error::BatchDuplicate { .. }
            | Error::BatchGap { .. }
            | Error::BelowFloor { .. }
            | Error::TooLarge { .. }
    )
}

/// Reads the file a second time and each of its records from the log; counts those that differ.
fn compare(store: &Store, arguments: &Arguments, file_bytes: u64, ingested: &Ingested) -> Result<u64, AnyError> {
    let bar = progress(file_bytes, "compare");
    let mut lines = Lines::open(&arguments.file, &bar)?;
    let mut indexes = ingested.indexes.iter();
    let mut different = 0;
    while let Some((number, text)) = lines.next()? {
        if ingested.bad.contains(&number) {
            continue;
        }
        let line: Line = serde_json::from_slice(text)?;
        let index = indexes.next().ok_or("the file has grown while it was read")?;
        let is_equal = match store.get(*index)? {
            Some(entry) => entry.key() == line.key.as_bytes() && entry.value::<Value>()? == line.value,
            None => false,
        };
        if !is_equal {
            different += 1;
            bar.suspend(|| eprintln!("line {number}: index {index} of the log differs"));
        }
    }
    bar.finish_and_clear();
    Ok(different + indexes.len() as u64)
}

/// The lines of a plain or compressed file, with their numbers; blank ones are passed over.
struct Lines {
    reader: Box<dyn BufRead>,
    number: u64,
    line: Vec<u8>,
}

impl Lines {
    fn open(path: &Path, bar: &ProgressBar) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let mut magic = Vec::new();
        (&file).take(2).read_to_end(&mut magic)?;
        file.rewind()?;
        let file = bar.wrap_read(file);
        let reader: Box<dyn BufRead> = if magic == [0x1f, 0x8b] {
            Box::new(BufReader::with_capacity(1 << 18, MultiGzDecoder::new(file)))
        } else {
            Box::new(BufReader::with_capacity(1 << 18, file))
        };
        Ok(Lines { reader, number: 0, line: Vec::new() })
    }

    fn next(&mut self) -> Result<Option<(u64, &[u8])>, AnyError> {
        loop {
            self.line.clear();
            self.number += 1;
            let read = self.reader.read_until(b'\n', &mut self.line);
            let read = read.map_err(|e| format!("cannot read the file at line {}: {e}", self.number))?;
            if read == 0 {
                return Ok(None);
            }
            if !self.line.trim_ascii().is_empty() {
                return Ok(Some((self.number, self.line.trim_ascii())));
            }
        }
    }
}

fn progress(bytes: u64, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:9} [{bar:40}] {bytes} of {total_bytes}, {elapsed} ({eta} left)");
    ProgressBar::new(bytes).with_style(style.expect("the template is right").progress_chars("=> ")).with_message(what)
}
