//! How often what took how long, or was how large: counted in buckets, each twice as wide as the one before.
//!
//! To count a value takes two additions to memory that threads share, and no lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Buckets with a bound; what lies above the last is counted in one more.
const BOUNDED: usize = 21;

/// The first bound of times, in nanoseconds: 100 us / 2^5. The sixteen highest bounds are 100 us to 3.3 s, for syncs and
/// what waits for them; the five below tell a sync of a fast disk from one that a cache took, and a read of the disk from
/// one of the page cache.
const LEAST_NS: u64 = 3_125;

/// The first bound of sizes; the last one is 128 MiB.
const LEAST_BYTES: u64 = 128;

/// Counts durations.
pub(crate) type Times = Recording<LEAST_NS>;

/// Counts sizes.
pub(crate) type Sizes = Recording<LEAST_BYTES>;

/// How values of one kind are spread: durations in nanoseconds or sizes in bytes, as the field of [`Stats`](crate::Stats)
/// that it comes from says. A snapshot, which does not change any more.
///
/// A bucket holds the values above the bound of the one before, up to its own bound, which is twice as high; one more, the
/// last, holds what lies above all bounds. Durations have the bounds 100 us · 2^k for k from -5 to 15, that is 3.125 us,
/// 6.25 us, ..., 3.2768 s; sizes 128 bytes · 2^k for k from 0 to 20, up to 128 MiB.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let store = casklog::Store::open(dir.path())?;
/// for index in 1..=100 {
///     store.write(index, "key", "value")?;
/// }
/// let waits = store.stats().commit_wait_ns;
/// assert!(waits.count() >= 100);
/// assert!(waits.quantile(0.5) <= waits.quantile(0.99) && waits.quantile(1.0) == Some(waits.max()));
/// assert_eq!(waits.buckets().map(|(_, count)| count).sum::<u64>(), waits.count());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram {
    least: u64,
    counts: [u64; BOUNDED + 1],
    sum: u64,
    max: u64,
}

impl Histogram {
    /// How many values there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// What they are together.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The highest of them; 0 where there was none.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// The buckets, the lowest first: the highest value that counts in it, none for the last one, and how many were counted
    /// in it, and not in one below.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<u64>, u64)> + '_ {
        let bounds = self.bounds().map(Some).chain([None]);
        bounds.zip(self.counts)
    }

    /// The bounds of the buckets, ascending.
    pub fn bounds(&self) -> impl Iterator<Item = u64> + use<> {
        bounds(self.least)
    }

    /// A value that at least the part `q`, from 0 to 1, of all values does not exceed: the bound of the bucket that the
    /// quantile lies in, so that it is less than twice too high, or the highest value where that is lower. `None` where
    /// there was no value.
    pub fn quantile(&self, q: f64) -> Option<u64> {
        let count = self.count();
        let rank = ((q.clamp(0.0, 1.0) * count as f64).ceil() as u64).clamp(1, count.max(1));
        let mut seen = 0;
        let (bound, _) = self.buckets().find(|(_, count)| {
            seen += count;
            seen >= rank
        })?;
        Some(bound.unwrap_or(u64::MAX).min(self.max))
    }

    /// What was counted since `before`: for each bucket that something fell into a value within its bounds, and how often.
    /// Together they are as much as the values were. What was being counted meanwhile may be in the next one, in part.
    #[cfg(feature = "metrics")]
    pub(crate) fn since(&self, before: Option<&Histogram>) -> impl Iterator<Item = (f64, usize)> + use<> {
        let sum = self.sum - before.map_or(0, |before| before.sum);
        let lows = std::iter::once(0).chain(self.bounds());
        // No value was above the highest.
        let highs = self.bounds().chain([self.max]);
        let count = |place: usize| self.counts[place] - before.map_or(0, |before| before.counts[place]);
        let new = lows.zip(highs).enumerate().map(|(place, (low, high))| (low as f64, high as f64, count(place)));
        let new: Vec<_> = new.filter(|(.., count)| *count != 0).collect();
        // All as far up in their buckets, so far that the sum is right.
        let least: f64 = new.iter().map(|(low, _, count)| low * *count as f64).sum();
        let width: f64 = new.iter().map(|(low, high, count)| (high - low) * *count as f64).sum();
        let part = if width > 0.0 { ((sum as f64 - least) / width).clamp(0.0, 1.0) } else { 0.0 };
        new.into_iter().map(move |(low, high, count)| (low + part * (high - low), count as usize))
    }

    /// The bounds of all histograms of durations, in nanoseconds.
    #[cfg(feature = "metrics")]
    pub(crate) fn time_bounds() -> impl Iterator<Item = u64> {
        bounds(LEAST_NS)
    }

    /// The bounds of all histograms of sizes, in bytes.
    #[cfg(feature = "metrics")]
    pub(crate) fn size_bounds() -> impl Iterator<Item = u64> {
        bounds(LEAST_BYTES)
    }

    /// Adds what was counted elsewhere.
    pub(crate) fn merge(&mut self, other: &Histogram) {
        self.counts.iter_mut().zip(other.counts).for_each(|(count, more)| *count += more);
        self.sum += other.sum;
        self.max = self.max.max(other.max);
    }
}

fn bounds(least: u64) -> impl Iterator<Item = u64> {
    (0..BOUNDED).map(move |place| least << place)
}

