//! Entries by key, against a model that cannot be wrong.

use std::sync::Arc;

use casklog::fs::sim::SimFs;
use casklog::{Batch, Error, History, Options, Position, Store};
use quickcheck::{Arbitrary, Gen, QuickCheck};

/// One operation; keys and indexes are few.
#[derive(Debug, Clone)]
enum Act {
    Put(u64, u8),
    Append(u8),
    /// A truncation first, then two appends and a deletion.
    Batch(u64, u8, u8, u64),
    Delete(u64),
    Before(u64),
    After(u64),
    Reset(u64),
    Rotate,
    /// A history that is read to its end when other things have happened.
    Hold(u8, usize),
    Reopen {
        is_indexed: bool,
        is_clean: bool,
    },
}

impl Arbitrary for Act {
    fn arbitrary(g: &mut Gen) -> Self {
        let index = |g: &mut Gen| u64::from(u8::arbitrary(g) % 48);
        let key = |g: &mut Gen| u8::arbitrary(g) % 4;
        match u8::arbitrary(g) % 24 {
            0..7 => Act::Put(index(g), key(g)),
            7..12 => Act::Append(key(g)),
            12..14 => Act::Batch(index(g), key(g), key(g), index(g)),
            14..17 => Act::Delete(index(g)),
            17 => Act::Before(index(g) / 2),
            18 => Act::After(index(g)),
            19 => Act::Reset(index(g)),
            20 => Act::Rotate,
            21 | 22 => Act::Hold(key(g), usize::arbitrary(g) % 4),
            _ => Act::Reopen { is_indexed: u8::arbitrary(g) % 3 != 0, is_clean: bool::arbitrary(g) },
        }
    }
}

#[derive(Debug, Clone)]
struct Case {
    bits: u32,
    segment_entries: u64,
    max_segments: Option<u64>,
    cache_bytes: u64,
    acts: Vec<Act>,
}

impl Arbitrary for Case {
    fn arbitrary(g: &mut Gen) -> Self {
        Case {
            bits: *g.choose(&[0, 3, 64]).unwrap(),
            segment_entries: *g.choose(&[2, 5, 1000]).unwrap(),
            max_segments: *g.choose(&[None, None, Some(3)]).unwrap(),
            cache_bytes: *g.choose(&[0, 1 << 20]).unwrap(),
            acts: Vec::arbitrary(g),
        }
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        let case = self.clone();
        Box::new(self.acts.shrink().map(move |acts| Case { acts, ..case.clone() }))
    }
}

/// A live entry: index, key, value, position. They stand in the order in which they were written.
type Live = (u64, u8, u64, Position);

struct Runner {
    fs: SimFs,
    case: Case,
    store: Store,
    is_indexed: bool,
    live: Vec<Live>,
    /// Histories that are under way, what they are to show, and whether anything may have taken from them.
    held: Vec<(History, Vec<Live>, bool)>,
    writes: u64,
    /// The first segment.
    first: u64,
}

impl Runner {
    fn new(case: &Case) -> Self {
        let fs = SimFs::new();
        let (store, case) = (Self::options(&fs, case, true).open().unwrap(), case.clone());
        Runner { fs, case, store, is_indexed: true, live: Vec::new(), held: Vec::new(), writes: 0, first: 0 }
    }

    fn options(fs: &SimFs, case: &Case, is_indexed: bool) -> Options {
        let options = Options::new("log")
            .fs(Arc::new(fs.clone()))
            .background(false)
            .key_index(is_indexed)
            .key_hash_bits(case.bits)
            .cache_bytes(case.cache_bytes)
            .segment_entries(case.segment_entries);
        case.max_segments.map_or(options.clone(), |most| options.max_segments(most))
    }

    fn key(key: u8) -> Vec<u8> {
        vec![b'k'; key as usize * 3]
    }

