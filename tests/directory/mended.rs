//! R30: what `Repair` leaves of a damaged log.

use std::ops::Range;
use std::path::{Path, PathBuf};

use casklog::fs::sim::SimFs;
use casklog::{Error, RecoveryMode, RepairReport, Store};

use crate::by_force::append;
use crate::logs::{DIR, Logs, files, segment};
use crate::support::damage::copy;

/// Runs `Repair` on a copy and checks what it promises: a dry run says the same and changes nothing; what was replaced
/// lies in quarantine, byte for byte, and no byte is gone; undone, all is what it was; the log opens in the strictest
/// mode and can be written to. Where these bytes of one file were damaged and nothing else, every entry elsewhere is
/// there at its old position, and what is not is named.
pub(crate) fn repairs(logs: &Logs, fs: &SimFs, words: &str, damaged: Option<(&PathBuf, Range<usize>)>, blocks: bool) {
    let words = &format!("{words}, repaired");
    let (fs, before) = (copy(fs), files(fs));
    let disk_before = copy(&fs);
    let planned = logs.log.setup.options(&fs).repair().dry_run(true).run();
    let mut now = files(&fs);
    // It takes the lock, and makes its file where there is none.
    now.retain(|path, _| before.contains_key(path) || !path.ends_with("segment_lock"));
    assert_eq!(now, before, "{words}: a dry run changes nothing");
    let report = match logs.log.setup.options(&fs).repair().run() {
        Ok(report) => report,
        // There is nothing to repair, or something in the way that is no file.
        Err(Error::NotFound { .. }) => return,
        Err(Error::Io { .. }) if blocks || before.contains_key(Path::new("/db/segment_quarantine")) => {
            logs.lose_nothing(&disk_before, &fs, words);
            return;
        }
        Err(error) => panic!("{words}: {error:?}"),
    };
    let planned = planned.unwrap_or_else(|error| panic!("{words}: dry: {error:?}"));
    assert_eq!(planned.segments, report.segments, "{words}: a dry run says what is done");
    logs.lose_nothing(&disk_before, &fs, words);
    let now = files(&fs);
    let replaced = report.segments.iter().map(|segment| &segment.path);
    for path in replaced.filter(|path| before.contains_key(*path)) {
        let folder = Path::new(DIR).join("segment_quarantine");
        let is_kept = now.iter().any(|(kept, bytes)| kept.starts_with(&folder) && *bytes == before[path]);
        assert!(is_kept, "{words}: {} is not in quarantine", path.display());
    }
    let undone = copy(&fs);
    logs.log.setup.options(&undone).repair().undo().unwrap_or_else(|error| panic!("{words}: undo: {error:?}"));
    let after = files(&undone);
    before.iter().for_each(|(path, bytes)| assert_eq!(after.get(path), Some(bytes), "{words}: undone"));
    for mode in [RecoveryMode::TornTail, RecoveryMode::Strict] {
        let store = logs.log.open(&fs, mode).unwrap_or_else(|error| panic!("{words}, {mode:?}: {error:?}"));
        assert!(!store.recovery_report().is_damaged(), "{words}: {:?}", store.recovery_report());
        if let Some((path, bytes)) = &damaged {
            keeps_the_rest(logs, &store, &report, (path, bytes.clone()), words);
        }
        append(&store, words);
        store.close().unwrap();
    }
    let again = logs.log.setup.options(&fs).repair().run().unwrap();
    assert!(!again.is_damaged(), "{words}: again: {again:?}");
    logs.lose_nothing(&disk_before, &fs, words);
}

fn keeps_the_rest(logs: &Logs, store: &Store, report: &RepairReport, damaged: (&Path, Range<usize>), words: &str) {
    let items = &logs.log.model.items;
    for (index, item) in items.iter().filter(|(_, item)| !item.is_deleted) {
        let (number, start) = (item.position.segment(), item.position.offset() as usize);
        let behind = items.values().filter(|other| other.position > item.position).map(|other| other.position);
        let end = behind.filter(|other| other.segment() == number).map(|other| other.offset() as usize).min();
        let is_hurt =
            segment(number) == damaged.0 && damaged.1.start < end.unwrap_or(usize::MAX) && damaged.1.end > start;
        let found = store.get(*index);
        match &found {
            Ok(Some(entry)) => {
                let is_same = entry.bytes().is_ok_and(|bytes| bytes == item.value) && entry.key() == item.key;
                // What was lost at the end is written anew.
                let is_new = is_hurt && number == logs.last && entry.bytes().is_ok_and(|bytes| bytes == b"new");
                assert!(is_new || is_same && entry.position() == item.position, "{words}: {index} is wrong");
            }
            Err(Error::Lost { segment }) if is_hurt => {
                let told = report.segments.iter().filter(|told| told.number == *segment).flat_map(|told| &told.lost);
                let mut indexes = told.flat_map(|lost| &lost.indexes);
                assert!(indexes.any(|(first, last)| (first..=last).contains(&index)), "{words}: {index}: {report:?}");
            }
            other => panic!("{words}: {index}: {other:?}: {report:?}"),
        }
    }
}
