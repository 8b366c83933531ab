//! A reader beside a writer, in the same process: what it sees when.

use std::path::Path;

use casklog::fs::sim::SimFs;
use casklog::fs::{Access, Fs};
use casklog::{Batch, Error, IndexOrder, LogItem, Options, RecoveryMode, Store, SyncPolicy};

use crate::common::*;

#[test]
fn a_reader_sees_what_was_written_when_it_was_opened_and_after_each_refresh() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Options::new(dir.path()).open_read_only(), Err(Error::NotFound { .. })));
    let store = Options::new(dir.path()).segment_entries(7).open().unwrap();
    write_each(&store, 1..=20);
    let reader = Options::new(dir.path()).open_read_only().unwrap();
    assert_eq!(indexes(&reader), (1..=20).collect::<Vec<_>>());
    write_each(&store, 21..=50);
    store.delete(22).unwrap();
    store.truncate_after(48).unwrap();
    assert_eq!(reader.len(), 20);
    assert!(reader.refresh().unwrap());
    assert_eq!(reader.get(22).unwrap().map(|e| e.index()), None);
    assert_eq!((reader.len(), reader.log_order().count()), (47, 49));
    // Until the writer's threads rest.
    eventually("no news", || !reader.refresh().unwrap());
    store.close().unwrap();
    let _ = reader.refresh().unwrap();
    assert_eq!(reader.next_index(), Some(49));
    let store: Store = Options::new(dir.path()).segment_entries(7).max_segments(2).open().unwrap();
    write_each(&store, 49..=80);
    assert!(reader.refresh().unwrap());
    assert_eq!(reader.last_index(), Some(80));
    store.close().unwrap();
    reader.refresh().unwrap();
    assert_eq!(indexes(&reader), (store.first_index().unwrap()..=80).collect::<Vec<_>>());
}

#[test]
fn a_reader_agrees_with_a_live_store_whatever_places_its_bytes() {
    for (sync, mapped) in [(SyncPolicy::None, true), (SyncPolicy::None, false), (SyncPolicy::default(), false)] {
        let dir = tempfile::tempdir().unwrap();
        let store = Options::new(dir.path()).sync(sync).mapped(mapped).segment_entries(25).open().unwrap();
        write_each(&store, [1]);
        let reader = Options::new(dir.path()).open_read_only().unwrap();
        for round in 0..20 {
            let next = store.next_index().unwrap();
            write_each(&store, next..next + 9);
            let mut batch = Batch::new();
            for index in next + 9..next + 14 {
                batch.put_bytes(index, "batch", vec![round; 3000]);
            }
            batch.delete(next).put_meta("round", [round]);
            store.write_batch(&batch).unwrap();
            if round % 5 == 4 {
                store.truncate_after(next + 11).unwrap();
                store.truncate_before(next - 30).unwrap();
            }
            // What the truncation emptied goes in the background.
            eventually("the same view", || {
                reader.refresh().unwrap();
                store.segments()[0].entries > 0 && reader.segments() == store.segments()
            });
            assert_same(&reader, &store);
            assert_same_beginning(&reader, &store);
            assert_entry(&reader, next + 3);
        }
        store.close().unwrap();
        reader.refresh().unwrap();
        assert_eq!(reader.stats().durable, reader.stats().tail);
        assert_eq!(reader.verify().unwrap().damage, []);
    }
}

#[test]
fn iterators_keep_the_view_they_were_made_with() {
    let fs = SimFs::new();
    let store = sim(&fs).segment_entries(10).open().unwrap();
    write_each(&store, 1..=25);
    let reader = sim(&fs).open_read_only().unwrap();
    let (mut by_index, mut by_time, mut both) = (reader.iter(), reader.log_order(), reader.range(5..));
    assert_eq!(by_index.next().unwrap().unwrap().index(), 1);
    assert_eq!(by_time.next().unwrap().unwrap().index(), 1);
    assert_eq!(both.next().unwrap().unwrap().index(), 5);
    store.delete(3).unwrap();
    write_each(&store, 26..=60);
    store.close().unwrap();
    // A successor after a crash: the log is read anew.
    let store = sim(&fs).segment_entries(10).open().unwrap();
    write_each(&store, [61]);
    drop(store);
    let store = sim(&fs).segment_entries(10).open().unwrap();
    store.delete(4).unwrap();
    assert!(reader.refresh().unwrap());
    assert_eq!(reader.len(), 59);
    assert_eq!(by_index.map(|entry| entry.unwrap().index()).collect::<Vec<_>>(), (2..=25).collect::<Vec<_>>());
    assert_eq!(by_time.map(|item| item.unwrap().index()).collect::<Vec<_>>(), (2..=25).collect::<Vec<_>>());
    assert_eq!(both.next_back().unwrap().unwrap().index(), 25);

    // What a truncation takes ends those that have not come to it, and only those.
    let (mut low, mut high) = (reader.range(..40), reader.range(50..));
    store.truncate_before(45).unwrap();
    reader.refresh().unwrap();
    assert!(matches!(low.next(), Some(Err(Error::Truncated))), "{low:?}");
    assert_eq!(high.next().unwrap().unwrap().index(), 50);
    let mut all = reader.iter();
    store.close().unwrap();
    let store = sim(&fs).segment_entries(10).max_segments(1).open().unwrap();
    write_each(&store, 62..=75);
    reader.refresh().unwrap();
    assert!(matches!(all.next(), Some(Err(Error::Removed { first: Some(_) }))), "{all:?}");
    assert_same(&reader, &store);
}

