//! Records into a log, and what is done where it holds some already.

use std::path::PathBuf;

use casklog::{IndexOrder, Options, Store};
use casklog_import::{
    Error, Existing, ExportFormat, Format, ImportOptions, Numbering, ReadOptions, Record, Report, UNREADABLE_KEPT,
    detect, export, import_into, open,
};

use crate::exchange::store;
use crate::real_logs::unpack;

fn records(indexes: impl IntoIterator<Item = u64>) -> Vec<Record> {
    indexes
        .into_iter()
        .map(|index| Record::from_bytes(Some(index), format!("key {index}"), &index.to_be_bytes()))
        .collect()
}

fn import(store: &Store, records: &[Record], options: &ImportOptions) -> Result<Report, Error> {
    import_into(store, records.iter().cloned().map(Ok), options)
}

/// Whether the log holds these records and nothing else.
fn holds(store: &Store, records: &[Record]) -> bool {
    let mut records = records.to_vec();
    records.sort_by_key(|record| record.index);
    let entries = store.iter().map(|entry| {
        let entry = entry.unwrap();
        Record { index: Some(entry.index()), key: entry.key().to_vec(), value: entry.raw_value().to_vec() }
    });
    entries.eq(records)
}

#[test]
fn logs_of_the_libraries_are_imported_and_exported() {
    let dir = unpack();
    for name in ["gowal-1.0", "rosedb", "backbone81-uvarint-crc64"] {
        let path = dir.path().join(name);
        let (_dir, store) = store();
        let records = || open(&path, detect(&path).unwrap(), &ReadOptions::new()).unwrap();
        let report = import_into(&store, records(), &ImportOptions::new()).unwrap();
        let expected: Vec<_> = records().map(Result::unwrap).collect();
        assert_eq!((report.written, report.read, report.unreadable), (expected.len() as u64, expected.len() as u64, 0));
        assert_eq!(report.indexes, Some((1, 200)));
        assert!(holds(&store, &expected), "{name}");
        let mut lines = Vec::new();
        export(&store, ExportFormat::Ndjson, &mut lines, 10..=12).unwrap();
        let back = casklog_import::Records::from_reader(std::io::Cursor::new(lines), "lines", Format::Ndjson).unwrap();
        let part = expected.iter().filter(|record| (10..=12).contains(&record.index.unwrap())).cloned();
        assert!(back.map(Result::unwrap).eq(part), "{name}");
    }
}

#[test]
fn an_import_that_stopped_is_taken_up_again() {
    let all = records(1..=100);
    for batch in [1, 7, 1000] {
        let options = ImportOptions::new().batch_entries(batch);
        let (_dir, store) = store();
        for (end, identical) in [(0, 0), (33, 0), (60, 33), (100, 60), (100, 100)] {
            let report = import(&store, &all[..end], &options).unwrap();
            assert_eq!((report.read, report.identical), (end as u64, identical));
            assert_eq!(report.written, end as u64 - identical);
            assert!(holds(&store, &all[..end]));
        }
    }
}

#[test]
fn what_is_in_the_way_stops_the_import_or_is_passed_over() {
    let all = records(1..=20);
    for batch in [1, 4, 1000] {
        let options = ImportOptions::new().batch_entries(batch);
        for is_deleted in [false, true] {
            let (_dir, store) = store();
            store.write(11, "another", "entry").unwrap();
            if is_deleted {
                // The index stays taken.
                store.delete(11).unwrap();
            }
            for existing in [Existing::SkipIdentical, Existing::Refuse] {
                let error = import(&store, &all, &options.clone().existing(existing)).unwrap_err();
                // At first the record in the way, and then the first of those that went in before it.
                let expected = if existing == Existing::Refuse { 1 } else { 11 };
                assert!(matches!(error, Error::IndexExists { index } if index == expected), "{error}");
                // All before it went in, and nothing behind it.
                assert!((1..=10).all(|index| store.contains(index)));
                assert_eq!(store.last_index(), Some(if is_deleted { 10 } else { 11 }));
            }
            let report = import(&store, &all, &options.clone().existing(Existing::Skip)).unwrap();
            assert_eq!((report.read, report.skipped, report.written), (20, 11, 9));
            assert_eq!(report.indexes, Some((12, 20)));
            assert_eq!(store.contains(11), !is_deleted);
        }
    }
}

