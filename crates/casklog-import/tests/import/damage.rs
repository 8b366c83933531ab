//! Files that were cut or whose bits flipped: what is read is never wrong, and what is lost is told of, where it stood.

use std::collections::HashSet;
use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::ops::Range;

use casklog_import::{ReadOptions, Reason, Record, Unreadable, open};

use crate::writers::{BLOCK_BYTES, Entry, KINDS, Kind, Written, chunks, entries, read, save, write};

/// What a file is expected to give, with where it stands there.
type Expected = (Range<usize>, Record);

fn expected(kind: Kind, files: &[Written]) -> Vec<Vec<Expected>> {
    let mut next = 0;
    let mut record = |(place, entry): &(Range<usize>, Entry)| {
        next += 1;
        let key = if kind.has_indexes() { &entry.key[..] } else { b"" };
        (place.clone(), Record::from_bytes(Some(next), key, &entry.value))
    };
    files.iter().map(|file| file.entries.iter().map(&mut record).collect()).collect()
}

/// Entries that fill some blocks, with parts that just fit and such that just do not.
fn entries_in_blocks() -> Vec<Entry> {
    let mut entries = entries(40);
    for (number, size) in [(5, 40_000), (11, 1), (12, 100_000), (20, BLOCK_BYTES - 15), (21, 2 * BLOCK_BYTES)] {
        let entry = &mut entries[number];
        entry.value = (0..size).map(|place| (place * 7 + number + place / 251) as u8).collect();
    }
    entries
}

/// Cuts at every byte; of long files, at every byte near the borders.
fn cuts(kind: Kind, file: &Written) -> Vec<usize> {
    let all = 0..file.bytes.len();
    if !kind.has_blocks() {
        return all.collect();
    }
    let borders: Vec<_> = file.entries.iter().flat_map(|(place, _)| [place.start, place.end]).collect();
    let is_near = |cut: &usize| {
        let in_block = cut % BLOCK_BYTES;
        in_block.min(BLOCK_BYTES - in_block) < 20 || borders.iter().any(|border| border.abs_diff(*cut) < 3)
    };
    all.filter(is_near).collect()
}

#[test]
fn a_file_cut_at_any_byte_gives_what_stands_before_and_tells_of_the_rest() {
    for kind in KINDS {
        let entries = if kind.has_blocks() { entries_in_blocks() } else { entries(9) };
        let [file] = &write(kind, &entries, 1000)[..] else { panic!("one file is enough") };
        let [expected] = &expected(kind, std::slice::from_ref(file))[..] else { panic!("of one file") };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(&file.name);
        save(dir.path(), std::slice::from_ref(file));
        let to_cut = File::options().write(true).open(&path).unwrap();
        for cut in cuts(kind, file).into_iter().rev() {
            to_cut.set_len(cut as u64).unwrap();
            let events = read(kind, dir.path());
            let whole = expected.iter().take_while(|(place, _)| place.end <= cut).count();
            let (records, unreadable) = events.split_at(whole.min(events.len()));
            let records: Vec<_> = records.iter().map(|record| record.as_ref().unwrap()).collect();
            let before: Vec<_> = expected[..whole].iter().map(|(_, record)| record).collect();
            assert!(records == before, "{kind:?} cut at {cut}");
            // Where the file could end as well, nobody can see that it was cut.
            let torn = match (kind, expected.get(whole)) {
                (Kind::Backbone81(..), _) if cut < 16 => Some(0),
                // What is left of an entry may look like the zeros behind the last one.
                (Kind::Backbone81(..), Some((place, _)))
                    if file.bytes[place.start.min(cut)..cut].iter().all(|byte| *byte == 0) =>
                {
                    None
                }
                (_, Some((place, _))) if cut > place.start => Some(place.start),
                _ => None,
            };
            match (unreadable, torn) {
                ([], None) => {}
                ([Err(unreadable)], Some(start)) => {
                    let found = (unreadable.offset, unreadable.passed_over, &unreadable.path);
                    assert_eq!(found, (start as u64, (cut - start) as u64, &path), "{kind:?} cut at {cut}");
                }
                (unreadable, torn) => panic!("{kind:?} cut at {cut}, torn: {torn:?}: {unreadable:?}"),
            }
        }
    }
}

