//! Counts of durations in buckets whose width grows with the duration.
//!
//! Each octave has sixteen buckets, so a bucket is never wider than a sixteenth of what it holds;
//! below the first octave they are all equally wide. Recording is a shift and an addition, and the
//! memory never grows.
//!
//! Units:      nanoseconds.
//! Invariants: 1. A quantile is never below the exact one, and above it by a sixteenth at most, or
//!                by `STEP_NS` where that is more. Above `RANGE_NS` only the greatest is told.

const STEP_BITS: u32 = 4;
const STEPS: u64 = 1 << STEP_BITS;
/// The first octave begins at 2^10 ns, a microsecond: nothing that a loop does is shorter.
const FIRST_BITS: u32 = 10;
/// The last octave ends at 2^40 ns, 18 minutes: nothing that waits for a loop has that patience.
const LAST_BITS: u32 = 40;
const BUCKETS: usize = ((LAST_BITS - FIRST_BITS + 1) << STEP_BITS) as usize;

/// A histogram of durations.
#[derive(Debug, Clone)]
pub struct Histogram {
    buckets: [u64; BUCKETS],
    total_ns: u64,
    max_ns: u64,
}

// A loop has two of them, each as large as a page.
const _: () = assert!(size_of::<Histogram>() <= 4096);

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: [0; BUCKETS],
            total_ns: 0,
            max_ns: 0,
        }
    }
}

impl Histogram {
    /// How wide the buckets below the first octave are.
    pub const STEP_NS: u64 = 1 << (FIRST_BITS - STEP_BITS);
    /// Longer durations share one bucket.
    pub const RANGE_NS: u64 = 1 << LAST_BITS;

    /// Counts one duration.
    #[inline]
    pub fn record(&mut self, ns: u64) {
        self.buckets[bucket(ns)] += 1;
        self.total_ns = self.total_ns.saturating_add(ns);
        self.max_ns = self.max_ns.max(ns);
    }

    /// Counts all that another one has counted.
    pub fn add(&mut self, other: &Self) {
        let pairs = self.buckets.iter_mut().zip(&other.buckets);
        pairs.for_each(|(own, other)| *own += other);
        self.total_ns = self.total_ns.saturating_add(other.total_ns);
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    /// How many were counted that are not longer than `ns`; those within a sixteenth of it may
    /// count as longer.
    #[must_use]
    pub fn count_up_to(&self, ns: u64) -> u64 {
        let buckets = self.buckets();
        let within = buckets.filter(|(longest, _)| longest.is_some_and(|longest| longest <= ns));
        within.map(|(_, count)| count).sum()
    }

    /// How many were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// All of them together.
    #[must_use]
    pub const fn total_ns(&self) -> u64 {
        self.total_ns
    }

    /// The longest, exactly; zero if there was none.
    #[must_use]
    pub const fn max_ns(&self) -> u64 {
        self.max_ns
    }

    /// What `per_mille` thousandths of the durations did not exceed (invariant 1); zero if there
    /// was none.
    #[must_use]
    pub fn quantile_ns(&self, per_mille: u32) -> u64 {
        let wanted = (u128::from(self.count()) * u128::from(per_mille)).div_ceil(1000);
        let wanted = wanted.max(1);
        let mut seen = 0;
        for (edge, count) in self.buckets() {
            seen += u128::from(count);
            if seen >= wanted {
                return edge.unwrap_or(self.max_ns).min(self.max_ns);
            }
        }
        self.max_ns
    }

    /// The buckets that hold something, in order: the longest duration that belongs into the
    /// bucket, `None` for the last one, which has no end; and how many it holds.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<u64>, u64)> + '_ {
        let held = |(index, &count): (usize, &u64)| (count > 0).then(|| (edge(index), count));
        self.buckets.iter().enumerate().filter_map(held)
    }
}

