//! `verify` finds every damaged byte, says where it is, and calls nothing else damaged.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use casklog::format::{Checksum, Expect, Header, Part, Trailer, block_rest, footer_locate, read_fragment};
use casklog::fs::sim::SimFs;
use casklog::fs::{Access, File, Fs};
use casklog::{Batch, Options, Reader, SyncPolicy, Verified};

use crate::common::*;

/// Three segments, two of them sealed: entries alone and in batches, deletions, truncations, metadata, two resumes.
fn log(value_bytes: usize) -> SimFs {
    let fs = SimFs::new();
    let options = || sim(&fs).sync(SyncPolicy::Immediate).segment_bytes(1 << 20);
    let mut store = options().open().unwrap();
    for segment in 0..3u64 {
        let next = store.next_index().unwrap();
        for index in next..next + 5 {
            store.write_bytes(index, "alone", vec![index as u8; value_bytes]).unwrap();
        }
        let mut batch = Batch::new();
        for index in next + 5..next + 9 {
            batch.put_bytes(index, "batch", vec![index as u8; value_bytes]);
        }
        batch.delete(next + 1).put_meta("segment", [segment as u8]);
        store.write_batch(&batch).unwrap();
        drop(store);
        store = options().open().unwrap();
        store.truncate_after(next + 7).unwrap();
        if segment < 2 {
            store.rotate().unwrap();
        }
    }
    store.close().unwrap();
    fs
}

fn file(fs: &SimFs, number: u64) -> std::sync::Arc<dyn File> {
    fs.open(&sim_segment(number), Access::Write).unwrap()
}

/// What the independent walk over a segment finds: where each record starts, and where the data end.
struct Walk {
    starts: Vec<u32>,
    end: u32,
}

fn walk(bytes: &[u8]) -> Walk {
    let header = Header::from_bytes(bytes).unwrap();
    let (mut at, mut previous, mut starts) = (64, None, Vec::new());
    loop {
        if block_rest(at) < header.checksum.fragment_header_bytes() as u32 {
            at += block_rest(at);
        }
        let rest = bytes.get(at as usize..).unwrap_or_default();
        let fragment = match read_fragment(header.checksum, rest, at, Expect::File(header.log_number), previous) {
            Ok(fragment) if fragment.record.kind != casklog::format::Kind::Footer => fragment,
            _ => return Walk { starts, end: at },
        };
        if matches!(fragment.part, Part::Full | Part::First) {
            starts.push(at);
        }
        (at, previous) = (fragment.end, Some(fragment.sum));
    }
}

fn segments(fs: &SimFs) -> Vec<(PathBuf, Vec<u8>, Walk)> {
    let files = (1..=3).map(sim_segment).map(|path| (fs.read_file(&path).unwrap(), path));
    files.map(|(bytes, path)| (path, walk(&bytes), bytes)).map(|(path, walk, bytes)| (path, bytes, walk)).collect()
}

fn clean(reader: &Reader) -> Verified {
    let found = reader.verify().unwrap();
    assert!(!found.is_damaged() && found.footers_damaged.is_empty(), "{found:?}");
    found
}

#[test]
fn a_good_log_is_read_to_the_last_record() {
    for value_bytes in [20, 30_000] {
        let fs = log(value_bytes);
        let reader = sim(&fs).open_read_only().unwrap();
        let found = clean(&reader);
        let walks = segments(&fs);
        assert_eq!(found.segments, 3);
        assert_eq!(found.records, walks.iter().map(|(.., walk)| walk.starts.len() as u64).sum::<u64>());
        assert_eq!(found.bytes, walks.iter().map(|(.., walk)| u64::from(walk.end)).sum::<u64>());
        assert_eq!(found.bytes, reader.segments().iter().map(|segment| segment.bytes).sum::<u64>());
        let store = sim(&fs).open().unwrap();
        assert_eq!(clean(&store), found);
        assert_eq!(store.len(), reader.len());
    }
}

