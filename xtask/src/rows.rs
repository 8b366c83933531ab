//! The rows of the reliability programme: what each runs, and how much of it is asked for.

/// One row, or one part of a row that has a command of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    /// As tests name it in their figures.
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    pub(crate) run: Run,
    /// What tier 1 sets to how much; tier 0 is what `cargo test` does by itself.
    pub(crate) tier1: &'static [(&'static str, u64)],
    /// What is counted: a name of figures, or `seconds`. Other figures of the row are shown, and nothing is asked of
    /// them.
    pub(crate) counted: &'static str,
    /// How many of them the programme asks for in tier 0 and in tier 1; 0 where it asks for all there are, or names no
    /// number.
    pub(crate) asked: [u64; 2],
}

/// How a row is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Run {
    /// The tests of one file of `tests` whose names contain one of these words. They record figures.
    Test(&'static str, &'static str),
    /// The model checks under loom; tier 1 only.
    Loom,
    /// Whole stores under shuttle. They record figures; tier 1 only, as they need a build of their own.
    Shuttle,
    /// The model of the protocol, every state of it; tier 1 only.
    Protocol,
    /// Bugs put into a copy of the library, one at a time: see `bugs.rs`. Tier 1 only.
    Bugs,
    /// A fuzz target, with the nightly toolchain; tier 1 only.
    Fuzz(&'static str),
}

use Run::{Bugs, Fuzz, Loom, Protocol, Shuttle, Test};

/// Seconds of each fuzz target in tier 1.
const FUZZ_SECONDS: &[(&str, u64)] = &[("-max_total_time", 600)];

const fn row(
    id: &'static str,
    title: &'static str,
    run: Run,
    tier1: &'static [(&'static str, u64)],
    (counted, asked): (&'static str, [u64; 2]),
) -> Row {
    Row { id, title, run, tier1, counted, asked }
}

const fn fuzz(id: &'static str, title: &'static str, target: &'static str) -> Row {
    row(id, title, Fuzz(target), FUZZ_SECONDS, ("seconds", [0, 600]))
}

