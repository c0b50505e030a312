//! What a loop counts of itself, at a cost that no program notices.
//!
//! The loop counts once for a round, and not for each callback. It uses the times that a round
//! reads anyway, before a poll and after it, as ticks.
//!
//! Units:      ticks of `offloop_sys::clock`, which become nanoseconds at once; seconds in Python.
//! Invariants: 1. What is counted never goes down.
//! Threads:    any attached one may look.

use std::sync::Arc;

use offloop::loads::Doing;
use offloop_core::event_loop::{Histogram, LoopLoad};
use offloop_sys::clock::{TickScale, ticks};
use pyo3::prelude::*;

use super::schedule::Schedule;
use crate::loads::Publisher;

/// What a loop has counted since it was made.
pub(crate) struct Meter {
    pub(crate) rounds: u64,
    pub(crate) callbacks: u64,
    pub(crate) ready_max: usize,
    pub(crate) polls: u64,
    pub(crate) wakeups: u64,
    pub(crate) timers_fired: u64,
    pub(crate) connections_made: u64,
    pub(crate) bytes_received: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) scale: TickScale,
    pub(crate) publisher: Publisher,
    /// Two pages, kept apart from what each round touches.
    pub(crate) times: Box<Times>,
    /// Has one reference for each open connection, and this one.
    pub(crate) connection: Arc<()>,
}

#[derive(Default)]
pub(crate) struct Times {
    pub(crate) load: LoopLoad,
    pub(crate) timer_lag: Histogram,
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
            publisher: Publisher::default(),
            times: Box::default(),
            connection: Arc::new(()),
        }
    }
}

impl Meter {
    /// A run begins.
    pub(crate) fn begin(&mut self) {
        self.times.load.begin(self.scale.nanoseconds(ticks()));
    }

    /// A run ends; `is_over` says that it was the last.
    pub(crate) fn end(&mut self, is_over: bool) {
        if is_over {
            let now = self.scale.nanoseconds(ticks());
            self.times.load.end(now);
            self.publisher
                .publish(now, Doing::Stopped, &mut self.times.load);
        }
    }

    /// The loop polls now, and may wait. Whether anything records, now and then.
    #[inline]
    pub(crate) fn poll(&mut self, now: u64, waits: bool) -> Option<bool> {
        self.polls += 1;
        let now = self.scale.nanoseconds(now);
        if waits {
            self.times.load.wait(now);
        } else {
            self.times.load.look(now);
        }
        let Self {
            publisher, times, ..
        } = self;
        publisher.is_due(now, waits, &times.load).then(|| {
            let doing = if waits { Doing::Waiting } else { Doing::Busy };
            publisher.publish(now, doing, &mut times.load)
        })
    }

    /// The kernel has answered.
    #[inline]
    pub(crate) fn polled(&mut self, now: u64) {
        self.times.load.resume(self.scale.nanoseconds(now));
    }

    /// A round begins with so many handles.
    #[inline]
    pub(crate) fn round(&mut self, ready: usize) {
        self.rounds += 1;
        self.callbacks += ready as u64;
        self.ready_max = self.ready_max.max(ready);
    }

    /// Moves the timers that are due before `end` to the queue, and records how late each is. A
    /// timer may have been scheduled for the past: it counts as late only since the look before the
    /// last one, which did not find it. By a clock of the program's no lateness is known.
    pub(crate) fn release_due(
        &mut self,
        py: Python<'_>,
        schedule: &mut Schedule,
        end: f64,
        own_clock: bool,
    ) {
        let Self { times, scale, .. } = self;
        let mut latest = None;
        let mut fired = 0;
        schedule.release_due(py, end, |late_s| {
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
    pub(crate) fn connection(&mut self) -> Arc<()> {
        self.connections_made += 1;
        self.connection.clone()
    }
}
