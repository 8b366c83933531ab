//! R30: what `UnsafeRecover` and `Salvage` leave of a damaged log.

use std::path::{Path, PathBuf};
use std::time::Instant;

use casklog::fs::sim::SimFs;
use casklog::{Error, RecoveryMode, Store};

use crate::figures::record;
use crate::logs::{DIR, Kind, Logs, each, files, segment};
use crate::mended::repairs;
use crate::support::damage::copy;
use crate::support::model::{Item, Numbers};

/// Runs `UnsafeRecover` on a copy and checks what it promises: the log opens; what was dropped lies in quarantine, byte
/// for byte; unless the log is not the one it was, every entry elsewhere is there at its old position; nothing comes back that was truncated; no byte is gone.
pub(crate) fn recovers(logs: &Logs, fs: &SimFs, words: &str, undecidable: Option<bool>, blocks: bool) {
    let words = &format!("{words}, by force");
    let (fs, before) = (copy(fs), files(fs));
    let disk_before = copy(&fs);
    let dropped = match logs.log.setup.options(&fs).unsafe_recover() {
        Ok(dropped) => dropped,
        // There is nothing to recover, or something in the way that is no file.
        Err(Error::NotFound { .. }) => return,
        Err(Error::Io { .. }) if blocks || before.contains_key(Path::new("/db/segment_quarantine")) => {
            logs.lose_nothing(&disk_before, &fs, words);
            return;
        }
        Err(error) => panic!("{words}: {error:?}"),
    };
    logs.lose_nothing(&disk_before, &fs, words);
    let now = files(&fs);
    for path in dropped.iter().filter(|path| before.contains_key(*path)) {
        let folder = Path::new(DIR).join("segment_quarantine");
        let is_kept = now.iter().any(|(kept, bytes)| kept.starts_with(&folder) && *bytes == before[path]);
        assert!(is_kept, "{words}: {} is not in quarantine", path.display());
    }
    assert_eq!(logs.log.setup.options(&fs).unsafe_recover().unwrap(), [] as [PathBuf; 0], "{words}: again");
    for round in 0..2 {
        let mode = if round == 0 { RecoveryMode::TornTail } else { RecoveryMode::Strict };
        let store = logs.log.open(&fs, mode).unwrap_or_else(|error| panic!("{words}, {mode:?}: {error:?}"));
        assert!(!store.recovery_report().is_damaged(), "{words}: {:?}", store.recovery_report());
        if let Some(undecidable) = undecidable {
            compare(logs, &store, &dropped, undecidable, words);
        }
        append(&store, words);
        store.close().unwrap();
    }
    logs.lose_nothing(&disk_before, &fs, words);
}

pub(crate) fn append(store: &Store, words: &str) {
    match store.append_bytes("new", "new") {
        // A file of the highest number uses them all up.
        Err(Error::InvalidOption { .. }) if words.contains("4294967295") => {}
        other => drop(other.unwrap_or_else(|error| panic!("{words}: {error:?}"))),
    }
}

fn compare(logs: &Logs, store: &Store, dropped: &[PathBuf], undecidable: bool, words: &str) {
    let model = &logs.log.model;
    let is_dropped = |number: u64| dropped.contains(&segment(number));
    for (index, item) in &model.items {
        let number = item.position.segment();
        let found = store.get(*index);
        match &found {
            Ok(Some(entry)) => {
                // The deletion stands in the third segment, and what may be new stands behind the last entry.
                let may_be = !item.is_deleted || is_dropped(3) || undecidable;
                // Of the last segments nobody else knows the truncations, where they cannot be read.
                let shows = |item: &Item| {
                    let same = entry.bytes().is_ok_and(|bytes| bytes == item.value) && entry.key() == item.key;
                    same && entry.position() == item.position
                };
                let is_former =
                    logs.log.former.get(index).is_some_and(shows) && (undecidable || (3..=logs.last).all(is_dropped));
                let is_new = entry.bytes().is_ok_and(|bytes| bytes == b"new");
                assert!(shows(item) && may_be || is_former || is_new, "{words}: {index} is wrong");
            }
            Ok(None) => {
                let at_end = number == logs.last && (is_dropped(number) || undecidable);
                assert!(item.is_deleted || undecidable || at_end, "{words}: {index} is gone");
            }
            Err(Error::Lost { segment }) => assert!(is_dropped(*segment), "{words}: {index}: {found:?}"),
            Err(error) => panic!("{words}: {index}: {error:?}"),
        }
    }
}

