//! A writer that lost its end in a crash, and a successor that wrote something else at the same place, under a reader
//! that had read what is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use casklog::fs::sim::{Fate, SimFs};
use casklog::{Error, Iter, LogOrder, Options, Position, Reader, Store};

use crate::common::{Numbers, PATIENCE, Seen, all, inline, ms, puts, take, there, write};
use crate::model::{Mirror, Stop, live};
use crate::swap::Swap;

fn reading(swap: &Swap) -> Options {
    Options::new("/log").fs(Arc::new(swap.clone()))
}

/// The power goes: the disk without what was not synced.
fn cut(sim: &SimFs, swap: &Swap) -> SimFs {
    let found = sim.crash_at(sim.ops(), &mut |_| Fate::Lost);
    swap.set(&found);
    found
}

fn open(sim: &SimFs) -> Store {
    inline(sim).segment_entries(20).open().unwrap()
}

/// How the successor goes on before the reader looks again.
#[derive(Debug, Clone, Copy)]
enum Then {
    Nothing,
    Opened,
    Wrote(u64),
    WroteAndSynced(u64),
    WroteAndClosed(u64),
}

/// Entries 1 to 5 are durable, 6 to `last` are not, and all were handed out.
fn run(last: u64, then: Then) {
    let what = format!("up to {last}, {then:?}");
    let sim = SimFs::new();
    let swap = Swap::new(&sim);
    let store = open(&sim);
    write(&store, 1..=5, 1);
    store.sync().unwrap();
    write(&store, 6..=6, 1);
    let reader = reading(&swap).open_read_only().unwrap();
    let mut follow = reader.follow(0).unwrap();
    let mut slow = reader.follow(0).unwrap();
    let mut durable = reader.follow(0).unwrap().durable_only(true);
    assert_eq!(there(&mut follow), puts(1..=6, 1));
    write(&store, 7..=last, 1);
    reader.refresh().unwrap();
    assert_eq!(there(&mut follow), puts(7..=last, 1));
    assert_eq!(take(&mut slow, 3), puts(1..=3, 1));
    assert_eq!(there(&mut durable), puts(1..=5, 1));
    let mut over = [reader.iter(), reader.iter()];
    let mut in_log_order = reader.log_order();
    assert_eq!(over[0].next().unwrap().unwrap().index(), 1);
    in_log_order.next().unwrap().unwrap();

    let found = cut(&sim, &swap);
    drop(store);
    let end = match then {
        Then::Nothing => None,
        Then::Opened => Some((open(&found), 5)),
        Then::Wrote(to) | Then::WroteAndSynced(to) | Then::WroteAndClosed(to) => {
            let store = open(&found);
            write(&store, 6..=to, 2);
            match then {
                Then::WroteAndSynced(_) => store.sync().unwrap(),
                Then::WroteAndClosed(_) => store.close().unwrap(),
                _ => {}
            }
            Some((store, to))
        }
    };
    reader.refresh().unwrap();
    let to = end.as_ref().map_or(5, |(_, to)| *to);
    assert_eq!(there(&mut follow), all(&[&[Seen::Gone(6..=last)], &puts(6..=to, 2)]), "{what}");
    assert_eq!(there(&mut slow), all(&[&puts(4..=5, 1), &puts(6..=to, 2)]), "{what}");
    for index in 1..=last.max(to) {
        let value = reader.get(index).unwrap().map(|entry| entry.value::<u64>().unwrap());
        let expected = if index <= 5 { Some(1) } else { (index <= to).then_some(2) };
        assert_eq!(value, expected, "{what}: {index}");
    }
    for iter in &mut over {
        assert!(iter.any(|entry| matches!(entry, Err(Error::Truncated))), "{what}");
        assert!(iter.next().is_none());
    }
    assert!(in_log_order.any(|item| matches!(item, Err(Error::Truncated))), "{what}");
    assert_eq!(reader.iter().count() as u64, to, "{what}");
    assert_eq!(there(&mut reader.follow(0).unwrap()), all(&[&puts(1..=5, 1), &puts(6..=to, 2)]), "{what}");

    // And it goes on.
    let store = end.map(|(store, _)| store).filter(|store| store.writable().is_ok()).unwrap_or_else(|| open(&found));
    write(&store, to + 1..=to + 30, 3);
    store.sync().unwrap();
    write(&store, to + 31..=to + 31, 3);
    reader.refresh().unwrap();
    assert_eq!(there(&mut follow), puts(to + 1..=to + 31, 3), "{what}");
    assert_eq!(there(&mut slow), puts(to + 1..=to + 31, 3), "{what}");
    assert_eq!(there(&mut durable), all(&[&puts(6..=to, 2), &puts(to + 1..=to + 30, 3)]), "{what}");
    store.close().unwrap();
}

