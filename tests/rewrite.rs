//! A log is written anew with other options: what is live of it, and nothing else.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use casklog::fs::Fs;
use casklog::fs::sim::{Fate, Fault, OpKind, Personality, SimFs};
use casklog::{Checksum, Error, IndexOrder, LogItem, Options, Reader, RecoveryMode, SyncPolicy};

const OLD: &str = "old";
const NEW: &str = "new";

fn at(sim: &SimFs, dir: &str) -> Options {
    let options = Options::new(dir).fs(Arc::new(sim.clone())).background(false);
    options.segment_entries(4).sync(SyncPolicy::Immediate)
}

/// What it is rewritten to.
fn merged(sim: &SimFs) -> Options {
    at(sim, NEW).segment_entries(1000)
}

fn segment(dir: &str, number: u64) -> PathBuf {
    Path::new(dir).join(format!("segment_{number:020}.log"))
}

/// Entries out of order, deletions, truncations and metadata.
fn filled() -> SimFs {
    let sim = SimFs::new();
    let store = at(&sim, OLD).open().unwrap();
    for index in (1..=12).chain([30, 20, 25]).chain(40..=50) {
        store.write(index, format!("key {index}"), &("value", index)).unwrap();
    }
    store.put_meta("name", b"value").unwrap();
    store.truncate_after(47).unwrap();
    store.truncate_before(3).unwrap();
    for index in [5, 20, 47, 7] {
        store.delete(index).unwrap();
    }
    store.write_bytes(48, "", [0; 3000]).unwrap();
    store.delete(48).unwrap();
    store.close().unwrap();
    // Its files are on the disk as they are: a close does not wait for what it gives back.
    sim.crash_at(sim.ops(), &mut |_| Fate::Kept)
}

/// The files of a directory that are no lock.
fn files(sim: &SimFs, dir: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let Ok(listed) = sim.list(Path::new(dir)) else { return Vec::new() };
    let names = listed.into_iter().filter(|entry| entry.is_file).map(|entry| Path::new(dir).join(entry.name));
    let mut files: Vec<_> = names.filter(|path| !path.ends_with("segment_lock")).collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), sim.read_file(&path).unwrap())).collect()
}

/// Live entries in the order in which they were written.
fn live(reader: &Reader) -> Vec<(u64, Vec<u8>, Vec<u8>)> {
    let items = reader.log_order().map(Result::unwrap);
    let entries = items.filter_map(|item| match item {
        LogItem::Entry(entry) if reader.contains(entry.index()) => Some(entry),
        _ => None,
    });
    entries.map(|entry| (entry.index(), entry.key().to_vec(), entry.raw_value().to_vec())).collect()
}

fn is_the_same(new: &Reader, old: &Reader) {
    assert_eq!(live(new), live(old));
    assert_eq!(
        new.iter().map(|e| e.unwrap().index()).collect::<Vec<_>>(),
        old.iter().map(|e| e.unwrap().index()).collect::<Vec<_>>()
    );
    assert_eq!((new.len(), new.first_index(), new.last_index()), (old.len(), old.first_index(), old.last_index()));
    assert_eq!((new.next_index(), new.all_meta()), (old.next_index(), old.all_meta()));
    assert_eq!(new.stats().deleted, 0, "nothing dead is left");
    assert_eq!(new.log_order().count() as u64, new.len());
}

/// Opens both, as they are.
fn compare(sim: &SimFs, to: &Options) {
    let old = at(sim, OLD).open_read_only().unwrap();
    let new = to.clone().recovery(RecoveryMode::Strict).open_read_only().unwrap();
    assert!(new.recovery_report().is_clean, "{:?}", new.recovery_report());
    is_the_same(&new, &old);
}

#[test]
fn what_is_live_is_in_the_new_log_and_nothing_else() {
    let sim = filled();
    let before = files(&sim, OLD);
    let rewritten = at(&sim, OLD).rewrite(merged(&sim)).unwrap();
    assert_eq!((rewritten.entries, rewritten.segments.1), (at(&sim, OLD).open_read_only().unwrap().len(), 2));
    assert!(rewritten.segments.0 > 6 && rewritten.bytes.1 < rewritten.bytes.0, "{rewritten:?}");
    compare(&sim, &merged(&sim));
    assert_eq!(files(&sim, OLD), before, "no byte of the old log changed");
    // What may be written is the same; what was deleted is free again where any order will do.
    let store = merged(&sim).open().unwrap();
    assert!(matches!(store.write(2, "k", &0), Err(Error::BelowFloor { floor: 3, .. })));
    assert_eq!(store.append("k", &0).unwrap().index, 49);
    store.write(20, "k", &0).unwrap();
    store.close().unwrap();
    assert_eq!(merged(&sim).open().unwrap().next_index(), Some(50));
}

