//! Commands that write: init, put, append, delete, meta, truncate, rotate.

use std::io::Write as _;
use std::process::Stdio;

use casklog::{Checksum, Error, IndexOrder, format::Header};
use serde_json::json;

use super::{Place, Ran};

#[test]
fn init_keeps_order_first_index_and_checksum() {
    let place = Place::empty();
    let args = ["init", "--order", "sequential", "--first-index", "100", "--checksum", "crc64"];
    place.run(&args).good();
    let reader = place.options().open_read_only().unwrap();
    assert_eq!((reader.len(), reader.next_index(), reader.all_meta().len()), (0, Some(100), 0));
    let bytes = std::fs::read(&reader.segments()[0].path).unwrap();
    assert_eq!(Header::from_bytes(&bytes).unwrap().checksum, Checksum::Crc64);
    let stored = place.options().open().unwrap_err();
    assert!(matches!(stored, Error::IndexOrderStored { stored: IndexOrder::Sequential, .. }));

    assert_eq!(place.run_json(&["append", "k", "1"]).json()[0]["index"], 100);
    let complaint = place.run(&["put", "102", "k", "1"]).bad(1);
    assert!(complaint.contains("expects 101"), "{complaint}");
    place.run(&["put", "101", "k", "1"]).good();
}

#[test]
fn init_makes_directories_and_leaves_a_log_alone() {
    let place = Place::empty();
    let inner = place.path().join("a/b");
    let run = |args: &[&str]| Ran::from(super::casklog().arg("-d").arg(&inner).args(args).output().unwrap());
    run(&["init"]).good();
    run(&["put", "0", "k", "1"]).good();
    assert!(run(&["init"]).bad(1).contains("already"));
    assert!(run(&["init", "--if-missing", "--order", "sequential"]).good().contains("already"));
    // Logs with another prefix are others.
    run(&["--prefix", "other_", "init"]).good();
    assert_eq!(run(&["cat", "--prefix", "other_"]).good(), "");
    assert_eq!(run(&["cat"]).good(), "0\tk\t1\n");
}

