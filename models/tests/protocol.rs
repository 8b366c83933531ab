//! The write, sync, crash and recover protocol, every state of it within bounds: `cargo test --release -p casklog-models`.
//!
//! Each right protocol holds in every state; each flawed one, with one step left out or moved, is shown to fail, and in
//! the way it should. With `CASKLOG_MODEL_DEEP=1` the bounds are wider.

use casklog_models::Broken;
use casklog_models::disk::{Cache, Slots};
use casklog_models::protocol::Protocol;
use stateright::{Checker, HasDiscoveries, Model};

const LOST: &str = "nothing acknowledged is lost";
const ALIEN: &str = "nothing else appears";
const FALSE_DAMAGE: &str = "a crash alone is never damage";
const SILENT: &str = "rot at or below W is reported";
const RIGHT: [&str; 4] = [LOST, ALIEN, FALSE_DAMAGE, SILENT];

fn is_deep() -> bool {
    std::env::var_os("CASKLOG_MODEL_DEEP").is_some()
}

/// Visits every state, and wants none that is wrong.
fn holds(name: &str, protocol: Protocol) {
    let start = std::time::Instant::now();
    let checker = protocol.checker().threads(2).spawn_bfs().join();
    println!(
        "{name}: {} states, {} steps deep, {:.1?}",
        checker.unique_state_count(),
        checker.max_depth(),
        start.elapsed()
    );
    if let Some((wrong, path)) = checker.discoveries().into_iter().find(|(found, _)| RIGHT.contains(found)) {
        panic!("{name}: {wrong:?} does not hold:\n{:#?}", path.into_actions());
    }
    // What never gets anywhere is never wrong.
    checker.assert_any_discovery("a tail is cut");
    checker.assert_any_discovery("the log goes on after recovery and holds");
}

/// Looks for a way in which a flawed protocol breaks one rule, and wants the right one to keep it there.
fn fails(broken: Broken, rule: &'static str, protocol: Protocol) {
    let flawed = Protocol { broken: Some(broken), ..protocol };
    let wanted = HasDiscoveries::AnyOf([rule].into());
    let checker = flawed.checker().threads(2).finish_when(wanted).spawn_bfs().join();
    let Some(path) = checker.discovery(rule) else {
        panic!("{broken:?} breaks {:?}, and not {rule:?}", checker.discoveries().keys());
    };
    println!("{broken:?}: {rule:?} fails in {} steps: {:?}", path.clone().into_actions().len(), path.into_actions());
}

/// One segment: commits, batches, a tail, a failed sync, and recovery cut in turn.
fn one_segment(cache: Cache) -> Protocol {
    Protocol { batches: true, marks: 1, crashes: 3, failures: 1, ..Protocol::new(3, cache) }
}

/// Two segments, neither of them sealed.
fn two_segments(cache: Cache) -> Protocol {
    Protocol { files: 2, crashes: 2, failures: 1, batches: is_deep(), ..Protocol::new(2 + u8::from(is_deep()), cache) }
}

/// Segments are made, sealed and retired, and the log is closed.
fn upkeep(cache: Cache) -> Protocol {
    let failures = u8::from(is_deep());
    Protocol {
        files: 2,
        prepares: true,
        seals: true,
        retires: true,
        closes: true,
        crashes: 2,
        failures,
        ..Protocol::new(2, cache)
    }
}

/// One record, header, slot or file is lost in one segment.
fn rot() -> Protocol {
    Protocol { batches: true, marks: 1, crashes: 2, rots: 1, ..Protocol::new(3, Cache::Stays) }
}

/// The same with two segments, the older of which may be sealed.
fn rot_in_two() -> Protocol {
    let crashes = 1 + u8::from(is_deep());
    Protocol { files: 2, seals: true, marks: 1, crashes, rots: 1, ..Protocol::new(2, Cache::Stays) }
}

/// A device that tears what it is writing, also the slots of the manifest.
fn torn() -> Protocol {
    let bounds = Protocol { prepares: false, retires: false, closes: false, rots: 1, ..upkeep(Cache::Stays) };
    Protocol { slots: Slots::Torn, ..bounds }
}

#[test]
fn one_segment_holds() {
    holds("one segment", one_segment(Cache::Stays));
    holds("one segment, stuck pages", one_segment(Cache::Sticks));
    holds("one segment, journaled data", one_segment(Cache::Journals));
}

#[test]
fn two_segments_hold() {
    holds("two segments", two_segments(Cache::Stays));
    holds("two segments, stuck pages", two_segments(Cache::Sticks));
    holds("two segments, journaled data", two_segments(Cache::Journals));
}

#[test]
fn upkeep_holds() {
    holds("upkeep", upkeep(Cache::Stays));
}

#[test]
fn rot_is_told_from_a_tail() {
    holds("rot", rot());
    holds("rot in two segments", rot_in_two());
}

#[test]
fn commits_that_lie_are_found() {
    fails(Broken::AcknowledgeBeforeSync, LOST, one_segment(Cache::Stays));
    fails(Broken::TailAfterSync, LOST, one_segment(Cache::Stays));
    fails(Broken::SyncYoungestOnly, FALSE_DAMAGE, two_segments(Cache::Stays));
    fails(Broken::RetrySync, LOST, one_segment(Cache::Stays));
    fails(Broken::WatermarkNamesTail, FALSE_DAMAGE, one_segment(Cache::Stays));
}

#[test]
fn upkeep_in_the_wrong_order_is_found() {
    fails(Broken::ManifestBeforeDirSync, FALSE_DAMAGE, upkeep(Cache::Stays));
    fails(Broken::ManifestBeforeSeal, FALSE_DAMAGE, upkeep(Cache::Stays));
    fails(Broken::RetireBeforeManifest, FALSE_DAMAGE, upkeep(Cache::Stays));
    fails(Broken::RetireBeforeDurable, FALSE_DAMAGE, upkeep(Cache::Stays));
    fails(Broken::RetireInOneSlot, FALSE_DAMAGE, Protocol { rots: 1, ..upkeep(Cache::Stays) });
}

#[test]
fn recovery_in_the_wrong_order_is_found() {
    fails(Broken::DropBeforeManifest, FALSE_DAMAGE, two_segments(Cache::Stays));
    fails(Broken::NoWriteBack, FALSE_DAMAGE, one_segment(Cache::Stays));
    fails(Broken::NoDrop, FALSE_DAMAGE, one_segment(Cache::Sticks));
    fails(Broken::DropBeforeReading, LOST, one_segment(Cache::Journals));
    fails(Broken::NoRestore, FALSE_DAMAGE, one_segment(Cache::Journals));
    fails(Broken::NoSlotAgain, FALSE_DAMAGE, one_segment(Cache::Journals));
    fails(Broken::ManifestBeforeWriteBack, FALSE_DAMAGE, one_segment(Cache::Stays));
    fails(Broken::NoResume, ALIEN, one_segment(Cache::Stays));
}

#[test]
fn other_rules_than_w_are_found_wrong() {
    fails(Broken::YoungerProves, FALSE_DAMAGE, two_segments(Cache::Stays));
    fails(Broken::AllTorn, SILENT, rot());
    fails(Broken::NoEvidence, SILENT, rot());
    fails(Broken::NoStampIsNew, SILENT, rot_in_two());
}

/// A process that is killed between writing a slot and syncing it leaves it to the next one, which takes it for the newest
/// and writes the other one. Where a device tears what it is writing, a power cut must not take both.
#[test]
fn torn_slots_are_never_two() {
    holds("torn slots", torn());
    fails(Broken::NoSlotSync, SILENT, torn());
}
