//! A writer that lost its end in a crash, and a successor that wrote something else at the same place, under a reader
//! that had read what is gone.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use casklog::fs::sim::{Fate, SimFs};
use casklog::fs::{Access, DirEntry, File, Fs, Lock, Placement, Region};
use casklog::{Error, Options, Store};
use parking_lot::Mutex;

use crate::common::{Seen, all, inline, puts, take, there, write};

/// A file system whose contents are exchanged under its readers, as a power cut exchanges them under a machine that
/// reads them over a network. Open files show the new contents, unless their names are gone.
#[derive(Debug, Clone)]
struct Swap(Arc<Mutex<(u64, SimFs)>>);

impl Swap {
    fn new(sim: &SimFs) -> Self {
        Swap(Arc::new(Mutex::new((0, sim.clone()))))
    }

    fn set(&self, sim: &SimFs) {
        let mut now = self.0.lock();
        *now = (now.0 + 1, sim.clone());
    }

    fn now(&self) -> SimFs {
        self.0.lock().1.clone()
    }
}

impl Fs for Swap {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.now().create_dir_all(dir)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.now().list(dir)
    }
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        let (version, sim) = self.0.lock().clone();
        let file = sim.open(path, access)?;
        Ok(Arc::new(SwapFile { fs: self.clone(), path: path.to_owned(), now: Mutex::new((version, file)) }))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.now().rename(from, to)
    }
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.now().hard_link(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.now().remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.now().sync_dir(dir)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        self.now().lock(path)
    }
    fn overwrites_in_place(&self, dir: &Path) -> bool {
        self.now().overwrites_in_place(dir)
    }
}

#[derive(Debug)]
struct SwapFile {
    fs: Swap,
    path: PathBuf,
    now: Mutex<(u64, Arc<dyn File>)>,
}

impl SwapFile {
    fn now(&self) -> Arc<dyn File> {
        let (version, sim) = self.fs.0.lock().clone();
        let mut now = self.now.lock();
        if now.0 != version {
            now.0 = version;
            if let Ok(file) = sim.open(&self.path, Access::Read) {
                now.1 = file;
            }
        }
        now.1.clone()
    }
}

impl File for SwapFile {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        self.now().read_at(buf, at)
    }
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.now().write_at(bytes, at)
    }
    fn size(&self) -> io::Result<u64> {
        self.now().size()
    }
    fn set_size(&self, size: u64) -> io::Result<()> {
        self.now().set_size(size)
    }
    fn sync(&self) -> io::Result<()> {
        self.now().sync()
    }
    fn drop_cache(&self) {}
    fn region(self: Arc<Self>, placement: Placement, capacity: u64) -> io::Result<Arc<dyn Region>> {
        self.now().region(placement, capacity)
    }
    fn map(self: Arc<Self>) -> io::Result<Bytes> {
        self.now().map()
    }
}

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
