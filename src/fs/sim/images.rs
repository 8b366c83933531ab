//! The disks that a power cut may leave, one after the other.

use std::collections::HashSet;
use std::sync::Arc;

use super::SimFs;
use super::crash::Cut;
use super::fate::Fate;
use super::sample::sample;

/// The disks that may be found after a power cut; made by [`SimFs::crash_images`].
///
/// Each is built when it is asked for. [`SimFs::origin`] of an image says what it lost.
#[derive(Debug)]
pub struct CrashImages {
    of: SimFs,
    cut: Arc<Cut>,
    plans: std::vec::IntoIter<Box<[Fate]>>,
    is_exhaustive: bool,
}

impl CrashImages {
    pub(super) fn new(of: SimFs, cut: Arc<Cut>, limit: usize, seed: u64) -> Self {
        let subsets = 1_usize.checked_shl(cut.units.len() as u32);
        let few = subsets.filter(|subsets| *subsets <= limit);
        let plans = match few {
            Some(subsets) => all(&cut, subsets, limit),
            None => sample(&cut, limit, seed),
        };
        Self { of, cut, plans: plans.into_iter(), is_exhaustive: few.is_some() }
    }

    /// Whether every subset of the pending units is among them, as far as the personality allows it.
    pub fn is_exhaustive(&self) -> bool {
        self.is_exhaustive
    }
}

impl Iterator for CrashImages {
    type Item = SimFs;

    fn next(&mut self) -> Option<SimFs> {
        let fates = self.plans.next()?;
        Some(self.of.found_after(&self.cut, fates))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.plans.size_hint()
    }
}

impl ExactSizeIterator for CrashImages {}

/// Every subset of the units; then, as far as the limit lets, each with garbage, with stale bytes where something is
/// lost, and with one of its units torn.
fn all(cut: &Cut, subsets: usize, limit: usize) -> Vec<Box<[Fate]>> {
    let (mut plans, mut seen) = (Vec::new(), HashSet::new());
    let mut add = |fate: &dyn Fn(usize) -> Fate| {
        if plans.len() < limit {
            let mut plan: Box<[Fate]> = (0..cut.units.len()).map(fate).collect();
            cut.make_lawful(&mut plan);
            if seen.insert(plan.clone()) {
                plans.push(plan);
            }
        }
    };
    let fate = |subset: usize, unit: usize, loss: Fate| if subset >> unit & 1 == 1 { Fate::Kept } else { loss };
    for loss in [Fate::Lost, Fate::Garbage, Fate::Stale] {
        if loss == Fate::Lost || cut.may_spoil() {
            (0..subsets).for_each(|subset| add(&|unit| fate(subset, unit, loss)));
        }
    }
    if cut.may_tear() {
        for torn in 0..cut.units.len() {
            for subset in 0..subsets {
                add(&|unit| if unit == torn { Fate::Torn } else { fate(subset, unit, Fate::Lost) });
            }
        }
    }
    plans
}
