//! One shard of the cache, under the model checker loom; see `commit::models` for how.
//!
//! * What is found is what was put there, whole.
//! * What the cache says that it holds is what it holds, whoever puts and clears meanwhile: never more than its room.

use std::sync::Arc;

use loom::thread;

use super::*;

const BLOCK: usize = 1000;

fn block(of: u8) -> Block {
    Block::whole(vec![of; BLOCK].into())
}

fn find(cache: &Cache, of: u8) -> bool {
    match cache.get(Key::new(1, of.into()), BLOCK) {
        Lookup::Found(found) => {
            assert!(found.bytes.iter().all(|byte| *byte == of), "another block");
            true
        }
        Lookup::Wanted | Lookup::Absent => false,
    }
}

/// Two readers, each of which loads what it does not find, and one who clears, where there is room for so many blocks.
fn load_and_clear(room: usize) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(move || {
        let cache = Arc::new(Cache::new((room * (BLOCK + OVERHEAD_BYTES)) as u64 + 10));
        let readers = [[1, 2], [2, 1]].map(|blocks| {
            let cache = cache.clone();
            thread::spawn(move || {
                for of in blocks {
                    if !find(&cache, of) {
                        cache.put(Key::new(1, of.into()), block(of));
                    }
                }
            })
        });
        cache.clear();
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        let held = [1, 2].into_iter().filter(|of| find(&cache, *of)).count();
        let stats = cache.stats();
        assert_eq!(stats.bytes, (held * (BLOCK + OVERHEAD_BYTES)) as u64);
        assert!(held <= room, "{held} blocks");
        assert_eq!(stats.hits + stats.misses, 4 + 2);
    });
}

#[test]
fn readers_that_load_the_same_blocks_and_one_who_clears() {
    load_and_clear(2);
}

#[test]
fn readers_that_push_out_each_others_blocks_and_one_who_clears() {
    load_and_clear(1);
}
