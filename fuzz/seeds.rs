//! Writes the seeds of the corpora: real logs, small. `cargo run --bin seeds`, in this folder.

use std::fs;

use casklog::fs::sim::SimFs;
use casklog::{Batch, Checksum, Options};
use casklog_fuzz::image::{disk, files_of, segment_name, to_input};
use casklog_fuzz::reader::Files;

fn options(sim: &SimFs) -> Options {
    let options = Options::new("/log").fs(std::sync::Arc::new(sim.clone())).background(false);
    options.segment_bytes(1 << 16).preallocate(false).mapped(false)
}

/// Rotation, deletions, truncations, batches, metadata; closed or killed.
fn log(checksum: Checksum, is_closed: bool, has_keys: bool) -> Files {
    let sim = disk(&Files::new());
    let with = |sim: &SimFs| options(sim).checksum(checksum).segment_entries(4).key_index(has_keys);
    let store = with(&sim).open().expect("a new log");
    for number in 0..6_u64 {
        store.append(format!("key {}", number % 3), &number).expect("a write");
    }
    store.put_meta("vote", "n1").expect("metadata");
    store.delete(5).expect("a deletion");
    store.truncate_before(2).expect("a truncation");
    store.truncate_after(5).expect("a truncation");
    let mut batch = Batch::new();
    batch.put_bytes(6, "b", "six").put_bytes(9, "b", "nine").delete(3).put_meta("term", [7]);
    store.write_batch(&batch).expect("a batch");
    let sim = sim.killed();
    let store = with(&sim).open().expect("what was killed opens");
    store.append("k", "after").expect("a write");
    store.idle().expect("a watermark");
    if is_closed {
        store.close().expect("a close");
    }
    files_of(&sim)
}

fn write(target: &str, name: &str, bytes: &[u8]) {
    let dir = format!("corpus/{target}");
    fs::create_dir_all(&dir).expect("a folder");
    fs::write(format!("{dir}/{name}"), bytes).expect("a file");
}

fn main() {
    for (name, checksum, is_closed, has_keys) in [
        ("closed", Checksum::Crc32, true, false),
        ("killed", Checksum::Crc32, false, true),
        ("wide", Checksum::Crc64, true, true),
        ("wide_killed", Checksum::Crc64, false, false),
    ] {
        let files = log(checksum, is_closed, has_keys);
        for (target, flags) in [("f5_directory", 1), ("f5_directory", 0), ("f8_reader", 0)] {
            write(target, &format!("{name}_{flags}"), &to_input(flags, &files));
        }
        let first = &files[&segment_name(1)];
        write("f2_scan", name, &[&[1], &first[..]].concat());
        for at in [64, 150, 200] {
            write("f1_decode", &format!("{name}_{at}"), &first[at..at + 120]);
        }
        let manifest = &files["segment_manifest"];
        write("f3_manifest", name, &[&[1], &manifest[..96], &manifest[4096..][..96]].concat());
    }
    write("f3_manifest", "changed", &[3; 193]);
    write("f4_footer", "changed", &[1, 20, 0, 1, 60, 0, 2, 200, 0, 255]);
    write("f4_footer", "damaged", &[0, 20, 0, 1]);
    for target in ["f6_round_trip", "f7_stateful", "f9_options", "f10_cache"] {
        for seed in 1..9_u32 {
            let mut state = seed.wrapping_mul(0x9e37_79b9);
            let bytes = std::iter::repeat_with(|| {
                state ^= state << 13;
                state ^= state >> 17;
                state ^= state << 5;
                (state >> 8) as u8
            });
            write(target, &format!("random_{seed}"), &bytes.take(40 << (seed % 4)).collect::<Vec<_>>());
        }
    }
}
