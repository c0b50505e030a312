//! What the floors above may use of a loop, and all that they may: the one port to it.
//!
//! `LoopPort` is the base class of `LoopCore`, which is on top of all floors and has the rest. The
//! streams, the TLS connections and the calls on sockets have the loop as a `LoopPort`: they count,
//! have descriptors watched, and leave word of what is to be sent. Nothing here knows what a stream
//! is; it is an object, which the streams' floor has put there and takes for its own again.
//!
//! Shape:      `state.rs` what it knows · `schedule.rs` the queue and the timers · `table.rs`,
//!             `watch.rs` descriptors and what waits for them · `wait.rs` a call that waits ·
//!             `registry.rs` the streams by descriptor · `chunk.rs`, `read_memory.rs` memory that
//!             streams share · `unsent.rs` which streams send at the end of the round ·
//!             `futures.rs` futures of the loop · `meter.rs` what is counted · `marks.rs` which
//!             callback runs now. The methods that Python calls are here. Each floor has a part of
//!             its own: `State` is the rounds' and the descriptors', `Unsent` and `Registry` are
//!             the streams'.
//! Threads:    one runs the loop; any may schedule through `call_soon_threadsafe`.

pub(crate) mod chunk;
pub(crate) mod futures;
pub(crate) mod marks;
pub(crate) mod meter;
pub(crate) mod read_memory;
pub(crate) mod registry;
pub(crate) mod schedule;
mod state;
pub(crate) mod table;
pub(crate) mod unsent;
pub(crate) mod wait;
pub(crate) mod watch;

use offloop_core::event_loop::{Gathering, Side};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::ground::arguments::truth;

pub(crate) use state::{Kernel, LoopPort, State};

#[pymethods]
impl LoopPort {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // SAFETY: *collected*: attached, and never inside `with`.
        let py = unsafe { Python::assume_attached() };
        self.state.with(py, |state| {
            state.schedule.traverse(&visit)?;
            table::traverse(&state.watches, &visit)
        })?;
        self.keywords.with(py, |keywords| visit.call(&*keywords))?;
        self.marks.traverse(py, &visit)?;
        self.unsent.with(py, |unsent| unsent.traverse(&visit))
    }

    fn __clear__(&self, py: Python<'_>) {
        self.drop_schedule(py);
    }

    fn stop(&self, py: Python<'_>) {
        self.state.with(py, |state| state.stopping = true);
    }

    fn _check_closed(&self, py: Python<'_>) -> PyResult<()> {
        self.check_closed(py)
    }

    /// Whether streams send what a round writes at its end, rather than within `write`.
    #[getter]
    fn gather_writes(&self, py: Python<'_>) -> bool {
        let gathering = self.unsent.with(py, |unsent| unsent.gathering());
        gathering != Gathering::Off
    }

    fn _set_gather_writes(&self, py: Python<'_>, gather: bool) {
        let running = self.state.with(py, |state| state.runs_rounds());
        self.unsent
            .with(py, |unsent| unsent.set_gathers(gather, running));
    }

    /// Wakes the loop's thread, from any thread.
    fn _write_to_self(&self, py: Python<'_>) -> PyResult<()> {
        self.wake(py)
    }

    /// From Python 3.15 on the standard transports name a context, which is then the callback's.
    #[pyo3(signature = (fd, callback, *args, context=None))]
    fn _add_reader(
        slf: &Bound<'_, Self>,
        fd: &Bound<'_, PyAny>,
        callback: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
        context: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        watch::add(slf, fd, Side::Reader, (callback, args, context))
    }

    /// As `_add_reader`.
    #[pyo3(signature = (fd, callback, *args, context=None))]
    fn _add_writer(
        slf: &Bound<'_, Self>,
        fd: &Bound<'_, PyAny>,
        callback: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
        context: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        watch::add(slf, fd, Side::Writer, (callback, args, context))
    }

    fn _remove_reader(slf: &Bound<'_, Self>, fd: &Bound<'_, PyAny>) -> PyResult<bool> {
        watch::remove(slf, fd, Side::Reader)
    }

    fn _remove_writer(slf: &Bound<'_, Self>, fd: &Bound<'_, PyAny>) -> PyResult<bool> {
        watch::remove(slf, fd, Side::Writer)
    }

    /// What a descriptor is watched for: (reader's handle, writer's handle).
    fn _watched(&self, py: Python<'_>, fd: i32) -> (Option<Py<PyAny>>, Option<Py<PyAny>>) {
        let [reader, writer] = self
            .state
            .with(py, |state| table::watched(&state.watches, py, fd));
        (reader, writer)
    }

    #[getter(_closed)]
    fn closed(&self, py: Python<'_>) -> bool {
        self.is_closed(py)
    }

    #[setter(_closed)]
    fn set_closed(&self, py: Python<'_>, #[pyo3(from_py_with = truth)] closed: bool) {
        self.state.with(py, |state| state.closed = closed);
    }

    #[getter(_stopping)]
    fn stopping(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| state.stopping)
    }

    #[setter(_stopping)]
    fn set_stopping(&self, py: Python<'_>, #[pyo3(from_py_with = truth)] stopping: bool) {
        self.state.with(py, |state| state.stopping = stopping);
    }

    #[getter(_debug)]
    fn debug_flag(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| state.debug)
    }

    #[setter(_debug)]
    fn set_debug_flag(&self, py: Python<'_>, #[pyo3(from_py_with = truth)] debug: bool) {
        self.state.with(py, |state| state.debug = debug);
    }

    #[getter(_timer_cancelled_count)]
    fn timer_cancelled_count(&self, py: Python<'_>) -> usize {
        self.state
            .with(py, |state| state.schedule.cancelled_timers())
    }

    /// As `_scheduled`.
    #[setter(_timer_cancelled_count)]
    fn set_timer_cancelled_count(&self, py: Python<'_>, count: isize) {
        let count = usize::try_from(count).unwrap_or(0);
        self.state
            .with(py, |state| state.schedule.set_cancelled_timers(count));
    }
}
