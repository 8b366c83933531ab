//! Reading: hot, cold beside a raw `pread` of the same bytes, just written, by scan, by key; and opening.
//!
//! One million entries of a 16-byte key and 128 bytes that do not compress, consecutive indexes: about 160 MB.

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use casklog::{Durability, Options, Position, ReadMode, Store, SyncPolicy};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const KEY: &[u8; 16] = b"0123456789abcdef";
const ENTRIES: u64 = 1_000_000;
/// Fragment header, array, index, key, value: what one entry takes in the file.
const RECORD_BYTES: usize = 11 + 1 + 5 + 18 + 130;
const DATA_BYTES: u64 = ENTRIES * RECORD_BYTES as u64;

/// Random numbers (xorshift; Marsaglia, 2003).
struct Draws(u64);

impl Draws {
    fn draw(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn index(&mut self) -> u64 {
        1 + self.draw() % ENTRIES
    }
}

fn options(dir: &Path) -> Options {
    Options::new(dir).sync(SyncPolicy::None)
}

/// A log of a million entries, and where each stands.
fn filled(dir: &Path) -> (Store, Vec<Position>) {
    let store = options(dir).open().expect("the log opens");
    let mut draws = Draws(7);
    let positions = (0..ENTRIES).map(|_| {
        let value: Vec<u8> = (0..16).flat_map(|_| draws.draw().to_le_bytes()).collect();
        store.append_bytes_with(KEY, value, Durability::Written).expect("it appends").position
    });
    let positions = positions.collect();
    (store, positions)
}

/// The time `threads` take for `iters` calls of `call` altogether, each thread with numbers of its own.
fn together(threads: u64, iters: u64, call: impl Fn(&mut Draws) + Sync) -> Duration {
    let start = Instant::now();
    std::thread::scope(|scope| {
        for thread in 1..=threads {
            let call = &call;
            scope.spawn(move || {
                let mut draws = Draws(thread.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                (0..iters.div_ceil(threads)).for_each(|_| call(&mut draws));
            });
        }
    });
    start.elapsed()
}

fn get(store: &Store, draws: &mut Draws) {
    black_box(store.get(draws.index()).expect("it reads").expect("it is there").index());
}

fn gets(c: &mut Criterion, dir: &Path, positions: &[Position]) {
    let mut group = c.benchmark_group("get");
    group.throughput(Throughput::Elements(1)).measurement_time(Duration::from_secs(3)).sample_size(20);

    let hot = options(dir).cache_bytes(2 * DATA_BYTES).open().expect("the log opens");
    for pass in 0..10 {
        (1..=ENTRIES).step_by(50).for_each(|index| drop(black_box(hot.get(index + pass * 5 % 50).expect("it reads"))));
    }
    for threads in [1, 2] {
        let id = BenchmarkId::new("hot, threads", threads);
        group.bench_function(id, |b| b.iter_custom(|iters| together(threads, iters, |draws| get(&hot, draws))));
    }
    let mut buffer = Vec::new();
    let mut draws = Draws(5);
    group.bench_function("hot, get_into", |b| {
        b.iter(|| {
            let entry = hot.get_into(draws.index(), &mut buffer).expect("it reads").expect("it is there");
            black_box(entry.index())
        });
    });
    hot.close().expect("it closes");

    let files: Vec<File> = segments(dir).iter().map(|path| File::open(path).expect("it opens")).collect();
    let mut draws = Draws(99);
    let mut buffer = [0; RECORD_BYTES];
    group.bench_function("raw pread of the same bytes", |b| {
        b.iter(|| {
            let position = positions[draws.index() as usize - 1];
            let file = &files[position.segment() as usize - 1];
            file.read_exact_at(&mut buffer, position.offset()).expect("it reads");
            black_box(&buffer);
        });
    });
    for (name, bytes, mode) in [
        ("cold, cache of a tenth", DATA_BYTES / 10, ReadMode::Positioned),
        ("no cache", 0, ReadMode::Positioned),
        ("mapped, cache of a tenth", DATA_BYTES / 10, ReadMode::Mapped),
    ] {
        let store = options(dir).cache_bytes(bytes).read_mode(mode).open().expect("the log opens");
        for threads in [1, 2] {
            let id = BenchmarkId::new(format!("{name}, threads"), threads);
            group.bench_function(id, |b| b.iter_custom(|iters| together(threads, iters, |draws| get(&store, draws))));
        }
        let mut buffer = Vec::new();
        let mut draws = Draws(5);
        group.bench_function(format!("{name}, get_into"), |b| {
            b.iter(|| {
                let entry = store.get_into(draws.index(), &mut buffer).expect("it reads").expect("it is there");
                black_box(entry.index())
            });
        });
        store.close().expect("it closes");
    }
    group.finish();
}

fn scans(c: &mut Criterion, dir: &Path) {
    let store = options(dir).open().expect("the log opens");
    let mut group = c.benchmark_group("scan");
    group.throughput(Throughput::Elements(ENTRIES)).sample_size(10);
    group.bench_function("iter", |b| b.iter(|| store.iter().map(|e| e.expect("it reads").index()).max()));
    group.bench_function("iter, backwards", |b| {
        b.iter(|| store.iter().rev().map(|e| e.expect("it reads").index()).max())
    });
    group.bench_function("log_order", |b| b.iter(|| store.log_order().map(|e| e.expect("it reads").index()).max()));
    group.bench_function("verify", |b| b.iter(|| store.verify().expect("it reads").records));
    group.finish();
    store.close().expect("it closes");
}

/// Scans of values of several sizes, beside reading the same files and doing nothing with them: the memory's pace.
fn scans_of_sizes(c: &mut Criterion) {
    const LOG_BYTES: u64 = 128 << 20;
    let mut group = c.benchmark_group("scan of larger values");
    group.sample_size(10);
    for value_bytes in [128, 1 << 10, 4 << 10, 16 << 10, 64 << 10] {
        let dir = tempfile::tempdir().expect("a directory");
        let store = options(dir.path()).open().expect("the log opens");
        for _ in 0..LOG_BYTES / value_bytes {
            store.append_bytes_with(KEY, vec![7; value_bytes as usize], Durability::Written).expect("it appends");
        }
        store.close().expect("it closes");
        let store = options(dir.path()).open().expect("the log opens");
        let files: Vec<File> = segments(dir.path()).iter().map(|path| File::open(path).expect("it opens")).collect();
        let bytes = files.iter().map(|file| file.metadata().expect("it has a size").len()).sum();
        group.throughput(Throughput::Bytes(bytes));
        group.bench_function(BenchmarkId::new("iter", value_bytes), |b| {
            b.iter(|| store.iter().map(|e| e.expect("it reads").raw_value().len()).max());
        });
        let mut buffer = vec![0; 256 << 10];
        group.bench_function(BenchmarkId::new("pread alone", value_bytes), |b| {
            b.iter(|| {
                for file in &files {
                    let mut at = 0;
                    while let Some(read) = Some(file.read_at(&mut buffer, at).expect("it reads")).filter(|n| *n > 0) {
                        at += read as u64;
                    }
                }
            });
        });
        store.close().expect("it closes");
    }
    group.finish();
}

fn just_written(c: &mut Criterion) {
    let mut group = c.benchmark_group("get, just written");
    for mapped in [true, false] {
        let dir = tempfile::tempdir().expect("a directory");
        let store = options(dir.path()).mapped(mapped).max_segments(4).open().expect("the log opens");
        group.bench_function(if mapped { "append and get, mapped" } else { "append and get, written" }, |b| {
            b.iter(|| {
                let index = store.append_bytes_with(KEY, [7; 128], Durability::Written).expect("it appends").index;
                black_box(store.get(index).expect("it reads")).expect("it is there").index()
            });
        });
        store.close().expect("it closes");
    }
    group.finish();
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(dir).expect("it lists").map(|entry| entry.expect("it lists").path());
    let mut files: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|end| end == "log")).collect();
    files.sort();
    files
}

