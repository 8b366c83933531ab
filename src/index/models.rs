//! What readers see of the index while the writer goes on, under the model checker loom; see `commit::models` for how.
//!
//! * An entry is found only when its bytes can be read, and then by everybody who comes later in the same thread.
//! * Everything before the tail can be read without the index, in a segment that the table knows; half a batch is not found.
//! * A truncation, and what is written behind it, is seen whole or not at all.
//! * Rotation takes nothing from readers.
//! * Who meets a segment that was retired finds it gone from the index when he looks again.

use std::collections::BTreeMap;
use std::path::PathBuf;

use loom::sync::atomic::AtomicBool;
use loom::thread;

use super::*;
use crate::format::{Checksum, HeadStamp, Header, Next, State};
use crate::fs::OsFs;
use crate::options::IndexOrder;
use crate::segment::{Files, Segment};

/// What is placed where the entry of an index stands.
type Bytes = [AtomicBool; 3];

/// Every order with at most three forced switches.
fn check(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

fn row(number: u32, tmp: &Arc<Tmp>) -> Row {
    let header = Header { checksum: Checksum::default(), log_id: 1, number, log_number: 1 << 16 };
    let state = State { floor: 0, retired: None, next: Next::Unset, order: IndexOrder::Any };
    let (truncations, meta) = (Vec::new(), BTreeMap::new());
    let stamp = HeadStamp { predecessor: None, durable: Position::ZERO, state, truncations, meta, time_ms: 0 };
    let files = Arc::new(Files::new(Arc::new(OsFs), 1));
    let segment = Arc::new(Segment::new(files, PathBuf::new(), header, stamp, None));
    Row { segment, indexes: Indexes::Tmp(tmp.clone()), clip: Clip::ALL, end: None }
}

/// The offset of the entry that is placed there.
const fn offset(place: usize) -> u32 {
    100 + 10 * place as u32
}

fn place(index: &Index, tmp: &Tmp, bytes: &Bytes, number: u32, (at, place): (u64, usize)) {
    bytes[place].store(true, Ordering::Relaxed);
    tmp.insert(at, offset(place));
    index.added(at..=at);
    index.publish(Position::new(number, offset(place) + 10));
}

/// Where the entry stands that readers see of an index; what they see can be read.
fn read(index: &Index, bytes: &Bytes, at: u64) -> Option<u32> {
    let found = index.find(at, |_, place, _| {
        place.map(|place| match place.spot {
            Spot::At(offset, _) => offset,
            Spot::Member(_) => unreachable!("nothing is sealed"),
        })
    });
    if let Some(found) = found {
        let place = (found as usize - 100) / 10;
        assert!(bytes[place].load(Ordering::Relaxed), "found before it can be read");
    }
    found
}

/// A log of one segment.
fn log() -> (Arc<Index>, Arc<Tmp>, Arc<Bytes>) {
    let (index, tmp) = (Arc::new(Index::new(Position::new(1, 100))), Arc::new(Tmp::default()));
    index.set_table(Table::new(vec![row(1, &tmp)], Vec::new()));
    (index, tmp, Arc::new([false; 3].map(AtomicBool::new)))
}

#[test]
fn an_entry_that_is_found_can_be_read() {
    // Consecutive, and one that is out of order.
    for second in [8, 20] {
        check(move || {
            let (index, tmp, bytes) = log();
            let reader = (index.clone(), bytes.clone());
            let reader = thread::spawn(move || {
                let second_first = read(&reader.0, &reader.1, second).is_some();
                let first = read(&reader.0, &reader.1, 7).is_some();
                assert!(first || !second_first, "an entry without the one before it");
                let is_still = read(&reader.0, &reader.1, second).is_some();
                assert!(is_still || !second_first, "an entry that went again");
            });
            place(&index, &tmp, &bytes, 1, (7, 0));
            place(&index, &tmp, &bytes, 1, (second, 1));
            assert!(read(&index, &bytes, 7).is_some() && read(&index, &bytes, second).is_some());
            reader.join().unwrap();
        });
    }
}

/// As those read who follow the log: up to the tail, without the index.
#[test]
fn everything_before_the_tail_can_be_read() {
    check(|| {
        let (index, tmp, bytes) = log();
        let reader = (index.clone(), bytes.clone());
        let reader = thread::spawn(move || {
            let (table, tail) = reader.0.now();
            let is_before = |place: usize| Position::new(1 + place as u32, offset(place)) < tail;
            assert!(table.row(tail.segment()).is_some(), "the tail is in a segment that the table does not know");
            for place in (0..2).filter(|place| is_before(*place)) {
                assert!(reader.1[place].load(Ordering::Relaxed), "before the tail, and not readable");
            }
        });
        place(&index, &tmp, &bytes, 1, (7, 0));
        let next = Arc::new(Tmp::default());
        let rows = vec![Row { end: Some(110), ..row(1, &tmp) }, row(2, &next)];
        index.set_table(Table::new(rows, Vec::new()));
        index.publish(Position::new(2, 100));
        place(&index, &next, &bytes, 2, (8, 1));
        reader.join().unwrap();
    });
}

#[test]
fn half_a_batch_is_not_found() {
    for second in [8, 20] {
        check(move || {
            let (index, tmp, bytes) = log();
            let reader = (index.clone(), bytes.clone());
            let reader = thread::spawn(move || {
                if read(&reader.0, &reader.1, 7).is_some() {
                    assert!(read(&reader.0, &reader.1, second).is_some(), "half a batch");
                }
            });
            for (at, place) in [(7, 0), (second, 1)] {
                bytes[place].store(true, Ordering::Relaxed);
                tmp.insert(at, offset(place));
            }
            index.publish(Position::new(1, offset(2)));
            reader.join().unwrap();
        });
    }
}

/// Index 7 is cut off and written again, in one batch.
#[test]
fn a_truncation_is_seen_whole_or_not_at_all() {
    check(|| {
        let (index, tmp, bytes) = log();
        place(&index, &tmp, &bytes, 1, (6, 0));
        place(&index, &tmp, &bytes, 1, (7, 1));
        let reader = (index.clone(), bytes.clone());
        let reader = thread::spawn(move || {
            let before = read(&reader.0, &reader.1, 7).expect("it is there before and after");
            let after = read(&reader.0, &reader.1, 7).expect("it is there before and after");
            assert!(before <= after, "the entry that was cut came back");
            assert!(before == offset(1) || before == offset(2), "{before}");
        });
        bytes[2].store(true, Ordering::Relaxed);
        index.take_away(|| {
            let mut clip = Clip::ALL;
            clip.truncate(Truncation::After(6));
            tmp.truncate(clip);
            tmp.insert(7, offset(2));
            index.publish(Position::new(1, offset(2) + 10));
        });
        reader.join().unwrap();
    });
}

#[test]
fn rotation_takes_nothing_from_readers() {
    check(|| {
        let (index, tmp, bytes) = log();
        place(&index, &tmp, &bytes, 1, (7, 0));
        let reader = (index.clone(), bytes.clone());
        let reader = thread::spawn(move || {
            let later = read(&reader.0, &reader.1, 8).is_some();
            assert!(read(&reader.0, &reader.1, 7).is_some(), "an entry went with the rotation");
            let snapshot = reader.0.snapshot();
            let sees = |at| snapshot.table.find_before(at, snapshot.tail).is_some();
            assert!(sees(7) && (sees(8) || !later), "a snapshot of less than was seen");
        });
        let next = Arc::new(Tmp::default());
        let rows = vec![Row { end: Some(110), ..row(1, &tmp) }, row(2, &next)];
        index.set_table(Table::new(rows, Vec::new()));
        index.publish(Position::new(2, 100));
        place(&index, &next, &bytes, 2, (8, 1));
        reader.join().unwrap();
    });
}

/// As the keeper does it: see `Contents::retire`.
#[test]
fn who_meets_a_retired_segment_finds_it_gone() {
    check(|| {
        let (index, tmp, bytes) = log();
        place(&index, &tmp, &bytes, 1, (7, 0));
        let next = Arc::new(Tmp::default());
        let (old, new) = (Row { end: Some(110), ..row(1, &tmp) }, row(2, &next));
        index.set_table(Table::new(vec![old.clone(), new.clone()], Vec::new()));
        index.publish(Position::new(2, 100));
        let reader = index.clone();
        let reader = thread::spawn(move || {
            let locate = || {
                let (table, _, found) = reader.locate(7);
                found.map(|(number, _)| table.rows()[number].segment.clone())
            };
            if let Some(segment) = locate()
                && segment.is_retired()
            {
                assert!(locate().is_none(), "a reader that looks again would never end");
            }
        });
        index.take_away(|| {
            old.segment.retire();
            index.set_table(Table::new(vec![new], Vec::new()));
            index.recount(0);
        });
        assert!(index.locate(7).2.is_none());
        reader.join().unwrap();
    });
}