/// The records that came are some of those expected, in their order, with index, key and value of their own. Formats
/// without indexes count those that could be read. Returns what is missing.
fn missing<'a>(
    kind: Kind,
    expected: &'a [Vec<Expected>],
    events: &[Result<Record, Unreadable>],
) -> Vec<(usize, &'a Expected)> {
    let mut missing = Vec::new();
    let mut records = events.iter().flatten().peekable();
    let mut count = 0;
    for (file, records_of_file) in expected.iter().enumerate() {
        for expected in records_of_file {
            let index = if kind.has_indexes() { expected.1.index } else { Some(count + 1) };
            match records.next_if(|record| **record == Record { index, ..expected.1.clone() }) {
                Some(_) => count += 1,
                None => missing.push((file, expected)),
            }
        }
    }
    assert_eq!(records.next(), None, "{kind:?}: a record that is none");
    missing
}

#[test]
fn records_larger_than_what_is_read_at_once_are_whole() {
    for kind in KINDS {
        let mut entries = entries(5);
        entries[1].key = "k".repeat(5000).into_bytes();
        // A length of two bytes says no more.
        entries[1].value = vec![7; 60_000];
        if !matches!(kind, Kind::Backbone81(1, _)) {
            entries[2].value = (0..700_000).map(|place| (place / 3) as u8).collect();
        }
        let files = write(kind, &entries, 3);
        let expected = expected(kind, &files);
        let dir = tempfile::tempdir().unwrap();
        save(dir.path(), &files);
        let events = read(kind, dir.path());
        assert!(events.len() == 5 && missing(kind, &expected, &events).is_empty(), "{kind:?}");
        // The next one is found behind it, too, where that can be.
        let mut file = files[0].clone();
        file.bytes[files[0].entries[1].0.start + 20_000] ^= 1;
        save(dir.path(), &[file]);
        assert_eq!(missing(kind, &expected, &read(kind, dir.path())).len(), 1, "{kind:?}");
    }
}

/// A program died within a long record, and went on behind it when it was started again.
#[test]
fn a_record_that_was_not_finished_is_passed_over_up_to_the_next() {
    for (kind, more, types) in [(Kind::Rosedb, &[][..], [0, 1, 2, 3]), (Kind::Nogodb, &[0; 8], [1, 2, 3, 4])] {
        for next_bytes in [10, 50_000] {
            let next = vec![8; next_bytes];
            let mut bytes = Vec::new();
            chunks(&mut bytes, &[7; 40_000], more, types);
            bytes.truncate(BLOCK_BYTES);
            chunks(&mut bytes, &next, more, types);
            let unknown = bytes.len();
            // Of a type that there is not, and good in all else.
            chunks(&mut bytes, b"unknown", more, [9; 4]);
            let last = chunks(&mut bytes, b"last", more, types);
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join(if kind == Kind::Rosedb { "000000001.SEG" } else { "0.wal" });
            std::fs::write(path, bytes).unwrap();
            let events = read(kind, dir.path());
            let [Err(unfinished), Ok(record), Err(strange), Ok(_)] = &events[..] else {
                panic!("{kind:?}: {events:?}")
            };
            assert_eq!((unfinished.offset, unfinished.passed_over), (0, BLOCK_BYTES as u64), "{kind:?}");
            assert_eq!(record.bytes(), Some(&next[..]), "{kind:?}");
            assert_eq!((strange.offset, strange.passed_over), (unknown as u64, (last - unknown) as u64), "{kind:?}");
            assert!(strange.to_string().contains("type 9"), "{kind:?}: {strange}");
        }
    }
}

#[test]
fn gowal_writes_no_bytes_at_all_as_nil() {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&7_u64.to_le_bytes());
    sum.update(b"k");
    let mut old = b"\x84\xa3Idx\x07\xa3Key\xa1k\xa5Value\xc0\xa8Checksum\xce".to_vec();
    old.extend_from_slice(&sum.finalize().to_be_bytes());
    let map = b"\x83\xa5Index\x07\xa3Key\xa1k\xa5Value\xc0";
    let sum = crc32fast::hash(map).to_be_bytes();
    let new = [&sum[..], &(map.len() as u32).to_be_bytes(), map, b"\xde\xad\xc0\xde"].concat();
    for (kind, bytes) in [(Kind::Gowal0, old), (Kind::Gowal1, new)] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("segment_0"), bytes).unwrap();
        let events = read(kind, dir.path());
        assert!(matches!(&events[..], [Ok(record)] if *record == Record::from_bytes(Some(7), "k", b"")), "{events:?}");
    }
}

