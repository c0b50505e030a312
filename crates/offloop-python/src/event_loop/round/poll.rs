//! Polling: asks the kernel what is ready, and queues it with the timers that are due.
//!
//! Units:      seconds of the loop's clock for timers, ticks for polls.
//! Source:     asyncio/base_events.py (`_run_once`).

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::Duration;

use offloop_core::event_loop::PollPace;
use offloop_core::watch::{Look, Looks};
use offloop_sys::clock::{monotonic_ns, ticks};
use offloop_sys::readiness::{Found, Interest};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::super::ground::errors::{heard, os_error};
use super::super::handle::memory::trim;
use super::super::port::{Kernel, LoopPort, State, table};
use super::clock::{clock, clock_as, wait_of};
use super::idle::OWN_DESCRIPTORS;
use super::loop_core::LoopCore;
use super::overrides;
use crate::watch;

/// Timers due this soon are due: the resolution of the clock, as in the standard loop.
const RESOLUTION_S: f64 = 1e-9;

/// Polls if that is `due`, or there is nothing to do but to wait; queues the timers that are due.
pub(super) fn poll_and_release(
    event_loop: &Bound<'_, LoopCore>,
    now: u64,
    due: bool,
    pace: &mut PollPace,
) -> PyResult<()> {
    let py = event_loop.py();
    let port = event_loop.as_super().get();
    let mut dropped = Vec::new();
    let (busy, mut next) = port.state.with(py, |state| {
        let busy = state.stopping || state.schedule.ready_len() > 0;
        (busy, state.schedule.next_timer(py, &mut dropped))
    });
    if !busy {
        let mut limit = next.map(|when| until(event_loop, when)).transpose()?;
        if limit != Some(Duration::ZERO) && rounds_are_listened_to(event_loop) {
            let looked = look_when_idle(event_loop, limit.is_some())?;
            if looked.is_over {
                // A listener may have set a timer.
                next = port
                    .state
                    .with(py, |state| state.schedule.next_timer(py, &mut dropped));
                limit = next.map(|when| until(event_loop, when)).transpose()?;
            }
            limit = looked.limit(limit);
        }
        let (found, answered) = poll(event_loop, limit, now, false)?;
        pace.waited(answered, found);
    } else if due {
        let (found, answered) = poll(event_loop, Some(Duration::ZERO), now, true)?;
        pace.looked(now, answered, found);
    }
    if next.is_some() || port.state.with(py, |state| state.schedule.has_timers()) {
        let found = overrides::found(event_loop)?;
        let own_clock = overrides::clock_is_ours(py, found)?;
        let end = clock_as(event_loop, found)? + RESOLUTION_S;
        port.state.with(py, |state| {
            let State {
                schedule, meter, ..
            } = state;
            meter.release_due(py, schedule, end, own_clock);
        });
    }
    drop(dropped);
    // The wait for the GIL and the handlers of signals belong to the round, and to no callback.
    port.marks.round_began(py);
    Ok(())
}

/// Whether the loop is watched for tasks that never go on.
#[inline]
fn rounds_are_listened_to(event_loop: &Bound<'_, LoopCore>) -> bool {
    let rounds = &event_loop.get().state;
    rounds.with(event_loop.py(), |state| state.idle.is_some())
}

/// What has become of a look.
struct Looked {
    /// It was taken, or else it is too early for it.
    is_over: bool,
    /// When the next one is due, if it is.
    next: Option<Duration>,
}

impl Looked {
    /// The limit of a wait that has this one, if any, without a look.
    fn limit(&self, wait: Option<Duration>) -> Option<Duration> {
        let Some(next) = self.next else {
            return wait;
        };
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let limit_ns = Looks::wait_ns(wait.map(nanos), nanos(next));
        Some(Duration::from_nanos(limit_ns))
    }
}

/// The loop is about to wait, for timers if it `has_timers`, and the listener looks for tasks that
/// never go on.
fn look_when_idle(event_loop: &Bound<'_, LoopCore>, has_timers: bool) -> PyResult<Looked> {
    let py = event_loop.py();
    let port = event_loop.as_super().get();
    let watches = || port.state.with(py, |state| state.watches.len());
    let for_ever = !has_timers && watches() <= OWN_DESCRIPTORS;
    let look = if for_ever { Look::Whole } else { Look::Circles };
    let rounds = &event_loop.get().state;
    let begin = monotonic_ns();
    let too_early = rounds.with(py, |state| {
        let idle = state.idle.as_ref();
        idle.map(|idle| idle.looks.too_early_ns(look, begin))
    });
    match too_early {
        Some(0) => tell_idle(event_loop, for_ever, begin),
        _ => Ok(Looked {
            is_over: false,
            next: too_early.map(Duration::from_nanos),
        }),
    }
}

#[cold]
fn tell_idle(event_loop: &Bound<'_, LoopCore>, for_ever: bool, begin: u64) -> PyResult<Looked> {
    let py = event_loop.py();
    let rounds = &event_loop.get().state;
    let told = rounds.with(py, |state| Some(state.idle.as_ref()?.told.clone_ref(py)));
    let next = match told {
        Some(told) => heard(told.bind(py), told.call1(py, (event_loop, for_ever)))?,
        None => None,
    };
    let next = next.and_then(|seconds| seconds.extract(py).ok());
    let end = monotonic_ns();
    rounds.with(py, |state| {
        if let Some(idle) = &mut state.idle {
            idle.looks.looked(begin, end);
        }
    });
    Ok(Looked {
        is_over: true,
        next: next.map(wait_of),
    })
}

