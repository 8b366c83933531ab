//! F10: reads in any order, with any budget of the cache, against a map.

use arbitrary::{Arbitrary, Unstructured};
use casklog::fs::sim::SimFs;
use casklog::{Checksum, Options, ReadMode, Store};

use super::common::{Entries, options};

#[derive(Debug, Arbitrary)]
enum Op {
    Put { index: u8, key: u8, length: u16 },
    Delete(u8),
    Get(u8),
    GetInto(u8),
    Range(u8, u8),
    Backwards(u8, u8),
    LogOrder,
    Latest(u8),
    History(u8),
    Rotate,
    Before(u8),
    Reopen,
}

#[derive(Debug, Arbitrary)]
struct Setup {
    cache: u32,
    is_mapped: bool,
    is_wide: bool,
    has_keys: bool,
    key_bits: u8,
    open_files: u8,
    segment: u16,
}

impl Setup {
    fn options(&self, fs: &SimFs) -> Options {
        options(fs)
            .cache_bytes(u64::from(self.cache) >> (self.cache % 24))
            .read_mode(if self.is_mapped { ReadMode::Mapped } else { ReadMode::Positioned })
            .checksum(if self.is_wide { Checksum::Crc64 } else { Checksum::Crc32 })
            .key_index(self.has_keys)
            .key_hash_bits(u32::from(self.key_bits) % 65)
            .max_open_files(usize::from(self.open_files) % 4 + 1)
            .segment_bytes(u64::from(self.segment) * 4 + 200)
    }
}

/// In the order of the log: index, key.
type Order = Vec<(u64, Vec<u8>)>;

pub fn run(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let Ok(setup) = Setup::arbitrary(&mut u) else { return };
    let fs = SimFs::new();
    let mut store = setup.options(&fs).open().expect("a new log");
    let (mut entries, mut order, mut floor) = (Entries::new(), Order::new(), 0);
    let mut taken = std::collections::BTreeSet::new();
    for _ in 0..200 {
        let Ok(op) = Op::arbitrary(&mut u) else { break };
        if u.is_empty() {
            break;
        }
        match op {
            Op::Put { index, key, length } => {
                let (index, key) = (u64::from(index), vec![key % 8]);
                let value = vec![index as u8; usize::from(length) >> (length % 12)];
                match store.write_bytes(index, &key, &value) {
                    Ok(_) => {
                        assert!(taken.insert(index) && index >= floor, "{index} was taken");
                        entries.insert(index, (key.clone(), value));
                        order.push((index, key));
                    }
                    Err(error) => assert!(index < floor || taken.contains(&index), "{index}: {error:?}"),
                }
            }
            Op::Delete(index) => {
                let was = store.delete(index.into()).unwrap_or_else(|error| panic!("{error:?}"));
                assert_eq!(was, entries.remove(&index.into()).is_some());
            }
            Op::Rotate => store.rotate().expect("a rotation"),
            Op::Before(index) => {
                store.truncate_before(index.into()).expect("a truncation");
                floor = floor.max(index.into());
                entries.retain(|at, _| *at >= floor);
                order.retain(|(at, _)| *at >= floor);
                taken.retain(|at| *at >= floor);
            }
            Op::Reopen => {
                store.close().expect("a close");
                drop(store);
                store = setup.options(&fs).open().expect("what was closed opens");
            }
            read => check(&store, &read, &entries, &order, setup.has_keys),
        }
    }
    check(&store, &Op::Range(0, 255), &entries, &order, setup.has_keys);
    assert!(store.stats().cache_bytes <= u64::from(setup.cache) >> (setup.cache % 24), "over the budget");
}

fn check(store: &Store, op: &Op, entries: &Entries, order: &Order, has_keys: bool) {
    let newest = |key: &[u8]| {
        let of_key = order.iter().rev().filter(|(index, of)| of == key && entries.contains_key(index));
        of_key.map(|(index, _)| *index).collect::<Vec<_>>()
    };
    let right = |entry: &casklog::Entry| {
        let (key, value) = &entries[&entry.index()];
        assert!(entry.key() == key && entry.bytes().is_ok_and(|bytes| bytes == value), "{op:?}: {}", entry.index());
        entry.index()
    };
    match *op {
        Op::Get(index) => {
            let found = store.get(index.into()).expect("a read");
            assert_eq!(found.as_ref().map(right).is_some(), entries.contains_key(&index.into()), "{op:?}");
        }
        Op::GetInto(index) => {
            let mut buffer = Vec::new();
            let found = store.get_into(index.into(), &mut buffer).expect("a read");
            let found = found.map(|entry| entry.bytes().expect("bytes").to_vec());
            assert_eq!(found, entries.get(&index.into()).map(|(_, value)| value.clone()));
        }
        Op::Range(from, to) | Op::Backwards(from, to) => {
            let (from, to) = (u64::from(from.min(to)), u64::from(from.max(to)));
            let range = store.range(from..=to);
            let expected = entries.range(from..=to).map(|(index, _)| *index);
            if matches!(op, Op::Range(..)) {
                assert!(range.map(|entry| right(&entry.expect("a read"))).eq(expected), "{op:?}");
            } else {
                assert!(range.rev().map(|entry| right(&entry.expect("a read"))).eq(expected.rev()), "{op:?}");
            }
        }
        Op::LogOrder => {
            let mut shown = Vec::new();
            for item in store.log_order() {
                if let casklog::LogItem::Entry(entry) = item.expect("a read") {
                    shown.push(entry.index());
                }
            }
            assert!(shown.iter().eq(order.iter().map(|(index, _)| index)), "log_order: {shown:?}");
        }
        Op::Latest(key) if has_keys => {
            let found = store.latest([key % 8]).expect("a read");
            assert_eq!(found.as_ref().map(right), newest(&[key % 8]).first().copied(), "{op:?}");
        }
        Op::History(key) if has_keys => {
            let found = store.history([key % 8]).expect("a read").map(|entry| right(&entry.expect("a read")));
            assert!(found.eq(newest(&[key % 8])), "{op:?}");
        }
        _ => {}
    }
}
