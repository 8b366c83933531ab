//! R15: a full disk. tmpfs without pages and without inodes, ext4 and XFS that are all but full, a limit on the size of
//! files. What was acknowledged stays readable, the log opens while the disk is full, and goes on when there is room.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use casklog::{Error, Options, RecoveryMode, Store};

use crate::figures::Figure;
use crate::host::{self, Mount, Total, run, text};
use crate::lives::{self, Kind, Life, Model, Rng, Series, Task, Value};

const STEPS: u64 = 4;

fn steps() -> u64 {
    host::number("CASKLOG_SPACE_STEPS").unwrap_or(STEPS)
}

/// What takes the rest of a disk.
enum Ballast {
    /// A file; so many KiB stay free.
    Bytes(u64),
    /// Empty files; so many inodes stay free.
    Inodes(u64),
}

impl Ballast {
    fn load(&self, mount: &Path) -> Result<PathBuf, String> {
        let at = mount.join("ballast");
        std::fs::create_dir(&at).map_err(|e| e.to_string())?;
        match self {
            Ballast::Bytes(left) => {
                let output = Command::new("stat").args(["-f", "-c", "%a %S", text(mount)]).output();
                let output = output.map_err(|e| e.to_string())?.stdout;
                let output = String::from_utf8_lossy(&output);
                let numbers: Vec<u64> = output.split_whitespace().filter_map(|word| word.parse().ok()).collect();
                let [blocks, size] = numbers[..] else { return Err(format!("stat says {output:?}")) };
                let bytes = (blocks * size).saturating_sub(left * 1024);
                // Blocks of the file's own map may be the last ones.
                let tries = [0, 16, 64, 256].into_iter().map(|less| bytes.saturating_sub(less * 1024).to_string());
                let mut tried = Ok(());
                for bytes in tries {
                    if bytes == "0" {
                        break;
                    }
                    tried = run("fallocate", &["-l", &bytes, text(&at.join("file"))]);
                    if tried.is_ok() {
                        break;
                    }
                }
                tried?;
            }
            Ballast::Inodes(left) => {
                let mut count = 0_u64;
                while std::fs::write(at.join(count.to_string()), "").is_ok() {
                    count += 1;
                }
                for file in count.saturating_sub(*left)..count {
                    std::fs::remove_file(at.join(file.to_string())).map_err(|e| e.to_string())?;
                }
            }
        }
        Ok(at)
    }
}

fn options(dir: &Path, rng: &mut Rng) -> Options {
    Options::new(dir)
        .mapped(rng.percent(50))
        .segment_bytes(1 << (15 + rng.below(4)))
        .segment_entries(10 + rng.below(200))
        .cache_bytes(0)
}

fn is_full(error: &Error) -> bool {
    match error {
        Error::NoSpace { .. } => true,
        Error::ReadOnly { cause } => is_full(cause),
        Error::Io { source, .. } => {
            let source = std::error::Error::source(source).and_then(|source| source.downcast_ref::<std::io::Error>());
            source.is_some_and(|source| source.kind() == std::io::ErrorKind::StorageFull)
        }
        _ => false,
    }
}

/// Whether all that was acknowledged is there, and nothing else.
fn check(store: &Store, written: u64, in_doubt: bool) -> Result<(), String> {
    let mut found = 0;
    for entry in store.iter() {
        let entry = entry.map_err(|e| format!("iter: {e}"))?;
        found += 1;
        let bytes = value(found);
        let is_right = entry.index() == found && entry.bytes().is_ok_and(|found| found == bytes);
        if !is_right {
            return Err(format!("entry {found} is not there as it was written, but {}", entry.index()));
        }
    }
    if found == written || in_doubt && found == written + 1 {
        return Ok(());
    }
    Err(format!("{written} entries were acknowledged, {found} are there"))
}

fn value(index: u64) -> Vec<u8> {
    let mut rng = Rng::new(&[index]);
    vec![index as u8; rng.below(3000) as usize]
}

/// Writes until something other than success; says what.
fn write_on(store: &Store, written: &mut u64, most: u64) -> Option<Error> {
    for _ in 0..most {
        if let Err(error) = store.write_bytes(*written + 1, "key", value(*written + 1)) {
            return Some(error);
        }
        *written += 1;
    }
    None
}

#[derive(Debug, Default)]
struct Filled {
    rounds: u64,
    entries: u64,
    /// Writes that found no room and left the store as it was.
    no_space: u64,
    /// Opens of a full disk, and those of them that failed for want of room, and left the log as it was.
    opens: u64,
    opens_failed: u64,
    /// Full logs that went on writing through the same handle when there was room again.
    went_on: u64,
}

