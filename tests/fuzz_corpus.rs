//! The corpora of the fuzz targets, replayed: what a fuzzer once reached stays right. `fuzz/README.md` says how to run
//! the fuzzer itself.

#![allow(clippy::disallowed_methods, reason = "the corpora are files")]
#![allow(dead_code, unreachable_pub, reason = "the targets belong to a crate of their own")]

#[path = "common/figures.rs"]
mod figures;
#[path = "../fuzz/src/lib.rs"]
mod targets;

use std::path::Path;
use std::time::Instant;

use figures::Figure;

#[test]
fn every_input_of_every_corpus_passes() {
    for (name, run) in targets::TARGETS {
        let started = Instant::now();
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
        let mut paths: Vec<_> = dir.read_dir().unwrap().map(|file| file.unwrap().path()).collect();
        paths.sort();
        assert!(!paths.is_empty(), "{name} has no corpus");
        for path in &paths {
            let input = std::fs::read(path).unwrap();
            let outcome = std::panic::catch_unwind(|| run(&input));
            assert!(outcome.is_ok(), "{name}: {} fails", path.display());
        }
        let (count, seconds) = (paths.len() as u64, started.elapsed().as_secs_f64());
        println!("{name}: {count} inputs");
        Figure { row: "F1-F10", counted: "inputs", count, seconds, ..Figure::default() }.record();
    }
}
