//! R24: logs as each version of the format wrote them, in the folder `v<version>` beside this file: each is read, says
//! what it said then, and is written on. What a later version writes is refused.
//!
//! The folder of a released version never changes. When the version moves, this writes the folder of the new one, and
//! nothing where it is there already:
//!
//! ```text
//! cargo test --test golden -- --ignored write_the_logs_of_this_version
//! ```

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod describe;
#[path = "../common/figures.rs"]
mod figures;
#[allow(dead_code, unreachable_pub, reason = "the targets belong to a crate of their own")]
#[path = "../../fuzz/src/lib.rs"]
mod targets;
mod write;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use casklog::format::{Checksum, FORMAT_VERSION};
use casklog::fs::sim::{Fate, SimFs};
use casklog::{Error, Options, RecoveryMode};

use describe::describe;
use figures::record;
use targets::independent::agree;

const DIR: &str = "/log";
const EXPECTED: &str = "expected.txt";

fn options(fs: &SimFs) -> Options {
    let options = Options::new(DIR).fs(Arc::new(fs.clone())).background(false).mapped(false).preallocate(false);
    options.segment_entries(6).key_index(true)
}

fn copy(fs: &SimFs) -> SimFs {
    fs.crash_at(fs.ops(), &mut |_| Fate::Kept)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn sorted(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = dir.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// A log of some version.
struct Golden {
    words: String,
    fs: SimFs,
    expected: String,
}

fn all() -> Vec<Golden> {
    let versions = sorted(&root()).into_iter().filter(|path| path.is_dir());
    versions
        .flat_map(|version| sorted(&version))
        .map(|log| {
            let fs = SimFs::new();
            for path in sorted(&log).into_iter().filter(|path| !path.ends_with(EXPECTED)) {
                fs.write_file(&Path::new(DIR).join(path.file_name().unwrap()), &std::fs::read(path).unwrap());
            }
            let expected = std::fs::read_to_string(log.join(EXPECTED)).unwrap();
            Golden { words: log.strip_prefix(root()).unwrap().display().to_string(), fs, expected }
        })
        .collect()
}

#[test]
fn r24_logs_of_every_version_read_the_same_and_are_written_on() {
    let started = Instant::now();
    let all = all();
    let own = root().join(format!("v{FORMAT_VERSION}"));
    assert!(own.is_dir(), "there are no logs of version {FORMAT_VERSION}: see the head of this file");
    for Golden { words, fs, expected } in &all {
        let reader = options(&copy(fs)).open_read_only().unwrap();
        assert_eq!(describe(&reader), *expected, "{words}: a reader");
        assert!(!reader.verify().unwrap().is_damaged(), "{words}");

        let fs = copy(fs);
        let is_torn = words.contains("torn");
        let strict = options(&copy(&fs)).recovery(RecoveryMode::Strict).open();
        assert_eq!(matches!(strict, Err(Error::TornTail { .. })), is_torn, "{words}: {strict:?}");
        let store = options(&fs).open().unwrap();
        assert_eq!(describe(&store), *expected, "{words}: a store");
        assert_eq!(store.recovery_report().torn_tail.is_some(), is_torn, "{words}");
        let next = store.next_index().unwrap();
        for number in 0..20 {
            assert_eq!(store.append("more", &number).unwrap().index, next + number, "{words}");
        }
        store.close().unwrap();
        let again = options(&fs).recovery(RecoveryMode::Strict).open().unwrap();
        assert_eq!(again.get(next + 19).unwrap().unwrap().value::<u64>().unwrap(), 19, "{words}");
        let described = describe(&again);
        assert!(
            expected.lines().filter(|line| line.starts_with("entry")).all(|line| described.contains(line)),
            "{words}"
        );
    }
    record("R24", "logs of released versions", all.len() as u64, started);
}

/// Another reader, which was written from FORMAT.md, says the same of them.
#[test]
fn a_second_reader_agrees_about_them() {
    for Golden { words, fs, .. } in all() {
        let is_damaged = agree(&fs, options).unwrap_or_else(|why| panic!("{words}: {why}"));
        assert!(!is_damaged, "{words}");
    }
}

/// Puts another version into every header, or every slot of the manifest, with a right checksum.
fn with_version(fs: &SimFs, version: u16, in_manifest: bool) -> SimFs {
    let fs = copy(fs);
    for path in fs.list_all() {
        let mut bytes = fs.read_file(&path).unwrap();
        let (covered, size) = if in_manifest { (88, 4096) } else { (60, bytes.len().max(1)) };
        if path.ends_with("segment_manifest") != in_manifest || path.extension().is_none() != in_manifest {
            continue;
        }
        for part in bytes.chunks_mut(size).filter(|part| part.starts_with(b"cask")) {
            part[8..10].copy_from_slice(&version.to_le_bytes());
            let sum = Checksum::Crc32.of(&part[..covered]) as u32;
            part[covered..covered + 4].copy_from_slice(&sum.to_le_bytes());
        }
        fs.write_file(&path, &bytes);
    }
    fs
}

#[test]
fn what_a_later_version_wrote_is_refused_by_name_and_not_touched() {
    use RecoveryMode::{PointInTime, Salvage, Strict, TornTail};
    for Golden { words, fs, .. } in all() {
        for version in [FORMAT_VERSION + 1, FORMAT_VERSION + 2, u16::MAX] {
            for in_manifest in [false, true] {
                let fs = with_version(&fs, version, in_manifest);
                let before = copy(&fs);
                let refused = |error: &Error| {
                    matches!(error, Error::Unsupported { .. }) && error.to_string().contains(&version.to_string())
                };
                for mode in [Strict, TornTail, PointInTime, Salvage] {
                    let error = options(&fs).recovery(mode).open().unwrap_err();
                    assert!(refused(&error), "{words}, {mode:?}: {error}");
                    let error = options(&fs).recovery(mode).open_read_only().unwrap_err();
                    assert!(refused(&error), "{words}, {mode:?}: {error}");
                }
                let error = options(&fs).unsafe_recover().unwrap_err();
                assert!(refused(&error), "{words}: {error}");
                fs.remove_file(Path::new("/log/segment_lock"));
                before.remove_file(Path::new("/log/segment_lock"));
                assert!(fs.same_bytes(&before), "{words}: a file was changed");
            }
        }
    }
}

#[test]
fn checksums_have_the_check_values_of_the_catalogue() {
    for (kind, value) in [(Checksum::Crc32, 0xcbf4_3926), (Checksum::Crc64, 0x995d_c9bb_df19_39fa)] {
        assert_eq!(kind.of(b"123456789"), value, "{kind:?}");
    }
}
