//! Following a log that somebody else writes: a reader without a lock, in this process beside the store.

use std::thread;

use casklog::fs::sim::SimFs;
use casklog::{Error, IndexOrder, Options, SyncPolicy};

use crate::common::{PATIENCE, Seen, all, eventually, inline, ms, next, puts, take, there, threaded, write};

const ORDERS: [IndexOrder; 3] = [IndexOrder::Any, IndexOrder::Increasing, IndexOrder::Sequential];

#[test]
fn everything_comes_once_by_looking_again_and_again() {
    for order in ORDERS {
        let sim = SimFs::new();
        let store = inline(&sim).segment_entries(10).index_order(order).open().unwrap();
        write(&store, 1..=1, 1);
        let mut early = inline(&sim).open_read_only().unwrap().follow(0).unwrap();
        write(&store, 2..=5, 1);
        let reader = inline(&sim).open_read_only().unwrap();
        let mut follow = reader.follow(3).unwrap();
        assert_eq!(there(&mut follow), puts(3..=5, 1));
        for last in (6..=300).step_by(7) {
            write(&store, last..=last + 6, 1);
            reader.refresh().unwrap();
            assert_eq!(there(&mut follow), puts(last..=last + 6, 1), "{order}");
        }
        store.delete(8).unwrap();
        reader.refresh().unwrap();
        assert_eq!(there(&mut follow), [Seen::Deleted(8)]);
        // It looks by itself, too.
        for index in 1..=306 {
            assert_eq!(next(&mut early), Seen::Put(index, 1), "{order}");
        }
        assert_eq!(next(&mut early), Seen::Deleted(8));
        store.close().unwrap();
    }
}

#[test]
fn everything_comes_once_beside_a_writer_that_never_rests() {
    const ENTRIES: u64 = 4000;
    let dir = tempfile::tempdir().unwrap();
    let open = || Options::new(dir.path()).sync(SyncPolicy::None).segment_entries(64);
    let store = open().open().unwrap();
    write(&store, 1..=1, 1);
    let reader = open().open_read_only().unwrap();
    let following = thread::spawn(move || {
        let mut follow = reader.follow(1).unwrap();
        for index in 1..=ENTRIES {
            assert_eq!(next(&mut follow), Seen::Put(index, 1));
        }
        assert!(follow.try_next().unwrap().is_none());
    });
    write(&store, 2..=ENTRIES, 1);
    following.join().unwrap();
    store.close().unwrap();
}

#[test]
fn truncations_of_the_writer_are_told() {
    for order in ORDERS {
        let sim = SimFs::new();
        let store = inline(&sim).segment_entries(10).index_order(order).open().unwrap();
        write(&store, 1..=25, 1);
        let reader = inline(&sim).open_read_only().unwrap();
        let (mut follow, mut slow) = (reader.follow(0).unwrap(), reader.follow(0).unwrap());
        assert_eq!(there(&mut follow), puts(1..=25, 1));
        assert_eq!(take(&mut slow, 5), puts(1..=5, 1));
        store.truncate_after(12).unwrap();
        write(&store, 13..=14, 2);
        reader.refresh().unwrap();
        assert_eq!(there(&mut follow), all(&[&[Seen::Gone(13..=u64::MAX)], &puts(13..=14, 2)]), "{order}");
        assert_eq!(there(&mut slow), all(&[&puts(6..=12, 1), &puts(13..=14, 2)]), "{order}");
        store.reset_to(3).unwrap();
        write(&store, 3..=4, 3);
        reader.refresh().unwrap();
        for follow in [&mut follow, &mut slow] {
            assert_eq!(there(follow), all(&[&[Seen::Gone(0..=u64::MAX)], &puts(3..=4, 3)]), "{order}");
        }
        store.close().unwrap();
    }
}