#[test]
fn put_and_append_take_values_in_every_way() {
    let place = Place::empty();
    place.run(&["init"]).good();
    let file = place.path().join("value");
    std::fs::write(&file, b"\x00from a file").unwrap();
    let written = place.run(&["put", "5", "json", r#"{"a": 1}"#]).good();
    assert!(written.starts_with("5 at 1:"), "{written}");
    place.run(&["append", "negative", "-1.5"]).good();
    place.run(&["append", "text", "--text", "--not an option"]).good();
    place.run(&["append", "bytes", "--bytes", "00 ff"]).good();
    place.run(&["append", "file", "--file", file.to_str().unwrap()]).good();
    let feed = |args: &[&str], input: &[u8]| {
        let mut command = place.command(args);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        assert!(child.wait().unwrap().success());
    };
    feed(&["append", "json from a pipe", "-"], b"[true]\n");
    feed(&["append", "bytes from a pipe", "--file", "-"], b"\xff");
    let shown = place.run(&["cat"]).good();
    let values: Vec<_> = shown.lines().map(|line| line.split('\t').nth(2).unwrap()).collect();
    let file = format!("{{\"$bin\":\"{}\"}}", "0066726f6d20612066696c65");
    assert_eq!(
        values,
        ["{\"a\":1}", "-1.5", "\"--not an option\"", "{\"$bin\":\"00ff\"}", &*file, "[true]", "{\"$bin\":\"ff\"}"]
    );
}

#[test]
fn what_is_refused_leaves_the_log_as_it_was() {
    let place = Place::filled();
    let before = place.snapshot();
    for (args, code, words) in [
        (&["put", "3", "k", "1"][..], 1, "index 3 is taken"),
        (&["put", "7", "k", "1"], 1, "casklog append takes the next free index"),
        (&["put", "70", "k", "no json"], 2, "give text with --text"),
        (&["put", "70", "k", r#"{"a":1,"a":2}"#], 2, "twice"),
        (&["put", "70", "k", "--bytes", "0g"], 2, "hexadecimal"),
        (&["put", "70", "k", "--hex-keys", "1"], 2, "hexadecimal"),
        (&["put", "70", "k", "--file", "/no/such/file"], 1, "cannot read /no/such/file"),
        (&["put", "70", "k"], 2, "required"),
        (&["put", "70", "k", "1", "--text", "a"], 2, "cannot be used with"),
        (&["put", "-1", "k", "1"], 2, "-1"),
        (&["put", "18446744073709551616", "k", "1"], 2, "invalid value"),
        (&["append", "k", "1", "--segment-bytes", "5X"], 2, "a size is"),
        (&["append", "k", "1", "--segment-bytes", "2G"], 1, "at most 1 GiB"),
        (&["meta", "put", "k", "--hex", "0"], 2, "hexadecimal"),
        (&["truncate"], 2, "required"),
        (&["truncate", "--before", "1", "--after", "2"], 2, "cannot be used with"),
        (&["delete"], 2, "required"),
    ] {
        let complaint = place.run(args).bad(code);
        assert!(complaint.contains(words) && complaint.contains("error:"), "{args:?}: {complaint}");
    }
    let after = place.snapshot();
    // Opening a log that was closed writes nothing, and so does closing it again.
    assert!(before.iter().all(|(path, (bytes, _))| after[path].0 == *bytes));
}

#[test]
fn delete_takes_what_is_there_and_names_the_rest() {
    let place = Place::filled();
    let ran = place.run(&["delete", "3", "7", "2", "3"]);
    assert_eq!(ran.stdout, "deleted 2 entries\n");
    assert_eq!(ran.bad(4), "error: there is no entry at index 7\n");
    let deleted = place.run_json(&["delete", "4"]).json();
    assert_eq!(deleted, [json!({"deleted": [4], "absent": []})]);
    assert_eq!(place.run(&["cat", "--to", "5", "--no-values"]).good(), "1\tother\n5\tother\n");
}

#[test]
fn metadata_is_set_shown_and_removed() {
    let place = Place::filled();
    place.run(&["meta", "put", "vote", "node 1"]).good();
    place.run(&["meta", "put", "term", "--hex", "00ff"]).good();
    assert_eq!(place.run(&["meta", "list"]).good(), "owner\tada\nterm\thex:00ff\nvote\tnode 1\n");
    assert_eq!(place.run_json(&["meta", "get", "term"]).json(), [json!({"key": "term", "value": {"$bin": "00ff"}})]);
    let output = place.command(&["meta", "get", "--raw", "term"]).output().unwrap();
    assert_eq!(output.stdout, [0, 255]);
    place.run(&["meta", "delete", "term"]).good();
    place.run(&["meta", "delete", "term"]).bad(4);
    assert!(place.run(&["meta", "get", "term"]).bad(4).contains("no metadata under the key term"));
}

#[test]
fn truncations_say_what_they_removed() {
    let place = Place::filled();
    assert_eq!(place.run(&["truncate", "--before", "11"]).good(), "removed 9 entries, 41 entries left\n");
    let left = place.run_json(&["truncate", "--after", "20"]).json();
    assert_eq!(left, [json!({"removed": 31, "entries": 10, "next_index": 21})]);
    assert!(place.run(&["put", "5", "k", "1"]).bad(1).contains("below the floor 11"));
    assert_eq!(place.run_json(&["append", "k", "1"]).json()[0]["index"], 21);
}

#[test]
fn rotate_seals_the_last_segment_once() {
    let place = Place::filled();
    let before = place.run_json(&["segments"]).json().len();
    let sealed = place.run_json(&["rotate"]).json();
    assert_eq!(sealed[0]["sealed"], before);
    assert!(place.run(&["rotate"]).good().contains("nothing to seal"));
    let segments = place.run_json(&["segments"]).json();
    assert_eq!(segments.len(), before + 1);
    assert!(segments[..before].iter().all(|segment| segment["is_sealed"] == true));
}
