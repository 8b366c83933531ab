//! What truncations take from followers, and what they do not.

use casklog::fs::sim::SimFs;
use casklog::{Batch, IndexOrder, Store};

use crate::common::{Seen, all, inline, puts, take, there, write};

const ORDERS: [IndexOrder; 3] = [IndexOrder::Any, IndexOrder::Increasing, IndexOrder::Sequential];

/// A log of ten entries to a segment.
fn open() -> Store {
    inline(&SimFs::new()).segment_entries(10).open().unwrap()
}

#[test]
fn a_truncation_of_what_was_handed_out_comes_once_and_before_what_is_written_after_it() {
    for order in ORDERS {
        let store = inline(&SimFs::new()).segment_entries(10).index_order(order).open().unwrap();
        write(&store, 1..=25, 1);
        let mut follow = store.follow(1).unwrap();
        assert_eq!(there(&mut follow), puts(1..=25, 1));
        store.truncate_after(12).unwrap();
        write(&store, 13..=14, 2);
        assert_eq!(there(&mut follow), all(&[&[Seen::Gone(13..=u64::MAX)], &puts(13..=14, 2)]), "{order}");
        // Below and above what was handed out: nothing to tell.
        store.truncate_after(14).unwrap();
        assert_eq!(there(&mut follow), []);
        store.truncate_before(5).unwrap();
        write(&store, 15..=15, 3);
        assert_eq!(there(&mut follow), all(&[&[Seen::Gone(0..=4)], &puts(15..=15, 3)]), "{order}");
        store.reset_to(1).unwrap();
        write(&store, 1..=2, 4);
        assert_eq!(there(&mut follow), all(&[&[Seen::Gone(0..=u64::MAX)], &puts(1..=2, 4)]), "{order}");
        // What a second one takes was not handed out since.
        store.reset_to(30).unwrap();
        assert_eq!(there(&mut follow), [Seen::Gone(0..=u64::MAX)]);
        store.reset_to(1).unwrap();
        write(&store, 1..=1, 5);
        assert_eq!(there(&mut follow), puts(1..=1, 5), "{order}");
    }
}

#[test]
fn what_was_truncated_before_it_was_handed_out_does_not_come() {
    for order in ORDERS {
        let store = inline(&SimFs::new()).segment_entries(10).index_order(order).open().unwrap();
        write(&store, 1..=25, 1);
        let mut follow = store.follow(1).unwrap();
        assert_eq!(take(&mut follow, 8), puts(1..=8, 1));
        store.truncate_after(8).unwrap();
        write(&store, 9..=30, 2);
        assert_eq!(there(&mut follow), puts(9..=30, 2), "{order}");
        let mut second = store.follow(1).unwrap();
        assert_eq!(there(&mut second), all(&[&puts(1..=8, 1), &puts(9..=30, 2)]), "{order}");
        let mut third = store.follow(9).unwrap();
        assert_eq!(there(&mut third), puts(9..=30, 2), "{order}");
    }
}

#[test]
fn a_truncation_in_a_batch_comes_before_its_entries() {
    let store = open();
    write(&store, 1..=5, 1);
    let mut follow = store.follow(1).unwrap();
    assert_eq!(there(&mut follow), puts(1..=5, 1));
    let mut batch = Batch::new();
    batch.put(4, "key", &2).unwrap().put(5, "key", &2).unwrap();
    batch.truncate_after(3);
    store.write_batch(&batch).unwrap();
    assert_eq!(there(&mut follow), all(&[&[Seen::Gone(4..=u64::MAX)], &puts(4..=5, 2)]));
    assert_eq!(there(&mut store.follow(4).unwrap()), puts(4..=5, 2));
}

/// Nothing was missed: all that stood between has been truncated. So it is no [`Error::Removed`].
#[test]
fn segments_that_a_truncation_emptied_and_retired_are_no_gap() {
    for handed in [0, 4, 10, 25, 40] {
        let store = open();
        write(&store, 1..=45, 1);
        let mut follow = store.follow(0).unwrap();
        assert_eq!(take(&mut follow, handed), puts(1..=handed as u64, 1));
        store.truncate_before(44).unwrap();
        assert_eq!(store.segments().len(), 1, "the others went");
        write(&store, 46..=46, 1);
        let gone: &[Seen] = if handed == 0 { &[] } else { &[Seen::Gone(0..=43)] };
        let seen = there(&mut follow);
        let told: Vec<_> = seen.iter().filter(|seen| matches!(seen, Seen::Gone(_))).collect();
        assert_eq!(told.len(), gone.len(), "{handed}: {seen:?}");
        // The truncation stands behind the entries that it left.
        let left: Vec<_> = seen.iter().filter(|seen| matches!(seen, Seen::Put(..))).cloned().collect();
        assert_eq!(left, puts(44..=46, 1), "{handed}");
        assert!(told.iter().all(|gone| matches!(gone, Seen::Gone(gone) if handed == 0 || gone.contains(&1) && gone.contains(&(handed as u64).min(43)))), "{handed}: {told:?}");
        assert_eq!(seen.len(), 3 + gone.len());
    }
}

