//! When the watchdog itself was kept from looking: so was the whole process.
//!
//! A watchdog that is woken late, or is not let run while it looks, may have missed all of a stall.
//! Such times are kept for a while, so that a stall which is told of later is not blamed on any
//! code.

use std::collections::VecDeque;
use std::time::Duration;

use offloop_core::Instant;
use offloop_sys::activity::OwnDelay;

/// Times that are kept.
const KEPT_MAX: usize = 32;
/// What any sleep may be too long by.
const USUAL: Duration = Duration::from_millis(1);

/// From when to when the watchdog would have run, had it been let, the latest last.
#[derive(Debug, Default)]
pub(super) struct Lateness {
    kept: VecDeque<(Instant, Instant)>,
    /// What the kernel has counted of it, and how much of that is known here.
    delay: Option<OwnDelay>,
    counted_ns: u64,
}

impl Lateness {
    /// That of the calling thread.
    pub(super) fn of_this_thread() -> Self {
        let delay = OwnDelay::open();
        let counted_ns = delay.as_ref().and_then(OwnDelay::nanoseconds).unwrap_or(0);
        Self {
            kept: VecDeque::new(),
            delay,
            counted_ns,
        }
    }

    /// The watchdog wanted to wake up at the one time, and did so at the other.
    pub(super) fn woken(&mut self, wanted: Instant, awake: Instant) {
        let ready = awake.saturating_sub(self.newly_delayed());
        self.note(wanted.min(ready), awake);
    }

    /// The same of the time since the watchdog was asked last: it did not sleep in it, or was to
    /// sleep until an event.
    pub(super) fn catch_up(&mut self, now: Instant) {
        let ready = now.saturating_sub(self.newly_delayed());
        self.note(ready, now);
    }

    fn newly_delayed(&mut self) -> Duration {
        let Some(total) = self.delay.as_ref().and_then(OwnDelay::nanoseconds) else {
            return Duration::ZERO;
        };
        let before = std::mem::replace(&mut self.counted_ns, total);
        Duration::from_nanos(total.saturating_sub(before))
    }

    fn note(&mut self, ready: Instant, awake: Instant) {
        if awake.saturating_duration_since(ready) <= USUAL {
            return;
        }
        if self.kept.len() == KEPT_MAX {
            self.kept.pop_front();
        }
        self.kept.push_back((ready, awake));
    }

    /// How much of a time it was kept from looking.
    pub(super) fn within(&self, start: Instant, end: Instant) -> Duration {
        let overlaps = self
            .kept
            .iter()
            .map(|&(ready, awake)| awake.min(end).saturating_duration_since(ready.max(start)));
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
        lateness.woken(at(10), at(30));
        lateness.woken(at(50), at(90));
        assert_eq!(lateness.within(at(0), at(100)), ms(60));
        assert_eq!(lateness.within(at(20), at(60)), ms(20));
        assert_eq!(lateness.within(at(30), at(50)), ms(0));
        assert_eq!(lateness.within(at(60), at(70)), ms(10));
        assert_eq!(lateness.within(at(91), at(95)), ms(0));
    }

    #[test]
    fn a_usual_sleep_is_not_late_and_an_early_one_neither() {
        let mut lateness = Lateness::default();
        lateness.woken(at(10), at(11));
        lateness.woken(at(20), at(15));
        assert_eq!(lateness.within(at(0), at(100)), ms(0));
    }

    #[test]
    fn the_latest_times_are_kept() {
        let mut lateness = Lateness::default();
        for number in 0..100 {
            lateness.woken(at(number * 10), at(number * 10 + 5));
        }
        assert_eq!(lateness.within(at(0), at(670)), ms(0));
        assert_eq!(lateness.within(at(0), at(1_000)), ms(5 * 32));
    }
}
