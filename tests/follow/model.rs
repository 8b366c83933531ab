//! Whatever is done to a log: what a follower was told, put together, is the log.

use std::collections::BTreeMap;

use casklog::fs::sim::SimFs;
use casklog::{Batch, Error, Follow, IndexOrder, LogItem, Options, Reader, Store};

use crate::common::{Numbers, inline};

/// A copy of the log as a follower tells it: index and value of each live entry.
pub(crate) struct Mirror {
    pub(crate) entries: BTreeMap<u64, u64>,
    /// Deleted entries, which keep their index until a truncation takes it.
    deleted: BTreeMap<u64, u64>,
    /// Retention may have freed an index that was handed out.
    removes: bool,
    pub(crate) was_truncated: bool,
}

/// Why a follower came to nothing more.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    Waits,
    Enough,
    /// And may go on from here.
    Removed(Option<u64>),
}

impl Mirror {
    pub(crate) fn new(removes: bool) -> Self {
        Mirror { entries: BTreeMap::new(), deleted: BTreeMap::new(), removes, was_truncated: false }
    }

    /// Takes over up to `most` items.
    pub(crate) fn take(&mut self, follow: &mut Follow, most: u64, what: &str) -> Stop {
        for _ in 0..most {
            match follow.try_next() {
                Ok(None) => return Stop::Waits,
                Ok(Some(item)) => self.apply(item, what),
                Err(Error::Removed { first }) if self.removes => return Stop::Removed(first),
                Err(error) => panic!("{what}: {error}"),
            }
        }
        Stop::Enough
    }

    pub(crate) fn apply(&mut self, item: LogItem, what: &str) {
        match item {
            LogItem::Entry(entry) => {
                let value = entry.value().unwrap();
                self.deleted.retain(|index, _| !self.removes || *index != entry.index());
                let is_new = self.entries.insert(entry.index(), value).is_none() || self.removes;
                assert!(is_new && !self.deleted.contains_key(&entry.index()), "{what}: {} comes twice", entry.index());
            }
            LogItem::Deleted { index, .. } => {
                let value = self.entries.remove(&index);
                assert!(value.is_some() || self.removes, "{what}: {index} was deleted and had not come");
                self.deleted.insert(index, value.unwrap_or_default());
            }
            LogItem::Truncated { gone, .. } => {
                self.was_truncated = true;
                self.entries.retain(|index, _| !gone.contains(index));
                self.deleted.retain(|index, _| !gone.contains(index));
            }
            other => panic!("{what}: {other:?}"),
        }
    }
}

pub(crate) fn live(log: &Reader, from: u64) -> BTreeMap<u64, u64> {
    log.range(from..).map(|entry| entry.map(|entry| (entry.index(), entry.value().unwrap())).unwrap()).collect()
}

/// Does one thing to the log.
fn change(store: &Store, order: IndexOrder, numbers: &mut Numbers, value: u64) {
    let next = store.next_index().unwrap_or(1);
    let floor = store.first_index().unwrap_or(next);
    match numbers.below(40) {
        0..=19 => {
            let index = match order {
                IndexOrder::Any if numbers.below(3) == 0 => floor + numbers.below(next - floor + 40),
                IndexOrder::Increasing => next + numbers.below(3),
                _ => next,
            };
            // Taken, or below the floor: another time.
            let _ = store.write(index, "key", &value);
        }
        20..=26 => {
            let mut batch = Batch::new();
            let (mut next, last) = (next, next + numbers.below(6));
            if numbers.below(6) == 0 && next > floor + 1 {
                next -= 1 + numbers.below(3).min(next - floor - 2);
                batch.truncate_after(next - 1);
            }
            for index in next..=last.max(next) {
                batch.put(index, "key", &value).unwrap();
            }
            if numbers.below(4) == 0 && next > floor + 9 {
                batch.delete(floor + numbers.below(next - floor - 8));
            }
            store.write_batch(&batch).unwrap();
        }
        27..=30 => drop(store.delete(floor + numbers.below(next - floor + 1)).unwrap()),
        31 | 32 => {
            let after = (floor + numbers.below(next - floor + 2)).max(next.saturating_sub(25));
            let _ = store.truncate_after(after);
        }
        33 => drop(store.truncate_before(floor + numbers.below(next - floor + 3))),
        34 if numbers.below(4) == 0 => store.reset_to(numbers.below(30)).unwrap(),
        35 => store.rotate().unwrap(),
        36 | 37 => store.sync().unwrap(),
        38 => store.put_meta("key", value.to_le_bytes()).unwrap(),
        _ => {}
    }
}

