//! R8: every fault alone, and pairs, in every recovery mode, beside a writer, and for repair.

use std::path::PathBuf;
use std::time::Instant;

use casklog::RecoveryMode;
use casklog::fs::sim::SimFs;

use crate::by_force::{append, recovers};
use crate::faults::{Fault, of_files, of_strangers};
use crate::figures::{number, record};
use crate::logs::{Kind, Logs, each, file, files, segment};
use crate::mended::repairs;
use crate::support::damage::{MODES, copy};

/// Whether the faults took what alone could say that something is gone: without a manifest nobody knows where the log
/// began, and only its last segment where it ended. Of a young log nothing else says how far that one had come.
fn is_undecidable(logs: &Logs, faults: &[&Fault]) -> bool {
    let hurts = |path: PathBuf| faults.iter().any(|fault| fault.hurts(&path));
    let replaces = faults.len() > 1 && faults.iter().any(|fault| fault.replaces);
    let is_rolled_back = |fault: &&Fault| fault.words.contains("an older copy") && fault.hurts(&segment(logs.last));
    let is_young = logs.kind == Kind::Young && faults.iter().any(is_rolled_back);
    replaces || is_young || hurts(file("segment_manifest")) && (hurts(segment(1)) || hurts(segment(logs.last)))
}

/// Whether the faults took two segments at the end: the second one alone names the first.
fn is_end_lost(logs: &Logs, faults: &[&Fault]) -> bool {
    (logs.last - 1..=logs.last).all(|number| faults.iter().any(|fault| fault.hurts(&segment(number))))
}

fn hurt(logs: &Logs, faults: &[&Fault]) -> (SimFs, String) {
    let fs = copy(&logs.log.fs);
    faults.iter().for_each(|fault| fault.apply(&fs));
    let words: Vec<_> = faults.iter().map(|fault| fault.words.as_str()).collect();
    (fs, format!("{}: {}", logs.words, words.join(", ")))
}

fn case(logs: &Logs, faults: &[&Fault]) {
    let (fs, words) = hurt(logs, faults);
    let undecidable = is_undecidable(logs, faults);
    if !undecidable {
        logs.log.examine_all(&fs, false, &words);
    }
    beside(logs, &fs, &words);
    for mode in MODES {
        keeps(logs, &fs, mode, &format!("{words}, {mode:?}"));
    }
    let blocks = faults.iter().any(|fault| fault.blocks);
    let is_another = faults.iter().any(|fault| fault.replaces);
    recovers(logs, &fs, &words, (!is_another).then_some(undecidable || is_end_lost(logs, faults)), blocks);
    repairs(logs, &fs, &words, None, blocks);
}

/// A reader shows nothing that is wrong, and changes nothing.
fn beside(logs: &Logs, fs: &SimFs, words: &str) {
    let fs = copy(fs);
    let before = copy(&fs);
    if let Ok(reader) = logs.log.setup.options(&fs).open_read_only() {
        for entry in reader.iter().flatten() {
            let items = [&logs.log.model.items, &logs.log.former].into_iter();
            let mut items = items.filter_map(|items| items.get(&entry.index()));
            let is_right = items.any(|item| entry.bytes().is_ok_and(|bytes| bytes == item.value));
            assert!(is_right || words.contains(" of a"), "{words}: a reader shows {}", entry.index());
        }
        reader.verify().unwrap();
    }
    assert!(fs.same_bytes(&before), "{words}: a reader changed a file");
}

/// Whatever is opened and written to, no records of any segment and no foreign file are taken from the disk.
fn keeps(logs: &Logs, fs: &SimFs, mode: RecoveryMode, words: &str) {
    let fs = copy(fs);
    let before = copy(&fs);
    let Ok(store) = logs.log.open(&fs, mode) else { return };
    if store.writable().is_ok() {
        (0..5).for_each(|_| append(&store, words));
    }
    store.close().unwrap();
    drop(store);
    logs.lose_nothing(&before, &fs, words);
    // What was written is there the next time, and nothing else is different.
    let (now, again) = (files(&fs), logs.log.open(&fs, mode).unwrap_or_else(|error| panic!("{words}: {error:?}")));
    again.close().unwrap();
    let report = again.recovery_report();
    // With all numbers used up nothing takes the place of a spare that is none.
    let is_used_up = words.contains("4294967295");
    assert!(files(&fs) == now || report.is_damaged() || is_used_up, "{words}: the second open wrote: {report:?}");
}

pub(crate) fn takes_all() -> bool {
    std::env::var_os("CASKLOG_R8_ALL").is_some()
}

#[test]
fn r8_no_fault_of_a_directory_goes_unnoticed_or_costs_a_file() {
    let (started, mut count) = (Instant::now(), 0);
    for kind in Kind::ALL {
        let logs = Logs::new(kind);
        let mut all = of_files(&logs);
        if kind == Kind::Killed || takes_all() {
            all.extend(of_strangers(&logs));
        }
        each(&all, |fault| case(&logs, &[fault]));
        count += all.len() as u64;
    }
    assert!(count >= 300, "{count}");
    record("R8", "faults", count, started);
}

#[test]
fn r8_pairs_of_faults() {
    let started = Instant::now();
    let wanted = number("CASKLOG_R8_PAIRS", 600) / 3;
    let mut count = 0;
    for kind in Kind::ALL {
        let logs = Logs::new(kind);
        let mut all = of_files(&logs);
        // Which is made anew, and says nothing.
        all.retain(|fault| !fault.words.starts_with("segment_lock"));
        let pairs = (all.len() * all.len()) as u64;
        let step = (pairs / wanted.max(1)).max(1) | 1;
        let chosen: Vec<u64> = (0..pairs).step_by(step as usize).collect();
        each(&chosen, |pair| {
            let (a, b) = (*pair as usize / all.len(), *pair as usize % all.len());
            case(&logs, &[&all[a], &all[b]]);
        });
        count += chosen.len() as u64;
    }
    record("R8", "pairs of faults", count, started);
}