/// Whatever is left of a block behind a record: nothing, less than a header, just one, or a little more.
#[test]
fn records_go_on_behind_what_is_left_of_a_block() {
    for (kind, header) in [(Kind::Rosedb, 7), (Kind::Nogodb, 15)] {
        for left in 0..=header + 2 {
            let mut entries = entries(3);
            entries[0].value = vec![7; BLOCK_BYTES - header - left];
            let files = write(kind, &entries, 1000);
            let [first, second] = [0, 1].map(|number| files[0].entries[number].0.clone());
            assert_eq!(first.end, BLOCK_BYTES - left, "{kind:?}");
            let is_padded = left <= header;
            assert_eq!(second.start, if is_padded { BLOCK_BYTES } else { first.end }, "{kind:?}, {left} left");
            let expected = expected(kind, &files);
            let dir = tempfile::tempdir().unwrap();
            save(dir.path(), &files);
            let events = read(kind, dir.path());
            assert!(
                events.len() == 3 && missing(kind, &expected, &events).is_empty(),
                "{kind:?}, {left} left: {events:?}"
            );
            // What stands where nothing should is told of, and costs nothing.
            for place in first.end..second.start {
                let mut file = files[0].clone();
                file.bytes[place] = 1;
                save(dir.path(), &[file]);
                let events = read(kind, dir.path());
                assert!(missing(kind, &expected, &events).is_empty(), "{kind:?}, {left} left: {events:?}");
                let Err(unreadable) = &events[1] else { panic!("{kind:?}, {left} left: {events:?}") };
                assert_eq!((unreadable.offset, unreadable.passed_over), (first.end as u64, left as u64));
            }
        }
    }
}

#[test]
fn a_flipped_bit_costs_what_is_told_of_and_changes_nothing() {
    for kind in KINDS {
        let entries = if kind.has_blocks() { entries_in_blocks() } else { entries(12) };
        let files = write(kind, &entries, if kind.has_blocks() { 1000 } else { 5 });
        let expected = expected(kind, &files);
        let dir = tempfile::tempdir().unwrap();
        save(dir.path(), &files);
        for (number, file) in files.iter().enumerate() {
            let path = dir.path().join(&file.name);
            let mut to_flip = File::options().write(true).open(&path).unwrap();
            let mut put = |place: usize, byte: u8| {
                to_flip.seek(SeekFrom::Start(place as u64)).unwrap();
                to_flip.write_all(&[byte]).unwrap();
            };
            let length = file.bytes.len();
            let step = (length / 300).max(1);
            let near_blocks = cuts(kind, file).into_iter().filter(|_| kind.has_blocks()).step_by(7);
            for place in (0..length).step_by(step).chain(near_blocks) {
                let bit = 1 << (place / step % 8);
                put(place, file.bytes[place] ^ bit);
                let events = read(kind, dir.path());
                let unreadable: Vec<_> = events.iter().filter_map(|event| event.as_ref().err()).collect();
                let case = || format!("{kind:?}, {}, byte {place} ^ {bit}: {unreadable:?}", file.name);
                assert!(unreadable.iter().all(|unreadable| unreadable.path == path), "{}", case());
                let is_told = |range: Range<usize>| {
                    unreadable.iter().any(|unreadable| {
                        let start = unreadable.offset as usize;
                        start <= range.start && range.end <= start + unreadable.passed_over as usize
                    })
                };
                let is_in_header = matches!(kind, Kind::Backbone81(..)) && place < 16;
                if is_in_header {
                    assert_eq!(unreadable[0].offset, 0, "{}", case());
                } else {
                    assert!(is_told(place..place + 1), "{}", case());
                }
                let missing = missing(kind, &expected, &events);
                for (of_file, (range, _)) in &missing {
                    assert!(*of_file == number && is_told(range.clone()), "{range:?} is missing: {}", case());
                }
                // With a chunk whose length is damaged all that is left of its block is lost. The first number of
                // fgrosse/wal is believed for the second one's sake. Else it is one record.
                let most = if kind == Kind::Fgrosse { 2 } else { 1 };
                assert!(kind.has_blocks() || missing.len() <= most, "{missing:?} {}", case());
                put(place, file.bytes[place]);
            }
        }
    }
}

