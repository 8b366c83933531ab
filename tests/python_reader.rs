//! The reader in `examples/read_segment.py`, written from FORMAT.md alone, agrees with the crate on real logs.
//!
//! Skipped, and it says so, where there is no `python3` with `msgpack`.

#![allow(clippy::disallowed_methods, reason = "black-box tests look at the files themselves")]
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use casklog::{Batch, Checksum, Options, Position, Store, SyncPolicy};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/read_segment.py");

fn has_python() -> bool {
    let why = match Command::new("python3").args(["-c", "import msgpack"]).output() {
        Ok(output) if output.status.success() => return true,
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => format!("no python3: {error}"),
    };
    // Where everything must hold, nothing is passed over.
    assert!(std::env::var_os("CASKLOG_REQUIRE_PYTHON").is_none(), "{why}");
    println!("SKIPPED: {why}");
    false
}

fn run(file: &Path) -> Output {
    Command::new("python3").arg(SCRIPT).arg(file).output().unwrap()
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    files.sort();
    files
}

/// Reads a good segment: the lines for records, those of head stamps and watermarks left out.
#[track_caller]
fn lines(file: &Path) -> Vec<String> {
    let output = run(file);
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr).into_owned());
    assert!(output.status.success(), "{}: {err}{out}", file.display());
    assert!(out.lines().any(|line| line.contains(" <> head ")) || out.lines().count() == 2, "{out}");
    out.lines()
        .filter(|line| !line.contains(" <> head ") && !line.contains(" <> watermark "))
        .map(str::to_owned)
        .collect()
}

/// What the script is to print, by position.
#[derive(Default)]
struct Expected(BTreeMap<Position, String>);

impl Expected {
    fn entry(&mut self, position: Position, marks: &str, index: u64, key: &str, value: &str) {
        self.0.insert(position, format!("{marks} entry ({index}, b'{key}', {value})"));
    }
}

fn write(store: &Store, expected: &mut Expected, index: u64, text: &str) {
    let position = store.write(index, format!("key {index}"), text).unwrap();
    expected.entry(position, "<>", index, &format!("key {index}"), &format!("'{text}'"));
}

fn write_log(dir: &Path, checksum: Checksum) -> (Expected, Vec<String>) {
    let mut expected = Expected::default();
    let options = || Options::new(dir).checksum(checksum).segment_bytes(1 << 20);
    let store = options().open().unwrap();
    for index in 1..=200 {
        write(&store, &mut expected, index, &"x".repeat(index as usize * 7 % 300));
    }
    // Records over several blocks, and some that end near the end of one.
    for (index, len) in (201..).zip([100_000, 32_000, 0, 700, 65_536, 32_757, 32_000]) {
        let value = vec![b'a' + (len % 26) as u8; len];
        let position = store.write_bytes(index, "big", &value).unwrap();
        let value = format!("b'{}'", String::from_utf8(value).unwrap());
        expected.entry(position, "<>", index, "big", &value);
    }
    let mut batch = Batch::new();
    batch.put(302, "b", &(1, "two")).unwrap().put(301, "a", &true).unwrap();
    batch.put_bytes(303, "c", vec![b'z'; 40_000]);
    batch.delete(5).delete(6).put_meta("vote", "n1");
    let positions = store.write_batch(&batch).unwrap();
    expected.entry(positions[1], "<-", 301, "a", "True");
    expected.entry(positions[0], "--", 302, "b", "(1, 'two')");
    expected.entry(positions[2], "--", 303, "c", &format!("b'{}'", "z".repeat(40_000)));
    store.rotate().unwrap();

    // The second segment has one of each kind.
    write(&store, &mut expected, 304, "four");
    store.delete(7).unwrap();
    store.truncate_after(303).unwrap();
    store.truncate_before(10).unwrap();
    store.delete_meta("vote").unwrap();
    write(&store, &mut expected, 304, "again");
    store.rotate().unwrap();
    store.close().unwrap();

    // The third is left behind twice without a close, and so resumed twice.
    for round in 0..2 {
        let store = reopen(|| options().sync(SyncPolicy::None));
        for index in 0..100 {
            write(&store, &mut expected, 1000 + 100 * round + index, "unsynced");
        }
        drop(store);
    }
    let store = reopen(options);
    write(&store, &mut expected, 2000, "behind a resume");
    store.close().unwrap();
    let others = [
        "-- tombstone (5, b'key 5')",
        "-- tombstone (6, b'key 6')",
        "-> meta (b'vote', b'n1')",
        "<> tombstone (7, b'key 7')",
        "<> truncation (1, 303)",
        "<> truncation (0, 10)",
        "<> meta (b'vote', None)",
    ];
    (expected, others.map(str::to_owned).to_vec())
}

