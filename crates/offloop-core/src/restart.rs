//! When replacing workers that crash stops making sense.
//!
//! The rule is that of OTP supervisors: more than so many restarts within a period, and the
//! supervisor gives up instead of burning the machine.
//!
//! Shape:      the times of the latest restarts, oldest first, at most `restarts_max + 1`.
//! Invariants: every kept time lies within the period before the latest one.

use std::collections::VecDeque;

use core::time::Duration;

use crate::{Instant, limits};

/// How many restarts within which period are still normal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestartIntensity {
    /// Restarts that are accepted within the period.
    pub restarts_max: u32,
    /// Length of the sliding period.
    pub period: Duration,
}

impl Default for RestartIntensity {
    fn default() -> Self {
        Self {
            restarts_max: limits::RESTARTS_MAX,
            period: limits::RESTART_PERIOD,
        }
    }
}

/// What to do after a restart was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Restart as usual.
    Continue,
    /// The intensity was exceeded.
    GiveUp,
}

/// A sliding window over the latest restarts.
#[derive(Debug, Clone)]
pub struct RestartWindow {
    intensity: RestartIntensity,
    latest: VecDeque<Instant>,
}

impl RestartWindow {
    /// An empty window.
    #[must_use]
    pub const fn new(intensity: RestartIntensity) -> Self {
        Self {
            intensity,
            latest: VecDeque::new(),
        }
    }

    /// Records one restart and says whether there were too many.
    #[must_use]
    pub fn record(&mut self, now: Instant) -> Verdict {
        let from = now.saturating_sub(self.intensity.period);
        while self.latest.front().is_some_and(|&time| time < from) {
            self.latest.pop_front();
        }
        self.latest.push_back(now);
        if self.latest.len() > self.intensity.restarts_max as usize {
            self.latest.pop_front();
            return Verdict::GiveUp;
        }
        Verdict::Continue
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(restarts_max: u32) -> RestartWindow {
        RestartWindow::new(RestartIntensity {
            restarts_max,
            period: Duration::from_secs(10),
        })
    }

    fn second(s: u64) -> Instant {
        Instant::from_nanos(s * 1_000_000_000)
    }

    #[test]
    fn one_restart_more_than_allowed_within_the_period_gives_up() {
        let mut window = window(3);
        for s in 100..103 {
            assert_eq!(window.record(second(s)), Verdict::Continue);
        }
        assert_eq!(window.record(second(103)), Verdict::GiveUp);
    }

    #[test]
    fn restarts_that_are_spread_out_go_on_for_ever() {
        let mut window = window(3);
        for round in 0..1_000 {
            assert_eq!(window.record(second(round * 4)), Verdict::Continue);
        }
        assert!(window.latest.len() <= 4);
    }

    #[test]
    fn an_intensity_of_zero_accepts_no_restart() {
        assert_eq!(window(0).record(second(1)), Verdict::GiveUp);
    }
}
