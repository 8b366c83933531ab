//! One shard of the cache, under the model checker loom; see `commit::models` for how.
//!
//! * What is found is what was put there, whole, with what was said of it, while others put, push out and clear.
//! * What the books say is what stands on the shelves: never more than their room, and nothing that they do not know of, which
//!   would never go.

use loom::thread;

use super::*;

const COST: u64 = BLOCK_BYTES as u64 + OVERHEAD_BYTES as u64;

/// A block that tells which it is, in its bytes and by where it is checked from.
fn block(of: u8) -> Block {
    Block { bytes: Arc::new([of; BLOCK_BYTES as usize]), checked_from: of.into() }
}

fn find(cache: &Cache, shelf: &Arc<Shelf>, of: u8) -> bool {
    let found = cache.block(shelf, of.into(), |bytes, checked_from| {
        assert!(bytes.iter().all(|byte| *byte == of), "another block");
        assert_eq!(checked_from, of.into(), "checked from elsewhere");
    });
    matches!(found, Lookup::Found(()))
}

/// Two readers, each of which loads what it does not find, and one who clears, where there is room for so many blocks.
fn load_and_clear(room: usize) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    // Made here: the threads of a model have little of a stack.
    let made = [0, 1, 2].map(block);
    builder.check(move || {
        let cache = Arc::new(Cache::new(room as u64 * COST + 10));
        let shelf = Arc::new(Shelf::new(1));
        // Loom takes nothing for ordered by the `OnceLock` that they come from.
        (1..=2).for_each(|number| _ = shelf.blocks.make(number));
        // Nobody has asked for this one, so that the other may push it out.
        cache.put_block(&shelf, 1, &made[1]);
        let readers = [[1, 2], [2, 1]].map(|blocks| {
            let (cache, shelf, made) = (cache.clone(), shelf.clone(), made.clone());
            thread::spawn(move || {
                for of in blocks {
                    if !find(&cache, &shelf, of) {
                        cache.put_block(&shelf, of.into(), &made[usize::from(of)]);
                    }
                }
            })
        });
        cache.clear();
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        let held = [1, 2].into_iter().filter(|of| find(&cache, &shelf, *of)).count();
        let stats = cache.stats();
        assert_eq!(stats.bytes, held as u64 * COST);
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
