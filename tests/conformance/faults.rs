//! A disk that fails, and one that is full.

use std::sync::Arc;
use std::time::Duration;

use casklog::fs::sim::{Fate, Fault, OpKind, SimFs, SyncFailure};
use casklog::{Error, Options, SyncPolicy};

use crate::common::*;

fn is_eio(error: &Error) -> bool {
    match error {
        Error::Io { source, .. } => source.raw_os_error() == Some(EIO),
        Error::Failed { cause, .. } | Error::ReadOnly { cause } => is_eio(cause),
        _ => false,
    }
}

#[test]
fn the_source_of_an_error_is_the_error_of_the_operating_system() {
    // X10, neighbours
    let fs = SimFs::new();
    let store = sim(&fs).open().unwrap();
    write_each(&store, [1]);
    fs.inject(Fault::new(OpKind::Sync, EIO).on(".log"));
    let failed = store.write(2, "k", "v").unwrap_err();
    fs.inject(Fault::new(OpKind::Read, EIO).on(".log"));
    let unreadable = store.iter().next().unwrap().unwrap_err();
    for error in [failed, unreadable] {
        let first = std::error::Error::source(&error);
        let sources = std::iter::successors(first, |error| error.source());
        let codes: Vec<_> = sources
            .filter_map(|source| source.downcast_ref::<std::io::Error>())
            .map(std::io::Error::raw_os_error)
            .collect();
        assert_eq!(codes, [Some(EIO)], "{error:?}");
        assert!(error.to_string().contains("segment_"), "{error}");
    }
}

#[test]
fn a_failed_sync_is_told_to_all_who_wait_and_nothing_is_acknowledged_after_it() {
    // X10
    for model in [SyncFailure::Lies, SyncFailure::KeepsPending, SyncFailure::Writes] {
        let fs = SimFs::new();
        fs.set_sync_failure(model);
        let window = Duration::from_millis(5);
        let options = Options::new("log").fs(Arc::new(fs.clone()));
        let store = options.sync(SyncPolicy::Grouped { window }).open().unwrap();
        write_each(&store, 1..=3);
        fs.inject(Fault::new(OpKind::Sync, EIO).on(".log"));
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let write = |i: u64| {
                let store = &store;
                scope.spawn(move || store.write(i, format!("key {i}"), &format!("value {i}")))
            };
            let threads: Vec<_> = (4..=9).map(write).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for outcome in outcomes {
            match outcome {
                Err(error @ Error::Failed { .. }) => assert!(is_eio(&error), "{error:?}"),
                other => panic!("{other:?}"),
            }
        }
        let syncs = (fs.file_syncs(), fs.calls());
        for outcome in [
            store.write(20, "k", "v").map(drop),
            store.sync(),
            store.rotate(),
            store.truncate_after(1),
            store.put_meta("k", "v"),
            store.writable(),
            store.submit(21, "k", "v").map(drop),
        ] {
            assert!(matches!(outcome, Err(Error::Failed { .. })), "{outcome:?}");
        }
        assert_eq!((fs.file_syncs(), fs.calls()), syncs, "a failed sync is never tried again");
        (1..=3).for_each(|index| assert_entry(&store, index));
        assert!(store.get(3).unwrap().unwrap().is_durable());
        assert!(!store.get(4).ok().flatten().is_some_and(|entry| entry.is_durable()));
        assert!(matches!(store.close(), Err(Error::Failed { .. })));
        assert!(matches!(store.close(), Err(Error::Failed { .. })), "a second close says the same");
        drop(store);
        for found in [fs.killed(), fs.crash_at(fs.ops(), &mut |_| Fate::Lost)] {
            let store = sim(&found).open().unwrap();
            (1..=3).for_each(|index| assert_entry(&store, index));
            write_each(&store, [100]);
            let found = found.crash_at(found.ops(), &mut |_| Fate::Lost);
            let store = sim(&found).open().unwrap();
            assert_entry(&store, 100);
            (1..=3).for_each(|index| assert_entry(&store, index));
        }
    }
}

#[test]
fn a_commit_whose_sync_fails_says_so_by_every_way_of_asking() {
    // X10
    let fs = SimFs::new();
    let store = sim(&fs).background(true).sync(SyncPolicy::None).open().unwrap();
    write_each(&store, [1]);
    store.sync().unwrap();
    fs.set_sync_delay(Duration::from_millis(5));
    fs.inject(Fault::new(OpKind::Sync, EIO).on(".log"));
    let commit = store.submit(2, "k", "v").unwrap();
    assert!(matches!(commit.wait(), Err(Error::Failed { .. })));
    assert!(matches!(block_on(async { commit.clone().await }), Err(Error::Failed { .. })));
    let (sender, receiver) = std::sync::mpsc::channel();
    commit.on_durable(move |outcome| sender.send(outcome).unwrap());
    assert!(matches!(receiver.recv().unwrap(), Err(Error::Failed { .. })));
}

