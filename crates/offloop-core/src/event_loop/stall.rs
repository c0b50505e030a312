//! When a stall of an event loop is reported, and how often.
//!
//! A watchdog reads what the loop does now and asks here what to say and when to look again. The
//! loop itself tells the end of everything that took too long, so nothing is missed that ended
//! between two looks.
//!
//! A *slice* is a callback, or a round from one poll to the next: many short callbacks add up. A
//! slice that lasts longer than the threshold is a stall. It is reported at once, then each time
//! its duration has doubled, and at its end. While the loop waits in a poll there is nothing to
//! watch, and the watchdog parks.
//!
//! Invariants: 1. Nothing is reported that lasted less than the threshold.
//!             2. A callback and the round around it are not both reported, unless the round was
//!                found first: then the callback has taken less than half of it.
//!             3. What is not told because there is too much of it is counted, and it is reported
//!                as such.
//!             4. What is news is told all the same, at most as often again within the period.
//! Source:     Seastar's `cpu_stall_detector` (reports at 1, 2, 4 ... times the threshold, and a
//!             limit per minute); asyncio's `slow_callback_duration`.

#[cfg(test)]
mod tests;

use core::time::Duration;
use std::collections::VecDeque;

use crate::Instant;

/// What is too long, and how many stalls are reported within which period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StallLimits {
    /// A slice that lasts longer is a stall.
    pub threshold: Duration,
    /// Stalls that are told within the period; those beyond are counted. As many again are told if
    /// they are news.
    pub stalls_max: usize,
    /// Length of the sliding period.
    pub period: Duration,
}

impl Default for StallLimits {
    fn default() -> Self {
        Self {
            threshold: Duration::from_millis(50),
            stalls_max: 30,
            period: Duration::from_secs(60),
        }
    }
}

/// What stalls the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stalled {
    /// One callback.
    Callback,
    /// A round, by many callbacks.
    Round,
}

/// A piece of a loop's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Callbacks and rounds are numbered apart, each from 1.
    pub number: u64,
    /// When it began.
    pub began: Instant,
}

/// What a loop does that does not wait in a poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Activity {
    /// The round.
    pub round: Slice,
    /// The callback, if one is under way.
    pub callback: Option<Slice>,
}

/// Something to say about a stall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StallReport {
    /// What stalls.
    pub stalled: Stalled,
    /// Its number.
    pub number: u64,
    /// How long it has lasted; at its end, exactly how long.
    pub lasted: Duration,
    /// What is said.
    pub moment: Moment,
    /// Whether it is for people: there may be too many in a while. All are recorded.
    pub is_told: bool,
    /// Stalls that were recorded and not told, since the last one that was told.
    pub suppressed: u64,
}

/// Which report of a stall it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The first. The watchdog looked later than it wanted to, by so much: then the host may not
    /// have scheduled the process.
    Found {
        /// How much later.
        late_by: Duration,
    },
    /// It goes on; its duration has doubled so often since it was as long as the threshold.
    GoesOn {
        /// How often.
        doubled: u32,
    },
    /// It is over.
    Over {
        /// Whether it was reported while it lasted.
        was_found: bool,
    },
}

/// When the watchdog looks again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextLook {
    /// At this time, or when something has ended.
    At(Instant),
    /// When the loop does something again.
    Parked,
}

/// A stall that was seen, until its end.
#[derive(Clone, Copy, Debug)]
struct Found {
    number: u64,
    /// Reports so far: the next is due at the threshold times 2 to the power of this.
    reports: u32,
    is_suppressed: bool,
}

/// A callback that is under way has taken more than half of its round: it may become the stall.
fn dominates(now: Instant, callback: Option<Slice>, round: Slice) -> bool {
    let lasted = |slice: Slice| now.saturating_duration_since(slice.began);
    callback.is_some_and(|callback| lasted(callback) > lasted(round) / 2)
}

/// Decides for one loop.
#[derive(Debug)]
pub struct StallPolicy {
    limits: StallLimits,
    callback: Option<Found>,
    round: Option<Found>,
    /// The last round in which a callback was a stall.
    excused_round: u64,
    /// When the watchdog wanted to look.
    wanted: Option<Instant>,
    /// When the latest stalls were told first.
    latest: VecDeque<Instant>,
    /// When the latest ones were let through as news.
    latest_news: VecDeque<Instant>,
    suppressed: u64,
}

impl StallPolicy {
    /// Nothing was seen yet.
    #[must_use]
    pub const fn new(limits: StallLimits) -> Self {
        Self {
            limits,
            callback: None,
            round: None,
            excused_round: 0,
            wanted: None,
            latest: VecDeque::new(),
            latest_news: VecDeque::new(),
            suppressed: 0,
        }
    }

    /// From when on a slice is a stall.
    #[must_use]
    pub const fn threshold(&self) -> Duration {
        self.limits.threshold
    }

    /// Other limits are in force from now on, also for what is under way.
    pub const fn set_limits(&mut self, limits: StallLimits) {
        self.limits = limits;
    }