/// What the truncation emptied was retired before the reader looked again.
#[test]
fn segments_that_the_writer_emptied_and_retired_are_no_gap() {
    for handed in [0, 4, 10, 25] {
        let sim = SimFs::new();
        let store = inline(&sim).segment_entries(10).open().unwrap();
        write(&store, 1..=45, 1);
        let reader = inline(&sim).open_read_only().unwrap();
        let mut follow = reader.follow(0).unwrap();
        assert_eq!(take(&mut follow, handed), puts(1..=handed as u64, 1));
        store.truncate_before(44).unwrap();
        assert_eq!(store.segments().len(), 1);
        write(&store, 46..=46, 1);
        reader.refresh().unwrap();
        let seen = there(&mut follow);
        let puts_seen: Vec<_> = seen.iter().filter(|seen| matches!(seen, Seen::Put(..))).cloned().collect();
        assert_eq!(puts_seen, puts(44..=46, 1), "{handed}");
        assert_eq!(seen.len(), 3 + usize::from(handed > 0), "{seen:?}");
        store.close().unwrap();
    }
}

#[test]
fn retention_overtakes_a_follower_beside_the_writer_too() {
    for order in ORDERS {
        for written in [20, 500] {
            let sim = SimFs::new();
            let open = || inline(&sim).segment_entries(10).index_order(order).max_segments(3);
            let store = open().open().unwrap();
            write(&store, 1..=15, 1);
            let reader = open().open_read_only().unwrap();
            let mut slow = reader.follow(1).unwrap();
            let mut up_to_date = reader.follow(1).unwrap();
            assert_eq!(take(&mut slow, 3), puts(1..=3, 1));
            assert_eq!(there(&mut up_to_date), puts(1..=15, 1));
            write(&store, 16..=15 + written, 1);
            reader.refresh().unwrap();
            let first = store.first_index();
            assert_eq!(there(&mut slow), [Seen::Removed(first)], "{order}");
            assert!(slow.next().is_none());
            let expected = if written == 20 { puts(16..=35, 1) } else { vec![Seen::Removed(first)] };
            assert_eq!(there(&mut up_to_date), expected, "{order}");
            assert!(matches!(reader.follow(first.unwrap() - 1), Err(Error::Removed { .. })), "{order}");
            assert_eq!(there(&mut reader.follow(first.unwrap()).unwrap()).len() as u64, store.len());
            store.close().unwrap();
        }
    }
}

#[test]
fn what_retention_takes_behind_a_follower_beside_the_writer_is_no_gap() {
    let sim = SimFs::new();
    let store = inline(&sim).segment_entries(10).max_segments(3).open().unwrap();
    write(&store, 1..=1, 1);
    let reader = inline(&sim).open_read_only().unwrap();
    let mut follow = reader.follow(1).unwrap();
    assert_eq!(there(&mut follow), puts(1..=1, 1));
    for first in (2..=200).step_by(9) {
        write(&store, first..=first + 8, 1);
        reader.refresh().unwrap();
        assert_eq!(there(&mut follow), puts(first..=first + 8, 1));
    }
    store.close().unwrap();
}

#[test]
fn only_what_the_writer_made_durable_comes_if_asked_for() {
    let sim = SimFs::new();
    let store = inline(&sim).segment_entries(10).open().unwrap();
    write(&store, 1..=3, 1);
    let reader = inline(&sim).open_read_only().unwrap();
    let mut follow = reader.follow(0).unwrap().durable_only(true);
    let mut all_of_it = reader.follow(0).unwrap();
    assert_eq!(there(&mut follow), []);
    assert_eq!(there(&mut all_of_it), puts(1..=3, 1));
    store.sync().unwrap();
    // The next write says how far the log was durable, and so does idleness.
    write(&store, 4..=6, 1);
    reader.refresh().unwrap();
    assert_eq!(there(&mut follow), puts(1..=3, 1));
    assert_eq!(there(&mut all_of_it), puts(4..=6, 1));
    store.sync().unwrap();
    store.idle().unwrap();
    reader.refresh().unwrap();
    assert_eq!(there(&mut follow), puts(4..=6, 1));
    // Across segments.
    write(&store, 7..=48, 1);
    reader.refresh().unwrap();
    let sealed = there(&mut follow);
    assert!(sealed.len() >= 30 && sealed.len() < 42, "sealed segments are durable: {sealed:?}");
    assert_eq!(there(&mut all_of_it), puts(7..=48, 1));
    store.close().unwrap();
    reader.refresh().unwrap();
    assert_eq!(all(&[&sealed, &there(&mut follow)]), puts(7..=48, 1));
}

