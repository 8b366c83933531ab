//! Logs to damage, and what must hold of a log that was repaired.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use casklog::fs::sim::{Fate, SimFs};
use casklog::{Error, Options, Position, RecoveryMode, RepairReport, Store, SyncPolicy};

pub(crate) const DIR: &str = "/log";
/// The index of what is written after a repair.
pub(crate) const MORE: u64 = 100_000;

pub(crate) fn on(sim: &SimFs) -> Options {
    Options::new(DIR).fs(Arc::new(sim.clone())).background(false).mapped(false).sync(SyncPolicy::Immediate)
}

pub(crate) fn segment(number: u64) -> PathBuf {
    Path::new(DIR).join(format!("segment_{number:020}.log"))
}

/// What a running system sees, on a file system of its own.
pub(crate) fn copy(sim: &SimFs) -> SimFs {
    sim.crash_at(sim.ops(), &mut |_| Fate::Kept)
}

pub(crate) fn change(sim: &SimFs, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = sim.read_file(path).unwrap();
    change(&mut bytes);
    sim.write_file(path, &bytes);
}

/// Value and position of each live entry.
pub(crate) type Entries = BTreeMap<u64, (Vec<u8>, Position)>;

pub(crate) fn entries(store: &Store) -> Entries {
    let entry = |entry: casklog::Result<casklog::Entry>| match entry {
        Ok(entry) => Some((entry.index(), (entry.raw_value().to_vec(), entry.position()))),
        Err(Error::Lost { .. }) => None,
        Err(error) => panic!("{error}"),
    };
    store.iter().filter_map(entry).collect()
}

/// The files in a directory, byte for byte.
fn files_in(sim: &SimFs, dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = sim.list_all().into_iter().map(|path| Path::new("/").join(path));
    paths
        .filter(|path| path.parent() == Some(dir))
        .filter_map(|path| Some((path.clone(), sim.read_file(&path)?)))
        .collect()
}

/// All segment files, the manifest and the lock.
pub(crate) fn files(sim: &SimFs) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = files_in(sim, Path::new(DIR));
    assert!(!files.is_empty());
    files
}

pub(crate) fn quarantined(sim: &SimFs) -> Vec<Vec<u8>> {
    files_in(sim, &Path::new(DIR).join("segment_quarantine")).into_values().collect()
}

/// Repairs, and checks all that must hold whatever was damaged: a dry run says the same and changes nothing; what was
/// replaced lies in quarantine; the log opens in the strictest mode; each entry that is there is what and where it was;
/// an entry that is not is `Lost`, and the report names it; writing goes on. Returns the report and what is lost.
pub(crate) fn repaired(sim: &SimFs, before: &Entries, words: &str) -> (RepairReport, Vec<u64>) {
    let damaged = files(sim);
    let planned = on(sim).repair().dry_run(true).run().unwrap_or_else(|error| panic!("{words}: {error}"));
    assert_eq!(files(sim), damaged, "{words}: a dry run changes nothing");
    let report = on(sim).repair().run().unwrap_or_else(|error| panic!("{words}: {error}"));
    assert_eq!(
        (planned.segments.clone(), planned.returned.clone()),
        (report.segments.clone(), report.returned.clone())
    );
    let kept = quarantined(sim);
    for told in &report.segments {
        let is_kept = damaged.get(&told.path).is_none_or(|bytes| kept.contains(bytes));
        assert!(is_kept, "{words}: {} lies in quarantine", told.path.display());
    }
    let again = on(sim).repair().run().unwrap();
    assert!(!again.is_damaged(), "{words}: {again:?}");
    let lost = holds(sim, before, &report, words);
    (report, lost)
}

/// See [`repaired`].
pub(crate) fn holds(sim: &SimFs, before: &Entries, report: &RepairReport, words: &str) -> Vec<u64> {
    let mut lost = Vec::new();
    for round in 0..2 {
        let store = on(sim).recovery(RecoveryMode::Strict).open().unwrap_or_else(|error| panic!("{words}: {error}"));
        let opened = store.recovery_report();
        assert!(!opened.is_damaged() && opened.strays.is_empty(), "{words}: {opened:?}");
        lost.clear();
        for (index, (value, position)) in before {
            match store.get(*index) {
                Ok(Some(entry)) => {
                    assert_eq!((entry.raw_value(), entry.position()), (&value[..], *position), "{words}: {index}");
                    assert_eq!(store.read(*position).unwrap().unwrap().index(), *index, "{words}");
                }
                Err(Error::Lost { .. }) => {
                    lost.push(*index);
                    let read = store.read(*position);
                    assert!(matches!(read, Err(Error::Lost { .. })), "{words}: {index}: {read:?}");
                }
                other => panic!("{words}: {index}: {other:?}"),
            }
        }
        let mut there: Vec<u64> = store.iter().filter_map(|entry| Some(entry.ok()?.index())).collect();
        there.retain(|index| !report.returned.contains(index));
        let expected: Vec<u64> = before.keys().copied().filter(|index| !lost.contains(index)).collect();
        assert_eq!(there, expected.into_iter().chain(MORE..MORE + round).collect::<Vec<_>>(), "{words}");
        assert!(!store.verify().unwrap().is_damaged(), "{words}");
        let named = |index: &u64| {
            report
                .segments
                .iter()
                .flat_map(|segment| &segment.lost)
                .any(|lost| lost.indexes.iter().any(|(first, last)| (*first..=*last).contains(index)))
        };
        assert!(lost.iter().all(named), "{words}: {lost:?}, {report:?}");
        store.write(MORE + round, "more", &round).unwrap();
        store.rotate().unwrap();
        store.close().unwrap();
    }
    lost
}

/// The indexes that the report names as lost, each exactly.
pub(crate) fn named(report: &RepairReport) -> Vec<u64> {
    let lost = report.segments.iter().flat_map(|segment| &segment.lost);
    lost.flat_map(|lost| &lost.indexes).flat_map(|(first, last)| *first..=*last).collect()
}