    /// The watchdog has looked. What is to be reported, if anything, and when it looks again.
    pub fn look(
        &mut self,
        now: Instant,
        activity: Option<Activity>,
    ) -> (Option<StallReport>, NextLook) {
        let wanted = self.wanted.take();
        let Some(activity) = activity else {
            return (None, NextLook::Parked);
        };
        let late_by = wanted.map_or(Duration::ZERO, |wanted| {
            now.saturating_duration_since(wanted)
        });
        let Activity { round, callback } = activity;
        let mut report = None;
        let mut next = Instant::MAX;
        if let Some(callback) = callback {
            report = self.report(now, Stalled::Callback, callback, late_by);
            next = self.due(Stalled::Callback, callback);
            if self.found(Stalled::Callback, callback.number).is_some() {
                self.excused_round = round.number;
            }
        }
        if self.excused_round != round.number && !dominates(now, callback, round) {
            report = report.or_else(|| self.report(now, Stalled::Round, round, late_by));
            next = next.min(self.due(Stalled::Round, round));
        }
        // The callback that has excused its round is over: another one may begin.
        next = next.min(now.saturating_add(self.limits.threshold));
        self.wanted = Some(next);
        (report, NextLook::At(next))
    }

    /// A slice has ended after the time given. What is to be reported, if anything.
    pub fn ended(
        &mut self,
        now: Instant,
        (stalled, number): (Stalled, u64),
        lasted: Duration,
        round: u64,
    ) -> Option<StallReport> {
        if lasted < self.limits.threshold {
            return None;
        }
        let found = self.found(stalled, number);
        match stalled {
            Stalled::Callback => self.excused_round = self.excused_round.max(round),
            Stalled::Round if found.is_none() && self.excused_round >= number => return None,
            Stalled::Round => {}
        }
        let place = self.place(stalled);
        if found.is_some() {
            *place = None;
        }
        let is_suppressed = match found {
            Some(found) => found.is_suppressed,
            None => !self.may_report(now),
        };
        Some(StallReport {
            stalled,
            number,
            lasted,
            moment: Moment::Over {
                was_found: found.is_some(),
            },
            is_told: !is_suppressed,
            suppressed: self.take_suppressed(!is_suppressed),
        })
    }

    const fn place(&mut self, stalled: Stalled) -> &mut Option<Found> {
        match stalled {
            Stalled::Callback => &mut self.callback,
            Stalled::Round => &mut self.round,
        }
    }

    fn found(&self, stalled: Stalled, number: u64) -> Option<Found> {
        let place = match stalled {
            Stalled::Callback => self.callback,
            Stalled::Round => self.round,
        };
        place.filter(|found| found.number == number)
    }

    /// When the next report of a slice is due.
    fn due(&self, stalled: Stalled, slice: Slice) -> Instant {
        let found = self.found(stalled, slice.number);
        let reports = found.map_or(0, |found| found.reports);
        let factor = 1_u32.checked_shl(reports).unwrap_or(u32::MAX);
        slice
            .began
            .saturating_add(self.limits.threshold.saturating_mul(factor))
    }

    fn report(
        &mut self,
        now: Instant,
        stalled: Stalled,
        slice: Slice,
        late_by: Duration,
    ) -> Option<StallReport> {
        if now < self.due(stalled, slice) {
            return None;
        }
        let before = self.found(stalled, slice.number);
        let mut found = before.unwrap_or_else(|| Found {
            number: slice.number,
            reports: 0,
            is_suppressed: !self.may_report(now),
        });
        *self.place(stalled) = Some(found);
        // A look that comes late skips what it has missed.
        while now >= self.due(stalled, slice) && found.reports < 31 {
            found.reports += 1;
            *self.place(stalled) = Some(found);
        }
        let moment = if before.is_none() {
            Moment::Found { late_by }
        } else {
            Moment::GoesOn {
                doubled: found.reports - 1,
            }
        };
        Some(StallReport {
            stalled,
            number: slice.number,
            lasted: now.saturating_duration_since(slice.began),
            moment,
            is_told: !found.is_suppressed,
            suppressed: self.take_suppressed(!found.is_suppressed),
        })
    }

    /// What was not told until now, for a stall that is.
    fn take_suppressed(&mut self, is_told: bool) -> u64 {
        if is_told {
            std::mem::take(&mut self.suppressed)
        } else {
            0
        }
    }

    /// A stall is not told for there are too many, but it is news. Whether it may be told all the
    /// same; then the report says so, and all that follow it.
    pub fn let_through(&mut self, now: Instant, report: &mut StallReport) -> bool {
        let from = now.saturating_sub(self.limits.period);
        if !has_room(&mut self.latest_news, from, self.limits.stalls_max) {
            return false;
        }
        self.latest_news.push_back(now);
        let place = self.place(report.stalled).as_mut();
        if let Some(found) = place.filter(|found| found.number == report.number) {
            found.is_suppressed = false;
        }
        // It was counted itself.
        report.suppressed = self.take_suppressed(true).saturating_sub(1);
        report.is_told = true;
        true
    }

    /// Whether one more stall may be told; if not, it is counted.
    fn may_report(&mut self, now: Instant) -> bool {
        let from = now.saturating_sub(self.limits.period);
        let may = has_room(&mut self.latest, from, self.limits.stalls_max);
        if may {
            self.latest.push_back(now);
        } else {
            self.suppressed += 1;
        }
        may
    }
}

/// Whether there are fewer times than so many since the one given; older ones are dropped.
fn has_room(times: &mut VecDeque<Instant>, from: Instant, max: usize) -> bool {
    while times.front().is_some_and(|&time| time < from) {
        times.pop_front();
    }
    times.len() < max
}
