//! One kind of call, many times: to be counted under callgrind, or profiled.
//!
//! ```text
//! cargo build --release --example instructions
//! for count in 20000 120000; do
//!     valgrind --tool=callgrind --callgrind-out-file=$count.out target/release/examples/instructions append $count
//! done
//! callgrind_annotate 120000.out
//! ```
//!
//! What 120,000 calls take more than 20,000, divided by 100,000, is one call without what is done once. The kinds are
//! `append`, `batch` (of a hundred), `get` (all in the cache) and `scan`; keys have 16 bytes, values 128.

use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use casklog::{Batch, Options, Store, SyncPolicy};

const KEY: [u8; 16] = [3; 16];
const VALUE: [u8; 128] = [7; 128];
/// What gets and scans read: 9 MB in two segments.
const ENTRIES: u64 = 60_000;

fn append(store: &Store, count: u64) -> casklog::Result<()> {
    (0..count).try_for_each(|_| store.append_bytes(KEY, VALUE).map(drop))
}

fn batch(store: &Store, count: u64) -> casklog::Result<()> {
    let (mut batch, mut next) = (Batch::new(), 1);
    while next <= count {
        batch.clear();
        for index in next..next + 100 {
            batch.put_bytes(index, KEY, VALUE);
        }
        store.write_batch(&batch)?;
        next += 100;
    }
    Ok(())
}

fn get(store: &Store, count: u64) -> casklog::Result<()> {
    let (mut buffer, mut index) = (Vec::new(), 0);
    for _ in 0..count {
        // In no order that anything could follow, and each one once.
        index = (index + 25_841) % ENTRIES;
        black_box(store.get_into(index + 1, &mut buffer)?);
    }
    Ok(())
}

fn scan(store: &Store, count: u64) -> casklog::Result<()> {
    let mut entries = store.iter();
    for _ in 0..count {
        match entries.next_ref() {
            Some(entry) => _ = black_box(entry?.bytes()?),
            None => entries = store.iter(),
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kind, count] = &arguments[..] else { return Err("usage: instructions append|batch|get|scan COUNT".into()) };
    let count: u64 = count.parse()?;
    let dir = tempfile::tempdir()?;
    let options = Options::new(dir.path()).sync(SyncPolicy::None);
    let reads = matches!(&**kind, "get" | "scan");
    let options = if reads { options.segment_bytes(8 << 20) } else { options };
    let mut store = options.clone().open()?;
    if reads {
        append(&store, ENTRIES)?;
        store.close()?;
        store = options.open()?;
        // Until all is in the cache.
        (0..10).try_for_each(|_| get(&store, ENTRIES))?;
    }
    let begun = Instant::now();
    match &**kind {
        "append" => append(&store, count)?,
        "batch" => batch(&store, count)?,
        "get" => get(&store, count)?,
        "scan" => scan(&store, count)?,
        _ => return Err(format!("{kind} is none of append, batch, get and scan").into()),
    }
    println!("{count} in {:?}", begun.elapsed());
    store.close()?;
    Ok(())
}
