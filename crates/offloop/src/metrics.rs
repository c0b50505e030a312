//! Numbers for Prometheus, in its text format: what loops, calls, workers and the arena do.
//!
//! Nothing here needs the GIL, so a frozen loop is told of while it is frozen. Names and units
//! follow OpenTelemetry's conventions as Prometheus writes them: `offloop.loop.lag` in seconds is
//! `offloop_loop_lag_seconds`.
//!
//! Invariants: 1. Counters never go down: what loops, lanes and fleets that are gone have counted
//!                is kept.
//!             2. The text is at most a few kilobytes: no label has more than ten values.
//! Source:     docs/metrics.md; Prometheus' exposition formats, version 0.0.4.

use std::fmt::{Display, Write};

use offloop_core::Instant;
use offloop_core::event_loop::Histogram;
use offloop_core::watch::Culprits;
use offloop_sys::clock::monotonic_ns;

use crate::loads::{Doing, LoopLoads};
use crate::snapshot::{Snapshot, WorkerState};

/// The type of the text, for the header of an answer.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Bounds of the histogram of lag, in microseconds: from what no user feels to what all do.
const LAG_BOUNDS_US: [u64; 14] = [
    100, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 10_000_000,
];

/// Metrics on their way into a text.
struct Text(String);

impl Text {
    /// A metric's name, kind and help; its values follow.
    fn metric(&mut self, name: &str, kind: &str, help: &str) {
        // A String takes everything.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn value(&mut self, name: &str, labels: &str, value: impl Display) {
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.metric(name, kind, help);
        self.value(name, "", value);
    }