#[test]
fn every_option_of_a_log_can_be_changed() {
    let sim = filled();
    let ways: [fn(Options) -> Options; 5] = [
        |to| to.segment_bytes(5000).segment_entries(2),
        |to| to.checksum(Checksum::Crc64),
        |to| to.key_index(true),
        |to| to.prefix("other_").sync(SyncPolicy::None),
        // Limits are for whoever opens it.
        |to| to.segment_entries(3).max_segments(1).max_bytes(1),
    ];
    for (number, way) in ways.into_iter().enumerate() {
        let sim = sim.killed();
        let to = way(merged(&sim));
        at(&sim, OLD).rewrite(to.clone()).unwrap();
        compare(&sim, &to);
        println!("way {number}");
    }
    // Under another prefix of the same directory.
    let to = at(&sim, OLD).prefix("merged_");
    at(&sim, OLD).rewrite(to.clone()).unwrap();
    compare(&sim, &to);
}

/// A log with one order, and what is live of it.
fn ordered(order: IndexOrder, deleted: &[u64]) -> SimFs {
    let sim = SimFs::new();
    let store = at(&sim, OLD).index_order(order).open().unwrap();
    for index in 5..=20 {
        store.write(index, "key", &index).unwrap();
    }
    for index in deleted {
        store.delete(*index).unwrap();
    }
    store.close().unwrap();
    sim
}

#[test]
fn the_order_of_indexes_can_be_changed_where_the_entries_have_it() {
    use IndexOrder::{Any, Increasing, Sequential};
    for from in [Any, Increasing, Sequential] {
        for to in [Any, Increasing, Sequential] {
            for deleted in [&[][..], &[5, 6], &[20], &[10], &[19, 20]] {
                let sim = ordered(from, deleted);
                let outcome = at(&sim, OLD).index_order(from).rewrite(merged(&sim).index_order(to));
                if to == Sequential && deleted == [10] {
                    assert!(matches!(outcome, Err(Error::IndexOrder { index: 11, expected: 10, .. })), "{outcome:?}");
                    assert!(files(&sim, NEW).is_empty());
                    continue;
                }
                outcome.unwrap();
                let store = merged(&sim).index_order(to).open().unwrap();
                is_the_same(&store, &at(&sim, OLD).open_read_only().unwrap());
                assert_eq!(store.append("k", &0).unwrap().index, 21, "{from} {to} {deleted:?}");
            }
        }
    }
    let sim = filled();
    let outcome = at(&sim, OLD).rewrite(merged(&sim).index_order(Increasing));
    assert!(matches!(outcome, Err(Error::IndexOrder { index: 25, expected: 31, .. })), "{outcome:?}");
    assert!(files(&sim, NEW).is_empty());
}

/// Retention and truncation leave a floor, and an empty log a next index.
#[test]
fn floor_and_next_index_are_kept_also_without_entries() {
    let fill: [fn(&casklog::Store); 6] = [
        |store| store.truncate_before(100).unwrap(),
        |store| store.reset_to(7).unwrap(),
        |store| (1..=10).for_each(|index| assert!(store.delete(index).is_ok())),
        |store| (4..=10).for_each(|index| assert!(store.delete(index).is_ok())),
        |store| drop(store.truncate_after(0)),
        |store| store.put_meta("only", b"meta").unwrap(),
    ];
    for order in [IndexOrder::Any, IndexOrder::Increasing, IndexOrder::Sequential] {
        for (number, fill) in fill.iter().enumerate() {
            for keeps in [None, Some(2)] {
                let sim = SimFs::new();
                let mut options = at(&sim, OLD).index_order(order);
                if let Some(keeps) = keeps {
                    options = options.max_segments(keeps);
                }
                let store = options.open().unwrap();
                for index in 1..=10 {
                    store.write(index, "k", &index).unwrap();
                }
                fill(&store);
                store.close().unwrap();
                let what = format!("{order} {number} {keeps:?}");
                let to = merged(&sim).index_order(order);
                at(&sim, OLD).index_order(order).rewrite(to.clone()).unwrap_or_else(|e| panic!("{what}: {e}"));
                let (new, old) = (to.open().unwrap(), at(&sim, OLD).index_order(order).open().unwrap());
                assert_eq!((new.len(), new.next_index()), (old.len(), old.next_index()), "{what}");
                for index in [0, 1, 6, 99] {
                    let below = |store: &casklog::Store| match store.write(index, "k", &0) {
                        Err(Error::BelowFloor { floor, .. }) => Some(floor),
                        _ => None,
                    };
                    assert_eq!(below(&new), below(&old), "{what}: {index}");
                }
            }
        }
    }
}

