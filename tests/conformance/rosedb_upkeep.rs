//! After rosedb: emptiness, large scans, renaming, positions as bytes, periodic syncs.

use std::time::Duration;

use casklog::fs::sim::{Fate, SimFs};
use casklog::{Batch, Error, Position, SyncPolicy};

use crate::common::*;

#[test]
fn a_log_is_empty_until_written_and_again_when_all_is_deleted() {
    // R07
    let dir = dir();
    let store = quick(&dir).open().unwrap();
    assert!(store.is_empty());
    assert_eq!((store.len(), store.first_index(), store.last_index()), (0, None, None));
    write_each(&store, [1]);
    assert!(!store.is_empty());
    store.delete(1).unwrap();
    assert!(store.is_empty());
    store.close().unwrap();
    let store = quick(&dir).open().unwrap();
    assert!(store.is_empty());
    assert_holds(&store, []);
    assert_eq!(store.next_index(), Some(2), "the index stays taken");
}

#[test]
fn a_log_over_several_segments_iterates_the_same_after_reopen() {
    // R08
    let dir = dir();
    let open = || quick(&dir).segment_bytes(8 << 20).open().unwrap();
    let mut store = open();
    let mut positions = Vec::new();
    for i in 0..20_000u64 {
        positions.push(store.write_bytes(i, i.to_le_bytes(), Numbers(i).bytes(1536)).unwrap());
    }
    for round in 0..2 {
        assert!(store.segments().len() >= 3, "round {round}");
        let mut count = 0;
        for (entry, i) in store.iter().zip(0u64..) {
            let entry = entry.unwrap();
            assert_eq!((entry.index(), entry.key()), (i, &i.to_le_bytes()[..]));
            assert_eq!(entry.position().segment(), positions[i as usize].segment());
            assert_eq!(entry.position(), positions[i as usize]);
            count += 1;
        }
        assert_eq!(count, 20_000);
        let in_order = store.log_order().map(|item| item.unwrap().position());
        assert!(in_order.eq(positions.iter().copied()));
        store.close().unwrap();
        store = open();
    }
}

#[test]
fn a_log_whose_files_were_renamed_opens_under_the_new_prefix() {
    // R10
    let dir = dir();
    let store = inline(&dir).prefix("VLOG.1.temp_").segment_entries(3).open().unwrap();
    write_each(&store, 1..=8);
    store.put_meta("vote", "7").unwrap();
    store.close().unwrap();
    for name in names(dir.path()) {
        let renamed = name.replace("VLOG.1.temp_", "VLOG.1_");
        std::fs::rename(dir.path().join(name), dir.path().join(renamed)).unwrap();
    }
    let open = || inline(&dir).prefix("VLOG.1_").segment_entries(3).open().unwrap();
    let store = open();
    assert!(store.recovery_report().is_clean);
    assert_holds(&store, 1..=8);
    assert_eq!(store.meta("vote").unwrap(), b"7");
    write_each(&store, 9..=10);
    store.close().unwrap();
    assert_holds(&open(), 1..=10);
    let outcome = inline(&dir).prefix("VLOG.1.temp_").create(false).open();
    assert!(matches!(outcome, Err(Error::NotFound { .. })));
}

#[test]
fn positions_survive_their_fixed_form_and_their_text_and_garbage_is_an_error() {
    // R11
    let bytes_of = |segment: u64, offset: u64| {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&segment.to_le_bytes());
        bytes[8..].copy_from_slice(&offset.to_le_bytes());
        bytes
    };
    let max = u64::from(u32::MAX);
    for (segment, offset) in [(0, 0), (1, 64), (7, max), (max, 0), (max, max)] {
        let position = Position::from_bytes(bytes_of(segment, offset)).unwrap();
        assert_eq!((position.segment(), position.offset()), (segment, offset));
        assert_eq!(position.to_bytes(), bytes_of(segment, offset));
        assert_eq!(position.to_string().parse::<Position>().unwrap(), position);
    }
    for (segment, offset) in [(max + 1, 0), (0, max + 1), (u64::MAX, u64::MAX), (1, u64::MAX)] {
        let outcome = Position::from_bytes(bytes_of(segment, offset));
        assert!(matches!(outcome, Err(Error::InvalidPosition { .. })));
    }
    let mut numbers = Numbers(11);
    for _ in 0..1000 {
        let len = numbers.below(24) as usize;
        let text: String = (0..len).map(|_| char::from(b"0123456789:- x"[numbers.below(14) as usize])).collect();
        if let Ok(position) = text.parse::<Position>() {
            assert_eq!(position.to_string().parse::<Position>().unwrap(), position);
        }
    }
}

