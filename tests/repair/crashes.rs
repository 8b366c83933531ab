//! Power cuts and I/O errors at every call of a repair and of its undoing.

use casklog::fs::sim::{Fault, OpKind, SimFs};
use casklog::{Error, RecoveryMode};

use crate::files::filled;
use crate::log::{Entries, MORE, change, copy, files, holds, on, quarantined, segment};

/// Bytes rot in one segment, one is missing, one has no header, and two stand under each other's names.
fn damaged() -> (SimFs, Entries) {
    let (sim, all) = filled();
    let [three, five] = [3, 5].map(|number| sim.read_file(&segment(number)).unwrap());
    sim.write_file(&segment(5), &three);
    sim.write_file(&segment(3), &five);
    change(&sim, &segment(1), |bytes| bytes[300] ^= 1);
    assert!(sim.remove_file(&segment(2)));
    change(&sim, &segment(4), |bytes| bytes[20] ^= 1);
    // What is there now is durable.
    (copy(&sim), all)
}

/// Completed by another run, the repair is what it would have been, and can be undone to what was there.
fn completes(
    image: &SimFs,
    all: &Entries,
    before: &std::collections::BTreeMap<std::path::PathBuf, Vec<u8>>,
    words: &str,
) {
    on(image).repair().run().unwrap_or_else(|error| panic!("{words}: {error}"));
    let undone = copy(image);
    on(&undone).repair().undo().unwrap_or_else(|error| panic!("{words}: undo: {error}"));
    let now = files(&undone);
    for (path, bytes) in before {
        assert_eq!(now.get(path), Some(bytes), "{words}: undone, {} is what it was", path.display());
    }
    let kept = quarantined(image);
    for number in [1, 4] {
        assert!(before.contains_key(&segment(number)), "{number}: {:?}", before.keys());
        assert!(kept.contains(&before[&segment(number)]), "{words}: segment {number} lies in quarantine");
    }
    let report = on(&undone).repair().dry_run(true).run().unwrap();
    let lost = holds(image, all, &report, words);
    assert_eq!(lost.len(), 9, "{words}: the missing segment's and one more: {lost:?}");
}

#[test]
fn a_power_cut_at_any_moment_leaves_the_old_or_the_new_and_another_run_completes_it() {
    let (sim, all) = damaged();
    let before = files(&sim);
    let begun = sim.ops();
    on(&sim).repair().run().unwrap();
    for op in begun..=sim.ops() {
        for image in sim.crash_images(op, 4, op as u64) {
            completes(&image, &all, &before, &format!("cut at {op}"));
        }
    }
}

#[test]
fn a_power_cut_while_it_is_undone_is_completed_by_another_run() {
    let (sim, _) = damaged();
    let before = files(&sim);
    on(&sim).repair().run().unwrap();
    let begun = sim.ops();
    on(&sim).repair().undo().unwrap();
    for op in begun..=sim.ops() {
        for image in sim.crash_images(op, 4, op as u64) {
            on(&image).repair().undo().unwrap_or_else(|error| panic!("cut at {op}: {error}"));
            let now = files(&image);
            for (path, bytes) in &before {
                assert_eq!(now.get(path), Some(bytes), "cut at {op}: {}", path.display());
            }
        }
    }
}

#[test]
fn an_error_of_any_call_is_told_and_another_run_completes_it() {
    const EIO: i32 = 5;
    const ENOSPC: i32 = 28;
    for (errno, kind) in [(EIO, OpKind::Any), (ENOSPC, OpKind::Change)] {
        for number in 1.. {
            let (sim, all) = damaged();
            let before = files(&sim);
            sim.inject(Fault::new(kind, errno).nth(number));
            let words = format!("error {errno} at call {number}");
            match on(&sim).repair().run() {
                Ok(_) if sim.faults_hit() == 0 => {
                    assert!(number > 20, "{words}: a repair makes more calls");
                    break;
                }
                // What only adds to what is known may fail.
                Ok(report) => assert_eq!(report.segments.len(), 5, "{words}: {report:?}"),
                Err(Error::Io { .. }) => {}
                Err(Error::NoSpace { .. }) if errno == ENOSPC => {}
                Err(other) => panic!("{words}: {other:?}"),
            }
            sim.clear_faults();
            completes(&sim, &all, &before, &words);
        }
    }
}

/// A run was interrupted, and then the log was salvaged and written to, or a segment came back from a copy: another run
/// must not put its replacements over what is good by now.
#[test]
fn what_is_good_after_an_interrupted_run_outlives_the_next_one() {
    let (sim, all) = filled();
    let good = sim.read_file(&segment(3)).unwrap();
    change(&sim, &segment(1), |bytes| bytes[300] ^= 1);
    change(&sim, &segment(3), |bytes| bytes[300] ^= 1);
    let sim = copy(&sim);
    let begun = sim.ops();
    on(&sim).repair().run().unwrap();
    for op in begun..=sim.ops() {
        for image in sim.crash_images(op, 4, op as u64) {
            let words = format!("cut at {op}");
            image.write_file(&segment(3), &good);
            let store = on(&image).recovery(RecoveryMode::Salvage).open();
            let store = store.unwrap_or_else(|error| panic!("{words}: {error}"));
            store.write(MORE, "more", &words).unwrap();
            store.close().unwrap();
            on(&image).repair().run().unwrap_or_else(|error| panic!("{words}: {error}"));
            let store = on(&image).recovery(RecoveryMode::Strict).open();
            let store = store.unwrap_or_else(|error| panic!("{words}: {error}"));
            let entry = store.get(MORE).unwrap_or_else(|error| panic!("{words}: {error}"));
            assert_eq!(entry.expect(&words).value::<String>().unwrap(), words);
            for (index, (value, _)) in all.iter().filter(|(_, (_, at))| at.segment() == 3) {
                let entry = store.get(*index).unwrap_or_else(|error| panic!("{words}: {index}: {error}"));
                assert_eq!(entry.expect(&words).raw_value(), value, "{words}: {index}");
            }
        }
    }
}
