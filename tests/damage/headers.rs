//! Each two bits of what describes other bytes: headers of files, of fragments, trailers of footers, slots of the manifest.

use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::log::{Log, each, log, takes_all};
use crate::numbers::Numbers;

/// How long they are: the header of a fragment, a trailer with it, what a slot of the manifest says.
const HEADER: usize = 11;
const TRAILER: usize = HEADER + 96;
const SLOT: usize = 92;

/// Every so many records the header of its fragment is tried.
const RECORDS: usize = 10;
/// Pairs of each kind that are tried in every `cargo test`.
const FEW: usize = 60;

/// Bytes of a file.
type Place = (PathBuf, Range<usize>);

/// Each two bits of each of these places, which are of one length, both flipped.
fn every_pair(log: &Log, name: &str, places: &[Place]) {
    let bits = places[0].1.len() * 8;
    assert!(places.iter().all(|(_, range)| range.len() * 8 == bits));
    let count = if takes_all() { places.len() * bits * bits } else { FEW };
    each("R5", &format!("{name}, {}", log.words), count, 1, |case| {
        let mut numbers = Numbers(case as u64);
        let case = if takes_all() { case } else { numbers.below((places.len() * bits * bits) as u64) as usize };
        let ((path, range), one, other) = (&places[case / bits / bits], case / bits % bits, case % bits);
        // The same pair the other way round, or one bit twice.
        if other <= one {
            return 0;
        }
        let pair = [one, other].map(|bit| (range.start + bit / 8, bit % 8));
        let words = || format!("{} with these bits flipped: {pair:?}", path.display());
        let fs = log.changed(path, |bytes| pair.iter().for_each(|(at, bit)| bytes[*at] ^= 1 << bit));
        let seen = log.examine(&fs, log.is_undecidable(path, range.end), &words);
        let is_data = log.ends.contains_key(path);
        assert!(is_data || seen.lost.is_empty(), "{}, {}: the manifest is no data", log.words, words());
        1
    });
}

fn segment_of(log: &Log, number: u64) -> PathBuf {
    let is_it = |path: &PathBuf| path.to_str().unwrap().ends_with(&format!("{number:020}.log"));
    log.segments().into_iter().find(is_it).unwrap()
}

#[test]
fn no_two_bits_of_the_header_of_a_file_go_unnoticed() {
    let log = log(true);
    let place = |is_sealed| log.ends.iter().find(|(_, end)| end.1 == is_sealed).map(|(path, _)| (path.clone(), 0..64));
    every_pair(&log, "headers of files", &[place(true).unwrap(), place(false).unwrap()]);
}

#[test]
fn no_two_bits_of_the_header_of_a_fragment_go_unnoticed() {
    for log in [log(true), log(false)] {
        let some = log.entries.values().rev().step_by(RECORDS).map(|entry| {
            let at = entry.position.offset() as usize;
            (segment_of(&log, entry.position.segment()), at..at + HEADER)
        });
        every_pair(&log, "headers of fragments", &some.collect::<Vec<_>>());
    }
}

#[test]
fn no_two_bits_of_a_trailer_go_unnoticed() {
    let log = log(true);
    let (path, _) = log.ends.iter().find(|(_, (_, is_sealed))| *is_sealed).unwrap();
    let end = log.fs.read_file(path).unwrap().len();
    every_pair(&log, "trailers", &[(path.clone(), end - TRAILER..end)]);
}

#[test]
fn no_two_bits_of_the_manifest_go_unnoticed() {
    let log = log(true);
    let path = Path::new("/log/segment_manifest");
    every_pair(&log, "slots of the manifest", &[0, 4096].map(|slot| (path.to_owned(), slot..slot + SLOT)));
}
