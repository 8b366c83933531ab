//! Readers and the keeper at one segment, under the model checker loom; see `commit::models` for how.
//!
//! * No descriptor of a retired segment stays: it would keep the space of a file that was removed.
//! * A sync that failed fails for everybody who comes later, and goes to the kernel once.

use std::collections::BTreeMap;

use loom::thread;

use super::*;
use crate::format::{Checksum, Next, State};
use crate::fs::sim::{Fault, OpKind, SimFs};
use crate::fs::{Access, Fs};
use crate::options::IndexOrder;
use crate::position::Position;

/// A segment on a file system of its own, which it is written through or not.
fn segment(is_own: bool) -> (SimFs, Arc<Files>, Arc<Segment>) {
    let sim = SimFs::new();
    let path = PathBuf::from("/segment");
    let file = sim.open(&path, Access::CreateNew).unwrap();
    file.write_at(b"bytes", 0).unwrap();
    let header = Header { checksum: Checksum::default(), log_id: 1, number: 1, log_number: 1 << 16 };
    let state = State { floor: 0, retired: None, next: Next::Unset, order: IndexOrder::Any };
    let (truncations, meta) = (Vec::new(), BTreeMap::new());
    let stamp = HeadStamp { predecessor: None, durable: Position::ZERO, state, truncations, meta, time_ms: 0 };
    let files = Arc::new(Files::new(Arc::new(sim.clone()), 4));
    let segment = Segment::new(files.clone(), path, header, stamp, is_own.then_some(file));
    (sim, files, Arc::new(segment))
}

#[test]
fn no_descriptor_of_a_retired_segment_stays() {
    loom::model(|| {
        let (_, files, segment) = segment(false);
        let readers = [segment.clone(), segment.clone()].map(|segment| {
            thread::spawn(move || {
                let mut bytes = [0; 5];
                segment.file().unwrap().read_at(&mut bytes, 0).unwrap();
                assert_eq!(&bytes, b"bytes");
            })
        });
        segment.retire();
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        assert_eq!(files.open_count(), 0);
    });
}

#[test]
fn a_sync_that_failed_is_not_tried_again_by_anybody() {
    loom::model(|| {
        let (sim, _, segment) = segment(true);
        sim.inject(Fault::new(OpKind::Sync, 5));
        let other = segment.clone();
        let other = thread::spawn(move || other.sync(Extent::Footer).is_err());
        assert!(segment.sync(Extent::SoFar).is_err());
        assert!(other.join().unwrap());
        assert_eq!(sim.calls_of(OpKind::Sync), 1);
    });
}