#[test]
fn what_the_last_trigger_of_periodic_covered_survives_a_power_cut() {
    // R14
    let never = (Duration::from_secs(3600), u64::MAX);
    for (entries, bytes, is_by_entries) in [(5, never.1, true), (never.1, 500, false)] {
        let fs = SimFs::new();
        let policy = SyncPolicy::Periodic { every: never.0, entries, bytes };
        let store = sim(&fs).sync(policy).open().unwrap();
        let mut covered = 0;
        let mut syncs = 0;
        for i in 1..=23u64 {
            store.write_bytes(i, "k", [7; 100]).unwrap();
            if store.stats().durable == store.stats().tail {
                covered = i;
                syncs += 1;
            }
            let found = fs.crash_at(fs.ops(), &mut |_| Fate::Lost);
            let found = sim(&found).open().unwrap();
            assert_eq!(indexes(&found), (1..=covered).collect::<Vec<_>>());
        }
        if is_by_entries {
            assert_eq!((covered, syncs), (20, 4));
        } else {
            assert!((18..=23).contains(&covered) && (4..=6).contains(&syncs), "{covered} {syncs}");
        }
    }
}

#[test]
fn the_interval_of_periodic_makes_writes_durable_by_itself() {
    // R14
    let dir = dir();
    let policy = SyncPolicy::Periodic { every: Duration::from_millis(5), entries: u64::MAX, bytes: u64::MAX };
    let store = quick(&dir).sync(policy).open().unwrap();
    for i in 1..=3u64 {
        store.write(i, "k", &i).unwrap();
        eventually("the periodic sync", || store.get(i).unwrap().unwrap().is_durable());
    }
}

#[test]
fn the_entries_of_periodic_are_synced_in_the_background() {
    // R14
    let dir = dir();
    let policy = SyncPolicy::Periodic { every: Duration::from_secs(3600), entries: 10, bytes: u64::MAX };
    let store = quick(&dir).sync(policy).open().unwrap();
    write_each(&store, 1..=10);
    eventually("the sync after ten entries", || store.get(10).unwrap().unwrap().is_durable());
    store.close().unwrap();
}

#[test]
fn random_reads_give_the_same_with_any_cache_and_few_descriptors() {
    // R16
    let dir = dir();
    // Off, smaller than a block, smaller than a segment, larger than the log.
    for (open_files, cache) in [(1, 0), (1, 1000), (256, 100_000), (256, 1 << 30)] {
        let options = quick(&dir).max_open_files(open_files).cache_bytes(cache);
        let store = options.segment_bytes(64 << 10).open().unwrap();
        if store.is_empty() {
            for i in 0..500u64 {
                store.write_bytes(i, "k", Numbers(i).bytes(600)).unwrap();
            }
        }
        let mut numbers = Numbers(5);
        for _ in 0..2000 {
            let i = numbers.below(510);
            let entry = store.get(i).unwrap();
            let expected = (i < 500).then(|| Numbers(i).bytes(600));
            assert_eq!(entry.map(|entry| entry.bytes().unwrap().to_vec()), expected);
        }
        store.close().unwrap();
    }
}

#[test]
fn a_log_whose_entries_are_all_removed_reopens_empty_and_usable() {
    // R17
    type Removal = fn(&casklog::Store);
    let removals: [(&str, Removal, u64); 5] = [
        ("delete", |store| (1..=10).for_each(|i| assert!(store.delete(i).unwrap())), 11),
        ("reset_to", |store| store.reset_to(1).unwrap(), 1),
        ("truncate_before", |store| store.truncate_before(11).unwrap(), 11),
        ("truncate_after", |store| store.truncate_after(0).unwrap(), 1),
        (
            "batch",
            |store| {
                let mut batch = Batch::new();
                (1..=10).for_each(|i| {
                    batch.delete(i);
                });
                store.write_batch(&batch).unwrap();
            },
            11,
        ),
    ];
    for (how, remove, next) in removals {
        let fs = SimFs::new();
        let open = || sim(&fs).segment_entries(4).open().unwrap();
        let store = open();
        write_each(&store, 1..=10);
        remove(&store);
        assert_holds(&store, []);
        store.close().unwrap();
        let store = open();
        assert!(store.recovery_report().is_clean, "{how}");
        assert_holds(&store, []);
        assert_eq!(store.next_index(), Some(next), "{how}");
        write_each(&store, next..next + 5);
        store.close().unwrap();
        assert_holds(&open(), next..next + 5);
    }
}
