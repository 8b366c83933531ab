//! `casklog bench`

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use casklog::{Options, Store, SyncPolicy};
use clap::Args;
use serde::Serialize;

use crate::args::Global;
use crate::failure::{End, Failure, Result, note};
use crate::output::Output;
use crate::units::{bytes, count, duration};

/// Measure what the disk under a directory does for a log
///
/// Makes a log of its own in a new folder within --dir, writes and reads for a few seconds, and removes the folder again.
/// A log that is there already is not touched.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// How long each of the five measurements goes on
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    seconds: f64,
    /// Bytes of each value
    #[arg(long, value_name = "SIZE", default_value = "100", value_parser = value_size)]
    value_bytes: u64,
    /// How many threads write at once where many do
    #[arg(long, value_name = "COUNT", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=1024))]
    threads: u64,
}

fn value_size(text: &str) -> Result<u64, String> {
    let bytes = crate::units::parse_bytes(text)?;
    if bytes > 16 << 20 { Err("at most 16M".to_owned()) } else { Ok(bytes) }
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Figures {
    dir: String,
    value_bytes: u64,
    measurements: Vec<Measured>,
    verdict: String,
}

#[derive(Debug, Serialize)]
struct Measured {
    what: String,
    operations: u64,
    per_second: f64,
    median_us: f64,
    p99_us: f64,
}

/// Each measurement writes about so much at most: without a sync, a second may be gigabytes.
const BYTES_MAX: u64 = 512 << 20;

/// What an entry takes beside its value, about.
const ENTRY_BYTES: u64 = 32;

impl Bench {
    pub(crate) fn run(self, global: &Global, out: &mut Output) -> Result<End> {
        let dir = &global.dir;
        let usable = |seconds: &f64| (0.01..=3600.0).contains(seconds);
        let seconds = Some(self.seconds).filter(usable);
        let seconds = seconds.ok_or_else(|| Failure::Usage("--seconds is from 0.01 to 3600".to_owned()))?;
        let folder = tempfile::Builder::new().prefix("casklog-bench-").tempdir_in(dir);
        let folder = folder.map_err(Failure::file("make a folder in", dir))?;
        let figures = self.measure(folder.path(), Duration::from_secs_f64(seconds), dir);
        // Also where something failed.
        let removed = folder.close().map_err(Failure::file("remove the folder of the measurement in", dir));
        let figures = figures?;
        removed?;
        out.show(&figures, |out| {
            let headings = ["OPERATIONS", "PER SECOND", "MEDIAN", "99 OF 100", "WHAT"];
            let cells: Vec<_> = figures.measurements.iter().map(Measured::cells).collect();
            out.table(&headings, &cells)?;
            writeln!(out, "\n{}", figures.verdict)
        })?;
        Ok(End::Done)
    }

    fn measure(&self, folder: &Path, time: Duration, dir: &Path) -> Result<Figures> {
        let (value, most) = (noise(self.value_bytes as usize), BYTES_MAX / (self.value_bytes + ENTRY_BYTES) + 1);
        note("note", &format!("measuring in {} for {}", folder.display(), duration(5 * time)));

        let probe = folder.join("probe");
        let raw = raw_syncs(&probe, time).map_err(Failure::file("write", &probe))?;
        let raw = Measured::new("writes of 4 KiB with a sync, without a log", vec![raw]);

        let path = folder.join("durable");
        let store = Options::new(&path).cache_bytes(0).open()?;
        let alone = timed(time, most, || store.append_bytes("bench", &value).map(drop))?;
        let alone = Measured::new("durable appends, by one thread", vec![alone]);
        let threads: Result<Vec<_>, _> = std::thread::scope(|scope| {
            let append = || scope.spawn(|| timed(time, most, || store.append_bytes("bench", &value).map(drop)));
            let threads: Vec<_> = (0..self.threads).map(|_| append()).collect();
            threads.into_iter().map(|thread| thread.join().expect("it does not panic")).collect()
        });
        let many = Measured::new(&format!("durable appends, by {} threads that share syncs", self.threads), threads?);
        store.close()?;

        let path = folder.join("fast");
        let store = Options::new(&path).sync(SyncPolicy::None).cache_bytes(0).open()?;
        let fast = timed(time, most, || store.append_bytes("bench", &value).map(drop))?;
        let fast = Measured::new("appends without a sync", vec![fast]);
        let gets = random_gets(&store, time)?;
        let gets = Measured::new("reads of an entry at random, from the page cache", vec![gets]);
        store.close()?;

        let verdict = verdict(&raw, &alone, &many, self.value_bytes);
        let measurements = vec![raw, alone, many, fast, gets];
        Ok(Figures { dir: dir.display().to_string(), value_bytes: self.value_bytes, measurements, verdict })
    }
}

/// Calls `step` until the time is over, or `most` times. Returns how long each call took, in nanoseconds.
fn timed<E>(time: Duration, most: u64, mut step: impl FnMut() -> Result<(), E>) -> Result<Vec<u32>, E> {
    let (mut took, began) = (Vec::new(), Instant::now());
    let mut before = Duration::ZERO;
    while before < time && (took.len() as u64) < most {
        step()?;
        let now = began.elapsed();
        took.push(u32::try_from((now - before).as_nanos()).unwrap_or(u32::MAX));
        before = now;
    }
    Ok(took)
}

/// What the disk does by itself: a block is written over again and again, and synced each time.
fn raw_syncs(path: &Path, time: Duration) -> io::Result<Vec<u32>> {
    let mut file = File::create_new(path)?;
    let block = noise(4096);
    // Room first, so that no write makes the file longer.
    for _ in 0..256 {
        file.write_all(&block)?;
    }
    file.sync_all()?;
    let mut place = 0;
    timed(time, u64::MAX, || {
        use std::io::Seek as _;
        place = (place + 1) % 256;
        file.seek(io::SeekFrom::Start(place * 4096))?;
        file.write_all(&block)?;
        file.sync_data()
    })
}

fn random_gets(store: &Store, time: Duration) -> Result<Vec<u32>> {
    let last = store.last_index().unwrap_or(0);
    let (mut buffer, mut random) = (Vec::new(), 0x9e37_79b9_7f4a_7c15);
    Ok(timed(time, u64::MAX, || {
        let index = next(&mut random) % last.max(1) + 1;
        store.get_into(index, &mut buffer).map(drop)
    })?)
}

/// Bytes that no disk packs.
fn noise(bytes: usize) -> Vec<u8> {
    let mut random = 0x2545_f491_4f6c_dd1d;
    let words = (0..bytes.div_ceil(8)).flat_map(|_| next(&mut random).to_le_bytes());
    words.take(bytes).collect()
}

/// Marsaglia's xorshift.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

impl Measured {
    /// From how long each operation of each thread took, in nanoseconds.
    fn new(what: &str, threads: Vec<Vec<u32>>) -> Self {
        let seconds = |took: &Vec<u32>| took.iter().map(|ns| f64::from(*ns)).sum::<f64>() / 1e9;
        let longest = threads.iter().map(seconds).fold(f64::MIN_POSITIVE, f64::max);
        let mut all = threads.concat();
        all.sort_unstable();
        let at = |share: f64| all.get((all.len() as f64 * share) as usize).map_or(0.0, |ns| f64::from(*ns) / 1e3);
        Measured {
            what: what.to_owned(),
            operations: all.len() as u64,
            per_second: all.len() as f64 / longest,
            median_us: at(0.5),
            p99_us: at(0.99),
        }
    }

    fn cells(&self) -> Vec<String> {
        let time = |us: f64| match us {
            1000.0.. => format!("{:.1} ms", us / 1e3),
            10.0.. => format!("{us:.0} us"),
            _ => format!("{us:.2} us"),
        };
        vec![
            count(self.operations),
            count(self.per_second as u64),
            time(self.median_us),
            time(self.p99_us),
            self.what.clone(),
        ]
    }
}

/// What the figures say of the disk.
fn verdict(raw: &Measured, alone: &Measured, many: &Measured, value_bytes: u64) -> String {
    let sync = match raw.median_us {
        ..30.0 => {
            "A sync returns faster than a disk can write: what is acknowledged is in memory only, that of this machine or \
             of the host of a virtual one. A power cut may take it."
        }
        ..300.0 => "A sync takes as long as on a disk with a cache that survives a power cut, or that says so.",
        ..3000.0 => "A sync takes as long as on a solid-state disk without a protected cache.",
        _ => "A sync takes as long as on a rotating or a distant disk. Let many threads write, or write batches.",
    };
    let own = (alone.median_us - raw.median_us).max(0.0);
    format!(
        "{sync}\nA durable append takes {own:.0} us more than the sync alone. Threads that share syncs write {:.1} times as \
         much, {} of values a second.",
        many.per_second / alone.per_second.max(f64::MIN_POSITIVE),
        bytes((many.per_second * value_bytes as f64) as u64)
    )
}
