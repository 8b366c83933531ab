//! When a write is durable, and how one learns of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use casklog::fs::sim::{Fate, SimFs};
use casklog::{Batch, Durability, Error, Options, SyncPolicy};

use crate::common::*;

const HOUR: Duration = Duration::from_secs(3600);

fn policies() -> [(SyncPolicy, bool); 4] {
    let every = HOUR;
    [
        (SyncPolicy::None, false),
        (SyncPolicy::Immediate, true),
        (SyncPolicy::Grouped { window: Duration::from_micros(50) }, true),
        (SyncPolicy::Periodic { every, entries: u64::MAX, bytes: u64::MAX }, false),
    ]
}

#[test]
fn each_policy_and_each_override_decide_what_a_power_cut_leaves() {
    // G27, G28, X08
    for (policy, is_durable) in policies() {
        for durability in [Durability::Policy, Durability::Synced, Durability::Written] {
            let fs = SimFs::new();
            let store = sim(&fs).sync(policy).open().unwrap();
            write_each(&store, [1]);
            store.sync().unwrap();
            store.write_with(2, "key 2", "value 2", durability).unwrap();
            store.append_with("key 3", "value 3", durability).unwrap();
            let mut batch = Batch::new();
            batch.put(4, "key 4", "value 4").unwrap();
            store.write_batch_with(&batch, durability).unwrap();
            let expected = match durability {
                Durability::Policy => is_durable,
                Durability::Synced => true,
                Durability::Written => false,
            };
            let found = fs.crash_at(fs.ops(), &mut |_| Fate::Lost);
            let last = if expected { 4 } else { 1 };
            assert_holds(&sim(&found).open().unwrap(), 1..=last);
            assert_eq!(store.get(4).unwrap().unwrap().is_durable(), expected);
            // A kill takes nothing under any policy.
            assert_holds(&sim(&fs.killed()).open().unwrap(), 1..=4);
            store.sync().unwrap();
            let found = fs.crash_at(fs.ops(), &mut |_| Fate::Lost);
            assert_holds(&sim(&found).open().unwrap(), 1..=4);
        }
    }
}

#[test]
fn policies_have_names() {
    // B02, neighbours
    let names: Vec<String> = policies().iter().map(|(policy, _)| policy.to_string()).collect();
    assert_eq!(names[..3], ["none", "immediate", "grouped, window 50µs"]);
    assert!(names[3].starts_with("periodic, every 3600s"), "{}", names[3]);
}

#[test]
fn deletions_truncations_and_metadata_follow_the_policy_too() {
    // X08
    let fs = SimFs::new();
    let store = sim(&fs).open().unwrap();
    write_each(&store, 1..=6);
    let crashed = || {
        let found = fs.crash_at(fs.ops(), &mut |_| Fate::Lost);
        sim(&found).open().unwrap()
    };
    store.delete(3).unwrap();
    assert_holds(&crashed(), [1, 2, 4, 5, 6]);
    store.put_meta("vote", "7").unwrap();
    assert_eq!(crashed().meta("vote").unwrap(), b"7");
    store.truncate_before(2).unwrap();
    assert_holds(&crashed(), [2, 4, 5, 6]);
    store.truncate_after(5).unwrap();
    assert_holds(&crashed(), [2, 4, 5]);
    store.delete_meta("vote").unwrap();
    assert_eq!(crashed().meta("vote"), None);
    store.reset_to(9).unwrap();
    assert_eq!(crashed().next_index(), Some(9));
}

#[test]
fn a_submitted_write_is_visible_at_once_and_durable_when_waited_for() {
    // F03, neighbours
    for (policy, _) in policies() {
        let fs = SimFs::new();
        let options = Options::new("log").fs(Arc::new(fs.clone())).sync(policy);
        let store = options.open().unwrap();
        let commit = store.submit(1, "key 1", "value 1").unwrap();
        assert_entry(&store, 1);
        assert_eq!(commit.positions(), [store.get(1).unwrap().unwrap().position()]);
        commit.wait().unwrap();
        assert!(commit.is_durable());
        commit.clone().wait().unwrap();
        let mut batch = Batch::new();
        batch.put(3, "key 3", "value 3").unwrap().put(2, "key 2", "value 2").unwrap();
        let commit = store.submit_batch(&batch).unwrap();
        assert_eq!(commit.positions().len(), 2);
        assert!(commit.positions()[1] < commit.positions()[0]);
        block_on(async { commit.clone().await }).unwrap();
        assert!(commit.is_durable());
        block_on(async { commit.await }).unwrap();
        let found = fs.crash_at(fs.ops(), &mut |_| Fate::Lost);
        assert_holds(&sim(&found).open().unwrap(), 1..=3);
        assert!(matches!(store.submit(3, "k", "v"), Err(Error::IndexExists { index: 3 })));
    }
}