#[test]
fn what_cannot_be_rewritten_is_told_and_nothing_is_made() {
    let sim = filled();
    let rewrite = || at(&sim, OLD).rewrite(merged(&sim));
    assert!(matches!(at(&sim, "none").rewrite(merged(&sim)), Err(Error::NotFound { .. })));
    let open = at(&sim, OLD).open().unwrap();
    assert!(matches!(rewrite(), Err(Error::Locked { .. })));
    open.close().unwrap();
    assert!(matches!(at(&sim, OLD).rewrite(at(&sim, OLD)), Err(Error::Locked { .. })));
    let small = merged(&sim).record_bytes_max(10);
    assert!(matches!(at(&sim, OLD).rewrite(small), Err(Error::TooLarge { what: "record", .. })));
    assert!(files(&sim, NEW).is_empty());
    let store = merged(&sim).open().unwrap();
    store.append("k", &1).unwrap();
    store.close().unwrap();
    let there = files(&sim, NEW);
    assert!(matches!(rewrite(), Err(Error::Exists { path }) if path == segment(NEW, 1)));
    assert_eq!(files(&sim, NEW), there);
}

/// Nothing is left out in silence.
#[test]
fn a_damaged_log_is_not_rewritten() {
    for (number, at_byte) in [(1, 200), (2, 80), (3, 20), (7, 200)] {
        let sim = filled();
        let mut bytes = sim.read_file(&segment(OLD, number)).unwrap();
        bytes[at_byte] ^= 1;
        sim.write_file(&segment(OLD, number), &bytes);
        for mode in [RecoveryMode::TornTail, RecoveryMode::Strict, RecoveryMode::PointInTime, RecoveryMode::Salvage] {
            let outcome = at(&sim, OLD).recovery(mode).rewrite(merged(&sim));
            let is_told = |error: &Error| matches!(error, Error::Damaged { path, .. } if *path == segment(OLD, number));
            assert!(outcome.as_ref().is_err_and(is_told), "{number} {mode:?}: {outcome:?}");
            assert!(files(&sim, NEW).is_empty());
        }
        at(&sim, OLD).unsafe_recover().unwrap();
        let outcome = at(&sim, OLD).rewrite(merged(&sim));
        assert!(matches!(outcome, Err(Error::Lost { segment }) if segment == number), "{outcome:?}");
    }
}

/// A log whose process was killed is rewritten with all that open would find.
#[test]
fn a_killed_log_is_rewritten_as_open_would_find_it() {
    let sim = filled();
    let store = at(&sim, OLD).sync(SyncPolicy::None).open().unwrap();
    for index in 60..=77 {
        store.write(index, "k", &index).unwrap();
    }
    let sim = sim.killed();
    drop(store);
    at(&sim, OLD).rewrite(merged(&sim)).unwrap();
    let old = at(&sim, OLD).open().unwrap();
    is_the_same(&merged(&sim).open_read_only().unwrap(), &old);
}

/// What is there of the new log after a crash, which a rerun completes.
fn is_nothing_or_unfinished_or_whole(sim: &SimFs, before: &[(PathBuf, Vec<u8>)], what: &str) -> &'static str {
    assert_eq!(files(sim, OLD), before, "{what}");
    let opened = merged(&sim.killed()).create(false).recovery(RecoveryMode::Strict).open();
    let state = match &opened {
        Err(Error::NotFound { .. }) => "nothing",
        Err(Error::Unfinished { what: call, .. }) => {
            assert!(call.contains("Options::rewrite") && call.contains("casklog rewrite"), "{call}");
            assert!(matches!(merged(&sim.killed()).open_read_only(), Err(Error::Unfinished { .. })), "{what}");
            "unfinished"
        }
        Ok(store) => {
            assert!(store.recovery_report().is_clean, "{what}");
            is_the_same(store, &at(sim, OLD).open_read_only().unwrap());
            "whole"
        }
        Err(error) => panic!("{error}: {what}"),
    };
    match at(sim, OLD).rewrite(merged(sim)) {
        Ok(_) => assert_ne!(state, "whole", "{what}"),
        Err(Error::Exists { .. }) => assert_eq!(state, "whole", "{what}"),
        Err(error) => panic!("{error}: {what}"),
    }
    compare(sim, &merged(sim));
    assert_eq!(files(sim, OLD), before, "{what}");
    state
}

