//! A reader leaves no trace: no byte, no name, no time of the log changes, and none has to be writable.
#![cfg(unix)]

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use casklog::{Error, LogItem, Options, Reader, RecoveryMode};

use crate::common::*;

/// Name, length, times of the last change to bytes and to anything else, bytes.
type Trace = (String, u64, (i64, i64), (i64, i64), Vec<u8>);

/// Of every file in the directory, and of the directory.
fn traces(dir: &Path) -> Vec<Trace> {
    let trace = |path: &Path| {
        let found = std::fs::metadata(path).unwrap();
        let bytes = if found.is_file() { std::fs::read(path).unwrap() } else { Vec::new() };
        let (changed, touched) = ((found.mtime(), found.mtime_nsec()), (found.ctime(), found.ctime_nsec()));
        (path.display().to_string(), found.len(), changed, touched, bytes)
    };
    let mut all: Vec<Trace> = std::fs::read_dir(dir).unwrap().map(|entry| trace(&entry.unwrap().path())).collect();
    all.sort();
    all.push(trace(dir));
    all
}

/// Everything that a reader can do. What is damaged may fail.
fn read_all(reader: &Reader) {
    let is_damage = |error: &Error| matches!(error, Error::Damaged { .. } | Error::Lost { .. });
    for entry in reader.iter().chain(reader.iter().rev()) {
        match entry {
            Ok(entry) => assert_eq!(reader.read(entry.position()).unwrap().unwrap().index(), entry.index()),
            Err(error) => assert!(is_damage(&error), "{error}"),
        }
    }
    for index in 0..=reader.last_index().unwrap_or(0) {
        assert!(reader.get(index).is_ok_and(|_| true) || is_damage(&reader.get(index).unwrap_err()));
    }
    for item in reader.log_order() {
        assert!(item.as_ref().err().is_none_or(is_damage), "{item:?}");
    }
    let mut follow = reader.follow(reader.first_index().unwrap_or(0)).unwrap();
    while let Some(item) = follow.try_next().unwrap_or_else(|error| {
        assert!(is_damage(&error), "{error}");
        Some(LogItem::Truncated { gone: 0..=0, position: reader.stats().tail })
    }) {
        let _ = item.index();
    }
    reader.verify().unwrap();
    assert!(!reader.refresh().unwrap(), "nothing has changed");
    assert!(!reader.recovery_report().is_new && reader.recovery_report().removed.is_empty());
}

const MODES: [RecoveryMode; 4] =
    [RecoveryMode::Strict, RecoveryMode::TornTail, RecoveryMode::PointInTime, RecoveryMode::Salvage];

fn assert_leaves_no_trace(dir: &Path, what: &str) {
    let before = traces(dir);
    for mode in MODES {
        match Options::new(dir).recovery(mode).open_read_only() {
            Ok(reader) => read_all(&reader),
            Err(error) => assert!(matches!(error, Error::Damaged { .. }), "{what}, {mode:?}: {error}"),
        }
        assert_eq!(traces(dir), before, "{what}, {mode:?}");
    }
}

/// Three sealed segments, spare and all; the fourth is not sealed, and the log was not closed.
fn crashed_log(dir: &Path) {
    let store = quick(dir).segment_entries(10).background(false).open().unwrap();
    write_each(&store, 1..=36);
    store.delete(7).unwrap();
    store.sync().unwrap();
    write_each(&store, 37..=38);
    drop(store);
}

#[test]
fn reading_changes_nothing_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    crashed_log(dir.path());
    assert_leaves_no_trace(dir.path(), "a log that was not closed");

    let last = segment(dir.path(), 4);
    let whole = std::fs::read(&last).unwrap();
    let end = whole.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let mut torn = whole.clone();
    torn[end - 30..].fill(0);
    torn[end - 20..end - 10].fill(0xa5);
    std::fs::write(&last, &torn).unwrap();
    assert_leaves_no_trace(dir.path(), "a torn tail");
    let mut damaged = whole.clone();
    damaged[200] ^= 1;
    std::fs::write(&last, &damaged).unwrap();
    assert_leaves_no_trace(dir.path(), "damage");
    std::fs::write(&last, &whole).unwrap();

    let sealed = segment(dir.path(), 2);
    let whole = std::fs::read(&sealed).unwrap();
    for (what, at) in [("a record", 300), ("the footer", whole.len() - 150), ("the trailer", whole.len() - 50)] {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        std::fs::write(&sealed, bytes).unwrap();
        assert_leaves_no_trace(dir.path(), what);
    }
    std::fs::write(&sealed, &whole).unwrap();
    std::fs::remove_file(dir.path().join("segment_manifest")).unwrap();
    assert_leaves_no_trace(dir.path(), "no manifest");

    quick(dir.path()).open().unwrap().close().unwrap();
    assert_leaves_no_trace(dir.path(), "a log that was closed");
}

