//! F8: the crate against the reader that was written from FORMAT.md alone.

use std::collections::BTreeMap;

use casklog::fs::sim::SimFs;
use casklog::{Error, RecoveryMode};

use super::common::{copy, look, options};
use super::image::{disk, files, files_of};
use super::reader;

pub fn run(data: &[u8]) {
    let (flags, files) = files(data);
    // What has right checksums and was never written may contradict itself in ways that the text leaves open.
    if flags & 1 == 0 {
        agree(&disk(&files), options).unwrap_or_else(|difference| panic!("{difference}"));
    }
}

/// Whether both say the same of the log that is on this disk; `Ok(true)`: it is damaged.
pub fn agree(fs: &SimFs, with: impl Fn(&SimFs) -> casklog::Options) -> Result<bool, String> {
    let fs = copy(fs);
    let files = files_of(&fs);
    let said = reader::read(&files, "segment_");
    // The one mode that reads all records of sealed segments, too.
    let strict = with(&disk(&files)).recovery(RecoveryMode::Strict).open();
    let said = match (said, &strict) {
        (Err(_), Err(Error::Unsupported { .. })) => return Ok(false),
        (Ok(log), Err(Error::Damaged { .. } | Error::Missing { .. })) if log.damaged => return Ok(true),
        (Ok(log), Ok(_) | Err(Error::TornTail { .. })) if !log.damaged => log,
        (said, Ok(store)) => return Err(format!("reader {}, crate {:?}", words(&said), store.recovery_report())),
        (said, Err(error)) => return Err(format!("reader {}, crate {error:?}", words(&said))),
    };
    let store = with(&fs).recovery(RecoveryMode::TornTail).open().map_err(|error| format!("{error:?}"))?;
    let (entries, _) = look(&store);
    let report = store.recovery_report();
    let meta: BTreeMap<_, _> = store.all_meta();
    // Of the store the end lies behind the resume record that it has written.
    let end = match with(&disk(&files)).recovery(RecoveryMode::TornTail).open_read_only() {
        Ok(reader) => (reader.stats().tail.segment(), reader.stats().tail.offset()),
        Err(Error::NotFound { .. }) => (0, 0),
        Err(error) => return Err(format!("reader {}, crate's reader {error:?}", words(&Ok(said)))),
    };
    if entries != said.entries {
        let only = |a: &BTreeMap<u64, _>, b: &BTreeMap<u64, _>| -> Vec<u64> {
            a.keys().filter(|index| !b.contains_key(index)).copied().collect()
        };
        let (more, less) = (only(&said.entries, &entries), only(&entries, &said.entries));
        return Err(format!("entries differ: only the reader has {more:?}, only the crate {less:?}: {report:?}"));
    }
    if meta != said.meta {
        return Err(format!("metadata: reader {:?}, crate {meta:?}", said.meta));
    }
    if said.end != (0, 0) && end != said.end {
        return Err(format!("the end: reader {:?}, crate {report:?}", said.end));
    }
    Ok(false)
}

fn words(said: &Result<reader::Log, reader::Later>) -> String {
    match said {
        Ok(log) => {
            let indexes: Vec<_> = log.entries.keys().collect();
            format!("end {:?}, W {:?}, damaged {}, entries {indexes:?}", log.end, log.w, log.damaged)
        }
        Err(later) => format!("{later:?}"),
    }
}
