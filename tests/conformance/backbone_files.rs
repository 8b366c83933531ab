//! After Backbone81: headers that cannot be used, widths of numbers, reading and writing apart.

use casklog::fs::sim::SimFs;
use casklog::{Error, IndexOrder, RecoveryMode};

use crate::common::*;

/// A closed log of two segments, sealed and active, with three entries each.
fn two_segments() -> SimFs {
    let fs = SimFs::new();
    let store = sim(&fs).segment_entries(3).open().unwrap();
    write_each(&store, 1..=6);
    store.close().unwrap();
    fs
}

fn with_sum(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = casklog_crc(&bytes[..60]);
    bytes[60..64].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// CRC-32/ISO-HDLC, the slow way.
fn casklog_crc(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

#[test]
fn each_header_that_cannot_be_used_is_an_error_of_its_own() {
    // B08, X19
    type Spoil = fn(Vec<u8>) -> Vec<u8>;
    let cases: [(&str, Spoil); 8] = [
        ("empty", |_| Vec::new()),
        ("short", |bytes| bytes[..40].to_vec()),
        ("zeros", |mut bytes| {
            bytes[..64].fill(0);
            bytes
        }),
        ("magic", |mut bytes| {
            bytes[0] = b'C';
            bytes
        }),
        ("checksum", |mut bytes| {
            bytes[30] ^= 1;
            bytes
        }),
        ("version", |mut bytes| {
            bytes[8] = 77;
            with_sum(bytes)
        }),
        ("features", |mut bytes| {
            bytes[12] = 1;
            with_sum(bytes)
        }),
        ("checksum kind", |mut bytes| {
            bytes[10] = 77;
            with_sum(bytes)
        }),
    ];
    for number in [1, 2] {
        let mut messages = Vec::new();
        for (case, spoil) in cases {
            let fs = two_segments();
            let path = sim_segment(number);
            let bytes = spoil(fs.read_file(&path).unwrap());
            fs.write_file(&path, &bytes);
            let before = fs.killed();
            let error = sim(&fs).open().expect_err(case);
            let is_newer = ["version", "features", "checksum kind"].contains(&case);
            match &error {
                Error::Unsupported { path: found, .. } if is_newer => assert_eq!(found, &path, "{case}"),
                Error::Damaged { path: found, .. } if !is_newer => assert_eq!(found, &path, "{case}: {error}"),
                other => panic!("{case} of {number}: {other:?}"),
            }
            messages.push(error.to_string());
            assert!(before.same_bytes(&fs), "{case}: a refused open changes nothing");
            if is_newer {
                let outcome = sim(&fs).unsafe_recover();
                assert!(matches!(outcome, Err(Error::Unsupported { .. })), "{case}: {outcome:?}");
                assert!(before.same_bytes(&fs), "{case}: nothing of a newer version is touched");
            }
        }
        messages.sort();
        messages.dedup();
        assert_eq!(messages.len(), cases.len() - 1, "only empty and short read the same: {messages:#?}");
    }
}

/// A record whose checksum holds and whose kind nobody knows is of a later version: nothing is damaged, and nothing may be
/// made of it.
#[test]
fn a_record_of_a_kind_that_is_not_known_is_refused_and_left_alone() {
    // B08, neighbours
    let fs = two_segments();
    let reader = sim(&fs).open_read_only().unwrap();
    let entries: Vec<_> = reader.iter().map(|entry| entry.unwrap().position()).collect();
    drop(reader);
    for (position, kind) in entries.into_iter().flat_map(|position| [(position, 10), (position, 11)]) {
        let fs = two_segments();
        let (path, at) = (sim_segment(position.segment()), position.offset() as usize);
        let mut bytes = fs.read_file(&path).unwrap();
        let end = at + 11 + usize::from(u16::from_le_bytes([bytes[at + 4], bytes[at + 5]]));
        bytes[at + 6] = bytes[at + 6] & 0xf0 | kind;
        let sum = casklog_crc(&bytes[at + 4..end]) ^ at as u32;
        bytes[at..at + 4].copy_from_slice(&sum.to_le_bytes());
        fs.write_file(&path, &bytes);
        let before = fs.killed();
        let modes = [RecoveryMode::Strict, RecoveryMode::TornTail, RecoveryMode::PointInTime, RecoveryMode::Salvage];
        // A sealed segment is read at open in `Strict` alone.
        let read_in = if position.segment() == 1 { &modes[..1] } else { &modes[..] };
        for mode in read_in.iter().copied() {
            for outcome in [
                sim(&fs).recovery(mode).open().map(drop),
                sim(&fs).recovery(mode).open_read_only().map(drop),
                sim(&fs).recovery(mode).unsafe_recover().map(drop),
            ] {
                let is_refused = matches!(&outcome, Err(Error::Unsupported { path: found, .. }) if *found == path);
                assert!(is_refused, "{position:?}, kind {kind}, {mode:?}: {outcome:?}");
            }
        }
        assert!(before.same_bytes(&fs), "nothing of a newer version is touched");
    }
}

#[test]
fn a_segment_under_another_number_is_noticed() {
    // B08
    let fs = two_segments();
    let (one, two) = (fs.read_file(&sim_segment(1)).unwrap(), fs.read_file(&sim_segment(2)).unwrap());
    // Swapped.
    let swapped = fs.killed();
    swapped.write_file(&sim_segment(1), &two);
    swapped.write_file(&sim_segment(2), &one);
    // One stands for both.
    let copied = fs.killed();
    copied.write_file(&sim_segment(2), &one);
    // Moved away.
    let moved = fs.killed();
    assert!(moved.remove_file(&sim_segment(1)));
    moved.write_file(&sim_segment(9), &one);
    for (case, fs) in [("swapped", swapped), ("copied", copied), ("moved", moved)] {
        let before = fs.killed();
        let outcome = sim(&fs).open();
        assert!(matches!(outcome, Err(Error::Damaged { .. } | Error::Missing { .. })), "{case}: {outcome:?}");
        assert!(before.same_bytes(&fs), "{case}");
    }
}

#[test]
fn lengths_and_indexes_at_the_edges_of_their_encodings_come_back() {
    // B09
    let fs = SimFs::new();
    let open = || sim(&fs).sync(casklog::SyncPolicy::None).open().unwrap();
    let store = open();
    let edges = [0u64, 1, 23, 127, 128, 255, 256, 65_535, 65_536, u64::from(u32::MAX), 1 << 32, u64::MAX - 1, u64::MAX];
    for (place, index) in edges.iter().enumerate() {
        let before = store.stats().bytes_written;
        store.write_bytes(*index, "", "").unwrap();
        let width = match *index {
            0..=127 => 1,
            128..=255 => 2,
            256..=65_535 => 3,
            65_536..=0xffff_ffff => 5,
            _ => 9,
        };
        assert_eq!(store.stats().bytes_written - before, 1 + width + 2 + 2, "index {index}");
        assert_eq!(store.len(), place as u64 + 1);
    }
    assert_eq!(indexes(&store), edges);
    store.close().unwrap();
    let store = open();
    assert_eq!(indexes(&store), edges);
    store.reset_to(0).unwrap();
    let lengths = [0usize, 1, 31, 32, 255, 256, 65_535, 65_536, 200_000];
    for length in lengths {
        let (key, value) = (vec![1; length], vec![2; length]);
        let index = store.append_bytes(&key, &value).unwrap().index;
        let text = "t".repeat(length);
        let typed = store.append(&key, &text).unwrap().index;
        for store in [store.clone(), sim(&fs.killed()).open().unwrap()] {
            let entry = store.get(index).unwrap().unwrap();
            assert_eq!((entry.key(), entry.bytes().unwrap()), (&key[..], &value[..]));
            let entry = store.get(typed).unwrap().unwrap();
            assert_eq!((entry.key(), entry.value::<&str>().unwrap()), (&key[..], &text[..]));
            assert!(matches!(entry.bytes(), Err(Error::Decode { .. })));
        }
    }
}

#[test]
fn a_writer_continues_only_behind_all_that_was_read() {
    // B10
    let fs = SimFs::new();
    let open = || sim(&fs).index_order(IndexOrder::Sequential).open().unwrap();
    let store = open();
    write_each(&store, 1..=5);
    store.close().unwrap();
    let store = open();
    // A reader that is not at its end does not matter: writes go behind the last entry.
    let mut iter = store.iter();
    iter.next().unwrap().unwrap();
    assert!(store.write(2, "k", "v").is_err());
    assert_eq!(store.append("key 6", "value 6").unwrap().index, 6);
    assert_eq!(iter.map(|entry| entry.unwrap().index()).collect::<Vec<_>>(), [2, 3, 4, 5]);
    assert_holds(&store, 1..=6);
}
