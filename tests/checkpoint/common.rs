//! What the cases share: a log and its copy on one simulated disk.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use casklog::fs::Fs;
use casklog::fs::sim::SimFs;
use casklog::{Entry, LogItem, Options, Position, Reader, RecoveryMode, Store, SyncPolicy};

pub(crate) use crate::log::{indexes, write_each};

pub(crate) const LOG: &str = "log";
pub(crate) const COPY: &str = "copy";

/// A log in `dir` of small segments, each write durable.
pub(crate) fn at(sim: &SimFs, dir: &str) -> Options {
    Options::new(dir).fs(Arc::new(sim.clone())).background(false).segment_entries(5).sync(SyncPolicy::Immediate)
}

pub(crate) fn log(sim: &SimFs) -> Options {
    at(sim, LOG)
}

pub(crate) fn copy(sim: &SimFs) -> Options {
    at(sim, COPY)
}

pub(crate) fn segment(dir: &str, number: u64) -> PathBuf {
    Path::new(dir).join(format!("segment_{number:020}.log"))
}

/// A closed log of a bit of everything, in several segments.
pub(crate) fn filled() -> SimFs {
    let sim = SimFs::new();
    let store = log(&sim).open().unwrap();
    store.put_meta("name", b"value").unwrap();
    write_each(&store, 1..=22);
    store.delete(7).unwrap();
    store.truncate_after(18).unwrap();
    store.truncate_before(3).unwrap();
    write_each(&store, 19..=33);
    store.close().unwrap();
    sim
}

/// All that a log shows.
#[derive(Debug, PartialEq, Eq, Clone)]
pub(crate) struct Shown {
    pub(crate) entries: Vec<(u64, Position, Vec<u8>, Vec<u8>)>,
    items: Vec<(u64, Position)>,
    meta: BTreeMap<Vec<u8>, Vec<u8>>,
    ends: (Option<u64>, Option<u64>, Option<u64>),
}

fn seen(entry: &Entry) -> (u64, Position, Vec<u8>, Vec<u8>) {
    (entry.index(), entry.position(), entry.key().to_vec(), entry.raw_value().to_vec())
}

pub(crate) fn shown(reader: &Reader) -> Shown {
    let entries: Vec<_> = reader.iter().map(|entry| seen(&entry.unwrap())).collect();
    for entry in &entries {
        assert_eq!(seen(&reader.get(entry.0).unwrap().unwrap()), *entry);
    }
    let item = |item: casklog::Result<LogItem>| item.map(|item| (item.index(), item.position())).unwrap();
    Shown {
        entries,
        items: reader.log_order().map(item).collect(),
        meta: reader.all_meta(),
        ends: (reader.first_index(), reader.last_index(), reader.next_index()),
    }
}

/// What the copy shows, which opens as a log that was closed cleanly, and can be written to.
pub(crate) fn opens_clean(sim: &SimFs) -> Shown {
    let reader = copy(sim).recovery(RecoveryMode::Strict).open_read_only().unwrap();
    let report = reader.recovery_report();
    assert!(report.is_clean && report.strays.is_empty() && !report.is_manifest_lost, "{report:?}");
    assert_eq!((report.end, report.torn_tail.is_some()), (report.durable, false), "{report:?}");
    let verified = reader.verify().unwrap();
    assert!(!verified.is_damaged() && verified.footers_damaged.is_empty(), "{verified:?}");
    let found = shown(&reader);
    let later = sim.killed();
    let store = copy(&later).recovery(RecoveryMode::Strict).open().unwrap();
    let report = store.recovery_report();
    assert!(report.is_clean && report.removed.is_empty() && report.written_back_bytes == 0, "{report:?}");
    assert_eq!(shown(&store), found);
    let next = store.next_index().unwrap();
    write_each(&store, next..next + 12);
    store.close().unwrap();
    let store = copy(&later).recovery(RecoveryMode::Strict).open().unwrap();
    assert_eq!(store.last_index(), Some(next + 11));
    assert_eq!(store.len(), found.entries.len() as u64 + 12);
    found
}

/// The names of the files of a directory that are no lock, with what is in them.
pub(crate) fn files(sim: &SimFs, dir: &str) -> Vec<(String, Vec<u8>)> {
    let Ok(listed) = sim.list(Path::new(dir)) else { return Vec::new() };
    let names = listed.into_iter().filter(|entry| entry.is_file).map(|entry| entry.name.into_string().unwrap());
    let files = names.filter(|name| !name.ends_with("lock"));
    let mut files: Vec<_> =
        files.map(|name| (name.clone(), sim.read_file(&Path::new(dir).join(&name)).unwrap())).collect();
    files.sort();
    files
}

/// A log that goes on where [`filled`] ended: more segments, fewer at the beginning.
pub(crate) fn go_on(store: &Store) {
    let next = store.next_index().unwrap();
    write_each(store, next..next + 17);
    store.delete(next + 3).unwrap();
    store.truncate_before(next - 5).unwrap();
    store.put_meta("name", next.to_le_bytes()).unwrap();
}
