//! Opening beside other logs and other files, closing, dropping.

use casklog::fs::sim::SimFs;
use casklog::{Error, RecoveryMode, Store};

use crate::common::*;

#[test]
fn logs_with_different_prefixes_share_a_directory() {
    // R10, neighbours
    let dir = dir();
    // One prefix begins with the other, and one is empty.
    let prefixes = ["events_", "events_2_", "", "ü "];
    let open = |prefix: &str| inline(&dir).prefix(prefix).segment_entries(2).open().unwrap();
    let stores: Vec<Store> = prefixes.iter().map(|prefix| open(prefix)).collect();
    for (store, base) in stores.iter().zip([10u64, 20, 30, 40]) {
        write_each(store, base..base + 5);
    }
    stores[0].reset_to(10).unwrap();
    write_each(&stores[0], [10]);
    stores.iter().for_each(|store| store.close().unwrap());
    drop(stores);
    for (prefix, (base, count)) in prefixes.iter().zip([(10u64, 1), (20, 5), (30, 5), (40, 5)]) {
        let store = open(prefix);
        assert!(store.recovery_report().is_clean, "{prefix:?}");
        assert_holds(&store, base..base + count);
        assert!(store.recovery_report().strays.is_empty());
    }
}

#[test]
fn foreign_files_are_not_touched() {
    // X14, neighbours
    let dir = dir();
    let store = inline(&dir).segment_entries(2).open().unwrap();
    write_each(&store, 1..=5);
    store.close().unwrap();
    drop(store);
    let foreign = [
        "segment_1.log",
        "segment_00000000000000000000.log",
        "segment_00000000000000000001.log.bak",
        "segment_99999999999999999999.log",
        "segment_0000000000000000000x.log",
        "segment_00000000000000000003.LOG",
        "segment_manifest.tmp",
        "notes.txt",
    ];
    foreign.iter().for_each(|name| std::fs::write(dir.path().join(name), name).unwrap());
    std::fs::create_dir(dir.path().join("segment_00000000000000000077.log")).unwrap();
    std::fs::create_dir(dir.path().join("folder")).unwrap();
    for mode in [RecoveryMode::Strict, RecoveryMode::TornTail, RecoveryMode::Salvage] {
        let store = inline(&dir).recovery(mode).segment_entries(2).max_segments(2).open().unwrap();
        assert!(store.recovery_report().is_clean, "{:?}", store.recovery_report());
        let next = store.next_index().unwrap();
        write_each(&store, next..next + 5);
        store.truncate_before(next + 3).unwrap();
        assert_holds(&store, next + 3..next + 5);
        store.close().unwrap();
    }
    for name in foreign {
        assert_eq!(std::fs::read(dir.path().join(name)).unwrap(), name.as_bytes());
    }
    assert!(dir.path().join("segment_00000000000000000077.log").is_dir());
}

#[test]
fn prefixes_that_cannot_be_file_names_are_refused() {
    // G30, neighbours
    let dir = dir();
    for prefix in ["a/b", "../", "a\\b", "a\0b", "a\nb", &"x".repeat(201)] {
        let outcome = quick(&dir).prefix(prefix).open();
        assert!(matches!(outcome, Err(Error::InvalidOption { option: "prefix", .. })), "{prefix:?}: {outcome:?}");
    }
    quick(&dir).prefix("x".repeat(200)).open().unwrap().append("k", "v").unwrap();
}

#[test]
fn a_log_dropped_without_close_opens_with_all_that_was_written() {
    // X17
    let dir = dir();
    for round in 0..5u64 {
        let mut opened = None;
        eventually("the release of the lock", || {
            match quick(&dir).segment_entries(7).open() {
                Ok(store) => opened = Some(store),
                Err(Error::Locked { .. }) => {}
                Err(other) => panic!("{other:?}"),
            }
            opened.is_some()
        });
        let store = opened.unwrap();
        assert_holds(&store, 1..=round * 10);
        write_each(&store, round * 10 + 1..=round * 10 + 10);
        // Clones and iterators do not matter.
        let _iter = store.clone().iter();
    }
}

