//! A tour of casklog: `cargo run --release --example quickstart`. It needs no arguments, works in a temporary
//! directory, and checks every claim that it prints.

#[path = "quickstart/disasters.rs"]
mod disasters;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use casklog::{Batch, Error, LogItem, Options, Store, SyncPolicy};
use indicatif::{HumanBytes, HumanCount};
use serde::{Deserialize, Serialize};

type AnyError = Box<dyn std::error::Error>;
type Checked = Result<(), AnyError>;

/// Packages of Debian 12, see data/README.md.
const SAMPLE: &str = include_str!("data/debian-packages-sample.ndjson");

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Package {
    version: String,
    section: String,
    architecture: String,
    size: u64,
    installed_size_kib: u64,
    priority: String,
    depends: Vec<String>,
    description: String,
}

/// A line of the sample.
#[derive(Debug, Clone, Deserialize)]
struct Record {
    index: u64,
    key: String,
    value: Package,
}

/// What the log must hold: the plainest thing that can be right.
type Expected = BTreeMap<u64, (String, Package)>;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let outcome = match (arguments.next().as_deref(), arguments.next()) {
        (None, _) => tour(),
        (Some(disasters::CRASH_CHILD), Some(dir)) => disasters::write_until_killed(Path::new(&dir)),
        _ => Err("usage: quickstart, without arguments".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nquickstart: {error}");
            ExitCode::FAILURE
        }
    }
}

fn tour() -> Checked {
    let start = Instant::now();
    let home = tempfile::tempdir()?;
    let sample: Vec<Record> = SAMPLE.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    println!("A tour of casklog, with {} Debian packages for data.", sample.len());

    let main = home.path().join("packages");
    let store = Store::open(&main)?;
    let mut expected = Expected::new();
    ingest(&store, &sample, &mut expected)?;
    read(&store, &expected)?;
    walk(&store, &expected)?;
    batch(&store, &mut expected)?;
    delete_and_truncate(&store, &mut expected)?;
    meta_and_reopen(store, &main, &expected)?;
    rotate_and_retain(&home.path().join("rotated"), &sample)?;
    disasters::crash(&home.path().join("crashed"))?;
    disasters::damage(home.path(), &sample)?;

    println!("\nEverything above was checked, in {:.1} s.", start.elapsed().as_secs_f64());
    Ok(())
}

fn section(title: &str, code: &[&str]) {
    println!("\n{title}\n{}\n", "-".repeat(title.len()));
    for line in code {
        println!("    {line}");
    }
    if !code.is_empty() {
        println!();
    }
}

/// Prints a claim if it is true, and stops the tour if it is not.
fn claim(is_true: bool, what: &str, value: impl std::fmt::Display) -> Checked {
    if !is_true {
        return Err(format!("this should be true, and is not: {what}: {value}").into());
    }
    println!("  {what:<44} {value}");
    Ok(())
}

/// Compares the whole log with what it must hold.
fn holds(store: &Store, expected: &Expected) -> Result<bool, AnyError> {
    let mut entries = store.iter();
    for (index, (key, package)) in expected {
        let Some(entry) = entries.next().transpose()? else {
            return Ok(false);
        };
        if entry.index() != *index || entry.key() != key.as_bytes() || entry.value::<Package>()? != *package {
            return Ok(false);
        }
    }
    Ok(entries.next().is_none() && store.len() == expected.len() as u64)
}

fn ingest(store: &Store, sample: &[Record], expected: &mut Expected) -> Checked {
    section(
        "1. Write",
        &[
            "let store = Store::open(\"packages\")?;",
            "store.write(index, key, &package)?;            // any serde type; durable when it returns",
            "store.write_batch(&batch)?;                    // many entries, one sync",
        ],
    );
    let start = Instant::now();
    for records in sample.chunks(100) {
        let mut batch = Batch::new();
        for record in records {
            batch.put(record.index, &record.key, &record.value)?;
        }
        store.write_batch(&batch)?;
    }
    let took = start.elapsed();
    expected.extend(sample.iter().map(|r| (r.index, (r.key.clone(), r.value.clone()))));
    let stats = store.stats();
    claim(store.len() == 2000, "entries", HumanCount(store.len()))?;
    claim(stats.durable == stats.tail, "of them durable", "all")?;
    claim(stats.syncs <= 21, "syncs", stats.syncs)?;
    claim(took.as_secs() < 60, "time", format!("{:.1} ms", took.as_secs_f64() * 1e3))?;

    let next = store.next_index();
    let package = Package { version: "1.0".into(), ..sample[0].value.clone() };
    let appended = store.append("my-package", &package)?;
    claim(Some(appended.index) == next, "store.append(key, &package) chose index", appended.index)?;
    expected.insert(appended.index, ("my-package".into(), package));
    Ok(())
}

