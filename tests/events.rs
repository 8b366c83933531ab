//! What a listener is told, and what it may do meanwhile: anything.

#![allow(clippy::unwrap_used, reason = "these are tests")]

#[path = "common/log.rs"]
mod log;

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use casklog::fs::sim::{Fault, OpKind, SimFs};
use casklog::{Durability, Error, Event, Options, RecoveryMode, Store, SyncPolicy};
use log::{eventually, sim, sim_segment, write_each};

const LONG: Duration = Duration::from_secs(60);
const EIO: i32 = 5;

/// An event in short.
fn short(event: &Event) -> String {
    match event {
        Event::Opened { report } => format!("opened {}", report.segments),
        Event::Rotated { from, to } => format!("rotated {from} {to}"),
        Event::Sealed { segment, .. } => format!("sealed {segment}"),
        Event::Removed { segments } => format!("removed {segments:?}"),
        Event::SlowSync { segment, .. } => format!("slow {segment}"),
        Event::DamageFound { error: Error::Damaged { path, .. } } => format!("damaged {}", path.display()),
        Event::DamageFound { error: Error::Missing { path } } => format!("missing {}", path.display()),
        Event::Failed { .. } => "failed".to_owned(),
        other => format!("{other:?}"),
    }
}

/// Options with a listener, and what it was told.
fn listening(options: Options) -> (Options, Arc<Mutex<Vec<String>>>) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let kept = told.clone();
    (options.on_event(move |event| kept.lock().unwrap().push(short(event))), told)
}

fn threaded(fs: &SimFs) -> Options {
    sim(fs).background(true)
}

/// Both ways of running a store.
fn both(fs: &SimFs) -> [Options; 2] {
    [sim(fs), threaded(fs)]
}

/// Damages the entry of index 2 in segment 1.
fn damage(fs: &SimFs, options: &Options) {
    let store = options.clone().open().unwrap();
    let position = store.get(2).unwrap().unwrap().position();
    store.close().unwrap();
    let path = sim_segment(position.segment());
    let mut bytes = fs.read_file(&path).unwrap();
    bytes[position.offset() as usize + 20] ^= 1;
    fs.write_file(&path, &bytes);
}

#[test]
fn what_happens_is_told_in_order_and_without_threads_before_the_call_returns() {
    let fs = SimFs::new();
    let (options, told) = listening(sim(&fs).segment_entries(3).max_segments(2));
    let store = options.open().unwrap();
    assert_eq!(*told.lock().unwrap(), ["opened 0"]);
    write_each(&store, 1..=3);
    assert_eq!(told.lock().unwrap().len(), 1);
    write_each(&store, [4]);
    assert_eq!(told.lock().unwrap()[1..], ["rotated 1 2", "sealed 1"]);
    write_each(&store, 5..=7);
    assert_eq!(told.lock().unwrap()[3..], ["rotated 2 3", "sealed 2", "removed [1]"]);
    store.truncate_before(7).unwrap();
    assert_eq!(told.lock().unwrap()[6..], ["removed [2]"]);
    store.rotate().unwrap();
    assert_eq!(told.lock().unwrap()[7..8], ["rotated 3 4"]);
    store.close().unwrap();
}

#[test]
fn with_threads_everything_is_told_by_the_time_close_returns() {
    let fs = SimFs::new();
    let (options, told) = listening(threaded(&fs).segment_entries(3).sync(SyncPolicy::None));
    let store = options.open().unwrap();
    write_each(&store, 1..=30);
    store.close().unwrap();
    let told = told.lock().unwrap();
    assert_eq!(told[0], "opened 0");
    for (kind, name) in [("rotated", "rotated 9 10"), ("sealed", "sealed 9")] {
        let of_kind: Vec<&String> = told.iter().filter(|event| event.starts_with(kind)).collect();
        assert_eq!((of_kind.len(), of_kind[8].as_str()), (9, name), "{told:#?}");
    }
    let place = |event: &str| told.iter().position(|other| other == event).unwrap();
    (1..=9).for_each(|n| assert!(place(&format!("rotated {n} {}", n + 1)) < place(&format!("sealed {n}"))));
}

