//! What each event loop says of its load, for threads that never attach to Python.
//!
//! A loop counts in memory that only attached threads may read. So it publishes what it has counted
//! twenty times a second while it has something to do, and when it stops. A reader adds what has
//! passed since: a loop that was about to wait has waited, a loop that was not is busy.
//!
//! Units:      nanoseconds.
//! Invariants: 1. What all loops have counted never goes down: one that is gone leaves its share.
//! Threads:    each lock is held for a copy of a few kilobytes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use offloop_core::Instant;
use offloop_core::event_loop::{Histogram, LoopLoad};

/// How often a busy loop publishes, at most: as fine as a timeline is drawn.
pub const PUBLISHED_EVERY_NS: u64 = 50_000_000;

/// What a loop did when it published last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Doing {
    /// It did not run.
    #[default]
    Stopped,
    /// It was about to wait.
    Waiting,
    /// It went on with callbacks.
    Busy,
}

/// What a loop has counted.
#[derive(Clone, Debug, Default)]
pub struct LoadReading {
    /// When it was published; `None` before the first time.
    pub at: Option<Instant>,
    /// What the loop did then.
    pub doing: Doing,
    /// The thread that ran it.
    pub thread: u32,
    /// For how long it ran callbacks.
    pub busy_ns: u64,
    /// For how long it ran, with what it waited.
    pub running_ns: u64,
    /// Times between two looks at what is ready.
    pub lag: Histogram,
}

impl LoadReading {
    /// The same at a later time.
    #[must_use]
    pub fn until(mut self, now: Instant) -> Self {
        let since = self
            .at
            .map_or(0, |at| now.as_nanos().saturating_sub(at.as_nanos()));
        match self.doing {
            Doing::Stopped => {}
            Doing::Waiting => self.running_ns += since,
            Doing::Busy => {
                self.running_ns += since;
                self.busy_ns += since;
            }
        }
        self
    }

    fn add(&mut self, other: &Self) {
        self.busy_ns += other.busy_ns;
        self.running_ns += other.running_ns;
        self.lag.add(&other.lag);
    }
}

/// Where one loop publishes.
#[derive(Debug)]
pub struct LoopGauge {
    /// The number of the loop.
    pub number: u64,
    /// Whose loop it is: offloop, asyncio, uvloop.
    pub kind: Arc<str>,
    /// The name of its thread, when it was first seen.
    pub thread_name: Arc<str>,
    is_gone: AtomicBool,
    reading: Mutex<LoadReading>,
}

impl LoopGauge {
    fn lock(&self) -> MutexGuard<'_, LoadReading> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes what the loop has counted until now.
    pub fn publish(&self, at: Instant, doing: Doing, thread: u32, load: &LoopLoad) {
        let mut reading = self.lock();
        reading.at = Some(at);
        reading.doing = doing;
        reading.thread = thread;
        reading.busy_ns = load.busy_ns();
        reading.running_ns = load.running_ns();
        reading.lag.clone_from(load.lag());
    }

    /// What was published last.
    #[must_use]
    pub fn reading(&self) -> LoadReading {
        self.lock().clone()
    }

    /// The loop is gone.
    pub fn leave(&self) {
        self.lock().doing = Doing::Stopped;
        self.is_gone.store(true, Ordering::Release);
    }
}

/// The loops of a process.
#[derive(Debug, Default)]
pub struct LoopLoads(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    gauges: Vec<Arc<LoopGauge>>,
    /// The sum over loops that are gone.
    past: LoadReading,
    made: u64,
}

impl Known {
    fn forget_gone(&mut self) {
        let Self { gauges, past, .. } = self;
        gauges.retain(|gauge| {
            let gone = gauge.is_gone.load(Ordering::Acquire);
            if gone {
                past.add(&gauge.lock());
            }
            !gone
        });
    }
}

impl LoopLoads {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A loop is there.
    #[must_use]
    pub fn join(&self, number: u64, kind: Arc<str>, thread_name: Arc<str>) -> Arc<LoopGauge> {
        let gauge = Arc::new(LoopGauge {
            number,
            kind,
            thread_name,
            is_gone: AtomicBool::new(false),
            reading: Mutex::default(),
        });
        let mut known = self.lock();
        known.forget_gone();
        known.made += 1;
        known.gauges.push(Arc::clone(&gauge));
        gauge
    }

    /// The loops that there are, by their numbers.
    #[must_use]
    pub fn gauges(&self) -> Vec<Arc<LoopGauge>> {
        let mut known = self.lock();
        known.forget_gone();
        known.gauges.sort_by_key(|gauge| gauge.number);
        known.gauges.clone()
    }

    /// What all loops have counted until `now`, those that are gone included.
    #[must_use]
    pub fn total(&self, now: Instant) -> LoadReading {
        let mut known = self.lock();
        known.forget_gone();
        let mut total = known.past.clone();
        let readings = known.gauges.iter().map(|gauge| gauge.reading().until(now));
        readings.for_each(|reading| total.add(&reading));
        total
    }

    /// How many loops have joined since the process began.
    #[must_use]
    pub fn made(&self) -> u64 {
        self.lock().made
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * MS)
    }

    fn busy(until: u64) -> LoopLoad {
        let mut load = LoopLoad::default();
        load.begin(0);
        load.look(0);
        load.wait(until);
        load
    }

    #[test]
    fn what_has_passed_since_is_what_the_loop_was_about_to_do() {
        let loads = LoopLoads::default();
        let gauge = loads.join(1, "offloop".into(), "the test".into());
        let load = busy(30 * MS);
        for (doing, expected) in [
            (Doing::Stopped, (30, 30)),
            (Doing::Waiting, (30, 40)),
            (Doing::Busy, (40, 40)),
        ] {
            gauge.publish(at(100), doing, 7, &load);
            let total = loads.total(at(110));
            assert_eq!((total.busy_ns / MS, total.running_ns / MS), expected);
            assert_eq!(total.lag.count(), 1);
        }
    }

    #[test]
    fn a_loop_that_is_gone_leaves_its_share() {
        let loads = LoopLoads::default();
        for number in [2, 1] {
            let gauge = loads.join(number, "offloop".into(), "the test".into());
            gauge.publish(at(100), Doing::Waiting, 7, &busy(10 * MS));
            if number == 2 {
                gauge.leave();
            }
        }
        let total = loads.total(at(100));
        assert_eq!((total.busy_ns, total.lag.count()), (20 * MS, 2));
        let numbers: Vec<_> = loads.gauges().iter().map(|gauge| gauge.number).collect();
        assert_eq!((numbers, loads.made()), (vec![1], 2));
    }
}