/// All of them, in the order in which they run and are shown. After a change here, `cargo xtask page`.
#[rustfmt::skip]
pub(crate) const ROWS: &[Row] = &[
    row("R1", "power cut at every operation, simulated disk",
        Test("crash", "r1_"), &[("CASKLOG_R1", 10_000_000)], ("states", [250_000, 10_000_000])),
    row("R2", "power cut in the recovery from a power cut",
        Test("crash", "r2_"), &[("CASKLOG_R2", 1_000_000)], ("states", [20_000, 1_000_000])),
    row("R3", "every call fails, in every way, once and for ever",
        Test("crash", "r3_"), &[("CASKLOG_R3", 200_000)], ("states", [5_000, 200_000])),
    row("R4", "every sync fails, as file systems fail them",
        Test("crash", "r4_"), &[("CASKLOG_R4", 50_000)], ("states", [1_000, 50_000])),
    row("R5", "every byte changed; several bytes changed at once",
        Test("damage", "bytes::"), &[("CASKLOG_DAMAGE_ALL", 1), ("CASKLOG_DAMAGE_SEVERAL", 100_000)],
        ("damaged logs", [320_000, 1_000_000])),
    row("R5", "every two bits of headers, of a trailer, of the manifest changed",
        Test("damage", "headers::"), &[("CASKLOG_DAMAGE_ALL", 1)], ("damaged logs", [0, 1_000_000])),
    row("R5", "any byte of a log of 1 MiB changed",
        Test("damage", "large::"), &[("CASKLOG_DAMAGE_LARGE", 50_000)], ("damaged logs", [0, 0])),
    row("R6", "every sector zero, random, old, swapped, duplicated",
        Test("damage", "sectors::"), &[("CASKLOG_DAMAGE_ALL", 1)], ("damaged logs", [0, 0])),
    row("R7", "every prefix of every file; junk behind files",
        Test("damage", "files::"), &[("CASKLOG_DAMAGE_ALL", 1)], ("damaged logs", [0, 0])),
    row("R8", "files missing, doubled, moved, swapped, of another log; things that are no files",
        Test("directory", "r8_"), &[("CASKLOG_R8_ALL", 1), ("CASKLOG_R8_PAIRS", 20_000)], ("faults", [300, 0])),
    row("R9", "SIGKILL of a real process",
        Test("kill_loop", "a_killed_writer"), &[("CASKLOG_KILL_ROUNDS", 10_000)], ("kills", [50, 10_000])),
    row("R10", "SIGKILL at the n-th call; the n-th call fails",
        Test("real_faults", "strace::a_writer_killed strace::a_call_that_fails"), &[("CASKLOG_STRACE_CALLS", 40)], ("lives", [0, 1_500])),
    row("R11", "power cut of a mounted ext4, XFS",
        Test("real_faults", "cuts::a_power_cut"), &[("CASKLOG_CUT_CYCLES", 2_000)], ("cuts", [0, 4_000])),
    row("R12", "block log of ext4, XFS, replayed in part",
        Test("real_faults", "block::"), &[("CASKLOG_BLOCK_IMAGES", 1_000)], ("images", [0, 2_000])),
    row("R13", "a device that fails writes for a while",
        Test("real_faults", "device::"), &[("CASKLOG_DEVICE_ROUNDS", 100)], ("devices", [0, 400])),
    row("R15", "full disk of every size, simulated",
        Test("crash", "r15_"), &[("CASKLOG_R15", 100_000)], ("states", [16_000, 16_000])),
    row("R15", "full tmpfs, ext4, XFS; RLIMIT_FSIZE",
        Test("real_faults", "space::"), &[("CASKLOG_SPACE_STEPS", 300)], ("full disks", [0, 1_200])),
    row("R16", "no memory from any allocation on; lengths that lie",
        Test("out_of_memory", "r16_"), &[("CASKLOG_R16", 1)], ("processes out of memory", [300, 0])),
    row("R17", "processes race for one log; locks after a kill",
        Test("real_faults", "locks::"), &[("CASKLOG_LOCK_RACES", 1_000)], ("racing opens", [20, 1_000])),
    row("R18", "a clock that jumps, stands still, was wrong",
        Test("clock", "r18_"), &[("CASKLOG_R18", 20_000)], ("histories of clocks", [200, 0])),
    row("R19", "a file system goes read-only under a writer",
        Test("real_faults", "cuts::a_file_system"), &[("CASKLOG_CUT_CYCLES", 200)], ("cuts", [0, 30])),
    row("R19", "read-only mount, immutable files, another user, an overlay",
        Test("real_faults", "readonly::"), &[], ("logs", [0, 0])),
    row("R20", "every sync takes long; readers do not wait",
        Test("real_faults", "a_slow_disk"), &[("CASKLOG_GRAY_DELAY", 2_000)], ("pairs of reads", [0, 0])),
    row("R21", "random programs against a naive model",
        Test("model", "every_program"), &[("CASKLOG_MODEL_CASES", 1_000_000)], ("programs", [2_000, 1_000_000])),
    row("R22", "what threads did at once is one order; durable followers are never put right",
        Test("concurrent", "r22_"), &[("CASKLOG_R22", 5_000)], ("calls in histories", [0, 0])),
    row("R23", "a second reader, written from FORMAT.md alone, agrees",
        Test("second_reader", "both_readers"), &[("CASKLOG_READER_SEEDS", 22_000)], ("states", [25_000, 1_000_000])),
    row("R24", "golden logs of each version of the format",
        Test("golden", "r24_"), &[], ("logs of released versions", [0, 0])),
    row("R25", "bugs put into the library, each noticed by a test of tier 0",
        Bugs, &[], ("bugs noticed", [0, 25])),
    row("R29", "soak: writers, readers, retention, kills",
        Test("soak", "r29_"), &[("CASKLOG_R29", 600)], ("entries", [0, 0])),
    row("R30", "damaged logs had back by force and by salvage",
        Test("directory", "r30_"), &[("CASKLOG_R30", 1)], ("damaged logs", [0, 50_000])),
    row("loom", "commits, the index, the cache and segments in every order of steps, within bounds",
        Loom, &[], ("models", [0, 0])),
    row("shuttle", "whole stores under schedules drawn by chance, the power cut at any step",
        Shuttle, &[("CASKLOG_SHUTTLE", 10_000)], ("schedules", [0, 20_000])),
    row("stateright", "writing, syncing, crashing and recovering, and ways to get it wrong, every state within bounds",
        Protocol, &[("CASKLOG_MODEL_DEEP", 1)], ("models", [0, 0])),
    row("F1-F10", "the corpora of the fuzz targets, replayed",
        Test("fuzz_corpus", "every_input"), &[], ("inputs", [0, 0])),
    fuzz("F1", "fragments and payloads", "f1_decode"),
    fuzz("F2", "a segment, checksums made right", "f2_scan"),
    fuzz("F3", "a manifest", "f3_manifest"),
    fuzz("F4", "a footer", "f4_footer"),
    fuzz("F5", "a directory in every mode", "f5_directory"),
    fuzz("F6", "what is encoded is what is decoded", "f6_round_trip"),
    fuzz("F7", "operations, faults and crashes against a model", "f7_stateful"),
    fuzz("F8", "the crate against the second reader", "f8_reader"),
    fuzz("F9", "options", "f9_options"),
    fuzz("F10", "the cache against a map", "f10_cache"),
];

impl Row {
    /// Whether `name` is its id, or words of its title.
    pub(crate) fn is_named(&self, name: &str) -> bool {
        self.id == name || name.contains(' ') && self.title.contains(name)
    }

    /// Whether tier `tier` has this row.
    pub(crate) fn is_in(&self, tier: u8) -> bool {
        tier > 0 || matches!(self.run, Test(..))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_row_is_named_by_its_id_or_by_words_of_its_title() {
        let named = |name: &str| ROWS.iter().filter(|row| row.is_named(name)).count();
        assert_eq!((named("R5"), named("a log of 1 MiB"), named("R"), named("log"), named("")), (3, 1, 0, 0, 0));
    }

    #[test]
    fn no_two_rows_have_the_same_name() {
        for (place, row) in ROWS.iter().enumerate() {
            assert!(ROWS[..place].iter().all(|other| (other.id, other.title) != (row.id, row.title)), "{}", row.title);
        }
    }

    /// A word that matches nothing would make a row smaller, and nobody would notice.
    #[test]
    fn every_word_names_a_test() {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests");
        for row in ROWS {
            let Test(file, words) = row.run else { continue };
            for word in words.split(' ') {
                let (module, test) = word.split_once("::").unwrap_or(("", word));
                let path = match module {
                    "" => tests.join(format!("{file}.rs")),
                    module => tests.join(file).join(format!("{module}.rs")),
                };
                let is_there = |path: &Path| {
                    std::fs::read_to_string(path).is_ok_and(|text| text.contains(&format!("#[test]\nfn {test}")))
                };
                let folder = tests.join(file).read_dir().into_iter().flatten();
                let mut others = folder.map(|entry| entry.unwrap().path());
                let found = is_there(&path) || module.is_empty() && others.any(|path| is_there(&path));
                assert!(found, "{}: {file} has no test {word}", row.id);
            }
        }
    }
}
