//! What a lost record that is no entry had done, and batches that lost a part.

use casklog::fs::sim::SimFs;
use casklog::{Batch, Error, IndexOrder, RecoveryMode};

use crate::log::{MORE, change, entries, named, on, repaired, segment};

/// Where a record stands that `write` appends to the open log: from and up to.
fn spot(store: &casklog::Store, write: impl FnOnce(&casklog::Store)) -> (usize, usize) {
    let end = |store: &casklog::Store| store.segments().last().map_or(64, |last| last.bytes as usize);
    let from = end(store);
    write(store);
    (from, end(store))
}

/// In the middle of the last record of the stretch.
fn flip(sim: &SimFs, number: u64, (_, end): (usize, usize)) {
    change(sim, &segment(number), |bytes| bytes[end - 2] ^= 8);
}

#[test]
fn a_batch_that_lost_an_entry_keeps_the_others() {
    for lost in 3..=5 {
        let sim = SimFs::new();
        let store = on(&sim).open().unwrap();
        store.write(1, "k", "one").unwrap();
        store.write(2, "k", "two").unwrap();
        let mut batch = Batch::new();
        (3..=5).for_each(|index| _ = batch.put(index, "k", "of a batch").unwrap());
        store.write_batch(&batch).unwrap();
        store.write(6, "k", "six").unwrap();
        let all = entries(&store);
        store.rotate().unwrap();
        store.close().unwrap();
        let at = all[&lost].1.offset() as usize;
        change(&sim, &segment(1), |bytes| bytes[at + 13] ^= 1);
        let (report, gone) = repaired(&sim, &all, &format!("{lost} of the batch"));
        assert_eq!(gone, [lost]);
        assert_eq!(named(&report), [lost], "{report:?}");
        assert_eq!(report.segments[0].kept.iter().map(|(low, high)| high - low + 1).sum::<u64>(), 5, "{report:?}");
    }
}

#[test]
fn an_entry_whose_deletion_is_lost_is_there_again_and_named() {
    let sim = SimFs::new();
    let store = on(&sim).open().unwrap();
    (1..=4).for_each(|index| _ = store.write(index, "k", &index).unwrap());
    store.rotate().unwrap();
    store.write(5, "k", &5).unwrap();
    let deletion = spot(&store, |store| assert!(store.delete(2).unwrap()));
    store.write(6, "k", &6).unwrap();
    let all = entries(&store);
    store.rotate().unwrap();
    store.close().unwrap();
    flip(&sim, 2, deletion);
    let (report, gone) = repaired(&sim, &all, "a deletion");
    assert!(gone.is_empty());
    assert_eq!(report.returned, [2], "{report:?}");
    assert!(named(&report).is_empty() && report.segments[0].lost[0].is_exact, "{report:?}");
}

#[test]
fn metadata_whose_record_is_lost_is_what_it_was_before_or_what_the_next_segment_repeats() {
    for is_repeated in [false, true] {
        let sim = SimFs::new();
        let store = on(&sim).open().unwrap();
        store.put_meta("name", "first").unwrap();
        let lost = spot(&store, |store| store.put_meta("name", "second").unwrap());
        store.write(1, "k", "v").unwrap();
        if is_repeated {
            store.rotate().unwrap();
            store.write(2, "k", "v").unwrap();
        }
        let all = entries(&store);
        store.close().unwrap();
        flip(&sim, 1, lost);
        repaired(&sim, &all, "metadata");
        let expected = if is_repeated { "second" } else { "first" };
        assert_eq!(on(&sim).open().unwrap().meta("name").unwrap(), expected.as_bytes());
    }
}

