//! Which bytes a scan reads of a sealed segment: each about once, few at first, more at once the longer it goes on.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use casklog::fs::sim::SimFs;
use casklog::fs::{Access, DirEntry, File, Fs, Lock, Placement, Region};
use casklog::{IndexOrder, Options, Store, SyncPolicy};
use parking_lot::Mutex;

/// Of one read, where it begins and how long it is.
type Read = (u64, usize);

/// Writes down what is read.
#[derive(Debug, Clone, Default)]
struct Traced {
    sim: SimFs,
    reads: Arc<Mutex<Vec<Read>>>,
}

#[derive(Debug)]
struct TracedFile {
    file: Arc<dyn File>,
    reads: Arc<Mutex<Vec<Read>>>,
}

impl Fs for Traced {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.sim.create_dir_all(dir)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.sim.list(dir)
    }
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(TracedFile { file: self.sim.open(path, access)?, reads: self.reads.clone() }))
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

impl File for TracedFile {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        self.reads.lock().push((at, buf.len()));
        self.file.read_at(buf, at)
    }
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.file.write_at(bytes, at)
    }
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }
    fn set_size(&self, size: u64) -> io::Result<()> {
        self.file.set_size(size)
    }
    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
    fn drop_cache(&self, from: u64) {
        self.file.drop_cache(from);
    }
    fn region(self: Arc<Self>, placement: Placement, capacity: u64) -> io::Result<Arc<dyn Region>> {
        self.file.clone().region(placement, capacity)
    }
    fn map(self: Arc<Self>) -> io::Result<Bytes> {
        self.file.clone().map()
    }
}

/// A closed log with one sealed segment of so many entries, opened again without a cache.
struct Sealed {
    store: Store,
    reads: Arc<Mutex<Vec<Read>>>,
    bytes: u64,
}

impl Sealed {
    fn new(count: u64, length: usize, order: impl Fn(u64) -> u64) -> Self {
        let traced = Traced::default();
        let options = || {
            let options = Options::new("/log").fs(Arc::new(traced.clone())).background(false).cache_bytes(0);
            options.sync(SyncPolicy::None).index_order(IndexOrder::Any)
        };
        let store = options().open().unwrap();
        for place in 0..count {
            store.write_bytes(order(place), "k", vec![7; length]).unwrap();
        }
        store.rotate().unwrap();
        store.close().unwrap();
        let store = options().open().unwrap();
        let bytes = store.segments()[0].bytes;
        // What a scan needs to know of its segment is read once.
        assert_eq!(store.iter().count() as u64, count);
        Sealed { store, reads: traced.reads, bytes }
    }

    /// What `scan` reads, which comes to so many entries.
    fn reads(&self, entries: usize, scan: impl FnOnce(&Store) -> usize) -> Vec<Read> {
        self.reads.lock().clear();
        assert_eq!(scan(&self.store), entries);
        std::mem::take(&mut self.reads.lock())
    }
}

/// Those of entries, not those of the footer.
fn pieces(reads: &[Read], bytes: u64) -> Vec<Read> {
    reads.iter().copied().filter(|(at, _)| *at < bytes).collect()
}

/// Four times as much at once as before, from a page up to what fits the second-level cache of a processor.
const GROWING: [usize; 4] = [4 << 10, 16 << 10, 64 << 10, 256 << 10];

/// What the piece at this place is long, but for the last one.
fn growing(place: usize) -> usize {
    GROWING[place.min(GROWING.len() - 1)]
}

/// The pieces follow each other upwards, overlap by less than a record, and grow.
fn check_pieces(pieces: &[Read], record: u64) {
    let last = pieces.len() - 1;
    for (place, (at, len)) in pieces.iter().enumerate() {
        assert_eq!(*len, growing(place).min(if place < last { usize::MAX } else { *len }), "{pieces:?}");
        if let Some((next, _)) = pieces.get(place + 1) {
            let end = at + *len as u64;
            assert!(*next <= end && end - next < record, "{pieces:?}");
        }
    }
}

#[test]
fn a_scan_upwards_reads_pieces_that_follow_each_other_and_grow() {
    for (count, length, record) in [(20_000, 100, 130), (700, 3_000, 3_050)] {
        let sealed = Sealed::new(count, length, |place| place);
        let up = sealed.reads(count as usize, |store| store.iter().map(Result::unwrap).count());
        let up = pieces(&up, sealed.bytes);
        check_pieces(&up, record);
        let (at, len) = *up.last().unwrap();
        assert_eq!(at + len as u64, sealed.bytes, "it ends where the entries end");
        assert!(up[0].0 < record, "and begins with the first one");
    }
}

