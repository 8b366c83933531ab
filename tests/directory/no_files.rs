//! R8 on a real file system: links, pipes, sockets and directories where files of the log should be, or will be.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use casklog::{Error, Options, RecoveryMode};
use tempfile::TempDir;

use crate::alone::takes_all;
use crate::figures::record;
use crate::logs::{Kind, Logs, each};
use crate::support::damage::MODES;

/// What stands where a file should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Thing {
    /// To the file that was there.
    Link,
    LinkToNothing,
    LinkToItself,
    Pipe,
    Socket,
    Directory,
    FullDirectory,
    /// A device that never ends.
    LinkToZeros,
}

const THINGS: [Thing; 8] = [
    Thing::Link,
    Thing::LinkToNothing,
    Thing::LinkToItself,
    Thing::Pipe,
    Thing::Socket,
    Thing::Directory,
    Thing::FullDirectory,
    Thing::LinkToZeros,
];

impl Thing {
    fn put(self, path: &Path, outside: &Path) {
        let old = fs::read(path).ok();
        let _ = fs::remove_file(path);
        match self {
            Thing::Link => {
                let target = outside.join("target");
                fs::write(&target, old.unwrap_or_default()).unwrap();
                symlink(target, path).unwrap();
            }
            Thing::LinkToNothing => symlink(outside.join("nothing"), path).unwrap(),
            Thing::LinkToItself => symlink(path, path).unwrap(),
            Thing::LinkToZeros => symlink("/dev/zero", path).unwrap(),
            Thing::Pipe => {
                rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap()
            }
            Thing::Socket => drop(UnixListener::bind(path).unwrap()),
            Thing::Directory => fs::create_dir(path).unwrap(),
            Thing::FullDirectory => {
                fs::create_dir(path).unwrap();
                fs::write(path.join("inside"), "inside").unwrap();
            }
        }
    }

    fn is_at(self, path: &Path) -> bool {
        let Ok(kind) = fs::symlink_metadata(path).map(|data| data.file_type()) else { return false };
        match self {
            Thing::Pipe => kind.is_fifo(),
            Thing::Socket => kind.is_socket(),
            Thing::Directory => kind.is_dir(),
            Thing::FullDirectory => path.join("inside").is_file(),
            _ => kind.is_symlink(),
        }
    }
}

fn options(dir: &Path) -> Options {
    Options::new(dir).background(false).mapped(false).segment_entries(3).segment_bytes(1 << 13)
}

/// In memory, where that is to be had: it is not about what survives.
fn tempdir() -> TempDir {
    let memory = Path::new("/dev/shm");
    let dir = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    tempfile::Builder::new().prefix("casklog-no-files-").tempdir_in(dir).unwrap()
}

/// The directory of a log on the real file system.
fn export(logs: &Logs, dir: &Path) {
    for path in logs.names() {
        fs::write(dir.join(path.file_name().unwrap()), logs.log.fs.read_file(&path).unwrap()).unwrap();
    }
}

fn is_typed(error: &Error) -> bool {
    matches!(
        error,
        Error::Damaged { .. }
            | Error::Missing { .. }
            | Error::TornTail { .. }
            | Error::Lost { .. }
            | Error::Io { .. }
            | Error::ReadOnly { .. }
    )
}

fn case(logs: &Logs, name: &str, thing: Thing, mode: Option<RecoveryMode>) {
    let words = &format!("{}: {name} is a {thing:?}, {mode:?}", logs.words);
    let (dir, outside) = (tempdir(), tempdir());
    export(logs, dir.path());
    let path = dir.path().join(name);
    let target = fs::read(&path).ok();
    thing.put(&path, outside.path());
    match mode {
        Some(mode) => opens(logs, dir.path(), mode, words),
        None => recovers(dir.path(), words),
    }
    let in_quarantine = || {
        let kept = fs::read_dir(dir.path().join("segment_quarantine")).ok();
        kept.is_some_and(|kept| kept.flatten().any(|entry| thing.is_at(&entry.path())))
    };
    // A manifest that is being made has a name of its own, which nobody else is to use.
    let is_ours = name == "segment_manifest.new";
    assert!(thing.is_at(&path) || in_quarantine() || is_ours, "{words}: it is not there any more");
    if thing == Thing::Link && name != "segment_lock" {
        let now = fs::read(outside.path().join("target")).unwrap();
        assert!(now == target.unwrap_or_default(), "{words}: what it leads to was changed");
    }
}