#[test]
fn closing_from_many_threads_while_others_write_hangs_nobody() {
    // X17
    let dir = dir();
    let store = quick(&dir).segment_entries(50).open().unwrap();
    let last: Vec<Option<u64>> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|_| {
                let store = store.clone();
                scope.spawn(move || {
                    let mut last = None;
                    loop {
                        match store.append("k", "v") {
                            Ok(appended) => last = Some(appended.index),
                            Err(Error::Closed) => return last,
                            Err(other) => panic!("{other:?}"),
                        }
                    }
                })
            })
            .collect();
        eventually("some writes", || store.len() > 200);
        let closers: Vec<_> = (0..3).map(|_| scope.spawn(|| store.close())).collect();
        closers.into_iter().for_each(|closer| closer.join().unwrap().unwrap());
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    let store = quick(&dir).open().unwrap();
    assert!(store.recovery_report().is_clean);
    assert_eq!(store.last_index(), last.into_iter().max().unwrap());
    assert_eq!(Some(store.len()), store.last_index());
}

#[test]
fn opening_and_closing_without_a_write_changes_no_byte() {
    // X14, neighbours
    for entries in [0, 1, 5, 6] {
        let fs = SimFs::new();
        let open = || sim(&fs).segment_entries(3).open().unwrap();
        let store = open();
        write_each(&store, 1..=entries);
        store.close().unwrap();
        drop(store);
        let (before, ops) = (fs.killed(), fs.ops());
        for mode in [RecoveryMode::Strict, RecoveryMode::TornTail, RecoveryMode::PointInTime, RecoveryMode::Salvage] {
            let store = sim(&fs).segment_entries(3).recovery(mode).open().unwrap();
            assert!(entries == 0 || store.recovery_report().is_clean, "{:?}", store.recovery_report());
            assert_holds(&store, 1..=entries);
            store.close().unwrap();
        }
        assert!(before.same_bytes(&fs));
        assert_eq!(fs.ops(), ops, "{entries} entries: not even an overwrite with the same bytes");
    }
}

#[test]
fn a_lost_manifest_is_reported_and_written_anew() {
    // X03, neighbours
    let fs = SimFs::new();
    let store = sim(&fs).segment_entries(3).open().unwrap();
    write_each(&store, 1..=8);
    store.close().unwrap();
    drop(store);
    let manifest = std::path::Path::new("log/segment_manifest");
    for spoil in [None, Some(vec![]), Some(vec![0xa5; 8192])] {
        let found = fs.killed();
        match &spoil {
            None => assert!(found.remove_file(manifest)),
            Some(bytes) => found.write_file(manifest, bytes),
        }
        let store = sim(&found).open().unwrap();
        assert!(store.recovery_report().is_manifest_lost);
        assert_holds(&store, 1..=8);
        write_each(&store, [9]);
        store.close().unwrap();
        drop(store);
        let store = sim(&found).open().unwrap();
        assert!(store.recovery_report().is_clean && !store.recovery_report().is_manifest_lost);
        assert_holds(&store, 1..=9);
    }
}

#[test]
fn a_read_only_open_beside_a_writer_leaves_no_trace() {
    // X14
    let dir = dir();
    assert!(matches!(quick(&dir).open_read_only(), Err(Error::NotFound { .. })));
    assert!(names(dir.path()).is_empty());
    let store = inline(&dir).segment_entries(3).open().unwrap();
    write_each(&store, 1..=10);
    store.delete(4).unwrap();
    let before = image(dir.path());
    let reader = quick(&dir).open_read_only().unwrap();
    assert!(matches!(quick(&dir).open(), Err(Error::Locked { .. })), "the writer still holds its lock");
    assert_eq!(reader.iter().map(|entry| entry.unwrap().index()).collect::<Vec<_>>(), indexes(&store));
    assert!(!reader.verify().unwrap().is_damaged());
    drop(reader);
    assert_eq!(image(dir.path()), before);
    store.close().unwrap();
}
