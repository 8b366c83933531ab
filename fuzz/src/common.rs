//! What several targets need.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use casklog::fs::sim::{Fate, SimFs};
use casklog::{Error, Options, Reader, RecoveryMode};

/// Where the logs stand.
pub(crate) const DIR: &str = "/log";

pub(crate) const MODES: [RecoveryMode; 4] =
    [RecoveryMode::Strict, RecoveryMode::TornTail, RecoveryMode::PointInTime, RecoveryMode::Salvage];

/// Index to key and value, as MessagePack.
pub(crate) type Entries = BTreeMap<u64, (Vec<u8>, Vec<u8>)>;

/// Without threads, so that the same input does the same.
pub(crate) fn options(fs: &SimFs) -> Options {
    Options::new(DIR).fs(Arc::new(fs.clone())).background(false).segment_bytes(1 << 16).preallocate(false).mapped(false)
}

pub(crate) fn path(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

/// What a running system sees, on a file system of its own.
pub(crate) fn copy(fs: &SimFs) -> SimFs {
    fs.crash_at(fs.ops(), &mut |_| Fate::Kept)
}

/// Whether an error says that something of the log is lost, and where.
pub(crate) fn is_loss(error: &Error) -> bool {
    if let Error::ReadOnly { cause } = error {
        return is_loss(cause);
    }
    matches!(error, Error::Damaged { .. } | Error::Missing { .. } | Error::Lost { .. } | Error::Unsupported { .. })
}

/// Reads everything in every way, and compares the ways. Entries that cannot be read are errors that say so; `true`
/// says that there were any.
pub(crate) fn look(log: &Reader) -> (Entries, bool) {
    look_at(log, false)
}

/// As [`look`]. Made-up records under right checksums may contradict each other; then the counts may, too.
pub(crate) fn look_at(log: &Reader, is_forged: bool) -> (Entries, bool) {
    let (mut entries, mut is_lossy) = (Entries::new(), false);
    for entry in log.iter() {
        match entry {
            Ok(entry) => {
                let last = entries.last_key_value().map(|(last, _)| *last);
                assert!(last.is_none_or(|last| last < entry.index()), "iter goes back at {}", entry.index());
                entries.insert(entry.index(), (entry.key().to_vec(), entry.raw_value().to_vec()));
                let read = log.read(entry.position());
                let same = |found: &casklog::Entry| found.index() == entry.index();
                assert!(read.is_ok_and(|found| found.as_ref().is_some_and(same)), "read of {}", entry.position());
            }
            Err(error) if is_loss(&error) => is_lossy = true,
            Err(error) => panic!("iter: {error:?}"),
        }
    }
    for (index, (key, value)) in &entries {
        match log.get(*index) {
            Ok(Some(entry)) => assert!(entry.key() == key && entry.raw_value() == value, "get({index}) differs"),
            other => panic!("get({index}): {other:?}, iter shows it"),
        }
        assert!(log.contains(*index), "contains({index})");
    }
    let backwards = log.iter().rev().filter_map(Result::ok).map(|entry| entry.index());
    if !is_lossy && !is_forged {
        assert!(backwards.eq(entries.keys().rev().copied()), "iter().rev() differs");
        assert_eq!(log.len(), entries.len() as u64, "len");
        assert_eq!(log.first_index(), entries.keys().next().copied(), "first_index");
        assert_eq!(log.last_index(), entries.keys().next_back().copied(), "last_index");
    }
    let mut last = None;
    for item in log.log_order() {
        match item {
            Ok(item) => {
                assert!(last < Some(item.position()), "log_order goes back at {}", item.position());
                last = Some(item.position());
            }
            Err(error) if is_loss(&error) => is_lossy = true,
            Err(error) => panic!("log_order: {error:?}"),
        }
    }
    (entries, is_lossy)
}
