//! Log numbers: a resume that is lost, and records from before a crash that show where younger bytes are lost.

use casklog::fs::sim::SimFs;

use crate::log::{Entries, change, copy, entries, on, repaired, segment};

/// Killed and opened again twice: three log numbers in one segment. Comes with where each resume stands.
fn killed_twice() -> (SimFs, Entries, Vec<usize>) {
    let (mut sim, mut resumes) = (SimFs::new(), Vec::new());
    for life in 0..3_u64 {
        let store = on(&sim).open().unwrap();
        if life > 0 {
            resumes.push(store.segments()[0].bytes as usize);
        }
        for index in 1..=5 {
            store.write(5 * life + index, "key", "a value").unwrap();
        }
        store.idle().unwrap();
        sim = sim.killed();
    }
    let store = on(&sim).open().unwrap();
    let all = entries(&store);
    store.rotate().unwrap();
    store.close().unwrap();
    (copy(&sim), all, resumes)
}

#[test]
fn records_behind_a_lost_resume_are_kept() {
    let (sim, all, resumes) = killed_twice();
    for end in &resumes {
        let damaged = copy(&sim);
        change(&damaged, &segment(1), |bytes| bytes[end - 2] ^= 1);
        let (report, lost) = repaired(&damaged, &all, &format!("the resume before {end}"));
        assert!(lost.is_empty(), "{report:?}");
    }
    // Both, and all between them.
    let damaged = copy(&sim);
    change(&damaged, &segment(1), |bytes| bytes[resumes[0] - 4..resumes[1]].fill(0));
    let (report, lost) = repaired(&damaged, &all, "two resumes");
    assert_eq!(lost, [6, 7, 8, 9, 10], "{report:?}");
}

/// What an open after a crash had cut was a good record once, at this very place.
#[test]
fn a_record_of_an_earlier_life_is_not_taken_for_one_of_this() {
    let sim = SimFs::new();
    let store = on(&sim).open().unwrap();
    (1..=3).for_each(|index| _ = store.write(index, "key", "first life").unwrap());
    let cut = copy(&sim);
    let from = store.get(3).unwrap().unwrap().position().offset() as usize;
    (4..=9).for_each(|index| _ = store.write(index, "key", "first life, never seen again").unwrap());
    let stale = sim.read_file(&segment(1)).unwrap();
    drop(store);
    let store = on(&cut).open().unwrap();
    (4..=9).for_each(|index| _ = store.write(index, "key", &format!("second life, and longer {index}")).unwrap());
    let all = entries(&store);
    for is_sealed in [false, true] {
        let sim = if is_sealed {
            store.rotate().unwrap();
            store.close().unwrap();
            copy(&cut)
        } else {
            store.idle().unwrap();
            cut.killed()
        };
        // Some of the bytes are what they were before.
        let (begin, end) = (from + 80, from + 200);
        change(&sim, &segment(1), |bytes| bytes[begin..end].copy_from_slice(&stale[begin..end]));
        let (report, lost) = repaired(&sim, &all, &format!("stale bytes, sealed: {is_sealed}"));
        assert!(!lost.is_empty() && lost.len() <= 4, "{report:?}");
        let kept: u64 = report.segments[0].kept.iter().map(|(low, high)| high - low + 1).sum();
        assert_eq!(kept + lost.len() as u64, 9, "{report:?}");
    }
}

/// The block in which the log was cut and went on is what it was before the crash: records of a batch without its end, or
/// behind a hole, that nobody had acknowledged, under the number that was in force then.
#[test]
fn what_was_cut_stays_cut_where_the_block_with_the_resume_is_lost() {
    for is_sealed in [false, true] {
        let sim = SimFs::new();
        let store = on(&sim).open().unwrap();
        (1..=3).for_each(|index| _ = store.write(index, "key", "first life").unwrap());
        let from = store.segments()[0].bytes as usize;
        let mut batch = casklog::Batch::new();
        (4..=6).for_each(|index| _ = batch.put_bytes(index, "key", [b'x'; 40]));
        store.write_batch(&batch).unwrap();
        // All of the batch but its last record.
        let torn = sim.killed();
        let end = store.get(6).unwrap().unwrap().position().offset() as usize;
        change(&torn, &segment(1), |bytes| bytes[end..].fill(0));
        let torn = copy(&torn);
        let stale = torn.read_file(&segment(1)).unwrap();
        drop(store);
        let store = on(&torn).open().unwrap();
        assert_eq!(store.len(), 3, "the batch was torn");
        for index in 4..=40 {
            store.write_bytes(index, "key", [index as u8; 60]).unwrap();
        }
        let all = entries(&store);
        if is_sealed {
            store.rotate().unwrap();
            store.close().unwrap();
        } else {
            store.idle().unwrap();
        }
        let sim = copy(&torn.killed());
        change(&sim, &segment(1), |bytes| bytes[from..end].copy_from_slice(&stale[from..end]));
        let (report, lost) = repaired(&sim, &all, &format!("the block of the resume, sealed: {is_sealed}"));
        assert!(!lost.is_empty() && lost.len() < 6, "{report:?}");
    }
}
