//! The corpora of the fuzz targets, replayed: what a fuzzer once reached stays right. `fuzz/README.md` says how to run
//! the fuzzer itself.

#![allow(clippy::disallowed_methods, reason = "the corpora are files")]
#![allow(dead_code, unreachable_pub, reason = "the targets belong to a crate of their own")]

#[path = "../fuzz/src/lib.rs"]
mod targets;

use std::path::Path;

#[test]
fn every_input_of_every_corpus_passes() {
    for (name, run) in targets::TARGETS {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
        let mut paths: Vec<_> = dir.read_dir().unwrap().map(|file| file.unwrap().path()).collect();
        paths.sort();
        assert!(!paths.is_empty(), "{name} has no corpus");
        for path in &paths {
            let input = std::fs::read(path).unwrap();
            let outcome = std::panic::catch_unwind(|| run(&input));
            assert!(outcome.is_ok(), "{name}: {} fails", path.display());
        }
        println!("{name}: {} inputs", paths.len());
    }
}

#[test]
fn zz_debug() {
    let Some(path) = std::env::var_os("FUZZ_INPUT") else { return };
    let input = std::fs::read(path).unwrap();
    let (_, files) = targets::image::files(&input);
    for (name, bytes) in &files { println!("DBG {name} {}", bytes.len()); }
    println!("DBG reader {:?}", targets::reader::read(&files, "segment_"));
    use casklog::RecoveryMode::*;
    for recover in [false, true] {
      for mode in [Strict, TornTail, PointInTime, Salvage] {
        let fs = targets::image::disk(&files);
        let o = || casklog::Options::new("/log").fs(std::sync::Arc::new(fs.clone())).background(false).segment_bytes(1<<16).preallocate(false).mapped(false);
        if recover { println!("DBG {:?}", o().unsafe_recover()); }
        let w: Vec<_> = targets::image::files_of(&fs).iter().map(|(n, b)| (n.clone(), b.len())).collect();
        println!("DBG {w:?}");
        match o().recovery(mode).open() { Ok(s) => println!("DBG {mode:?} {:?}", s.recovery_report()), Err(e) => println!("DBG {mode:?} {e:?}") }
        println!("DBG ro {:?}", o().recovery(mode).open_read_only().map(|r| r.recovery_report().clone()));
      }
    }
}