#[test]
fn what_was_handed_out_and_lost_is_truncated_and_the_new_comes() {
    for last in [6, 7, 10, 19] {
        run(last, Then::Nothing);
        run(last, Then::Opened);
        for to in [6, 7, 9, 12, 19] {
            run(last, Then::Wrote(to));
            run(last, Then::WroteAndSynced(to));
            run(last, Then::WroteAndClosed(to));
        }
    }
}

/// The segments that the lost entries stood in are gone with them.
#[test]
fn what_was_lost_with_its_segments_is_truncated_too() {
    for last in [20, 21, 25, 45, 61] {
        for to in [6, 8, 20, 21, 30, 70] {
            let sim = SimFs::new();
            let swap = Swap::new(&sim);
            // Nothing is sealed, so that nothing behind the first sync becomes durable.
            let store = Options::new("/log").fs(Arc::new(sim.clone())).sync(casklog::SyncPolicy::None);
            let store = store.background(false).segment_entries(20).open().unwrap();
            write(&store, 1..=5, 1);
            store.sync().unwrap();
            write(&store, 6..=last, 1);
            let reader = reading(&swap).open_read_only().unwrap();
            let mut follow = reader.follow(0).unwrap();
            assert_eq!(there(&mut follow), puts(1..=last, 1));
            let durable = store.iter().filter(|entry| entry.as_ref().unwrap().is_durable()).count() as u64;
            let found = cut(&sim, &swap);
            drop(store);
            let store = open(&found);
            let kept = store.len();
            assert!(kept >= durable);
            let to = to.max(kept + 1);
            write(&store, kept + 1..=to, 2);
            store.sync().unwrap();
            reader.refresh().unwrap();
            let what = format!("{last} handed out, {durable} durable, {kept} kept, {to} written");
            let seen = there(&mut follow);
            let lost = if kept == last { vec![] } else { vec![Seen::Gone(kept + 1..=last)] };
            assert_eq!(seen, all(&[&lost, &puts(kept + 1..=to, 2)]), "{what}");
            store.close().unwrap();
        }
    }
}

/// Two crashes before the follower looks once: the lower cut counts.
#[test]
fn of_two_cuts_the_lower_one_counts() {
    let sim = SimFs::new();
    let swap = Swap::new(&sim);
    let store = open(&sim);
    write(&store, 1..=5, 1);
    store.sync().unwrap();
    write(&store, 6..=15, 1);
    let reader = reading(&swap).open_read_only().unwrap();
    let mut follow = reader.follow(0).unwrap();
    assert_eq!(there(&mut follow), puts(1..=15, 1));
    let second = cut(&sim, &swap);
    drop(store);
    let store = open(&second);
    write(&store, 6..=9, 2);
    store.sync().unwrap();
    write(&store, 10..=12, 2);
    reader.refresh().unwrap();
    let third = cut(&second, &swap);
    drop(store);
    let store = open(&third);
    write(&store, 10..=11, 3);
    reader.refresh().unwrap();
    assert_eq!(there(&mut follow), all(&[&[Seen::Gone(6..=15)], &puts(6..=9, 2), &puts(10..=11, 3)]));
    store.close().unwrap();
}

