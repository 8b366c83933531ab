//! A log of many small records: how long it takes to open, how much memory it needs, how fast entries are found.
//!
//! ```text
//! cargo run --release --example large_log -- <directory> [entries, default 1000000]
//! ```
//!
//! 100,000,000 entries take about 6 GB of disk. The directory must be empty or not exist, and is removed at the end. Each part runs
//! in a process of its own, so that the memory of one does not count for another.

use std::fs::File;
use std::hint::black_box;
use std::io::{Error, Result};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use casklog::{Durability, Options, SyncPolicy};

const GETS: u64 = 1_000_000;
const CACHE_BYTES: u64 = 64 << 20;
/// Fragment header, array, index, key and value of an entry.
const RECORD_BYTES: usize = 11 + 1 + 5 + 6 + 26;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let usage = || Error::other("usage: large_log <directory> [entries]");
    let dir = Path::new(args.first().ok_or_else(usage)?);
    let entries = match args.get(1) {
        Some(entries) => entries.parse().map_err(|_| usage())?,
        None => 1_000_000,
    };
    match args.get(2).map(String::as_str) {
        Some("write") => write(dir, entries),
        Some("read") => read(dir, entries),
        None => {
            if dir.exists() && std::fs::read_dir(dir)?.next().is_some() {
                return Err(Error::other("the directory is not empty"));
            }
            for part in ["write", "read"] {
                let status =
                    Command::new(std::env::current_exe()?).args([&args[0], &entries.to_string(), part]).status()?;
                if !status.success() {
                    return Err(Error::other(format!("{part} failed: {status}")));
                }
            }
            std::fs::remove_dir_all(dir)
        }
        Some(_) => Err(usage()),
    }
}

fn options(dir: &Path) -> Options {
    Options::new(dir).sync(SyncPolicy::None).cache_bytes(CACHE_BYTES)
}

/// An entry's value: 24 bytes made of its index.
fn value(index: u64) -> [u8; 24] {
    let mut value = [0; 24];
    for (place, part) in value.chunks_exact_mut(8).enumerate() {
        part.copy_from_slice(&index.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(place as u64).to_le_bytes());
    }
    value
}

fn write(dir: &Path, entries: u64) -> Result<()> {
    let store = options(dir).open().map_err(Error::other)?;
    let start = Instant::now();
    for index in 1..=entries {
        let key = (index as u32).to_le_bytes();
        store.append_bytes_with(key, value(index), Durability::Written).map_err(Error::other)?;
    }
    let took = start.elapsed();
    let per_entry = store.stats().index_bytes as f64 / entries as f64;
    store.close().map_err(Error::other)?;
    println!(
        "wrote {entries} entries in {:.1} s, {:.2} M/s; index: {per_entry:.4} bytes of memory an entry",
        took.as_secs_f64(),
        rate(entries, took)
    );
    Ok(())
}

fn read(dir: &Path, entries: u64) -> Result<()> {
    let start = Instant::now();
    let store = options(dir).open().map_err(Error::other)?;
    let opened = start.elapsed();
    let stats = store.stats();
    assert_eq!(stats.entries, entries, "all entries are there");
    println!(
        "opened {} segments in {:.1} ms, of which {} bytes of records were scanned; resident {:.1} MiB, index {:.2} MiB",
        stats.segments,
        opened.as_secs_f64() * 1e3,
        store.recovery_report().scanned_bytes,
        resident()?,
        stats.index_bytes as f64 / f64::from(1 << 20),
    );

    // The same entries in the same order: first as the store finds them, then as bytes whose place is known.
    let mut indexes = Indexes(0x2545_f491_4f6c_dd1d, entries);
    let start = Instant::now();
    for _ in 0..GETS {
        let index = indexes.draw();
        let entry = store.get(index).map_err(Error::other)?.ok_or_else(|| Error::other("an entry is missing"))?;
        assert_eq!(entry.bytes().map_err(Error::other)?, value(index), "the right entry");
    }
    let gets = start.elapsed();
    let stats = store.stats();
    println!(
        "{GETS} random gets: {:.3} M/s; resident {:.1} MiB, cache {:.1} MiB, {:.1} % of lookups found",
        rate(GETS, gets),
        resident()?,
        stats.cache_bytes as f64 / f64::from(1 << 20),
        100.0 * stats.cache_hits as f64 / (stats.cache_hits + stats.cache_misses) as f64,
    );

    let files: Vec<(File, u64)> = store
        .segments()
        .iter()
        .filter(|segment| segment.entries > 0)
        .map(|segment| Ok((File::open(&segment.path)?, segment.bytes)))
        .collect::<Result<_>>()?;
    // What one of these entries takes.
    let mut buffer = [0; RECORD_BYTES];
    let mut places = Indexes(0x2545_f491_4f6c_dd1d, u64::MAX);
    let start = Instant::now();
    for _ in 0..GETS {
        let place = places.draw();
        let (file, end) = &files[(place >> 32) as usize % files.len()];
        file.read_at(&mut buffer, place % end)?;
        black_box(&buffer);
    }
    let preads = start.elapsed();
    println!(
        "{GETS} random preads of {} bytes: {:.3} M/s; gets run at {:.2} of that",
        buffer.len(),
        rate(GETS, preads),
        preads.as_secs_f64() / gets.as_secs_f64(),
    );
    store.close().map_err(Error::other)
}

fn rate(count: u64, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64() / 1e6
}

/// Memory of this process in MiB.
fn resident() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().map_err(Error::other)?;
    Ok(kib / 1024.0)
}

/// Random indexes from 1 to a highest (xorshift; Marsaglia, 2003).
struct Indexes(u64, u64);

impl Indexes {
    fn draw(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        1 + self.0 % self.1
    }
}
