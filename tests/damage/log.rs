//! A store of four segments and two hundred records, and the one place that says what a damaged copy may show.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use casklog::fs::sim::{Fate, SimFs};
use casklog::{Error, Options, Position, Reader, RecoveryMode, Verified};

use crate::figures::Figure;
use crate::numbers::Numbers;

pub(crate) struct Entry {
    key: Vec<u8>,
    value: Vec<u8>,
    pub(crate) position: Position,
    /// The offset behind its record; a little less where that is not short.
    pub(crate) end: u64,
}

/// The bytes of a record, all in one fragment: header, array, index, key, value.
fn record_bytes(index: u64, key: &[u8], value: &[u8]) -> u64 {
    11 + 1 + if index < 128 { 1 } else { 2 } + 2 + key.len() as u64 + 2 + value.len() as u64
}

pub(crate) struct Log {
    pub(crate) words: &'static str,
    pub(crate) fs: SimFs,
    /// As it was when half of it was written.
    pub(crate) before: SimFs,
    pub(crate) entries: BTreeMap<u64, Entry>,
    /// Indexes whose entry was deleted.
    deleted: Vec<u64>,
    /// Where the records of each segment end, and whether it is sealed.
    pub(crate) ends: BTreeMap<PathBuf, (u64, bool)>,
}

pub(crate) fn options(fs: &SimFs) -> Options {
    let options = Options::new("/log").fs(Arc::new(fs.clone())).background(false).mapped(false).preallocate(false);
    options.segment_entries(50)
}

/// What a running system sees, on a file system of its own.
pub(crate) fn copy(fs: &SimFs) -> SimFs {
    fs.crash_at(fs.ops(), &mut |_| Fate::Kept)
}

/// About 32 KiB, closed, or killed a while after the last write.
pub(crate) fn log(is_clean: bool) -> Log {
    log_with(is_clean, &|numbers| 90 + numbers.below(80) as usize)
}

/// The same with values of other lengths.
pub(crate) fn log_with(is_clean: bool, length: &dyn Fn(&mut Numbers) -> usize) -> Log {
    let (fs, mut numbers) = (SimFs::new(), Numbers(5));
    let store = options(&fs).open().unwrap();
    let (mut entries, mut before) = (BTreeMap::new(), SimFs::new());
    for number in 0..196_u64 {
        let length = length(&mut numbers);
        let (key, value) = (format!("key {}", number % 20).into_bytes(), numbers.bytes(length));
        let written = store.append_bytes(&key, &value).unwrap();
        let end = written.position.offset() + record_bytes(written.index, &key, &value);
        entries.insert(written.index, Entry { key, value, position: written.position, end });
        match number {
            60 => store.put_meta("vote", "n1").unwrap(),
            70 => drop(store.delete(20).unwrap()),
            100 => before = copy(&fs),
            150 => drop(store.delete(140).unwrap()),
            _ => {}
        }
    }
    let deleted = vec![20, 140];
    entries.retain(|index, _| !deleted.contains(index));
    store.idle().unwrap();
    let infos = store.segments();
    let ends = infos.iter().map(|info| (info.path.clone(), (info.bytes, info.is_sealed))).collect();
    let fs = if is_clean {
        store.close().unwrap();
        copy(&fs)
    } else {
        copy(&fs.killed())
    };
    Log { words: if is_clean { "closed" } else { "killed" }, fs, before, entries, deleted, ends }
}

/// What a damaged copy showed.
pub(crate) struct Seen {
    pub(crate) strict: Option<Error>,
    /// Entries that cannot be had; all are reported.
    pub(crate) lost: Vec<u64>,
    /// None where the log does not open at all.
    pub(crate) verified: Option<Verified>,
}

/// What damage is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    Damage,
    TornTail,
    /// Damage to a footer, that takes nothing away.
    Footer,
    Nothing,
}

impl Seen {
    pub(crate) fn told(&self) -> Told {
        match (&self.strict, &self.verified) {
            (Some(Error::TornTail { .. }), _) => Told::TornTail,
            (None, Some(verified)) if verified.is_damaged() => Told::Damage,
            (None, Some(verified)) if !verified.footers_damaged.is_empty() => Told::Footer,
            (None, Some(_)) => Told::Nothing,
            _ => Told::Damage,
        }
    }