#[test]
fn garbage_and_zeros_are_no_records() {
    for kind in KINDS {
        let entries = entries(8);
        let files = write(kind, &entries, 1000);
        let expected = expected(kind, &files);
        let dir = tempfile::tempdir().unwrap();
        for filler in [0x00, 0xff, 0x84, 0x20] {
            // Over the middle, from within the third entry into the sixth.
            let mut file = files[0].clone();
            let (from, to) = (file.entries[2].0.end - 2, file.entries[5].0.start + 4);
            file.bytes[from..to].fill(filler);
            save(dir.path(), &[file]);
            let events = read(kind, dir.path());
            let numbers: Vec<_> =
                missing(kind, &expected, &events).iter().map(|(_, (_, record))| record.index).collect();
            // A chunk whose neighbour cannot be found is lost with it, up to the next block.
            let last = if kind.has_blocks() { 8 } else { 6 };
            assert_eq!(numbers, (3..=last).map(Some).collect::<Vec<_>>(), "{kind:?}, filled with {filler}");
        }
    }
}

#[test]
fn a_record_within_a_damaged_value_is_not_taken_for_one() {
    for kind in KINDS {
        let mut entries = entries(3);
        // The value of the second is the whole file of another log.
        let inner = entries.iter().map(|entry| Entry { index: entry.index + 100, ..entry.clone() }).collect::<Vec<_>>();
        entries[1].value = write(kind, &inner, 1000).remove(0).bytes;
        entries[1].value.splice(..0, *b"~~~~");
        let files = write(kind, &entries, 1000);
        let expected = expected(kind, &files);
        let mut file = files[0].clone();
        let value = file.entries[1].0.clone();
        // In the value: the record's length is right, and so it is passed over as a whole.
        let place = value.start + file.bytes[value.clone()].windows(4).position(|bytes| bytes == b"~~~~").unwrap();
        file.bytes[place] ^= 1;
        let dir = tempfile::tempdir().unwrap();
        save(dir.path(), &[file]);
        let events = read(kind, dir.path());
        assert_eq!(missing(kind, &expected, &events).len(), 1, "{kind:?}: {events:?}");
    }
}

#[test]
fn a_missing_file_is_told_of() {
    for kind in KINDS {
        let files = write(kind, &entries(20), 5);
        let dir = tempfile::tempdir().unwrap();
        save(dir.path(), &files);
        std::fs::remove_file(dir.path().join(&files[1].name)).unwrap();
        let events = read(kind, dir.path());
        let unreadable: Vec<_> = events.iter().filter_map(|event| event.as_ref().err()).collect();
        assert!(
            unreadable
                .iter()
                .all(|unreadable| matches!(unreadable.reason, Reason::Missing(_)) && unreadable.passed_over == 0),
            "{kind:?}: {unreadable:?}"
        );
        let paths: HashSet<_> = unreadable.iter().map(|unreadable| unreadable.path.clone()).collect();
        // Backbone81's files are numbered by their entries: the one behind the gap tells of it.
        let path = if let Kind::Backbone81(..) = kind { &files[2].name } else { &files[1].name };
        assert!(paths.contains(&dir.path().join(path)), "{kind:?}: {paths:?}");
        assert_eq!(events.iter().flatten().count(), 15, "{kind:?}");
    }
}

#[test]
fn a_file_cut_between_two_entries_is_noticed_where_entries_are_numbered() {
    for kind in KINDS.into_iter().filter(|kind| matches!(kind, Kind::Backbone81(..) | Kind::Fgrosse)) {
        let mut files = write(kind, &entries(20), 5);
        let cut = files[1].entries[2].0.end;
        files[1].bytes.truncate(cut);
        let dir = tempfile::tempdir().unwrap();
        save(dir.path(), &files);
        let events = read(kind, dir.path());
        let unreadable: Vec<_> = events.iter().filter_map(|event| event.as_ref().err()).collect();
        let [unreadable] = unreadable[..] else { panic!("{kind:?}: {unreadable:?}") };
        assert_eq!((&unreadable.path, unreadable.offset), (&dir.path().join(&files[2].name), 0), "{kind:?}");
        assert!(matches!(unreadable.reason, Reason::Missing(_)), "{kind:?}: {unreadable}");
        assert_eq!(events.iter().flatten().count(), 18, "{kind:?}");
    }
}

