//! A log of entries that all look alike: writing it, and looking at it.

#![allow(dead_code, reason = "each test uses some of it")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use casklog::fs::sim::SimFs;
use casklog::{Options, Reader, Store};

/// A log on a simulated disk, in one thread.
pub(crate) fn sim(fs: &SimFs) -> Options {
    Options::new("log").fs(Arc::new(fs.clone())).background(false)
}

/// The path of segment `number` in the simulated log.
pub(crate) fn sim_segment(number: u64) -> PathBuf {
    PathBuf::from(format!("log/segment_{number:020}.log"))
}

pub(crate) fn write_each(store: &Store, indexes: impl IntoIterator<Item = u64>) {
    for index in indexes {
        store.write(index, format!("key {index}"), &format!("value {index}")).unwrap();
    }
}

pub(crate) fn assert_entry(reader: &Reader, index: u64) {
    let entry = reader.get(index).unwrap().unwrap_or_else(|| panic!("entry {index} is missing"));
    assert_eq!(entry.index(), index);
    assert_eq!(entry.key(), format!("key {index}").as_bytes());
    assert_eq!(entry.value::<String>().unwrap(), format!("value {index}"));
}

/// The indexes of all live entries; no error may come.
pub(crate) fn indexes(reader: &Reader) -> Vec<u64> {
    reader.iter().map(|entry| entry.unwrap().index()).collect()
}

/// Waits for background work; fails when it does not come to pass.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "{what} did not come to pass");
        std::thread::sleep(Duration::from_millis(1));
    }
}