/// A follower that waits finds what comes by itself; and the thread that looks goes with the last follower.
#[test]
fn a_waiting_follower_looks_by_itself_and_the_looking_ends_with_it() {
    let sim = SimFs::new();
    let store = threaded(&sim).open().unwrap();
    write(&store, 1..=1, 1);
    let reader = threaded(&sim).open_read_only().unwrap();
    let mut follow = reader.follow(1).unwrap();
    assert_eq!(next(&mut follow), Seen::Put(1, 1));
    let waiting = thread::spawn(move || {
        let seen: Vec<_> = (0..3).map(|_| next(&mut follow)).collect();
        (seen, follow)
    });
    for index in 2..=4 {
        thread::sleep(ms(5));
        write(&store, index..=index, 1);
    }
    let (seen, follow) = waiting.join().unwrap();
    assert_eq!(seen, puts(2..=4, 1));
    // It reads the manifest at each look.
    let calls = || sim.calls();
    drop(follow);
    store.close().unwrap();
    eventually("nobody looks any more", || {
        let before = calls();
        thread::sleep(ms(150));
        calls() == before
    });
    let store = threaded(&sim).open().unwrap();
    let mut follow = reader.follow(1).unwrap();
    write(&store, 5..=5, 1);
    let seen: Vec<_> = (0..5).map(|_| next(&mut follow)).collect();
    assert_eq!(seen, puts(1..=5, 1));
    store.close().unwrap();
}

#[test]
fn looking_backs_off_while_nothing_happens() {
    let sim = SimFs::new();
    let store = inline(&sim).open().unwrap();
    write(&store, 1..=1, 1);
    let reader = inline(&sim).open_read_only().unwrap();
    let mut follow = reader.follow(1).unwrap();
    assert_eq!(next(&mut follow), Seen::Put(1, 1));
    let before = sim.calls();
    assert!(follow.next_timeout(ms(400)).unwrap().is_none());
    let calls = sim.calls() - before;
    // A look is a dozen calls: 400 looks without pauses that grow, about ten with them.
    assert!(calls < 1000, "{calls} calls while idle");
    write(&store, 2..=2, 1);
    assert_eq!(next(&mut follow), Seen::Put(2, 1));
    store.close().unwrap();
}

#[test]
fn a_writer_that_ends_and_comes_back_is_followed_on() {
    let sim = SimFs::new();
    let reader;
    let mut follow;
    {
        let store = inline(&sim).segment_entries(10).open().unwrap();
        write(&store, 1..=15, 1);
        reader = inline(&sim).open_read_only().unwrap();
        follow = reader.follow(0).unwrap();
        assert_eq!(there(&mut follow), puts(1..=15, 1));
        // Dropped and not closed: the next one recovers.
    }
    for round in 0..4u64 {
        let first = 16 + 7 * round;
        let store = inline(&sim).segment_entries(10).open().unwrap();
        write(&store, first..=first + 6, 1);
        reader.refresh().unwrap();
        assert_eq!(there(&mut follow), puts(first..=first + 6, 1), "round {round}");
        if round % 2 == 0 {
            store.close().unwrap();
        }
    }
    assert!(follow.next_timeout(ms(1)).unwrap().is_none());
    let _ = PATIENCE;
}
