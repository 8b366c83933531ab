//! Which of too many power cuts to try.

use std::collections::HashSet;

use super::crash::{Change, Fate, Unit};
use super::disk::Node;

/// Different fates for `units`, at most `limit`, the same for the same `seed`. The two first are all lost and all kept.
pub(super) fn sample(units: &[Unit], limit: usize, seed: u64) -> Vec<Box<[Fate]>> {
    let mut sampler = Sampler { units, limit, random: Random(seed), seen: HashSet::new(), plans: Vec::new() };
    sampler.add(|_| Fate::Lost);
    sampler.add(|_| Fate::Kept);
    if units.iter().any(|unit| unit.fresh) {
        sampler.add(|unit| if unit.fresh { Fate::Garbage } else { Fate::Kept });
    }
    sampler.add_structured();
    sampler.add_random();
    sampler.plans
}

/// Chooses among more subsets than can be tried: the ones that find bugs first, then chance.
struct Sampler<'a> {
    units: &'a [Unit],
    limit: usize,
    random: Random,
    seen: HashSet<Box<[Fate]>>,
    plans: Vec<Box<[Fate]>>,
}

impl Sampler<'_> {
    fn add(&mut self, fate: impl FnMut(&Unit) -> Fate) {
        if self.plans.len() < self.limit {
            let plan: Box<[Fate]> = self.units.iter().map(fate).collect();
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
                Fate::from(shape.keeps(units, number - 1, unit))
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
                    Fate::Lost if spoils && unit.fresh && chance >> 32 & 1 == 1 => Fate::Garbage,
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
}

impl Shape {
    fn keeps(self, units: &[Unit], number: usize, unit: &Unit) -> bool {
        match self {
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
