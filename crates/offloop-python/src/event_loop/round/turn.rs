//! A run of the loop: rounds, each of which runs what is ready.
//!
//! As in the standard loop, a round runs what was ready when it began; what those callbacks
//! schedule runs in the next. While there is work the poll does not wait, and is left out where it
//! can find nothing (`PollPace`): a chain of callbacks does not pay a system call for each link.
//!
//! Errors:     `SystemExit` and `KeyboardInterrupt` end the run; everything else that a callback
//!             raises goes to the loop's exception handler.
//! Source:     asyncio/base_events.py (`_run_once`); research on loops, sections A4 and D2.

use std::ptr::null_mut;

use offloop_core::event_loop::{RunNumber, Turn};
use offloop_sys::clock::ticks;
use pyo3::prelude::*;

use super::super::handle::context::Entered;
use super::super::handle::run::run_handle;
use super::super::port::marks::Mark;
use super::super::port::schedule::Entry;
use super::super::port::{LoopPort, State};
use super::super::sock;
use super::super::streams::flushing;
use super::clock::clock;
use super::endings::Endings;
use super::entry::run_entry;
use super::idle::OWN_DESCRIPTORS;
use super::loop_core::LoopCore;
use super::overrides::seen_of;
use super::poll::poll_and_release;
use super::run::Run;
use super::whose;
use crate::forsaking;
use crate::names::function;

/// Runs rounds until the loop is told to stop, or the next round is the program's.
pub(crate) fn run(event_loop: &Bound<'_, LoopCore>) -> PyResult<()> {
    forsaking::stay();
    let mut run = Run::begin(event_loop)?;
    let result = rounds(&mut run);
    finish(&mut run, result)
}

/// One round that polls for certain, or the standard loop's.
pub(crate) fn run_once(event_loop: &Bound<'_, LoopCore>) -> PyResult<()> {
    forsaking::stay();
    let mut run = Run::begin(event_loop)?;
    let result = match whose::standard_round(event_loop) {
        Ok(false) => round(&mut run, &Outlook::of(event_loop)).map(drop),
        other => other.map(drop),
    };
    finish(&mut run, result)
}

/// What the run has left to do when its last round is over.
fn finish(run: &mut Run<'_, '_>, result: PyResult<()>) -> PyResult<()> {
    let left = run.leave();
    let flushed = flush(run).map(drop);
    result.and(left).and(flushed)
}

fn rounds(run: &mut Run<'_, '_>) -> PyResult<()> {
    let event_loop = run.event_loop();
    let mut outlook = Outlook::of(event_loop);
    loop {
        if !outlook.ours {
            if !whose::rounds_are_ours(event_loop)? {
                return Ok(());
            }
            outlook = Outlook::of(event_loop);
        }
        let goes_on = round(run, &outlook)?;
        outlook = Outlook::of(event_loop);
        if outlook.stopping || !goes_on {
            return Ok(());
        }
    }
}

/// What a round begins with.
struct Outlook {
    /// The loop was told to stop.
    stopping: bool,
    /// The round is known to be ours; if not, the classes are to be looked at.
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
        let unsent = port.unsent.with(py, |unsent| unsent.is_listed());
        port.state.with(py, |state| Self {
            stopping: state.stopping,
            ours: were_ours && !state.schedule.is_lent(),
            simple: state.schedule.ready_len() > 0 && !state.schedule.has_timers(),
            unsent,
            watched: state.watches.len() > OWN_DESCRIPTORS,
        })
    }
}

/// One round; false if the run is to end.
#[inline]
fn round(run: &mut Run<'_, '_>, outlook: &Outlook) -> PyResult<bool> {
    if outlook.unsent {
        // Also what was written while the loop did not run.
        run.leave()?;
        if !flush(run)? {
            return Ok(false);
        }
    }
    let event_loop = run.event_loop();
    let now = ticks();
    let due = run.pace.is_due(now, outlook.watched);
    if due || !outlook.simple {
        run.leave()?;
        poll_and_release(event_loop, now, due, &mut run.pace)?;
    }
    run_ready(run)
}

/// Sends what the streams have collected; false if the run is to end. The protocols' callbacks are
/// callbacks of a round.
fn flush(run: &mut Run<'_, '_>) -> PyResult<bool> {
    let (py, port) = (run.py(), run.port());
    while !port
        .state
        .with(py, |state| state.runs.begin_round(run.number, 0))
    {
        if !run.regain()? {
            return Ok(false);
        }
    }
    flushing::flush_all(py, port, Some(run.number))?;
    let turn = port.state.with(py, |state| state.runs.next(run.number));
    if turn == Turn::Lost {
        return run.regain();
    }
    Ok(true)
}