#[test]
fn records_get_new_indexes_where_that_is_asked_for_or_they_have_none() {
    let (_dir, store) = store();
    store.write(5, "first", "entry").unwrap();
    let renumber = ImportOptions::new().numbering(Numbering::Renumber).batch_entries(3);
    let report = import(&store, &records([3, 3, 5, 900, 1]), &renumber).unwrap();
    assert_eq!((report.written, report.indexes), (5, Some((6, 10))));
    assert_eq!(store.get(9).unwrap().unwrap().key(), b"key 900");

    let without = |key: &str| Record::from_bytes(None, key, b"value");
    let mixed = [without("a"), records([50]).remove(0), without("b"), records([20]).remove(0), without("c")];
    let report = import(&store, &mixed, &ImportOptions::new()).unwrap();
    assert_eq!((report.written, report.indexes), (5, Some((11, 52))));
    for (index, key) in [(11, "a"), (50, "key 50"), (51, "b"), (20, "key 20"), (52, "c")] {
        assert_eq!(store.get(index).unwrap().unwrap().key(), key.as_bytes());
    }

    let last = [records([u64::MAX]).remove(0), without("none is left")];
    let error = import(&store, &last, &ImportOptions::new()).unwrap_err();
    assert!(matches!(error, Error::Store(casklog::Error::IndexExhausted)), "{error}");
    assert!(store.contains(u64::MAX));
}

#[test]
fn a_record_that_comes_twice_is_met_like_one_that_was_there() {
    let mut twice = records([1, 2, 1, 3]);
    let (_dir, store) = store();
    let report = import(&store, &twice, &ImportOptions::new()).unwrap();
    assert_eq!((report.written, report.identical), (3, 1));
    twice[2].key = b"another".to_vec();
    let (_dir, store) = self::store();
    let error = import(&store, &twice, &ImportOptions::new()).unwrap_err();
    assert!(matches!(error, Error::IndexExists { index: 1 }), "{error}");
    assert!(holds(&store, &twice[..2]));
}

#[test]
fn a_record_that_the_log_refuses_stops_the_import_and_the_ones_before_are_in() {
    let dir = tempfile::tempdir().unwrap();
    // The batches of the import are larger than those of the log.
    let store = Options::new(dir.path()).record_bytes_max(1000).batch_bytes_max(1000).open().unwrap();
    let mut all = records(1..=100);
    let report = import(&store, &all[..60], &ImportOptions::new()).unwrap();
    assert_eq!(report.written, 60);
    all[80] = Record::from_bytes(Some(81), "large", &[7; 2000]);
    let error = import(&store, &all, &ImportOptions::new()).unwrap_err();
    assert!(matches!(error, Error::Refused { index: 81, source: casklog::Error::TooLarge { .. } }), "{error}");
    assert!(holds(&store, &all[..80]));

    let dir = tempfile::tempdir().unwrap();
    let store = Options::new(dir.path()).index_order(IndexOrder::Sequential).open().unwrap();
    let error = import(&store, &records([1, 2, 4]), &ImportOptions::new()).unwrap_err();
    assert!(matches!(error, Error::Refused { index: 4, .. }), "{error}");
    assert!(holds(&store, &records([1, 2])));

    let no_value = Record { index: Some(3), key: vec![], value: vec![0x91] };
    let error = import(&store, &[no_value], &ImportOptions::new()).unwrap_err();
    assert!(matches!(error, Error::Refused { index: 3, source: casklog::Error::Encode { .. } }), "{error}");

    let too_deep = Record { index: Some(3), key: vec![], value: [vec![0x91; 100_000], vec![0xc0]].concat() };
    let error = import(&store, &[too_deep], &ImportOptions::new()).unwrap_err();
    assert!(matches!(&error, Error::Refused { index: 3, source } if source.to_string().contains("deep")), "{error}");

    store.close().unwrap();
    let error = import(&store, &records([3]), &ImportOptions::new()).unwrap_err();
    assert!(matches!(error, Error::Store(casklog::Error::Closed)), "{error}");
}

