//! What the floors above may use of a loop, and all that they may: the one port to it.
//!
//! `LoopPort` is the base class of `LoopCore`, which is on top of all floors and has the rest. The
//! streams, the TLS connections and the calls on sockets have the loop as a `LoopPort`: they count,
//! have descriptors watched, and leave word of what is to be sent. Nothing here knows what a stream
//! is; it is an object, which the streams' floor has put there and takes for its own again.
//!
//! Shape:      `schedule.rs` the queue and the timers · `watch.rs` descriptors and who
//!             waits for them · `wait.rs` a call that waits · `registry.rs` the streams by
//!             descriptor · `chunk.rs`, `read_memory.rs` memory that streams share · `futures.rs`
//!             futures of the loop · `meter.rs` what is counted.
//! Invariants: 1. The state is looked at only between calls into Python (`cell.rs`).
//!             2. Handles leave the state before they are dropped, since that may run any code.
//! Threads:    one runs the loop; others schedule through `call_soon_threadsafe`.

pub(crate) mod chunk;
pub(crate) mod futures;
pub(crate) mod meter;
pub(crate) mod read_memory;
pub(crate) mod registry;
pub(crate) mod schedule;
pub(crate) mod wait;
pub(crate) mod watch;

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use offloop_core::event_loop::Side;
use offloop_sys::event::Event;
use offloop_sys::readiness::Readiness;
use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::ground::cell::GilCell;
use super::ground::errors::os_error;
use super::handle::class::{Owner, make_types};
use chunk::Chunk;
use meter::Meter;
use read_memory::ReadMemory;
use registry::Registry;
use schedule::Schedule;
use watch::Watches;

/// What more than one floor uses of a loop.
pub(crate) struct State {
    pub(crate) kernel: Option<Arc<Kernel>>,
    pub(crate) schedule: Schedule,
    pub(crate) watches: Watches,
    pub(crate) meter: Meter,
    /// A thread waits for readiness, and nobody has woken it yet.
    pub(crate) asleep: bool,
    /// Rounds are run now, each of which has an end.
    pub(crate) running: bool,
    /// What streams write is sent at the end of the round.
    pub(crate) gather_writes: bool,
    /// The number of forks before the streams' queues were last known to be ours.
    pub(crate) forks: u32,
    pub(crate) closed: bool,
    pub(crate) stopping: bool,
    pub(crate) debug: bool,
    /// What futures and tasks are made with: `{"loop": self}`. Made when it is first needed.
    keywords: Option<Py<PyDict>>,
    /// Streams that have something to send at the end of the round.
    pub(crate) unsent: Vec<Py<PyAny>>,
    /// Empty queues for streams that begin to write.
    pub(crate) spare_queues: Vec<VecDeque<Chunk>>,
    /// Taken out by whoever reads.
    read_memory: Option<Box<ReadMemory>>,
}

/// What the loop waits with; gone once it is closed.
pub(crate) struct Kernel {
    pub(crate) readiness: Readiness,
    pub(crate) waker: Event,
}

/// The part of a loop that the floors below the rounds may use.
#[pyclass(subclass, frozen, module = "_offloop_worker._offloop")]
pub(crate) struct LoopPort {
    pub(crate) state: GilCell<State>,
    pub(crate) streams: GilCell<Registry>,
}

impl LoopPort {
    pub(crate) fn new(py: Python<'_>) -> PyResult<Self> {
        make_types::<Self>(py)?;
        let readiness = Readiness::new().map_err(os_error)?;
        let waker = Event::new().map_err(os_error)?;
        let fd = waker.as_fd().as_raw_fd();
        readiness.watch_waker(fd).map_err(os_error)?;
        // A child that the program forks must not send what its parent sends.
        offloop_sys::fork::watch();
        Ok(Self {
            state: GilCell::new(State {
                kernel: Some(Arc::new(Kernel { readiness, waker })),
                schedule: Schedule::default(),
                watches: Watches::default(),
                meter: Meter::default(),
                asleep: false,
                running: false,
                gather_writes: false,
                forks: offloop_sys::fork::generation(),
                // Until the standard constructor says otherwise: there is nothing to close before.
                closed: true,
                stopping: false,
                debug: false,
                keywords: None,
                unsent: Vec::new(),
                spare_queues: Vec::new(),
                read_memory: None,
            }),
            streams: GilCell::new(Registry::default()),
        })
    }

