//! When the watchdog itself was kept from looking: so was the whole process.
//!
//! A watchdog that is woken late may have missed all of a stall. What it slept too long is kept for
//! a while, so that a stall which is told of later is not blamed on any code.

use std::collections::VecDeque;
use std::time::Duration;

use offloop_core::Instant;

/// Times that are kept.
const KEPT_MAX: usize = 32;
/// What any sleep may be too long by.
const USUAL: Duration = Duration::from_millis(1);

/// From when the watchdog wanted to be awake until it was, the latest last.
#[derive(Debug, Default)]
pub(super) struct Lateness(VecDeque<(Instant, Instant)>);

impl Lateness {
    /// It wanted to wake up at the one time, and did so at the other.
    pub(super) fn note(&mut self, wanted: Instant, awake: Instant) {
        if awake.saturating_duration_since(wanted) <= USUAL {
            return;
        }
        if self.0.len() == KEPT_MAX {
            self.0.pop_front();
        }
        self.0.push_back((wanted, awake));
    }

    /// How much of a time it was kept from looking.
    pub(super) fn within(&self, start: Instant, end: Instant) -> Duration {
        let overlaps = self
            .0
            .iter()
            .map(|&(wanted, awake)| awake.min(end).saturating_duration_since(wanted.max(start)));
        overlaps.sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn what_lies_within_is_added_up() {
        let mut lateness = Lateness::default();
        lateness.note(at(10), at(30));
        lateness.note(at(50), at(90));
        assert_eq!(lateness.within(at(0), at(100)), ms(60));
        assert_eq!(lateness.within(at(20), at(60)), ms(20));
        assert_eq!(lateness.within(at(30), at(50)), ms(0));
        assert_eq!(lateness.within(at(60), at(70)), ms(10));
        assert_eq!(lateness.within(at(91), at(95)), ms(0));
    }

    #[test]
    fn a_usual_sleep_is_not_late_and_an_early_one_neither() {
        let mut lateness = Lateness::default();
        lateness.note(at(10), at(11));
        lateness.note(at(20), at(15));
        assert_eq!(lateness.within(at(0), at(100)), ms(0));
    }

    #[test]
    fn the_latest_times_are_kept() {
        let mut lateness = Lateness::default();
        for number in 0..100 {
            lateness.note(at(number * 10), at(number * 10 + 5));
        }
        assert_eq!(lateness.within(at(0), at(670)), ms(0));
        assert_eq!(lateness.within(at(0), at(1_000)), ms(5 * 32));
    }
}
