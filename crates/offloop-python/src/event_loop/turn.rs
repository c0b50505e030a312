//! One round of the loop: poll, release the timers that are due, run what is ready.
//!
//! As in the standard loop, a round runs what was ready when it began; what those callbacks
//! schedule runs in the next. While there is work the poll does not wait, and is left out where it
//! can find nothing (`PollPace`): a chain of callbacks does not pay a system call for each link.
//!
//! Units:      seconds of the loop's clock for timers, ticks for polls.
//! Errors:     `SystemExit` and `KeyboardInterrupt` end the run; everything else that a callback
//!             raises goes to the loop's exception handler.
//! Source:     asyncio/base_events.py (`_run_once`); research on loops, sections A4 and D2.

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::Duration;

use offloop_core::PollPace;
use offloop_sys::clock::{monotonic_ns, ticks};
use offloop_sys::readiness::{Found, Interest};
use pyo3::exceptions::{PyKeyboardInterrupt, PyRuntimeError, PySystemExit};
use pyo3::ffi;
use pyo3::prelude::*;

use super::context::Entered;
use super::handle::Handle;
use super::handle_memory::trim;
use super::running::Mark;
use super::schedule::Entry;
use super::watch::Side;
use super::{Kernel, LoopCore, os_error, overrides, reading, sock, writing};
use crate::names::function;

/// What the loop watches for itself: the socket that signals are written to.
const OWN_DESCRIPTORS: usize = 1;
/// The standard loop's bound of one wait: a day.
const WAIT_MAX_S: f64 = 24.0 * 3600.0;
/// Timers due this soon are due: the resolution of the clock, as in the standard loop.
const RESOLUTION_S: f64 = 1e-9;

/// Seconds of the monotonic clock.
pub(super) fn monotonic_s() -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a float has 53 bits: 104 days in nanoseconds, and more beyond with microseconds"
    )]
    let ns = monotonic_ns() as f64;
    ns * 1e-9
}

/// What is kept from round to round.
struct Turn {
    pace: PollPace,
    /// A chain of callbacks mostly runs in one context.
    entered: Entered,
}

impl Turn {
    fn new() -> Self {
        Self {
            pace: PollPace::new(ticks()),
            entered: Entered::default(),
        }
    }
}

/// Runs rounds until the loop is told to stop, or they are the program's.
pub(super) fn run(event_loop: &Bound<'_, LoopCore>) -> PyResult<()> {
    let (py, core) = (event_loop.py(), event_loop.get());
    let run = Run::begin(py, core);
    let result = run_rounds(event_loop);
    drop(run);
    result
}

/// Rounds are run for as long as this is kept.
struct Run<'a, 'py> {
    py: Python<'py>,
    core: &'a LoopCore,
    /// No outer run goes on.
    begun: bool,
}

impl<'a, 'py> Run<'a, 'py> {
    fn begin(py: Python<'py>, core: &'a LoopCore) -> Self {
        let begun = core.state.with(py, |state| {
            state.running = state.lent.is_none();
            state.meter.begin()
        });
        Self { py, core, begun }
    }
}

impl Drop for Run<'_, '_> {
    fn drop(&mut self) {
        self.core.state.with(self.py, |state| {
            state.running = !self.begun && state.lent.is_none();
            state.meter.end(self.begun);
        });
    }
}

fn run_rounds(event_loop: &Bound<'_, LoopCore>) -> PyResult<()> {
    let (py, core) = (event_loop.py(), event_loop.get());
    let mut turn = Turn::new();
    let result = rounds(event_loop, &mut turn);
    let left = turn.entered.leave(py);
    let flushed = writing::flush_all(py, core);
    result.and(left).and(flushed)
}

fn rounds(event_loop: &Bound<'_, LoopCore>, turn: &mut Turn) -> PyResult<()> {
    let mut outlook = Outlook::of(event_loop);
    loop {
        if !outlook.ours {
            if !overrides::rounds_are_ours(event_loop)? {
                return Ok(());
            }
            outlook = Outlook::of(event_loop);
        }
        round(event_loop, &outlook, turn)?;
        outlook = Outlook::of(event_loop);
        if outlook.stopping {
            return Ok(());
        }
    }
}

/// One round that polls for certain, or the standard loop's.
pub(super) fn run_once(event_loop: &Bound<'_, LoopCore>) -> PyResult<()> {
    let (py, core) = (event_loop.py(), event_loop.get());
    let mut turn = Turn::new();
    let run = Run::begin(py, core);
    let result = match overrides::standard_round(event_loop) {
        Ok(false) => round(event_loop, &Outlook::of(event_loop), &mut turn),
        other => other.map(drop),
    };
    let left = turn.entered.leave(py);
    let flushed = writing::flush_all(py, core);
    drop(run);
    result.and(left).and(flushed)
}

