//! How busy a loop is, and how long what becomes ready has to wait for it.
//!
//! A loop alternates between looking what is ready, which may mean waiting for it, and running
//! callbacks. Whatever becomes ready while callbacks run is seen at the next look. So the time from
//! one look to the next, without the waiting, is how long it may have waited: that is a stretch,
//! and stretches are what the lag is measured by.
//!
//! Shape:      a state (stopped, beginning, busy, waiting), told of each change with its time; a
//!             ring of slots that hold the last ten seconds.
//! Units:      nanoseconds since an origin of the driver's choice.
//! Invariants: 1. `since` is within the slot that is being filled.
//!             2. A time before the last one counts as the last one: nothing is ever negative.

use super::Histogram;

/// How finely the recent past is known.
const SLOT_NS: u64 = 125_000_000;
/// Slots in a second.
const SECOND_SLOTS: u64 = 1_000_000_000 / SLOT_NS;
/// Ten seconds of full slots.
const SLOTS: u64 = 10 * SECOND_SLOTS;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Stopped,
    /// It runs and has not looked yet, or it is not known when it looked.
    Beginning,
    Busy,
    Waiting,
}

/// How long a loop did what, in nanoseconds.
#[derive(Debug, Clone, Copy, Default)]
struct Spent<T> {
    busy: T,
    waited: T,
    stopped: T,
}

/// What one loop did with its time.
#[derive(Debug, Clone)]
pub struct LoopLoad {
    state: State,
    /// Up to here the time is accounted for.
    since: u64,
    /// When the loop looked last, and the time before that.
    looked: u64,
    looked_before: u64,
    lag: Histogram,
    /// The longest stretch since it was asked for.
    longest: u64,
    /// The slot that is being filled, counted from the origin, and its end.
    slot: u64,
    slot_end: u64,
    filling: Spent<u32>,
    /// The full ones; the place of a slot is the remainder of its number.
    slots: [Spent<u32>; SLOTS as usize],
    /// The sum of all slots that ever were full.
    full: Spent<u64>,
}

impl Default for LoopLoad {
    fn default() -> Self {
        Self {
            state: State::Stopped,
            since: 0,
            looked: 0,
            looked_before: 0,
            lag: Histogram::default(),
            longest: 0,
            slot: 0,
            slot_end: SLOT_NS,
            filling: Spent::default(),
            slots: [Spent::default(); SLOTS as usize],
            full: Spent::default(),
        }
    }
}

impl LoopLoad {
    /// A run begins. If the loop runs already, this run is part of the other.
    pub fn begin(&mut self, now: u64) {
        if self.state == State::Stopped {
            self.account(now);
            self.state = State::Beginning;
            (self.looked, self.looked_before) = (self.since, self.since);
        }
    }

    /// The loop looks what is ready, and does not wait for it.
    pub fn look(&mut self, now: u64) {
        self.end_stretch(now);
        self.state = State::Busy;
    }

    /// The loop looks, and waits if nothing is ready.
    pub fn wait(&mut self, now: u64) {
        self.end_stretch(now);
        self.state = State::Waiting;
    }

    /// The wait is over. After a look that did not wait this changes nothing.
    pub fn resume(&mut self, now: u64) {
        if self.state == State::Waiting {
            self.account(now);
            self.state = State::Busy;
        }
    }

    /// The wait is over, and what runs until the next look is made of stretches of which only their
    /// sum is known: it counts as busy, and for no lag.
    pub fn resume_unseen(&mut self, now: u64) {
        if self.state == State::Waiting {
            self.account(now);
            self.state = State::Beginning;
        }
    }

    /// The loop does not run any more.
    pub fn end(&mut self, now: u64) {
        self.end_stretch(now);
        self.state = State::Stopped;
    }

    fn end_stretch(&mut self, now: u64) {
        let begun = self.since;
        self.account(now);
        if self.state == State::Busy {
            let stretch = self.since - begun;
            self.lag.record(stretch);
            self.longest = self.longest.max(stretch);
        }
        self.looked_before = self.looked;
        self.looked = self.since;
    }

    /// Adds the time since the last change to what the loop was doing.
    #[inline]
    fn account(&mut self, now: u64) {
        let passed = now.saturating_sub(self.since);
        let until = self.since + passed;
        if until >= self.slot_end {
            self.fill_slots(until);
        }
        self.add(until);
    }

