//! Which of too many power cuts to try.

use std::collections::HashSet;

use super::crash::{Cut, Unit};
use super::disk::Node;
use super::fate::{Change, Fate};

/// Different fates for the units of `cut`, at most `limit`, the same for the same `seed`. The two first are all lost and
/// all kept.
pub(super) fn sample(cut: &Cut, limit: usize, seed: u64) -> Vec<Box<[Fate]>> {
    let (random, seen) = (Random(seed), HashSet::new());
    let mut sampler = Sampler { cut, units: &cut.units, limit, random, seen, plans: Vec::new() };
    sampler.add(|_| Fate::Lost);
    sampler.add(|_| Fate::Kept);
    if cut.may_spoil() {
        for spoiled in [Fate::Garbage, Fate::Stale] {
            sampler.add(|unit| if unit.fresh { spoiled } else { Fate::Kept });
        }
    }
    sampler.add_structured();
    sampler.add_random();
    sampler.plans
}

/// Chooses among more subsets than can be tried: the ones that find bugs first, then chance.
struct Sampler<'a> {
    cut: &'a Cut,
    units: &'a [Unit],
    limit: usize,
    random: Random,
    seen: HashSet<Box<[Fate]>>,
    plans: Vec<Box<[Fate]>>,
}

impl Sampler<'_> {
    fn add(&mut self, fate: impl FnMut(&Unit) -> Fate) {
        if self.plans.len() < self.limit {
            let mut plan: Box<[Fate]> = self.units.iter().map(fate).collect();
            self.cut.make_lawful(&mut plan);
            if self.seen.insert(plan.clone()) {
                self.plans.push(plan);
            }
        }
    }

    /// One operation or file lost or kept alone, prefixes, one operation torn between two sectors. Where there are too
    /// many of these, chance picks, and leaves half of the images to chance alone.
    fn add_structured(&mut self) {
        let mut shapes = Vec::new();
        let mut targets: Vec<Node> = self.units.iter().map(|unit| unit.target).collect();
        targets.sort_unstable();
        targets.dedup();
        shapes.extend(targets.into_iter().flat_map(|target| [Shape::TargetLost(target), Shape::TargetKept(target)]));
        for (number, unit) in self.units.iter().enumerate() {
            let begins_op = number == 0 || self.units[number - 1].pending != unit.pending;
            if begins_op {
                shapes.extend([Shape::OpLost(unit.pending), Shape::OpKept(unit.pending)]);
                shapes.push(Shape::Prefix(number));
            } else {
                shapes.extend([Shape::Prefix(number), Shape::Torn(number), Shape::Hole(number)]);
            }
            if self.cut.may_tear() && matches!(unit.public.change, Change::Data { .. }) {
                shapes.extend([Shape::TornBlock(number), Shape::TornBlockLast(number)]);
            }
        }
        let room = self.limit.saturating_sub(self.plans.len());
        if shapes.len() > room / 2 {
            self.random.shuffle(&mut shapes);
            shapes.truncate(room / 2);
        }
        let units = self.units;
        for shape in shapes {
            let mut number = 0;
            self.add(|unit| {
                number += 1;
                shape.fate(units, number - 1, unit)
            });
        }
    }

    fn add_random(&mut self) {
        let mut attempts = self.limit * 16;
        while self.plans.len() < self.limit && attempts > 0 {
            attempts -= 1;
            let salt = self.random.next();
            let eighths = [1, 4, 7][self.random.below(3)];
            let spoils = self.random.below(4) == 0;
            let grain = self.random.below(3);
            let target = self.units[self.random.below(self.units.len())].target;
            let others = Fate::from(self.random.below(2) == 0);
            let mut number = 0;
            self.add(|unit| {
                number += 1;
                let piece = match (grain, &unit.public.change) {
                    // Whole operations.
                    (0, _) => unit.pending as u64,
                    // Pages of one file.
                    (1, _) if unit.target != target => return others,
                    (1, Change::Data { at, .. }) => at / 4096,
                    // Sectors.
                    _ => number,
                };
                let chance = Random(salt ^ piece.wrapping_mul(0x9E37_79B9_7F4A_7C15)).next();
                match Fate::from(chance % 8 < eighths) {
                    Fate::Lost if spoils && unit.fresh && chance >> 32 & 1 == 1 => {
                        if chance >> 33 & 1 == 1 {
                            Fate::Garbage
                        } else {
                            Fate::Stale
                        }
                    }
                    fate => fate,
                }
            });
        }
    }
}

/// A pattern of loss. Numbers are those of units, but for `OpLost` and `OpKept`.
#[derive(Clone, Copy)]
enum Shape {
    TargetLost(Node),
    TargetKept(Node),
    OpLost(usize),
    OpKept(usize),
    /// All before the unit is kept, nothing from it on.
    Prefix(usize),
    /// Of its operation, only what stands before the unit is kept; all other operations are.
    Torn(usize),
    /// Only the unit is lost.
    Hole(usize),
    /// The block of the unit is torn, all others are kept.
    TornBlock(usize),
    /// The block of the unit is torn, all before it is kept and nothing behind it.
    TornBlockLast(usize),
}

impl Shape {
    fn fate(self, units: &[Unit], number: usize, unit: &Unit) -> Fate {
        match self {
            Shape::TornBlock(torn) | Shape::TornBlockLast(torn) if number == torn => Fate::Torn,
            _ => Fate::from(self.keeps(units, number, unit)),
        }
    }

    fn keeps(self, units: &[Unit], number: usize, unit: &Unit) -> bool {
        match self {
            Shape::TornBlock(_) => true,
            Shape::TornBlockLast(torn) => number < torn,
            Shape::TargetLost(target) => unit.target != target,
            Shape::TargetKept(target) => unit.target == target,
            Shape::OpLost(op) => unit.pending != op,
            Shape::OpKept(op) => unit.pending == op,
            Shape::Prefix(end) => number < end,
            Shape::Torn(end) => number < end || units[end].pending != unit.pending,
            Shape::Hole(lost) => number != lost,
        }
    }
}

/// SplitMix64: the same numbers for the same seed, on every platform.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}
