//! How long the calls of a lane run, and how many a worker should hold in advance.
//!
//! An exponentially weighted mean with a weight of 1/8: a handful of calls teach it, one slow
//! call makes it careful at once, and a hundred fast ones make it forget.
//!
//! Units:      nanoseconds of run time; depth in tasks, the running one included.
//! Invariants: 1 <= depth <= PREFETCH_TASKS_MAX, and 1 while nothing is known.

use core::time::Duration;

use crate::limits::{PACK_NS, PACK_TASKS_MAX, PREFETCH_NS, PREFETCH_TASKS_MAX, WAKE_NS};
use crate::time::saturating_nanos;

/// The running estimate of one lane.
#[derive(Debug, Clone, Copy)]
pub struct RunEstimate {
    mean_ns: Option<u64>,
    depth: u32,
}

impl Default for RunEstimate {
    fn default() -> Self {
        Self {
            mean_ns: None,
            depth: 1,
        }
    }
}

impl RunEstimate {
    /// Takes one measured run into account.
    pub fn record(&mut self, run: Duration) {
        let run_ns = saturating_nanos(run);
        let mean_ns = match self.mean_ns {
            None => run_ns,
            Some(mean) if run_ns >= mean => mean.saturating_add((run_ns - mean) / 8),
            // Rounded up, so that the mean reaches a smaller value instead of hanging above it.
            Some(mean) => mean - (mean - run_ns).div_ceil(8),
        };
        if self.mean_ns != Some(mean_ns) {
            self.mean_ns = Some(mean_ns);
            let ahead = PREFETCH_NS / mean_ns.max(1);
            self.depth = (1 + ahead).min(u64::from(PREFETCH_TASKS_MAX)) as u32;
        }
    }

    /// Tasks that a busy worker should hold, the running one included.
    #[must_use]
    pub const fn depth(&self) -> u32 {
        self.depth
    }

    /// Tasks that a worker holds before waking another worker pays, the running one included.
    #[must_use]
    pub fn pack(&self) -> u32 {
        match self.mean_ns {
            Some(mean) if mean < WAKE_NS => {
                (PACK_NS / mean.max(1)).clamp(1, u64::from(PACK_TASKS_MAX)) as u32
            }
            _ => 1,
        }
    }

    /// The mean run time, once a call has completed.
    #[must_use]
    pub fn mean(&self) -> Option<Duration> {
        self.mean_ns.map(Duration::from_nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(runs: &[Duration]) -> RunEstimate {
        let mut estimate = RunEstimate::default();
        for &run in runs {
            estimate.record(run);
        }
        estimate
    }

    #[test]
    fn nothing_is_held_in_advance_before_the_first_measurement() {
        assert_eq!(after(&[]).depth(), 1);
        assert_eq!(after(&[]).mean(), None);
    }

    #[test]
    fn very_short_calls_are_packed_and_others_are_not() {
        assert_eq!(after(&[Duration::from_micros(5)]).pack(), 20);
        assert_eq!(after(&[Duration::from_nanos(1)]).pack(), PACK_TASKS_MAX);
        assert_eq!(after(&[Duration::from_micros(25)]).pack(), 1);
        assert_eq!(after(&[]).pack(), 1);
    }

    #[test]
    fn short_calls_are_held_in_advance_and_long_ones_are_not() {
        assert_eq!(
            after(&[Duration::from_nanos(500)]).depth(),
            PREFETCH_TASKS_MAX
        );
        assert_eq!(after(&[Duration::from_micros(100)]).depth(), 21);
        assert_eq!(after(&[Duration::from_millis(1)]).depth(), 3);
        assert_eq!(after(&[Duration::from_secs(1)]).depth(), 1);
        assert_eq!(after(&[Duration::ZERO]).depth(), PREFETCH_TASKS_MAX);
        assert_eq!(after(&[Duration::MAX]).depth(), 1);
    }

    #[test]
    fn one_slow_call_makes_it_careful_and_fast_ones_make_it_forget() {
        let mut estimate = after(&[Duration::from_micros(1); 10]);
        estimate.record(Duration::from_secs(1));
        assert_eq!(estimate.depth(), 1);
        for _ in 0..200 {
            estimate.record(Duration::from_micros(1));
        }
        assert_eq!(estimate.depth(), PREFETCH_TASKS_MAX);
    }

    #[test]
    fn the_mean_settles_on_a_constant_run_time() {
        let mut estimate = after(&[Duration::from_millis(8)]);
        for _ in 0..300 {
            estimate.record(Duration::from_micros(50));
        }
        assert_eq!(estimate.mean(), Some(Duration::from_micros(50)));
    }
}
