//! The logs that are hurt, and what must be left of any of their files whatever is done.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use casklog::fs::sim::SimFs;

use crate::figures::number;
use crate::support::crash::guarded;
use crate::support::damage::{Log, copy};
use crate::support::model::{Change, Model};
use crate::support::runner::{Act, GROUPED, Runner, Setup};

pub(crate) const DIR: &str = "/db";

pub(crate) fn segment(number: u64) -> PathBuf {
    Path::new(DIR).join(format!("segment_{number:020}.log"))
}

pub(crate) fn file(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

/// A log, an older copy of it, and another log that looks the same.
pub(crate) struct Logs {
    pub(crate) kind: Kind,
    pub(crate) words: &'static str,
    pub(crate) log: Log,
    /// The number of the segment in which it ends.
    pub(crate) last: u64,
    pub(crate) older: SimFs,
    pub(crate) other: SimFs,
    /// The records of every segment of the three.
    records: Vec<Vec<u8>>,
}

fn setup() -> Setup {
    let mut setup = Setup::new(GROUPED);
    (setup.segment_entries, setup.segment_bytes) = (Some(3), 1 << 13);
    setup
}

/// How a log came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Closed,
    Killed,
    /// Killed before the manifest said anything of the last segment.
    Young,
}

impl Kind {
    pub(crate) const ALL: [Kind; 3] = [Kind::Closed, Kind::Killed, Kind::Young];
}

/// Four segments, three of a young log. The third one truncates the second and deletes an entry of the first.
fn run(kind: Kind, salt: u64) -> (Log, SimFs) {
    let mut runner = Runner::create(&setup(), salt);
    let before = [Act::Append(40), Act::Append(700), Act::Append(0), Act::Append(30)];
    runner.run(&before).unwrap();
    runner.run(&[Act::Meta(2, 10), Act::Append(50), Act::Append(60)]).unwrap();
    let former = runner.model.items.clone();
    runner.run(&[Act::Rotate, Act::Truncate(Change::After(5)), Act::Append(20), Act::Append(30)]).unwrap();
    let older = copy(&runner.fs);
    runner.run(&[Act::Delete(2), Act::Idle]).unwrap();
    if kind != Kind::Young {
        runner.run(&[Act::Append(300), Act::Append(40), Act::Append(50), Act::Idle]).unwrap();
    }
    // The end of the other log lies behind that of this one.
    if salt == OTHER {
        runner.run(&[Act::Append(500), Act::Idle]).unwrap();
    }
    if kind == Kind::Closed {
        runner.store.close().unwrap();
    }
    let former = former.into_iter().filter(|(index, item)| runner.model.items[index].value != item.value).collect();
    let fs = copy(&runner.fs.killed());
    (Log { fs, setup: setup(), model: runner.model, former }, older)
}

const OTHER: u64 = 2;

impl Logs {
    pub(crate) fn new(kind: Kind) -> Self {
        let ((log, older), (other, _)) = (run(kind, 1), run(kind, OTHER));
        let other = other.fs;
        let mut records = Vec::new();
        for fs in [&log.fs, &older, &other] {
            let store = setup().options(&copy(fs)).open_read_only().unwrap();
            let infos = store.segments();
            let part = |info: &casklog::SegmentInfo| fs.read_file(&info.path).unwrap()[..info.bytes as usize].to_vec();
            records.extend(infos.iter().map(part));
        }
        let words = ["closed", "killed", "young"][kind as usize];
        let last = model_last(&log.model);
        Logs { kind, words, log, last, older, other, records }
    }

    /// The names of all files.
    pub(crate) fn names(&self) -> Vec<PathBuf> {
        self.log.fs.list_all().into_iter().map(|path| Path::new("/").join(path)).collect()
    }

    /// Where the records of a segment end.
    pub(crate) fn end(&self, number: u64) -> u64 {
        self.records[number as usize - 1].len() as u64
    }

    /// Panics where the records of a segment were in some file before, and are in none now; and where a file with a
    /// foreign name has changed.
    pub(crate) fn lose_nothing(&self, before: &SimFs, after: &SimFs, words: &str) {
        let is_in = |fs: &SimFs, records: &[u8]| {
            fs.list_all().iter().any(|path| fs.read_file(path).unwrap().starts_with(records))
        };
        for (place, records) in self.records.iter().enumerate() {
            let is_gone = is_in(before, records) && !is_in(after, records);
            assert!(!is_gone, "{}, {words}: the records of segment {place} are in no file any more", self.words);
        }
        for path in before.list_all().into_iter().filter(|path| is_foreign(path)) {
            let same = before.read_file(&path) == after.read_file(&path);
            assert!(same, "{}, {words}: {} was touched", self.words, path.display());
        }
    }
}

fn model_last(model: &Model) -> u64 {
    model.items.values().map(|item| item.position.segment()).max().unwrap()
}

/// Whether a file has a name that no file of a log has, by FORMAT.md.
fn is_foreign(path: &Path) -> bool {
    let is_inside = path.components().count() > 2;
    let name = path.file_name().unwrap();
    let Some(name) = name.to_str().and_then(|name| name.strip_prefix("segment_")) else { return true };
    let number = name.strip_suffix(".log").filter(|digits| digits.len() == 20).and_then(|digits| digits.parse().ok());
    let is_segment = number.is_some_and(|number: u64| (1..=u32::MAX.into()).contains(&number));
    is_inside || !is_segment && !["manifest", "manifest.new", "lock"].contains(&name)
}

/// The bytes of all files, by path.
pub(crate) fn files(fs: &SimFs) -> BTreeMap<PathBuf, Vec<u8>> {
    fs.list_all().into_iter().map(|path| (Path::new("/").join(&path), fs.read_file(&path).unwrap())).collect()
}

/// Does all cases on two threads; panics with those that failed.
pub(crate) fn each<C: Sync>(cases: &[C], work: impl Fn(&C) + Sync) {
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = guarded(|| {
                        work(case);
                        Ok(())
                    });
                    failed.lock().unwrap().extend(outcome.err());
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    let shown = failed.iter().take(number("CASKLOG_SHOWN", 10) as usize).cloned().collect::<Vec<_>>().join("\n");
    assert!(failed.is_empty(), "{} of {} failed:\n{shown}", failed.len(), cases.len());
}
