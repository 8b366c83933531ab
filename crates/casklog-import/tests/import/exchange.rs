//! JSON lines and MessagePack: what goes out comes back.

use std::io::Cursor;

use casklog::{Options, Store, SyncPolicy};
use casklog_import::{ExportFormat, Format, ImportOptions, Reason, Record, Records, Unreadable, export, import_into};
use quickcheck::{Arbitrary, Gen, QuickCheck};
use rmpv::Value;
use tempfile::TempDir;

pub(crate) fn store() -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Options::new(dir.path()).sync(SyncPolicy::None).preallocate(false).open().unwrap();
    (dir, store)
}

fn encode(value: &Value) -> Vec<u8> {
    let mut encoded = Vec::new();
    rmpv::encode::write_value(&mut encoded, value).unwrap();
    encoded
}

fn from_bytes(bytes: impl Into<Vec<u8>>, format: Format) -> Vec<Result<Record, Unreadable>> {
    Records::from_reader(Cursor::new(bytes.into()), "memory", format).unwrap().collect()
}

fn line(text: &str) -> Result<Record, Unreadable> {
    let mut records = from_bytes(format!("{text}\n"), Format::Ndjson);
    assert_eq!(records.len(), 1, "{text}");
    records.remove(0)
}

fn exported(store: &Store, format: ExportFormat) -> Vec<u8> {
    let mut bytes = Vec::new();
    let exported = export(store, format, &mut bytes, ..).unwrap();
    assert_eq!((exported.entries, exported.unreadable.len()), (store.len(), 0));
    bytes
}

/// Records with keys and values that JSON can and cannot hold.
#[derive(Debug, Clone)]
struct AnyRecords(Vec<Record>);

fn any_value(g: &mut Gen, depth: usize) -> Value {
    let kinds: Vec<u8> = (0..if depth == 0 { 10 } else { 13 }).collect();
    let bytes = |g: &mut Gen| Vec::<u8>::arbitrary(g);
    match g.choose(&kinds).unwrap() {
        0 => Value::Nil,
        1 => bool::arbitrary(g).into(),
        2 => (*g.choose(&[0, 127, 128, 255, 256, 65_535, 65_536, u64::from(u32::MAX), 1 << 32, u64::MAX]).unwrap())
            .into(),
        3 => (*g.choose(&[-1, -32, -33, -128, -129, -32_768, -32_769, i64::from(i32::MIN), i64::MIN]).unwrap()).into(),
        4 => i64::arbitrary(g).into(),
        5 => Value::F64(f64::arbitrary(g)),
        6 => {
            Value::F64(*g.choose(&[0.0, -0.0, 0.1, 1e300, f64::MIN_POSITIVE, 5e-324, f64::NAN, f64::INFINITY]).unwrap())
        }
        7 => Value::F32(f32::arbitrary(g)),
        8 => String::arbitrary(g).into(),
        9 => match bool::arbitrary(g) {
            true => Value::Binary(bytes(g)),
            false => Value::Ext(i8::arbitrary(g), bytes(g)),
        },
        10 => Value::Array((0..u8::arbitrary(g) % 20).map(|_| any_value(g, depth - 1)).collect()),
        11 => Value::Map(
            (0..u8::arbitrary(g) % 20)
                .map(|place| (format!("field {place}").into(), any_value(g, depth - 1)))
                .collect(),
        ),
        _ => {
            Value::Map((0..u8::arbitrary(g) % 3).map(|_| (any_value(g, depth - 1), any_value(g, depth - 1))).collect())
        }
    }
}

impl Arbitrary for AnyRecords {
    fn arbitrary(g: &mut Gen) -> Self {
        let mut index = u64::arbitrary(g) % 1000;
        let record = |_| {
            index += 1 + u64::arbitrary(g) % 3;
            let key = match bool::arbitrary(g) {
                true => String::arbitrary(g).into_bytes(),
                false => Vec::arbitrary(g),
            };
            Record { index: Some(index), key, value: encode(&any_value(g, 3)) }
        };
        AnyRecords((0..20).map(record).collect())
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        let (front, back) = self.0.split_at(self.0.len() / 2);
        let halves = [front.to_vec(), back.to_vec()];
        Box::new(halves.into_iter().filter(|half| !half.is_empty()).map(AnyRecords).take(if self.0.len() > 1 {
            2
        } else {
            0
        }))
    }
}

