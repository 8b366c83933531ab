//! Entries by key while the log changes under the reader.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use casklog::fs::sim::SimFs;
use casklog::fs::{Access, DirEntry, File, Fs, Lock};
use casklog::{Batch, Error, Options, Store, SyncPolicy};

/// Replaces all entries by two new ones, in one step. The values tell the first from the second.
fn replace(store: &Store, round: u64, pad: &str) {
    let mut batch = Batch::new();
    batch.reset_to(1);
    batch.put(1, "k", &(round * 2, "")).unwrap().put(2, "k", &(round * 2 + 1, pad)).unwrap();
    store.write_batch(&batch).unwrap();
}

/// As [`replace`], but something stays in the segment that they stood in, so that it is not retired.
fn replace_some(store: &Store, round: u64) {
    let other = store.latest("other").unwrap().map_or(0, |entry| entry.index());
    let mut batch = Batch::new();
    batch.truncate_after(other);
    batch.put(other + 1, "other", &()).unwrap();
    batch.put(other + 2, "k", &(round * 2, "")).unwrap().put(other + 3, "k", &(round * 2 + 1, "")).unwrap();
    store.write_batch(&batch).unwrap();
}

/// The value of the latest entry, which is always a second one.
fn latest(store: &Store) -> u64 {
    let entry = store.latest("k").unwrap().expect("there is always one");
    let (value, _): (u64, &str) = entry.value().unwrap();
    assert_eq!(value % 2, 1, "a first one");
    value
}

/// A file system on which something happens when a segment is opened for reading.
#[derive(Debug, Default)]
struct Busy {
    sim: SimFs,
    store: OnceLock<Store>,
    /// How often it is still to happen.
    left: AtomicUsize,
    rounds: AtomicU64,
    /// Whether whole segments go.
    retires: AtomicBool,
    is_inside: AtomicBool,
}

impl Fs for Busy {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        let left = self.left.load(Ordering::Relaxed);
        if access == Access::Read && left != 0 && !self.is_inside.swap(true, Ordering::Relaxed) {
            self.left.store(left - 1, Ordering::Relaxed);
            self.replace();
            self.is_inside.store(false, Ordering::Relaxed);
        }
        self.sim.open(path, access)
    }
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.sim.create_dir_all(dir)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.sim.list(dir)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.sim.rename(from, to)
    }
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.sim.hard_link(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.sim.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.sim.sync_dir(dir)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        self.sim.lock(path)
    }
    fn overwrites_in_place(&self, dir: &Path) -> bool {
        self.sim.overwrites_in_place(dir)
    }
}

impl Busy {
    fn replace(&self) {
        let (store, round) = (self.store.get().unwrap(), self.rounds.fetch_add(1, Ordering::Relaxed));
        if self.retires.load(Ordering::Relaxed) {
            replace(store, round, "")
        } else {
            replace_some(store, round)
        }
        // Sealed, so that whoever looks for them opens a file again.
        store.rotate().unwrap();
    }
}

#[test]
fn latest_looks_again_as_often_as_what_it_found_is_truncated() {
    let fs = Arc::new(Busy::default());
    let options = Options::new("log").fs(fs.clone()).background(false).key_index(true).cache_bytes(0);
    let store = options.max_open_files(1).open().unwrap();
    fs.store.set(store.clone()).unwrap();
    for (round, count) in (1..).zip([0, 1, 2, 3, 7, 0, 1, 2, 3, 7]) {
        fs.retires.store(round > 5, Ordering::Relaxed);
        fs.replace();
        fs.rounds.store(round * 100, Ordering::Relaxed);
        fs.left.store(count, Ordering::Relaxed);
        let value = latest(&store);
        assert_eq!(fs.left.load(Ordering::Relaxed), 0, "it happened {count} times");
        assert!(count == 0 || value == (round * 100 + count as u64 - 1) * 2 + 1, "{value}");
        assert_eq!(store.history("k").unwrap().map(Result::unwrap).count(), 2);
    }
}

/// A truncation and what replaces it are one batch: whoever asks meanwhile gets the old or the new second entry, never a
/// first one, and never nothing.
#[test]
fn a_truncation_that_falls_into_a_search_shows_no_state_that_never_was() {
    let dir = tempfile::tempdir().unwrap();
    let store = Options::new(dir.path()).key_index(true).segment_entries(200).sync(SyncPolicy::None).open().unwrap();
    // Reading it takes about as long as writing it, so that truncations fall into it.
    let pad = "x".repeat(40 << 10);
    replace(&store, 0, &pad);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut last = 0;
                while !is_over.load(Ordering::Relaxed) {
                    let value = latest(&store);
                    assert!(value >= last, "{value} after {last}");
                    last = value;
                    let indexes: Vec<_> = store.history("k").unwrap().map(|item| item.map(|e| e.index())).collect();
                    let is_whole = matches!(indexes[..], [Ok(2), Ok(1)]);
                    assert!(is_whole || matches!(indexes.last(), Some(Err(Error::Truncated | Error::Removed { .. }))));
                }
            });
        }
        (1..1_500).for_each(|round| replace(&store, round, &pad));
        is_over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_batch_shows_in_its_key_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options::new(dir.path()).key_index(true).segment_entries(2000).sync(SyncPolicy::None);
    let store = options.open().unwrap();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let latest = store.latest("k").unwrap().map(|entry| entry.index());
                    assert!(latest.is_none_or(|index| index % 500 == 0), "{latest:?}");
                    let first = store.history("k").unwrap().next().map(|item| item.unwrap().index());
                    assert!(first >= latest && first.is_none_or(|index| index % 500 == 0), "{first:?}");
                }
            });
        }
        for round in 0..100u64 {
            let mut batch = Batch::new();
            for index in round * 500 + 1..=round * 500 + 500 {
                batch.put(index, "k", &index).unwrap();
            }
            store.write_batch(&batch).unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn readers_by_key_see_every_published_entry_while_segments_are_sealed_and_retired() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options::new(dir.path()).key_index(true).segment_entries(100).max_segments(20);
    let store = options.sync(SyncPolicy::None).open().unwrap();
    let written = AtomicU64::new(0);
    let last = 6_000;
    store.write(0, "odd 0", &0).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                loop {
                    let before = written.load(Ordering::Acquire);
                    let entry = store.latest(format!("key {}", before % 7)).unwrap();
                    let index = entry.map_or(0, |entry| entry.index());
                    assert!(index >= before && index % 7 == before % 7 || before == 0, "{index} after {before}");
                    if before == last {
                        break;
                    }
                    let items = store.history(format!("key {}", before % 7)).unwrap().take(300);
                    let items: Vec<_> = items.map(|item| item.map(|entry| entry.index())).collect();
                    let good = items.iter().map_while(|item| item.as_ref().ok()).copied();
                    assert!(good.clone().zip(good.skip(1)).all(|(later, earlier)| later == earlier + 7), "{items:?}");
                    let fails = items.iter().filter(|item| item.is_err());
                    assert!(
                        fails.clone().count() <= 1
                            && items.iter().all(|item| { matches!(item, Ok(_) | Err(Error::Removed { .. })) }),
                        "{items:?}"
                    );
                }
            });
        }
        for index in 1..=last {
            store.write(index, format!("key {}", index % 7), &index).unwrap();
            written.store(index, Ordering::Release);
        }
    });
}