fn read(store: &Store, expected: &Expected) -> Checked {
    section("2. Read", &["let entry = store.get(33)?;", "let package: Package = entry.value()?;"]);
    let entry = store.get(33)?.ok_or("index 33 is in the sample")?;
    let package: Package = entry.value()?;
    let (key, wanted) = &expected[&33];
    claim(entry.key() == key.as_bytes(), "entry.key()", String::from_utf8_lossy(entry.key()))?;
    claim(package == *wanted, "package.version", &package.version)?;
    claim(entry.position().segment() == 1, "entry.position()", format!("{} (segment:offset)", entry.position()))?;
    claim(store.get(34)?.is_none(), "store.get(34), a gap in the sample", "None")?;
    match store.write(33, "again", &package) {
        Err(error @ Error::IndexExists { index: 33 }) => {
            claim(true, "store.write(33, ...) again", format!("refused: {error}"))?
        }
        other => return Err(format!("a duplicate was not refused: {other:?}").into()),
    }
    claim(holds(store, expected)?, "all entries are as they were written", "yes")
}

fn walk(store: &Store, expected: &Expected) -> Checked {
    section(
        "3. Ranges",
        &["for entry in store.range(30_000..30_100) { ... }", "for entry in store.range(..).rev().take(2) { ... }"],
    );
    let show = |entry: casklog::Entry| -> Checked {
        let package: Package = entry.value()?;
        let (key, wanted) = &expected[&entry.index()];
        let is_right = entry.key() == key.as_bytes() && package == *wanted;
        claim(is_right, &format!("{:>6}  {key}", entry.index()), package.version)
    };
    let mut count = 0;
    for entry in store.range(30_000..30_100) {
        show(entry?)?;
        count += 1;
    }
    claim(count == expected.range(30_000..30_100).count(), "forwards, in the range", count)?;
    for entry in store.range(..).rev().take(2) {
        show(entry?)?;
    }
    let backwards: Vec<u64> = store.iter().rev().map(|entry| Ok(entry?.index())).collect::<Result<_, Error>>()?;
    claim(backwards.iter().eq(expected.keys().rev()), "backwards, in the whole log", HumanCount(backwards.len() as u64))
}

fn batch(store: &Store, expected: &mut Expected) -> Checked {
    section(
        "4. Batches: all or nothing",
        &[
            "let mut batch = Batch::new();",
            "batch.put(100_000, \"a\", &a)?.put(100_001, \"b\", &b)?.delete(33);",
            "store.write_batch(&batch)?;",
        ],
    );
    let (key, package) = expected[&1].clone();
    let mut batch = Batch::new();
    batch.put(100_000, "a", &package)?.put(100_001, "b", &package)?.delete(33);
    store.write_batch(&batch)?;
    expected.insert(100_000, ("a".into(), package.clone()));
    expected.insert(100_001, ("b".into(), package.clone()));
    expected.remove(&33);
    claim(holds(store, expected)?, "two entries more and one less, in one step", HumanCount(store.len()))?;

    let mut batch = Batch::new();
    batch.put(200_000, "new", &package)?.put(1, key, &package)?;
    let refused = matches!(store.write_batch(&batch), Err(Error::IndexExists { index: 1 }));
    claim(refused, "a batch in which one index of two is taken", "refused as a whole")?;
    claim(!store.contains(200_000) && holds(store, expected)?, "what it left behind", "nothing")
}