#[inline]
fn bucket(ns: u64) -> usize {
    // The octaves below the first have its width of steps.
    let octave = (u64::BITS - ns.leading_zeros()).max(FIRST_BITS);
    let group = octave - FIRST_BITS;
    let shift = group.saturating_sub(1) + FIRST_BITS - STEP_BITS;
    let index = if group == 0 {
        ns >> shift
    } else {
        (u64::from(group) << STEP_BITS) + ((ns >> shift) & (STEPS - 1))
    };
    (index as usize).min(BUCKETS - 1)
}

/// The longest duration of a bucket.
fn edge(index: usize) -> Option<u64> {
    if index == BUCKETS - 1 {
        return None;
    }
    let (group, step) = (index as u64 >> STEP_BITS, index as u64 & (STEPS - 1));
    let steps = if group == 0 { step } else { STEPS + step };
    let shift = (group as u32).saturating_sub(1) + FIRST_BITS - STEP_BITS;
    Some(((steps + 1) << shift) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::random_below;

    #[test]
    fn quantiles_are_within_a_sixteenth_above_the_exact_ones() {
        for seed in 1..=200 {
            let mut next = random_below(seed);
            // From single nanoseconds to minutes, each octave as often as any other.
            let octaves = 1 + next(38);
            let mut values: Vec<u64> = (0..1 + next(3000))
                .map(|_| {
                    let within = 1 << next(octaves);
                    (1 << next(octaves)) + next(within)
                })
                .collect();
            let mut histogram = Histogram::default();
            values.iter().for_each(|&value| histogram.record(value));
            values.sort_unstable();
            assert_eq!(histogram.count(), values.len() as u64);
            assert_eq!(histogram.total_ns(), values.iter().sum::<u64>());
            assert_eq!(histogram.max_ns(), values[values.len() - 1]);
            for per_mille in [0, 1, 100, 500, 900, 990, 999, 1000] {
                let rank = (values.len() * per_mille).div_ceil(1000).max(1);
                let exact = values[rank - 1];
                let told = histogram.quantile_ns(per_mille as u32);
                let slack = (exact / 16).max(Histogram::STEP_NS);
                assert!(
                    (exact..=exact + slack).contains(&told),
                    "seed {seed}: {per_mille} of 1000 is {exact}, told {told}"
                );
            }
        }
    }

    #[test]
    fn sums_and_shares_of_histograms_are_those_of_their_durations() {
        let mut sum = Histogram::default();
        for durations in [[1_000, 3_000_000], [2_000_000, 900_000_000]] {
            let mut one = Histogram::default();
            durations.iter().for_each(|&ns| one.record(ns));
            sum.add(&one);
        }
        assert_eq!((sum.count(), sum.max_ns()), (4, 900_000_000));
        assert_eq!(sum.total_ns(), 905_001_000);
        for (ns, expected) in [(0, 0), (1_100_000, 1), (2_500_000, 2), (1_000_000_000, 4)] {
            assert_eq!(sum.count_up_to(ns), expected, "{ns}");
        }
        sum.record(u64::MAX);
        assert_eq!(sum.count_up_to(u64::MAX), 4, "the last bucket has no end");
    }

    #[test]
    fn every_duration_is_in_the_bucket_that_ends_at_or_after_it() {
        let mut below = 0;
        for index in 0..BUCKETS - 1 {
            let end = edge(index).expect("not the last");
            assert_eq!(bucket(below), index);
            assert_eq!(bucket(end), index);
            below = end + 1;
        }
        assert_eq!(bucket(below), BUCKETS - 1);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        let last_step = Histogram::RANGE_NS / 2 / STEPS;
        assert_eq!(below + last_step, Histogram::RANGE_NS);
    }

    #[test]
    fn what_is_out_of_range_is_counted_and_its_greatest_told() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile_ns(990), 0);
        histogram.record(5);
        histogram.record(u64::MAX);
        histogram.record(u64::MAX - 1);
        let buckets: Vec<_> = histogram.buckets().collect();
        assert_eq!(buckets, [(Some(Histogram::STEP_NS - 1), 1), (None, 2)]);
        assert_eq!(histogram.quantile_ns(990), u64::MAX);
        assert_eq!(histogram.total_ns(), u64::MAX);
    }
}