    fn put(&mut self, index: u64, key: u8) {
        self.writes += 1;
        match self.store.write(index, Self::key(key), &self.writes) {
            Ok(position) => self.live.push((index, key, self.writes, position)),
            Err(Error::IndexExists { .. } | Error::BelowFloor { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn retain(&mut self, keep: impl Fn(u64) -> bool) {
        self.live.retain(|entry| keep(entry.0));
        self.held.iter_mut().for_each(|held| held.2 = true);
    }

    fn run(&mut self, act: &Act) {
        match *act {
            Act::Put(index, key) => self.put(index, key),
            Act::Append(key) => self.put(self.store.next_index().unwrap(), key),
            Act::Batch(after, first, second, delete) => {
                let mut batch = Batch::new();
                let next = self.store.next_index().unwrap().min(after + 1);
                batch.truncate_after(after);
                batch.put(next, Self::key(first), &(self.writes + 1)).unwrap();
                batch.put(next + 1, Self::key(second), &(self.writes + 2)).unwrap();
                batch.delete(delete);
                match self.store.write_batch(&batch) {
                    Ok(positions) => {
                        self.retain(|index| index <= after && index != delete);
                        self.live.push((next, first, self.writes + 1, positions[0]));
                        self.live.push((next + 1, second, self.writes + 2, positions[1]));
                    }
                    Err(Error::IndexExists { .. } | Error::BelowFloor { .. } | Error::BatchDeletesPut { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
                self.writes += 2;
            }
            Act::Delete(index) => {
                self.store.delete(index).unwrap();
                self.live.retain(|entry| entry.0 != index);
            }
            Act::Before(index) => {
                self.store.truncate_before(index).unwrap();
                self.retain(|other| other >= index);
            }
            Act::After(index) => match self.store.truncate_after(index) {
                Ok(()) => self.retain(|other| other <= index),
                Err(Error::BelowFloor { .. }) => {}
                Err(error) => panic!("{error}"),
            },
            Act::Reset(index) => {
                self.store.reset_to(index).unwrap();
                self.retain(|_| false);
            }
            Act::Rotate => self.store.rotate().unwrap(),
            Act::Hold(key, taken) if self.is_indexed => {
                let mut expected: Vec<Live> = self.live.iter().filter(|entry| entry.1 == key).copied().collect();
                let mut history = self.store.history(Self::key(key)).unwrap();
                for _ in 0..taken {
                    assert_eq!(show(history.next()), Ok(expected.pop()));
                }
                self.held.push((history, expected, false));
            }
            Act::Hold(..) => {}
            Act::Reopen { is_indexed, is_clean } => {
                self.end_held();
                let found = if is_clean {
                    self.store.close().unwrap();
                    self.fs.clone()
                } else {
                    self.fs.killed()
                };
                self.store = Self::options(&found, &self.case, is_indexed).open().unwrap();
                (self.fs, self.is_indexed) = (found, is_indexed);
            }
        }
        // A segment that is gone cannot be asked any more whether it held the key.
        let first = self.store.segments().first().map_or(0, |segment| segment.number);
        if first != std::mem::replace(&mut self.first, first) {
            self.retain(|_| true);
            self.live.retain(|entry| entry.3.segment() >= first);
        }
    }

    /// What was held shows what it had to, or says that something went.
    fn end_held(&mut self) {
        for (history, mut expected, may_fail) in self.held.drain(..) {
            let mut history = history.peekable();
            while let Some(item) = history.next() {
                match item {
                    Err(Error::Truncated | Error::Removed { .. }) if may_fail => {
                        assert!(history.next().is_none());
                        expected.clear();
                    }
                    item => assert_eq!(show(Some(item)), Ok(expected.pop()), "not as it was, and not said"),
                }
            }
            assert!(expected.is_empty(), "{expected:?} left out silently");
        }
    }

    fn check(&self) {
        for key in 0..5 {
            if !self.is_indexed {
                assert!(matches!(self.store.latest(Self::key(key)), Err(Error::KeyIndexOff)));
                continue;
            }
            let mut expected: Vec<Live> = self.live.iter().filter(|entry| entry.1 == key).copied().collect();
            let latest = self.store.latest(Self::key(key)).unwrap();
            assert_eq!(show(latest.map(Ok)), Ok(expected.last().copied()));
            for item in self.store.history(Self::key(key)).unwrap() {
                assert_eq!(show(Some(item)), Ok(expected.pop()));
            }
            assert!(expected.is_empty(), "{expected:?} are missing");
        }
    }
}

fn show(item: Option<casklog::Result<casklog::Entry>>) -> Result<Option<Live>, String> {
    let Some(item) = item else { return Ok(None) };
    let entry = item.map_err(|error| error.to_string())?;
    let value = entry.value::<u64>().map_err(|error| error.to_string())?;
    Ok(Some((entry.index(), (entry.key().len() / 3) as u8, value, entry.position())))
}

#[test]
fn keys_agree_with_a_list_of_the_live_entries() {
    fn agrees(case: Case) -> bool {
        let mut runner = Runner::new(&case);
        for act in &case.acts {
            runner.run(act);
            runner.check();
        }
        runner.end_held();
        true
    }
    let tests = std::env::var("CASKLOG_KEY_CASES").ok().and_then(|count| count.parse().ok()).unwrap_or(400);
    QuickCheck::new().rng(Gen::new(120)).tests(tests).quickcheck(agrees as fn(Case) -> bool);
}