#[test]
fn a_power_cut_at_any_step_leaves_nothing_or_an_unfinished_log_or_all_of_it() {
    for personality in [Personality::Posix, Personality::Ext4, Personality::Xfs] {
        let sim = filled().killed();
        sim.set_personality(personality);
        let before = files(&sim, OLD);
        let start = sim.ops();
        at(&sim, OLD).rewrite(merged(&sim)).unwrap();
        let (end, mut states) = (sim.ops(), Vec::new());
        for op in start..=end {
            for image in sim.crash_images(op, 12, op as u64) {
                let what = format!("{personality:?} {}: {}", sim.op_name(op), image.origin());
                let state = is_nothing_or_unfinished_or_whole(&image, &before, &what);
                assert!(op < end || state == "whole", "{state}: {what}");
                states.push(state);
            }
        }
        println!("{personality:?}: {} states", states.len());
        assert!(["nothing", "unfinished", "whole"].iter().all(|state| states.contains(state)), "{states:?}");
    }
}

#[test]
fn an_error_of_any_call_is_told_and_a_rerun_completes() {
    let mut errors = 0;
    for kind in OpKind::CALLS {
        for errno in [5, 28] {
            for nth in 1.. {
                let sim = filled().killed();
                let before = files(&sim, OLD);
                sim.inject(Fault::new(kind, errno).nth(nth));
                let outcome = at(&sim, OLD).rewrite(merged(&sim));
                if sim.faults_hit() == 0 {
                    outcome.unwrap();
                    break;
                }
                let what = format!("{kind:?} {errno} {nth}: {outcome:?}");
                errors += u64::from(outcome.is_err());
                sim.clear_faults();
                is_nothing_or_unfinished_or_whole(&sim, &before, &what);
            }
        }
    }
    assert!(errors > 40, "{errors}");
}

/// A full disk is told as such, and gets its space back.
#[test]
fn a_full_disk_gets_its_space_back() {
    let base = filled();
    let (used, before) = (base.used(), files(&base, OLD));
    let mut full = 0;
    for room in (0..60).map(|step| step * 512) {
        let sim = base.killed();
        sim.set_capacity(Some(used + room));
        let to = || merged(&sim).preallocate(false);
        match at(&sim, OLD).rewrite(to()) {
            Err(Error::NoSpace { .. } | Error::Failed { .. }) => {
                full += 1;
                assert!(files(&sim, NEW).is_empty(), "room for {room}: {:?}", files(&sim, NEW));
            }
            Ok(_) => {}
            Err(error) => panic!("room for {room}: {error}"),
        }
        sim.set_capacity(None);
        is_nothing_or_unfinished_or_whole(&sim, &before, &format!("room for {room}"));
    }
    assert!(full > 5, "{full}");
}

#[test]
fn on_the_real_disk_small_segments_are_merged_and_replace_the_old_log() {
    let dir = tempfile::tempdir().unwrap();
    let old = Options::new(dir.path()).segment_entries(10);
    let store = old.clone().open().unwrap();
    for index in 1..=500 {
        store.write_with(index, "key", &index, casklog::Durability::Written).unwrap();
    }
    for index in (1..=500).step_by(2) {
        store.delete(index).unwrap();
    }
    store.close().unwrap();
    let new = Options::new(dir.path()).prefix("merged_");
    let rewritten = old.clone().rewrite(new.clone()).unwrap();
    assert_eq!((rewritten.entries, rewritten.segments.0 > 50, rewritten.segments.1), (250, true, 1));
    old.clone().rename("before_").unwrap();
    new.rename("segment_").unwrap();
    let store = old.open().unwrap();
    assert_eq!((store.len(), store.next_index()), (250, Some(501)));
    assert_eq!(store.get(500).unwrap().unwrap().value::<u64>().unwrap(), 500);
}
