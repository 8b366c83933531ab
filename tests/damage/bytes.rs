//! Every byte of every file, each bit flipped, and overwritten; and several bytes at once.

use std::path::Path;

use crate::flips::Flips;
use crate::log::{Entry, Log, Seen, each, log, takes_all};
use crate::numbers::Numbers;

/// What becomes of a byte: a bit flipped, or zeros, or ones.
pub(crate) fn mutant(byte: u8, way: usize) -> u8 {
    match way {
        0..BITS => byte ^ 1 << way,
        8 => 0,
        _ => 0xff,
    }
}

pub(crate) const WAYS: usize = 10;
const BITS: usize = 8;

fn every_byte(log: &Log, sample: usize) {
    let flips = Flips::default();
    for path in log.fs.list_all().into_iter().filter(|path| !path.ends_with("segment_lock")) {
        let path = Path::new("/").join(path);
        let bytes = log.fs.read_file(&path).unwrap();
        let name = format!("{}, {}", log.words, path.display());
        // The manifest is zeros but for the beginnings of its slots.
        let is_thinned = path.ends_with("segment_manifest") && !takes_all();
        each("R5", &name, bytes.len() * WAYS, sample, |case| {
            let (at, way) = (case / WAYS, case % WAYS);
            let changed = mutant(bytes[at], way);
            if changed == bytes[at] || (is_thinned && at % 4096 >= 128 && way != at % WAYS) {
                return 0;
            }
            let seen = one(log, &path, at, changed);
            if way < BITS {
                flips.count(log, &path, at, seen.told());
            }
            1
        });
    }
    flips.record(log);
}

/// Changes one byte, and checks what is lost by it and what is told.
pub(crate) fn one(log: &Log, path: &Path, at: usize, changed: u8) -> Seen {
    let words = || format!("{} byte {at} is {changed:02x}", path.display());
    let seen = log.examine(&log.changed(path, |bytes| bytes[at] = changed), false, &words);
    let Some((end, _)) = log.ends.get(path) else {
        assert!(seen.lost.is_empty(), "{}, {}: the manifest is no data", log.words, words());
        return seen;
    };
    let number: u64 = path.to_str().unwrap()[path.to_str().unwrap().len() - 24..][..20].parse().unwrap();
    let at = at as u64;
    let here = |entry: &Entry| entry.position.segment() == number && (entry.position.offset()..entry.end).contains(&at);
    let hit = self::hit(log, here);
    let is_reported = seen.is_reported_at(path, at);
    let reports = (&seen.strict, &seen.verified.as_ref().map(|verified| &verified.damage));
    if let Some(index) = hit {
        assert!(seen.lost == [index], "{}, {}: of entry {index}; lost are {:?}", log.words, words(), seen.lost);
        assert!(is_reported, "{}, {}: of entry {index}: {reports:?}", log.words, words());
    } else if at >= *end {
        assert!(seen.lost.is_empty(), "{}, {}: behind the records; lost {:?}", log.words, words(), seen.lost);
    } else if at >= 64 && at + 60 < *end {
        // Watermarks, deletions, metadata, head stamps.
        assert!(is_reported, "{}, {}: of no entry: {reports:?}", log.words, words());
    }
    seen
}

fn hit(log: &Log, here: impl Fn(&Entry) -> bool) -> Option<u64> {
    log.entries.iter().find(|(_, entry)| here(entry)).map(|(index, _)| *index)
}

#[test]
fn no_changed_byte_of_a_closed_store_goes_unnoticed() {
    every_byte(&log(true), 61);
}

#[test]
fn no_changed_byte_of_a_killed_store_goes_unnoticed() {
    every_byte(&log(false), 61);
}

/// Logs with several changed bytes, of each store, in every `cargo test`.
const SEVERAL: usize = 300;

/// Two to five changes of bytes of one file, near each other or anywhere.
fn several_bytes(log: &Log) {
    let count = std::env::var("CASKLOG_DAMAGE_SEVERAL").map_or(SEVERAL, |count| count.parse().unwrap());
    let paths = log.segments();
    each("R5", &format!("{}, several bytes", log.words), count, 1, |case| {
        let mut numbers = Numbers(case as u64);
        let path = &paths[numbers.below(paths.len() as u64) as usize];
        let mut changes = Vec::new();
        let fs = log.changed(path, |bytes| {
            let first = numbers.below(bytes.len() as u64);
            let near = if numbers.percent(50) { 64 } else { bytes.len() as u64 };
            for _ in 0..2 + numbers.below(4) {
                let at = ((first + numbers.below(near)) % bytes.len() as u64) as usize;
                bytes[at] = mutant(bytes[at], numbers.below(WAYS as u64) as usize);
                changes.push((at, bytes[at]));
            }
        });
        let words = || format!("{} with bytes {changes:02x?}, case {case}", path.display());
        let unknown = changes.iter().any(|(at, _)| log.is_undecidable(path, at + 1));
        let seen = log.examine(&fs, unknown, &words);
        let end = log.ends[path].0 as usize;
        let is_behind = changes.iter().all(|(at, _)| *at >= end);
        assert!(!is_behind || seen.lost.is_empty(), "{}, {}: lost {:?}", log.words, words(), seen.lost);
        1
    });
}

#[test]
fn several_changed_bytes_of_a_store_do_not_go_unnoticed() {
    several_bytes(&log(true));
    several_bytes(&log(false));
}
