//! Reading entries: get, cat, tail.

use serde_json::json;

use super::Place;

#[test]
fn get_shows_entries_by_index_key_and_position() {
    let place = Place::filled();
    assert_eq!(place.run(&["get", "3"]).good(), "3\tother\t[\"some text to fill the segments with\",3]\n");
    assert_eq!(place.run(&["get", "3", "--hex", "60"]).good().lines().nth(1), Some("60\thex:ff00\tc403010203"));
    assert_eq!(place.run(&["get", "60"]).good(), "60\thex:ff00\t{\"$bin\":\"010203\"}\n");

    let found = place.run_json(&["get", "10", "20"]).json();
    assert_eq!(found[0]["index"], 10);
    assert_eq!(found[1]["value"], json!(["some text to fill the segments with", 20]));
    assert_eq!(found[1]["durable"], true);
    let position = found[1]["position"].as_str().unwrap();
    assert_eq!(place.run_json(&["get", "--position", position]).json(), found[1..]);

    let newest = place.run_json(&["get", "--key", "tens"]).json();
    assert_eq!(newest.iter().map(|entry| entry["index"].as_u64()).collect::<Vec<_>>(), [Some(50)]);
    let all = place.run_json(&["get", "--key", "tens", "--all"]).json();
    assert_eq!(all.iter().map(|entry| entry["index"].as_u64().unwrap()).collect::<Vec<_>>(), [50, 40, 30, 20, 10]);
    let binary = place.run_json(&["get", "--hex-keys", "--key", "ff00"]).json();
    assert_eq!(binary[0]["key"], json!({"$bin": "ff00"}));
}

#[test]
fn get_says_what_is_not_there_and_shows_the_rest() {
    let place = Place::filled();
    let ran = place.run(&["get", "--no-values", "6", "7", "8", "1000"]);
    assert_eq!(ran.stdout, "6\tother\n8\tother\n");
    assert_eq!(ran.bad(4), "error: there is no entry at index 7\nerror: there is no entry at index 1000\n");
    let complaint = place.run(&["get", "--key", "nobody"]).bad(4);
    assert_eq!(complaint, "error: there is no entry with the key nobody\n");
    place.run(&["get", "--position", "1:65"]).bad(1);
}

#[test]
fn get_writes_bytes_as_they_are() {
    let place = Place::filled();
    let output = place.command(&["get", "--raw", "60", "1"]).output().unwrap();
    let store = place.options().open_read_only().unwrap();
    let expected = [60, 1].map(|index| store.get(index).unwrap().unwrap().raw_value().to_vec()).concat();
    assert_eq!(output.stdout, expected);
    let output = place.command(&["get", "--content", "60"]).output().unwrap();
    assert_eq!(output.stdout, [1, 2, 3]);
    place.run(&["get", "--content", "1"]).bad(2);
}

#[test]
fn cat_filters_and_limits() {
    let place = Place::filled();
    let indexes = |args: &[&str]| -> Vec<u64> {
        let entries = place.run_json(&[&["cat"], args].concat()).json();
        entries.iter().map(|entry| entry["index"].as_u64().unwrap()).collect()
    };
    assert_eq!(indexes(&[]).len(), 50);
    assert_eq!(indexes(&["--from", "5", "--to", "9"]), [5, 6, 8, 9]);
    assert_eq!(indexes(&["--reverse", "--limit", "3"]), [60, 50, 49]);
    assert_eq!(indexes(&["--keys", "tens", "--limit", "2"]), [10, 20]);
    assert_eq!(indexes(&["--prefix-key", "te", "--from", "25"]), [30, 40, 50]);
    assert_eq!(indexes(&["--keys", "ff00", "--keys", "74656e73", "--hex-keys", "--reverse"]), [60, 50, 40, 30, 20, 10]);
    assert_eq!(indexes(&["--limit", "0"]), [0; 0]);
    assert_eq!(indexes(&["--from", "9", "--to", "5"]), [0; 0]);
    assert_eq!(place.run(&["cat", "--limit", "1", "--hex", "--from", "60"]).good(), "60\thex:ff00\tc403010203\n");
}

#[test]
fn cat_in_log_order_shows_deletions() {
    let place = Place::filled();
    let lines = place.run(&["cat", "--log-order", "--from", "7", "--to", "7"]).good();
    let lines: Vec<_> = lines.lines().collect();
    assert_eq!(lines, ["7\tother\t[\"some text to fill the segments with\",7]", "7\tother\t(deleted)"]);
    let items = place.run_json(&["cat", "--log-order"]).json();
    assert_eq!(items.len(), 52);
    let last = &items[51];
    assert_eq!((&last["index"], &last["key"], &last["deleted"]), (&json!(7), &json!("other"), &json!(true)));
    assert!(last.get("value").is_none());
}

#[test]
fn tail_shows_what_was_written_last() {
    let place = Place::filled();
    let last = |count: &str| place.run(&["tail", "-n", count, "--no-values"]).good();
    assert_eq!(last("3"), "50\tother\n60\thex:ff00\n7\tother\t(deleted)\n".replace("50\tother", "50\ttens"));
    assert_eq!(last("0"), "");
    assert_eq!(last("1000").lines().count(), 52);
    assert_eq!(place.run(&["tail"]).good().lines().count(), 10);
    for count in 1..52 {
        assert_eq!(last(&count.to_string()).lines().count(), count);
    }
}

/// Values that no schema describes: whatever MessagePack has is shown, and what was shown can be written again.
#[test]
fn any_value_is_shown_and_can_be_written_again() {
    let place = Place::empty();
    place.run(&["init"]).good();
    let values = [
        "null",
        "-9223372036854775808",
        "0.25",
        r#"{"b":[1,2,{"c":null}],"a":"text"}"#,
        r#"{"$bin":"00ff"}"#,
        r#"{"$ext":[42,"00ff"]}"#,
        r#"{"$map":[[1,"one"],[[2],"two"]]}"#,
        r#"{"$float":"-Infinity"}"#,
    ];
    for value in values {
        place.run(&["append", "", value]).good();
    }
    let shown = place.run(&["cat"]).good();
    let shown: Vec<_> = shown.lines().map(|line| line.split('\t').nth(2).unwrap()).collect();
    assert_eq!(shown, values);
    assert_eq!(place.run(&["get", "6", "--hex"]).good(), "6\t\"\"\td52a00ff\n");
}

/// A value that moves the cursor or changes the title of a terminal is shown, not obeyed.
#[test]
fn control_characters_are_shown_as_digits() {
    let place = Place::empty();
    let store = place.options().open().unwrap();
    store.append("a\u{1b}]0;b", "c\u{1b}[2J \u{9b}2J\u{7f} \u{e9}\n").unwrap();
    store.close().unwrap();
    let shown = place.run(&["cat"]).good();
    assert_eq!(shown, "1\t\"a\\u001b]0;b\"\t\"c\\u001b[2J \\u009b2J\\u007f \u{e9}\\n\"\n");
    let json = &place.run_json(&["cat"]).json()[0];
    assert_eq!(json["value"], "c\u{1b}[2J \u{9b}2J\u{7f} \u{e9}\n");
}