    pub(crate) fn is_closed(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| state.closed)
    }

    pub(crate) fn check_closed(&self, py: Python<'_>) -> PyResult<()> {
        if self.is_closed(py) {
            return Err(PyRuntimeError::new_err("Event loop is closed"));
        }
        Ok(())
    }

    /// Lends the memory for reading, of which there is one unless reading nests.
    pub(crate) fn with_read_memory<R>(
        &self,
        py: Python<'_>,
        read: impl FnOnce(&mut ReadMemory) -> R,
    ) -> R {
        let memory = self.state.with(py, |state| state.read_memory.take());
        let mut memory = memory.unwrap_or_else(|| Box::new(ReadMemory::new()));
        let result = read(&mut memory);
        let other = self
            .state
            .with(py, |state| state.read_memory.replace(memory));
        drop(other);
        result
    }

    /// Wakes the loop's thread, from any thread.
    pub(crate) fn wake(&self, py: Python<'_>) -> PyResult<()> {
        let kernel = self.state.with(py, |state| {
            // Whoever waits in our place looks at nothing but what the selector finds.
            if !std::mem::take(&mut state.asleep) && !state.schedule.is_lent() {
                return None;
            }
            state.meter.wakeups += 1;
            state.kernel.clone()
        });
        if let Some(kernel) = kernel {
            // Detached: the loop's thread wants the interpreter's lock as soon as it is awake, and
            // would fall asleep again for as long as we had it.
            py.detach(|| kernel.waker.signal()).map_err(os_error)?;
        }
        Ok(())
    }

    /// Drops every handle, and what the loop waits with.
    pub(crate) fn drop_schedule(&self, py: Python<'_>) {
        let held = self.state.with(py, |state| {
            (
                state.kernel.take(),
                state.schedule.take_all(),
                std::mem::take(&mut state.watches),
                std::mem::take(&mut state.unsent),
                std::mem::take(&mut state.spare_queues),
                state.read_memory.take(),
                state.keywords.take(),
            )
        });
        drop(held);
    }
}

impl Owner for LoopPort {
    #[inline]
    fn count_cancelled(event_loop: &Bound<'_, Self>, was_scheduled: bool) -> bool {
        event_loop.get().state.with(event_loop.py(), |state| {
            if was_scheduled {
                state.schedule.count_cancelled();
            }
            state.debug
        })
    }
}

#[pymethods]
impl LoopPort {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // SAFETY: the collector runs while its thread is attached, and never inside `with`, which
        // allocates nothing of Python's.
        let py = unsafe { Python::assume_attached() };
        self.state.with(py, |state| {
            state.schedule.traverse(&visit)?;
            watch::traverse(&state.watches, &visit)?;
            visit.call(&state.keywords)?;
            state
                .unsent
                .iter()
                .try_for_each(|stream| visit.call(stream))
        })
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
        self.state.with(py, |state| state.gather_writes)
    }

    fn _set_gather_writes(&self, py: Python<'_>, gather: bool) {
        self.state.with(py, |state| state.gather_writes = gather);
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
        let [reader, writer] = self.state.with(py, |state| watch::watched(state, py, fd));
        (reader, writer)
    }

    #[getter(_closed)]
    fn closed(&self, py: Python<'_>) -> bool {
        self.is_closed(py)
    }

    #[setter(_closed)]
    fn set_closed(&self, py: Python<'_>, closed: bool) {
        self.state.with(py, |state| state.closed = closed);
    }

    #[getter(_stopping)]
    fn stopping(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| state.stopping)
    }

    #[setter(_stopping)]
    fn set_stopping(&self, py: Python<'_>, stopping: bool) {
        self.state.with(py, |state| state.stopping = stopping);
    }

    #[getter(_debug)]
    fn debug_flag(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| state.debug)
    }

    #[setter(_debug)]
    fn set_debug_flag(&self, py: Python<'_>, debug: &Bound<'_, PyAny>) -> PyResult<()> {
        let debug = debug.is_truthy()?;
        self.state.with(py, |state| state.debug = debug);
        Ok(())
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
