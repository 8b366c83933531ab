//! What must hold of a log with damaged, missing or foreign bytes, in every recovery mode (I9, I13, I15).

use std::collections::BTreeMap;
use std::path::Path;

use casklog::fs::sim::{Fate, SimFs};
use casklog::{Entry, Error, LogItem, RecoveryMode, Store};

use super::model::{Item, Model};
use super::runner::Setup;

pub(crate) const MODES: [RecoveryMode; 4] =
    [RecoveryMode::Strict, RecoveryMode::TornTail, RecoveryMode::PointInTime, RecoveryMode::Salvage];

/// A log that a test damages, and what it held before.
pub(crate) struct Log {
    pub(crate) fs: SimFs,
    pub(crate) setup: Setup,
    pub(crate) model: Model,
    /// Entries that a truncation took. They are seen again where it is lost, or lies behind the end that is left.
    pub(crate) former: BTreeMap<u64, Item>,
}

/// What a running system sees, on a file system of its own.
pub(crate) fn copy(fs: &SimFs) -> SimFs {
    fs.crash_at(fs.ops(), &mut |_| Fate::Kept)
}

impl Log {
    pub(crate) fn damaged(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> SimFs {
        let fs = copy(&self.fs);
        let mut bytes = fs.read_file(path).unwrap();
        change(&mut bytes);
        fs.write_file(path, &bytes);
        fs
    }

    pub(crate) fn open(&self, fs: &SimFs, mode: RecoveryMode) -> Result<Store, Error> {
        self.setup.options(fs).recovery(mode).open()
    }

    /// Opens in one mode and checks what that mode promises. Says whether damage was reported anywhere.
    pub(crate) fn examine(&self, fs: &SimFs, mode: RecoveryMode, words: &str) -> bool {
        let fs = copy(fs);
        let before = copy(&fs);
        let store = match self.open(&fs, mode) {
            Ok(store) => store,
            Err(error) => {
                let is_typed = matches!(error, Error::Damaged { .. } | Error::Missing { .. } | Error::TornTail { .. });
                let is_typed = is_typed || matches!(error, Error::Unsupported { .. });
                assert!(is_typed, "{words}, {mode:?}: {error:?}");
                assert!(fs.same_bytes(&before), "{words}, {mode:?}: a failed open changed a file");
                let may_fail = !matches!(mode, RecoveryMode::PointInTime | RecoveryMode::Salvage);
                assert!(may_fail || matches!(error, Error::Unsupported { .. }), "{words}, {mode:?}: {error:?}");
                return true;
            }
        };
        let report = store.recovery_report().clone();
        let mut is_reported = report.is_damaged();
        let (mut missing, mut is_read) = (Vec::new(), false);
        // A truncation in a lost segment is known by the segment behind it, if that is not lost too.
        let is_last = |number| store.segments().last().is_none_or(|last| last.number <= number);
        let is_unknown = report.damage.len() > 1 || report.damage.iter().any(|damage| is_last(damage.segment));
        let former_may_be_back = match mode {
            RecoveryMode::PointInTime => report.is_damaged(),
            RecoveryMode::Salvage => is_unknown,
            _ => false,
        };
        let former = |index| self.former.get(&index).filter(|_| former_may_be_back);
        for (index, item) in self.model.items.iter().filter(|(_, item)| !item.is_deleted) {
            match store.get(*index) {
                Ok(Some(entry)) => {
                    let shows = |item: &Item| {
                        let same = entry.key() == item.key && entry.bytes().is_ok_and(|bytes| bytes == item.value);
                        same && entry.position() == item.position
                    };
                    let is_true = shows(item) || former(*index).is_some_and(shows);
                    assert!(is_true, "{words}, {mode:?}: wrong data for {index}");
                }
                Ok(None) => missing.push(*index),
                Err(Error::Damaged { .. } | Error::Lost { .. } | Error::Missing { .. }) => is_read = true,
                Err(error) => panic!("{words}, {mode:?}: get({index}): {error:?}"),
            }
        }
        is_reported |= is_read;
        assert!(missing.is_empty() || is_reported, "{words}, {mode:?}: {missing:?} are silently gone: {report:?}");
        match mode {
            RecoveryMode::Salvage => {
                // In a gap get is an error, and what stands in other segments is there.
                // Behind the last entry that can be read nobody knows which indexes there were.
                let is_open = report.damage.iter().any(|damage| damage.indexes.is_none());
                for index in &missing {
                    let is_behind = store.last_index().is_none_or(|last| *index > last);
                    assert!(is_open && is_behind, "{words}: salvage: get({index}) is None: {report:?}");
                }
                assert!(store.writable().is_ok(), "{words}: salvage does not write");
            }
            RecoveryMode::PointInTime if report.is_damaged() => {
                assert!(matches!(store.writable(), Err(Error::ReadOnly { .. })), "{words}: it writes");
                assert!(matches!(store.append("k", "v"), Err(Error::ReadOnly { .. })), "{words}: it writes");
                // It ends before the damage: what is there is a prefix of the log.
                let first = missing.first().copied().unwrap_or(u64::MAX);
                let above = self.model.items.range(first..).filter(|(_, item)| !item.is_deleted);
                assert_eq!(missing.len(), above.count().min(missing.len()), "{words}");
                assert!(store.last_index().is_none_or(|last| last < first), "{words}: behind the damage");
            }
            _ => assert!(missing.is_empty(), "{words}, {mode:?}: {missing:?} are gone: {report:?}"),
        }
        for entry in store.iter() {
            match entry {
                Ok(entry) => self.is_true(&entry, former(entry.index()), words),
                Err(Error::Damaged { .. } | Error::Lost { .. } | Error::Missing { .. }) => is_reported = true,
                Err(error) => panic!("{words}, {mode:?}: iter: {error:?}"),
            }
        }
        for item in store.log_order() {
            match item {
                Ok(LogItem::Entry(entry)) => {
                    self.is_true(&entry, former(entry.index()), words);
                }
                Ok(_) => {}
                Err(Error::Damaged { .. } | Error::Lost { .. } | Error::Missing { .. }) => is_reported = true,
                Err(error) => panic!("{words}, {mode:?}: log_order: {error:?}"),
            }
        }
        // What one way to read reports, all do.
        if is_read && !report.is_damaged() {
            let verified = store.verify();
            let is_found = verified.as_ref().map_or(true, |verified| verified.is_damaged());
            assert!(is_found, "{words}, {mode:?}: get reports damage, verify does not: {verified:?}");
            assert!(store.iter().any(|entry| entry.is_err()), "{words}, {mode:?}: get reports damage, iter does not");
        }
        if mode == RecoveryMode::PointInTime && report.is_damaged() {
            store.close().unwrap();
            assert!(fs.same_bytes(&before), "{words}: a read-only open changed a file");
        }
        is_reported
    }

    fn is_true(&self, entry: &Entry, former: Option<&Item>, words: &str) {
        let (index, value) = (entry.index(), entry.bytes().unwrap_or_default());
        let is_new = self.model.next.is_some_and(|next| index >= next);
        let mut items = self.model.items.get(&index).into_iter().chain(former);
        assert!(is_new || items.any(|item| item.value == value), "{words}: {index} is made up");
    }

    /// All modes. `must`: the damage must be reported in each. What any mode reports, strict open refuses.
    pub(crate) fn examine_all(&self, fs: &SimFs, must: bool, words: &str) {
        let reported = MODES.map(|mode| (mode, self.examine(fs, mode, words)));
        for (mode, is_reported) in reported {
            assert!(is_reported || !must, "{words}: not reported in {mode:?}");
            assert!(reported[0].1 || !is_reported, "{words}: reported in {mode:?}, not by a strict open");
        }
    }
}
