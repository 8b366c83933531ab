//! Directories that the libraries themselves have written: `tests/data/other-logs.tar.gz`.
//!
//! All hold the same 200 entries, which `expected.ndjson` has. Those of gowal are in files of 50, and in both the
//! entry 3 was deleted at the end.

use std::fs::File;
use std::path::Path;

use casklog_import::{Format, ReadOptions, Record, detect, open};
use flate2::read::GzDecoder;
use tempfile::TempDir;

use crate::writers::{Entry, Kind, data, write};

const LOGS: [(&str, Kind, usize); 5] = [
    ("gowal-0.0.4", Kind::Gowal0, 50),
    ("gowal-1.0", Kind::Gowal1, 50),
    ("rosedb", Kind::Rosedb, 1000),
    ("backbone81-u32-crc32", Kind::Backbone81(2, 1), 1000),
    ("backbone81-uvarint-crc64", Kind::Backbone81(4, 2), 1000),
];

pub(crate) fn unpack() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let archive = File::open(data("other-logs.tar.gz")).unwrap();
    tar::Archive::new(GzDecoder::new(archive)).unpack(dir.path()).unwrap();
    dir
}

fn expected(dir: &Path) -> Vec<Entry> {
    let records = open(dir.join("expected.ndjson"), Format::Ndjson, &ReadOptions::new()).unwrap();
    let entry = |record: Record| {
        let value = record.bytes().unwrap().to_vec();
        Entry { index: record.index.unwrap(), key: record.key, value }
    };
    records.map(|record| entry(record.unwrap())).collect()
}

#[test]
fn logs_of_the_libraries_are_read_as_they_were_written() {
    let dir = unpack();
    let mut expected = expected(dir.path());
    assert_eq!(expected.len(), 200);
    for (name, kind, _) in LOGS {
        let path = dir.path().join(name);
        let format = kind.format().unwrap();
        assert_eq!(detect(&path).unwrap(), format, "{name}");
        let records = open(&path, format, &ReadOptions::new().key("the key")).unwrap();
        let records: Vec<_> = records.collect::<Result<_, _>>().unwrap();
        let expected = expected.iter().filter(|entry| !kind.has_indexes() || entry.index != 3);
        let expected: Vec<_> = expected
            .map(|entry| {
                let key = if kind.has_indexes() { &entry.key[..] } else { b"the key" };
                Record::from_bytes(Some(entry.index), key, &entry.value)
            })
            .collect();
        assert!(records == expected, "{name}");
    }
    // Without the tombstone the entry is there.
    for name in ["gowal-0.0.4", "gowal-1.0"] {
        std::fs::remove_file(dir.path().join(name).join("segment_4")).unwrap();
        let path = dir.path().join(name);
        let records = open(&path, detect(&path).unwrap(), &ReadOptions::new()).unwrap();
        let records: Vec<_> = records.collect::<Result<_, _>>().unwrap();
        let entry = expected.remove(2);
        assert_eq!(records[2], Record::from_bytes(Some(3), &entry.key[..], &entry.value), "{name}");
        expected.insert(2, entry);
    }
}

/// The tests of damage use files that are written here: they are what the libraries write, byte for byte.
#[test]
fn the_writers_of_these_tests_write_what_the_libraries_write() {
    let dir = unpack();
    let expected = expected(dir.path());
    for (name, kind, per_file) in LOGS {
        for file in write(kind, &expected, per_file) {
            let real = std::fs::read(dir.path().join(name).join(&file.name)).unwrap();
            let end = file.entries.last().unwrap().0.end;
            assert!(real[..end] == file.bytes[..end], "{name}/{}", file.name);
            assert!(real[end..].iter().all(|byte| *byte == 0), "{name}/{}", file.name);
        }
    }
}