#[test]
fn what_is_exported_is_imported_as_it_was() {
    fn property(records: AnyRecords) -> bool {
        let AnyRecords(records) = records;
        let (_dir, store) = store();
        let report = import_into(&store, records.iter().cloned().map(Ok), &ImportOptions::new()).unwrap();
        assert_eq!(report.written, records.len() as u64);
        // The log holds the very bytes: they are in the shortest form.
        let is_kept = |record: &Record| {
            let entry = store.get(record.index.unwrap()).unwrap().unwrap();
            entry.key() == record.key && entry.raw_value() == record.value
        };
        assert!(records.iter().all(is_kept));
        ExportFormat::all().all(|format| {
            let read_as = if format == ExportFormat::Msgpack { Format::Msgpack } else { Format::Ndjson };
            let back = from_bytes(exported(&store, format), read_as).into_iter().map(Result::unwrap);
            back.eq(records.iter().cloned())
        })
    }
    QuickCheck::new().tests(40).quickcheck(property as fn(AnyRecords) -> bool);
}

#[test]
fn values_are_written_as_json_where_nothing_is_lost() {
    let text = |text: &str| Value::from(text);
    let map =
        |fields: &[(&str, Value)]| Value::Map(fields.iter().map(|(name, value)| (text(name), value.clone())).collect());
    let deep = |depth: usize| (0..depth).fold(Value::Nil, |inner, _| Value::Array(vec![inner]));
    for (value, expected) in [
        (Value::Nil, r#""value":null"#.to_owned()),
        (map(&[("b", 1.into()), ("a", Value::F64(1.0))]), r#""value":{"b":1,"a":1.0}"#.to_owned()),
        (
            Value::Array(vec![u64::MAX.into(), i64::MIN.into(), text("é\n\"\u{1}")]),
            format!(r#""value":[{},{},"é\n\"\u0001"]"#, u64::MAX, i64::MIN),
        ),
        (Value::F64(-0.0), r#""value":-0.0"#.to_owned()),
        (Value::Binary(b"\xff\0".to_vec()), r#""value_base64":"/wA=""#.to_owned()),
        (Value::Binary(vec![]), r#""value_base64":"""#.to_owned()),
        (Value::F32(0.5), r#""value_msgpack_base64":"yj8AAAA=""#.to_owned()),
        (Value::F64(f64::INFINITY), r#""value_msgpack_base64":"y3/wAAAAAAAA""#.to_owned()),
        (Value::Ext(-1, vec![0; 4]), r#""value_msgpack_base64":"1v8AAAAA""#.to_owned()),
        (Value::Map(vec![(1.into(), Value::Nil)]), r#""value_msgpack_base64":"gQHA""#.to_owned()),
        (map(&[("a", 1.into()), ("a", 2.into())]), r#""value_msgpack_base64":"gqFhAaFhAg==""#.to_owned()),
        (Value::Array(vec![Value::Binary(vec![1])]), r#""value_msgpack_base64":"kcQBAQ==""#.to_owned()),
        (deep(100), format!(r#""value":{}null{}"#, "[".repeat(100), "]".repeat(100))),
    ] {
        let (_dir, store) = store();
        let record = Record { index: Some(7), key: b"k".to_vec(), value: encode(&value) };
        import_into(&store, [Ok(record.clone())], &ImportOptions::new()).unwrap();
        let lines = String::from_utf8(exported(&store, ExportFormat::Ndjson)).unwrap();
        assert_eq!(lines, format!("{{\"index\":7,\"key\":\"k\",{expected}}}\n"));
        assert_eq!(line(lines.trim()).unwrap(), record);
    }
    // Too deep for readers of JSON, but not for a log.
    let (_dir, store) = store();
    let record = Record { index: Some(7), key: b"\xff".to_vec(), value: encode(&deep(101)) };
    import_into(&store, [Ok(record.clone())], &ImportOptions::new()).unwrap();
    let lines = String::from_utf8(exported(&store, ExportFormat::Ndjson)).unwrap();
    assert!(lines.starts_with(r#"{"index":7,"key_base64":"/w==","value_msgpack_base64":"kZGR"#), "{lines}");
    assert_eq!(line(lines.trim()).unwrap(), record);
}

#[test]
fn lines_are_read_in_all_their_forms() {
    let record = |index, key: &[u8], value: Value| Record { index, key: key.to_vec(), value: encode(&value) };
    for (text, expected) in [
        (r#"{"index":1,"key":"a","value":"b"}"#, record(Some(1), b"a", "b".into())),
        (r#"{"value":null}"#, record(None, b"", Value::Nil)),
        (r#"{"index":null,"key":null,"value":-0.5e3}"#, record(None, b"", Value::F64(-500.0))),
        (
            r#" { "value" : [ 1 , -1 ] , "index" : 18446744073709551615 } "#,
            record(Some(u64::MAX), b"", Value::Array(vec![1.into(), (-1).into()])),
        ),
        (
            r#"{"index":0,"key_base64":"AP8=","value_base64":"AQI="}"#,
            record(Some(0), b"\0\xff", Value::Binary(vec![1, 2])),
        ),
        // Not in its shortest form.
        (r#"{"value_msgpack_base64":"0gAAAAE="}"#, record(None, b"", 1.into())),
        (r#"{"value":"18446744073709551616"}"#, record(None, b"", "18446744073709551616".into())),
        (r#"{"value":0.30000000000000004}"#, record(None, b"", Value::F64(0.1 + 0.2))),
    ] {
        assert_eq!(line(text).unwrap(), expected, "{text}");
    }
    for (text, expected) in [
        (r#"{"index":1}"#, "no value"),
        (r#"{"index":1,"value":1,"value_base64":""}"#, "more than one value"),
        (r#"{"key":"a","key_base64":"","value":1}"#, "both key and key_base64"),
        (r#"{"index":1,"value":1,"note":"lost"}"#, "note"),
        (r#"{"index":1,"index":2,"value":1}"#, "duplicate"),
        (r#"{"index":-1,"value":1}"#, "-1"),
        (r#"{"index":"1","value":1}"#, "string"),
        (r#"{"value":[18446744073709551616]}"#, "18446744073709551616"),
        (r#"{"value":1e999}"#, "number out of range"),
        (r#"{"value_base64":"*"}"#, "base64"),
        (r#"{"value_msgpack_base64":"gQ=="}"#, "cut short"),
        (r#"{"value_msgpack_base64":"AQE="}"#, "bytes behind"),
        (r#"{"value_msgpack_base64":"of8="}"#, "UTF-8"),
        (r#"{"value_msgpack_base64":"wQ=="}"#, "does not use"),
        (r#"{"value":1} {"value":2}"#, "trailing"),
        (r#"{"value":"#, "breaks off"),
        (r#"[1,"a",null,1,null,null]"#, "no JSON object"),
    ] {
        let error = line(text).unwrap_err();
        assert!(matches!(&error.reason, Reason::Malformed(what) if what.contains(expected)), "{text}: {error}");
    }
}

#[test]
fn a_bad_line_is_passed_over_by_itself() {
    let good = |index| format!("{{\"index\":{index},\"value\":{index}}}\n");
    let text = format!("{}{{bad}}\n\n{}\u{0}\n{}{}", good(1), good(2), good(3), &good(4)[..10]);
    let records = from_bytes(text.clone(), Format::Ndjson);
    let indexes: Vec<_> = records.iter().flatten().map(|record| record.index.unwrap()).collect();
    assert_eq!(indexes, [1, 2, 3]);
    let unreadable = records.iter().filter_map(|record| record.as_ref().err());
    let unreadable: Vec<_> = unreadable.map(|unreadable| (unreadable.offset, unreadable.passed_over)).collect();
    let place = |part: &str, length| (text.find(part).unwrap() as u64, length);
    assert_eq!(unreadable, [place("{bad}", 6), place("\0", 2), place("{\"index\":4", 10)]);
    assert!(matches!(records.last(), Some(Err(Unreadable { reason: Reason::CutShort, .. }))));
}

/// Some records, with where each begins in an export, and where that ends.
fn sample(format: ExportFormat) -> (Vec<Record>, Vec<u8>, Vec<usize>) {
    let (_dir, store) = store();
    let values = [Value::Nil, "text".into(), Value::Binary(vec![7; 300]), Value::F32(0.1), Value::Map(vec![])];
    let mut starts = Vec::new();
    let mut records = Vec::new();
    let mut bytes = Vec::new();
    for (index, value) in (1..).zip(&values) {
        let record = Record { index: Some(index), key: vec![b'k'; index as usize], value: encode(value) };
        import_into(&store, [Ok(record.clone())], &ImportOptions::new()).unwrap();
        records.push(record);
        starts.push(bytes.len());
        bytes = exported(&store, format);
    }
    starts.push(bytes.len());
    (records, bytes, starts)
}

#[test]
fn a_file_for_exchange_cut_at_any_byte_gives_what_stands_before() {
    for (format, read_as) in [(ExportFormat::Ndjson, Format::Ndjson), (ExportFormat::Msgpack, Format::Msgpack)] {
        let (records, bytes, starts) = sample(format);
        for cut in 0..=bytes.len() {
            let whole = starts.iter().skip(1).filter(|end| **end <= cut).count();
            let events = from_bytes(&bytes[..cut], read_as);
            // The last line is whole without the end of the line.
            let is_unended = format == ExportFormat::Ndjson && starts.contains(&(cut + 1));
            let whole = whole + usize::from(is_unended);
            let (before, behind) = events.split_at(whole);
            assert!(
                before.iter().map(|record| record.as_ref().unwrap()).eq(&records[..whole]),
                "{format} cut at {cut}"
            );
            match behind {
                [] => assert!(is_unended || starts.contains(&cut), "{format} cut at {cut}"),
                [Err(unreadable)] => {
                    let place = (unreadable.offset as usize, unreadable.passed_over as usize);
                    assert_eq!(place, (starts[whole], cut - starts[whole]), "{format} cut at {cut}");
                    assert!(matches!(unreadable.reason, Reason::CutShort), "{format} cut at {cut}: {unreadable}");
                }
                _ => panic!("{format} cut at {cut}: {behind:?}"),
            }
        }
    }
    // What a compressed file gives before it breaks off is good as well.
    let (records, bytes, _) = sample(ExportFormat::NdjsonGz);
    for cut in 2..bytes.len() {
        let events = from_bytes(&bytes[..cut], Format::Ndjson);
        let count = events.iter().flatten().count();
        assert!(events.iter().flatten().eq(&records[..count]), "cut at {cut}");
        let [Err(unreadable)] = &events[count..] else { panic!("cut at {cut}: {events:?}") };
        assert!(matches!(unreadable.reason, Reason::Io(_)), "cut at {cut}: {unreadable}");
    }
}

#[test]
fn flipped_bits_in_files_for_exchange_are_survived() {
    for (format, read_as) in [
        (ExportFormat::Ndjson, Format::Ndjson),
        (ExportFormat::Msgpack, Format::Msgpack),
        (ExportFormat::NdjsonGz, Format::Ndjson),
    ] {
        let (records, bytes, _) = sample(format);
        for place in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[place / 8] ^= 1 << (place % 8);
            let events = from_bytes(bytes.clone(), read_as);
            let passed_over: u64 = events.iter().filter_map(|event| Some(event.as_ref().err()?.passed_over)).sum();
            assert!(format == ExportFormat::NdjsonGz || passed_over <= bytes.len() as u64, "{format}, bit {place}");
            // All records may have come, one of them changed; but none comes twice.
            assert!(events.iter().flatten().count() <= records.len() + 1, "{format}, bit {place}");
        }
    }
}

#[test]
fn arrays_that_are_none_end_what_can_be_believed() {
    let good = b"\x93\x01\xc4\x01a\xc0";
    for (bad, expected) in [
        (&b"\x92\x02\xc0"[..], "no array"),
        (b"\x93\xff\xc4\x01a\xc0", "index"),
        (b"\x93\x02\x03\xc0", "key"),
        (b"\xc1", "does not use"),
    ] {
        let bytes = [good, bad, good].concat();
        let records = from_bytes(bytes.clone(), Format::Msgpack);
        let [Ok(_), Err(unreadable)] = &records[..] else { panic!("{records:?}") };
        assert!(unreadable.to_string().contains(expected), "{unreadable}");
        assert_eq!((unreadable.offset, unreadable.passed_over), (6, bytes.len() as u64 - 6));
    }
    // A value that cannot be kept ends where it says.
    let records = from_bytes([good, &b"\x93\x02\xa1b\xa1\xff"[..], b"\x93\xc0\xa0\x01"].concat(), Format::Msgpack);
    let [Ok(_), Err(unreadable), Ok(last)] = &records[..] else { panic!("{records:?}") };
    assert_eq!((unreadable.offset, unreadable.passed_over), (6, 6));
    assert_eq!(*last, Record { index: None, key: vec![], value: vec![1] });
    // Nested so deeply that it cannot be handed on.
    let deep = [&b"\x93\x01\xc4\0"[..], &[0x91; 100_000], &[0xc0]].concat();
    let records = from_bytes(deep, Format::Msgpack);
    assert!(matches!(&records[..], [Err(unreadable)] if unreadable.to_string().contains("deep")), "{records:?}");
}

#[test]
fn large_values_come_through() {
    let (_dir, store) = store();
    let value = Value::Array(vec![
        Value::Binary(vec![0xa5; 3 << 20]),
        "x".repeat(1 << 20).into(),
        Value::Array(vec![Value::Map(vec![]); 1000]),
    ]);
    let record = Record { index: Some(1), key: vec![0xff; 70_000], value: encode(&value) };
    import_into(&store, [Ok(record.clone())], &ImportOptions::new()).unwrap();
    for (format, read_as) in [(ExportFormat::NdjsonGz, Format::Ndjson), (ExportFormat::Msgpack, Format::Msgpack)] {
        let records = from_bytes(exported(&store, format), read_as);
        assert!(matches!(&records[..], [Ok(back)] if *back == record), "{format}");
    }
}
