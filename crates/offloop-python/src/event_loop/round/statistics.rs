//! What `loop.statistics()` tells, each value under its name.
//!
//! What is returned is a dictionary, of which `python/offloop/_loop/event_loop.py` makes an
//! immutable record. If the names here and the fields there differ, the first call fails.
//!
//! Units:      seconds in Python.

use std::sync::Arc;

use offloop_sys::clock::ticks;
use pyo3::prelude::*;

use super::lending;
use super::loop_core::LoopCore;
use crate::lag::{LagFields, seconds};

/// `LoopStatistics` of Python.
#[derive(IntoPyObject)]
pub(crate) struct LoopStatistics {
    lag: LagFields,
    timer_lag: LagFields,
    utilisation: f64,
    utilisation_1s: f64,
    utilisation_10s: f64,
    busy_seconds: f64,
    running_seconds: f64,
    rounds: u64,
    callbacks: u64,
    polls: u64,
    timers_fired: u64,
    wakeups: u64,
    connections_made: u64,
    bytes_received: u64,
    bytes_sent: u64,
    ready: usize,
    ready_max: usize,
    timers: usize,
    descriptors: usize,
    connections: usize,
}

/// What the loop has counted until now.
pub(crate) fn statistics(event_loop: &Bound<'_, LoopCore>) -> LoopStatistics {
    let py = event_loop.py();
    let (lent_ready, lent_timers) = lending::sizes(event_loop);
    event_loop.as_super().get().state.with(py, |state| {
        let meter = &state.meter;
        let load = meter.times.load.at(meter.scale.nanoseconds(ticks()));
        LoopStatistics {
            lag: load.lag().into(),
            timer_lag: (&meter.times.timer_lag).into(),
            utilisation: load.utilisation(),
            utilisation_1s: load.recent_utilisation(1),
            utilisation_10s: load.recent_utilisation(10),
            busy_seconds: seconds(load.busy_ns()),
            running_seconds: seconds(load.running_ns()),
            rounds: meter.rounds,
            callbacks: meter.callbacks,
            polls: meter.polls,
            timers_fired: meter.timers_fired,
            wakeups: meter.wakeups,
            connections_made: meter.connections_made,
            bytes_received: meter.bytes_received,
            bytes_sent: meter.bytes_sent,
            ready: state.schedule.ready_len() + lent_ready,
            ready_max: meter.ready_max,
            timers: state.schedule.timers_len() + lent_timers,
            descriptors: state.watches.len(),
            connections: Arc::strong_count(&meter.connection) - 1,
        }
    })
}