fn opens(c: &mut Criterion, dir: &Path, killed: &Path) {
    let mut group = c.benchmark_group("open");
    group.sample_size(10);
    let open = |dir: &Path| options(dir).open().expect("it opens");
    group.bench_function("after close", |b| {
        b.iter_custom(|iters| {
            let times = (0..iters).map(|_| {
                let start = Instant::now();
                let store = open(dir);
                let took = start.elapsed();
                store.close().expect("it closes");
                took
            });
            times.sum()
        });
    });
    group.bench_function("after kill", |b| {
        let copy = || {
            let copy = tempfile::tempdir().expect("a directory");
            for entry in std::fs::read_dir(killed).expect("it lists") {
                let from = entry.expect("it lists").path();
                std::fs::copy(&from, copy.path().join(from.file_name().expect("it has a name"))).expect("it copies");
            }
            copy
        };
        b.iter_batched(copy, |copy| (open(copy.path()), copy), BatchSize::PerIteration);
    });
    group.bench_function("read only", |b| b.iter(|| options(dir).open_read_only().expect("it opens")));
    group.finish();
}

fn reads(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory");
    let killed = tempfile::tempdir().expect("a directory");
    let (store, positions) = filled(dir.path());
    // What a kill would leave: the files as they are while the log is open.
    for path in std::fs::read_dir(dir.path()).expect("it lists").map(|entry| entry.expect("it lists").path()) {
        std::fs::copy(&path, killed.path().join(path.file_name().expect("it has a name"))).expect("it copies");
    }
    store.close().expect("it closes");
    gets(c, dir.path(), &positions);
    scans(c, dir.path());
    scans_of_sizes(c);
    just_written(c);
    opens(c, dir.path(), killed.path());
}

criterion_group!(benches, reads);
criterion_main!(benches);