/// What a round begins with, read in one look.
struct Outlook {
    /// The loop was told to stop.
    stopping: bool,
    /// The round is ours, for all that is known.
    ours: bool,
    /// Something is ready, and no timer is set.
    simple: bool,
    /// Writes were gathered.
    unsent: bool,
    /// Descriptors of the program's are watched.
    watched: bool,
}

impl Outlook {
    #[inline]
    fn of(event_loop: &Bound<'_, LoopCore>) -> Self {
        let seen = overrides::Seen::of(event_loop);
        let state = &event_loop.get().state;
        state.with(event_loop.py(), |state| Self {
            stopping: state.stopping,
            ours: state.lent.is_none() && state.overrides.rounds_were_ours(seen),
            simple: state.schedule.ready_len() > 0 && !state.schedule.has_timers(),
            unsent: !state.unsent.is_empty(),
            watched: state.watches.len() > OWN_DESCRIPTORS,
        })
    }
}

#[inline]
fn round(event_loop: &Bound<'_, LoopCore>, outlook: &Outlook, turn: &mut Turn) -> PyResult<()> {
    let py = event_loop.py();
    let core = event_loop.get();
    if outlook.unsent {
        // Also what was written while the loop did not run.
        turn.entered.leave(py)?;
        writing::flush_all(py, core)?;
    }
    let now = ticks();
    let due = turn.pace.is_due(now, outlook.watched);
    if due || !outlook.simple {
        turn.entered.leave(py)?;
        poll_and_release(event_loop, now, due, turn)?;
    }
    run_ready(event_loop, &mut turn.entered)
}

/// Polls if that is `due`, or there is nothing to do but to wait; queues the timers that are due.
fn poll_and_release(
    event_loop: &Bound<'_, LoopCore>,
    now: u64,
    due: bool,
    turn: &mut Turn,
) -> PyResult<()> {
    let py = event_loop.py();
    let core = event_loop.get();
    let mut dropped = Vec::new();
    let (busy, next) = core.state.with(py, |state| {
        let busy = state.stopping || state.schedule.ready_len() > 0;
        (busy, state.schedule.next_timer(&mut dropped))
    });
    drop(dropped);
    if !busy {
        let limit = next.map(|when| until(event_loop, when)).transpose()?;
        let (found, answered) = poll(event_loop, limit, now, false)?;
        turn.pace.waited(answered, found);
    } else if due {
        let (found, answered) = poll(event_loop, Some(Duration::ZERO), now, true)?;
        turn.pace.looked(now, answered, found);
    }
    if next.is_some() || core.state.with(py, |state| state.schedule.has_timers()) {
        let found = overrides::found(event_loop)?;
        let own_clock = overrides::clock_is_ours(py, found)?;
        let end = clock_as(event_loop, found)? + RESOLUTION_S;
        core.state.with(py, |state| {
            let super::State {
                schedule, meter, ..
            } = state;
            meter.release_due(schedule, end, own_clock);
        });
    }
    Ok(())
}

/// How long until `when`, by the loop's clock.
fn until(event_loop: &Bound<'_, LoopCore>, when: f64) -> PyResult<Duration> {
    Ok(wait_of(when - clock(event_loop)?))
}

/// So many seconds as one wait.
pub(super) fn wait_of(seconds: f64) -> Duration {
    let seconds = seconds.clamp(0.0, WAIT_MAX_S);
    Duration::from_secs_f64(if seconds.is_nan() { 0.0 } else { seconds })
}

/// The loop's time, as its user sees it.
pub(super) fn clock(event_loop: &Bound<'_, LoopCore>) -> PyResult<f64> {
    clock_as(event_loop, overrides::found(event_loop)?)
}

/// The same, for who has looked at what is ours.
#[inline]
pub(super) fn clock_as(event_loop: &Bound<'_, LoopCore>, found: overrides::Found) -> PyResult<f64> {
    let py = event_loop.py();
    if overrides::clock_is_ours(py, found)? {
        return Ok(monotonic_s());
    }
    time_object(event_loop)?.extract()
}

/// The loop's time as an object, asked from as deep a stack as the standard loop has.
pub(super) fn time_object<'py>(event_loop: &Bound<'py, LoopCore>) -> PyResult<Bound<'py, PyAny>> {
    function(event_loop.py(), "offloop._loop.handles", "time_of")?.call1((event_loop,))
}