#[test]
fn slow_syncs_are_told_from_the_limit_on() {
    for (limit, count) in [(Duration::ZERO, 3), (LONG, 0)] {
        let fs = SimFs::new();
        let (events, slow) = channel();
        let listener = move |event: &Event| {
            if let Event::SlowSync { segment, bytes, took } = event {
                events.send((*segment, *bytes, *took)).unwrap();
            }
        };
        let store = sim(&fs).slow_sync(limit).on_event(listener).open().unwrap();
        fs.set_sync_delay(Duration::from_millis(2));
        write_each(&store, 1..=3);
        let slow: Vec<_> = slow.try_iter().collect();
        assert_eq!(slow.len(), count);
        assert_eq!(slow.iter().map(|(_, bytes, _)| bytes).sum::<u64>() > 0, count > 0);
        assert!(
            slow.iter()
                .all(|(segment, bytes, took)| { *segment == 1 && *bytes > 0 && *took >= Duration::from_millis(2) })
        );
    }
}

#[test]
fn the_first_failure_is_told_once_whoever_meets_it() {
    // A commit, the placement of a record, the keeper.
    let faults = [
        Fault::new(OpKind::Sync, EIO).on(".log"),
        Fault::new(OpKind::Write, EIO).on(".log"),
        Fault::new(OpKind::Write, EIO).on("manifest"),
    ];
    for (number, fault) in faults.into_iter().enumerate() {
        for threads in [false, true] {
            let fs = SimFs::new();
            let (events, failed) = channel();
            let listener = move |event: &Event| {
                if let Event::Failed { cause, durable } = event {
                    events.send((cause.clone(), *durable)).unwrap();
                }
            };
            let options = sim(&fs).background(threads).mapped(false).segment_entries(3).on_event(listener);
            let store = options.open().unwrap();
            write_each(&store, 1..=2);
            let durable = store.stats().durable;
            fs.inject(fault.clone());
            // The keeper fails some time behind a write; and what it makes ready ahead may fail without harm: once more then.
            let (mut index, mut hits, mut told) = (2, 0, None);
            eventually("a failure", || {
                index += 1;
                let is_refused = store.write(index, "k", "v").is_err();
                told = failed.try_recv().ok();
                assert!(threads || told.is_some() == is_refused, "without threads it is told at once");
                if told.is_none() && fs.faults_hit() > hits {
                    hits = fs.faults_hit();
                    fs.inject(fault.clone());
                }
                told.is_some()
            });
            let (cause, known) = told.unwrap();
            assert!(matches!(&*cause, Error::Io { .. }), "fault {number}: {cause}");
            assert!(known >= durable);
            assert!(store.write(index + 1, "k", "v").is_err());
            assert!(store.close().is_err());
            assert!(failed.try_recv().is_err(), "fault {number}, threads {threads}: told once");
        }
    }
}

#[test]
fn a_call_that_fails_tells_of_it_before_it_returns_without_threads() {
    let calls: [fn(&Store) -> casklog::Result<()>; 4] = [
        |store| store.rotate(),
        |store| store.sync(),
        |store| store.write_batch(casklog::Batch::new().put_bytes(9, "k", "v")).map(drop),
        |store| store.put_meta("k", "v"),
    ];
    for (number, call) in calls.into_iter().enumerate() {
        let fs = SimFs::new();
        let (options, told) = listening(sim(&fs));
        let store = options.open().unwrap();
        store.append_with("k", "v", Durability::Written).unwrap();
        fs.inject(Fault::new(OpKind::Sync, EIO).on(".log").sticky());
        assert!(call(&store).is_err());
        assert_eq!(told.lock().unwrap().last().unwrap(), "failed", "call {number}");
    }
}

#[test]
fn damage_is_told_once_for_each_place_by_whatever_finds_it() {
    type Find = fn(&Store) -> bool;
    let finds: [Find; 5] = [
        |store| store.get(2).is_err(),
        |store| store.get_into(2, &mut Vec::new()).is_err(),
        |store| store.iter().any(|entry| entry.is_err()),
        |store| store.log_order().any(|item| item.is_err()),
        |store| store.verify().unwrap().is_damaged(),
    ];
    for (number, find) in finds.into_iter().enumerate() {
        let fs = SimFs::new();
        let options = sim(&fs).segment_entries(3).cache_bytes(0);
        let store = options.clone().open().unwrap();
        write_each(&store, 1..=7);
        store.close().unwrap();
        damage(&fs, &options);
        let (options, told) = listening(options);
        let store = options.open().unwrap();
        assert_eq!(told.lock().unwrap().len(), 1, "open does not read it");
        assert!(find(&store) && find(&store));
        let expected = format!("damaged {}", sim_segment(1).display());
        assert_eq!(told.lock().unwrap()[1..], [expected], "way {number}");
        store.close().unwrap();
    }
}