    /// As `account`, up to a time in this slot.
    #[inline]
    fn add(&mut self, until: u64) {
        // A slot is shorter than the four seconds that 32 bits hold.
        let passed = (until - self.since) as u32;
        match self.state {
            State::Stopped => self.filling.stopped += passed,
            State::Beginning | State::Busy => self.filling.busy += passed,
            State::Waiting => self.filling.waited += passed,
        }
        self.since = until;
    }

    /// Fills this slot and those after it, until the one that `until` is in.
    #[cold]
    fn fill_slots(&mut self, until: u64) {
        let last = until / SLOT_NS;
        while self.slot < last {
            self.add(self.slot_end);
            let filled = core::mem::take(&mut self.filling);
            self.full.busy += u64::from(filled.busy);
            self.full.waited += u64::from(filled.waited);
            self.slots[(self.slot % SLOTS) as usize] = filled;
            self.slot += 1;
            self.slot_end += SLOT_NS;
            let rest = last - self.slot;
            if rest > SLOTS {
                // Only the end of a long time is looked at slot by slot.
                self.pass(rest - SLOTS);
            }
        }
    }

    /// Passes over slots that are all alike, and would be overwritten.
    fn pass(&mut self, slots: u64) {
        let passed = slots * SLOT_NS;
        match self.state {
            State::Stopped => {}
            State::Beginning | State::Busy => self.full.busy += passed,
            State::Waiting => self.full.waited += passed,
        }
        self.slot += slots;
        self.slot_end += passed;
        self.since += passed;
    }

    /// The same at a later time, with what goes on counted up to then.
    #[must_use]
    pub fn at(&self, now: u64) -> Self {
        let mut later = self.clone();
        later.account(now);
        later
    }

    /// How long the loop ran callbacks, and did what belongs to them.
    #[must_use]
    pub fn busy_ns(&self) -> u64 {
        self.full.busy + u64::from(self.filling.busy)
    }

    /// How long the loop ran, with what it waited.
    #[must_use]
    pub fn running_ns(&self) -> u64 {
        self.busy_ns() + self.full.waited + u64::from(self.filling.waited)
    }

    /// The longest stretch since this was last asked.
    pub fn take_longest(&mut self) -> u64 {
        core::mem::take(&mut self.longest)
    }

    /// The stretches between two looks.
    #[must_use]
    pub const fn lag(&self) -> &Histogram {
        &self.lag
    }

    /// How long before `now` the look before the last one was. What a look finds ready became
    /// ready after the look before.
    #[must_use]
    pub const fn since_look_before_last(&self, now: u64) -> u64 {
        now.saturating_sub(self.looked_before)
    }

    /// The share of the loop's time for which it was busy; zero if it has not run.
    #[must_use]
    pub fn utilisation(&self) -> f64 {
        share(self.busy_ns(), self.running_ns())
    }

