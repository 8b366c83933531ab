//! The manifest is a witness, never needed to read the log.

use std::path::Path;
use std::sync::Arc;

use casklog::fs::sim::{Fate, SimFs};
use casklog::{Options, SyncPolicy};

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
