//! What a round does: drawn from the seed, the same in the parent and in the child.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use casklog::{Checksum, IndexOrder, Options, SyncPolicy};
use serde::{Deserialize, Serialize};

/// A small generator (splitmix64): the same numbers from the same seed, everywhere.
#[derive(Debug, Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(parts: &[u64]) -> Self {
        let mut rng = Rng(0x243f_6a88_85a3_08d3);
        for part in parts {
            rng.0 = rng.next() ^ part;
        }
        rng
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

/// How the lives of the children end, which decides what they do and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// By SIGKILL.
    Kill,
    /// With the disk under them.
    Cut,
    /// By themselves, after some calls, unless a system call of theirs fails or kills them.
    Fault,
    /// By themselves, after some calls; what they wrote to the disk is recorded.
    Record,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Kill => "kill",
            Kind::Cut => "cut",
            Kind::Fault => "fault",
            Kind::Record => "record",
        })
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Kind::Kill, Kind::Cut, Kind::Fault, Kind::Record]
            .into_iter()
            .find(|kind| kind.to_string() == text)
            .ok_or(text.to_owned())
    }
}

/// The rounds of one directory.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    pub(crate) rounds: u32,
    pub(crate) index_order: IndexOrder,
    pub(crate) max_segments: Option<u64>,
    pub(crate) truncates_before: bool,
    /// One thread only, so that truncations from the end have one meaning.
    pub(crate) truncates_after: bool,
}

impl Series {
    pub(crate) fn new(kind: Kind, seed: u64, series: u64) -> Self {
        let mut rng = Rng::new(&[seed, series]);
        let mut series = Series {
            rounds: 2 + rng.below(6) as u32,
            index_order: rng.pick(&[IndexOrder::Any, IndexOrder::Any, IndexOrder::Increasing, IndexOrder::Sequential]),
            max_segments: rng.percent(35).then(|| 2 + rng.below(6)),
            truncates_before: rng.percent(25),
            truncates_after: rng.percent(20),
        };
        // Several truncations that a power cut may have taken back are more than the model can tell apart.
        series.truncates_after &= matches!(kind, Kind::Kill | Kind::Fault);
        series
    }
}

/// One life of the child, from open to its death.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) series: Series,
    pub(crate) threads: u16,
    pub(crate) sync: SyncPolicy,
    mapped: Option<bool>,
    preallocate: bool,
    checksum: Checksum,
    sync_align: u32,
    segment_bytes: u64,
    segment_entries: Option<u64>,
    /// The child closes the log by itself after this time, if it lives so long.
    pub(crate) closes_after: Option<Duration>,
    /// Each thread ends after so many calls.
    pub(crate) calls_max: u32,
    /// When the parent strikes.
    pub(crate) kill: Kill,
    /// The parent looks at the log after the kill; else the next child takes it as it is.
    pub(crate) verifies: bool,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Kill {
    /// This long after the child was started: most likely while it opens the log.
    AfterStart(Duration),
    /// This long after the child said that it begins to write.
    AfterOpen(Duration),
}

impl Plan {
    pub(crate) fn new(kind: Kind, seed: u64, series: u64, round: u32) -> Self {
        let settings = Series::new(kind, seed, series);
        let mut rng = Rng::new(&[seed, series, u64::from(round)]);
        let window = Duration::from_micros(rng.pick(&[0, 0, 200]));
        let sync = match rng.below(4) {
            0 => SyncPolicy::None,
            1 => SyncPolicy::Immediate,
            2 => SyncPolicy::Grouped { window },
            _ => SyncPolicy::Periodic {
                every: Duration::from_millis(1 + rng.below(20)),
                entries: 1 + rng.below(5000),
                bytes: 1 + rng.below(1 << 20),
            },
        };
        let micros = match rng.below(10) {
            0..3 => rng.below(4_000),
            3..8 => rng.below(60_000),
            _ => rng.below(200_000),
        };
        let verifies = settings.truncates_after || round + 1 == settings.rounds || rng.percent(60);
        let mut plan = Plan {
            threads: if settings.truncates_after { 1 } else { rng.pick(&[1, 1, 2, 3, 4, 8, 16]) },
            series: settings,
            sync,
            mapped: rng.pick(&[None, Some(true), Some(false)]),
            preallocate: rng.percent(85),
            checksum: rng.pick(&[Checksum::Crc32, Checksum::Crc64]),
            sync_align: rng.pick(&[0, 0, 0, 512, 4096]),
            segment_bytes: 1 << (15 + rng.below(8)),
            segment_entries: rng.percent(60).then(|| 5 + rng.below(400)),
            closes_after: rng.percent(12).then(|| Duration::from_micros(rng.below(30_000))),
            calls_max: u32::MAX,
            kill: if rng.percent(10) {
                Kill::AfterStart(Duration::from_micros(rng.below(6_000)))
            } else {
                Kill::AfterOpen(Duration::from_micros(micros))
            },
            verifies,
        };
        match kind {
            Kind::Kill => {}
            Kind::Cut => {
                plan.verifies = true;
                // The disk is small.
                plan.segment_bytes = plan.segment_bytes.min(1 << 20);
                plan.kill = match plan.kill {
                    Kill::AfterOpen(_) => Kill::AfterOpen(Duration::from_micros(rng.below(30_000))),
                    early => early,
                };
            }
            Kind::Fault | Kind::Record => {
                plan.threads = plan.threads.min(3);
                plan.calls_max = 10 + rng.below(60) as u32;
                plan.closes_after = None;
                plan.segment_bytes = plan.segment_bytes.min(1 << 18);
                plan.segment_entries = Some(5 + rng.below(40));
            }
        }
        plan
    }