/// Takes what is ready from the kernel, and queues who waits for it. Returns whether there was
/// anything, and when the kernel answered. Unless the loop is busy, others get the interpreter
/// meanwhile, also if the time of the next timer has come: its clock may stand still.
fn poll(
    event_loop: &Bound<'_, LoopCore>,
    limit: Option<Duration>,
    now: u64,
    busy: bool,
) -> PyResult<(bool, u64)> {
    let mut any = false;
    let answered = wait(event_loop, limit, now, busy, &mut |kernel, found| {
        any = !found.is_empty();
        queue_found(event_loop.py(), event_loop.get(), kernel, found)
    })?;
    Ok((any, answered))
}

/// As `poll`; `take` is shown what is ready.
pub(super) fn wait(
    event_loop: &Bound<'_, LoopCore>,
    limit: Option<Duration>,
    now: u64,
    busy: bool,
    take: &mut dyn FnMut(&Kernel, &Found) -> std::io::Result<()>,
) -> PyResult<u64> {
    let py = event_loop.py();
    let core = event_loop.get();
    if !busy {
        trim(py);
        // A signal that comes later than this ends the wait.
        py.check_signals()?;
    }
    let (mut found, kernel, limit) = core.state.with(py, |state| {
        // What has run since the loop was seen to be idle may have found no reason to wake it.
        let idle = state.schedule.ready_len() == 0 && !state.stopping;
        let limit = if idle { limit } else { Some(Duration::ZERO) };
        state.asleep = limit != Some(Duration::ZERO);
        state.meter.poll(now, state.asleep);
        let mut found = state.found.take().unwrap_or_default();
        // All that is ready belongs to one round. One more wakes the loop.
        found.make_room(state.watches.len() + 1);
        (found, state.kernel.clone(), limit)
    });
    let Some(kernel) = kernel else {
        return Err(PyRuntimeError::new_err("Event loop is closed"));
    };
    let readiness = &kernel.readiness;
    let mut wait = || (readiness.wait(&mut found, limit), ticks());
    // The clock is read before the interpreter's lock is waited for: that is lag.
    let (result, answered) = if busy { wait() } else { py.detach(wait) };
    let outcome = match result {
        Ok(()) => take(&kernel, &found),
        // A signal: its Python handler runs now, and may raise.
        Err(error) if error.kind() == std::io::ErrorKind::Interrupted => Ok(()),
        Err(error) => Err(error),
    };
    let outcome = outcome.map_err(os_error);
    core.state.with(py, |state| {
        state.asleep = false;
        state.meter.polled(if busy { now } else { answered });
        state.found = Some(found);
    });
    outcome?;
    py.check_signals()?;
    Ok(answered)
}

fn queue_found(
    py: Python<'_>,
    core: &LoopCore,
    kernel: &Kernel,
    found: &Found,
) -> std::io::Result<()> {
    let mut all_known = true;
    let waker = kernel.waker.as_fd().as_raw_fd();
    for (fd, ready) in (0..found.len()).filter_map(|index| found.get(index)) {
        if fd != waker {
            all_known &= queue_ready(py, core, kernel, fd, ready);
        }
    }
    if all_known {
        Ok(())
    } else {
        renew(py, core, kernel)
    }
}

/// Has the kernel forget the descriptors that nobody watches any more.
pub(super) fn renew(py: Python<'_>, core: &LoopCore, kernel: &Kernel) -> std::io::Result<()> {
    core.state
        .with(py, |state| state.watches.renew(&kernel.readiness))?;
    kernel
        .readiness
        .watch_waker(kernel.waker.as_fd().as_raw_fd())
}

/// Queues who waits for what one descriptor is ready for; false when nobody knows it.
pub(super) fn queue_ready(
    py: Python<'_>,
    core: &LoopCore,
    kernel: &Kernel,
    fd: RawFd,
    ready: Interest,
) -> bool {
    core.state.with(py, |state| {
        let super::State {
            schedule, watches, ..
        } = state;
        watches.collect(py, &kernel.readiness, fd, ready, &mut |entry| {
            schedule.push(entry);
        })
    })
}

