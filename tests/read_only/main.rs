//! A log opened for reading only: beside a writer, of a log that nobody writes, of a damaged one.

mod common;
mod mirror;

use casklog::{Error, Options, Store};

#[test]
fn a_reader_sees_what_was_written_when_it_was_opened_and_after_each_refresh() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Options::new(dir.path()).open_read_only(), Err(Error::NotFound { .. })));
    let store = Options::new(dir.path()).segment_entries(7).open().unwrap();
    for index in 1..=20 {
        store.write(index, "k", &index).unwrap();
    }
    let reader = Options::new(dir.path()).open_read_only().unwrap();
    assert_eq!(reader.len(), 20);
    assert_eq!(reader.iter().map(|e| e.unwrap().index()).collect::<Vec<_>>(), (1..=20).collect::<Vec<_>>());
    for index in 21..=50 {
        store.write(index, "k", &index).unwrap();
    }
    store.delete(22).unwrap();
    store.truncate_after(48).unwrap();
    assert_eq!(reader.len(), 20);
    assert!(reader.refresh().unwrap());
    assert_eq!(reader.len(), 47);
    assert_eq!(reader.get(22).unwrap().map(|e| e.index()), None);
    assert_eq!(reader.iter().count(), 47);
    assert_eq!(reader.log_order().count(), 49);
    assert!(!reader.refresh().unwrap());
    store.close().unwrap();
    let _ = reader.refresh().unwrap();
    assert_eq!(reader.next_index(), Some(49));
    let store: Store = Options::new(dir.path()).segment_entries(7).max_segments(2).open().unwrap();
    for index in 49..=80 {
        store.write(index, "k", &index).unwrap();
    }
    assert!(reader.refresh().unwrap());
    assert_eq!(reader.last_index(), Some(80));
    store.close().unwrap();
    reader.refresh().unwrap();
    assert_eq!(reader.first_index(), store.first_index());
    assert_eq!(
        reader.iter().map(|e| e.unwrap().index()).collect::<Vec<_>>(),
        (store.first_index().unwrap()..=80).collect::<Vec<_>>()
    );
}