/// What comes next in a round.
enum Next {
    Entry(Entry),
    RoundOver,
    Lost,
}

fn next(state: &mut State, number: RunNumber) -> Next {
    match state.runs.next(number) {
        Turn::Callback => match state.schedule.pop() {
            Some(entry) => Next::Entry(entry),
            None => {
                // A callback was lent the queue: the rest of it belongs to the next round.
                let _over = state.runs.end_round(number);
                Next::RoundOver
            }
        },
        Turn::RoundOver => Next::RoundOver,
        Turn::Lost => Next::Lost,
    }
}

/// Runs what is ready now, in order; false if the run is to end.
fn run_ready(run: &mut Run<'_, '_>) -> PyResult<bool> {
    // Kept with the run, so that a round does not count references.
    let endings = run.take_endings();
    let result = run_entries(run, endings.as_deref());
    run.endings = endings;
    result
}

fn run_entries(run: &mut Run<'_, '_>, endings: Option<&Endings>) -> PyResult<bool> {
    let (py, port) = (run.py(), run.port());
    let armed = port.marks.are_armed(py);
    let debug = loop {
        let begun = port.state.with(py, |state| {
            let ready = state.schedule.ready_len();
            let begun = state.runs.begin_round(run.number, ready);
            begun.then(|| {
                state.meter.round(ready);
                state.debug
            })
        });
        match begun {
            Some(debug) => break debug,
            None if run.regain()? => {}
            None => return Ok(false),
        }
    };
    loop {
        let entry = match port.state.with(py, |state| next(state, run.number)) {
            Next::Entry(entry) => entry,
            Next::RoundOver => return Ok(true),
            Next::Lost => {
                if !run.regain()? {
                    return Ok(false);
                }
                continue;
            }
        };
        if let Some(endings) = endings {
            run_told(run, entry, (armed, debug), endings)?;
        } else if armed || debug {
            run_watched(run, entry, (armed, debug))?;
        } else {
            run_entry(port, py, entry, &run.entered)?;
        }
    }
}

/// Marks an entry that is about to run.
fn mark<'a, 'py>(py: Python<'py>, port: &'a LoopPort, entry: &Entry) -> Mark<'a, 'py> {
    let called = match entry {
        Entry::Ours(handle) => handle.callback(),
        Entry::Foreign(handle) => handle.as_ptr(),
        Entry::Stream(stream, _) => stream.as_ptr(),
        Entry::Wait(_) => null_mut(),
    };
    // SAFETY: alive: the entry has it.
    unsafe { Mark::begin(py, &port.marks, called) }
}

/// As `run_watched`, and tells of a task that has failed in this step.
#[cold]
fn run_told(
    run: &Run<'_, '_>,
    entry: Entry,
    watch: (bool, bool),
    endings: &Endings,
) -> PyResult<()> {
    let task = endings.task_of(run.py(), &entry);
    let result = if watch == (false, false) {
        run_entry(run.port(), run.py(), entry, &run.entered)
    } else {
        run_watched(run, entry, watch)
    };
    if let Some(task) = task.filter(|task| endings.has_failed(task)) {
        // The listener runs in no callback's context.
        let left = run.leave();
        let told = endings.tell(&task);
        return result.and(left).and(told);
    }
    result
}

/// As `run_entry`, with a mark on an armed loop, and as the debug mode wants it.
#[cold]
fn run_watched(run: &Run<'_, '_>, entry: Entry, (armed, debug): (bool, bool)) -> PyResult<()> {
    let (py, port) = (run.py(), run.port());
    let mark = armed.then(|| mark(py, port, &entry));
    if debug {
        run.leave()?;
        run_debugged(run.event_loop(), entry, mark)
    } else {
        run_entry(port, py, entry, &run.entered)
    }
}

/// Debug mode: the handle is the loop's current one, and a slow one is logged.
fn run_debugged(
    event_loop: &Bound<'_, LoopCore>,
    entry: Entry,
    mark: Option<Mark<'_, '_>>,
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
    let entered = Entered::default();
    // The callback stays in its handle until the log is written.
    let (result, handle) = match entry {
        Entry::Ours(handle) => (run_handle(py, &handle, &entered), Some(handle)),
        other => (run_entry(port, py, other, &entered), None),
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
