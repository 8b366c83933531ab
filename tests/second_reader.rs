//! A second reader, written from FORMAT.md alone, says the same of a log as the crate: entries, metadata, where it ends,
//! and whether acknowledged bytes are damaged.

#![allow(clippy::unwrap_used, reason = "these are tests")]
#![allow(dead_code, unreachable_pub, reason = "the targets belong to a crate of their own")]

#[path = "../fuzz/src/lib.rs"]
mod targets;

#[path = "common/figures.rs"]
mod figures;
#[path = "common/numbers.rs"]
mod numbers;

use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use casklog::fs::sim::SimFs;
use casklog::{Batch, Checksum, Options, Store, SyncPolicy};
use figures::Figure;
use numbers::Numbers;
use targets::independent::agree;

fn options(fs: &SimFs, seed: u64) -> Options {
    let options = Options::new("/log")
        .fs(Arc::new(fs.clone()))
        .background(false)
        .mapped(false)
        .preallocate(seed.is_multiple_of(2))
        .segment_bytes(if seed.is_multiple_of(3) { 1 << 17 } else { 1 << 11 })
        .checksum(if seed % 5 < 2 { Checksum::Crc64 } else { Checksum::Crc32 })
        .key_index(seed.is_multiple_of(7))
        .sync_align(if seed.is_multiple_of(11) { 512 } else { 0 });
    if seed.is_multiple_of(4) { options.sync(SyncPolicy::None) } else { options }
}

/// The store that writes. Where the crate is compared with the reader, nothing is too old: opening it would retire what
/// the power cut left of segments that were about to be.
fn writing(fs: &SimFs, seed: u64) -> Store {
    let options = options(fs, seed);
    let options = if seed.is_multiple_of(6) { options.max_segments(4) } else { options };
    options.open().unwrap()
}

/// Any of what may be done; errors are as good as any outcome.
fn act(store: &Store, numbers: &mut Numbers) {
    let index = numbers.below(40);
    let length = if numbers.percent(5) { 40_000 } else { numbers.below(300) as usize };
    let value = numbers.bytes(length);
    match numbers.below(20) {
        0..9 => drop(store.append_bytes("k", value)),
        9 => drop(store.write_bytes(1000 + index * 7, "other", value)),
        10 | 11 => drop(store.delete(index)),
        12 => drop(store.truncate_after(index + 10)),
        13 => drop(store.truncate_before(index / 4)),
        14 => drop(store.reset_to(index)),
        15 => drop(store.put_meta([index as u8 % 4], value.get(..30).unwrap_or(b"small"))),
        16 => drop(store.delete_meta([index as u8 % 4])),
        17 => drop(store.idle()),
        18 => drop(store.rotate()),
        _ => {
            let mut batch = Batch::new();
            let next = store.next_index().unwrap();
            batch.put_bytes(next, "b", &value).put_bytes(next + 1, "b", "small").delete(index).put_meta("batch", [1]);
            drop(store.write_batch(&batch));
        }
    }
}

fn check(fs: &SimFs, seed: u64, words: &dyn Fn() -> String) -> bool {
    // Nothing tears a block here: a header that is not good was changed.
    agree(fs, |fs| options(fs, seed).sync_align(0))
        .unwrap_or_else(|difference| panic!("seed {seed}, {}: {difference}", words()))
}

/// One log and what may become of it: closed, killed, and cut by power at any operation; then with a byte changed or a
/// file gone. Returns how many states were compared, and how many of them were damaged.
fn compare(seed: u64) -> (u64, u64) {
    let (mut states, mut damaged) = (0, 0);
    let (mut fs, mut numbers) = (SimFs::new(), Numbers(seed));
    for _ in 0..2 {
        let store = writing(&fs, seed);
        for _ in 0..20 {
            act(&store, &mut numbers);
            if numbers.percent(20) {
                check(&fs.killed(), seed, &|| "killed".to_owned());
                states += 1;
            }
        }
        for found in fs.crash_images(numbers.below(fs.ops() as u64 + 1) as usize, 12, seed) {
            check(&found, seed, &|| found.origin());
            states += 1;
        }
        if numbers.percent(50) {
            store.close().unwrap();
        }
        fs = fs.killed();
        check(&fs, seed, &|| "at the end".to_owned());
    }
    let files: Vec<PathBuf> = fs.list_all().into_iter().filter(|path| !path.ends_with("segment_lock")).collect();
    for _ in 0..30 {
        let found = targets::image::disk(&targets::image::files_of(&fs));
        let path = &files[numbers.below(files.len() as u64) as usize];
        let mut bytes = fs.read_file(path).unwrap();
        let words = match numbers.below(8) {
            0 => {
                found.remove_file(path);
                format!("without {}", path.display())
            }
            1 => {
                bytes.truncate(numbers.below(bytes.len() as u64 + 1) as usize);
                found.write_file(path, &bytes);
                format!("{} cut to {}", path.display(), bytes.len())
            }
            _ if bytes.is_empty() => continue,
            _ => {
                let at = numbers.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << numbers.below(8);
                found.write_file(path, &bytes);
                format!("byte {at} of {}", path.display())
            }
        };
        damaged += u64::from(check(&found, seed, &|| words.clone()));
        states += 1;
    }
    (states, damaged)
}

#[test]
fn both_readers_agree() {
    let seeds = std::env::var("CASKLOG_READER_SEEDS").map_or(40, |seeds| seeds.parse().unwrap());
    let started = Instant::now();
    let halves = std::thread::scope(|scope| {
        let half = |first: u64| scope.spawn(move || (first..seeds).step_by(2).map(compare).collect::<Vec<_>>());
        [half(0), half(1)].map(|half| half.join().unwrap_or_else(|panic| resume_unwind(panic)))
    });
    let (states, damaged) = halves.into_iter().flatten().fold((0, 0), |sum, part| (sum.0 + part.0, sum.1 + part.1));
    let (seconds, detail) = (started.elapsed().as_secs_f64(), format!("{damaged} of them damaged"));
    println!("R23: {states} states, {detail}");
    Figure { row: "R23", counted: "states", count: states, seconds, detail, ..Figure::default() }.record();
    assert!(damaged > 0);
}

/// Of a log whose oldest segment was about to be retired the crate showed less, as it retired that at once.
#[test]
fn both_readers_agree_before_a_retirement() {
    compare(6192);
}
