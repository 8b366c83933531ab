//! R17: one log, many processes: who has the lock, who gets it after a kill, and who must not keep it.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use casklog::{Error, Options, Store};

use crate::figures::Figure;
use crate::host;

const RACES: u64 = 30;
const RACERS: u64 = 4;

fn open(dir: &Path) -> casklog::Result<Store> {
    Options::new(dir).segment_bytes(1 << 16).open()
}

/// Opens the log again and again. Whoever has it says so in a file, before and after; appends one entry; closes it, or
/// drops it, or is killed with it.
#[test]
fn racer() {
    let Ok(task) = std::env::var("CASKLOG_RACER") else { return };
    let dir = std::env::var_os("CASKLOG_RACER_DIR").expect("a directory");
    let numbers: Vec<u64> = task.split(' ').map(|word| word.parse().expect("a number")).collect();
    let [own, races] = numbers[..] else { panic!("{task}") };
    let mut diary = OpenOptions::new().append(true).open(Path::new(&dir).join("diary")).expect("the diary");
    let mut say = |line: String| diary.write_all(line.as_bytes()).expect("the diary");
    let (mut won, start) = (0, Instant::now());
    while won < races {
        assert!(start.elapsed() < Duration::from_secs(300), "{own} never gets the lock");
        match open(&Path::new(&dir).join("log")) {
            Ok(store) => {
                say(format!("in {own}\n"));
                let appended = store.append("racer", &own).expect("append");
                say(format!("wrote {own} {}\n", appended.index));
                if own == 0 && won + 1 == races {
                    say("dies 0\n".to_owned());
                    // Nobody closes or unlocks anything.
                    std::process::abort();
                }
                say(format!("out {own}\n"));
                store.close().expect("close");
                won += 1;
            }
            Err(Error::Locked { .. }) => std::thread::yield_now(),
            Err(error) => panic!("open: {error}"),
        }
    }
}

/// A child that does not outlive the test.
struct Held(Child);

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start_racer(dir: &Path, own: u64, races: u64) -> Held {
    let racer = Command::new(std::env::current_exe().expect("this test"))
        .args(["locks::racer", "--exact", "--test-threads=1"])
        .env("CASKLOG_RACER", format!("{own} {races}"))
        .env("CASKLOG_RACER_DIR", dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    Held(racer.expect("a racer"))
}

#[test]
fn of_racing_processes_exactly_one_has_the_log() {
    let races = host::number("CASKLOG_LOCK_RACES").unwrap_or(RACES).div_ceil(RACERS);
    let (dir, start) = (tempfile::tempdir().expect("a directory"), Instant::now());
    std::fs::write(dir.path().join("diary"), "").expect("the diary");
    let racers: Vec<_> = (0..RACERS).map(|own| (own, start_racer(dir.path(), own, races))).collect();
    for (own, mut racer) in racers {
        let status = racer.0.wait().expect("it ends");
        assert_eq!(status.success(), own != 0, "racer {own}: {status}");
    }
    let diary = std::fs::read_to_string(dir.path().join("diary")).expect("the diary");
    let (mut holder, mut opens, mut wrote) = (None, 0, Vec::new());
    for line in diary.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["in", own] => {
                assert_eq!(holder.replace(own), None, "{own} got in beside another:\n{diary}");
                opens += 1;
            }
            ["wrote", own, index] => {
                assert_eq!(holder, Some(own));
                wrote.push((index.parse::<u64>().expect("an index"), own.parse::<u64>().expect("a number")));
            }
            ["out" | "dies", own] => assert_eq!(holder.take(), Some(own)),
            _ => panic!("{line}"),
        }
    }
    assert_eq!(opens, races * RACERS);
    let store = open(&dir.path().join("log")).expect("nobody has it");
    let found = store.iter().map(|entry| entry.and_then(|entry| Ok((entry.index(), entry.value::<u64>()?))));
    assert_eq!(found.collect::<Result<Vec<_>, _>>().expect("all can be read"), wrote);
    let seconds = start.elapsed().as_secs_f64();
    println!("R17: {opens} opens of {RACERS} racing processes in {seconds:.1} s, one at a time");
    Figure { row: "R17", counted: "racing opens", count: opens, seconds, ..Figure::default() }.record();
}

/// Takes the log and says so, until it is killed.
#[test]
fn holder() {
    let Some(dir) = std::env::var_os("CASKLOG_HOLDER") else { return };
    let store = open(Path::new(&dir)).expect("open");
    store.append("held", &1).expect("append");
    std::fs::write(Path::new(&dir).join("held"), "").expect("a note");
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}

#[test]
fn the_lock_of_a_killed_process_is_free_at_once() {
    let rounds = host::number("CASKLOG_LOCK_RACES").unwrap_or(RACES).div_ceil(10);
    let (dir, started) = (tempfile::tempdir().expect("a directory"), Instant::now());
    for round in 1..=rounds {
        let holder = Command::new(std::env::current_exe().expect("this test"))
            .args(["locks::holder", "--exact", "--test-threads=1"])
            .env("CASKLOG_HOLDER", dir.path())
            .stdout(Stdio::null())
            .spawn();
        let holder = Held(holder.expect("a holder"));
        let start = Instant::now();
        while !dir.path().join("held").exists() {
            assert!(start.elapsed() < Duration::from_secs(60), "it never opens the log");
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(matches!(open(dir.path()), Err(Error::Locked { .. })));
        drop(holder);
        std::fs::remove_file(dir.path().join("held")).expect("the note");
        let store = open(dir.path()).expect("it is free");
        assert_eq!(store.len(), round);
        store.close().expect("close");
    }
    let seconds = started.elapsed().as_secs_f64();
    Figure { row: "R17", counted: "locks after a kill", count: rounds, seconds, ..Figure::default() }.record();
    println!("R17: {rounds} locks of killed processes were free at once");
}

#[test]
fn a_process_that_a_writer_has_started_does_not_keep_the_lock() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path()).expect("open");
    store.append("key", &1).expect("append");
    let sleeper = Command::new("sleep").arg("60").stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("sleep");
    let sleeper = Held(sleeper);
    store.close().expect("close");
    let again = open(dir.path());
    drop(sleeper);
    assert_eq!(again.expect("the sleeper has no lock").len(), 1);
}
