//! Draws programs, and makes those that fail shorter.

use std::ops::Bound;

use casklog::{Checksum, IndexOrder, ReadMode};
use quickcheck::{Arbitrary, Gen};

use crate::op::{Case, Exit, KEYS, META_KEYS, Member, Op, Spot};
use crate::setup::{PLAIN, Policy, Setup};

/// A number below `end`, each as likely.
fn below(g: &mut Gen, end: u64) -> u64 {
    let numbers: Vec<u64> = (0..end.max(1)).collect();
    *g.choose(&numbers).expect("there is one")
}

fn pick<T: Clone>(g: &mut Gen, values: &[T]) -> T {
    g.choose(values).expect("there is one").clone()
}

fn percent(g: &mut Gen, chance: u64) -> bool {
    below(g, 100) < chance
}

impl Arbitrary for Setup {
    fn arbitrary(g: &mut Gen) -> Self {
        let policy = pick(g, &[Policy::Immediate, Policy::Grouped, Policy::Unsynced]);
        Setup {
            order: pick(g, &[IndexOrder::Any, IndexOrder::Any, IndexOrder::Increasing, IndexOrder::Sequential]),
            first_index: pick(g, &[None, None, None, Some(0), Some(1), Some(10)]),
            policy,
            mapped: policy == Policy::Unsynced && bool::arbitrary(g),
            segment_bytes: 1 << (12 + below(g, 7)),
            segment_entries: percent(g, 60).then(|| 1 + below(g, 20)),
            max_segments: pick(g, &[None, None, Some(3), Some(5)]),
            checksum: pick(g, &[Checksum::Crc32, Checksum::Crc64]),
            preallocate: percent(g, 75),
            sync_align: pick(g, &[0, 0, 0, 512, 4096]),
            max_open_files: 1 + below(g, 4) as usize,
            cache_bytes: [0, 8 << 10, 100 << 10, 1 << 20][below(g, 4) as usize],
            read_mode: if below(g, 4) == 0 { ReadMode::Mapped } else { ReadMode::Positioned },
            key_index: bool::arbitrary(g),
            key_hash_bits: pick(g, &[64, 64, 2, 0]),
        }
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        Box::new(self.plainer().into_iter())
    }
}

/// What the steps of one program have in common.
struct Draw {
    order: IndexOrder,
    /// Whether indexes around 2^32 and 2^64 are drawn: behind the highest there is no next one.
    is_wide: bool,
}

impl Draw {
    fn spot(&mut self, g: &mut Gen) -> Spot {
        let way = below(g, 100);
        // The ends of the shares of indexes that are low, of those ahead and of those behind.
        let (low, ahead, behind) = if self.order == IndexOrder::Any { (60, 80, 92) } else { (6, 91, 99) };
        match way {
            _ if way < low => self.low(g),
            _ if way < ahead => self.ahead(g),
            _ if way < behind => self.behind(g),
            _ => self.far(g),
        }
    }

    fn low(&mut self, g: &mut Gen) -> Spot {
        Spot::At(below(g, 40))
    }

    fn ahead(&mut self, g: &mut Gen) -> Spot {
        let gap = if self.order == IndexOrder::Sequential { 10 } else { 40 };
        Spot::Ahead(if percent(g, gap) { below(g, 6) } else { 0 })
    }

    fn behind(&mut self, g: &mut Gen) -> Spot {
        let reach = pick(g, &[3, 12, 40]);
        Spot::Behind(below(g, reach))
    }

    fn far(&mut self, g: &mut Gen) -> Spot {
        let near = below(g, 6);
        let spots =
            [Spot::At(u64::MAX - near), Spot::At((1 << 32) - 3 + near), Spot::At(u64::from(u32::MAX) * 7 + near)];
        if self.is_wide { pick(g, &spots) } else { self.low(g) }
    }

    /// An index to delete, read or truncate at: rather one that is there.
    fn old(&mut self, g: &mut Gen) -> Spot {
        if percent(g, 60) { self.behind(g) } else { self.spot(g) }
    }

