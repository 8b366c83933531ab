//! What commands do about damage.

use casklog::Error;

use super::Place;

#[test]
fn verify_names_a_damaged_byte_and_ends_with_3() {
    let place = Place::filled();
    let at = place.spoil(0);
    let before = place.snapshot();
    let ran = place.run_json(&["verify"]);
    let report: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(report["is_good"], false);
    let damage = &report["damage"][0];
    assert_eq!(damage["segment"], 1);
    let (from, to) = (damage["from"].as_u64().unwrap(), damage["to"].as_u64().unwrap());
    assert!((from..to).contains(&at), "{at}: {damage}");
    assert!(ran.bad(3).contains("hint: restore the files from a copy"));

    let ran = place.run(&["verify"]);
    assert!(ran.stdout.contains("damage  ") && !ran.stdout.contains("good"), "{ran:?}");
    ran.bad(3);
    assert_eq!(place.snapshot(), before);
}

#[test]
fn every_damaged_byte_of_a_segment_is_found() {
    let place = Place::filled();
    let segment = place.options().open_read_only().unwrap().segments().swap_remove(1);
    let good = std::fs::read(&segment.path).unwrap();
    for at in (0..good.len()).step_by(good.len() / 23) {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        std::fs::write(&segment.path, bytes).unwrap();
        place.run(&["verify"]).bad(3);
    }
    std::fs::write(&segment.path, good).unwrap();
    place.run(&["verify"]).good();
}

#[test]
fn cat_shows_what_stands_around_damage() {
    let place = Place::filled();
    let all = place.run(&["cat"]).good();
    place.spoil(0);
    for args in [&["cat"][..], &["cat", "--log-order"], &["tail", "-n", "1000"]] {
        let ran = place.run(args);
        let lines = ran.stdout.lines().filter(|line| !line.contains("(deleted)"));
        let shown = lines.filter(|line| all.contains(line)).count();
        assert!((40..50).contains(&shown), "{shown}: {ran:?}");
        assert!(ran.stdout.contains("\n60\t") || ran.stdout.starts_with("60\t"), "{ran:?}");
        assert!(ran.bad(3).contains("damage: segment "));
    }
}

#[test]
fn get_of_a_damaged_entry_is_damage_and_not_absence() {
    let place = Place::filled();
    place.spoil(0);
    let reader = place.options().open_read_only().unwrap();
    let damaged = (1..50).find(|index| matches!(reader.get(*index), Err(Error::Damaged { .. }))).unwrap();
    place.run(&["get", &damaged.to_string(), "50"]).bad(3);
    place.run(&["get", "50"]).good();
}

#[test]
fn a_missing_segment_is_listed_drawn_and_dropped() {
    let place = Place::filled();
    let segments = place.options().open_read_only().unwrap().segments();
    std::fs::remove_file(&segments[1].path).unwrap();
    for command in ["info", "segments", "map", "verify"] {
        let ran = place.run(&[command]);
        assert!(!ran.stdout.is_empty());
        ran.bad(3);
    }
    assert!(place.run(&["map"]).stdout.contains("damage"));
    assert!(place.run(&["cat"]).bad(3).contains("damage: "));
    assert!(place.run(&["append", "k", "1"]).bad(3).contains("hint: casklog verify lists"));

    let before = place.snapshot();
    let ran = place.run(&["unsafe-recover"]);
    let name = segments[1].path.file_name().unwrap().to_str().unwrap();
    assert!(ran.stdout.contains("would drop ") && ran.stdout.contains(name), "{ran:?}");
    assert!(ran.bad(3).contains("--yes"));
    assert_eq!(place.snapshot(), before);

    let ran = place.run(&["unsafe-recover", "--yes"]).good();
    assert!(ran.contains("dropped ") && ran.contains("quarantine"), "{ran}");
    assert!(place.run(&["unsafe-recover", "--yes"]).good().contains("nothing to drop"));
    place.run(&["append", "k", "1"]).good();
    assert!(place.run(&["verify"]).good().contains("given up"));
    assert!(place.run(&["info"]).good().contains("given up"));
}

#[test]
fn a_damaged_file_in_use_is_quarantined() {
    let place = Place::filled();
    place.spoil(1);
    let dropped = place.run_json(&["unsafe-recover", "--yes"]).json();
    assert_eq!(dropped[0]["segments"].as_array().unwrap().len(), 1);
    assert!(place.run(&["info"]).good().contains("quarantine   1 file"));
}

#[test]
fn a_lost_manifest_is_told_and_made_anew() {
    let place = Place::filled();
    std::fs::write(place.path().join("segment_manifest"), "rot").unwrap();
    let ran = place.run(&["verify"]);
    assert!(ran.stdout.contains("the manifest is missing or damaged"), "{ran:?}");
    ran.bad(3);
    assert!(place.run(&["info"]).stdout.contains("manifest "));
    place.run(&["append", "k", "1"]).good();
    place.run(&["verify"]).good();
}