fn run(seed: u64) {
    let mut numbers = Numbers(seed);
    let order = [IndexOrder::Any, IndexOrder::Increasing, IndexOrder::Sequential][numbers.below(3) as usize];
    let removes = numbers.below(3) == 0;
    let lag = [2, 10, 60][numbers.below(3) as usize];
    let sim = SimFs::new();
    let options = || -> Options {
        let options = inline(&sim).segment_entries(7).index_order(order);
        if removes { options.max_segments(4) } else { options }
    };
    // A reader that looks rarely cannot tell what truncations emptied from what retention removed.
    let looks_often = numbers.below(2) == 0;
    let what = format!("seed {seed}, {order}, removes {removes}, lag {lag}, looks often {looks_often}");
    let store = options().open().unwrap();
    store.write(1, "key", &0u64).unwrap();
    let reader = options().open_read_only().unwrap();
    let from = numbers.below(8) * numbers.below(3);
    // One beside each log that hands out everything, and one that hands out what is durable.
    let begin = |log: &Reader, durable: bool, from: u64| log.follow(from).unwrap().durable_only(durable);
    let mut followers: Vec<_> = [(&*store, false), (&*store, true), (&reader, false), (&reader, true)]
        .into_iter()
        .enumerate()
        .map(|(number, (log, durable))| {
            let mirror = Mirror::new(removes || number >= 2 && !looks_often);
            (log, durable, begin(log, durable, from), mirror, from)
        })
        .collect();
    for step in 1..=300u64 {
        change(&store, order, &mut numbers, step);
        if looks_often || numbers.below(lag) == 0 {
            reader.refresh().unwrap();
        }
        for (number, (log, durable, follow, mirror, from)) in followers.iter_mut().enumerate() {
            let what = format!("{what}, follower {number}, step {step}");
            if numbers.below(lag) != 0 {
                continue;
            }
            let most = 1 + numbers.below(lag * 2);
            let mut stop = mirror.take(follow, most, &what);
            while let Stop::Removed(first) = stop {
                *from = first.or(log.next_index()).unwrap();
                stop = match log.follow(*from) {
                    Ok(again) => {
                        (*follow, *mirror) = (again.durable_only(*durable), Mirror::new(true));
                        Stop::Enough
                    }
                    // A reader may hear of the next removal in between.
                    Err(Error::Removed { first }) if number >= 2 => Stop::Removed(first),
                    Err(error) => panic!("{what}: {error}"),
                };
            }
        }
    }
    store.sync().unwrap();
    store.idle().unwrap();
    reader.refresh().unwrap();
    for (number, (log, _, follow, mirror, from)) in followers.iter_mut().enumerate() {
        let what = format!("{what}, follower {number}");
        if matches!(mirror.take(follow, u64::MAX, &what), Stop::Removed(_)) {
            continue;
        }
        let expected = live(log, *from);
        if !mirror.removes {
            assert_eq!(mirror.entries, expected, "{what}");
        }
        assert!(
            expected.iter().all(|entry| mirror.entries.get(entry.0) == Some(entry.1)),
            "{what}: {expected:?} {:?}",
            mirror.entries
        );
    }
    store.close().unwrap();
}

#[test]
fn what_a_follower_was_told_is_the_log() {
    let rounds = std::env::var("CASKLOG_FOLLOW_ROUNDS").map_or(100, |rounds| rounds.parse().unwrap());
    let first = std::env::var("CASKLOG_FOLLOW_SEED").map_or(1, |seed| seed.parse().unwrap());
    (first..first + rounds).for_each(run);
}