#[test]
fn what_cannot_be_read_is_in_the_report() {
    let dir = tempfile::tempdir().unwrap();
    let path: PathBuf = dir.path().join("lines");
    let bad = UNREADABLE_KEPT as u64 + 5;
    std::fs::write(&path, format!("{{\"index\":1,\"value\":1}}\n{}", "{bad}\n".repeat(bad as usize))).unwrap();
    let records = open(&path, detect(&path).unwrap(), &ReadOptions::new()).unwrap();
    let (_dir, store) = store();
    let report = import_into(&store, records, &ImportOptions::new()).unwrap();
    assert_eq!((report.read, report.written, report.unreadable, report.bytes_passed_over), (1, 1, bad, bad * 6));
    assert_eq!(report.unreadable_first.len(), UNREADABLE_KEPT);
    assert_eq!((&report.unreadable_first[1].path, report.unreadable_first[1].offset), (&path, 28));
}

#[test]
fn an_export_tells_of_damaged_entries_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    import(&store, &records(1..=5), &ImportOptions::new().batch_entries(1)).unwrap();
    let place = store.get(3).unwrap().unwrap().position();
    let path = store.segments()[0].path.clone();
    store.rotate().unwrap();
    store.close().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[place.offset() as usize + 20] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut lines = Vec::new();
    let exported = export(&store, ExportFormat::Ndjson, &mut lines, ..).unwrap();
    assert_eq!(exported.entries, 4);
    assert!(matches!(&exported.unreadable[..], [casklog::Error::Damaged { .. }]), "{:?}", exported.unreadable);
    assert_eq!(lines.iter().filter(|byte| **byte == b'\n').count(), 4);
}

/// Does something once, and then fails or not.
struct Disturbed<'a>(Option<&'a dyn Fn() -> std::io::Result<()>>);

impl std::io::Write for Disturbed<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.take().map_or(Ok(()), |disturb| disturb())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn an_export_that_is_disturbed_says_so() {
    let (_dir, store) = store();
    // More than is gathered before the first of it is written out.
    let large: Vec<_> = (1..=400).map(|index| Record::from_bytes(Some(index), "large", &[7; 4000])).collect();
    import(&store, &large, &ImportOptions::new()).unwrap();
    for format in ExportFormat::all() {
        let full = || Err(std::io::ErrorKind::StorageFull.into());
        let error = export(&store, format, Disturbed(Some(&full)), ..).unwrap_err();
        assert!(matches!(&error, Error::Output(cause) if cause.kind() == std::io::ErrorKind::StorageFull), "{error}");
    }
    let truncate = || {
        store.truncate_after(390).unwrap();
        Ok(())
    };
    let error = export(&store, ExportFormat::Msgpack, Disturbed(Some(&truncate)), ..).unwrap_err();
    assert!(matches!(error, Error::Store(casklog::Error::Truncated)), "{error}");
}

/// Knows whether all was flushed.
#[derive(Default)]
struct Flushed {
    bytes: usize,
    is_flushed: bool,
}

impl std::io::Write for Flushed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.is_flushed = false;
        self.bytes += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.is_flushed = true;
        Ok(())
    }
}

#[test]
fn an_export_is_flushed() {
    let (_dir, store) = store();
    import(&store, &records(1..=3), &ImportOptions::new()).unwrap();
    for format in ExportFormat::all() {
        let mut writer = Flushed::default();
        export(&store, format, &mut writer, ..).unwrap();
        assert!(writer.bytes > 0 && writer.is_flushed, "{format}");
    }
}