/// Runs a test of this program as a user who may not write into the directory, and waits for what it says at its end.
fn run_as_nobody(test: &str, dir: &Path, end: &str) {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", test, "--nocapture"]).env("CASKLOG_READ_ONLY_DIR", dir);
    if std::fs::metadata(dir).unwrap().uid() == 0 {
        // Permissions mean nothing to root: somebody else looks.
        child.uid(65_534).gid(65_534);
    }
    match child.output() {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stdout);
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && said.contains(end), "{said}{error}");
        }
        Err(error) => println!("SKIPPED: nobody but root can run this test here: {error}"),
    }
}

/// Not a test by itself: the one below runs it as a user who may not write there.
#[test]
fn child_that_may_not_write() {
    let Ok(dir) = std::env::var("CASKLOG_READ_ONLY_DIR") else { return };
    assert!(std::fs::write(Path::new(&dir).join("probe"), b"").is_err(), "this user may write there");
    assert!(std::fs::OpenOptions::new().write(true).open(segment(Path::new(&dir), 1)).is_err());
    let reader = Options::new(&dir).open_read_only().unwrap();
    assert_eq!(reader.len(), 37);
    read_all(&reader);
    println!("read it all");
}

#[test]
fn a_log_that_may_not_be_written_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    crashed_log(dir.path());
    std::fs::remove_file(dir.path().join("segment_lock")).unwrap();
    let allow = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        allow(&entry.unwrap().path(), 0o444);
    }
    allow(dir.path(), 0o555);
    let before = traces(dir.path());
    read_all(&Options::new(dir.path()).open_read_only().unwrap());
    assert_eq!(traces(dir.path()), before, "no lock file, for one");

    run_as_nobody("traces::child_that_may_not_write", dir.path(), "read it all");
    assert_eq!(traces(dir.path()), before);
    allow(dir.path(), 0o755);
}

/// As above.
#[test]
fn child_that_may_not_write_a_closed_log() {
    let Ok(dir) = std::env::var("CASKLOG_READ_ONLY_DIR") else { return };
    match quick(Path::new(&dir)).open() {
        Err(Error::Io { path, source, .. }) => {
            assert!(path.ends_with("segment_lock") && source.kind() == std::io::ErrorKind::PermissionDenied);
        }
        other => panic!("{other:?}"),
    }
    let store = quick(Path::new(&dir)).allow_read_only(true).open().unwrap();
    assert!(store.get(7).unwrap().is_some() && store.write(8, "k", &8).is_err());
    println!("only with leave");
}

/// Opening a closed log writes nothing, and would succeed; writing into it would not.
#[test]
fn a_closed_log_that_may_not_be_written_is_opened_only_with_leave() {
    let dir = tempfile::tempdir().unwrap();
    let store = quick(dir.path()).open().unwrap();
    write_each(&store, 1..=7);
    store.rotate().unwrap();
    store.close().unwrap();
    let allow = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        allow(&entry.unwrap().path(), 0o444);
    }
    allow(dir.path(), 0o555);
    run_as_nobody("traces::child_that_may_not_write_a_closed_log", dir.path(), "only with leave");
    allow(dir.path(), 0o755);
}

#[test]
fn what_is_not_there_is_not_found() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    assert!(matches!(Options::new(&missing).open_read_only(), Err(Error::NotFound { path }) if path == missing));
    assert!(!missing.exists());
    assert!(matches!(Options::new(dir.path()).open_read_only(), Err(Error::NotFound { .. })));
    let store = quick(dir.path()).open().unwrap();
    write_each(&store, [1]);
    store.close().unwrap();
    let other = Options::new(dir.path()).prefix("other_").open_read_only();
    assert!(matches!(other, Err(Error::NotFound { .. })), "{other:?}");

    let reader = Options::new(dir.path()).open_read_only().unwrap();
    assert_eq!(indexes(&reader), [1]);
    std::fs::remove_dir_all(dir.path()).unwrap();
    assert_eq!(indexes(&reader), [1], "its file is open");
    assert!(matches!(reader.refresh(), Err(Error::NotFound { .. })));
    assert_eq!(indexes(&reader), [1], "it shows what it showed before");
}