    fn bytes(g: &mut Gen) -> u32 {
        let size = match below(g, 100) {
            0..15 => 0,
            15..50 => below(g, 20),
            50..90 => 90 + below(g, 30),
            90..95 => 2000 + below(g, 4000),
            95..98 => (32 << 10) - 40 + below(g, 80),
            _ => (100 << 10) + below(g, 50),
        };
        size as u32
    }

    fn key(g: &mut Gen) -> u8 {
        below(g, KEYS.len() as u64) as u8
    }

    fn meta(&mut self, g: &mut Gen) -> Member {
        let key = below(g, META_KEYS.len() as u64) as u8;
        if percent(g, 30) { Member::Unset(key) } else { Member::Set(key, pick(g, &[0, 3, 50, 5000, 30_000, 40_000])) }
    }

    /// Mostly one that leaves much, so that logs grow.
    fn truncation(&mut self, g: &mut Gen) -> Member {
        match below(g, 100) {
            0..35 if self.order == IndexOrder::Any => Member::Before(Spot::At(below(g, 12))),
            0..35 => Member::Before(Spot::Behind(below(g, 40))),
            35..45 => Member::Before(self.old(g)),
            45..85 => Member::After(Spot::Behind(below(g, 5))),
            85..96 => Member::After(self.old(g)),
            _ => Member::Reset(self.old(g)),
        }
    }

    fn put(&mut self, g: &mut Gen) -> Member {
        Member::Put(self.spot(g), Self::key(g), Self::bytes(g))
    }

    /// Consecutive indexes, now and then with one left out or in another order.
    fn run(&mut self, g: &mut Gen) -> Vec<Member> {
        let base = if self.order == IndexOrder::Any && percent(g, 50) { Some(below(g, 40)) } else { None };
        let mut steps: Vec<u64> = (0..1 + below(g, 9)).collect();
        if percent(g, 15) {
            let place = below(g, steps.len() as u64) as usize;
            steps.remove(place);
        }
        if percent(g, 30) {
            steps.reverse();
        }
        let spot = |step| base.map_or(Spot::Ahead(step), |base| Spot::At(base + step));
        steps.into_iter().map(|step| Member::Put(spot(step), Self::key(g), Self::bytes(g) % 9000)).collect()
    }

    fn batch(&mut self, g: &mut Gen) -> Op {
        let mut members = if percent(g, 70) { self.run(g) } else { Vec::new() };
        for _ in 0..below(g, 5) {
            let place = below(g, members.len() as u64 + 1) as usize;
            let member = match below(g, 100) {
                0..30 => self.put(g),
                30..70 => Member::Delete(self.old(g)),
                70..78 => self.truncation(g),
                _ => self.meta(g),
            };
            members.insert(place, member);
        }
        Op::Batch(members)
    }

    fn bound(&mut self, g: &mut Gen) -> Bound<Spot> {
        let spot = self.old(g);
        pick(g, &[Bound::Unbounded, Bound::Included(spot), Bound::Included(spot), Bound::Excluded(spot)])
    }

    fn exit(g: &mut Gen) -> Exit {
        let seed = u16::arbitrary(g).into();
        pick(g, &[Exit::Close, Exit::CloseStrict, Exit::Drop, Exit::Kill, Exit::PowerCut(seed), Exit::PowerCut(seed)])
    }

    /// One step, or several writes of consecutive indexes.
    fn ops(&mut self, g: &mut Gen) -> Vec<Op> {
        let op = match below(g, 100) {
            0..14 => return self.run(g).into_iter().map(Op::One).collect(),
            14..30 => Op::One(self.put(g)),
            30..37 => Op::Append(Self::key(g), Self::bytes(g)),
            37..52 => self.batch(g),
            52..62 => Op::One(Member::Delete(self.old(g))),
            62..67 => Op::One(self.truncation(g)),
            67..71 => Op::One(self.meta(g)),
            71..75 => Op::Rotate,
            75..76 => Op::Sync,
            76..77 => Op::Idle,
            77..83 => Op::Reopen(Self::exit(g)),
            83..85 => Op::Get(self.old(g)),
            85..88 => Op::Read(below(g, 1000) as u16),
            88..92 => Op::Range(self.bound(g), self.bound(g), u8::arbitrary(g)),
            92..95 => Op::Hold(self.bound(g), self.bound(g), below(g, 4) as u8, below(g, 4) as u8),
            95..97 => Op::HoldLog(below(g, 6) as u8),
            97..98 => Op::Look,
            _ => Op::Drain,
        };
        vec![op]
    }
}