#[test]
fn callbacks_come_once_each_and_a_dropped_commit_becomes_durable_all_the_same() {
    // F03, neighbours
    let dir = dir();
    let store = quick(&dir).open().unwrap();
    let (sender, receiver) = mpsc::channel();
    for i in 1..=20u64 {
        let (sender, other) = (sender.clone(), store.clone());
        store.submit(i, "k", &i).unwrap().on_durable(move |outcome| {
            outcome.unwrap();
            // A callback may use the store: no lock is held.
            let is_durable = other.get(i).unwrap().unwrap().is_durable();
            sender.send((i, is_durable)).unwrap();
        });
    }
    drop(sender);
    let mut told: Vec<(u64, bool)> = receiver.iter().collect();
    told.sort_unstable();
    assert_eq!(told, (1..=20).map(|i| (i, true)).collect::<Vec<_>>());
    drop(store.submit(21, "k", &21).unwrap());
    eventually("the sync of a dropped commit", || store.get(21).unwrap().unwrap().is_durable());
    let calls = Arc::new(AtomicU64::new(0));
    let commit = store.submit(22, "k", &22).unwrap();
    commit.wait().unwrap();
    let counted = calls.clone();
    commit.on_durable(move |outcome| {
        outcome.unwrap();
        counted.fetch_add(1, Ordering::SeqCst);
    });
    assert_eq!(calls.load(Ordering::SeqCst), 1, "where the outcome is known it is called at once");
}

#[test]
fn closing_keeps_the_promise_of_every_open_commit() {
    // X17
    for background in [true, false] {
        let dir = dir();
        let store = quick(&dir).background(background).open().unwrap();
        let (sender, receiver) = mpsc::channel();
        let commits: Vec<_> =
            (1..=10u64).map(|i| store.submit(i, format!("key {i}"), &format!("value {i}")).unwrap()).collect();
        for commit in &commits {
            let sender = sender.clone();
            commit.clone().on_durable(move |outcome| sender.send(outcome.is_ok()).unwrap());
        }
        drop(sender);
        store.close().unwrap();
        assert_eq!(receiver.iter().filter(|is_ok| *is_ok).count(), 10);
        for commit in commits {
            commit.wait().unwrap();
            block_on(async { commit.await }).unwrap();
        }
        drop(store);
        assert_holds(&quick(&dir).open().unwrap(), 1..=10);
    }
}

#[test]
fn too_much_that_waits_to_be_durable_makes_submit_busy_and_write_wait() {
    // G24, neighbours
    let fs = SimFs::new();
    let every = HOUR;
    let policy = SyncPolicy::Periodic { every, entries: u64::MAX, bytes: u64::MAX };
    let store = sim(&fs).sync(policy).undurable_bytes_max(1000).open().unwrap();
    for i in 1..=50u64 {
        store.write_bytes(i, "k", [7; 100]).unwrap();
        let (tail, durable) = (store.stats().tail, store.stats().durable);
        assert!(tail.offset() - durable.offset().min(tail.offset()) < 1500, "{tail} {durable}");
    }
    assert!(store.stats().syncs >= 3);
    let store = sim(&SimFs::new()).sync(SyncPolicy::None).undurable_bytes_max(1000).open().unwrap();
    for i in 1..=20u64 {
        store.write_bytes(i, "k", [7; 100]).unwrap();
    }
    match store.submit(21, "k", "v") {
        Err(Error::Busy { undurable, limit }) => assert!(undurable > 1000 && limit == 1000),
        other => panic!("{other:?}"),
    }
    assert!(!store.contains(21));
    // What waits is on its way, so the next attempt goes through.
    eventually("room for a commit", || store.submit(21, "k", "v").is_ok_and(|commit| commit.wait().is_ok()));
}

#[test]
fn commit_groups_on_blocks_of_their_own_lose_nothing() {
    // X08
    for align in [512, 4096] {
        let fs = SimFs::new();
        let open = |fs: &SimFs| sim(fs).sync_align(align).segment_bytes(32 << 10).open().unwrap();
        let store = open(&fs);
        for i in 1..=12u64 {
            write_each(&store, [i]);
            let found = fs.crash_at(fs.ops(), &mut |_| Fate::Lost);
            assert_holds(&open(&found), 1..=i);
        }
        store.close().unwrap();
        assert_holds(&open(&fs), 1..=12);
    }
}