#[test]
fn damage_that_open_finds_is_told_behind_the_opening() {
    let fs = SimFs::new();
    let options = sim(&fs).segment_entries(3);
    let store = options.clone().open().unwrap();
    write_each(&store, 1..=7);
    store.close().unwrap();
    assert!(fs.remove_file(&sim_segment(2)));
    let (salvage, told) = listening(options.clone().recovery(RecoveryMode::Salvage));
    let store = salvage.open().unwrap();
    let expected = ["opened 2".to_owned(), format!("missing {}", sim_segment(2).display())];
    assert_eq!(*told.lock().unwrap(), expected);
    store.close().unwrap();
    let (refused, told) = listening(options);
    assert!(refused.open().is_err());
    assert!(told.lock().unwrap().is_empty(), "what open returns it does not tell");
}

#[test]
fn a_reader_beside_a_writer_is_listened_to_as_well() {
    let fs = SimFs::new();
    let options = sim(&fs).segment_entries(3).cache_bytes(0);
    let store = options.clone().open().unwrap();
    write_each(&store, 1..=7);
    store.close().unwrap();
    damage(&fs, &options);
    for threads in [false, true] {
        let (options, told) = listening(options.clone().background(threads));
        let reader = options.open_read_only().unwrap();
        assert!(reader.get(2).is_err());
        eventually("it is told", || told.lock().unwrap().len() == 2);
        let expected = ["opened 3".to_owned(), format!("damaged {}", sim_segment(1).display())];
        assert_eq!(*told.lock().unwrap(), expected);
        drop(reader);
        eventually("the listener is let go of", || Arc::strong_count(&told) == 1);
    }
}

/// Runs it on another thread: one that hangs fails the test.
fn within_time(what: &str, run: impl FnOnce() + Send + 'static) {
    let (done, over) = channel();
    let thread = std::thread::spawn(move || {
        run();
        done.send(()).unwrap();
    });
    match over.recv_timeout(LONG) {
        Ok(()) => thread.join().unwrap(),
        Err(_) if thread.is_finished() => thread.join().unwrap(),
        Err(_) => panic!("{what} hangs"),
    }
}

/// A store, and a listener that has a handle of it.
fn with_handle(options: Options, listener: impl Fn(&Store, &Event) + Send + Sync + 'static) -> Store {
    let handle = Arc::new(OnceLock::<Store>::new());
    let own = handle.clone();
    let store = options.on_event(move |event| {
        if let Some(store) = own.get() {
            listener(store, event);
        }
    });
    let store = store.open().unwrap();
    handle.set(store.clone()).unwrap();
    store
}

#[test]
fn a_listener_may_use_the_store() {
    within_time("a store that is used by its listener", || {
        let fs = SimFs::new();
        for (number, options) in both(&fs).into_iter().enumerate() {
            let prefix = format!("log{number}_");
            let (events, told) = channel();
            let store = with_handle(options.prefix(prefix).segment_entries(3), move |store, event| {
                if let Event::Rotated { to, .. } = event {
                    store.writable().unwrap();
                    let appended = store.append("told", &short(event)).unwrap();
                    assert!(store.stats().durable > appended.position);
                    assert!(store.get(appended.index).unwrap().unwrap().is_durable());
                    let next = store.next_index().unwrap();
                    store.submit(next, "k", "v").unwrap().wait().unwrap();
                    store.sync().unwrap();
                    store.put_meta("last", to.to_le_bytes()).unwrap();
                    if *to < 6 {
                        store.rotate().unwrap();
                    }
                    assert_eq!(store.meta("last").unwrap(), to.to_le_bytes());
                    assert!(!store.segments().is_empty() && store.iter().all(|entry| entry.is_ok()));
                }
                events.send(short(event)).unwrap();
            });
            // The rotation that the fourth one needs is told, and each of those that follow from it.
            write_each(&store, 1..=4);
            let rotated: Vec<String> = std::iter::from_fn(|| told.recv_timeout(LONG).ok())
                .filter(|event| event.starts_with("rotated"))
                .take(5)
                .collect();
            let expected: Vec<String> = (1..=5).map(|n| format!("rotated {n} {}", n + 1)).collect();
            assert_eq!(rotated, expected);
            store.close().unwrap();
        }
    });
}