impl Arbitrary for Case {
    fn arbitrary(g: &mut Gen) -> Self {
        let setup = Setup::arbitrary(g);
        let mut draw = Draw { order: setup.order, is_wide: percent(g, 30) };
        let steps = below(g, g.size() as u64);
        Case { setup, ops: (0..steps).flat_map(|_| draw.ops(g)).collect() }
    }

    /// Fewer steps first, then plainer ones, then plainer options.
    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        let (setup, ops) = (self.setup.clone(), self.ops.clone());
        let shorter = self.ops.shrink().map(move |ops| Case { setup: setup.clone(), ops });
        Box::new(shorter.chain(self.setup.shrink().map(move |setup| Case { setup, ops: ops.clone() })))
    }
}

impl Arbitrary for Op {
    /// Steps are drawn in company: see [`Case`].
    fn arbitrary(g: &mut Gen) -> Self {
        Op::One(Draw { order: PLAIN.order, is_wide: false }.put(g))
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        let plainer: Vec<Op> = match self {
            Op::One(member) => return Box::new(member.shrink().map(Op::One)),
            Op::Batch(members) => {
                let one = if let [member] = &members[..] { vec![Op::One(member.clone())] } else { Vec::new() };
                return Box::new(one.into_iter().chain(members.shrink().map(Op::Batch)));
            }
            Op::Append(key, bytes) => {
                let members = Member::Put(Spot::Ahead(0), *key, *bytes).shrink();
                members
                    .map(|member| {
                        if let Member::Put(Spot::Ahead(0), key, bytes) = member {
                            Op::Append(key, bytes)
                        } else {
                            Op::One(member)
                        }
                    })
                    .collect()
            }
            Op::Reopen(Exit::Close) => Vec::new(),
            Op::Reopen(_) => vec![Op::Reopen(Exit::Close)],
            Op::Range(from, to, turns) if *turns != 0 => vec![Op::Range(*from, *to, 0)],
            Op::Hold(from, to, front, back) if front + back != 0 => vec![Op::Hold(*from, *to, 0, 0)],
            Op::HoldLog(taken) if *taken != 0 => vec![Op::HoldLog(0)],
            _ => Vec::new(),
        };
        Box::new(plainer.into_iter())
    }
}

impl Arbitrary for Member {
    fn arbitrary(g: &mut Gen) -> Self {
        Draw { order: PLAIN.order, is_wide: false }.put(g)
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        let spots = |spot: &Spot| spot.shrink();
        match self {
            Member::Put(spot, key, bytes) => {
                let (at, key, bytes) = (*spot, *key, *bytes);
                let smaller = [0, 100, 5000].into_iter().filter(move |size| *size < bytes);
                let smaller = smaller.map(move |bytes| Member::Put(at, key, bytes));
                let keys = (key != 0).then_some(Member::Put(at, 0, bytes));
                Box::new(smaller.chain(keys).chain(spots(spot).map(move |spot| Member::Put(spot, key, bytes))))
            }
            Member::Delete(spot) => Box::new(spots(spot).map(Member::Delete)),
            Member::Before(spot) => Box::new(spots(spot).map(Member::Before)),
            Member::After(spot) => Box::new(spots(spot).map(Member::After)),
            Member::Reset(spot) => Box::new(spots(spot).map(Member::Reset)),
            Member::Set(key, bytes) if *bytes != 0 => Box::new(std::iter::once(Member::Set(*key, 0))),
            Member::Set(..) | Member::Unset(_) => quickcheck::empty_shrinker(),
        }
    }
}

impl Arbitrary for Spot {
    fn arbitrary(g: &mut Gen) -> Self {
        Spot::At(below(g, 40))
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Self>> {
        match *self {
            Spot::At(index) => Box::new(index.shrink().map(Spot::At)),
            Spot::Ahead(above) => Box::new(above.shrink().map(Spot::Ahead)),
            Spot::Behind(below) => Box::new(below.shrink().map(Spot::Behind)),
        }
    }
}