/// Flips a bit of each `step`th byte and asks a reader that was opened before.
fn flip_each(fs: &SimFs, number: u64, step: usize) {
    let (path, bytes, walk) = segments(fs).swap_remove(number as usize - 1);
    let reader = sim(fs).cache_bytes(0).open_read_only().unwrap();
    let whole = clean(&reader);
    let file = file(fs, number);
    // Of the last segment what stands behind the end is no part of the log.
    let is_sealed = number < 3;
    let end = if is_sealed { bytes.len() } else { walk.end as usize };
    for at in (0..end).step_by(step) {
        file.write_at(&[bytes[at] ^ 1 << (at % 8)], at as u64).unwrap();
        let found = reader.verify().unwrap();
        if at >= walk.end as usize {
            assert_eq!((found.footers_damaged, found.damage), (vec![number], vec![]), "byte {at}");
        } else {
            assert_eq!((found.footers_damaged, found.damage.len()), (vec![], 1), "byte {at}: {:?}", found.damage);
            let damage = &found.damage[0];
            assert_eq!((&damage.path, damage.segment, damage.is_missing), (&path, number, false), "byte {at}");
            assert!((damage.bytes.0..damage.bytes.1).contains(&(at as u64)), "byte {at}: {damage:?}");
            // Nothing that is good is called damaged: the record, or the header, and what is left of a block.
            let starts: Vec<u64> = [0, 64].into_iter().chain(walk.starts.iter().map(|at| u64::from(*at))).collect();
            let within = starts.iter().filter(|start| **start > damage.bytes.0 && **start < damage.bytes.1);
            assert_eq!(within.count(), 0, "byte {at}: {damage:?}");
            assert_eq!(found.records, whole.records - u64::from(at >= 64), "byte {at}: {damage:?}");
        }
        file.write_at(&bytes[at..=at], at as u64).unwrap();
    }
    assert_eq!(clean(&reader), whole);
}

#[test]
fn every_flipped_byte_is_found_and_nothing_else() {
    let fs = log(20);
    (1..=3).for_each(|number| flip_each(&fs, number, 1));
}

#[test]
fn a_flipped_byte_of_a_long_record_is_found_and_nothing_else() {
    let fs = log(30_000);
    flip_each(&fs, 2, 331);
    let ends = segments(&fs)[1].2.starts.iter().map(|at| *at as usize).collect::<Vec<_>>();
    assert!(ends.windows(2).any(|pair| pair[1] - pair[0] > 30_000));
    flip_each(&fs, 3, 997);
}

#[test]
fn a_cut_file_is_damaged_from_the_cut_on() {
    let fs = log(20);
    let (path, bytes, walk) = segments(&fs).swap_remove(1);
    let reader = sim(&fs).open_read_only().unwrap();
    clean(&reader);
    for cut in (0..bytes.len()).step_by(13) {
        file(&fs, 2).set_size(cut as u64).unwrap();
        let found = reader.verify().unwrap();
        assert_eq!(found.footers_damaged, [2], "cut to {cut}");
        let records: Vec<_> = found.damage.iter().filter(|damage| damage.bytes.0 >= 64).collect();
        assert_eq!(found.damage.len() - records.len(), usize::from(cut < 64), "the header: {:?}", found.damage);
        if cut < walk.end as usize {
            assert_eq!(records.len(), 1, "cut to {cut}: {:?}", found.damage);
            assert_eq!((&records[0].path, records[0].bytes.1), (&path, u64::from(walk.end)), "cut to {cut}");
            let from = records[0].bytes.0 as usize;
            let is_start = from <= cut.max(64) && (walk.starts.contains(&(from as u32)) || from == walk.end as usize);
            assert!(is_start, "cut to {cut}: {from}");
        } else {
            assert!(records.is_empty(), "cut to {cut}: {:?}", found.damage);
        }
        let file = file(&fs, 2);
        file.write_at(&bytes, 0).unwrap();
    }
    clean(&reader);
}

#[test]
fn what_is_damaged_when_the_log_is_opened_is_found_as_well() {
    let fs = log(20);
    for number in 1..=3u64 {
        let (_, bytes, walk) = segments(&fs).swap_remove(number as usize - 1);
        let file = file(&fs, number);
        for start in walk.starts.iter().skip(1) {
            let at = u64::from(*start) + 12;
            file.write_at(&[!bytes[at as usize]], at).unwrap();
            let reader = sim(&fs).open_read_only().unwrap();
            let found = reader.verify().unwrap();
            assert!(found.is_damaged(), "segment {number}, record at {start}");
            let covers =
                |damage: &casklog::Damage| damage.segment == number && damage.bytes.0 <= at && at < damage.bytes.1;
            assert!(found.damage.iter().any(covers), "{:?}", found.damage);
            assert!(found.damage.iter().all(|damage| damage.segment == number), "{:?}", found.damage);
            file.write_at(&bytes[at as usize..=at as usize], at).unwrap();
        }
    }
}