    fn labelled(
        &mut self,
        (name, kind, help): (&str, &str, &str),
        label: &str,
        values: &[(&str, u64)],
    ) {
        self.metric(name, kind, help);
        for (value, number) in values {
            self.value(name, &format!("{{{label}=\"{value}\"}}"), number);
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a float has the digits that are told"
)]
fn seconds(ns: u64) -> f64 {
    ns as f64 * 1e-9
}

/// All that is told: what a runtime does (nothing, before there is one), the load of the loops, and
/// what the watch has found.
#[must_use]
pub fn text(snapshot: &Snapshot, loads: &LoopLoads, culprits: Option<&Culprits>) -> String {
    let mut text = Text(String::with_capacity(8 << 10));
    loops(&mut text, loads, culprits);
    calls(&mut text, snapshot);
    workers(&mut text, snapshot);
    text.0
}

fn loops(text: &mut Text, loads: &LoopLoads, culprits: Option<&Culprits>) {
    let total = loads.total(Instant::from_nanos(monotonic_ns()));
    let gauges = loads.gauges();
    let running = gauges.iter().filter(|gauge| running(gauge)).count();
    text.one("offloop_loops", "gauge", "Event loops that run.", running);
    let name = "offloop_loop_busy_seconds_total";
    let help = "Time for which event loops ran callbacks.";
    text.one(name, "counter", help, seconds(total.busy_ns));
    let name = "offloop_loop_running_seconds_total";
    let help = "Time for which event loops ran, with what they waited.";
    text.one(name, "counter", help, seconds(total.running_ns));
    lag(text, &total.lag);
    let (mut stalls, mut blocked) = (0, 0.0);
    for ranked in culprits.map(Culprits::rank).unwrap_or_default() {
        stalls += ranked.blocked.count;
        blocked += ranked.blocked.total.as_secs_f64();
    }
    if let Some(left_out) = culprits.map(Culprits::left_out) {
        stalls += left_out.count;
        blocked += left_out.total.as_secs_f64();
    }
    let name = "offloop_loop_stalls_total";
    let help = "Times that the watch found an event loop blocked.";
    text.one(name, "counter", help, stalls);
    let name = "offloop_loop_blocked_seconds_total";
    let help = "Time for which the watch found event loops blocked.";
    text.one(name, "counter", help, blocked);
}

fn running(gauge: &crate::loads::LoopGauge) -> bool {
    gauge.reading().doing != Doing::Stopped
}

fn lag(text: &mut Text, lag: &Histogram) {
    let name = "offloop_loop_lag_seconds";
    let help = "Time between two looks of an event loop at what is ready.";
    text.metric(name, "histogram", help);
    let bucket = format!("{name}_bucket");
    for bound_us in LAG_BOUNDS_US {
        let label = format!("{{le=\"{}\"}}", seconds(bound_us * 1_000));
        text.value(&bucket, &label, lag.count_up_to(bound_us * 1_000));
    }
    text.value(&bucket, "{le=\"+Inf\"}", lag.count());
    text.value(&format!("{name}_sum"), "", seconds(lag.total_ns()));
    text.value(&format!("{name}_count"), "", lag.count());
}

fn calls(text: &mut Text, snapshot: &Snapshot) {
    let calls = &snapshot.calls;
    let name = "offloop_calls_submitted_total";
    let help = "Calls that process pools have taken.";
    text.one(name, "counter", help, calls.submitted);
    let ended = [
        ("completed", calls.completed),
        ("cancelled", calls.cancelled),
        ("expired", calls.expired),
        ("crashed", calls.lost),
        ("dropped", calls.dropped),
        ("broken", calls.broken),
    ];
    let help = "Calls of process pools that have ended, by how.";
    let metric = ("offloop_calls_ended_total", "counter", help);
    text.labelled(metric, "outcome", &ended);
    let name = "offloop_calls_retried_total";
    let help = "Calls that were tried again after their worker ended.";
    text.one(name, "counter", help, calls.retried);
    let now = [
        ("queued", u64::from(calls.queued)),
        ("prefetched", u64::from(calls.prefetched)),
        ("running", u64::from(calls.running)),
    ];
    let help = "Calls of process pools that have not ended, by what they do.";
    text.labelled(("offloop_calls", "gauge", help), "state", &now);
    let name = "offloop_call_bytes";
    let help = "Bytes of the arguments of calls that have not ended.";
    text.one(name, "gauge", help, calls.bytes);
}

fn workers(text: &mut Text, snapshot: &Snapshot) {
    let workers = || snapshot.fleets.iter().flat_map(|fleet| &fleet.workers);
    let count = |state| workers().filter(|worker| worker.state == state).count() as u64;
    let states = [
        ("starting", count(WorkerState::Starting)),
        ("idle", count(WorkerState::Idle)),
        ("busy", count(WorkerState::Busy)),
        (
            "ending",
            count(WorkerState::Ending) + count(WorkerState::Ended),
        ),
    ];
    let help = "Worker processes, by what they do.";
    text.labelled(("offloop_workers", "gauge", help), "state", &states);
    let events = &snapshot.events;
    let counts = [
        ("start", events.starts),
        ("restart", events.restarts),
        ("start_failure", events.start_failures),
        ("kill", events.kills),
        ("end", events.ends),
        ("crash", events.crashes),
    ];
    let help = "What happened to worker processes; a restart is a start, too.";
    let metric = ("offloop_worker_events_total", "counter", help);
    text.labelled(metric, "event", &counts);
    let name = "offloop_callback_stalls_total";
    let help = "Times that a callback of a future kept a thread and another one took over.";
    text.one(name, "counter", help, events.stalls);
    let arena = &snapshot.arena;
    let name = "offloop_arena_used_bytes";
    let help = "Bytes of arguments in shared memory.";
    text.one(name, "gauge", help, arena.bytes_in_use);
    let name = "offloop_arena_backed_bytes";
    let help = "Bytes of memory that the shared memory of arguments takes.";
    text.one(name, "gauge", help, arena.bytes_backed.unwrap_or(0));
    let name = "offloop_arena_limit_bytes";
    let help = "The most that arguments may take of shared memory.";
    text.one(name, "gauge", help, arena.bytes_max);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_stands_behind_its_help_and_its_kind() {
        let text = text(&Snapshot::default(), &LoopLoads::default(), None);
        let mut told = "";
        for line in text.lines() {
            match line.strip_prefix("# TYPE ") {
                Some(metric) => told = metric.split(' ').next().expect("a name"),
                None if line.starts_with("# HELP ") => {}
                None => assert!(line.starts_with(told), "{line} behind {told}"),
            }
        }
        assert!(
            text.contains("offloop_loop_lag_seconds_bucket{le=\"0.05\"} 0\n"),
            "{text}"
        );
        assert!(text.contains("offloop_calls_ended_total{outcome=\"crashed\"} 0\n"));
        assert!(text.len() < 8 << 10);
    }
}