#[test]
fn segments_that_were_followed_live_are_taken_over_from_their_footers() {
    let fs = SimFs::new();
    let store = sim(&fs).open().unwrap();
    write_each(&store, [1]);
    let reader = sim(&fs).open_read_only().unwrap();
    for segment in 0..5 {
        let next = store.next_index().unwrap();
        for index in next..next + 4000 {
            store.write(index, "", &segment).unwrap();
        }
        reader.refresh().unwrap();
        let while_written = reader.stats().index_bytes;
        assert!(while_written > 4 * 4000, "{while_written}");
        // Seals it, and says in the manifest that it is durable.
        store.rotate().unwrap();
        reader.refresh().unwrap();
        let sealed = reader.stats().index_bytes;
        assert!(sealed < 2000 + 1000 * segment, "{while_written} bytes became {sealed}");
        assert_eq!(sealed, sim(&fs).open_read_only().unwrap().stats().index_bytes);
        assert_same(&reader, &store);
    }
}

#[test]
fn a_footer_that_is_not_there_yet_is_looked_for_again() {
    // The log is durable to the end of the first segment, whose footer is written later.
    let fs = SimFs::new();
    let store = sim(&fs).open().unwrap();
    for index in 1..=4000 {
        store.write(index, "", &index).unwrap();
    }
    let reader = sim(&fs).open_read_only().unwrap();
    store.rotate().unwrap();
    let path = sim_segment(1);
    let sealed = fs.read_file(&path).unwrap();
    let file = fs.open(&path, Access::Write).unwrap();
    let at = sealed.len() as u64 - 50;
    file.write_at(&[!sealed[at as usize]], at).unwrap();
    reader.refresh().unwrap();
    assert!(reader.stats().index_bytes > 4 * 4000, "the footer is not good");
    file.write_at(&sealed[at as usize..][..1], at).unwrap();
    reader.refresh().unwrap();
    assert!(reader.stats().index_bytes < 3000, "{}", reader.stats().index_bytes);
    assert_same(&reader, &store);
}

#[test]
fn the_order_of_indexes_need_not_be_known() {
    let dir = tempfile::tempdir().unwrap();
    let store = quick(dir.path()).index_order(IndexOrder::Increasing).first_index(100).open().unwrap();
    write_each(&store, [100, 105]);
    for order in [IndexOrder::Any, IndexOrder::Increasing, IndexOrder::Sequential] {
        let reader = Options::new(dir.path()).index_order(order).first_index(7).open_read_only().unwrap();
        assert_same(&reader, &store);
        store.append("key", "value").unwrap();
        reader.refresh().unwrap();
        assert_same(&reader, &store);
    }
}

#[test]
fn a_log_that_begins_high_has_lost_nothing_below() {
    let dir = tempfile::tempdir().unwrap();
    let store = quick(dir.path()).first_index(100).open().unwrap();
    write_each(&store, 100..=110);
    store.rotate().unwrap();
    let reader = Options::new(dir.path()).open_read_only().unwrap();
    let mut follow = reader.follow(0).unwrap();
    assert!(matches!(follow.try_next().unwrap(), Some(LogItem::Entry(entry)) if entry.index() == 100));
    store.truncate_before(105).unwrap();
    reader.refresh().unwrap();
    assert!(matches!(reader.follow(104), Err(Error::Removed { first: Some(105) })));
    assert!(reader.follow(105).is_ok());
    store.close().unwrap();
    // The writer, too, need not know where it once began.
    let store = quick(dir.path()).open().unwrap();
    assert!(matches!(store.follow(104), Err(Error::Removed { .. })));
    store.close().unwrap();
}