/// What threads count in; the first bound is `LEAST`. See [`Histogram`].
#[derive(Debug, Default)]
pub(crate) struct Recording<const LEAST: u64> {
    counts: [AtomicU64; BOUNDED + 1],
    sum: AtomicU64,
    max: AtomicU64,
}

impl<const LEAST: u64> Recording<LEAST> {
    pub(crate) fn record(&self, value: u64) {
        // Of what is above the bound `LEAST << n` by anything, n + 1 digits or more are left.
        let digits = u64::BITS - (value.saturating_sub(1) / LEAST).leading_zeros();
        self.counts[(digits as usize).min(BOUNDED)].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
        if value > self.max.load(Ordering::Relaxed) {
            self.max.fetch_max(value, Ordering::Relaxed);
        }
    }

    pub(crate) fn record_time(&self, took: Duration) {
        self.record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    /// What was counted so far. What is being counted meanwhile may be in one of its numbers and not yet in another.
    pub(crate) fn snapshot(&self) -> Histogram {
        Histogram {
            least: LEAST,
            counts: self.counts.each_ref().map(|count| count.load(Ordering::Relaxed)),
            sum: self.sum.load(Ordering::Relaxed),
            max: self.max.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[u64]) -> Histogram {
        let times = Times::default();
        values.iter().for_each(|value| times.record(*value));
        times.snapshot()
    }

    /// The bound of the bucket that holds `value`.
    fn bound_of(value: u64) -> Option<u64> {
        of(&[value]).buckets().find(|(_, count)| *count == 1).expect("it is counted").0
    }

    #[test]
    fn a_value_counts_in_the_first_bucket_whose_bound_it_does_not_exceed() {
        let bounds: Vec<u64> = of(&[]).bounds().collect();
        assert_eq!((bounds.len(), bounds[0], bounds[5], bounds[20]), (21, 3_125, 100_000, 3_276_800_000));
        for bound in &bounds {
            assert_eq!(bound_of(*bound), Some(*bound));
            assert_eq!(bound_of(bound - 1), Some(*bound));
            assert_eq!(bound_of(bound + 1), bounds.iter().find(|other| *other > bound).copied());
        }
        assert_eq!(bound_of(0), Some(3_125));
        assert_eq!(bound_of(u64::MAX), None);
    }

    #[test]
    fn count_sum_and_maximum_are_those_of_the_values() {
        let values = [0, 5_000, 100_000, 100_001, 9_000_000_000];
        let all = of(&values);
        assert_eq!((all.count(), all.sum(), all.max()), (5, values.iter().sum(), 9_000_000_000));
        assert_eq!((of(&[]).count(), of(&[]).sum(), of(&[]).max()), (0, 0, 0));
    }

    #[test]
    fn a_quantile_is_a_bound_that_enough_values_do_not_exceed_and_less_than_twice_too_high() {
        let values: Vec<u64> = (1..=1000).map(|n| n * 7_919).collect();
        let all = of(&values);
        for percent in 0..=100 {
            let found = all.quantile(f64::from(percent) / 100.0).expect("there are values");
            let rank = (usize::try_from(percent).unwrap() * 10).max(1);
            let exact = values[rank - 1];
            assert!(found >= exact && found < 2 * exact.max(3_125), "{percent}: {found} for {exact}");
        }
        assert_eq!(all.quantile(1.0), Some(7_919_000));
        assert_eq!(of(&[]).quantile(0.5), None);
        let above_all = of(&[1, 5_000_000_000]);
        assert_eq!(above_all.quantile(1.0), Some(5_000_000_000));
        assert_eq!(above_all.quantile(f64::NAN), Some(3_125), "what is no number is taken for 0");
    }

    #[test]
    #[cfg(feature = "metrics")]
    fn what_was_counted_since_is_as_many_values_in_the_same_buckets_with_the_same_sum() {
        let mut values = vec![1, 3_125, 40_000, 99_000, 100_000, 7_000_000_000];
        let before = of(&values);
        let told = |now: &Histogram, before: Option<&Histogram>| now.since(before).collect::<Vec<_>>();
        assert_eq!(told(&before, Some(&before)), []);
        let more = [2, 60_000, 60_001, 70_000, 9_000_000_000, 4_000_000_000];
        values.extend(more);
        let now = of(&values);
        let again = Times::default();
        let mut sum = 0.0;
        for (value, count) in told(&now, Some(&before)) {
            sum += value * count as f64;
            (0..count).for_each(|_| again.record(value.ceil() as u64));
        }
        assert_eq!(again.snapshot().counts, of(&more).counts);
        let exact: u64 = more.iter().sum();
        assert!((sum - exact as f64).abs() < 1e-3 * exact as f64, "{sum} for {exact}");
        assert_eq!(told(&now, None).iter().map(|(_, count)| count).sum::<usize>(), values.len());
    }

    #[test]
    fn what_was_counted_apart_is_one_when_it_is_merged() {
        let (mut one, other) = (of(&[1, 10_000]), of(&[10_001, 77_000_000]));
        one.merge(&other);
        assert_eq!(one, of(&[1, 10_000, 10_001, 77_000_000]));
    }

    #[test]
    fn nothing_that_threads_count_at_once_is_lost() {
        let sizes = Sizes::default();
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let sizes = &sizes;
                scope.spawn(move || (0..1000).for_each(|n| sizes.record(thread * 1000 + n)));
            }
        });
        let all = sizes.snapshot();
        assert_eq!((all.count(), all.sum(), all.max()), (4000, (0..4000).sum(), 3999));
    }
}
