//! The manifest is a witness, never needed to read the log.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use casklog::fs::sim::{Fate, Fault, OpKind, SimFs};
use casklog::{Error, Options, RecoveryMode, SyncPolicy};

const MANIFEST: &str = "/log/segment_manifest";
const SLOT: usize = 4096;

fn on(sim: &SimFs) -> Options {
    Options::new("/log").fs(Arc::new(sim.clone())).background(false).segment_entries(4).sync(SyncPolicy::Immediate)
}

/// The newest slot rots, and the older one does not know the last segment yet. What the log says then must not become
/// the word of a manifest that counts that segment among the leftovers: the next open but one would remove it.
#[test]
fn a_segment_that_an_older_slot_does_not_know_stays() {
    let sim = SimFs::new();
    let store = on(&sim).open().unwrap();
    for index in 1..=9 {
        store.write(index, "k", &index).unwrap();
    }
    let mut tried = 0;
    for op in 0..=sim.ops() {
        let image = sim.crash_at(op, &mut |_| Fate::Kept);
        let bytes = image.read_file(Path::new(MANIFEST));
        let Some(mut bytes) = bytes.filter(|bytes| bytes.len() == 2 * SLOT) else { continue };
        let generation =
            |slot: usize| u64::from_le_bytes(bytes[slot * SLOT + 16..slot * SLOT + 24].try_into().unwrap());
        let newest = usize::from(generation(1) > generation(0));
        if generation(1 - newest) == 0 {
            continue;
        }
        tried += 1;
        bytes[newest * SLOT + 30] ^= 1;
        image.write_file(Path::new(MANIFEST), &bytes);
        let mut before = 0;
        for round in 0..4 {
            let store = on(&image).open().unwrap();
            assert!(store.len() >= before, "op {op}, round {round}: {} of {before}", store.len());
            store.append("k", &0).unwrap();
            before = store.len();
            store.close().unwrap();
        }
    }
    assert!(tried > 10, "{tried}");
    store.close().unwrap();
}

/// Recovery makes durable what it read, and the manifest says so, where that is a new one, too: what is bad afterwards
/// is no torn tail.
#[test]
fn what_was_read_without_a_manifest_is_known_to_be_durable() {
    let sim = SimFs::new();
    let store = on(&sim).sync(SyncPolicy::None).open().unwrap();
    for index in 1..=3 {
        store.write(index, "k", &index).unwrap();
    }
    let last = store.write(4, "k", &4).unwrap().offset() as usize;
    let image = sim.killed();
    assert!(image.remove_file(Path::new(MANIFEST)));
    let store = on(&image).sync(SyncPolicy::None).open().unwrap();
    assert!(store.recovery_report().is_manifest_lost && store.len() == 4);
    let image = image.killed();
    let path = Path::new("/log/segment_00000000000000000001.log");
    let mut bytes = image.read_file(path).unwrap();
    bytes[last..].fill(0);
    image.write_file(path, &bytes);
    let found = on(&image).open();
    assert!(matches!(found, Err(Error::Damaged { .. })), "{found:?}");
    store.close().unwrap();
}

/// The manifest knows which files were there: one that is gone, or whose header rots, is missed, also where the log
/// before it ends above all that says what was durable. Otherwise acknowledged entries would go without a word.
#[test]
fn a_file_that_was_there_is_missed() {
    let sim = SimFs::new();
    let store = on(&sim).open().unwrap();
    for index in 1..=9 {
        store.write(index, "k", &index).unwrap();
    }
    let mut missed = 0;
    for op in 0..=sim.ops() {
        let image = sim.crash_at(op, &mut |_| Fate::Kept);
        let Ok(held) = on(&image.killed()).create(false).open().map(|store| store.len()) else { continue };
        for path in image.list_all().into_iter().filter(|path| path.extension().is_some_and(|end| end == "log")) {
            for is_gone in [true, false] {
                let image = image.killed();
                if is_gone {
                    image.remove_file(&path);
                } else {
                    let mut bytes = image.read_file(&path).unwrap();
                    let Some(byte) = bytes.get_mut(20) else { continue };
                    *byte ^= 1;
                    image.write_file(&path, &bytes);
                }
                match on(&image).open() {
                    Ok(store) => assert_eq!(store.len(), held, "op {op}: {path:?}, {is_gone}"),
                    Err(Error::Damaged { .. } | Error::Missing { .. }) => {
                        missed += 1;
                        let salvaged = on(&image).recovery(RecoveryMode::Salvage).open().unwrap();
                        let appended = salvaged.append("k", &0).unwrap();
                        salvaged.close().unwrap();
                        on(&image).unsafe_recover().unwrap();
                        let again = on(&image).recovery(RecoveryMode::Strict).open().unwrap();
                        let entry = again.get(appended.index).unwrap();
                        assert!(entry.is_some(), "op {op}: {path:?}, {is_gone}");
                    }
                    Err(other) => panic!("op {op}: {path:?}: {other}"),
                }
            }
        }
    }
    assert!(missed > 100, "{missed}");
    store.close().unwrap();
}

