//! A run of the loop: rounds, each of which runs what is ready.
//!
//! As in the standard loop, a round runs what was ready when it began; what those callbacks
//! schedule runs in the next. While there is work the poll does not wait, and is left out where it
//! can find nothing (`PollPace`): a chain of callbacks does not pay a system call for each link.
//!
//! Errors:     `SystemExit` and `KeyboardInterrupt` end the run; everything else that a callback
//!             raises goes to the loop's exception handler.
//! Source:     asyncio/base_events.py (`_run_once`); research on loops, sections A4 and D2.

use offloop_core::event_loop::PollPace;
use offloop_sys::clock::ticks;
use pyo3::prelude::*;

use super::super::handle::context::Entered;
use super::super::handle::run::run_handle;
use super::super::port::LoopPort;
use super::super::port::schedule::Entry;
use super::super::sock;
use super::super::streams::flushing;
use super::clock::clock;
use super::entry::run_entry;
use super::loop_core::LoopCore;
use super::overrides::seen_of;
use super::poll::poll_and_release;
use super::running::Mark;
use super::whose;
use crate::names::function;

/// What the loop watches for itself: the socket that signals are written to.
const OWN_DESCRIPTORS: usize = 1;

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
pub(crate) fn run(event_loop: &Bound<'_, LoopCore>) -> PyResult<()> {
    let run = Run::begin(event_loop);
    let result = run_rounds(event_loop);
    drop(run);
    result
}

/// Rounds are run for as long as this is kept.
struct Run<'a, 'py> {
    event_loop: &'a Bound<'py, LoopPort>,
    /// No outer run goes on.
    begun: bool,
}

impl<'a, 'py> Run<'a, 'py> {
    fn begin(event_loop: &'a Bound<'py, LoopCore>) -> Self {
        let event_loop = event_loop.as_super();
        let begun = event_loop.get().state.with(event_loop.py(), |state| {
            state.running = !state.schedule.is_lent();
            state.meter.begin()
        });
        Self { event_loop, begun }
    }
}

impl Drop for Run<'_, '_> {
    fn drop(&mut self) {
        let state = &self.event_loop.get().state;
        state.with(self.event_loop.py(), |state| {
            state.running = !self.begun && !state.schedule.is_lent();
            state.meter.end(self.begun);
        });
    }
}

fn run_rounds(event_loop: &Bound<'_, LoopCore>) -> PyResult<()> {
    let (py, port) = (event_loop.py(), event_loop.as_super().get());
    let mut turn = Turn::new();
    let result = rounds(event_loop, &mut turn);
    let left = turn.entered.leave(py);
    let flushed = flushing::flush_all(py, port);
    result.and(left).and(flushed)
}

fn rounds(event_loop: &Bound<'_, LoopCore>, turn: &mut Turn) -> PyResult<()> {
    let mut outlook = Outlook::of(event_loop);
    loop {
        if !outlook.ours {
            if !whose::rounds_are_ours(event_loop)? {
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
pub(crate) fn run_once(event_loop: &Bound<'_, LoopCore>) -> PyResult<()> {
    let (py, port) = (event_loop.py(), event_loop.as_super().get());
    let mut turn = Turn::new();
    let run = Run::begin(event_loop);
    let result = match whose::standard_round(event_loop) {
        Ok(false) => round(event_loop, &Outlook::of(event_loop), &mut turn),
        other => other.map(drop),
    };
    let left = turn.entered.leave(py);
    let flushed = flushing::flush_all(py, port);
    drop(run);
    result.and(left).and(flushed)
}

/// What a round begins with.
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
        let py = event_loop.py();
        let seen = seen_of(event_loop);
        let rounds = &event_loop.get().state;
        let were_ours = rounds.with(py, |state| state.overrides.rounds_were_ours(seen));
        let port = event_loop.as_super().get();
        port.state.with(py, |state| Self {
            stopping: state.stopping,
            ours: were_ours && !state.schedule.is_lent(),
            simple: state.schedule.ready_len() > 0 && !state.schedule.has_timers(),
            unsent: !state.unsent.is_empty(),
            watched: state.watches.len() > OWN_DESCRIPTORS,
        })
    }
}

#[inline]
fn round(event_loop: &Bound<'_, LoopCore>, outlook: &Outlook, turn: &mut Turn) -> PyResult<()> {
    let py = event_loop.py();
    let port = event_loop.as_super().get();
    if outlook.unsent {
        // Also what was written while the loop did not run.
        turn.entered.leave(py)?;
        flushing::flush_all(py, port)?;
    }
    let now = ticks();
    let due = turn.pace.is_due(now, outlook.watched);
    if due || !outlook.simple {
        turn.entered.leave(py)?;
        poll_and_release(event_loop, now, due, &mut turn.pace)?;
    }
    run_ready(event_loop, &mut turn.entered)
}

/// Runs what is ready now, in order.
fn run_ready(event_loop: &Bound<'_, LoopCore>, entered: &mut Entered) -> PyResult<()> {
    let py = event_loop.py();
    let (core, port) = (event_loop.get(), event_loop.as_super().get());
    let armed = core.state.with(py, |state| state.armed.is_some());
    let (count, debug) = port.state.with(py, |state| {
        let count = state.schedule.ready_len();
        state.meter.round(count);
        (count, state.debug)
    });
    for _ in 0..count {
        // A callback may have got hold of the queue: the rest of it belongs to the next round.
        let Some(entry) = port.state.with(py, |state| state.schedule.pop()) else {
            break;
        };
        let mark = armed.then(|| Mark::begin(&core.running, &entry));
        if debug {
            entered.leave(py)?;
            run_watched(event_loop, entry, mark)?;
        } else {
            run_entry(port, py, entry, entered, mark)?;
        }
    }
    Ok(())
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
    let (core, port) = (event_loop.get(), event_loop.as_super().get());
    if let Entry::Wait(wait) = entry {
        return sock::go_on(port, py, wait);
    }
    let object = entry.to_object(py);
    event_loop.setattr(pyo3::intern!(py, "_current_handle"), &object)?;
    let before = clock(event_loop)?;
    let mut entered = Entered::default();
    // The callback stays in its handle until the log is written.
    let (result, handle) = match entry {
        Entry::Ours(handle) => (run_handle(py, &handle, &mut entered), Some(handle)),
        other => (run_entry(port, py, other, &mut entered, None), None),
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
