//! The log in the order in which it was written, from a place on and up to one.

use casklog::{Error, LogItem};

use crate::common::*;

fn filled(dir: &tempfile::TempDir) -> casklog::Store {
    let store = inline(dir).segment_entries(5).open().unwrap();
    write_each(&store, 1..=25);
    store
}

fn indexes_of(items: impl Iterator<Item = casklog::Result<LogItem>>) -> Vec<u64> {
    items.map(|item| item.unwrap().index()).collect()
}

#[test]
fn a_reader_up_to_a_segment_shows_nothing_behind_it() {
    // R12
    let dir = dir();
    let store = filled(&dir);
    assert_eq!(store.segments().len(), 5);
    assert_eq!(indexes_of(store.log_order().up_to_segment(3)), (1..=15).collect::<Vec<_>>());
    assert_eq!(indexes_of(store.log_order().up_to_segment(0)), []);
    assert_eq!(indexes_of(store.log_order().up_to_segment(u64::MAX)), (1..=25).collect::<Vec<_>>());
    let from = store.get(9).unwrap().unwrap().position();
    assert_eq!(indexes_of(store.iter_from(from).unwrap().up_to_segment(2)), [9, 10]);
}

#[test]
fn a_reader_that_skips_a_segment_goes_on_with_the_first_of_the_next() {
    // R13
    let dir = dir();
    let store = filled(&dir);
    let mut items = store.log_order();
    let next = |items: &mut casklog::LogOrder| items.next().map(|item| item.unwrap().index());
    items.skip_segment();
    assert_eq!(next(&mut items), Some(6), "before anything was read the first segment is skipped");
    assert_eq!(next(&mut items), Some(7));
    items.skip_segment();
    assert_eq!(next(&mut items), Some(11));
    items.skip_segment();
    items.skip_segment();
    assert_eq!(next(&mut items), Some(21));
    items.skip_segment();
    assert_eq!(next(&mut items), None);
    items.skip_segment();
    assert_eq!(next(&mut items), None);
}

#[test]
fn the_log_order_goes_on_behind_a_damaged_record() {
    // X03, neighbours
    let dir = dir();
    let store = filled(&dir);
    let position = store.get(7).unwrap().unwrap().position();
    let path = store.segments()[1].path.clone();
    store.close().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[position.offset() as usize + 12] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let store = inline(&dir).segment_entries(5).open().unwrap();
    let (mut shown, mut damaged) = (Vec::new(), 0);
    for item in store.log_order() {
        match item {
            Ok(item) => shown.push(item.index()),
            Err(Error::Damaged { .. }) => damaged += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!((shown, damaged), ((1..=25).filter(|index| *index != 7).collect(), 1));
}

#[test]
fn the_deletion_of_what_is_truncated_meanwhile_is_not_passed_over() {
    // G05, neighbours
    for rotates in [false, true] {
        let dir = dir();
        let store = inline(&dir).open().unwrap();
        write_each(&store, 1..=3);
        if rotates {
            store.rotate().unwrap();
            write_each(&store, 4..=4);
        }
        store.delete(2).unwrap();
        let mut items = store.log_order();
        let shown = if rotates { 4 } else { 3 };
        assert_eq!(indexes_of(items.by_ref().take(shown)), (1..=shown as u64).collect::<Vec<_>>());
        store.truncate_after(1).unwrap();
        assert!(matches!(items.next(), Some(Err(Error::Truncated))), "rotates: {rotates}");
        assert!(items.next().is_none());
    }
}

#[test]
fn the_beginning_of_a_log_is_never_gone() {
    // R13, neighbours
    let dir = dir();
    let store = inline(&dir).segment_entries(5).max_segments(2).open().unwrap();
    let first = store.write(1, "key 1", "value 1").unwrap();
    write_each(&store, 2..=24);
    assert!(matches!(store.iter_from(first), Err(Error::Removed { first: Some(16) })));
    assert_eq!(indexes_of(store.iter_from(casklog::Position::default()).unwrap()), (16..=24).collect::<Vec<_>>());
}
