//! Writing: append, batches, durable appends. Ratios to other engines and to the machine's own limits are another bench's
//! business.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use casklog::{Batch, Options, Store, SyncPolicy};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

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

fn open(dir: &Path, sync: SyncPolicy) -> Store {
    Options::new(dir).sync(sync).max_segments(8).open().expect("the log opens")
}

fn append(c: &mut Criterion) {
    let mut group = c.benchmark_group("append_unsynced");
    for len in [128, 1 << 10, 64 << 10] {
        let dir = tempfile::tempdir().expect("a directory");
        let store = open(dir.path(), SyncPolicy::None);
        let value = value(len);
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(BenchmarkId::from_parameter(len), |b| {
            b.iter(|| store.append_bytes(KEY, &value).expect("it appends"));
        });
        store.close().expect("it closes");
    }
    group.finish();
}

fn batch(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory");
    let store = open(dir.path(), SyncPolicy::None);
    let value = value(128);
    let mut group = c.benchmark_group("batch_unsynced");
    group.throughput(Throughput::Elements(100));
    group.bench_function("100", |b| {
        b.iter(|| {
            let first = store.next_index().expect("an index");
            let mut batch = Batch::new();
            for index in first..first + 100 {
                batch.put_bytes(index, KEY, &value);
            }
            store.write_batch(&batch).expect("it writes")
        });
    });
    group.finish();
    store.close().expect("it closes");
}

fn durable(c: &mut Criterion) {
    let mut group = c.benchmark_group("append_durable");
    group.measurement_time(Duration::from_secs(4)).sample_size(10);
    for threads in [1u64, 2, 4, 16] {
        let dir = tempfile::tempdir().expect("a directory");
        let store = open(dir.path(), SyncPolicy::default());
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

criterion_group!(benches, append, batch, durable);
criterion_main!(benches);