/// A spare that cannot be used after all: another is made, and it goes without being missed.
#[test]
fn a_spare_that_is_given_up_is_not_missed() {
    let sim = SimFs::new();
    let spare = Path::new("/log/segment_00000000000000000004.log");
    let store = on(&sim).background(true).open().unwrap();
    for index in 1..12 {
        store.write(index, "k", &index).unwrap();
    }
    // The thread in the background makes it ready.
    let begun = Instant::now();
    while sim.read_file(spare).is_none_or(|bytes| bytes.len() < 64) && begun.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(1));
    }
    store.close().unwrap();
    let store = on(&sim).open().unwrap();
    let opened = sim.ops();
    sim.inject(Fault::new(OpKind::Open, 24).on("00000000000000000004.log").sticky());
    for index in 12..14 {
        store.write(index, "k", &index).unwrap();
    }
    assert!(sim.faults_hit() > 0 && sim.read_file(spare).is_none(), "it was given up");
    sim.clear_faults();
    for op in opened..=sim.ops() {
        let image = sim.crash_at(op, &mut |_| Fate::Kept);
        assert!(on(&image).open().unwrap().len() >= 11, "op {op}");
        // Either slot of the manifest may have to do.
        for slot in 0..2 {
            let image = sim.crash_at(op, &mut |_| Fate::Kept);
            let mut bytes = image.read_file(Path::new(MANIFEST)).unwrap();
            bytes[slot * SLOT + 30] ^= 1;
            image.write_file(Path::new(MANIFEST), &bytes);
            assert!(on(&image).open().unwrap().len() >= 11, "op {op}, without slot {slot}");
        }
    }
    store.close().unwrap();
}

/// The sync of a rotated segment was told by a watermark in the next one; then the power went, before the manifest's slot
/// and the head stamp of the next segment were on the disk, and the file of the older one was lost. No head stamp was left,
/// so that the log counted as a new one and the rest was removed, although the watermark says what was acknowledged.
#[test]
fn a_log_of_which_only_a_watermark_is_left_is_not_a_new_one() {
    let sim = SimFs::new();
    let store = on(&sim).segment_entries(2).sync(SyncPolicy::None).mapped(false).open().unwrap();
    for index in 1..=4 {
        store.write(index, "k", &index).unwrap();
    }
    let image = sim.killed();
    store.close().unwrap();
    let [first, second] = [1, 2].map(|number| format!("/log/segment_{number:020}.log"));
    let mut manifest = image.read_file(Path::new(MANIFEST)).unwrap();
    for slot in manifest.chunks_mut(SLOT).filter(|slot| slot[72..88] != [0; 16]) {
        slot.fill(0);
    }
    image.write_file(Path::new(MANIFEST), &manifest);
    let mut bytes = image.read_file(Path::new(&second)).unwrap();
    bytes[64..72].fill(0xa5);
    image.write_file(Path::new(&second), &bytes);
    image.remove_file(Path::new(&first));
    let found = on(&image).open();
    assert!(matches!(found, Err(Error::Missing { .. })), "{:?}", found.map(|store| store.len()));
    assert!(image.read_file(Path::new(&second)).is_some_and(|left| left == bytes), "a failed open changes nothing");
}

/// Salvage goes on without a segment that cannot be used, and never takes it off the disk: what is left in it is for others
/// to read.
#[test]
fn what_salvage_goes_on_without_stays_on_the_disk() {
    let sim = SimFs::new();
    let store = on(&sim).open().unwrap();
    for index in 1..=9 {
        store.write(index, "k", &index).unwrap();
    }
    let held = sim.killed();
    store.close().unwrap();
    for path in held.list_all().into_iter().filter(|path| path.extension().is_some_and(|end| end == "log")) {
        let image = held.killed();
        let mut bytes = image.read_file(&path).unwrap();
        bytes[20] ^= 1;
        image.write_file(&path, &bytes);
        for round in 0..3 {
            let salvaged = on(&image).recovery(RecoveryMode::Salvage).open().unwrap();
            if round == 1 {
                salvaged.append("k", &0).unwrap();
            }
            salvaged.close().unwrap();
            let is_there = |left: std::path::PathBuf| image.read_file(&left).is_some_and(|left| left == bytes);
            assert!(image.list_all().into_iter().any(is_there), "{path:?} is gone after open {round}");
        }
    }
}

/// Nor is a file forgotten that is gone; `tests/salvage.rs` has more of the last one.
#[test]
fn what_salvage_goes_on_without_stays_missed() {
    let sim = SimFs::new();
    let store = on(&sim).open().unwrap();
    for index in 1..=9 {
        store.write(index, "k", &index).unwrap();
    }
    let held = sim.killed();
    store.close().unwrap();
    for path in held.list_all().into_iter().filter(|path| path.extension().is_some_and(|end| end == "log")) {
        let image = held.killed();
        image.remove_file(&path);
        for round in 0..3 {
            let salvaged = on(&image).recovery(RecoveryMode::Salvage).open().unwrap();
            if round == 1 {
                salvaged.append("k", &0).unwrap();
            }
            salvaged.close().unwrap();
            let strict = on(&image.killed()).recovery(RecoveryMode::Strict).open();
            assert!(
                strict.is_err_and(|e| matches!(e, Error::Missing { .. })),
                "{path:?} is forgotten after open {round}"
            );
        }
    }
}
