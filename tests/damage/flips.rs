//! What is told of each flipped bit, by the kind of the file. A flip of which nothing is told must be one that changes
//! nothing: only a few places may hold such a bit.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;

use crate::figures::Figure;
use crate::log::{Log, Told};

const SLOT: usize = 4096;
/// Zeros follow in a slot.
const SLOT_END: usize = 92;

/// Counts flips, of each of which it is known that no entry is wrong, and that none is gone without a report.
#[derive(Default)]
pub(crate) struct Flips(Mutex<BTreeMap<&'static str, Tally>>);

/// Of one kind of files.
#[derive(Default)]
struct Tally {
    damage: u64,
    torn: u64,
    footers: u64,
    /// By what was hit.
    nothing: BTreeMap<&'static str, u64>,
}

impl Flips {
    pub(crate) fn count(&self, log: &Log, path: &Path, at: usize, told: Told) {
        let harmless = (told == Told::Nothing).then(|| harmless(log, path, at));
        let mut kinds = self.0.lock().unwrap();
        let tally = kinds.entry(kind(log, path)).or_default();
        match told {
            Told::Damage => tally.damage += 1,
            Told::TornTail => tally.torn += 1,
            Told::Footer => tally.footers += 1,
            Told::Nothing => {}
        }
        harmless.into_iter().for_each(|place| *tally.nothing.entry(place).or_default() += 1);
    }

    pub(crate) fn record(&self, log: &Log) {
        for (kind, tally) in &*self.0.lock().unwrap() {
            let count = tally.damage + tally.torn + tally.footers + tally.nothing.values().sum::<u64>();
            let told = [("damage", tally.damage), ("a torn tail", tally.torn), ("a bad footer", tally.footers)];
            let told =
                told.iter().filter(|(_, count)| *count > 0).map(|(what, count)| format!("{count} told as {what}"));
            let harmless = tally.nothing.iter().map(|(place, count)| format!("{count} harmless, in {place}"));
            let detail = told.chain(harmless).collect::<Vec<_>>().join("; ") + "; 0 silent, 0 wrong, 0 panics";
            println!("R5 {}, bits of the {kind}: {count} flipped: {detail}", log.words);
            let what = &format!("{}, {kind}", log.words);
            Figure { row: "R5", what, counted: "bits flipped", count, detail, ..Figure::default() }.record();
        }
    }
}

fn is_manifest(path: &Path) -> bool {
    path.ends_with("segment_manifest")
}

fn kind(log: &Log, path: &Path) -> &'static str {
    match log.ends.get(path) {
        None if is_manifest(path) => "manifest",
        None => "spare segment",
        Some((_, true)) => "sealed segments",
        Some((_, false)) => "active segment",
    }
}

/// Why nothing is told of a flip there.
fn harmless(log: &Log, path: &Path, at: usize) -> &'static str {
    match is_manifest(path) {
        true if at % SLOT >= SLOT_END => "zeros behind its slots, which nobody reads",
        // A witness of no data: what it says is said by the other slot and by the segments.
        true => "one of its slots, and the other one is used",
        false => panic!("{}, {}: nothing is told of a bit of byte {at}", log.words, path.display()),
    }
}