fn delete_and_truncate(store: &Store, expected: &mut Expected) -> Checked {
    section(
        "5. Delete and truncate",
        &[
            "store.delete(65)?;",
            "store.truncate_before(10_000)?;                // 10000 stays",
            "store.truncate_after(60_000)?;                 // 60000 stays",
        ],
    );
    let is_deleted = store.delete(65)? && !store.delete(65)?;
    let (key, package) = expected.remove(&65).ok_or("index 65 is in the sample")?;
    claim(is_deleted && store.get(65)?.is_none(), "store.get(65)", "None")?;
    let stays_taken = matches!(store.write(65, key, &package), Err(Error::IndexExists { .. }));
    claim(stays_taken, "its index", "stays taken")?;
    let deletions = store.log_order().filter(|item| matches!(item, Ok(LogItem::Deleted { .. }))).count();
    claim(deletions == 2, "deletions that store.log_order() shows", deletions)?;

    store.truncate_before(10_000)?;
    store.truncate_after(60_000)?;
    expected.retain(|index, _| (10_000..=60_000).contains(index));
    let ends = (store.first_index(), store.last_index());
    let wanted = (expected.keys().next().copied(), expected.keys().last().copied());
    claim(ends == wanted, "first and last index", format!("{} .. {}", ends.0.unwrap_or(0), ends.1.unwrap_or(0)))?;
    claim(holds(store, expected)?, "entries left", HumanCount(store.len()))?;
    let below = matches!(store.write(500, "k", &package), Err(Error::BelowFloor { floor: 10_000, .. }));
    claim(below, "a write below the floor of 10000", "refused")?;
    claim(store.next_index() == Some(60_001), "store.next_index()", "60001: what was cut off is free again")
}

fn meta_and_reopen(store: Store, dir: &Path, expected: &Expected) -> Checked {
    section(
        "6. Metadata, close, open again",
        &["store.put_meta(\"source\", \"bookworm\")?;", "store.close()?;", "let store = Store::open(\"packages\")?;"],
    );
    store.put_meta("source", "bookworm")?;
    store.close()?;
    claim(matches!(store.sync(), Err(Error::Closed)), "a handle that was closed", "says so")?;
    let store = Store::open(dir)?;
    let report = store.recovery_report();
    claim(report.is_clean, "store.recovery_report().is_clean", report.is_clean)?;
    claim(store.meta("source").as_deref() == Some(b"bookworm"), "store.meta(\"source\")", "bookworm")?;
    claim(holds(&store, expected)?, "entries, equal to those before", HumanCount(store.len()))?;
    let locked = matches!(Store::open(dir), Err(Error::Locked { .. }));
    claim(locked, "a second writer meanwhile", "is kept out by the lock")?;
    store.close()?;
    Ok(())
}

fn rotate_and_retain(dir: &Path, sample: &[Record]) -> Checked {
    section(
        "7. Rotation and retention",
        &["Options::new(\"rotated\").segment_entries(300).max_segments(3).sync(SyncPolicy::None).open()?"],
    );
    let open = || Options::new(dir).segment_entries(300).max_segments(3).sync(SyncPolicy::None).open();
    let store = open()?;
    for record in sample {
        store.write(record.index, &record.key, &record.value)?;
    }
    claim(store.stats().rotations == 6, "rotations, after 2,000 entries", store.stats().rotations)?;
    // The oldest segments go in the background; close waits for it.
    store.close()?;
    let store = open()?;
    for segment in store.segments() {
        let indexes = segment.indexes.ok_or("each segment has entries")?;
        let what = format!("segment {}: {} entries, {} .. {}", segment.number, segment.entries, indexes.0, indexes.1);
        claim(segment.entries <= 300, &what, HumanBytes(segment.bytes))?;
    }
    claim(store.segments().len() == 3, "segments kept", 3)?;
    let kept = &sample[1200..];
    claim(store.len() == kept.len() as u64, "entries kept", store.len())?;
    claim(store.first_index() == Some(kept[0].index), "store.first_index()", kept[0].index)?;
    let all = kept.iter().all(|record| {
        let entry = store.get(record.index).ok().flatten();
        entry.is_some_and(|entry| entry.value().is_ok_and(|package: Package| package == record.value))
    });
    claim(all && store.get(sample[0].index)?.is_none(), "the newest entries are all there", "the oldest are gone")?;
    store.close()?;
    Ok(())
}
