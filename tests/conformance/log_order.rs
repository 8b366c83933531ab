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
