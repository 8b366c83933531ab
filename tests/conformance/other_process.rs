//! What needs another process: the lock it holds, and what it wrote before it was killed.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use casklog::{Error, Options, SyncPolicy};

use crate::common::*;

const DIR: &str = "CASKLOG_TEST_DIR";
const POLICY: &str = "CASKLOG_TEST_POLICY";

fn policy(name: &str) -> SyncPolicy {
    match name {
        "none" => SyncPolicy::None,
        "immediate" => SyncPolicy::Immediate,
        "grouped" => SyncPolicy::default(),
        _ => SyncPolicy::Periodic { every: Duration::from_millis(2), entries: 50, bytes: 10_000 },
    }
}

/// Not a test by itself: the others start it in a process of its own.
#[test]
fn child_that_holds_a_log_and_writes_to_it() {
    // N09, X07, X14
    let Ok(dir) = std::env::var(DIR) else { return };
    let policy = policy(&std::env::var(POLICY).unwrap_or_default());
    let store = Options::new(dir).sync(policy).segment_entries(40).open().unwrap();
    let mut out = std::io::stdout();
    writeln!(out, "\nopen").unwrap();
    out.flush().unwrap();
    let first = store.next_index().unwrap();
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    for i in first.. {
        write_each(&store, [i]);
        writeln!(out, "wrote {i}").unwrap();
        out.flush().unwrap();
    }
}

struct Writer {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Writer {
    fn start(dir: &Path, policy: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "other_process::child_that_holds_a_log_and_writes_to_it"])
            .arg("--nocapture")
            .env(DIR, dir)
            .env(POLICY, policy)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut writer = Writer { child, input, output };
        while writer.line().expect("the child opens the log") != "open" {}
        writer
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.output.read_line(&mut line).unwrap();
        (read != 0).then(|| line.trim().to_owned())
    }

    /// Lets it write until it has told of `count` writes, kills it, and returns the last one it told of.
    fn kill_after(mut self, count: usize) -> u64 {
        self.input.write_all(b"go\n").unwrap();
        let mut told = Vec::new();
        let index_of = |line: String| line.strip_prefix("wrote ").and_then(|index| index.parse::<u64>().ok());
        while told.len() < count {
            told.extend(index_of(self.line().expect("the child writes")));
        }
        self.child.kill().unwrap();
        while let Some(line) = self.line() {
            told.extend(index_of(line));
        }
        self.child.wait().unwrap();
        *told.last().unwrap()
    }
}

#[test]
fn a_log_that_another_process_holds_is_locked_until_that_process_dies() {
    // N09, X14
    let dir = dir();
    let mut writer = Writer::start(dir.path(), "none");
    let before = image(dir.path());
    let outcome = quick(&dir).open();
    assert!(matches!(outcome, Err(Error::Locked { .. })), "{outcome:?}");
    assert_eq!(image(dir.path()), before, "a refused open leaves no trace");
    writer.child.kill().unwrap();
    writer.child.wait().unwrap();
    quick(&dir).open().unwrap();
}

#[test]
fn what_a_killed_process_was_told_is_written_is_there_under_every_policy() {
    // X07
    for policy in ["none", "immediate", "grouped", "periodic"] {
        let dir = dir();
        for round in 0..3usize {
            let last = Writer::start(dir.path(), policy).kill_after(10 + 23 * round);
            let store = quick(&dir).segment_entries(40).open().unwrap();
            assert!(!store.recovery_report().is_damaged());
            let found = store.last_index().unwrap();
            // One write may have been under way.
            assert!(found == last || found == last + 1, "{policy}: told of {last}, found {found}");
            assert_holds(&store, 1..=found);
            store.close().unwrap();
        }
    }
}
