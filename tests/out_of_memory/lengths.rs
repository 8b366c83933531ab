//! Lengths that lie.

use std::sync::Arc;
use std::time::Instant;

use casklog::fs::sim::SimFs;
use casklog::{Batch, Checksum, Options, RecoveryMode};

use crate::allocator::peak;
use crate::figures::record;
use crate::targets::image::{disk, files, files_of, to_input};

fn options(fs: &SimFs) -> Options {
    let options = Options::new("/log").fs(Arc::new(fs.clone())).background(false).mapped(false).preallocate(false);
    options.segment_entries(6).key_index(true).cache_bytes(1 << 16)
}

/// Records of all kinds, sealed segments and one that is not.
fn log(checksum: Checksum) -> SimFs {
    let fs = SimFs::new();
    let store = options(&fs).checksum(checksum).open().unwrap();
    for number in 0..20 {
        store.append_bytes("key", [number; 20]).unwrap();
    }
    store.put_meta("name", "value").unwrap();
    store.delete(15).unwrap();
    store.truncate_after(18).unwrap();
    let mut batch = Batch::new();
    batch.put_bytes(19, "a", "b").put_bytes(20, "c", "d").put_meta("name", "other");
    store.write_batch(&batch).unwrap();
    store.close().unwrap();
    fs
}

/// All that reads.
fn read(fs: &SimFs) {
    for mode in [RecoveryMode::Salvage, RecoveryMode::Strict] {
        let Ok(reader) = options(fs).recovery(mode).open_read_only() else { continue };
        reader.iter().for_each(drop);
        reader.log_order().for_each(drop);
        let _ = reader.latest("key");
        let _ = reader.verify();
    }
    let _ = options(fs).unsafe_recover();
    if let Ok(store) = options(fs).recovery(RecoveryMode::Salvage).open() {
        store.iter().for_each(drop);
        let _ = store.append_bytes("key", "more");
        let _ = store.rotate();
        let _ = store.close();
    }
}

#[test]
fn r16_lengths_that_lie_take_no_memory() {
    let (started, mut count) = (Instant::now(), 0);
    let step = if std::env::var_os("CASKLOG_R16").is_some() { 1 } else { 17 };
    for checksum in [Checksum::Crc32, Checksum::Crc64] {
        let fs = log(checksum);
        let input = to_input(1, &files_of(&fs));
        let usual = peak(|| read(&disk(&files(&input).1)));
        // Twice as much, and a block of the list of offsets, a region, and a window that reads ahead.
        let bound = 2 * usual + (1 << 20);
        for at in (1..input.len()).step_by(step) {
            for way in [0xff, input[at] ^ 0x80, 0xc6, 0xdd] {
                let mut input = input.clone();
                input[at] = way;
                let disk = disk(&files(&input).1);
                let taken = peak(|| read(&disk));
                assert!(taken <= bound, "{checksum:?}, byte {at} is {way:02x}: {taken} bytes, usually {usual}");
                count += 1;
            }
        }
        println!("{checksum:?}: usually {usual} bytes, never over {bound}");
    }
    record("R16", "lengths that lie", count, started);
}