/// The damage of R5, R6 and R7, of one segment or the manifest.
fn damages(logs: &Logs) -> Vec<(PathBuf, &'static str, usize, usize)> {
    let mut all = Vec::new();
    let is_whole = std::env::var_os("CASKLOG_R30").is_some();
    let sizes = [("flip", if is_whole { 1 } else { 23 }), ("zero", if is_whole { 1 } else { 67 }), ("cut", 1)];
    for path in logs.names().into_iter().filter(|path| !path.ends_with("segment_lock")) {
        let length = logs.log.fs.read_file(&path).unwrap().len();
        let used =
            (1..=logs.last).find(|number| segment(*number) == path).map_or(length.min(4200), |n| logs.end(n) as usize);
        for (what, step) in sizes {
            let step = if what == "cut" && !is_whole { 41 } else { step };
            all.extend((0..used).step_by(step).map(|at| (path.clone(), what, at, step)));
        }
        all.extend((0..used).step_by(512).map(|at| (path.clone(), "sector", at, 512)));
    }
    all
}

#[test]
fn r30_a_damaged_log_is_had_back_by_force_and_by_salvage() {
    let (started, mut count) = (Instant::now(), 0);
    for kind in Kind::ALL {
        let logs = Logs::new(kind);
        let all = damages(&logs);
        each(&all, |(path, what, at, length)| {
            let words = format!("{}: {} {what} at {at}", logs.words, path.display());
            let fs = logs.log.damaged(path, |bytes| {
                let to = bytes.len().min(at + length);
                match *what {
                    "flip" => bytes[*at] ^= 1 << (at % 8),
                    "zero" => bytes[*at..to].fill(0),
                    "sector" => bytes[*at..to].copy_from_slice(&Numbers(*at as u64).bytes(to - at)),
                    _ => bytes.truncate(*at),
                }
            });
            // Without its last watermark a killed log does not know how far it reached.
            let (last, end) = (segment(logs.last), logs.end(logs.last));
            let undecidable = kind != Kind::Closed && *path == last && (*what != "flip" || *at as u64 + 60 > end);
            recovers(&logs, &fs, &words, Some(undecidable), false);
            let damaged = if *what == "cut" { *at..usize::MAX } else { *at..at + length };
            let is_known = !undecidable && (kind == Kind::Closed || *path != last);
            repairs(&logs, &fs, &words, is_known.then_some((path, damaged)), false);
            salvages(&logs, &fs, &words);
        });
        count += all.len() as u64;
    }
    record("R30", "damaged logs", count, started);
}

/// A salvaged log is written to, and opens again to the same; nothing is taken from the disk.
fn salvages(logs: &Logs, fs: &SimFs, words: &str) {
    let fs = copy(fs);
    let before = copy(&fs);
    let words = &format!("{words}, salvaged");
    let mut shown = Vec::new();
    for round in 0..2 {
        let store = logs.log.open(&fs, RecoveryMode::Salvage).unwrap_or_else(|error| panic!("{words}: {error:?}"));
        let seen: Vec<_> = logs.log.model.items.keys().map(|index| see(&store, *index)).collect();
        assert!(round == 0 || shown == seen, "{words}: {shown:?}, then {seen:?}");
        shown = seen;
        let index = 1000 + round;
        store.write_bytes(index, "new", "new").unwrap_or_else(|error| panic!("{words}: {error:?}"));
        store.close().unwrap();
    }
    logs.lose_nothing(&before, &fs, words);
}

fn see(store: &Store, index: u64) -> Option<Vec<u8>> {
    store.get(index).ok().flatten().map(|entry| entry.bytes().unwrap().to_vec())
}

/// What the last segment had truncated no other one tells.
#[test]
fn what_the_last_segment_had_truncated_stays_so_where_it_can_be_read() {
    let logs = Logs::new(Kind::Young);
    let path = segment(logs.last);
    let (index, former) = logs.log.former.first_key_value().unwrap();
    let behind = logs.log.model.items[index].position.offset() as usize;
    let fs = logs.log.damaged(&path, |bytes| bytes[behind + 20] ^= 1);
    assert_eq!(logs.log.setup.options(&fs).unsafe_recover().unwrap(), [path]);
    let store = logs.log.open(&fs, RecoveryMode::Strict).unwrap();
    assert!(!matches!(store.get(*index), Ok(Some(_))), "{:?} is back", former.key);
    assert!(store.get(*index - 1).unwrap().is_some());
}