#[test]
fn a_listener_may_close_the_store_and_is_let_go_of_then() {
    within_time("a store that is closed by its listener", || {
        let fs = SimFs::new();
        for (number, options) in both(&fs).into_iter().enumerate() {
            let held = Arc::new(());
            let (kept, (events, closed)) = (held.clone(), channel());
            let store = with_handle(options.prefix(format!("log{number}_")).segment_entries(3), move |store, event| {
                let _ = &kept;
                if matches!(event, Event::Rotated { .. }) {
                    events.send(store.close()).unwrap();
                }
            });
            (1..=4).for_each(|index| _ = store.write(index, "k", "v"));
            closed.recv_timeout(LONG).unwrap().unwrap();
            assert!(matches!(store.write(9, "k", "v"), Err(Error::Closed)));
            store.close().unwrap();
            drop(store);
            eventually("the listener is let go of", || Arc::strong_count(&held) == 1);
            options_work_again(&fs, number);
        }
    });
}

/// The lock is free, and the log is whole.
fn options_work_again(fs: &SimFs, number: usize) {
    let store = sim(fs).prefix(format!("log{number}_")).open().unwrap();
    assert!(store.len() >= 3 && store.recovery_report().is_clean);
    store.close().unwrap();
}

#[test]
fn two_may_close_while_the_listener_is_called() {
    within_time("a close from two sides", || {
        for _ in 0..20 {
            let fs = SimFs::new();
            let store = with_handle(threaded(&fs).segment_entries(2), |store, _| _ = store.close());
            let other = store.clone();
            let closing = std::thread::spawn(move || other.close());
            (1..=9).for_each(|index| _ = store.write(index, "k", "v"));
            store.close().unwrap();
            closing.join().unwrap().unwrap();
        }
    });
}

#[test]
fn a_listener_that_panics_stops_neither_the_log_nor_the_events() {
    let fs = SimFs::new();
    for (number, options) in both(&fs).into_iter().enumerate() {
        let (events, told) = channel();
        let options = options.prefix(format!("log{number}_")).segment_entries(3).on_event(move |event| {
            events.send(short(event)).unwrap();
            panic!("a listener that panics");
        });
        let store = options.open().unwrap();
        write_each(&store, 1..=7);
        store.close().unwrap();
        let told: Vec<String> = told.try_iter().collect();
        assert_eq!(told.iter().filter(|event| event.starts_with("sealed")).count(), 2, "{told:?}");
        let store = sim(&fs).prefix(format!("log{number}_")).open().unwrap();
        assert_eq!(store.len(), 7);
        store.close().unwrap();
    }
}

#[test]
fn nobody_waits_for_a_listener_but_a_close() {
    let fs = SimFs::new();
    let (go, gate): (_, Receiver<()>) = channel();
    let gate = Mutex::new(gate);
    let (events, told) = channel();
    let options = threaded(&fs).segment_entries(3).max_segments(4).on_event(move |event| {
        // Until the test lets it go on.
        let _ = gate.lock().unwrap().recv();
        events.send(short(event)).unwrap();
    });
    let store = options.open().unwrap();
    write_each(&store, 1..=60);
    store.rotate().unwrap();
    store.sync().unwrap();
    assert!(told.try_recv().is_err());
    let closing = store.clone();
    let closing = std::thread::spawn(move || closing.close());
    std::thread::sleep(Duration::from_millis(20));
    assert!(!closing.is_finished(), "it waits until all is told");
    drop(go);
    closing.join().unwrap().unwrap();
    let told: Vec<String> = told.try_iter().collect();
    assert_eq!(told.iter().filter(|event| event.starts_with("rotated")).count(), 20, "{told:?}");
}

#[test]
fn who_drops_the_last_handle_is_told_the_rest_and_the_listener_is_let_go_of() {
    let fs = SimFs::new();
    for (number, options) in both(&fs).into_iter().enumerate() {
        let (options, told) = listening(options.prefix(format!("log{number}_")).segment_entries(3));
        let store = options.open().unwrap();
        write_each(&store, 1..=4);
        drop(store);
        eventually("the listener is let go of", || Arc::strong_count(&told) == 1);
        assert_eq!(told.lock().unwrap()[..2], ["opened 0", "rotated 1 2"]);
    }
}
