//! Commands that look at a log as a whole: info, segments, stats, verify, map; and bench, which makes its own.

use super::Place;

#[test]
fn info_tells_what_the_files_tell() {
    let place = Place::filled();
    let info = &place.run_json(&["info"]).json()[0];
    assert_eq!(info["entries"], 50);
    assert_eq!((&info["first_index"], &info["last_index"], &info["next_index"]), (&1.into(), &60.into(), &61.into()));
    assert_eq!((&info["deleted"], &info["meta_keys"], &info["meta_bytes"]), (&1.into(), &1.into(), &8.into()));
    assert_eq!((&info["order"], &info["checksums"][0]), (&"any".into(), &"crc32".into()));
    assert_eq!(info["is_closed"], true);
    assert_eq!(info["log_id"].as_str().unwrap().len(), 32);
    assert_eq!(info["tail"], info["durable"]);
    assert!(info["disk_bytes"].as_u64().unwrap() >= info["bytes"].as_u64().unwrap());
    let text = place.run(&["info"]).good();
    for words in
        ["order        any", "entries      50, 1 deleted", "indexes      1 to 60; next 61", "state        closed"]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn info_of_a_log_that_is_open_says_so() {
    let place = Place::empty();
    let store = place.options().open().unwrap();
    store.append("k", "v").unwrap();
    let info = &place.run_json(&["info"]).json()[0];
    assert_eq!((&info["is_closed"], &info["entries"]), (&false.into(), &1.into()));
}

/// All metadata stands at the head of each segment, which then takes several blocks.
#[test]
fn info_reads_heads_of_several_blocks() {
    let place = Place::empty();
    let store = place.options().index_order(casklog::IndexOrder::Increasing).open().unwrap();
    store.put_meta("large", [7; 60_000]).unwrap();
    store.rotate().unwrap();
    store.append("k", "v").unwrap();
    store.truncate_before(1).unwrap();
    store.close().unwrap();
    let info = &place.run_json(&["info"]).json()[0];
    assert_eq!((&info["order"], &info["meta_bytes"]), (&"increasing".into(), &60_005.into()));
    let segments = place.run_json(&["segments"]).json();
    let last = segments.last().unwrap();
    assert!(last["bytes"].as_u64().unwrap() > 60_000 && last["begun_ms"].is_u64(), "{last}");
}

#[test]
fn segments_are_listed_with_what_they_hold() {
    let place = Place::filled();
    let expected = place.options().open_read_only().unwrap().segments();
    let segments = place.run_json(&["segments"]).json();
    assert_eq!(segments.len(), expected.len());
    for (segment, expected) in segments.iter().zip(&expected) {
        let bounds = expected.indexes.unwrap();
        assert_eq!(segment["number"], expected.number);
        assert_eq!((segment["first_index"].as_u64(), segment["last_index"].as_u64()), (Some(bounds.0), Some(bounds.1)));
        assert_eq!(
            (segment["entries"].as_u64(), segment["bytes"].as_u64()),
            (Some(expected.entries), Some(expected.bytes))
        );
        assert_eq!((&segment["is_sealed"], &segment["checksum"]), (&expected.is_sealed.into(), &"crc32".into()));
        assert!(segment["begun_ms"].as_u64().unwrap() <= segment["last_write_ms"].as_u64().unwrap() + 1000);
    }
    let table = place.run(&["segments"]).good();
    assert_eq!(table.lines().count(), expected.len() + 1);
    assert!(table.contains("just now") || table.contains(" ago"), "{table}");
}

#[test]
fn stats_are_those_of_a_reader() {
    let place = Place::filled();
    let stats = &place.run_json(&["stats"]).json()[0];
    assert_eq!((&stats["entries"], &stats["deleted"]), (&50.into(), &1.into()));
    assert!(place.run(&["stats"]).good().contains("entries   50\n"));
}

#[test]
fn verify_of_a_good_log_says_so() {
    let place = Place::filled();
    let report = &place.run_json(&["verify"]).json()[0];
    assert_eq!((&report["is_good"], report["damage"].as_array().unwrap().len()), (&true.into(), 0));
    assert!(report["records"].as_u64().unwrap() > 51 && report["bytes"].as_u64().unwrap() > 2000);
    assert!(place.run(&["verify"]).good().ends_with("all of it is good\n"));
}

#[test]
fn a_map_is_one_page_that_loads_nothing() {
    let place = Place::filled();
    let page = place.run(&["map"]).good();
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
    for foreign in ["http://", "https://", "src=", "<script", "@import"] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    let segments = place.run_json(&["segments"]).json();
    for segment in &segments {
        assert!(page.contains(&format!("<title>segment {}, ", segment["number"])));
    }
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    assert_eq!(page.matches("<g>").count(), segments.len());

    let survey = &place.run_json(&["map"]).json()[0];
    let live = |one: &serde_json::Value| one["live_entries"].as_u64().unwrap();
    assert_eq!(survey["segments"].as_array().unwrap().iter().map(live).sum::<u64>(), 50);
    for segment in survey["segments"].as_array().unwrap() {
        let (live, all) = (segment["live_bytes"].as_u64().unwrap(), segment["bytes"].as_u64().unwrap());
        assert!(live <= all && live > 0, "{segment}");
    }
    let quick = &place.run_json(&["map", "--quick"]).json()[0];
    assert_eq!(quick["is_read"], false);

    let file = place.path().join("map.html");
    let said = place.run(&["map", "--output", file.to_str().unwrap()]).good();
    assert!(said.starts_with("wrote ") && std::fs::read_to_string(file).unwrap().len() > 2000);
}

#[test]
fn a_map_shows_what_is_dead() {
    let place = Place::filled();
    let indexes: Vec<String> = (1..=30).map(|index: u32| index.to_string()).collect();
    let args: Vec<&str> = std::iter::once("delete").chain(indexes.iter().map(String::as_str)).collect();
    // Entry 7 was deleted before.
    place.run(&args).bad(4);
    let survey = &place.run_json(&["map"]).json()[0];
    let first = &survey["segments"][0];
    assert_eq!((&first["live_entries"], &first["live_bytes"]), (&0.into(), &0.into()));
    assert!(place.run(&["map"]).good().contains("class=\"dead\""));
}

#[test]
fn a_map_of_nothing_can_be_drawn() {
    let place = Place::empty();
    place.run(&["init"]).good();
    assert_eq!(place.run(&["map"]).good().matches("<g>").count(), 1);
}

#[test]
fn a_bench_removes_what_it_made() {
    let place = Place::filled();
    let before = place.snapshot();
    let ran = place.run_json(&["bench", "--seconds", "0.02", "--threads", "2"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let figures: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let measured = figures["measurements"].as_array().unwrap();
    assert_eq!(measured.len(), 5);
    for one in measured {
        assert!(one["operations"].as_u64().unwrap() > 0 && one["per_second"].as_f64().unwrap() > 0.0, "{one}");
        assert!(one["median_us"].as_f64().unwrap() <= one["p99_us"].as_f64().unwrap(), "{one}");
    }
    assert_eq!(place.snapshot(), before);
    place.run(&["bench", "--seconds", "0"]).bad(2);
    place.run(&["bench", "--seconds", "nan"]).bad(2);
    let missing = place.path().join("missing");
    assert_eq!(super::casklog().arg("-d").arg(&missing).arg("bench").output().unwrap().status.code(), Some(1));
}
