//! A reader that refreshes shows what the writer does, whatever the writer did: a long random story on a simulated disk,
//! told to readers that look now and then and to one that follows.

use std::collections::BTreeMap;
use std::path::Path;

use casklog::fs::sim::SimFs;
use casklog::fs::{Access, Fs};
use casklog::{Batch, Error, Follow, IndexOrder, LogItem, Position, Reader, Store, SyncPolicy};

use crate::common::*;

/// What a follower has been told and not been told to forget.
struct Follower {
    follow: Follow,
    from: u64,
    durable_only: bool,
    known: BTreeMap<u64, (Position, Vec<u8>)>,
}

impl Follower {
    fn new(reader: &Reader, durable_only: bool) -> Option<Self> {
        let from = reader.first_index().unwrap_or(0);
        let follow = reader.follow(from).ok()?.durable_only(durable_only);
        Some(Follower { follow, from, durable_only, known: BTreeMap::new() })
    }

    /// Takes what is there; false when retention has overtaken it.
    fn catch_up(&mut self, store: &Store) -> bool {
        let first = store.segments().first().map_or(0, |segment| segment.number);
        loop {
            match self.follow.try_next() {
                Ok(None) => return true,
                Ok(Some(LogItem::Entry(entry))) => {
                    let new = (entry.position(), entry.raw_value().to_vec());
                    let before = self.known.insert(entry.index(), new.clone());
                    // Retention frees indexes.
                    let is_twice = before.filter(|(position, _)| position.segment() >= first);
                    assert_eq!(is_twice, None, "index {} came twice, now {new:?}", entry.index());
                }
                Ok(Some(LogItem::Truncated { gone, .. })) => self.known.retain(|index, _| !gone.contains(index)),
                Ok(Some(_)) => {}
                Err(Error::Removed { .. }) => return false,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// All that is live was told, and all that was told is live, deleted, or went with its segment.
    fn assert_knows(&self, store: &Store, durable: Position) {
        let entries = store.iter().map(|entry| entry.unwrap());
        let live: BTreeMap<u64, (Position, Vec<u8>)> = entries
            .filter(|entry| entry.index() >= self.from)
            .map(|entry| (entry.index(), (entry.position(), entry.raw_value().to_vec())))
            .collect();
        for (index, entry) in live.iter().filter(|(_, (position, _))| !self.durable_only || *position < durable) {
            assert_eq!(self.known.get(index), Some(entry), "index {index}");
        }
        let first = store.segments().first().map_or(0, |segment| segment.number);
        for (index, (position, _)) in &self.known {
            let is_explained = live.contains_key(index) || position.segment() < first;
            let is_deleted = || store.read(*position).is_ok_and(|entry| entry.is_none()) && !store.contains(*index);
            assert!(is_explained || is_deleted(), "index {index} at {position} was never taken back");
        }
    }
}

/// A writer, its deaths and its successors.
struct Story {
    fs: SimFs,
    numbers: Numbers,
    order: IndexOrder,
    max_segments: Option<u64>,
    store: Option<Store>,
    /// Ends of writes, where the log can be cut.
    ends: Vec<Position>,
    generation: u64,
}

impl Story {
    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn open(&mut self) {
        let policies = [SyncPolicy::None, SyncPolicy::None, SyncPolicy::Immediate];
        let mut options = sim(&self.fs)
            .index_order(self.order)
            .sync(policies[self.numbers.below(3) as usize])
            .mapped(self.numbers.percent(50))
            .segment_bytes(3000 + self.numbers.below(6000));
        if let Some(max) = self.max_segments {
            options = options.max_segments(max);
        }
        let store = options.open().unwrap();
        assert!(!store.recovery_report().is_damaged(), "{:?}", store.recovery_report());
        self.store = Some(store);
    }

    fn step(&mut self) {
        self.generation += 1;
        let numbers = &mut self.numbers;
        let value = format!("{} {}", self.generation, "v".repeat(numbers.below(300) as usize));
        let what = numbers.below(100);
        if what < 4 {
            self.live_again();
        } else {
            self.write(what, &value);
        }
        self.ends.push(self.store().stats().tail);
    }

    /// One call. A refused one changes nothing, which is as good as any.
    fn write(&mut self, what: u64, value: &str) {
        let Story { numbers, store: Some(store), order, generation, .. } = self else { return };
        let (first, last) = (store.first_index().unwrap_or(0), store.last_index().unwrap_or(0));
        let next = store.next_index().unwrap();
        let _ = match what {
            0..60 => store.append("key", value).map(drop),
            60..66 => store.write(next + numbers.below(4), "key", value).map(drop),
            66..70 => store.write(next.saturating_sub(3), "key", value).map(drop),
            70..78 => {
                let mut batch = Batch::new();
                for index in next..next + numbers.below(9) {
                    batch.put(index, "key", value).unwrap();
                }
                batch.put_meta("batch", generation.to_le_bytes());
                if *order == IndexOrder::Any {
                    batch.delete(last);
                }
                store.write_batch(&batch).map(drop)
            }
            78..85 => store.delete(first + numbers.below(last - first.min(last) + 1)).map(drop),
            85..87 => store.put_meta("meta", value),
            87..89 => store.truncate_before(first + numbers.below((last - first.min(last)) / 3 + 2)),
            89..91 => store.truncate_after(last.saturating_sub(numbers.below(20))),
            91 => store.reset_to(last + numbers.below(5)),
            92..95 => store.sync(),
            95..98 => store.rotate(),
            _ => store.idle(),
        };
    }

    /// The writer ends in one way or another, and another one takes the log over.
    fn live_again(&mut self) {
        let (tail, durable) = (self.store().stats().tail, self.store().stats().durable);
        let way = self.numbers.below(4);
        if way == 0 {
            self.store().close().unwrap();
        }
        self.store = None;
        let number = tail.segment();
        let path = sim_segment(number);
        if way == 2 && number != 0 {
            // Killed in the middle of a write.
            let piece = vec![0x5a; self.numbers.below(200) as usize];
            write_at(&self.fs, &path, tail.offset(), &piece);
        } else if way == 3 && number != 0 {
            // The kernel has lost what was never synced, as after a sync that failed. All of it behind the header, where
            // not even the head stamp was durable.
            let here = |end: &&Position| end.segment() == number && **end >= durable;
            let mut cuts: Vec<u64> = self.ends.iter().filter(here).map(|end| end.offset()).collect();
            cuts.extend((durable.segment() < number).then_some(64));
            let cut = cuts.get(self.numbers.below(cuts.len().max(1) as u64) as usize);
            let bytes = self.fs.read_file(&path).unwrap();
            // A footer was synced.
            let is_sealed = bytes[tail.offset() as usize..].iter().any(|byte| *byte != 0);
            if let Some(cut) = cut.filter(|_| !is_sealed) {
                write_at(&self.fs, &path, *cut, &vec![0; bytes.len() - *cut as usize]);
            }
        }
        self.ends.clear();
        self.open();
    }
}

/// Changes the file in place: who has it open sees it.
fn write_at(fs: &SimFs, path: &Path, at: u64, bytes: &[u8]) {
    fs.open(path, Access::Write).unwrap().write_at(bytes, at).unwrap();
}

fn tell(seed: u64, steps: u32) {
    let mut numbers = Numbers(seed);
    let order = [IndexOrder::Any, IndexOrder::Increasing, IndexOrder::Sequential][numbers.below(3) as usize];
    let max_segments = numbers.percent(50).then(|| 1 + numbers.below(5));
    let mut story =
        Story { fs: SimFs::new(), numbers, order, max_segments, store: None, ends: Vec::new(), generation: 0 };
    story.open();
    story.store().append("key", "first").unwrap();
    let [reader, rare] = [(), ()].map(|()| sim(&story.fs).open_read_only().unwrap());
    let mut followers: Vec<Follower> = Vec::new();
    for step in 0..steps {
        story.step();
        if story.numbers.percent(30) {
            reader.refresh().unwrap();
            assert_same(&reader, story.store());
            // In any order an index may be free again that retention took, and who opens the log anew knows less of it.
            if story.order != IndexOrder::Any {
                assert_same_beginning(&reader, story.store());
            }
        }
        if story.numbers.percent(3) {
            rare.refresh().unwrap();
            assert_same(&rare, story.store());
            assert_same(&sim(&story.fs).open_read_only().unwrap(), story.store());
            assert_eq!(reader.verify().unwrap().damage, []);
        }
        if step % 50 == 0 {
            followers.extend([false, true].into_iter().filter_map(|durable| Follower::new(&reader, durable)));
        }
        followers.retain_mut(|follower| follower.catch_up(story.store()));
        if story.numbers.percent(5) {
            story.store().sync().unwrap();
            // Bears the watermark.
            story.store().append("key", "after a sync").unwrap();
            reader.refresh().unwrap();
            followers.retain_mut(|follower| follower.catch_up(story.store()));
            let durable = reader.stats().durable;
            followers.iter().for_each(|follower| follower.assert_knows(story.store(), durable));
        }
    }
}

#[test]
fn readers_and_followers_agree_with_writers_that_come_and_go() {
    let number = |name| std::env::var(name).ok().and_then(|text: String| text.parse::<u64>().ok());
    let seeds = match number("CASKLOG_MIRROR_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("CASKLOG_MIRROR_SEEDS").unwrap_or(40),
    };
    for seed in seeds {
        println!("CASKLOG_MIRROR_SEED={seed}");
        tell(seed, 400);
    }
}
