//! Which format it is, and that another one is refused.

use std::path::Path;

use casklog_import::{Error, Format, Prefix, ReadOptions, detect, open};
use quickcheck::QuickCheck;

use crate::writers::{Entry, KINDS, Kind, entries, save, write};

fn unknown(path: &Path) -> String {
    match detect(path) {
        Err(Error::UnknownFormat { reason, .. }) => reason,
        other => panic!("{}: {other:?}", path.display()),
    }
}

#[test]
fn logs_are_recognized_and_read_as_nothing_else() {
    for kind in KINDS {
        let dir = tempfile::tempdir().unwrap();
        let files = write(kind, &entries(12), 5);
        save(dir.path(), &files);
        let Some(format) = kind.format() else {
            assert!(unknown(dir.path()).contains("fgrosse"), "{kind:?}");
            continue;
        };
        let file = dir.path().join(&files[0].name);
        for path in [dir.path(), &file] {
            assert_eq!(detect(path).unwrap(), format, "{kind:?}");
            for other in Format::all().filter(|other| *other != format && !matches!(other, Format::LengthPrefixed(_))) {
                let error = open(path, other, &ReadOptions::new()).unwrap_err();
                let is_told =
                    matches!(error, Error::OtherFormat { asked, found, .. } if (asked, found) == (other, format));
                assert!(is_told, "{kind:?} read as {other}: {error}");
            }
        }
        // Any name will do for a file by itself.
        let copy = dir.path().join("a copy");
        std::fs::copy(file, &copy).unwrap();
        assert_eq!(detect(copy).unwrap(), format, "{kind:?}");
    }
}

#[test]
fn a_damaged_log_is_still_recognized() {
    for kind in KINDS.into_iter().filter(|kind| kind.format().is_some() && !kind.has_blocks()) {
        let dir = tempfile::tempdir().unwrap();
        let mut files = write(kind, &entries(12), 5);
        files[0].bytes[20..40].fill(0x55);
        save(dir.path(), &files);
        assert_eq!(Some(detect(dir.path()).unwrap()), kind.format(), "{kind:?}");
        // Of a log of which nothing can be read, the names decide, where the format is given.
        for file in &mut files {
            file.bytes.fill(0x55);
        }
        save(dir.path(), &files);
        unknown(dir.path());
        let events: Vec<_> = open(dir.path(), kind.format().unwrap(), &ReadOptions::new()).unwrap().collect();
        assert_eq!(events.iter().filter(|event| event.is_err()).count(), events.len(), "{kind:?}");
        let passed_over: u64 = events.iter().filter_map(|event| Some(event.as_ref().err()?.passed_over)).sum();
        assert_eq!(passed_over, files.iter().map(|file| file.bytes.len() as u64).sum::<u64>(), "{kind:?}");
    }
}

#[test]
fn files_for_exchange_are_recognized() {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes, format) in [
        ("lines", &b"{\"index\":1,\"key\":\"a\",\"value\":null}\n"[..], Format::Ndjson),
        ("lines behind blank ones", b"\n \n{\"value\":1}\n", Format::Ndjson),
        ("lines behind a bad one", b"{\"valu\n{\"value\":1}\n", Format::Ndjson),
        ("arrays", b"\x93\x01\xc4\x01a\xc0", Format::Msgpack),
        ("arrays with the last one cut", b"\x93\x01\xc4\x01a\xc0\x93\x02", Format::Msgpack),
    ] {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(detect(&path).unwrap(), format, "{name}");
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, bytes).unwrap();
        std::fs::write(&path, encoder.finish().unwrap()).unwrap();
        assert_eq!(detect(&path).unwrap(), format, "{name}, compressed");
    }
    for (name, bytes) in
        [("nothing", &b""[..]), ("text", b"hello, world\n"), ("JSON", b"{\"a\":1}\n"), ("gzip", b"\x1f\x8b\x08\0")]
    {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        unknown(&path);
    }
}

