//! The way of somebody who has records, and then has bad luck: import, look, damage, repair, undo.
//!
//! On the sample of the examples; `CASKLOG_RECORDS=FILE cargo test -p casklog-cli newcomer -- --nocapture` takes any file
//! of `{"index":…,"key":…,"value":…}` lines, plain or gzipped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Place;

fn records() -> PathBuf {
    let sample = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/data/debian-packages-sample.ndjson");
    std::env::var_os("CASKLOG_RECORDS").map_or_else(sample, PathBuf::from)
}

/// Index to line, as `export` gives them.
fn exported(place: &Place, code: i32) -> BTreeMap<u64, String> {
    let ran = place.run(&["export"]);
    assert_eq!(ran.code, code, "{}", ran.stderr);
    let index = |line: &str| serde_json::from_str::<Value>(line).unwrap()["index"].as_u64().unwrap();
    ran.stdout.lines().map(|line| (index(line), line.to_owned())).collect()
}

#[test]
fn import_look_damage_repair_and_undo() {
    let place = Place::empty();
    let path = records();
    let file = path.to_str().unwrap();
    let told = place.run_json(&["import", file, "--segment-bytes", "256K"]).json().remove(0);
    let count = told["read"].as_u64().unwrap();
    assert_eq!((told["written"].as_u64(), told["unreadable"].as_u64()), (Some(count), Some(0)), "{told}");
    // Once more changes nothing: all of it is there.
    let told = place.run_json(&["import", file]).json().remove(0);
    assert_eq!((told["written"].as_u64(), told["identical"].as_u64()), (Some(0), Some(count)), "{told}");

    let all = exported(&place, 0);
    assert_eq!(all.len() as u64, count);
    assert_eq!(place.run(&["cat"]).good().lines().count() as u64, count);
    if !file.ends_with(".gz") {
        let given = std::fs::read_to_string(&path).unwrap();
        let value = |line: &str| serde_json::from_str::<Value>(line).unwrap();
        assert!(given.lines().map(value).eq(all.values().map(|line| value(line))), "what went in comes out");
    }
    place.run(&["verify"]).good();

    let segments = place.options().open_read_only().unwrap().segments();
    let middle = (segments.len() - 1) / 2;
    place.spoil(middle);
    let damaged = place.snapshot();
    assert!(place.run(&["verify"]).bad(3).contains("casklog repair"));

    let planned: Value = serde_json::from_str(&place.run_json(&["repair", "--dry-run"]).stdout).unwrap();
    assert_eq!(place.snapshot(), damaged, "a dry run changes nothing");
    let ran = place.run_json(&["repair"]);
    assert_eq!(ran.code, 3, "an entry is lost: {ran:?}");
    let done: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&planned["segments"], &planned["is_dry_run"]), (&done["segments"], &Value::Bool(true)));
    let lost = &done["segments"][0]["lost"][0]["indexes"];
    let [first, last] = [0, 1].map(|place| lost[0][place].as_u64().unwrap());
    assert!(first == last && lost.as_array().unwrap().len() == 1, "one byte costs one entry: {lost}");
    let verified = place.run(&["verify"]).good();
    assert!(verified.contains("given up"), "{verified}");
    let mut expected = all.clone();
    expected.remove(&first);
    assert_eq!(exported(&place, 3), expected, "all but the one that is lost");
    place.run(&["get", &first.to_string()]).bad(3);

    place.run(&["repair", "--undo"]).good();
    let undone = place.snapshot();
    for (path, (bytes, _)) in damaged {
        assert!(undone[&path].0 == bytes, "{} is what it was", path.display());
    }
    place.run(&["verify"]).bad(3);
    println!("{count} records in {} segments; index {first} was lost and came back", segments.len());
}