#[test]
fn a_scan_downwards_reads_pieces_that_end_where_the_one_before_began() {
    for (count, length, record) in [(20_000, 100, 130), (700, 3_000, 3_050)] {
        let sealed = Sealed::new(count, length, |place| place);
        let down = sealed.reads(count as usize, |store| store.iter().rev().map(Result::unwrap).count());
        let mut down = pieces(&down, sealed.bytes);
        // The first read is made for the last entry, of which nobody knows how long it is.
        let long = down.iter().position(|(_, len)| *len == GROWING[1]).unwrap();
        assert!(down[..long].iter().all(|(_, len)| *len <= GROWING[0]), "{down:?}");
        assert!(down[..long].len() <= 2, "{down:?}");
        assert!(down[0].0 + (down[0].1 as u64) > sealed.bytes - record, "{down:?}");
        assert_eq!(down.last().unwrap().0, 0, "{down:?}");
        down.drain(..long);
        let last = down.len() - 1;
        for (place, (at, len)) in down.iter().enumerate() {
            assert_eq!(*len, growing(place + 1).min(if place < last { usize::MAX } else { *len }), "{down:?}");
            if let Some((before, len)) = down.get(place + 1) {
                let end = before + *len as u64;
                assert!(end >= *at && end - at < record, "{down:?}");
            }
        }
    }
}

/// Whole blocks, the footer with them.
#[test]
fn a_scan_in_log_order_reads_each_byte_about_once() {
    let sealed = Sealed::new(20_000, 100, |place| place);
    let log = sealed.reads(20_000, |store| store.log_order().map(Result::unwrap).count());
    let log = pieces(&log, sealed.bytes);
    let read: usize = log.iter().map(|(_, len)| len).sum();
    assert!(read as u64 <= sealed.bytes + (128 << 10), "{log:?}");
    assert!(log.len() as u64 <= 4 + sealed.bytes / (256 << 10), "{log:?}");
}

#[test]
fn a_short_scan_reads_one_page_and_a_single_entry_only_itself() {
    let sealed = Sealed::new(20_000, 100, |place| place);
    let up = sealed.reads(3, |store| store.range(500..).take(3).map(Result::unwrap).count());
    let down = sealed.reads(3, |store| store.range(..500).rev().take(3).map(Result::unwrap).count());
    let one = sealed.reads(1, |store| store.get(500).unwrap().iter().count());
    let [up, down, one] = [up, down, one].map(|reads| pieces(&reads, sealed.bytes));
    assert_eq!((up.len(), up[0].1), (1, GROWING[0]), "{up:?}");
    assert_eq!((down.len(), down[0].1), (1, GROWING[0]), "{down:?}");
    assert_eq!(one, [(up[0].0, 120)]);
    assert!(down[0].0 + (GROWING[0] as u64) <= up[0].0, "nothing at or behind the end of the range is read");
}

/// Entries that are longer than a page are read whole at once, by their length in the index, and no more than the window
/// holds beside them.
#[test]
fn long_entries_are_read_at_once() {
    let sealed = Sealed::new(24, 90_000, |place| place);
    let up = sealed.reads(24, |store| store.iter().map(Result::unwrap).count());
    let down = sealed.reads(24, |store| store.iter().rev().map(Result::unwrap).count());
    let [up, down] = [up, down].map(|reads| pieces(&reads, sealed.bytes));
    assert_eq!(up[..3].iter().map(|(_, len)| len / 10).collect::<Vec<_>>(), [9_004, 9_005, 9_005], "{up:?}");
    assert!(up[3..up.len() - 1].iter().all(|(_, len)| *len == GROWING[3]), "{up:?}");
    assert_eq!(up.len(), 14, "two of them fit: {up:?}");
    // Behind the last one: a page, what a fragment says of itself, all of it.
    assert_eq!(down.len(), 2 + 24, "{down:?}");
    assert!(down[2..].iter().all(|(_, len)| (90_000..90_100).contains(len)), "{down:?}");
}

/// Every second entry in one half of the file, the others in the other: each jump reads a page, and not a window.
#[test]
fn a_scan_that_jumps_reads_pages() {
    let halves = |place| if place < 350 { place * 2 } else { (place - 350) * 2 + 1 };
    let sealed = Sealed::new(700, 3_000, halves);
    for backwards in [false, true] {
        let reads = sealed.reads(700, |store| match backwards {
            false => store.iter().map(Result::unwrap).count(),
            true => store.iter().rev().map(Result::unwrap).count(),
        });
        let reads = pieces(&reads, sealed.bytes);
        let long = reads.iter().filter(|(_, len)| *len > GROWING[0]).count();
        // Some end in the next block, and do not say how far.
        assert!(long <= 40, "{long} of {} reads are long", reads.len());
        assert!(reads.len() <= 1_100, "{} reads", reads.len());
    }
}
