//! Writing: append, batches, durable appends. Ratios to other engines and to the machine's own limits are another bench's
//! business.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use casklog::{Batch, Checksum, Options, SyncPolicy};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const KEY: &[u8; 16] = b"0123456789abcdef";

/// Bytes that do not compress, and that differ from record to record.
fn value(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    })
    .take(len)
    .collect()
}

fn options(dir: &Path, sync: SyncPolicy) -> Options {
    Options::new(dir).sync(sync).max_segments(8)
}

fn append_to(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, len: usize, with: impl Fn(Options) -> Options) {
    let dir = tempfile::tempdir().expect("a directory");
    let store = with(options(dir.path(), SyncPolicy::None)).open().expect("the log opens");
    let value = value(len);
    group.throughput(Throughput::Bytes(len as u64));
    group.bench_function(BenchmarkId::new(name, len), |b| {
        b.iter(|| store.append_bytes(KEY, &value).expect("it appends"));
    });
    store.close().expect("it closes");
}

/// What a write costs that is on its way to the disk when it returns. A long run goes at the disk's rate: rotated segments
/// wait to be sealed.
fn append(c: &mut Criterion) {
    let mut group = c.benchmark_group("append_unsynced");
    for len in [0, 16, 128, 1 << 10, 16 << 10, 64 << 10, 1 << 20] {
        append_to(&mut group, "crc32", len, |options| options);
    }
    for len in [128, 64 << 10] {
        append_to(&mut group, "crc64", len, |options| options.checksum(Checksum::Crc64));
    }
    append_to(&mut group, "key_index", 128, |options| options.key_index(true));
    append_to(&mut group, "not_mapped", 128, |options| options.mapped(false));
    let periodic = SyncPolicy::Periodic { every: Duration::from_millis(100), entries: 1 << 20, bytes: 1 << 28 };
    append_to(&mut group, "periodic", 128, |options| options.sync(periodic));
    group.finish();
}

fn batch(c: &mut Criterion) {
    let value = value(128);
    let mut group = c.benchmark_group("batch_unsynced");
    for count in [10, 100, 1000] {
        let dir = tempfile::tempdir().expect("a directory");
        let store = options(dir.path(), SyncPolicy::None).open().expect("the log opens");
        let mut batch = Batch::new();
        group.throughput(Throughput::Elements(count));
        group.bench_function(BenchmarkId::from_parameter(count), |b| {
            b.iter(|| {
                let first = store.next_index().unwrap_or(1);
                batch.clear();
                for index in first..first + count {
                    batch.put_bytes(index, KEY, &value);
                }
                store.write_batch(&batch).expect("it writes")
            });
        });
        store.close().expect("it closes");
    }
    group.finish();
}

/// Single appends across a hundred rotations, each one measured.
fn rotation(c: &mut Criterion) {
    let value = value(128);
    let mut group = c.benchmark_group("append_across_rotations");
    group.sample_size(10).measurement_time(Duration::from_secs(1)).warm_up_time(Duration::from_millis(1));
    let mut latencies = Vec::new();
    group.bench_function("128", |b| {
        b.iter_custom(|iters| {
            let dir = tempfile::tempdir().expect("a directory");
            let options = options(dir.path(), SyncPolicy::None).segment_bytes(1 << 20);
            let store = options.open().expect("the log opens");
            (latencies, _) = (Vec::new(), store.append_bytes(KEY, &value).expect("it appends"));
            while store.stats().rotations < 100 {
                for _ in 0..1000 {
                    let begun = Instant::now();
                    store.append_bytes(KEY, &value).expect("it appends");
                    latencies.push(begun.elapsed());
                }
            }
            store.close().expect("it closes");
            latencies.iter().sum::<Duration>() / latencies.len() as u32 * iters as u32
        });
    });
    latencies.sort_unstable();
    let at =
        |parts: usize| latencies.get(latencies.len() * parts / 1000).or(latencies.last()).copied().unwrap_or_default();
    println!("p50 {:?}, p99 {:?}, p99.9 {:?}, max {:?}", at(500), at(990), at(999), at(1000));
    group.finish();
}

fn durable(c: &mut Criterion) {
    let mut group = c.benchmark_group("append_durable");
    group.measurement_time(Duration::from_secs(4)).sample_size(10);
    for threads in [1u64, 2, 4, 16] {
        let dir = tempfile::tempdir().expect("a directory");
        let store = options(dir.path(), SyncPolicy::default()).open().expect("the log opens");
        let value = value(128);
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::new("threads", threads), |b| {
            b.iter_custom(|iters| {
                let left = AtomicU64::new(iters);
                let start = Instant::now();
                std::thread::scope(|scope| {
                    for _ in 0..threads {
                        scope.spawn(|| {
                            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok()
                            {
                                store.append_bytes(KEY, &value).expect("it appends");
                            }
                        });
                    }
                });
                start.elapsed()
            });
        });
        let stats = store.stats();
        println!("{threads} threads: {:.2} entries a sync", stats.entries_written as f64 / stats.syncs.max(1) as f64);
        store.close().expect("it closes");
    }
    group.finish();
}

criterion_group!(benches, append, batch, rotation, durable);
criterion_main!(benches);