#[test]
fn what_several_formats_or_logs_share_has_to_be_named() {
    let dir = tempfile::tempdir().unwrap();
    assert!(unknown(dir.path()).contains("no files"));
    save(dir.path(), &write(Kind::Rosedb, &entries(3), 5));
    save(dir.path(), &write(Kind::Gowal1, &entries(4), 5));
    match detect(dir.path()) {
        Err(Error::AmbiguousFormat { formats, .. }) => assert_eq!(formats, [Format::Gowal1, Format::Rosedb]),
        other => panic!("{other:?}"),
    }
    let count = |format, options: &ReadOptions| open(dir.path(), format, options).unwrap().map(Result::unwrap).count();
    assert_eq!(count(Format::Rosedb, &ReadOptions::new()), 3);
    assert_eq!(count(Format::Gowal1, &ReadOptions::new()), 4);

    // A second log of the same version, under another prefix, and a file whose name only looks like a third.
    let mut other = write(Kind::Gowal1, &entries(5), 5);
    other[0].name = "v10".to_owned();
    save(dir.path(), &other);
    std::fs::write(dir.path().join("notes 2024"), "nothing of the kind").unwrap();
    match open(dir.path(), Format::Gowal1, &ReadOptions::new()) {
        Err(Error::AmbiguousPrefix { prefixes, .. }) => assert_eq!(prefixes, ["segment_", "v"]),
        other => panic!("{other:?}"),
    }
    assert_eq!(count(Format::Gowal1, &ReadOptions::new().prefix("segment_")), 4);
    assert_eq!(count(Format::Gowal1, &ReadOptions::new().prefix("v1")), 5);
    match open(dir.path(), Format::Gowal1, &ReadOptions::new().prefix("none_")) {
        Err(Error::OtherFormat { found: Format::Rosedb, .. } | Error::NoFiles { .. }) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_log_of_casklog_is_told_as_such() {
    let dir = tempfile::tempdir().unwrap();
    let store = casklog::Store::open(dir.path()).unwrap();
    store.write(1, "key", "value").unwrap();
    store.close().unwrap();
    assert!(unknown(dir.path()).contains("casklog"));
    match detect(dir.path().join("missing")) {
        Err(Error::Io { source, .. }) => assert_eq!(source.kind(), std::io::ErrorKind::NotFound),
        other => panic!("{other:?}"),
    }
}

#[test]
fn names_of_formats_are_read_as_they_are_written() {
    for format in Format::all() {
        assert_eq!(format.to_string().parse::<Format>().unwrap(), format);
    }
    for format in casklog_import::ExportFormat::all() {
        assert_eq!(format.to_string().parse::<casklog_import::ExportFormat>().unwrap(), format);
    }
    let error = "gowal".parse::<Format>().unwrap_err();
    assert!(error.to_string().contains("gowal-1.0"), "{error}");
}

#[test]
fn payloads_behind_their_lengths_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    for (prefix, bytes) in [
        (Prefix::U16Le, &b"\x02\0hi\0\0\x01\0!"[..]),
        (Prefix::U16Be, b"\0\x02hi\0\0\0\x01!"),
        (Prefix::U32Le, b"\x02\0\0\0hi\0\0\0\0\x01\0\0\0!"),
        (Prefix::U32Be, b"\0\0\0\x02hi\0\0\0\0\0\0\0\x01!"),
        (Prefix::U64Le, b"\x02\0\0\0\0\0\0\0hi\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0!"),
        (Prefix::U64Be, b"\0\0\0\0\0\0\0\x02hi\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01!"),
    ] {
        let options = ReadOptions::new().first_index(7).key("k");
        for cut in 0..=bytes.len() {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            let records = open(&path, Format::LengthPrefixed(prefix), &options).unwrap();
            let (records, unreadable): (Vec<_>, Vec<_>) = records.partition(Result::is_ok);
            let records: Vec<_> = records.into_iter().map(Result::unwrap).collect();
            let values: Vec<_> = records.iter().map(|record| record.bytes().unwrap()).collect();
            assert!([&b"hi"[..], b"", b"!"].starts_with(&values), "{prefix:?} cut at {cut}");
            assert!(
                records.iter().zip(7..).all(|(record, index)| (record.index, &record.key[..]) == (Some(index), b"k"))
            );
            let read: usize = values.iter().map(|value| value.len() + (bytes.len() - 3) / 3).sum();
            match &unreadable[..] {
                [] => assert_eq!(read, cut),
                [Err(unreadable)] => {
                    assert_eq!((unreadable.offset, unreadable.passed_over), (read as u64, (cut - read) as u64))
                }
                _ => panic!("{unreadable:?}"),
            }
        }
        assert!(open(dir.path(), Format::LengthPrefixed(prefix), &options).is_err());
    }
}

/// Whatever the entries are.
#[test]
fn a_log_of_any_entries_is_recognized() {
    fn property(values: Vec<Vec<u8>>, per_file: u8) -> bool {
        let entry =
            |(number, value): (u64, &Vec<u8>)| Entry { index: number, key: b"key".to_vec(), value: value.clone() };
        let entries: Vec<_> = (1..).zip(&values).map(entry).collect();
        KINDS.into_iter().filter(|kind| kind.format().is_some()).all(|kind| {
            let dir = tempfile::tempdir().unwrap();
            save(dir.path(), &write(kind, &entries, usize::from(per_file % 50) + 10));
            let found = detect(dir.path());
            if entries.is_empty() { found.is_err() } else { Some(found.unwrap()) == kind.format() }
        })
    }
    QuickCheck::new().tests(20).quickcheck(property as fn(Vec<Vec<u8>>, u8) -> bool);
}

/// Whatever the bytes are, and whatever they are said to be.
#[test]
fn any_bytes_can_be_read_as_any_format() {
    fn property(bytes: Vec<u8>) -> bool {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &bytes).unwrap();
        let _ = detect(file.path());
        Format::all().all(|format| {
            let Ok(records) = open(file.path(), format, &ReadOptions::new()) else { return true };
            let passed_over: u64 = records.filter_map(|record| Some(record.err()?.passed_over)).sum();
            passed_over <= bytes.len() as u64
        })
    }
    QuickCheck::new().tests(200).quickcheck(property as fn(Vec<u8>) -> bool);
}
