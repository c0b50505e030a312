//! What a loop counts of itself, at a cost that no program notices.
//!
//! Counters are added to where the loop is at work anyway, once for a round and not for each
//! callback. The time is read where a round reads it already, before a poll and after it, as ticks.
//!
//! Units:      ticks of `offloop_sys::clock`, which become nanoseconds at once; seconds in Python.
//! Invariants: 1. What is counted never goes down.
//! Threads:    any that is attached may look.

use std::sync::Arc;

use offloop_core::{Histogram, LoopLoad};
use offloop_sys::clock::{TickScale, ticks};
use pyo3::prelude::*;

use super::schedule::Schedule;
use super::{LoopCore, lending};

/// What a loop has counted since it was made.
pub(super) struct Meter {
    rounds: u64,
    callbacks: u64,
    ready_max: usize,
    polls: u64,
    pub(super) wakeups: u64,
    timers_fired: u64,
    connections_made: u64,
    pub(super) bytes_received: u64,
    pub(super) bytes_sent: u64,
    scale: TickScale,
    /// Two pages, kept apart from what each round touches.
    times: Box<Times>,
    /// One reference to it for each connection that is open, and ours.
    connection: Arc<()>,
}

#[derive(Default)]
struct Times {
    load: LoopLoad,
    timer_lag: Histogram,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            rounds: 0,
            callbacks: 0,
            ready_max: 0,
            polls: 0,
            wakeups: 0,
            timers_fired: 0,
            connections_made: 0,
            bytes_received: 0,
            bytes_sent: 0,
            scale: TickScale::measure(),
            times: Box::default(),
            connection: Arc::new(()),
        }
    }
}

impl Meter {
    /// The loop begins to run; false if it does already.
    pub(super) fn begin(&mut self) -> bool {
        self.times.load.begin(self.scale.nanoseconds(ticks()))
    }

    /// The loop ends to run, unless `begun` says that an outer run goes on.
    pub(super) fn end(&mut self, begun: bool) {
        if begun {
            self.times.load.end(self.scale.nanoseconds(ticks()));
        }
    }

    /// The loop polls now, and may wait.
    #[inline]
    pub(super) fn poll(&mut self, now: u64, waits: bool) {
        self.polls += 1;
        let now = self.scale.nanoseconds(now);
        if waits {
            self.times.load.wait(now);
        } else {
            self.times.load.look(now);
        }
    }

    /// The kernel has answered.
    #[inline]
    pub(super) fn polled(&mut self, now: u64) {
        self.times.load.resume(self.scale.nanoseconds(now));
    }

    /// A round begins with so many handles.
    #[inline]
    pub(super) fn round(&mut self, ready: usize) {
        self.rounds += 1;
        self.callbacks += ready as u64;
        self.ready_max = self.ready_max.max(ready);
    }

    /// Moves the timers that are due before `end` to the queue, and counts how late each is, or can
    /// be since the look that did not find it: it may have been scheduled for the past. By a clock
    /// that is not ours nobody knows.
    pub(super) fn release_due(&mut self, schedule: &mut Schedule, end: f64, own_clock: bool) {
        let Self { times, scale, .. } = self;
        let mut latest = None;
        let mut fired = 0;
        schedule.release_due(end, |late_s| {
            fired += 1;
            if own_clock {
                let late_ns = (late_s * 1e9) as u64;
                let latest = latest.get_or_insert_with(|| {
                    let now = scale.nanoseconds(ticks());
                    times.load.since_look_before_last(now)
                });
                times.timer_lag.record(late_ns.min(*latest));
            }
        });
        self.timers_fired += fired;
    }

    /// A connection is made; it is open for as long as what is returned is kept.
    pub(super) fn connection(&mut self) -> Arc<()> {
        self.connections_made += 1;
        self.connection.clone()
    }
}

/// The fields of `LagHistogram`, in their order: count, total, quantiles, the greatest; and pairs
/// of a bucket's upper edge and its count.
type Lag = ((u64, f64, f64, f64, f64, f64), Vec<(f64, u64)>);
/// The fields of `LoopStatistics`, in their order, in groups.
pub(super) type Fields = (Lag, Lag, Shares, Counts, Sizes);
type Shares = (f64, f64, f64, f64, f64);
type Counts = (u64, u64, u64, u64, u64, u64, u64, u64);
type Sizes = (usize, usize, usize, usize, usize);

#[expect(
    clippy::cast_precision_loss,
    reason = "a float holds 104 days to the nanosecond, and more with microseconds"
)]
fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

fn lag(histogram: &Histogram) -> Lag {
    let edge = |longest: Option<u64>| longest.map_or(f64::INFINITY, |ns| seconds(ns + 1));
    let buckets = histogram.buckets();
    (
        (
            histogram.count(),
            seconds(histogram.total_ns()),
            seconds(histogram.quantile_ns(500)),
            seconds(histogram.quantile_ns(900)),
            seconds(histogram.quantile_ns(990)),
            seconds(histogram.max_ns()),
        ),
        buckets
            .map(|(longest, count)| (edge(longest), count))
            .collect(),
    )
}

/// What `loop.statistics()` tells.
pub(super) fn fields(core: &LoopCore, py: Python<'_>) -> Fields {
    let (lent_ready, lent_timers) = lending::sizes(core, py);
    core.state.with(py, |state| {
        let meter = &state.meter;
        let load = meter.times.load.at(meter.scale.nanoseconds(ticks()));
        (
            lag(load.lag()),
            lag(&meter.times.timer_lag),
            (
                load.utilisation(),
                load.recent_utilisation(1),
                load.recent_utilisation(10),
                seconds(load.busy_ns()),
                seconds(load.running_ns()),
            ),
            (
                meter.rounds,
                meter.callbacks,
                meter.polls,
                meter.timers_fired,
                meter.wakeups,
                meter.connections_made,
                meter.bytes_received,
                meter.bytes_sent,
            ),
            (
                state.schedule.ready_len() + lent_ready,
                meter.ready_max,
                state.schedule.timers_len() + lent_timers,
                state.watches.len(),
                Arc::strong_count(&meter.connection) - 1,
            ),
        )
    })
}