    pub(crate) fn options(&self, dir: &Path) -> Options {
        let mut options = Options::new(dir)
            .prefix("kill_")
            .index_order(self.series.index_order)
            .sync(self.sync)
            .preallocate(self.preallocate)
            .checksum(self.checksum)
            .sync_align(self.sync_align)
            .segment_bytes(self.segment_bytes);
        if let Some(mapped) = self.mapped {
            options = options.mapped(mapped);
        }
        if let Some(entries) = self.segment_entries {
            options = options.segment_entries(entries);
        }
        options
    }
}

/// The name of one call of the child: round, thread, and count within the thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct OpId {
    pub(crate) round: u32,
    pub(crate) thread: u16,
    pub(crate) count: u32,
}

impl fmt::Display for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.round, self.thread, self.count)
    }
}

impl FromStr for OpId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.splitn(3, '.');
        let mut part = || parts.next().unwrap_or_default();
        Ok(OpId { round: part().parse()?, thread: part().parse()?, count: part().parse()? })
    }
}

/// The key of the n-th entry of a call: it says who wrote the entry.
pub(crate) fn key(op: OpId, item: usize) -> String {
    format!("{op}.{item}")
}

pub(crate) fn parse_key(key: &[u8]) -> Option<(OpId, usize)> {
    let (op, item) = std::str::from_utf8(key).ok()?.rsplit_once('.')?;
    Some((op.parse().ok()?, item.parse().ok()?))
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) size: u64,
    pub(crate) note: Option<String>,
}

/// The value that belongs to a key.
pub(crate) enum Value {
    Bytes(Vec<u8>),
    Typed(Event),
}

impl Value {
    /// What the values of a series are drawn from.
    pub(crate) fn seed(seed: u64, series: u64) -> u64 {
        Rng::new(&[seed, series, 2]).next()
    }

    pub(crate) fn of(seed: u64, op: OpId, item: usize) -> Self {
        let place = [op.round.into(), op.thread.into(), op.count.into(), item as u64];
        let mut rng = Rng::new(&[&[seed][..], &place].concat());
        if rng.percent(30) {
            return Value::Typed(Event {
                name: key(op, item),
                size: rng.next(),
                note: rng.percent(50).then(|| "x".repeat(rng.below(200) as usize)),
            });
        }
        // Rounds of large values spend their time in copying, so that the kill strikes there.
        let is_large = Rng::new(&[seed, op.round.into()]).percent(20);
        let size = match rng.below(400) {
            0..60 if is_large => rng.below(600_000),
            0 => rng.below(200_000),
            1..30 => rng.below(8_000),
            _ => rng.below(300),
        };
        let mut bytes = Vec::with_capacity(size as usize + 8);
        while (bytes.len() as u64) < size {
            bytes.extend_from_slice(&rng.next().to_le_bytes());
        }
        bytes.truncate(size as usize);
        Value::Bytes(bytes)
    }

    pub(crate) fn matches(&self, entry: &casklog::Entry) -> bool {
        match self {
            Value::Bytes(bytes) => entry.bytes().is_ok_and(|found| found == bytes),
            Value::Typed(event) => entry.value::<Event>().is_ok_and(|found| found == *event),
        }
    }
}