/// One log on a disk that is full up to `ballast`, then reopened, then given room.
fn fill(mount: &Path, ballast: &Ballast, rng: &mut Rng, filled: &mut Filled) -> Result<(), String> {
    let dir = mount.join("log");
    let options = options(&dir, rng);
    // A log that is there already meets the full disk as well as a new one.
    let mut written = 0;
    if rng.percent(50) {
        let store = options.clone().open().map_err(|e| format!("open: {e}"))?;
        if let Some(error) = write_on(&store, &mut written, 1 + rng.below(100)) {
            return Err(format!("there is room, and a write says {error}"));
        }
        store.close().map_err(|e| format!("close: {e}"))?;
    }
    let loaded = ballast.load(mount)?;
    filled.rounds += 1;
    let mut in_doubt = false;
    for _ in 0..3 {
        filled.opens += 1;
        let store = match options.clone().open() {
            Ok(store) => store,
            Err(error) if is_full(&error) => {
                filled.opens_failed += 1;
                if written > 0 {
                    let reader = options.clone().allow_read_only(true).open().map_err(|e| format!("read only: {e}"))?;
                    check(&reader, written, in_doubt)?;
                }
                break;
            }
            Err(error) => return Err(format!("open of a full disk: {error}")),
        };
        check(&store, written, in_doubt)?;
        written = store.last_index().unwrap_or(written);
        in_doubt = false;
        for _ in 0..3 {
            match write_on(&store, &mut written, 2000) {
                None => break,
                Some(Error::NoSpace { .. }) => {
                    filled.no_space += 1;
                    store.writable().map_err(|e| format!("NoSpace stopped the store: {e}"))?;
                }
                Some(error) => return Err(format!("a write says {error}")),
            }
            check(&store, written, false)?;
        }
        match store.close() {
            Ok(()) => {}
            Err(error) => return Err(format!("close says {error}")),
        }
    }
    // Open while it is full, and go on when there is room.
    let full = options.clone().open().ok();
    std::fs::remove_dir_all(loaded).map_err(|e| e.to_string())?;
    if let Some(store) = full.filter(|store| store.writable().is_ok()) {
        written = store.last_index().unwrap_or(0).max(written);
        let error = write_on(&store, &mut written, 20);
        if let Some(error) = error {
            return Err(format!("there is room again, and a write says {error}"));
        }
        filled.went_on += 1;
        in_doubt = false;
        store.close().map_err(|e| format!("close: {e}"))?;
    }
    let store = options.clone().recovery(RecoveryMode::TornTail).open().map_err(|e| format!("last open: {e}"))?;
    check(&store, written, in_doubt)?;
    written = store.last_index().unwrap_or(written);
    filled.entries += written;
    if let Some(error) = write_on(&store, &mut written, 5) {
        return Err(format!("the last write says {error}"));
    }
    store.close().map_err(|e| format!("last close: {e}"))?;
    std::fs::remove_dir_all(dir).map_err(|e| e.to_string())
}

/// Children of several threads on the full disk; the log is compared when there is room again.
fn children(mount: &Path, ballast: &Ballast, seed: u64, series: u64, total: &mut Total) -> Result<(), String> {
    let settings = Series::new(Kind::Fault, seed, series);
    let mut model = Model::new(Value::seed(seed, series), settings);
    for round in 0..2 {
        let task = Task { dir: mount.join("log"), kind: Kind::Fault, seed, series, round };
        let plan = task.plan();
        let place = |why: String| format!("series {series}, round {round}: {why}\n{plan:?}");
        let loaded = ballast.load(mount).map_err(place)?;
        let end = Life::start(&task, &[])?.end()?;
        std::fs::remove_dir_all(loaded).map_err(|e| e.to_string())?;
        judge(&task, &end, true, &mut model, total).map_err(place)?;
    }
    total.add(&model);
    std::fs::remove_dir_all(mount.join("log")).map_err(|e| e.to_string())
}

/// What a child said that met no room, and what it left.
fn judge(task: &Task, end: &lives::End, verifies: bool, model: &mut Model, total: &mut Total) -> Result<(), String> {
    let said = lives::tell(&end.lines, None, model)?;
    total.rounds += 1;
    total.early += u64::from(!said.began);
    total.closed += u64::from(said.closed);
    total.stopped += u64::from(said.stopped.is_some());
    if let Some(error) = said.error.filter(|_| said.began) {
        return Err(format!("the child failed: {error}"));
    }
    if let Some(error) = said.read_failed {
        return Err(format!("a read failed after the store had stopped: {error}"));
    }
    if end.status.code().is_none_or(|code| code != 0 && code != 3) {
        return Err(format!("the child ended with {}: {}", end.status, end.errors));
    }
    if verifies {
        total.torn += u64::from(lives::verify(&task.dir, &task.plan(), task.round, said.closed, model)?);
    }
    Ok(())
}