/// How long until `when`, by the loop's clock.
fn until(event_loop: &Bound<'_, LoopCore>, when: f64) -> PyResult<Duration> {
    Ok(wait_of(when - clock(event_loop)?))
}

/// Asks the kernel what is ready, and queues what waits for it. Returns whether anything was ready,
/// and when the kernel answered. Unless the loop is busy, the thread gives up the GIL meanwhile,
/// even if the next timer is due: a clock of the program's may stand still until another thread
/// has run.
fn poll(
    event_loop: &Bound<'_, LoopCore>,
    limit: Option<Duration>,
    now: u64,
    busy: bool,
) -> PyResult<(bool, u64)> {
    let mut any = false;
    let answered = wait(event_loop, limit, now, busy, &mut |kernel, found| {
        any = !found.is_empty();
        queue_found(event_loop.py(), event_loop.as_super().get(), kernel, found)
    })?;
    Ok((any, answered))
}

/// As `poll`, but shows `take` what is ready.
pub(crate) fn wait(
    event_loop: &Bound<'_, LoopCore>,
    limit: Option<Duration>,
    now: u64,
    busy: bool,
    take: &mut dyn FnMut(&Kernel, &Found) -> std::io::Result<()>,
) -> PyResult<u64> {
    let py = event_loop.py();
    let (core, port) = (event_loop.get(), event_loop.as_super().get());
    if port.marks.is_era_over(py) {
        begin_era(event_loop)?;
    }
    if !busy {
        trim(py);
        // A signal that comes later than this ends the wait.
        py.check_signals()?;
    }
    let found = core.state.with(py, |state| state.found.take());
    let mut found = found.unwrap_or_default();
    let (kernel, limit, records) = port.state.with(py, |state| {
        // Code that has run since the loop was seen to be idle has not woken it: it was not asleep.
        let idle = state.schedule.ready_len() == 0 && !state.stopping && !state.runs.is_asked();
        let limit = if idle { limit } else { Some(Duration::ZERO) };
        state.asleep = limit != Some(Duration::ZERO);
        let records = state.meter.poll(now, state.asleep);
        // All that is ready belongs to one round. One place more is for the waker.
        found.make_room(state.watches.len() + 1);
        (state.kernel.clone(), limit, records)
    });
    if let Some(records) = records {
        port.marks.set_recorded(py, records);
    }
    let Some(kernel) = kernel else {
        return Err(PyRuntimeError::new_err("Event loop is closed"));
    };
    let readiness = &kernel.readiness;
    port.marks.end_round(py, now);
    let line = port.marks.line(py);
    // The clock is read before the thread waits for the GIL: that wait is lag.
    let mut wait = || {
        let result = readiness.wait(&mut found, limit);
        let answered = ticks();
        line.iter().for_each(|line| line.begin_round(answered));
        (result, answered)
    };
    let (result, answered) = if busy { wait() } else { py.detach(wait) };
    let outcome = match result {
        Ok(()) => take(&kernel, &found),
        // A signal: its Python handler runs now, and may raise.
        Err(error) if error.kind() == std::io::ErrorKind::Interrupted => Ok(()),
        Err(error) => Err(error),
    };
    let outcome = outcome.map_err(os_error);
    port.state.with(py, |state| {
        state.asleep = false;
        state.meter.polled(if busy { now } else { answered });
    });
    core.state.with(py, |state| state.found = Some(found));
    outcome?;
    py.check_signals()?;
    Ok(answered)
}

/// The watch was turned on or off, or the loop runs for the first time.
#[cold]
pub(super) fn begin_era(event_loop: &Bound<'_, LoopCore>) -> PyResult<()> {
    let (py, port) = (event_loop.py(), event_loop.as_super().get());
    port.marks.begin_era(event_loop)?;
    let publishes = |state: &mut State| state.meter.publisher.gauge().is_some();
    if !port.state.with(py, publishes) {
        let gauge = watch::gauge_of(event_loop, None)?;
        port.state
            .with(py, |state| state.meter.publisher.set_gauge(gauge));
    }
    Ok(())
}

fn queue_found(
    py: Python<'_>,
    port: &LoopPort,
    kernel: &Kernel,
    found: &Found,
) -> std::io::Result<()> {
    let mut all_known = true;
    let waker = kernel.waker.as_fd().as_raw_fd();
    for (fd, ready) in (0..found.len()).filter_map(|index| found.get(index)) {
        if fd != waker {
            all_known &= queue_ready(py, port, kernel, fd, ready);
        }
    }
    if all_known {
        Ok(())
    } else {
        renew(py, port, kernel)
    }
}

/// Has the kernel forget the descriptors that are not watched any more.
pub(crate) fn renew(py: Python<'_>, port: &LoopPort, kernel: &Kernel) -> std::io::Result<()> {
    let readiness = &kernel.readiness;
    port.state
        .with(py, |state| table::renew(&mut state.watches, readiness))?;
    readiness.watch_waker(kernel.waker.as_fd().as_raw_fd())
}

/// Queues what waits for a descriptor to be ready; false when nothing watches it.
pub(crate) fn queue_ready(
    py: Python<'_>,
    port: &LoopPort,
    kernel: &Kernel,
    fd: RawFd,
    ready: Interest,
) -> bool {
    let readiness = &kernel.readiness;
    port.state.with(py, |state| {
        let State {
            schedule, watches, ..
        } = state;
        table::queue_ready(py, (watches, schedule), readiness, fd, ready)
    })
}