fn opens(logs: &Logs, dir: &Path, mode: RecoveryMode, words: &str) {
    if let Ok(reader) = options(dir).recovery(mode).open_read_only() {
        reader.iter().flatten().for_each(drop);
        reader.verify().unwrap();
    }
    let store = match options(dir).recovery(mode).open() {
        Ok(store) => store,
        Err(error) => return assert!(is_typed(&error), "{words}: {error:?}"),
    };
    let is_damaged = store.recovery_report().is_damaged();
    for (index, item) in logs.log.model.items.iter().filter(|(_, item)| !item.is_deleted) {
        match store.get(*index) {
            Ok(Some(entry)) => assert!(entry.bytes().is_ok_and(|bytes| bytes == item.value) || is_damaged, "{words}"),
            Ok(None) => assert!(is_damaged, "{words}: {index} is gone"),
            Err(error) => assert!(is_damaged && is_typed(&error), "{words}: {error:?}"),
        }
    }
    if store.writable().is_ok() {
        // Through the names of the next segments. One that is taken may cost a write, and no more.
        let refused = (0..12).filter(|_| match store.append_bytes("new", "new") {
            Ok(_) => false,
            Err(error) => {
                assert!(matches!(error, Error::Io { .. }), "{words}: {error:?}");
                true
            }
        });
        assert!(refused.count() <= 1, "{words}: writes fail");
    }
    store.close().unwrap_or_else(|error| panic!("{words}: {error:?}"));
    let again = options(dir).recovery(mode).open().unwrap_or_else(|error| panic!("{words}, again: {error:?}"));
    again.close().unwrap();
}

fn recovers(dir: &Path, words: &str) {
    match options(dir).unsafe_recover() {
        Ok(_) => {
            let store = options(dir).open();
            let store = store.map(|store| store.append_bytes("new", "new").map(|_| store.close()));
            assert!(matches!(store, Ok(Ok(Ok(())))), "{words}: {store:?}");
        }
        Err(error) => assert!(is_typed(&error), "{words}: {error:?}"),
    }
}

#[test]
fn r8_what_is_no_file_stops_no_process_and_is_left_alone() {
    let (started, (done, wait)) = (Instant::now(), mpsc::channel());
    // Whoever opens a pipe may wait for ever.
    std::thread::spawn(move || {
        let mut count = 0;
        for kind in [Kind::Closed, Kind::Killed] {
            let logs = Logs::new(kind);
            let cases = cases(&logs);
            each(&cases, |(name, thing, mode)| case(&logs, name, *thing, *mode));
            count += cases.len() as u64;
        }
        done.send(count).unwrap();
    });
    let seconds = 120 + 1000 * u64::from(takes_all());
    let count = wait.recv_timeout(Duration::from_secs(seconds)).expect("a case failed, or hangs");
    record("R8", "things that are no files", count, started);
}

/// Every name, every thing; every mode, or one in turn.
fn cases(logs: &Logs) -> Vec<(String, Thing, Option<RecoveryMode>)> {
    let names: Vec<PathBuf> = logs.names();
    let names = names.iter().map(|path| path.file_name().unwrap().to_str().unwrap());
    let next = (5..8).map(|number| format!("segment_{number:020}.log"));
    let others = ["segment_manifest.new", "segment_quarantine"].map(str::to_owned);
    let mut names: Vec<String> = names.map(str::to_owned).chain(next).chain(others).collect();
    names.sort();
    names.dedup();
    let modes = MODES.map(Some).into_iter().chain([None]);
    let all = names.iter().flat_map(|name| THINGS.map(|thing| (name, thing)));
    let all = all.enumerate().flat_map(|(place, (name, thing))| {
        let modes = modes.clone().enumerate().filter(move |(mode, _)| takes_all() || *mode == place % 5);
        modes.map(move |(_, mode)| (name.clone(), thing, mode))
    });
    all.collect()
}
