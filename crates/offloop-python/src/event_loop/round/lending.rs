//! What is to be run, in Python's own containers, for programs that use these themselves.
//!
//! The standard loop has its callbacks in a deque and its timers in a list that is a heap, and
//! waits with a selector. Programs use these: `nest_asyncio` has rounds of its own, `looptime` a
//! clock that does not wait, and other libraries add to the queue. A program that asks for `_ready`
//! or `_scheduled` is lent both. What is scheduled meanwhile is added when the program asks again.
//! Once only the loop refers to the two, it takes everything back before its next round.
//!
//! Invariants: 1. What is in the native queue came after what is in the deque.
//!             2. The containers are looked at while the state is not in use: comparing timers of
//!                other classes runs Python code.
//!             3. What is written while they are lent is sent at once: the program's rounds would
//!                not send it at their end.
//! Source:     asyncio/base_events.py (`_run_once`), asyncio/selector_events.py.

use std::os::fd::RawFd;
use std::time::Duration;

use offloop_sys::clock::ticks;
use offloop_sys::readiness::Interest;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

use super::super::ground::cell::GilCell;
use super::super::ground::errors::os_error;
use super::super::handle::context::Entered;
use super::super::handle::run::report;
use super::super::handle::{Handle, TimerHandle};
use super::super::port::State;
use super::super::port::schedule::Entry;
use super::super::streams::flushing;
use super::super::streams::stream::Stream;
use super::clock::wait_of;
use super::entry::run_entry;
use super::lent::{Lent, is_deque, tools};
use super::loop_core::LoopCore;
use super::poll;

/// As in `selectors`.
const EVENT_READ: u8 = 1;
const EVENT_WRITE: u8 = 2;

/// What stands in the deque for something that has no handle: a stream, or a call on a socket.
#[pyclass(frozen, module = "_offloop_worker._offloop")]
pub(crate) struct QueuedEntry {
    event_loop: Py<LoopCore>,
    /// The stream or the call, for texts.
    callback: Py<PyAny>,
    /// The context in which it calls the program, if there is one already.
    context: Option<Py<PyAny>>,
    entry: GilCell<Option<Entry>>,
}

#[pymethods]
impl QueuedEntry {
    /// Runs it once, as a handle does. What it raises goes to the loop's exception handler: such as
    /// the error of a stream that is to read in rounds which a callback of its own runs.
    fn _run(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let Some(entry) = slf.get().entry.with(py, Option::take) else {
            return Ok(());
        };
        let port = slf.get().event_loop.bind(py).as_super().get();
        let entered = Entered::default();
        let result = run_entry(port, py, entry, &entered);
        let result = result.and(entered.leave(py));
        result.or_else(|error| report(slf.as_any(), error))
    }

    fn cancel(&self, py: Python<'_>) {
        drop(self.entry.with(py, Option::take));
    }

    #[pyo3(name = "cancelled")]
    fn is_cancelled(&self, py: Python<'_>) -> bool {
        self.entry.with(py, |entry| entry.is_none())
    }

    #[getter(_cancelled)]
    fn cancelled(&self, py: Python<'_>) -> bool {
        self.is_cancelled(py)
    }

    #[getter(_callback)]
    fn callback(&self, py: Python<'_>) -> Py<PyAny> {
        self.callback.clone_ref(py)
    }

    #[getter(_args)]
    fn args<'py>(&self, py: Python<'py>) -> Bound<'py, PyTuple> {
        PyTuple::empty(py)
    }

    #[getter(_context)]
    fn context(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.context.as_ref().map(|context| context.clone_ref(py))
    }

    #[getter(_loop)]
    fn event_loop(&self, py: Python<'_>) -> Py<LoopCore> {
        self.event_loop.clone_ref(py)
    }

    #[getter(_source_traceback)]
    fn source_traceback(&self) -> Option<Py<PyAny>> {
        None
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // SAFETY: *collected*: attached, and never inside `with`.
        let py = unsafe { Python::assume_attached() };
        visit.call(&self.event_loop)?;
        visit.call(&self.callback)?;
        visit.call(&self.context)?;
        self.entry.with(py, |entry| match entry {
            Some(entry) => entry.traverse(&visit),
            None => Ok(()),
        })
    }

    fn __clear__(&self, py: Python<'_>) {
        self.cancel(py);
    }
}

/// The context in which a stream calls its protocol.
fn context_of(entry: &Entry, py: Python<'_>) -> Option<Py<PyAny>> {
    match entry {
        Entry::Stream(stream, side) => {
            let stream = stream.bind(py).cast::<Stream>().ok()?;
            stream.get().context(py, *side)
        }
        _ => None,
    }
}