    /// Whether open and `verify` report damage that covers this byte.
    pub(crate) fn is_reported_at(&self, path: &Path, at: u64) -> bool {
        let by_open = match &self.strict {
            Some(Error::Damaged { path: named, at: from, .. }) => named == path && *from <= at,
            _ => false,
        };
        let covers = |damage: &casklog::Damage| {
            damage.path == path && damage.bytes.0 <= at && at < damage.bytes.1.max(damage.bytes.0 + 1)
        };
        by_open && self.verified.as_ref().is_none_or(|verified| verified.damage.iter().any(covers))
    }
}

fn is_loss(error: &Error) -> bool {
    matches!(error, Error::Damaged { .. } | Error::Missing { .. } | Error::Lost { .. } | Error::Unsupported { .. })
}

impl Log {
    pub(crate) fn changed(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> SimFs {
        let fs = copy(&self.fs);
        let mut bytes = fs.read_file(path).unwrap();
        change(&mut bytes);
        fs.write_file(path, &bytes);
        fs
    }

    pub(crate) fn segments(&self) -> Vec<PathBuf> {
        self.ends.keys().cloned().collect()
    }

    /// Whether a fault in these bytes takes the last watermark of a killed store with it: then nothing is left that
    /// says what had been acknowledged behind the watermark before.
    pub(crate) fn is_undecidable(&self, path: &Path, to: usize) -> bool {
        let last = self.ends.last_key_value();
        self.words == "killed" && last.is_some_and(|(last, (end, _))| last == path && to as u64 > end - 22)
    }

    /// Opens a copy in every way that matters and reads all of it. Panics where an entry is wrong, or gone without a
    /// report, unless that cannot be known: then the log may end early.
    pub(crate) fn examine(&self, fs: &SimFs, undecidable: bool, words: &dyn Fn() -> String) -> Seen {
        let strict = match options(&copy(fs)).recovery(RecoveryMode::Strict).open() {
            Ok(store) => {
                let (lost, came_back, _) = self.read(&store, undecidable, words);
                let is_whole = lost.is_empty() && !came_back;
                assert!(is_whole || undecidable, "{}, {}: strict does not see {lost:?}", self.words, words());
                None
            }
            Err(error) => {
                let is_typed = is_loss(&error) || matches!(error, Error::TornTail { .. });
                assert!(is_typed, "{}, {}: strict: {error:?}", self.words, words());
                Some(error)
            }
        };
        let reader = match options(fs).open_read_only() {
            Ok(reader) => reader,
            Err(error) => {
                assert!(is_loss(&error) && strict.is_some(), "{}, {}: {error:?}", self.words, words());
                return Seen { strict, lost: self.entries.keys().copied().collect(), verified: None };
            }
        };
        let (lost, came_back, verified) = self.read(&reader, undecidable, words);
        let is_seen = lost.is_empty() && !came_back || strict.is_some() || undecidable;
        assert!(is_seen, "{}, {}: strict opens though {lost:?} are gone", self.words, words());
        Seen { strict, lost, verified: Some(verified) }
    }

    /// Whether these are all entries behind a place.
    fn is_end(&self, lost: &[u64]) -> bool {
        self.entries.range(lost.first().copied().unwrap_or(u64::MAX)..).count() == lost.len()
    }

    /// The entries that cannot be had, and whether deletions were lost. `get`, `iter` and `verify` must agree.
    fn read(&self, log: &Reader, undecidable: bool, words: &dyn Fn() -> String) -> (Vec<u64>, bool, Verified) {
        let verified = log.verify().unwrap();
        let is_reported = undecidable || log.recovery_report().is_damaged() || verified.is_damaged();
        let (mut lost, mut iterated, mut failed) = (Vec::new(), Vec::new(), false);
        for (index, entry) in &self.entries {
            match log.get(*index) {
                Ok(Some(found)) => {
                    let same = found.key() == entry.key && found.bytes().is_ok_and(|bytes| bytes == entry.value);
                    let same = same && found.position() == entry.position;
                    assert!(same, "{}, {}: get({index}) is wrong", self.words, words());
                }
                Ok(None) => {
                    assert!(undecidable, "{}, {}: {index} is silently gone", self.words, words());
                    lost.push(*index);
                }
                Err(error) => {
                    assert!(is_loss(&error), "{}, {}: get({index}): {error:?}", self.words, words());
                    lost.push(*index);
                }
            }
        }
        for entry in log.iter() {
            match entry {
                Ok(found) => {
                    let index = found.index();
                    let is_same = |entry: &Entry| entry.key == found.key() && entry.value == found.bytes().unwrap();
                    let same = self.entries.get(&index).is_some_and(is_same);
                    assert!(same || self.deleted.contains(&index), "{}, {}: iter shows {index}", self.words, words());
                    iterated.push(index);
                }
                Err(error) => {
                    assert!(is_loss(&error), "{}, {}: iter: {error:?}", self.words, words());
                    failed = true;
                }
            }
        }
        let came_back = iterated.iter().any(|index| self.deleted.contains(index));
        let (mut by_time, mut has_told) = (Vec::new(), false);
        for item in log.log_order() {
            match item {
                Ok(item) => by_time.push(item.index()),
                Err(error) => {
                    assert!(is_loss(&error), "{}, {}: log_order: {error:?}", self.words, words());
                    has_told = true;
                }
            }
        }
        // Where the beginning is lost, it counts as removed for who asks for it.
        let mut followed = Vec::new();
        let (mut follow, first) = match log.follow(1) {
            Err(Error::Removed { first: Some(first) }) => (log.follow(first).unwrap(), first),
            follow => (follow.unwrap(), 0),
        };
        let mut is_followed = first > 0;
        loop {
            match follow.try_next() {
                Ok(Some(item)) => followed.push(item.index()),
                Ok(None) => break,
                Err(error) => {
                    assert!(is_loss(&error), "{}, {}: follow: {error:?}", self.words, words());
                    is_followed = true;
                }
            }
        }
        // Its thread is to end beside what follows.
        drop(follow);
        by_time.sort_unstable();
        followed.sort_unstable();
        let has = |indexes: &[u64], index: &u64| indexes.binary_search(index).is_ok();
        let expected = self.entries.keys().filter(|index| !lost.contains(index));
        let missed = expected.clone().find(|index| !has(&by_time, index));
        assert!(missed.is_none(), "{}, {}: log_order misses {missed:?}", self.words, words());
        let missed = expected.clone().find(|index| **index >= first && !has(&followed, index));
        assert!(missed.is_none(), "{}, {}: follow misses {missed:?}", self.words, words());
        let shown = iterated.iter().filter(|index| !self.deleted.contains(index));
        let (expected, shown): (Vec<_>, Vec<_>) = (expected.collect(), shown.collect());
        assert!(expected == shown, "{}, {}: get has {expected:?}, iter {shown:?}", self.words, words());
        let is_bad = !lost.is_empty() || came_back;
        assert!(!is_bad || is_reported, "{}, {}: {lost:?} are not reported", self.words, words());
        let may_end = undecidable && self.is_end(&lost);
        assert!(may_end || !is_bad || verified.is_damaged(), "{}, {}: verify finds nothing", self.words, words());
        assert!(may_end || lost.is_empty() || failed, "{}, {}: iter passes over {lost:?}", self.words, words());
        assert!(may_end || lost.is_empty() || has_told, "{}, {}: log_order passes over {lost:?}", self.words, words());
        assert!(may_end || lost.is_empty() || is_followed, "{}, {}: follow passes over {lost:?}", self.words, words());
        (lost, came_back, verified)
    }
}

/// Whether nothing is left out.
pub(crate) fn takes_all() -> bool {
    std::env::var_os("CASKLOG_DAMAGE_ALL").is_some()
}

/// Runs the cases of a sample, or all of them; says how many damaged logs that made, which is what each case returns.
/// There are more threads than processors, because who opens a damaged log beside a writer looks again after a pause.
pub(crate) fn each(row: &str, name: &str, count: usize, sample: usize, case: impl Fn(usize) -> u64 + Sync) {
    let step = if takes_all() { 1 } else { sample };
    let started = std::time::Instant::now();
    let threads = 4 * std::thread::available_parallelism().map_or(2, usize::from);
    let next = AtomicUsize::new(0);
    let run = || {
        let cases = std::iter::from_fn(|| Some(step * next.fetch_add(1, Ordering::Relaxed)));
        cases.take_while(|number| *number < count).map(&case).sum::<u64>()
    };
    let tried: u64 = std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        all.into_iter().map(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).sum()
    });
    let seconds = started.elapsed().as_secs_f64();
    println!("{row} {name}: {tried} damaged logs, one case in {step}, {seconds:.1} s");
    let what = name.split(", ").next().unwrap();
    Figure { row, what, counted: "damaged logs", count: tried, seconds, ..Figure::default() }.record();
}