    /// The same for the last `seconds`, ten at most, and up to an eighth of a second more.
    #[must_use]
    pub fn recent_utilisation(&self, seconds: u64) -> f64 {
        let count = (seconds * SECOND_SLOTS).min(SLOTS);
        let numbers = self.slot.saturating_sub(count)..self.slot;
        let full = numbers.map(|number| self.slots[(number % SLOTS) as usize]);
        let (mut busy, mut running) = (0, 0);
        for slot in full.chain([self.filling]) {
            busy += u64::from(slot.busy);
            running += u64::from(slot.busy) + u64::from(slot.waited);
        }
        share(busy, running)
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a share is told to fewer digits than a float has"
)]
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    part as f64 / whole as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::random_below;

    const MS: u64 = 1_000_000;
    const SECOND: u64 = 1000 * MS;

    fn assert_share(told: f64, expected: f64) {
        assert!(
            (told - expected).abs() < 1e-9,
            "told {told}, expected {expected}"
        );
    }

    #[test]
    fn stretches_between_looks_are_the_lag_and_waiting_is_not() {
        let mut load = LoopLoad::default();
        load.begin(100 * MS);
        load.wait(101 * MS);
        load.resume(150 * MS);
        load.look(152 * MS);
        load.look(155 * MS);
        load.wait(160 * MS);
        load.resume(1160 * MS);
        load.end(1165 * MS);
        let lag = load.lag();
        // The first millisecond had no callback in it.
        assert_eq!(
            (lag.count(), lag.total_ns(), lag.max_ns()),
            (4, 15 * MS, 5 * MS)
        );
        assert_eq!((load.take_longest(), load.take_longest()), (5 * MS, 0));
        assert_eq!((load.busy_ns(), load.running_ns()), (16 * MS, 1065 * MS));
        assert_share(load.utilisation(), 16.0 / 1065.0);
    }

    #[test]
    fn stretches_that_were_not_seen_are_busy_and_no_lag() {
        let mut load = LoopLoad::default();
        load.begin(0);
        load.wait(0);
        load.resume_unseen(4 * MS);
        load.look(12 * MS);
        load.wait(15 * MS);
        assert_eq!((load.busy_ns(), load.running_ns()), (11 * MS, 15 * MS));
        assert_eq!((load.lag().count(), load.lag().max_ns()), (1, 3 * MS));
    }

    #[test]
    fn time_between_two_runs_is_not_the_loops() {
        let mut load = LoopLoad::default();
        load.begin(0);
        load.look(0);
        load.end(2 * MS);
        load.begin(30 * SECOND);
        load.begin(30 * SECOND + MS);
        load.look(30 * SECOND);
        load.end(30 * SECOND + 3 * MS);
        assert_eq!((load.busy_ns(), load.running_ns()), (5 * MS, 5 * MS));
        assert_eq!(load.lag().count(), 2);
        assert_share(load.recent_utilisation(10), 1.0);
        assert_share(load.at(50 * SECOND).recent_utilisation(10), 0.0);
    }

    #[test]
    fn hours_are_accounted_for_at_once() {
        let hour = 3600 * SECOND;
        let mut load = LoopLoad::default();
        load.begin(100 * hour);
        load.wait(100 * hour);
        load.resume(105 * hour + MS);
        load.end(107 * hour);
        assert_eq!(load.running_ns(), 7 * hour);
        assert_eq!(load.busy_ns(), 2 * hour - MS);
        assert_eq!(load.lag().max_ns(), 2 * hour - MS);
        assert_share(load.recent_utilisation(10), 1.0);
    }

    #[test]
    fn what_goes_on_is_counted_up_to_the_question() {
        let mut load = LoopLoad::default();
        load.begin(0);
        load.wait(0);
        assert_eq!(load.at(7 * MS).running_ns(), 7 * MS);
        assert_eq!(load.at(7 * MS).busy_ns(), 0);
        load.resume(10 * MS);
        assert_eq!(load.at(14 * MS).busy_ns(), 4 * MS);
        assert_eq!(load.at(14 * MS).lag().count(), 0);
    }

    #[test]
    fn clock_that_goes_back_changes_nothing() {
        let mut load = LoopLoad::default();
        load.begin(10 * SECOND);
        load.look(10 * SECOND);
        load.look(4 * SECOND);
        load.wait(10 * SECOND + MS);
        load.resume(9 * SECOND);
        assert_eq!((load.busy_ns(), load.running_ns()), (MS, MS));
        assert_eq!(load.lag().max_ns(), MS);
    }

    #[test]
    fn bound_of_what_is_found_reaches_back_to_the_look_before() {
        let mut load = LoopLoad::default();
        load.begin(SECOND);
        assert_eq!(load.since_look_before_last(SECOND + MS), MS);
        load.look(SECOND + 2 * MS);
        load.look(SECOND + 5 * MS);
        assert_eq!(load.since_look_before_last(SECOND + 6 * MS), 4 * MS);
    }

    #[test]
    fn recent_shares_agree_with_a_second_by_second_account() {
        for seed in 1..=100_u64 {
            let mut next = random_below(seed);
            let mut now = next(100) * SECOND;
            let mut load = LoopLoad::default();
            // What was done in each millisecond: busy or not.
            let mut history = Vec::new();
            let origin = now;
            load.begin(now);
            let longest = if seed % 2 == 0 { 300 } else { 9_000 };
            while history.len() < 40_000 {
                let (worked, waited) = (next(longest), next(longest));
                now += worked * MS;
                load.wait(now);
                now += waited * MS;
                load.resume(now);
                history.extend((0..worked).map(|_| true));
                history.extend((0..waited).map(|_| false));
            }
            for seconds in [1, 10] {
                // The slot that is being filled, and whole ones before it.
                let begin = (now / SLOT_NS - seconds * SECOND_SLOTS) * SLOT_NS;
                let begin = (begin.max(origin) - origin) / MS;
                let part = &history[begin as usize..];
                let busy = part.iter().filter(|&&busy| busy).count();
                let expected = busy as f64 / part.len() as f64;
                assert_share(load.recent_utilisation(seconds), expected);
            }
        }
    }
}
