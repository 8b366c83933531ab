//! Files that the log and its copy share: neither ever writes to one.

use std::path::{Path, PathBuf};

use casklog::fs::sim::SimFs;
use casklog::{Options, RecoveryMode, Store, SyncPolicy};

use crate::common::*;

/// The segments that are there twice, and their bytes. On the simulated disk a file with two names is one file.
fn in_both(sim: &SimFs) -> Vec<(PathBuf, Vec<u8>)> {
    let copies = files(sim, COPY);
    let both = files(sim, LOG).into_iter().filter(|file| file.0.ends_with(".log") && copies.contains(file));
    both.map(|(name, bytes)| (Path::new(LOG).join(name), bytes)).collect()
}

/// Appends, rotates, truncates, retires, closes and opens again.
fn use_much(options: Options) -> Store {
    let store = options.clone().open().unwrap();
    go_on(&store);
    store.rotate().unwrap();
    store.truncate_after(store.last_index().unwrap() - 3).unwrap();
    store.close().unwrap();
    let store = options.max_segments(4).open().unwrap();
    go_on(&store);
    go_on(&store);
    store
}

fn copied(key_index: bool, policy: SyncPolicy) -> SimFs {
    let sim = SimFs::new();
    let store = log(&sim).key_index(key_index).sync(policy).open().unwrap();
    write_each(&store, 1..=60);
    store.sync().unwrap();
    let made = store.checkpoint(COPY).unwrap();
    assert!(made.linked > 8, "{made:?}");
    store.close().unwrap();
    sim
}

/// Everything that opens a log writes to it: clean, killed, without its manifest, with other options.
#[test]
fn a_copy_that_is_written_to_changes_no_byte_of_the_log_and_the_other_way_round() {
    for (used, other) in [(COPY, LOG), (LOG, COPY)] {
        for key_index in [false, true] {
            for without_manifest in [false, true] {
                for sync_align in [0, 4096] {
                    // Without a sync for each write what a segment begins with says less of what is durable.
                    let policy = if sync_align == 0 { SyncPolicy::None } else { SyncPolicy::Immediate };
                    let sim = copied(!key_index, policy);
                    let before = files(&sim, other);
                    assert!(in_both(&sim).len() > 8);
                    if without_manifest {
                        assert!(sim.remove_file(&Path::new(used).join("segment_manifest")));
                    }
                    let options = at(&sim, used).key_index(key_index).sync_align(sync_align);
                    let store = use_much(options.clone());
                    assert_eq!(files(&sim, other), before, "{used} {key_index} {without_manifest} {sync_align}");
                    drop(store);
                    // Killed: recovery writes back and erases.
                    let killed = sim.killed();
                    use_much(at(&killed, used).key_index(key_index).sync_align(sync_align)).close().unwrap();
                    assert_eq!(files(&killed, other), before, "{used}, killed");
                    let store = at(&killed, other).recovery(RecoveryMode::Strict).open().unwrap();
                    assert_eq!(store.len(), 60);
                }
            }
        }
    }
}

/// The log is used while the copy is open, and the copy is damaged and repaired: no file is written in place.
#[test]
fn repairs_of_the_copy_change_no_byte_of_the_log() {
    for number in 1..=8 {
        let sim = copied(false, SyncPolicy::Immediate);
        let before = files(&sim, LOG);
        // Of the copy alone: its own file in place of the shared one.
        let path = segment(COPY, number);
        let mut bytes = sim.read_file(&path).unwrap();
        bytes[200] ^= 1;
        assert!(sim.remove_file(&path));
        sim.write_file(&path, &bytes);
        copy(&sim).unsafe_recover().unwrap();
        let store = copy(&sim).recovery(RecoveryMode::Salvage).open().unwrap();
        write_each(&store, 61..=90);
        store.close().unwrap();
        assert_eq!(files(&sim, LOG), before);
    }
}

/// With the manifest and the head of the last segment gone, recovery of the copy has only what the shared segments say.
#[test]
fn a_copy_without_manifest_and_last_segment_leaves_the_shared_ones_alone() {
    let sim = copied(false, SyncPolicy::Immediate);
    let before = files(&sim, LOG);
    let last = copy(&sim).open_read_only().unwrap().stats().tail.segment();
    assert!(sim.remove_file(&Path::new(COPY).join("segment_manifest")));
    assert!(sim.remove_file(&segment(COPY, last)));
    let store = copy(&sim).open().unwrap();
    let next = store.next_index().unwrap();
    write_each(&store, next..next + 20);
    store.close().unwrap();
    assert_eq!(files(&sim, LOG), before);
}
