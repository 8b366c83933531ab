//! Readers and the keeper at one segment, under the model checker loom; see `commit::models` for how.
//!
//! * No descriptor of a retired segment stays: it would keep the space of a file that was removed.
//! * No more are open than may be, when threads are done.
//! * A sync that failed fails for everybody who comes later, and goes to the kernel once.

use std::collections::BTreeMap;

use loom::thread;

use super::*;
use crate::format::{Checksum, Next, State};
use crate::fs::sim::{Fault, OpKind, SimFs};
use crate::fs::{Access, Fs};
use crate::options::IndexOrder;
use crate::position::Position;
use crate::sync::modelled::NUMBER;

/// A segment on a file system of its own, which it is written through or not.
fn segment(is_own: bool, max_open: usize) -> (SimFs, Arc<Files>, Arc<Segment>) {
    let sim = SimFs::new();
    let path = PathBuf::from("/segment");
    let file = sim.open(&path, Access::CreateNew).unwrap();
    file.write_at(b"bytes", 0).unwrap();
    let header = Header { checksum: Checksum::default(), log_id: 1, number: 1, log_number: 1 << 16 };
    let state = State { floor: 0, retired: None, next: Next::Unset, order: IndexOrder::Any };
    let (truncations, meta) = (Vec::new(), BTreeMap::new());
    let stamp = HeadStamp { predecessor: None, durable: Position::ZERO, state, truncations, meta, time_ms: 0 };
    let files = Arc::new(Files::new(Arc::new(sim.clone()), max_open));
    let segment = Segment::new(files.clone(), path, header, stamp, is_own.then_some(file));
    (sim, files, Arc::new(segment))
}

/// Two readers with descriptors of their own.
fn read_and_retire(max_open: usize, is_retired: bool) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(move || {
        let (_, files, segment) = segment(false, max_open);
        let readers = [1, 2].map(|number| {
            let segment = segment.clone();
            thread::spawn(move || {
                NUMBER.with(|own| own.set(number));
                let mut bytes = [0; 5];
                segment.file().unwrap().read_at(&mut bytes, 0).unwrap();
                assert_eq!(&bytes, b"bytes");
            })
        });
        if is_retired {
            segment.retire();
        }
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        assert!(files.open_count() <= if is_retired { 0 } else { max_open });
    });
}

#[test]
fn no_descriptor_of_a_retired_segment_stays() {
    read_and_retire(4, true);
}

#[test]
fn no_descriptor_of_a_retired_segment_stays_where_there_is_room_for_one() {
    read_and_retire(1, true);
}

#[test]
fn no_more_are_open_than_may_be() {
    read_and_retire(1, false);
}

#[test]
fn a_sync_that_failed_is_not_tried_again_by_anybody() {
    loom::model(|| {
        let (sim, _, segment) = segment(true, 4);
        sim.inject(Fault::new(OpKind::Sync, 5));
        let other = segment.clone();
        let other = thread::spawn(move || other.sync(Extent::Footer).is_err());
        assert!(segment.sync(Extent::SoFar).is_err());
        assert!(other.join().unwrap());
        assert_eq!(sim.calls_of(OpKind::Sync), 1);
    });
}