/// The containers, made if there are none.
fn lent(event_loop: &Bound<'_, LoopCore>) -> PyResult<Lent> {
    let py = event_loop.py();
    let (core, port) = (event_loop.get(), event_loop.as_super().get());
    if let Some(lent) = core.lent(py) {
        return Ok(lent);
    }
    flushing::flush_all(py, port, None)?;
    let lent = Lent {
        ready: tools(py)?.deque.call0(py)?,
        timers: PyList::empty(py).unbind(),
    };
    port.state.with(py, |state| state.schedule.set_lent(true));
    port.unsent.with(py, |unsent| unsent.set_running(false));
    let again = lent.clone_ref(py);
    let old = core.state.with(py, |state| state.lent.replace(again));
    drop(old);
    Ok(lent)
}

/// `_ready`: what is to be run next, in its order.
pub(crate) fn ready<'py>(event_loop: &Bound<'py, LoopCore>) -> PyResult<Bound<'py, PyAny>> {
    let py = event_loop.py();
    if event_loop.as_super().get().is_closed(py) {
        return tools(py)?.deque.bind(py).call0();
    }
    let lent = lent(event_loop)?;
    gather_ready(event_loop, &lent)?;
    Ok(lent.ready.into_bound(py))
}

/// `_scheduled`: the timers that wait, as a heap, cancelled ones included.
pub(crate) fn timers<'py>(event_loop: &Bound<'py, LoopCore>) -> PyResult<Bound<'py, PyList>> {
    let py = event_loop.py();
    if event_loop.as_super().get().is_closed(py) {
        return Ok(PyList::empty(py));
    }
    let lent = lent(event_loop)?;
    gather_timers(event_loop, &lent)?;
    Ok(lent.timers.into_bound(py))
}

/// Puts another queue in the place of the one that was lent: one that counts, say, what is put in.
pub(crate) fn set_ready(
    event_loop: &Bound<'_, LoopCore>,
    queue: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let py = event_loop.py();
    let port = event_loop.as_super().get();
    let waits = |state: &mut State| state.schedule.ready_len() > 0;
    let is_usual = is_deque(queue)? && queue.is_empty()?;
    let is_lent = event_loop.get().lent(py).is_some();
    if is_usual && !is_lent && !port.state.with(py, waits) {
        // The constructor's.
        return Ok(());
    }
    gather_ready(event_loop, &lent(event_loop)?)?;
    let queue = queue.clone().unbind();
    exchange(event_loop, |lent| std::mem::replace(&mut lent.ready, queue));
    Ok(())
}

/// Puts another heap in the place of the one that was lent.
pub(crate) fn set_timers(
    event_loop: &Bound<'_, LoopCore>,
    heap: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let py = event_loop.py();
    let port = event_loop.as_super().get();
    let waits = |state: &mut State| state.schedule.timers_len() > 0;
    let heap = heap.cast::<PyList>()?;
    let is_usual = heap.is_exact_instance_of::<PyList>() && heap.is_empty();
    let is_lent = event_loop.get().lent(py).is_some();
    if is_usual && !is_lent && !port.state.with(py, waits) {
        // The constructor's.
        return Ok(());
    }
    gather_timers(event_loop, &lent(event_loop)?)?;
    let heap = heap.clone().unbind();
    exchange(event_loop, |lent| {
        std::mem::replace(&mut lent.timers, heap).into_any()
    });
    Ok(())
}

/// Exchanges a container that is lent. What the old one holds goes with it.
fn exchange(event_loop: &Bound<'_, LoopCore>, put: impl FnOnce(&mut Lent) -> Py<PyAny>) {
    let state = &event_loop.get().state;
    let old = state.with(event_loop.py(), |state| state.lent.as_mut().map(put));
    drop(old);
}

/// How many are in the deque, and how many timers in the heap are not cancelled.
pub(crate) fn sizes(event_loop: &Bound<'_, LoopCore>) -> (usize, usize) {
    let py = event_loop.py();
    event_loop.get().lent(py).map_or((0, 0), |lent| {
        let timers = lent.timers.bind(py).iter().map(Handle::from_object);
        let waits = |timer: &Result<Handle, _>| match timer {
            Ok(handle) => !handle.is_cancelled(py),
            Err(_) => true,
        };
        let timers = timers.filter(waits).count();
        (lent.ready.bind(py).len().unwrap_or(0), timers)
    })
}

