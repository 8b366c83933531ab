//! F4: any footer, with right checksums or not, behind records that are whole. What is read is right or an error:
//! every record bears its own checksum and index. Without the repair every entry is there, too.

use std::sync::OnceLock;

use casklog::{Options, RecoveryMode};

use super::common::{Entries, copy, is_loss, look, options};
use super::image::{disk, files_of, repair_fragments, segment_name};
use super::reader::Files;

struct Log {
    files: Files,
    entries: Entries,
    /// Where the footer of the first segment starts.
    data_end: usize,
}

fn open(fs: &casklog::fs::sim::SimFs) -> Options {
    options(fs).segment_entries(12).key_index(true)
}

fn log() -> &'static Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    LOG.get_or_init(|| {
        let fs = disk(&Files::new());
        let store = open(&fs).open().expect("a new log");
        for number in 0..26_u64 {
            store.write(number * 3 % 29, format!("key {}", number % 7), &number).expect("a write");
            if number % 5 == 4 {
                store.delete(number * 3 % 29).expect("a deletion");
            }
        }
        let entries = look(&store).0;
        let data_end = store.segments()[0].bytes as usize;
        store.close().expect("a close");
        Log { files: files_of(&fs), entries, data_end }
    })
}

pub fn run(data: &[u8]) {
    let [flags, changes @ ..] = data else { return };
    let Log { files, entries, data_end } = log();
    let mut files = files.clone();
    let segment = files.get_mut(&segment_name(1)).expect("the first segment");
    let footer = segment.len() - data_end;
    for change in changes.chunks_exact(3).take(64) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % (footer + 1);
        match segment.get_mut(data_end + at) {
            Some(byte) => *byte ^= change[2],
            // Longer or shorter.
            None if change[2] & 1 == 0 => segment.resize(segment.len() + usize::from(change[2]), 0),
            None => segment.truncate((segment.len() - usize::from(change[2] >> 1).min(footer)).max(*data_end)),
        }
    }
    let is_repaired = flags & 1 != 0;
    if is_repaired {
        repair_fragments(segment, 4, *data_end);
    }
    let fs = disk(&files);
    for mode in [RecoveryMode::Strict, RecoveryMode::TornTail] {
        let store = match open(&copy(&fs)).recovery(mode).open() {
            Ok(store) => store,
            Err(error) => {
                assert!(is_repaired && is_loss(&error), "{error:?}");
                continue;
            }
        };
        for (index, entry) in entries {
            match store.get(*index) {
                Ok(Some(found)) => {
                    assert!(found.key() == entry.0 && found.raw_value() == entry.1, "get({index}) is another entry");
                }
                Ok(None) => assert!(is_repaired, "{index} is gone"),
                Err(error) => assert!(is_repaired && is_loss(&error), "get({index}): {error:?}"),
            }
        }
        for entry in store.iter() {
            match entry {
                Ok(found) => {
                    let known = entries.get(&found.index());
                    let is_deleted = is_repaired && known.is_none();
                    let same = known.is_some_and(|known| found.key() == known.0 && found.raw_value() == known.1);
                    assert!(same || is_deleted, "iter shows {} as {:?}", found.index(), found.key());
                }
                Err(error) => assert!(is_repaired && is_loss(&error), "iter: {error:?}"),
            }
        }
        for number in 0..8 {
            let key = format!("key {number}");
            match store.latest(&key) {
                Ok(found) => assert!(found.is_none_or(|found| found.key() == key.as_bytes()), "latest({key})"),
                Err(error) => assert!(is_repaired && is_loss(&error), "latest: {error:?}"),
            }
        }
        let verified = store.verify().expect("nothing fails here");
        assert!(is_repaired || !verified.is_damaged(), "a footer is no data: {verified:?}");
    }
}
