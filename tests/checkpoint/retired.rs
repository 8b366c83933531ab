//! Segments that retention takes while they are being copied.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use casklog::fs::sim::SimFs;
use casklog::fs::{Access, DirEntry, File, Fs, Lock};
use casklog::{Error, Reader, Store};

use crate::common::*;

/// What happens before the next link is made, as long as it says so.
type Meddler = Box<dyn FnMut() -> bool + Send>;

/// A file system on which something happens right before a link is made.
#[derive(Clone)]
struct Meddling {
    sim: SimFs,
    meddler: Arc<Mutex<Option<Meddler>>>,
}

impl fmt::Debug for Meddling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Meddling")
    }
}

impl Fs for Meddling {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.sim.create_dir_all(dir)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.sim.list(dir)
    }
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        self.sim.open(path, access)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.sim.rename(from, to)
    }
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut meddler = self.meddler.lock().unwrap();
        if meddler.as_mut().is_some_and(|meddle| !meddle()) {
            *meddler = None;
        }
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

/// Writes so much that retention takes every segment that there was.
fn turn_over(store: &Store) {
    let next = store.next_index().unwrap();
    write_each(store, next..next + 60);
    store.idle().unwrap();
}

/// A log that keeps few segments, its copy of an earlier time, and a reader of it as a store or from elsewhere.
fn begun(is_foreign: bool) -> (SimFs, Meddling, Store, Reader) {
    let sim = SimFs::new();
    let meddling = Meddling { sim: sim.clone(), meddler: Arc::default() };
    let options = || log(&sim).max_segments(6).fs(Arc::new(meddling.clone()));
    let store = options().open().unwrap();
    write_each(&store, 1..=60);
    store.idle().unwrap();
    let reader = if is_foreign { options().open_read_only().unwrap() } else { Reader::clone(&store) };
    reader.checkpoint(COPY).unwrap();
    turn_over(&store);
    (sim, meddling, store, reader)
}

#[test]
fn a_copy_whose_segments_go_is_begun_anew() {
    for is_foreign in [false, true] {
        let (sim, meddling, store, reader) = begun(is_foreign);
        let (meddler, mut left) = (store.clone(), 3);
        *meddling.meddler.lock().unwrap() = Some(Box::new(move || {
            turn_over(&meddler);
            left -= 1;
            left > 0
        }));
        let made = reader.checkpoint(COPY).unwrap();
        assert!(meddling.meddler.lock().unwrap().is_none() && made.linked > 0 && made.kept == 0, "{made:?}");
        assert_eq!(opens_clean(&sim).entries, shown(&store).entries);
        assert_eq!(store.last_index(), Some(60 + 4 * 60));
    }
}

/// Where they always go before they are copied, that is told, and the copy that is there stays.
#[test]
fn a_copy_whose_segments_always_go_is_given_up() {
    for is_foreign in [false, true] {
        let (sim, meddling, store, reader) = begun(is_foreign);
        let before = files(&sim, COPY);
        let meddler = store.clone();
        *meddling.meddler.lock().unwrap() = Some(Box::new(move || {
            turn_over(&meddler);
            true
        }));
        for dir in [COPY, "new"] {
            let outcome = reader.checkpoint(dir);
            assert!(matches!(outcome, Err(Error::Removed { first: Some(_) })), "{outcome:?}");
        }
        assert_eq!((files(&sim, COPY), files(&sim, "new").len()), (before, 0));
        *meddling.meddler.lock().unwrap() = None;
        reader.checkpoint(COPY).unwrap();
        assert_eq!(opens_clean(&sim).entries, shown(&store).entries);
    }
}
