//! Medians, spreads, percentiles and ratios.

use serde::{Deserialize, Serialize};

use crate::spec::Better;

/// The figures of all rounds of one cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    /// None where there are no figures.
    pub(crate) fn new(mut figures: Vec<f64>) -> Option<Self> {
        figures.sort_by(f64::total_cmp);
        (!figures.is_empty()).then_some(Samples(figures))
    }

    /// The middle one, or the mean of the two in the middle.
    pub(crate) fn median(&self) -> f64 {
        let Samples(sorted) = self;
        let middle = sorted.len() / 2;
        if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) }
    }

    pub(crate) fn min(&self) -> f64 {
        self.0[0]
    }

    pub(crate) fn max(&self) -> f64 {
        self.0[self.0.len() - 1]
    }
}

/// How many times as good `ours` is as `theirs`: above 1 is better. None where one of them is zero.
pub(crate) fn ratio(ours: f64, theirs: f64, better: Better) -> Option<f64> {
    let (above, below) = match better {
        Better::Higher => (ours, theirs),
        Better::Lower => (theirs, ours),
    };
    (above > 0.0 && below > 0.0).then(|| above / below)
}

/// The smallest of the sorted values that at least `percent` of them do not exceed.
pub(crate) fn percentile(sorted: &[u64], percent: f64) -> u64 {
    let rank = (sorted.len() as f64 * percent / 100.0).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_stands_in_the_middle_whatever_the_order() {
        let of = |figures: &[f64]| Samples::new(figures.to_vec()).unwrap();
        assert_eq!(of(&[9.0, 1.0, 4.0]).median(), 4.0);
        assert_eq!(of(&[9.0, 1.0, 4.0, 2.0]).median(), 3.0);
        assert_eq!(of(&[7.0]).median(), 7.0);
        assert_eq!((of(&[9.0, 1.0, 4.0]).min(), of(&[9.0, 1.0, 4.0]).max()), (1.0, 9.0));
        assert_eq!(Samples::new(Vec::new()), None);
    }

    #[test]
    fn a_ratio_above_one_is_better_for_rates_and_for_times() {
        assert_eq!(ratio(30.0, 10.0, Better::Higher), Some(3.0));
        assert_eq!(ratio(30.0, 10.0, Better::Lower), Some(1.0 / 3.0));
        assert_eq!(ratio(30.0, 0.0, Better::Higher), None);
        assert_eq!(ratio(0.0, 10.0, Better::Lower), None);
    }

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let sorted: Vec<u64> = (1..=1000).collect();
        assert_eq!(percentile(&sorted, 50.0), 500);
        assert_eq!(percentile(&sorted, 99.0), 990);
        assert_eq!(percentile(&sorted, 99.9), 999);
        assert_eq!(percentile(&sorted, 100.0), 1000);
        assert_eq!(percentile(&[5], 1.0), 5);
        assert_eq!(percentile(&[], 50.0), 0);
    }
}