/// Those who asked before the sync failed, not after it; who asked for what was durable by then hears nothing of it.
#[test]
fn who_waits_for_a_commit_is_told_that_its_sync_failed() {
    // X10
    let fs = SimFs::new();
    let store = sim(&fs).background(true).sync(SyncPolicy::None).open().unwrap();
    write_each(&store, [1]);
    store.sync().unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    fs.set_sync_delay(Duration::from_millis(50));
    let mut commits = Vec::new();
    for (index, fails) in [(2, false), (3, true)] {
        if fails {
            fs.inject(Fault::new(OpKind::Sync, EIO).on(".log"));
        }
        let commit = store.submit(index, "k", "v").unwrap();
        let sender = sender.clone();
        commit.clone().on_durable(move |outcome| sender.send((index, outcome)).unwrap());
        assert_eq!(store.sync().is_err(), fails, "{index}");
        commits.push(commit);
    }
    let told = || receiver.recv_timeout(Duration::from_secs(20)).expect("everybody is told");
    assert!(matches!(told(), (2, Ok(()))));
    let (index, outcome) = told();
    assert!(index == 3 && matches!(outcome, Err(Error::Failed { .. })), "{index}: {outcome:?}");
    assert_eq!(commits.iter().map(casklog::Commit::is_durable).collect::<Vec<_>>(), [true, false]);
    assert!(commits[0].wait().is_ok() && commits[1].wait().is_err());
    store.close().unwrap_err();
    assert!(receiver.try_recv().is_err(), "nobody is told twice");
}

#[test]
fn a_failed_write_stops_the_store_and_takes_nothing_acknowledged() {
    // X10
    for (preallocate, bytes) in [(true, 0), (true, 10), (false, 0), (false, 10)] {
        let fs = SimFs::new();
        let store = sim(&fs).preallocate(preallocate).open().unwrap();
        write_each(&store, 1..=3);
        fs.inject(Fault::new(OpKind::Write, EIO).on(".log").after_bytes(bytes));
        let error = store.write(4, "key 4", "value 4").unwrap_err();
        assert!(is_eio(&error), "{error:?}");
        assert!(matches!(store.write(5, "k", "v"), Err(Error::Failed { .. })));
        assert_holds(&store, 1..=3);
        drop(store);
        let store = sim(&fs).open().unwrap();
        assert_holds(&store, 1..=3);
        write_each(&store, 4..=5);
        store.close().unwrap();
        assert_holds(&sim(&fs).open().unwrap(), 1..=5);
    }
}

#[test]
fn a_full_disk_refuses_the_write_and_lets_it_be_tried_again() {
    // X10, neighbours
    let fs = SimFs::new();
    let store = sim(&fs).segment_bytes(8 << 10).open().unwrap();
    write_each(&store, 1..=3);
    fs.set_capacity(Some(fs.used()));
    let mut last = 3;
    let error = loop {
        match store.write(last + 1, format!("key {}", last + 1), &format!("value {}", last + 1)) {
            Ok(_) => last += 1,
            Err(error) => break error,
        }
        assert!(last < 1000, "the disk is never full");
    };
    match &error {
        Error::NoSpace { source, .. } => assert_eq!(source.raw_os_error(), Some(ENOSPC)),
        other => panic!("{other:?}"),
    }
    store.writable().unwrap();
    assert_holds(&store, 1..=last);
    // It can be opened while the disk is full.
    let killed = fs.killed();
    let found = sim(&killed).open().unwrap();
    assert_holds(&found, 1..=last);
    drop(found);
    fs.set_capacity(None);
    write_each(&store, last + 1..=last + 100);
    assert_holds(&store, 1..=last + 100);
    store.close().unwrap();
    assert_holds(&sim(&fs).open().unwrap(), 1..=last + 100);
}

#[test]
fn a_log_that_cannot_be_written_opens_for_reading_where_that_is_allowed() {
    // X14, neighbours
    let fs = SimFs::new();
    let store = sim(&fs).open().unwrap();
    write_each(&store, 1..=3);
    drop(store);
    let found = fs.killed();
    found.inject(Fault::new(OpKind::Change, 30).sticky());
    let error = sim(&found).open().unwrap_err();
    assert!(matches!(error, Error::ReadOnly { .. }), "{error:?}");
    let store = sim(&found).allow_read_only(true).open().unwrap();
    assert_holds(&store, 1..=3);
    assert!(matches!(store.write(4, "k", "v"), Err(Error::ReadOnly { .. })));
    assert!(matches!(store.writable(), Err(Error::ReadOnly { .. })));
    assert!(matches!(store.sync(), Err(Error::ReadOnly { .. })));
    store.close().unwrap();
    found.clear_faults();
    let store = sim(&found).open().unwrap();
    write_each(&store, [4]);
    assert_holds(&store, 1..=4);
}

#[test]
fn an_unreadable_disk_is_an_error_and_not_an_end() {
    // X03, neighbours
    let fs = SimFs::new();
    let store = sim(&fs).segment_entries(3).open().unwrap();
    write_each(&store, 1..=9);
    fs.inject(Fault::new(OpKind::Read, EIO).on(".log"));
    let error = store.get(2).unwrap_err();
    assert!(matches!(error, Error::Io { .. }) && is_eio(&error), "{error:?}");
    assert_entry(&store, 2);
    fs.inject(Fault::new(OpKind::Read, EIO).on(".log").nth(4));
    assert!(store.iter().any(|entry| matches!(entry, Err(Error::Io { .. }))));
    fs.clear_faults();
    assert_holds(&store, 1..=9);
    store.close().unwrap();
    drop(store);
    let mut failures = 0;
    for nth in 1.. {
        let found = fs.killed();
        found.inject(Fault::new(OpKind::Read, EIO).nth(nth));
        match sim(&found).open() {
            Err(error) => assert!(is_eio(&error), "{error:?}"),
            Ok(store) => {
                found.clear_faults();
                assert_holds(&store, 1..=9);
                break;
            }
        }
        assert!(found.same_bytes(&fs), "read {nth}: nothing is cut because it could not be read");
        failures += 1;
    }
    assert!(failures > 3);
}