/// The next segment repeats it.
#[test]
fn a_lost_truncation_goes_on_to_hide_what_it_hid() {
    for order in [IndexOrder::Any, IndexOrder::Increasing, IndexOrder::Sequential] {
        let sim = SimFs::new();
        let store = on(&sim).index_order(order).open().unwrap();
        (1..=8).for_each(|index| _ = store.write(index, "k", "first").unwrap());
        store.rotate().unwrap();
        let lost = spot(&store, |store| store.truncate_after(5).unwrap());
        (6..=7).for_each(|index| _ = store.write(index, "k", "second").unwrap());
        store.rotate().unwrap();
        store.write(8, "k", "third").unwrap();
        let all = entries(&store);
        store.close().unwrap();
        flip(&sim, 2, lost);
        let report = on(&sim).index_order(order).repair().run().unwrap();
        assert!(named(&report).is_empty(), "{report:?}");
        let store = on(&sim).index_order(order).recovery(RecoveryMode::Strict).open().unwrap();
        assert_eq!(entries(&store), all, "{order:?}");
        assert_eq!(store.len(), 8, "{order:?}");
        store.close().unwrap();
    }
}

/// Nobody repeats it behind the last segment: the later entries count, wherever the older ones stand.
#[test]
fn an_index_that_came_twice_is_the_later_one_and_both_are_named() {
    for order in [IndexOrder::Any, IndexOrder::Increasing, IndexOrder::Sequential] {
        for rotates in [false, true] {
            let sim = SimFs::new();
            let store = on(&sim).index_order(order).open().unwrap();
            (1..=8).for_each(|index| _ = store.write(index, "k", "first").unwrap());
            if rotates {
                store.rotate().unwrap();
            }
            let lost = spot(&store, |store| store.truncate_after(5).unwrap());
            let newer: Vec<_> = (6..=9).map(|index| store.write(index, "k", "second").unwrap()).collect();
            let all = entries(&store);
            store.close().unwrap();
            let number = newer[0].segment();
            flip(&sim, number, lost);
            let words = format!("{order:?}, in another segment: {rotates}");
            let report = on(&sim).index_order(order).repair().run().unwrap();
            let again: Vec<_> =
                report.taken_again.iter().map(|again| (again.index, again.older_segment, again.newer)).collect();
            assert_eq!(again.first(), Some(&(6, 1, newer[0])), "{words}: {report:?}");
            for _ in 0..2 {
                let store = on(&sim).index_order(order).recovery(RecoveryMode::Strict).open().unwrap();
                assert_eq!(entries(&store), all, "{words}");
                let shown: Vec<u64> = store.iter().flatten().map(|entry| entry.index()).collect();
                assert_eq!(shown, (1..=9).collect::<Vec<_>>(), "{words}: each once");
                assert_eq!(store.len(), 9, "{words}");
                store.close().unwrap();
            }
        }
    }
}

#[test]
fn iterators_and_followers_tell_a_gap_among_records_once_and_go_on() {
    let sim = SimFs::new();
    let store = on(&sim).open().unwrap();
    (1..=9).for_each(|index| _ = store.write(index, "k", &index).unwrap());
    let all = entries(&store);
    store.close().unwrap();
    for lost in [3, 7] {
        change(&sim, &segment(1), |bytes| bytes[all[&lost].1.offset() as usize + 12] ^= 1);
    }
    repaired(&sim, &all, "two gaps");
    let store = on(&sim).open().unwrap();
    let told = |item: Result<u64, Error>| match item {
        Ok(index) => index,
        Err(Error::Lost { segment: 1 }) => 0,
        Err(other) => panic!("{other}"),
    };
    let expected = [1, 2, 0, 4, 5, 6, 0, 8, 9, MORE, MORE + 1];
    let shown: Vec<u64> = store.iter().map(|entry| told(entry.map(|entry| entry.index()))).collect();
    assert_eq!(shown, expected);
    let shown: Vec<u64> = store.log_order().map(|item| told(item.map(|item| item.index()))).collect();
    assert_eq!(shown, expected, "in the order written");
    let (mut follow, mut shown) = (store.follow(0).unwrap(), Vec::new());
    loop {
        match follow.try_next() {
            Ok(None) => break,
            Ok(Some(item)) => shown.push(item.index()),
            Err(error) => shown.push(told(Err(error))),
        }
    }
    assert_eq!(shown, expected, "to who follows");
}