/// Runs what is ready now, in order.
fn run_ready(event_loop: &Bound<'_, LoopCore>, entered: &mut Entered) -> PyResult<()> {
    let py = event_loop.py();
    let core = event_loop.get();
    let (count, debug, armed) = core.state.with(py, |state| {
        let count = state.schedule.ready_len();
        state.meter.round(count);
        (count, state.debug, state.armed.is_some())
    });
    for _ in 0..count {
        // A callback may have got hold of the queue: the rest of it belongs to the next round.
        let next = |state: &mut super::State| match state.lent {
            None => state.schedule.pop(),
            Some(_) => None,
        };
        let Some(entry) = core.state.with(py, next) else {
            break;
        };
        let mark = armed.then(|| Mark::begin(core, &entry));
        if debug {
            entered.leave(py)?;
            run_watched(event_loop, entry, mark)?;
        } else {
            run_entry(core, py, entry, entered, mark)?;
        }
    }
    Ok(())
}

#[inline]
pub(super) fn run_entry(
    core: &LoopCore,
    py: Python<'_>,
    entry: Entry,
    entered: &mut Entered,
    mark: Option<Mark<'_>>,
) -> PyResult<()> {
    match entry {
        Entry::Ours(handle) => {
            let result = run_handle(py, &handle, entered);
            drop(mark);
            result.and(handle.finish(py, false))
        }
        Entry::Stream(stream, Side::Reader) => core.with_read_memory(py, |memory| {
            reading::read_ready(stream.bind(py), entered, memory)
        }),
        Entry::Stream(stream, Side::Writer) => {
            entered.leave(py)?;
            writing::flush_ready(stream.bind(py))
        }
        Entry::Wait(wait) => {
            entered.leave(py)?;
            sock::go_on(core, py, wait)
        }
        Entry::Foreign(handle) => {
            entered.leave(py)?;
            let handle = handle.bind(py);
            if !handle
                .getattr(pyo3::intern!(py, "_cancelled"))?
                .is_truthy()?
            {
                handle.call_method0(pyo3::intern!(py, "_run"))?;
            }
            Ok(())
        }
    }
}

#[inline]
fn run_handle(py: Python<'_>, handle: &Handle, entered: &mut Entered) -> PyResult<()> {
    if handle.is_spent() {
        return Ok(());
    }
    if let Err(error) = entered.switch_to(py, handle) {
        return report(handle.to_object(py).bind(py), error);
    }
    let result = handle.call(py);
    if result.is_null() {
        let error = PyErr::fetch(py);
        entered.leave_to(py, handle)?;
        return report(handle.to_object(py).bind(py), error);
    }
    // SAFETY: a new reference that nobody wants.
    unsafe { ffi::Py_DECREF(result) };
    Ok(())
}

/// Runs a handle outside any round, as its `_run` method.
pub(super) fn run_alone(py: Python<'_>, handle: &Handle) -> PyResult<()> {
    let mut entered = Entered::default();
    let result = run_handle(py, handle, &mut entered);
    let left = entered.leave(py);
    result.and(left)
}

/// Debug mode: the handle is the loop's current one, and a slow one is logged.
fn run_watched(
    event_loop: &Bound<'_, LoopCore>,
    entry: Entry,
    mark: Option<Mark<'_>>,
) -> PyResult<()> {
    let py = event_loop.py();
    if entry.is_cancelled(py)? {
        return Ok(());
    }
    let core = event_loop.get();
    if let Entry::Wait(wait) = entry {
        return sock::go_on(core, py, wait);
    }
    let object = entry.to_object(py);
    event_loop.setattr(pyo3::intern!(py, "_current_handle"), &object)?;
    let before = clock(event_loop)?;
    let mut entered = Entered::default();
    // The callback stays in its handle until the log is written.
    let (result, handle) = match entry {
        Entry::Ours(handle) => (run_handle(py, &handle, &mut entered), Some(handle)),
        other => (run_entry(core, py, other, &mut entered, None), None),
    };
    drop(mark);
    let result = result.and(entered.leave(py));
    let elapsed = clock(event_loop)? - before;
    event_loop.setattr(pyo3::intern!(py, "_current_handle"), py.None())?;
    result?;
    let limit = core.state.with(py, |state| state.slow_callback_s);
    if elapsed >= limit {
        function(py, "offloop._loop.handles", "log_slow")?.call1((&object, elapsed))?;
    }
    drop(object);
    handle.map_or(Ok(()), |handle| handle.finish(py, true))
}

/// A callback raised: the loop's exception handler hears of it.
pub(super) fn report(handle: &Bound<'_, PyAny>, error: PyErr) -> PyResult<()> {
    let py = handle.py();
    if error.is_instance_of::<PySystemExit>(py) || error.is_instance_of::<PyKeyboardInterrupt>(py) {
        return Err(error);
    }
    function(py, "offloop._loop.handles", "report")?.call1((handle, error.into_value(py)))?;
    Ok(())
}
