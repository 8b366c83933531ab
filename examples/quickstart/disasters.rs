//! The part of the tour in which things go wrong: a process is killed, and a file is damaged.
#![allow(clippy::disallowed_methods, reason = "an example copies and damages files as a careless user would")]

use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use casklog::{Error, Options, Position, RecoveryMode, Store, SyncPolicy, UnsafeRecover};
use indicatif::{HumanBytes, HumanCount};

use super::{AnyError, Checked, Package, Record, claim, section};

/// The argument with which this program starts itself as the process to be killed.
pub(crate) const CRASH_CHILD: &str = "--write-until-killed";

/// How far into an entry bytes are flipped: behind its header, in its key or value.
const INTO_THE_ENTRY: u64 = 40;

/// What the child writes as its n-th entry; large enough to be cut in the middle.
fn note(n: u64) -> Vec<u8> {
    (0..20_000 + n % 7 * 10_000).map(|i| (i.wrapping_mul(n + 31) >> 3) as u8).collect()
}

/// The process that is killed: it says which entries the store has acknowledged.
pub(crate) fn write_until_killed(dir: &Path) -> Checked {
    let store = Store::open(dir)?;
    let mut out = std::io::stdout().lock();
    for n in 1.. {
        let appended = store.append_bytes("note", note(n))?;
        writeln!(out, "{}", appended.index)?;
    }
    Ok(())
}

pub(crate) fn crash(dir: &Path) -> Checked {
    section(
        "8. A crash",
        &["kill -9 <a process that appends as fast as it can>", "let store = Store::open(\"crashed\")?;"],
    );
    let mut child = Command::new(std::env::current_exe()?).arg(CRASH_CHILD).arg(dir).stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(child.stdout.take().ok_or("its output is piped")?).lines();
    let mut acknowledged = Vec::new();
    while acknowledged.len() < 200 {
        let line = lines.next().ok_or("the child ended before it was killed")??;
        acknowledged.push(line.parse::<u64>()?);
    }
    // SIGKILL, wherever it is now. What it had said by then counts too; half a line is no acknowledgement.
    child.kill()?;
    let status = child.wait()?;
    acknowledged.extend(lines.map_while(Result::ok).filter_map(|line| line.parse::<u64>().ok()));
    claim(status.code().is_none(), "the child", status)?;
    claim(acknowledged.len() >= 200, "entries it was told are written", acknowledged.len())?;

    let start = Instant::now();
    let store = Store::open(dir)?;
    let took = start.elapsed();
    let report = store.recovery_report();
    claim(!report.is_clean && !report.is_damaged(), "open found", "no clean end, and no damage")?;
    let tail = match &report.torn_tail {
        Some(torn) => format!("{} bytes at {}, cut", torn.bytes, torn.at),
        None => "none".to_owned(),
    };
    claim(true, "  torn tail", tail)?;
    claim(report.durable <= report.end, "  known to be durable up to", report.durable)?;
    claim(true, "  the log ends at", report.end)?;
    claim(true, "  written back and synced", HumanBytes(report.written_back_bytes))?;
    claim(took.as_secs() < 60, "  time", format!("{:.1} ms", took.as_secs_f64() * 1e3))?;
    let mut present = 0;
    for index in &acknowledged {
        let entry = store.get(*index)?.ok_or(format!("LOST: index {index}"))?;
        present += usize::from(entry.bytes()? == note(*index));
    }
    claim(present == acknowledged.len(), "acknowledged entries, byte for byte there", present)?;
    let more = store.len() - present as u64;
    claim(more <= 1, "written and not yet acknowledged", more)?;
    let index = store.append_bytes("note", note(0))?.index;
    claim(Some(index) == store.last_index(), "the log goes on with index", index)?;
    store.close()?;
    Ok(())
}

