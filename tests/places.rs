//! Where a log ends and where it is bad, told to the byte.

use std::path::Path;
use std::sync::Arc;

use casklog::fs::sim::SimFs;
use casklog::{Batch, Checksum, Error, Options, SyncPolicy};

fn on(sim: &SimFs) -> Options {
    Options::new("/log").fs(Arc::new(sim.clone())).background(false)
}

/// Fewer bytes than a header takes are left of a block: what begins behind them begins in the next one, and a log that
/// ends there was not torn.
#[test]
fn a_log_that_ends_right_before_the_end_of_a_block_is_not_torn() {
    let mut near = 0;
    for length in 32_600..32_720 {
        for checksum in [Checksum::Crc32, Checksum::Crc64] {
            let sim = SimFs::new();
            let open = |sim: &SimFs| on(sim).checksum(checksum).sync(SyncPolicy::None).open().unwrap();
            let store = open(&sim);
            store.write_bytes(1, "k", vec![7; length]).unwrap();
            let rest = 32_768 - store.stats().tail.offset() % 32_768;
            near += u32::from(rest < 11);
            let again = open(&sim.killed());
            let report = again.recovery_report();
            assert!(report.torn_tail.is_none() && again.len() == 1, "{rest} left: {report:?}");
            again.write(2, "k", &2).unwrap();
            drop(again);
        }
    }
    assert!(near > 15, "{near}");
}

/// Where it is bad, and why, and not where the batch begins that is bad in its midst.
#[test]
fn the_place_of_damage_is_that_of_the_bad_record() {
    let sim = SimFs::new();
    let store = on(&sim).open().unwrap();
    let mut batch = Batch::new();
    for index in 1..=3 {
        batch.put(index, "k", &index).unwrap();
    }
    let positions = store.write_batch(&batch).unwrap();
    store.close().unwrap();
    let at = positions[1].offset();
    let path = Path::new("/log/segment_00000000000000000001.log");
    let mut bytes = sim.read_file(path).unwrap();
    bytes[at as usize + 12] ^= 1;
    sim.write_file(path, &bytes);
    match on(&sim).open() {
        Err(Error::Damaged { at: said, reason, .. }) => assert_eq!((said, &reason[..]), (at, "bad checksum")),
        other => panic!("{other:?}"),
    }
}