#[test]
fn a_log_without_a_record_is_empty_and_stays_quiet() {
    let fs = SimFs::new();
    let store = sim(&fs).open().unwrap();
    write_each(&store, 1..=3);
    let all = fs.ops();
    let mut seen = [0; 2];
    for op in 0..=all {
        let found = fs.crash_at(op, &mut |_| casklog::fs::sim::Fate::Kept);
        let before = found.ops();
        let reader = match sim(&found).open_read_only() {
            Ok(reader) => reader,
            Err(Error::NotFound { .. }) => continue,
            Err(error) => panic!("before operation {op}: {error}"),
        };
        assert_eq!(indexes(&reader), (1..=reader.len()).collect::<Vec<_>>());
        assert!(!reader.refresh().unwrap(), "before operation {op}");
        assert_eq!(found.ops(), before, "something was changed");
        seen[usize::from(reader.is_empty())] += 1;
        let store = sim(&found).open().unwrap();
        assert_eq!(store.len(), reader.len());
        write_each(&store, reader.len() + 1..=10);
        assert!(reader.refresh().unwrap());
        assert_same(&reader, &store);
    }
    assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
}

#[test]
fn another_log_in_the_same_directory_takes_the_place_of_the_first() {
    // Segment numbers begin anew: nothing that goes by a number may be believed.
    for (before, after) in [(30, 30), (30, 5), (5, 30), (95, 95)] {
        let dir = tempfile::tempdir().unwrap();
        let options = || quick(dir.path()).segment_entries(10).background(false);
        let store = options().open().unwrap();
        (1..=before).for_each(|index| drop(store.write(index, "first", &format!("first {index}"))));
        let reader = options().open_read_only().unwrap();
        // Whatever is kept in memory is.
        for _ in 0..10 {
            assert_eq!(indexes(&reader).len() as u64, before);
            (1..=before).for_each(|index| assert_eq!(reader.get(index).unwrap().unwrap().key(), b"first"));
        }
        let mut follow = reader.follow(0).unwrap();
        (0..before).for_each(|_| assert!(matches!(follow.try_next(), Ok(Some(LogItem::Entry(_))))));
        let mut old = reader.range(2..);
        assert_eq!(old.next().unwrap().unwrap().index(), 2);
        let mut old_order = reader.log_order();
        store.close().unwrap();
        remove_all(dir.path());
        let store = options().open().unwrap();
        (1..=after).for_each(|index| drop(store.write(index, "other", &format!("other {index}"))));

        // The thread that serves the follower may have been faster.
        let _ = reader.refresh().unwrap();
        assert_same(&reader, &store);
        for _ in 0..10 {
            (1..=after).for_each(|index| assert_eq!(reader.get(index).unwrap().unwrap().key(), b"other"));
        }
        assert!(matches!(follow.try_next(), Ok(Some(LogItem::Truncated { gone, .. })) if gone == (0..=u64::MAX)));
        for index in 1..=after {
            let item = follow.try_next();
            assert!(
                matches!(&item, Ok(Some(LogItem::Entry(e))) if (e.index(), e.key()) == (index, b"other")),
                "{item:?}"
            );
        }
        assert!(matches!(follow.try_next(), Ok(None)));
        let rest: Vec<_> = old.collect();
        assert!(matches!(rest.last(), Some(Err(Error::Truncated | Error::Removed { .. }))), "{:?}", rest.last());
        let end = old_order.by_ref().find_map(Result::err);
        assert!(matches!(end, Some(Error::Truncated | Error::Removed { .. })), "{end:?}");
        // It goes on being followed, over rotations.
        (after + 1..after + 35).for_each(|index| drop(store.write(index, "other", "more")));
        reader.refresh().unwrap();
        assert_same(&reader, &store);
        assert_eq!(std::iter::from_fn(|| follow.try_next().unwrap()).count(), 34);
        store.close().unwrap();
    }
}

fn remove_all(dir: &Path) {
    for entry in std::fs::read_dir(dir).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
}

#[test]
fn a_strict_reader_beside_a_writer_reads_every_byte_and_finds_nothing_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let store = quick(dir.path()).segment_entries(10).open().unwrap();
    write_each(&store, 1..=25);
    let reader = Options::new(dir.path()).recovery(RecoveryMode::Strict).open_read_only().unwrap();
    assert!(reader.recovery_report().scanned_bytes > 0);
    for next in (26..100).step_by(7) {
        write_each(&store, next..next + 7);
        reader.refresh().unwrap();
        assert_same(&reader, &store);
    }
}