pub(crate) fn damage(home: &Path, sample: &[Record]) -> Checked {
    section("9. Damage, and UnsafeRecover", &["let dropped = UnsafeRecover::run(\"damaged\", \"segment_\")?;"]);
    let (good, bad) = (home.join("good"), home.join("damaged"));
    let store = Options::new(&good).segment_entries(400).sync(SyncPolicy::None).open()?;
    for record in sample {
        store.write(record.index, &record.key, &record.value)?;
    }
    let victim = &sample[1000];
    let position = store.get(victim.index)?.ok_or("it was just written")?.position();
    store.close()?;

    copy(&good, &bad)?;
    let path = flip_bytes(&bad, position)?;
    claim(true, "8 bytes flipped, in a copy of the log, at", position)?;

    let opened = Options::new(&bad).recovery(RecoveryMode::Strict).open();
    let Err(Error::Damaged { path: found, at, .. }) = opened else {
        return Err(format!("the damage was not found: {opened:?}").into());
    };
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    claim(
        found == path && at <= position.offset() + INTO_THE_ENTRY,
        "Strict mode refuses to open it; damage at",
        format!("{}:{at}", position.segment()),
    )?;
    let store = Store::open(&bad)?;
    let outcome = store.get(victim.index);
    claim(
        matches!(outcome, Err(Error::Damaged { .. })),
        "other modes: store.get() of that entry",
        "Error::Damaged, never wrong data",
    )?;
    let readable = sample.iter().filter(|record| matches!(store.get(record.index), Ok(Some(_)))).count();
    claim(readable >= 1999, "entries that can be read beside it", HumanCount(readable as u64))?;
    store.close()?;

    let dropped = UnsafeRecover::run(&bad, "segment_")?;
    claim(dropped == [path.clone()], "UnsafeRecover dropped", name(&path))?;
    let quarantined = bad.join("segment_quarantine").join(name(&path));
    claim(quarantined.is_file(), "which is kept in", "segment_quarantine/")?;

    let store = Options::new(&bad).recovery(RecoveryMode::Strict).open()?;
    claim(true, "the log opens again, in Strict mode too", "yes")?;
    let (mut kept, mut lost) = (0, Vec::new());
    for record in sample {
        match store.get(record.index) {
            Ok(Some(entry)) if entry.value::<Package>()? == record.value => kept += 1,
            Err(Error::Lost { .. }) => lost.push(record.index),
            other => return Err(format!("index {}: {other:?}", record.index).into()),
        }
    }
    claim(kept == 1600, "entries kept, compared with the sample", HumanCount(kept))?;
    let range = (lost[0], lost[lost.len() - 1]);
    claim(
        lost.len() == 400,
        "entries lost: all of that segment",
        format!("{} ({} .. {})", lost.len(), range.0, range.1),
    )?;
    claim(lost.contains(&victim.index), "reading one of them", "Error::Lost, not None")?;
    let gap = store.recovery_report().gaps.first().cloned().ok_or("the report names what was given up")?;
    let named = gap.indexes.ok_or("and its indexes")?;
    claim(named.0 <= range.0 && named.1 >= range.1, "the report names the gap", format!("{} .. {}", named.0, named.1))?;
    let index = store.append("after the damage", &victim.value)?.index;
    claim(store.contains(index), "the log goes on with index", index)?;
    store.close()?;
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Checked {
    std::fs::create_dir(to)?;
    for file in std::fs::read_dir(from)? {
        let file = file?;
        std::fs::copy(file.path(), to.join(file.file_name()))?;
    }
    Ok(())
}

/// Flips eight bytes of the entry at `position`.
fn flip_bytes(dir: &Path, position: Position) -> Result<PathBuf, AnyError> {
    let path = dir.join(format!("segment_{:020}.log", position.segment()));
    let mut file = OpenOptions::new().read(true).write(true).open(&path)?;
    let at = SeekFrom::Start(position.offset() + INTO_THE_ENTRY);
    let mut bytes = [0; 8];
    file.seek(at)?;
    file.read_exact(&mut bytes)?;
    file.seek(at)?;
    file.write_all(&bytes.map(|byte| !byte))?;
    Ok(path)
}
