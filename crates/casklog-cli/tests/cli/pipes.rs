//! Pipes that are closed, directories that may not be written to, logs that are locked or not there.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use casklog::SyncPolicy;

use super::Place;

/// Reads one line of the output, closes it, and waits for the end.
fn read_a_line(command: &mut Command) -> (String, Option<i32>, String) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = Vec::new();
    BufReader::new(child.stdout.take().unwrap()).read_until(b'\n', &mut line).unwrap();
    let (code, complaint) = end(&mut child);
    (String::from_utf8_lossy(&line).into_owned(), code, complaint)
}

/// Waits for the end, but not for ever.
fn end(child: &mut Child) -> (Option<i32>, String) {
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > Duration::from_secs(20) {
            child.kill().unwrap();
            panic!("it does not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut complaint = String::new();
    child.stderr.take().unwrap().read_to_string(&mut complaint).unwrap();
    (child.wait().unwrap().code(), complaint)
}

#[test]
fn a_pipe_that_is_closed_early_is_no_error() {
    let place = Place::empty();
    let store = place.options().sync(SyncPolicy::None).open().unwrap();
    for index in 0..20_000u64 {
        store.write(index, "key", &"text that fills the pipe and all buffers before it").unwrap();
    }
    store.close().unwrap();
    for args in [&["cat"][..], &["cat", "--raw"], &["cat", "--log-order", "--format", "json"], &["tail", "-n", "20000"]]
    {
        let (_, code, complaint) = read_a_line(&mut place.command(args));
        assert_eq!((code, &*complaint), (Some(0), ""), "{args:?}");
    }
    for args in [&["--help"][..], &["completions", "bash"], &["man"], &["map"]] {
        let mut child = place.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        assert_eq!(end(&mut child), (Some(0), String::new()), "{args:?}");
    }
}

/// Nothing comes any more that could not be written: it looks by itself.
#[test]
fn tail_ends_when_nobody_reads_it() {
    let place = Place::filled();
    let (line, code, complaint) = read_a_line(&mut place.command(&["tail", "-f", "-n", "1"]));
    assert_eq!((&*line, code, &*complaint), ("7\tother\t(deleted)\n", Some(0), ""));
}

#[test]
fn an_output_that_cannot_be_written_is_an_error() {
    let place = Place::filled();
    let Ok(full) = std::fs::OpenOptions::new().write(true).open("/dev/full") else { return };
    let output = place.command(&["cat"]).stdout(full).output().unwrap();
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{complaint}");
    assert!(complaint.starts_with("error: cannot write the output: "), "{complaint}");
}

const READING: [&[&str]; 13] = [
    &["get", "1"],
    &["get", "--key", "tens"],
    &["meta", "list"],
    &["meta", "get", "owner"],
    &["info"],
    &["segments"],
    &["stats"],
    &["cat"],
    &["cat", "--log-order"],
    &["tail"],
    &["verify"],
    &["map"],
    &["unsafe-recover"],
];

#[test]
fn reading_changes_nothing_and_needs_no_permission_to_write() {
    let place = Place::filled();
    let before = place.snapshot();
    let mut permissions = place.path().metadata().unwrap().permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(place.path(), permissions.clone()).unwrap();
    for args in READING {
        assert!(!place.run(args).good().is_empty(), "{args:?}");
    }
    #[allow(clippy::permissions_set_readonly_false, reason = "it goes in a moment")]
    permissions.set_readonly(false);
    std::fs::set_permissions(place.path(), permissions).unwrap();
    assert_eq!(place.snapshot(), before);
}

#[test]
fn a_log_that_is_not_there_is_not_made() {
    let place = Place::empty();
    let writing: [&[&str]; 8] = [
        &["put", "1", "k", "1"],
        &["append", "k", "1"],
        &["delete", "1"],
        &["meta", "put", "k", "v"],
        &["truncate", "--before", "1"],
        &["rotate"],
        &["tail", "-f"],
        &["unsafe-recover"],
    ];
    for args in READING.into_iter().chain(writing) {
        let complaint = place.run(args).bad(4);
        assert!(complaint.contains("there is no log with the prefix \"segment_\" in "), "{complaint}");
        assert!(complaint.contains("hint: look at --dir and --prefix"), "{complaint}");
    }
    assert!(place.snapshot().is_empty());
    let inner = place.path().join("missing");
    let output = super::casklog().arg("--dir").arg(&inner).args(["append", "k", "1"]).output().unwrap();
    assert_eq!((output.status.code(), inner.exists()), (Some(4), false));
}

#[test]
fn a_log_that_another_process_holds_can_be_read_and_not_written() {
    let place = Place::filled();
    let store = place.options().open().unwrap();
    store.write(61, "k", "v").unwrap();
    for args in READING {
        place.run(args).good();
    }
    let writing: [&[&str]; 7] = [
        &["put", "70", "k", "1"],
        &["append", "k", "1"],
        &["delete", "1"],
        &["meta", "put", "k", "v"],
        &["truncate", "--before", "1"],
        &["rotate"],
        &["unsafe-recover", "--yes"],
    ];
    for args in writing {
        let complaint = place.run(args).bad(5);
        assert!(complaint.contains("is held by another") && complaint.contains("hint: commands that only read"));
    }
    assert_eq!(place.run(&["get", "61"]).good(), "61\tk\t\"v\"\n");
    store.close().unwrap();
    place.run(&["append", "k", "1"]).good();
}