fn gather_ready(event_loop: &Bound<'_, LoopCore>, lent: &Lent) -> PyResult<()> {
    let py = event_loop.py();
    let state = &event_loop.as_super().get().state;
    let ready = lent.ready.bind(py);
    while let Some(entry) = state.with(py, |state| state.schedule.pop_lent()) {
        let object = match entry {
            Entry::Ours(handle) => handle.into_known_object(py),
            Entry::Foreign(handle) => handle,
            entry => {
                let entry = QueuedEntry {
                    event_loop: event_loop.clone().unbind(),
                    callback: entry.to_object(py),
                    context: context_of(&entry, py),
                    entry: GilCell::new(Some(entry)),
                };
                Py::new(py, entry)?.into_any()
            }
        };
        ready.call_method1(pyo3::intern!(py, "append"), (object,))?;
    }
    Ok(())
}

fn gather_timers(event_loop: &Bound<'_, LoopCore>, lent: &Lent) -> PyResult<()> {
    let py = event_loop.py();
    let state = &event_loop.as_super().get().state;
    let handles = state.with(py, |state| state.schedule.take_timers());
    let timers = lent.timers.bind(py);
    if timers.is_empty() {
        // A list in their order is a heap.
        for handle in handles {
            timers.append(handle.into_handle().into_known_object(py))?;
        }
        return Ok(());
    }
    for handle in handles {
        let handle = handle.into_handle().into_known_object(py);
        tools(py)?.heappush.call1(py, (timers, handle))?;
    }
    Ok(())
}

/// Takes everything back, if only the loop has the containers and all timers are ours. Returns
/// whether it did.
pub(crate) fn take_back(event_loop: &Bound<'_, LoopCore>) -> PyResult<bool> {
    let py = event_loop.py();
    let (core, port) = (event_loop.get(), event_loop.as_super().get());
    let lent = core
        .state
        .with(py, |state| state.lent.take_if(|lent| lent.is_sole(py)));
    let Some(lent) = lent else {
        return Ok(false);
    };
    let items = lent.timers.bind(py).iter();
    let Ok(timers) = items
        .map(TimerHandle::from_object)
        .collect::<Result<Vec<_>, _>>()
    else {
        core.state.with(py, |state| state.lent = Some(lent));
        return Ok(false);
    };
    let mut ready = Vec::new();
    for item in lent.ready.bind(py).try_iter()? {
        ready.push(match Handle::from_object(item?) {
            Ok(handle) => Entry::Ours(handle),
            Err(object) => match object.cast::<QueuedEntry>() {
                Ok(queued) => match queued.get().entry.with(py, Option::take) {
                    Some(entry) => entry,
                    None => continue,
                },
                Err(_) => Entry::Foreign(object.unbind()),
            },
        });
    }
    let swept = port.state.with(py, |state| {
        state.schedule.set_lent(false);
        state.schedule.put_back(py, ready, timers)
    });
    drop(swept);
    // Within a run of ours: what is written is sent at the end of its round.
    port.unsent.with(py, |unsent| unsent.set_running(true));
    Ok(true)
}

/// What the selector of the loop finds: descriptors, and what each is ready for.
pub(crate) fn select(
    event_loop: &Bound<'_, LoopCore>,
    timeout: Option<f64>,
) -> PyResult<Vec<(RawFd, u8)>> {
    let py = event_loop.py();
    flushing::flush_all(py, event_loop.as_super().get(), None)?;
    let limit = timeout.map(wait_of);
    let busy = limit == Some(Duration::ZERO);
    let mut events = Vec::new();
    poll::wait(event_loop, limit, ticks(), busy, &mut |_, found| {
        for (fd, ready) in (0..found.len()).filter_map(|index| found.get(index)) {
            let read = if ready.read { EVENT_READ } else { 0 };
            let write = if ready.write { EVENT_WRITE } else { 0 };
            events.push((fd, read | write));
        }
        Ok(())
    })?;
    Ok(events)
}

/// `_process_events`: queues what waits for the descriptors that the selector has found.
pub(crate) fn process_events(
    event_loop: &Bound<'_, LoopCore>,
    events: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let py = event_loop.py();
    let port = event_loop.as_super().get();
    let Some(kernel) = port.state.with(py, |state| state.kernel.clone()) else {
        return Ok(());
    };
    let mut all_known = true;
    for event in events.try_iter()? {
        let (key, mask) = event?.extract::<(Bound<'_, PyAny>, u8)>()?;
        let fd = key.getattr(pyo3::intern!(py, "fd"))?.extract()?;
        let ready = Interest {
            read: mask & EVENT_READ != 0,
            write: mask & EVENT_WRITE != 0,
            once: false,
        };
        all_known &= poll::queue_ready(py, port, &kernel, fd, ready);
    }
    if !all_known {
        poll::renew(py, port, &kernel).map_err(os_error)?;
    }
    if let Some(lent) = event_loop.get().lent(py) {
        // The program, which has the deque, finds the entries there.
        gather_ready(event_loop, &lent)?;
        let count = lent.ready.bind(py).len()?;
        port.state.with(py, |state| state.meter.round(count));
    }
    Ok(())
}