/// A process that is killed loses nothing that a reader has seen: no cut.
#[test]
fn a_killed_writer_takes_nothing_back() {
    let sim = SimFs::new();
    let swap = Swap::new(&sim);
    let store = open(&sim);
    write(&store, 1..=5, 1);
    let reader = reading(&swap).open_read_only().unwrap();
    let mut follow = reader.follow(0).unwrap();
    let mut iter = reader.iter();
    assert_eq!(there(&mut follow), puts(1..=5, 1));
    let found = sim.killed();
    swap.set(&found);
    drop(store);
    let store = open(&found);
    write(&store, 6..=8, 1);
    reader.refresh().unwrap();
    assert_eq!(there(&mut follow), puts(6..=8, 1));
    assert_eq!(iter.by_ref().map(|entry| entry.unwrap().index()).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    store.close().unwrap();
}

/// Cuts of every kind at any moment, one after the other: whoever follows has the log that is left, and who asks for what
/// is durable is never told that something of it is gone.
fn cuts(seed: u64) {
    let mut numbers = Numbers(seed);
    let mut sim = SimFs::new();
    let swap = Swap::new(&sim);
    let what = format!("seed {seed}");
    let mut store = inline(&sim).segment_entries(6).open().unwrap();
    write(&store, 1..=1, 0);
    let reader = reading(&swap).open_read_only().unwrap();
    let begin = |durable| (reader.follow(0).unwrap().durable_only(durable), Mirror::new(false));
    let mut followers = [begin(false), begin(false), begin(true)];
    for step in 1..=120u64 {
        match numbers.below(20) {
            0..=11 => {
                let next = store.next_index().unwrap();
                write(&store, next..=next + numbers.below(3), step);
            }
            12 | 13 => store.sync().unwrap(),
            14 => store.rotate().unwrap(),
            15 => store.idle().unwrap(),
            16 | 17 => {
                let found = match numbers.below(4) {
                    0 => sim.killed(),
                    1 => sim.crash_at(sim.ops(), &mut |_| Fate::Lost),
                    _ => sim.crash_at(sim.ops(), &mut |_| Fate::from(numbers.below(3) != 0)),
                };
                swap.set(&found);
                drop(store);
                store = inline(&found).segment_entries(6).open().unwrap();
                sim = found;
                if store.is_empty() {
                    write(&store, 1..=1, step);
                }
            }
            _ => drop(reader.refresh().unwrap()),
        }
        for (follow, mirror) in &mut followers {
            mirror.take(follow, numbers.below(8), &format!("{what}, step {step}"));
        }
    }
    store.sync().unwrap();
    store.idle().unwrap();
    reader.refresh().unwrap();
    let left = live(&store, 0);
    assert_eq!(live(&reader, 0), left, "{what}");
    for (follow, mirror) in &mut followers {
        assert_eq!(mirror.take(follow, u64::MAX, &what), Stop::Waits);
        assert_eq!(mirror.entries, left, "{what}");
    }
    assert!(!followers[2].1.was_truncated, "{what}");
    store.close().unwrap();
}

#[test]
fn a_follower_has_the_log_that_cuts_have_left() {
    let rounds = std::env::var("CASKLOG_FOLLOW_ROUNDS").map_or(40, |rounds| rounds.parse().unwrap());
    let first = std::env::var("CASKLOG_FOLLOW_SEED").map_or(1, |seed| seed.parse().unwrap());
    (first..first + rounds).for_each(cuts);
}

/// The same with followers on threads of their own, who are in the middle of something when the log is cut.
#[test]
fn a_cut_meets_followers_in_the_middle_of_something() {
    let mut sim = SimFs::new();
    let swap = Swap::new(&sim);
    let mut store = inline(&sim).segment_entries(16).open().unwrap();
    write(&store, 1..=1, 0);
    let reader = reading(&swap).open_read_only().unwrap();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let mirror = |durable: bool| {
            let mut follow = reader.follow(0).unwrap().durable_only(durable);
            let is_over = &is_over;
            move || {
                let mut mirror = Mirror::new(false);
                loop {
                    // Looked at first: what was there when it was over is read to its end.
                    let was_over = is_over.load(Ordering::SeqCst);
                    match follow.next_timeout(ms(2)) {
                        Ok(Some(item)) => mirror.apply(item, "beside"),
                        Ok(None) if was_over => return mirror,
                        Ok(None) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            }
        };
        let followers = [scope.spawn(mirror(false)), scope.spawn(mirror(false)), scope.spawn(mirror(true))];
        for round in 1..=40u64 {
            let next = store.next_index().unwrap();
            write(&store, next..=next + round % 11, round);
            if round % 3 != 0 {
                store.sync().unwrap();
            }
            let next = store.next_index().unwrap();
            write(&store, next..=next + round % 29, round);
            // Sometimes they have seen it, sometimes they are about to.
            if round % 2 == 0 {
                reader.refresh().unwrap();
            }
            let found = sim.crash_at(sim.ops(), &mut |_| Fate::Lost);
            swap.set(&found);
            drop(std::mem::replace(&mut store, inline(&found).segment_entries(16).open().unwrap()));
            sim = found;
        }
        let next = store.next_index().unwrap();
        write(&store, next..=next + 50, 0);
        store.sync().unwrap();
        store.idle().unwrap();
        reader.refresh().unwrap();
        is_over.store(true, Ordering::SeqCst);
        let left = live(&store, 0);
        let mirrors = followers.map(|follower| follower.join().unwrap());
        mirrors.iter().for_each(|mirror| assert_eq!(mirror.entries, left));
        assert!(!mirrors[2].was_truncated);
    });
    store.close().unwrap();
}

/// A reader that has not looked since the cut, whichever way it reads: what it knew of is not called damaged because the
/// successor's bytes stand there.
#[test]
fn what_a_cut_has_replaced_is_not_called_damaged() {
    type Read = fn(&Reader, Iter, LogOrder, &[Position]) -> Vec<Error>;
    let reads: [(&str, Read); 6] = [
        ("get", |reader, _, _, _| (6..=15).filter_map(|index| reader.get(index).err()).collect()),
        ("read", |reader, _, _, positions| positions[5..].iter().filter_map(|at| reader.read(*at).err()).collect()),
        ("iter", |_, iter, _, _| iter.filter_map(Result::err).collect()),
        ("rev", |_, iter, _, _| iter.rev().filter_map(Result::err).collect()),
        ("log_order", |_, _, items, _| items.filter_map(Result::err).collect()),
        ("verify", |reader, _, _, _| {
            assert_eq!(reader.verify().unwrap().damage, []);
            Vec::new()
        }),
    ];
    for (what, read) in reads {
        for size in [10, 30_000] {
            let sim = SimFs::new();
            let swap = Swap::new(&sim);
            let fill = |store: &Store, first: u64, size: usize| {
                for index in first..first + 10 {
                    store.write_bytes(index, "key", vec![7; size]).unwrap();
                }
            };
            let store = inline(&sim).open().unwrap();
            write(&store, 1..=5, 1);
            store.sync().unwrap();
            fill(&store, 6, size);
            let reader = reading(&swap).cache_bytes(0).open_read_only().unwrap();
            let positions: Vec<_> = reader.iter().map(|entry| entry.unwrap().position()).collect();
            let (mut iter, mut items) = (reader.iter(), reader.log_order());
            iter.by_ref().take(6).for_each(|entry| drop(entry.unwrap()));
            items.by_ref().take(6).for_each(|item| drop(item.unwrap()));
            let found = cut(&sim, &swap);
            drop(store);
            let store = inline(&found).open().unwrap();
            fill(&store, 6, size + 7);
            store.sync().unwrap();
            let errors = read(&reader, iter, items, &positions);
            let is_told = |error: &Error| matches!(error, Error::Truncated | Error::InvalidPosition { .. });
            assert!(errors.iter().all(is_told), "{what}, {size} bytes: {errors:?}");
            store.close().unwrap();
        }
    }
}

/// A truncation or deletion that was not durable goes with the writer's end: what it took is there again, and comes again.
#[test]
fn what_a_lost_truncation_or_deletion_took_comes_again() {
    type Take = fn(&Store);
    let takes: [(Take, &[Seen]); 2] = [
        (|store| store.truncate_after(3).unwrap(), &[Seen::Gone(4..=u64::MAX)]),
        (|store| assert!(store.delete(4).unwrap()), &[Seen::Deleted(4)]),
    ];
    for (take_away, told) in takes {
        let sim = SimFs::new();
        let swap = Swap::new(&sim);
        let store = open(&sim);
        write(&store, 1..=5, 1);
        store.sync().unwrap();
        let reader = reading(&swap).open_read_only().unwrap();
        let (mut follow, mut slow) = (reader.follow(0).unwrap(), reader.follow(0).unwrap());
        assert_eq!(there(&mut follow), puts(1..=5, 1));
        assert_eq!(take(&mut slow, 2), puts(1..=2, 1));
        take_away(&store);
        reader.refresh().unwrap();
        assert_eq!(there(&mut follow), told);
        let seen_by_slow = there(&mut slow);
        let found = cut(&sim, &swap);
        drop(store);
        let store = open(&found);
        assert_eq!(store.len(), 5, "it was lost");
        write(&store, 6..=6, 2);
        reader.refresh().unwrap();
        let anew = all(&[&[Seen::Gone(0..=u64::MAX)], &puts(1..=5, 1), &puts(6..=6, 2)]);
        assert_eq!(there(&mut follow), anew, "behind {told:?}");
        assert_eq!(there(&mut slow), anew, "behind {seen_by_slow:?}");
        store.close().unwrap();
    }
}

/// Of indexes with gaps between them, those that are gone are told, and no others.
#[test]
fn a_cut_tells_no_index_that_was_not_handed_out() {
    let sim = SimFs::new();
    let swap = Swap::new(&sim);
    let store = open(&sim);
    [1, 7].into_iter().for_each(|index| write(&store, index..=index, 1));
    store.sync().unwrap();
    [9, 6, 2, 5, 20].into_iter().for_each(|index| write(&store, index..=index, 1));
    let reader = reading(&swap).open_read_only().unwrap();
    let mut follow = reader.follow(0).unwrap();
    assert_eq!(there(&mut follow).len(), 7);
    let found = cut(&sim, &swap);
    drop(store);
    let store = open(&found);
    reader.refresh().unwrap();
    assert_eq!(there(&mut follow), [2..=2, 5..=6, 9..=9, 20..=20].map(Seen::Gone));
    store.close().unwrap();
}

/// Whoever waits is told why nothing comes, and who begins again when the log is back is not.
#[test]
fn a_waiting_follower_is_told_that_the_log_is_gone() {
    let sim = SimFs::new();
    let swap = Swap::new(&sim);
    let store = open(&sim);
    write(&store, 1..=5, 1);
    let reader = reading(&swap).open_read_only().unwrap();
    let mut follow = reader.follow(0).unwrap();
    assert_eq!(there(&mut follow), puts(1..=5, 1));
    let waiting = thread::spawn(move || follow.next_timeout(PATIENCE));
    swap.set(&SimFs::new());
    let told = waiting.join().unwrap();
    assert!(told.is_err(), "{told:?}");
    swap.set(&sim);
    reader.refresh().unwrap();
    assert_eq!(take(&mut reader.follow(0).unwrap(), 5), puts(1..=5, 1));
    store.close().unwrap();
}
