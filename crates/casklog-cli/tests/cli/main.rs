//! The real binary, from outside.

mod damage;
mod entries;
mod live;
mod looking;
mod newcomer;
mod pipes;
mod transcript;
mod usage;
mod writing;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::SystemTime;

use casklog::Options;
use serde_json::Value;
use tempfile::TempDir;

/// The binary.
fn casklog() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_casklog"));
    command.stdin(Stdio::null()).env_remove("CLICOLOR_FORCE").env("COLUMNS", "100");
    command
}

/// A directory with a log, or with room for one.
struct Place(TempDir);

/// What a command did.
#[derive(Debug)]
struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Ran {
            code: output.status.code().expect("no signal ended it"),
            stdout: String::from_utf8(output.stdout).expect("it is UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("it is UTF-8"),
        }
    }
}

impl Ran {
    /// The output of a command that did what it should.
    #[track_caller]
    fn good(self) -> String {
        assert!(self.code == 0 && self.stderr.is_empty(), "{self:#?}");
        self.stdout
    }

    /// The lines of JSON of a command that did what it should.
    #[track_caller]
    fn json(self) -> Vec<Value> {
        self.good().lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
    }

    /// The message of a command that ended with `code`.
    #[track_caller]
    fn bad(self, code: i32) -> String {
        assert_eq!(self.code, code, "{self:#?}");
        assert!(!self.stderr.contains("panicked"), "{self:#?}");
        self.stderr
    }
}

impl Place {
    fn empty() -> Self {
        Place(tempfile::tempdir().unwrap())
    }

    /// A log with a few entries in three segments: one deleted, one with a key and value that are bytes.
    fn filled() -> Self {
        let place = Self::empty();
        let store = place.options().segment_bytes(2000).open().unwrap();
        for index in 1..=50u64 {
            let key = if index % 10 == 0 { "tens" } else { "other" };
            store.write(index, key, &("some text to fill the segments with", index)).unwrap();
        }
        store.write_bytes(60, [0xff, 0x00], [1, 2, 3]).unwrap();
        store.delete(7).unwrap();
        store.put_meta("owner", b"ada").unwrap();
        store.close().unwrap();
        assert!(store.segments().len() >= 3);
        place
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn options(&self) -> Options {
        Options::new(self.path())
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = casklog();
        command.arg("--dir").arg(self.path()).args(args);
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        self.command(args).output().unwrap().into()
    }

    fn run_json(&self, args: &[&str]) -> Ran {
        self.run(&[args, &["--format", "json"]].concat())
    }

    /// Everything in the directory: names, bytes, and when they were written.
    fn snapshot(&self) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
        let files = std::fs::read_dir(self.path()).unwrap().map(|entry| entry.unwrap());
        let look = |path: &Path| (std::fs::read(path).unwrap(), path.metadata().unwrap().modified().unwrap());
        files.map(|entry| entry.path()).filter(|path| path.is_file()).map(|path| (path.clone(), look(&path))).collect()
    }

    /// Changes a byte of a segment file; returns where.
    fn spoil(&self, segment: usize) -> u64 {
        let segments = self.options().open_read_only().unwrap().segments();
        let path = &segments[segment].path;
        let mut bytes = std::fs::read(path).unwrap();
        // In the middle of the records.
        let at = segments[segment].bytes / 2;
        bytes[at as usize] ^= 0x40;
        std::fs::write(path, bytes).unwrap();
        at
    }
}