#[test]
fn another_file_under_the_same_name_is_damage() {
    let (fs, other) = (log(20), log(20));
    let reader = sim(&fs).open_read_only().unwrap();
    let bytes = other.read_file(&sim_segment(2)).unwrap();
    fs.write_file(&sim_segment(2), &bytes);
    let found = reader.verify().unwrap();
    assert!(found.damage.iter().any(|damage| damage.segment == 2 && damage.bytes.0 == 0), "{found:?}");
    assert!(found.damage.iter().all(|damage| damage.segment == 2), "{found:?}");
}

#[test]
fn a_store_can_be_verified_while_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    for (policy, mapped) in [(SyncPolicy::None, true), (SyncPolicy::default(), false)] {
        let options = Options::new(dir.path()).prefix(format!("{mapped}_")).sync(policy).mapped(mapped);
        let store = options.segment_bytes(40_000).max_segments(6).open().unwrap();
        store.append_bytes("key", [0; 100]).unwrap();
        let (end, rounds) = (AtomicBool::new(false), 60);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut numbers = Numbers(7);
                while !end.load(Ordering::Relaxed) {
                    let index = store.append_bytes("key", vec![7; numbers.below(2000) as usize]).unwrap().index;
                    match numbers.below(60) {
                        0 => store.truncate_after(index - numbers.below(5).min(index)).unwrap(),
                        1 => store.truncate_before(index.saturating_sub(60)).unwrap(),
                        2..9 => drop(store.delete(index - numbers.below(9).min(index - 1)).unwrap()),
                        _ => {}
                    }
                }
            });
            for _ in 0..rounds {
                let found = store.verify().unwrap();
                let is_good = !found.is_damaged() && found.footers_damaged.is_empty() && found.records > 0;
                if !is_good {
                    end.store(true, Ordering::Relaxed);
                }
                assert!(is_good, "{found:?}");
            }
            end.store(true, Ordering::Relaxed);
        });
        clean(&store);
        store.close().unwrap();
        assert!(matches!(store.verify(), Err(casklog::Error::Closed)));
        assert!(matches!(store.refresh(), Err(casklog::Error::Closed)));
    }
}

#[test]
fn a_damaged_footer_is_no_damage_to_the_log() {
    let fs = log(20);
    let (path, bytes, walk) = segments(&fs).swap_remove(0);
    let trailer_at = footer_locate(Checksum::Crc32, bytes.len() as u64).unwrap() as usize;
    let number = Header::from_bytes(&bytes).unwrap().log_number;
    let trailer = Trailer::decode(&bytes[trailer_at..], Checksum::Crc32, trailer_at as u32, number).unwrap();
    assert_eq!(trailer.data_end, walk.end);
    for at in [walk.end as usize + 13, trailer_at + 20] {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        fs.write_file(&path, &damaged);
        let reader = sim(&fs).open_read_only().unwrap();
        let found = reader.verify().unwrap();
        assert!(!found.is_damaged(), "{found:?}");
        assert_eq!((&found.footers_damaged[..], &reader.recovery_report().footers_missing[..]), (&[1][..], &[1][..]));
        assert_eq!(read(&fs, &path), damaged);
    }
}

fn read(fs: &SimFs, path: &Path) -> Vec<u8> {
    fs.read_file(path).unwrap()
}

#[test]
fn damage_in_several_segments_is_all_told() {
    let fs = log(20);
    let reader = sim(&fs).open_read_only().unwrap();
    let mut damaged = Vec::new();
    for (number, (path, mut bytes, walk)) in (1..).zip(segments(&fs)) {
        for start in walk.starts.iter().skip(1).step_by(4) {
            bytes[*start as usize + 12] ^= 1;
            damaged.push((number, u64::from(*start)));
        }
        fs.write_file(&path, &bytes);
    }
    let found = reader.verify().unwrap();
    assert_eq!(found.damage.iter().map(|damage| (damage.segment, damage.bytes.0)).collect::<Vec<_>>(), damaged);
}
