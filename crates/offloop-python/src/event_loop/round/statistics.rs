//! What `loop.statistics()` tells.
//!
//! Units:      seconds in Python.

use std::sync::Arc;

use offloop_core::event_loop::Histogram;
use offloop_sys::clock::ticks;
use pyo3::prelude::*;

use super::lending;
use super::loop_core::LoopCore;

/// The fields of `LagHistogram`, in their order: count, total, quantiles, the greatest; and pairs
/// of a bucket's upper edge and its count.
type Lag = ((u64, f64, f64, f64, f64, f64), Vec<(f64, u64)>);
/// The fields of `LoopStatistics`, in their order, in groups.
pub(crate) type Fields = (Lag, Lag, Shares, Counts, Sizes);
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
pub(crate) fn fields(event_loop: &Bound<'_, LoopCore>) -> Fields {
    let py = event_loop.py();
    let (lent_ready, lent_timers) = lending::sizes(event_loop);
    event_loop.as_super().get().state.with(py, |state| {
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