fn on_a_full_disk(name: &str, mount: &Mount, ballasts: impl Iterator<Item = Ballast>) {
    let (seed, start) = (host::seed(), Instant::now());
    let (mut rng, mut filled, mut total) = (Rng::new(&[seed, 5]), Filled::default(), Total::default());
    for (series, ballast) in ballasts.enumerate() {
        fill(&mount.0, &ballast, &mut rng, &mut filled)
            .and_then(|()| children(&mount.0, &ballast, seed, series as u64, &mut total))
            .unwrap_or_else(|why| host::fail("R15", &format!("{name}: step {series}: {why}"), seed, &[&mount.0]));
    }
    println!("R15 {name}: {filled:?}");
    // The time is in the other figure.
    let (count, seconds) = (filled.rounds, 0.0);
    let detail = format!("{} went on when there was room", filled.went_on);
    Figure { row: "R15", what: name, counted: "full disks", count, violations: 0, seconds, detail }.record();
    total.close("R15", name, "lives", start, seed);
}

#[test]
fn a_full_tmpfs_loses_nothing_and_goes_on_when_there_is_room() {
    let name = "space::a_full_tmpfs_loses_nothing_and_goes_on_when_there_is_room";
    host::in_namespace("R15", name, &["fallocate", "stat"], || {
        let workshop = host::workshop();
        let mount = Mount::new(&["-t", "tmpfs", "-o", "size=16m,nr_inodes=200", "tmpfs"], &workshop.path().join("m"))
            .expect("a tmpfs");
        on_a_full_disk("tmpfs, pages", &mount, (0..steps()).map(|step| Ballast::Bytes(4 * (step * 37 % 300))));
        on_a_full_disk("tmpfs, inodes", &mount, (0..steps()).map(|step| Ballast::Inodes(step * 7 % 25)));
        mount.end().expect("nobody uses it");
    });
}

fn on_a_small_image(name: &str, tool: &str, args: &[&str], size: &str) {
    host::in_namespace("R15", name, &[tool, "fallocate", "stat"], || {
        let workshop = host::workshop();
        let image = workshop.path().join("image");
        run("truncate", &["-s", size, text(&image)]).expect("an image");
        run(tool, &[args, &[text(&image)]].concat()).expect("a file system");
        let mount = Mount::new(&["-o", "loop", text(&image)], &workshop.path().join("m")).expect("a mount");
        on_a_full_disk(
            tool.trim_start_matches("mkfs."),
            &mount,
            (0..steps()).map(|step| Ballast::Bytes(8 * (step * 37 % 200))),
        );
        mount.end().expect("nobody uses it");
    });
}

#[test]
fn a_full_ext4_loses_nothing_and_goes_on_when_there_is_room() {
    let name = "space::a_full_ext4_loses_nothing_and_goes_on_when_there_is_room";
    on_a_small_image(name, "mkfs.ext4", &["-q", "-F", "-m", "0"], "24M");
}

#[test]
fn a_full_xfs_loses_nothing_and_goes_on_when_there_is_room() {
    let name = "space::a_full_xfs_loses_nothing_and_goes_on_when_there_is_room";
    on_a_small_image(name, "mkfs.xfs", &["-q", "-f"], "320M");
}

/// Files that may not grow beyond a limit, in a process that ignores the signal that comes with it.
#[test]
fn a_limit_on_the_size_of_files_loses_nothing() {
    if let Some(why) = host::missing(&["prlimit", "env"]) {
        return host::skip("R15", "RLIMIT_FSIZE", &why);
    }
    let (seed, start, mut total) = (host::seed(), Instant::now(), Total::default());
    for series in 0..steps() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut model = Model::new(Value::seed(seed, series), Series::new(Kind::Fault, seed, series));
        for round in 0..2 {
            let limit = Rng::new(&[seed, series, round]).below(300_000);
            let wrapper = ["env", "--ignore-signal=XFSZ", "prlimit", &format!("--fsize={limit}")].map(str::to_owned);
            let task = Task { dir: dir.path().join("log"), kind: Kind::Fault, seed, series, round: round as u32 };
            Life::start(&task, &wrapper)
                .and_then(Life::end)
                .and_then(|end| judge(&task, &end, true, &mut model, &mut total))
                .unwrap_or_else(|why| {
                    let place = format!("{limit} bytes, series {series}, round {round}");
                    host::fail("R15", &format!("{place}: {why}\n{:?}", task.plan()), seed, &[dir.path()])
                });
        }
        total.add(&model);
    }
    total.close("R15", "RLIMIT_FSIZE", "lives", start, seed);
}
