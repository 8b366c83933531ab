//! Followers meet damage: told once, and what can be read behind it comes.

use std::path::{Path, PathBuf};

use casklog::fs::sim::SimFs;
use casklog::{Batch, Error, IndexOrder, Position, RecoveryMode};

use crate::common::{Seen, all, inline, puts, take, there, write};

fn segment(number: u64) -> PathBuf {
    Path::new("/log").join(format!("segment_{number:020}.log"))
}

fn flip(sim: &SimFs, position: Position) {
    let mut bytes = sim.read_file(&segment(position.segment())).unwrap();
    bytes[position.offset() as usize + 13] ^= 0x10;
    sim.write_file(&segment(position.segment()), &bytes);
}

/// Three segments of ten entries and a bit, closed; and where each entry stands.
fn filled(order: IndexOrder) -> (SimFs, Vec<Position>) {
    let sim = SimFs::new();
    let store = inline(&sim).segment_entries(10).index_order(order).open().unwrap();
    write(&store, 1..=35, 1);
    let positions = store.iter().map(|entry| entry.unwrap().position()).collect();
    store.close().unwrap();
    (sim, positions)
}

#[test]
fn a_damaged_entry_is_one_error_and_the_rest_comes() {
    for order in [IndexOrder::Any, IndexOrder::Sequential] {
        for damaged in [11, 15, 20] {
            let (sim, positions) = filled(order);
            flip(&sim, positions[damaged as usize - 1]);
            let open = || inline(&sim).segment_entries(10).index_order(order);
            let store = open().open().unwrap();
            let reader = open().open_read_only().unwrap();
            let expected = all(&[&puts(1..=damaged - 1, 1), &[Seen::Damaged], &puts(damaged + 1..=36, 1)]);
            let mut follows: Vec<_> = [&*store, &reader].iter().map(|log| log.follow(0).unwrap()).collect();
            write(&store, 36..=36, 1);
            reader.refresh().unwrap();
            for follow in &mut follows {
                assert_eq!(there(follow), expected, "{order}, entry {damaged}");
            }
            // From the damaged one, and from behind it.
            let seen = there(&mut store.follow(damaged).unwrap());
            assert_eq!(seen, all(&[&[Seen::Damaged], &puts(damaged + 1..=36, 1)]), "{order}, entry {damaged}");
            if order == IndexOrder::Sequential && damaged == 15 {
                assert_eq!(there(&mut store.follow(16).unwrap()), puts(16..=36, 1));
            }
            store.close().unwrap();
        }
    }
}

/// The footer is a cache of the records: they tell where each stands.
#[test]
fn a_damaged_footer_hides_nothing() {
    for order in [IndexOrder::Any, IndexOrder::Sequential] {
        let (sim, positions) = filled(order);
        let path = segment(2);
        let clean = sim.read_file(&path).unwrap();
        for at in (positions[19].offset() as usize + 20..clean.len()).step_by(7) {
            let mut bytes = clean.clone();
            bytes[at] ^= 0x40;
            sim.write_file(&path, &bytes);
            let store = inline(&sim).index_order(order).open().unwrap();
            let seen = there(&mut store.follow(15).unwrap());
            assert_eq!(seen, puts(15..=35, 1), "{order}, byte {at}");
        }
        // Nor does one that was damaged together with a record.
        let store = inline(&sim).index_order(order).open().unwrap();
        let mut bytes = clean.clone();
        let end = bytes.len();
        bytes[end - 60..].fill(0);
        sim.write_file(&path, &bytes);
        flip(&sim, positions[14]);
        let seen = there(&mut store.follow(15).unwrap());
        assert_eq!(seen, all(&[&[Seen::Damaged], &puts(16..=35, 1)]), "{order}");
    }
}

#[test]
fn a_segment_that_was_given_up_is_one_error() {
    let (sim, positions) = filled(IndexOrder::Any);
    flip(&sim, positions[14]);
    let mut bytes = sim.read_file(&segment(2)).unwrap();
    bytes[20] ^= 1;
    sim.write_file(&segment(2), &bytes);
    inline(&sim).unsafe_recover().unwrap();
    let store = inline(&sim).segment_entries(10).open().unwrap();
    let mut follow = store.follow(0).unwrap();
    assert_eq!(take(&mut follow, 10), puts(1..=10, 1));
    assert_eq!(there(&mut follow), all(&[&[Seen::Lost(2)], &puts(21..=35, 1)]));
    write(&store, 36..=50, 1);
    assert_eq!(there(&mut follow), puts(36..=50, 1));
    // Who asks for what was lost is told; who asks for what stands behind it is not.
    assert_eq!(there(&mut store.follow(15).unwrap()), all(&[&[Seen::Lost(2)], &puts(21..=50, 1)]));
    assert_eq!(there(&mut store.follow(21).unwrap()), puts(21..=50, 1));
    store.close().unwrap();
}

/// Damage at the durable end of a log that goes on behind it.
#[test]
fn a_salvaged_log_is_followed_across_what_was_lost() {
    let (sim, positions) = filled(IndexOrder::Any);
    flip(&sim, positions[14]);
    flip(&sim, positions[34]);
    let store = inline(&sim).segment_entries(10).recovery(RecoveryMode::Salvage).open().unwrap();
    let mut follow = store.follow(0).unwrap();
    let before = all(&[&puts(1..=14, 1), &[Seen::Damaged], &puts(16..=34, 1), &[Seen::Damaged]]);
    assert_eq!(there(&mut follow), before);
    write(&store, 100..=120, 1);
    assert_eq!(there(&mut follow), puts(100..=120, 1));
    assert_eq!(there(&mut store.follow(0).unwrap()), all(&[&before, &puts(100..=120, 1)]));
    store.close().unwrap();
}

/// A log that keeps an order begins where the index is, but not behind what may have been the entry that is asked for.
#[test]
fn following_from_what_was_lost_tells_so() {
    for order in [IndexOrder::Any, IndexOrder::Increasing, IndexOrder::Sequential] {
        let (sim, positions) = filled(order);
        flip(&sim, positions[32]);
        let open = || inline(&sim).segment_entries(10).index_order(order).recovery(RecoveryMode::Salvage);
        let store = open().open().unwrap();
        assert!(matches!(store.get(33), Err(Error::Lost { .. })));
        assert_eq!(there(&mut store.follow(33).unwrap()), all(&[&[Seen::Damaged], &puts(34..=35, 1)]), "{order}");
        store.close().unwrap();
    }
}

/// What stands before the damage within a batch is shown, as the log order does.
#[test]
fn the_rest_of_a_damaged_batch_comes() {
    for order in [IndexOrder::Any, IndexOrder::Sequential] {
        let sim = SimFs::new();
        let open = || inline(&sim).index_order(order);
        let store = open().open().unwrap();
        let mut batch = Batch::new();
        for index in 1..=6 {
            batch.put(index, "key", &1u64).unwrap();
        }
        let positions = store.write_batch(&batch).unwrap();
        store.rotate().unwrap();
        write(&store, 7..=8, 1);
        store.close().unwrap();
        flip(&sim, positions[3]);
        let store = open().open().unwrap();
        let seen = there(&mut store.follow(0).unwrap());
        let in_log_order: Vec<_> = store.log_order().map(Seen::of).collect();
        assert_eq!(in_log_order, all(&[&puts(1..=3, 1), &[Seen::Damaged], &puts(5..=8, 1)]));
        assert_eq!(seen, in_log_order, "{order}");
        store.close().unwrap();
    }
}