/// The record of a truncation went with its own segment, which a later one emptied.
#[test]
fn a_truncation_whose_record_is_gone_is_told_all_the_same() {
    let store = open();
    write(&store, 1..=10, 1);
    let mut follow = store.follow(0).unwrap();
    assert_eq!(there(&mut follow), puts(1..=10, 1));
    store.rotate().unwrap();
    store.truncate_after(0).unwrap();
    write(&store, 1..=3, 2);
    store.rotate().unwrap();
    store.truncate_before(4).unwrap();
    assert_eq!(store.segments().len(), 1);
    write(&store, 4..=10, 3);
    let seen = there(&mut follow);
    let (gone, rest) = seen.split_at(seen.len() - 7);
    assert_eq!(rest, puts(4..=10, 3));
    let is_told = |index: u64| gone.iter().any(|seen| matches!(seen, Seen::Gone(gone) if gone.contains(&index)));
    assert!((1..=10).all(is_told), "{gone:?}");
    assert_eq!(gone.len(), 1, "{gone:?}");
}

#[test]
fn the_deletion_of_a_truncated_entry_that_was_not_handed_out_does_not_come() {
    let store = open();
    write(&store, 1..=9, 1);
    store.delete(3).unwrap();
    store.delete(8).unwrap();
    let mut early = store.follow(0).unwrap();
    assert_eq!(take(&mut early, 8), puts(1..=8, 1));
    store.truncate_after(5).unwrap();
    write(&store, 6..=8, 2);
    store.delete(7).unwrap();
    let after = [puts(6..=8, 2), vec![Seen::Deleted(7)]].concat();
    let mut follow = store.follow(0).unwrap();
    assert_eq!(there(&mut follow), all(&[&puts(1..=5, 1), &[Seen::Deleted(3)], &after]));
    let seen = there(&mut early);
    let seen: Vec<_> = seen.into_iter().filter(|seen| *seen != Seen::Deleted(8)).collect();
    assert_eq!(seen, all(&[&[Seen::Deleted(3), Seen::Gone(6..=u64::MAX)], &after]), "whether 8 was deleted is all one");
}

/// What was handed out is known to the last index: what was written again and truncated before it came is not among it.
#[test]
fn what_was_truncated_once_is_not_gone_a_second_time() {
    for order in ORDERS {
        let store = inline(&SimFs::new()).segment_entries(10).index_order(order).open().unwrap();
        write(&store, 1..=10, 1);
        let mut follow = store.follow(1).unwrap();
        assert_eq!(there(&mut follow), puts(1..=10, 1));
        store.truncate_after(5).unwrap();
        assert_eq!(there(&mut follow), [Seen::Gone(6..=u64::MAX)]);
        write(&store, 6..=8, 2);
        store.truncate_after(6).unwrap();
        assert_eq!(there(&mut follow), puts(6..=6, 2), "{order}");
        store.truncate_before(4).unwrap();
        assert_eq!(there(&mut follow), [Seen::Gone(0..=3)], "{order}");
        store.truncate_before(6).unwrap();
        store.truncate_after(5).unwrap();
        assert_eq!(there(&mut follow), [Seen::Gone(0..=5), Seen::Gone(6..=u64::MAX)], "{order}");
        write(&store, 6..=9, 3);
        store.truncate_after(6).unwrap();
        assert_eq!(there(&mut follow), puts(6..=6, 3), "{order}");
    }
}

/// The entry that was truncated and the one that took its index stand at the same offset, each in its own segment.
#[test]
fn an_entry_is_told_from_the_one_that_took_its_index_in_another_segment() {
    let written = |pad: usize| {
        let store = open();
        store.put_meta("pad", [0; 300]).unwrap();
        write(&store, 1..=4, 1);
        let old = store.get(4).unwrap().unwrap().position();
        store.truncate_after(3).unwrap();
        store.rotate().unwrap();
        store.put_meta("other", vec![0; pad]).unwrap();
        write(&store, 4..=4, 2);
        let new = store.get(4).unwrap().unwrap().position();
        assert_ne!(old.segment(), new.segment());
        (store, old.offset(), new.offset())
    };
    let (_, old, new) = written(0);
    let (store, old, new) = written((old - new) as usize);
    assert_eq!(old, new);
    assert_eq!(there(&mut store.follow(0).unwrap()), all(&[&puts(1..=3, 1), &puts(4..=4, 2)]));
}
