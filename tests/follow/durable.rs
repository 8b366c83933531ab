//! Following what is durable, and nothing else.

use std::thread;

use casklog::fs::sim::SimFs;
use casklog::{Durability, Store};

use crate::common::{PATIENCE, Seen, eventually, inline, ms, next, puts, take, there, threaded, write};

#[test]
fn nothing_above_the_durable_end_is_handed_out() {
    let store = inline(&SimFs::new()).open().unwrap();
    write(&store, 1..=3, 1);
    let mut follow = store.follow(0).unwrap().durable_only(true);
    let mut other = store.follow(0).unwrap();
    assert_eq!(there(&mut follow), []);
    assert_eq!(there(&mut other), puts(1..=3, 1));
    store.sync().unwrap();
    write(&store, 4..=5, 1);
    store.delete(4).unwrap();
    let seen: Vec<_> = (0..3).map(|_| follow.try_next().unwrap().unwrap()).collect();
    for item in seen {
        let casklog::LogItem::Entry(entry) = item else { panic!("{item:?}") };
        assert!(entry.is_durable() && entry.position() < store.stats().durable);
    }
    assert_eq!(there(&mut follow), []);
    store.write_with(6, "key", &1, Durability::Synced).unwrap();
    assert_eq!(there(&mut follow), [&puts(4..=5, 1)[..], &[Seen::Deleted(4)], &puts(6..=6, 1)].concat());
}

/// The durable end lies in an older segment than the log's, and moves on segment by segment.
#[test]
fn the_durable_end_may_lie_segments_behind() {
    let sim = SimFs::new();
    let store = threaded(&sim).segment_entries(10).open().unwrap();
    // No segment is sealed, and with it made durable, as long as the first sync takes.
    sim.set_sync_delay(ms(0));
    let mut follow = store.follow(1).unwrap().durable_only(true);
    let mut expected = 1;
    for index in 1..=200 {
        write(&store, index..=index, 1);
        let durable = store.stats().durable;
        for seen in there(&mut follow) {
            assert_eq!(seen, Seen::Put(expected, 1));
            expected += 1;
        }
        let at = store.get(expected - 1).unwrap().map(|entry| entry.position());
        assert!(at.is_none_or(|at| at < store.stats().durable), "{at:?} {durable}");
    }
    store.sync().unwrap();
    assert_eq!(there(&mut follow), puts(expected..=200, 1));
    store.close().unwrap();
}

#[test]
fn what_a_truncation_took_before_it_was_durable_does_not_come() {
    let store = inline(&SimFs::new()).segment_entries(5).open().unwrap();
    write(&store, 1..=4, 1);
    store.sync().unwrap();
    let mut follow = store.follow(1).unwrap().durable_only(true);
    assert_eq!(take(&mut follow, 4), puts(1..=4, 1));
    store.truncate_after(3).unwrap();
    write(&store, 4..=4, 2);
    assert_eq!(there(&mut follow), [], "the truncation is not durable yet either");
    store.sync().unwrap();
    assert_eq!(there(&mut follow), [Seen::Gone(4..=u64::MAX), Seen::Put(4, 2)]);
}

/// Woken by the sync itself: nothing else happens that could wake it.
#[test]
fn a_sync_wakes_who_waits_for_durable_entries() {
    let store = threaded(&SimFs::new()).open().unwrap();
    let mut follow = store.follow(1).unwrap().durable_only(true);
    for round in 1..=50 {
        write(&store, round..=round, round);
        assert!(follow.next_timeout(ms(1)).unwrap().is_none());
        let waiting = thread::scope(|scope| {
            let waiting = scope.spawn(|| next(&mut follow));
            if round % 2 == 0 {
                thread::yield_now();
            }
            store.sync().unwrap();
            waiting.join().unwrap()
        });
        assert_eq!(waiting, Seen::Put(round, round));
    }
    store.close().unwrap();
}

/// Sealing makes a segment durable, too, and no caller has asked for it. Behind a burst it comes with the fifth segment.
#[test]
fn sealing_wakes_who_waits_for_durable_entries() {
    let store: Store = threaded(&SimFs::new()).segment_entries(5).open().unwrap();
    let mut follow = store.follow(1).unwrap().durable_only(true);
    write(&store, 1..=26, 1);
    for index in 1..=5 {
        assert_eq!(next(&mut follow), Seen::Put(index, 1));
    }
    assert!(follow.next_timeout(ms(5)).unwrap().is_none());
    eventually("the first segment is sealed", || store.stats().seals == 1);
    assert!(follow.next_timeout(ms(5)).unwrap().is_none());
    store.sync().unwrap();
    assert_eq!(Seen::of(follow.next_timeout(PATIENCE).map(Option::unwrap)), Seen::Put(6, 1));
    store.close().unwrap();
}