#[test]
fn a_lone_tombstone_of_gowal_is_an_entry_only_where_nothing_before_it_is_lost() {
    for kind in [Kind::Gowal0, Kind::Gowal1] {
        let mut entries = entries(6);
        entries[4].value = b"tombstone".to_vec();
        let files = write(kind, &entries, 2);
        let dir = tempfile::tempdir().unwrap();
        save(dir.path(), &files);
        let indexes =
            || -> Vec<_> { read(kind, dir.path()).iter().flatten().map(|record| record.index.unwrap()).collect() };
        assert_eq!(indexes(), [1, 2, 3, 4, 5, 6]);
        std::fs::remove_file(dir.path().join(&files[0].name)).unwrap();
        assert_eq!(indexes(), [3, 4, 6]);
        let mut damaged = files[0].clone();
        damaged.bytes[30] ^= 1;
        save(dir.path(), &[damaged]);
        assert_eq!(indexes(), [2, 3, 4, 6]);
    }
}

#[test]
fn the_last_record_of_an_index_is_the_one_that_counts_in_gowal() {
    for kind in [Kind::Gowal0, Kind::Gowal1] {
        let mut entries = entries(7);
        entries[3].index = 2;
        entries[6].index = 1;
        entries[6].value = b"tombstone".to_vec();
        let dir = tempfile::tempdir().unwrap();
        save(dir.path(), &write(kind, &entries, 2));
        let records: Vec<_> = read(kind, dir.path()).into_iter().map(Result::unwrap).collect();
        let found: Vec<_> = records.iter().map(|record| (record.index.unwrap(), record.bytes().unwrap())).collect();
        let live = [&entries[2], &entries[3], &entries[4], &entries[5]].map(|entry| (entry.index, &entry.value[..]));
        assert_eq!(found, live);
    }
}

#[test]
fn lengths_that_lie_do_not_take_memory() {
    // Each says that nearly 2^32 or 2^64 bytes follow.
    let heads: [(Kind, &[u8]); 4] = [
        (Kind::Gowal0, b"\x84\xa3Idx\x01\xa3Key\xdb\xff\xff\xff\xf0abc"),
        (Kind::Gowal1, b"\0\0\0\0\xff\xff\xff\xf0\x83\xa5Index"),
        (Kind::Backbone81(3, 1), b"WAL\0\x01\0\x03\x01\0\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff"),
        (Kind::Backbone81(4, 2), b"WAL\0\x01\0\x04\x02\0\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
    ];
    for (kind, head) in heads {
        let mut files = write(kind, &entries(1), 1);
        files[0].bytes = head.to_vec();
        let dir = tempfile::tempdir().unwrap();
        save(dir.path(), &files);
        let events = read(kind, dir.path());
        let [Err(unreadable)] = &events[..] else { panic!("{kind:?}: {events:?}") };
        assert!(matches!(unreadable.reason, Reason::CutShort | Reason::Malformed(_)), "{kind:?}: {unreadable}");
        assert_eq!(unreadable.offset + unreadable.passed_over, head.len() as u64, "{kind:?}");
    }
}

#[test]
fn records_that_go_while_gowals_files_are_read_are_told_of() {
    for kind in [Kind::Gowal0, Kind::Gowal1] {
        let files = write(kind, &entries(6), 2);
        let dir = tempfile::tempdir().unwrap();
        save(dir.path(), &files);
        let mut records = open(dir.path(), kind.format().unwrap(), &ReadOptions::new()).unwrap();
        // The indexes are known by now. The last record goes.
        let cut = files[2].entries[0].0.end as u64;
        File::options().write(true).open(dir.path().join(&files[2].name)).unwrap().set_len(cut).unwrap();
        let indexes: Vec<_> = records.by_ref().take(5).map(|record| record.unwrap().index.unwrap()).collect();
        assert_eq!(indexes, [1, 2, 3, 4, 5]);
        let told = records.next().unwrap().unwrap_err();
        assert!(matches!(&told.reason, Reason::Missing(what) if what.starts_with("1 record")), "{told}");
        assert!(records.next().is_none());
    }
}

#[cfg(unix)]
#[test]
fn a_file_that_cannot_be_opened_is_told_of_and_the_others_are_read() {
    for kind in KINDS {
        let files = write(kind, &entries(15), 5);
        let dir = tempfile::tempdir().unwrap();
        save(dir.path(), &files);
        let path = dir.path().join(&files[1].name);
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("nowhere", &path).unwrap();
        let events = read(kind, dir.path());
        let unreadable: Vec<_> = events.iter().filter_map(|event| event.as_ref().err()).collect();
        let [unreadable] = unreadable[..] else { panic!("{kind:?}: {unreadable:?}") };
        assert!(unreadable.path == path && matches!(unreadable.reason, Reason::Io(_)), "{kind:?}: {unreadable}");
        assert_eq!(events.iter().flatten().count(), 10, "{kind:?}");
    }
}