/// The threads of a dropped store hold the lock a moment longer.
fn reopen(options: impl Fn() -> Options) -> Store {
    for _ in 0..1000 {
        match options().open() {
            Err(casklog::Error::Locked { .. }) => std::thread::yield_now(),
            other => return other.unwrap(),
        }
    }
    options().open().unwrap()
}

#[test]
fn the_script_prints_what_was_written() {
    if !has_python() {
        return;
    }
    for checksum in [Checksum::Crc32, Checksum::Crc64] {
        let dir = tempfile::tempdir().unwrap();
        let (expected, others) = write_log(dir.path(), checksum);
        let (mut entries, mut rest, mut resumes, mut sealed) = (BTreeMap::new(), Vec::new(), 0, 0);
        for file in segments(dir.path()) {
            let lines = lines(&file);
            let number: u64 = lines[0].split(' ').nth(1).unwrap().parse().unwrap();
            assert!(lines[0].contains(if checksum == Checksum::Crc32 { "checksum 32" } else { "checksum 64" }));
            for line in &lines[1..] {
                let (offset, text) = line.split_once(' ').unwrap();
                if text.contains(" entry ") {
                    let position: Position = format!("{number}:{offset}").parse().unwrap();
                    entries.insert(position, text.to_owned());
                } else if text.contains(" resume ") {
                    resumes += 1;
                } else if text.starts_with(['<', '-']) {
                    rest.push(text.to_owned());
                } else {
                    sealed += usize::from(offset == "footer");
                }
            }
        }
        assert_eq!(entries, expected.0);
        assert_eq!(rest, others);
        // Whoever comes by later than the idle watermark finds a clean log.
        assert!((1..=2).contains(&resumes), "{resumes}");
        assert!(sealed >= 2, "{sealed}");
    }
}

#[test]
fn the_script_fails_where_a_bit_is_flipped() {
    if !has_python() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let options = Options::new(dir.path()).segment_bytes(1 << 17).sync(SyncPolicy::None);
    let store = options.open().unwrap();
    for index in 1..=40u64 {
        store.write(index, "key", &vec!["text"; index as usize]).unwrap();
    }
    store.write_bytes(41, "big", vec![1; 40_000]).unwrap();
    store.rotate().unwrap();
    store.close().unwrap();
    let file = segments(dir.path()).remove(0);
    let good = std::fs::read(&file).unwrap();
    assert!(run(&file).status.success());
    let copy = dir.path().join("copy");
    // Spread over the file, and in the trailer.
    let places = (0..good.len()).step_by(good.len() / 25).chain(good.len() - 107..good.len());
    for (round, at) in places.enumerate().filter(|(round, _)| round % 3 != 2) {
        let mut bad = good.clone();
        bad[at] ^= 1 << (round % 8);
        std::fs::write(&copy, &bad).unwrap();
        let output = run(&copy);
        assert_eq!(output.status.code(), Some(1), "byte {at}");
        let message = String::from_utf8(output.stderr).unwrap();
        let place: usize = message.split([' ', ':']).nth(1).unwrap().parse().expect(&message);
        assert!(place <= at, "{message} for byte {at}");
    }
    for len in [0, 63, 64, 100, good.len() / 2, good.len() - 1] {
        std::fs::write(&copy, &good[..len]).unwrap();
        let is_ok = run(&copy).status.success();
        assert_eq!(is_ok, len == 64, "{len} bytes: only a header is a whole segment");
    }
}
