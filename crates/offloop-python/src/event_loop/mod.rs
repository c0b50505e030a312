//! The event loop: what asyncio does for every callback, timer and packet, in Rust.
//!
//! `LoopCore` is the base class of `offloop.EventLoop`, whose other base is the standard library's
//! own loop. What happens once for each connection or less is the standard library's code, so every
//! keyword, every error text and every Python version's own behaviour is there; what happens for
//! each callback or packet is ours and comes first in the order of classes.
//!
//! Shape:      `handle.rs`, `handle_type.rs` what waits to be run · `schedule.rs`, `timers.rs` the
//!             queue and the timers · `context.rs` where a callback runs · `running.rs` which one
//!             runs now · `watch.rs` descriptors and who waits for them · `turn.rs` one round of
//!             the loop · `calling.rs`, `fast.rs`, `making.rs`, `transport_calls.rs` methods called
//!             too often for anything but C's calling convention · `stream.rs` a connection, with
//!             `reading.rs`, `feeding.rs` and `writing.rs` · `sock.rs` calls on the program's own
//!             sockets · `child.rs`, `child_pipe.rs` child processes and pipes · `tls/` encrypted
//!             connections · `statistics.rs` what is counted of all that · `lending.rs`,
//!             `overrides.rs` what programs take hold of, and what they replace.
//! Invariants: 1. The state is looked at only between calls into Python (`cell.rs`).
//!             2. Handles leave the state before they are dropped, since that may run any code.
//! Threads:    one runs the loop; others schedule through `call_soon_threadsafe`.
//! Source:     asyncio/base_events.py and selector_events.py; docs/design/007-loop.md.

mod address;
mod calling;
mod cell;
mod child;
mod child_pipe;
mod context;
mod fast;
mod feeding;
mod handle;
mod handle_memory;
mod handle_sharing;
mod handle_type;
mod lending;
mod making;
mod overrides;
mod reading;
mod registry;
mod running;
mod schedule;
mod sock;
mod statistics;
mod stream;
mod timers;
mod tls;
mod transport_calls;
mod turn;
mod uncommon;
mod view;
mod watch;
mod writing;

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use offloop_sys::clock::TickScale;
use offloop_sys::event::Event;
use offloop_sys::readiness::{Found, Readiness};
use offloop_sys::running::Running;
use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

use cell::GilCell;
use lending::Lent;
use overrides::Overrides;
use reading::ReadMemory;
use registry::Registry;
use schedule::{Entry, Schedule};
use statistics::Meter;
use stream::{Chunk, Stream};
use watch::Watches;

/// What one loop knows.
struct State {
    kernel: Option<Arc<Kernel>>,
    schedule: Schedule,
    watches: Watches,
    meter: Meter,
    /// Taken out while a thread waits with it.
    found: Option<Found>,
    /// A thread waits for readiness, and nobody has woken it yet.
    asleep: bool,
    /// Rounds are run now, each of which has an end.
    running: bool,
    /// What streams write is sent at the end of the round.
    gather_writes: bool,
    /// The number of forks before the streams' queues were last known to be ours.
    forks: u32,
    closed: bool,
    stopping: bool,
    debug: bool,
    overrides: Overrides,
    lent: Option<Lent>,
    slow_callback_s: f64,
    task_factory: Option<Py<PyAny>>,
    /// What futures and tasks are made with: `{"loop": self}`. Made when it is first needed.
    keywords: Option<Py<PyDict>>,
    /// Callbacks are marked while they run.
    armed: Option<running::Armed>,
    /// Streams that have something to send at the end of the round.
    unsent: Vec<Py<Stream>>,
    /// Empty queues for streams that begin to write.
    spare_queues: Vec<VecDeque<Chunk>>,
    /// Taken out by whoever reads.
    read_memory: Option<Box<ReadMemory>>,
}

/// The native half of `offloop.EventLoop`.
#[pyclass(subclass, frozen, module = "_offloop_worker._offloop")]
pub(crate) struct LoopCore {
    state: GilCell<State>,
    streams: GilCell<Registry>,
    running: Running,
}

/// What the loop waits with; gone once it is closed.
struct Kernel {
    readiness: Readiness,
    waker: Event,
}

/// The exception that Python's own calls raise: its class, number and text.
pub(crate) fn os_error(error: std::io::Error) -> PyErr {
    let Some(code) = error.raw_os_error() else {
        return PyErr::from(error);
    };
    let text = error.to_string();
    let suffix = format!(" (os error {code})");
    let text = text.strip_suffix(&suffix).unwrap_or(&text).to_owned();
    PyOSError::new_err((code, text))
}

#[pymethods]
impl LoopCore {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
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
                found: Some(Found::default()),
                asleep: false,
                running: false,
                gather_writes: false,
                forks: offloop_sys::fork::generation(),
                // Until the standard constructor says otherwise: there is nothing to close before.
                closed: true,
                stopping: false,
                debug: false,
                overrides: Overrides::default(),
                lent: None,
                slow_callback_s: 0.1,
                task_factory: None,
                keywords: None,
                armed: None,
                unsent: Vec::new(),
                spare_queues: Vec::new(),
                read_memory: None,
            }),
            streams: GilCell::new(Registry::default()),
            running: Running::new(),
        })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // SAFETY: the collector runs while its thread is attached, and never inside `with`, which
        // allocates nothing of Python's.
        let py = unsafe { Python::assume_attached() };
        self.state.with(py, |state| {
            state.schedule.traverse(&visit)?;
            state.watches.traverse(&visit)?;
            visit.call(&state.task_factory)?;
            visit.call(&state.keywords)?;
            if let Some(lent) = &state.lent {
                lent.traverse(&visit)?;
            }
            state
                .unsent
                .iter()
                .try_for_each(|stream| visit.call(stream))
        })
    }

    fn __clear__(&self, py: Python<'_>) {
        let held = self
            .state
            .with(py, |state| (state.task_factory.take(), state.lent.take()));
        drop(held);
        self.drop_schedule(py);
    }

    /// Runs until `stop`, once the loop has been made the running one.
    fn _run(slf: &Bound<'_, Self>) -> PyResult<()> {
        turn::run(slf)
    }

    /// One round: polls, and runs what is ready.
    fn _run_once(slf: &Bound<'_, Self>) -> PyResult<()> {
        turn::run_once(slf)
    }

    fn stop(&self, py: Python<'_>) {
        self.state.with(py, |state| state.stopping = true);
    }

    fn _check_closed(&self, py: Python<'_>) -> PyResult<()> {
        if self.closed(py) {
            return Err(PyRuntimeError::new_err("Event loop is closed"));
        }
        Ok(())
    }

    /// The loop itself has, or has no more, an attribute in the place of one of ours.
    fn _set_replaced(&self, py: Python<'_>, name: &str, replaced: bool) {
        overrides::replace(self, py, name, replaced);
    }

    /// Whether `_run` does what `_run_once` again and again would do.
    fn _rounds_are_ours(slf: &Bound<'_, Self>) -> PyResult<bool> {
        overrides::rounds_are_ours(slf)
    }

    /// What is ready, for `_selector`: descriptors, and masks as in `selectors`.
    #[pyo3(signature = (timeout=None))]
    fn _select(slf: &Bound<'_, Self>, timeout: Option<f64>) -> PyResult<Vec<(i32, u8)>> {
        lending::select(slf, timeout)
    }

    /// Queues who waits for what the selector has found.
    fn _process_events(slf: &Bound<'_, Self>, event_list: &Bound<'_, PyAny>) -> PyResult<()> {
        lending::process_events(slf, event_list)
    }

    /// Whether streams send what a round writes at its end, rather than within `write`.
    #[getter]
    fn gather_writes(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| state.gather_writes)
    }

    fn _set_gather_writes(&self, py: Python<'_>, gather: bool) {
        self.state.with(py, |state| state.gather_writes = gather);
    }

    /// Begins or ends to mark each callback while it runs, for `_running_callback`.
    #[pyo3(signature = (armed=true))]
    fn _arm_watch(&self, py: Python<'_>, armed: bool) {
        let armed = armed.then(running::Armed::now);
        self.state.with(py, |state| state.armed = armed);
    }

    /// What runs now on an armed loop: its number, for how many seconds, and what is called.
    fn _running_callback(&self, py: Python<'_>) -> Option<(u64, f64, Option<Py<PyAny>>)> {
        running::current(py, self)
    }

    fn _add_callback(&self, py: Python<'_>, handle: &Bound<'_, PyAny>) -> PyResult<()> {
        let entry = Entry::Foreign(handle.clone().unbind());
        if !entry.is_cancelled(py)? {
            self.state.with(py, |state| state.schedule.push(entry));
        }
        Ok(())
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
        watch::add(slf, fd, watch::Side::Reader, (callback, args, context))
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
        watch::add(slf, fd, watch::Side::Writer, (callback, args, context))
    }

    fn _remove_reader(slf: &Bound<'_, Self>, fd: &Bound<'_, PyAny>) -> PyResult<bool> {
        watch::remove(slf, fd, watch::Side::Reader)
    }

    fn _remove_writer(slf: &Bound<'_, Self>, fd: &Bound<'_, PyAny>) -> PyResult<bool> {
        watch::remove(slf, fd, watch::Side::Writer)
    }

    /// What a descriptor is watched for: (reader's handle, writer's handle).
    fn _watched(&self, py: Python<'_>, fd: i32) -> (Option<Py<PyAny>>, Option<Py<PyAny>>) {
        self.state.with(py, |state| state.watches.handles(py, fd))
    }

    /// The transport of the stream that has a descriptor, unless it is over.
    fn _stream_at<'py>(&self, fd: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
        let py = fd.py();
        let fd = fd.extract::<usize>().ok()?;
        let stream = self.streams.with(py, |streams| streams.at(py, fd))?;
        stream.get().listed_transport(py)
    }

    /// The transports of all streams that are not over.
    fn _streams<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, PyAny>> {
        let streams = self.streams.with(py, |streams| streams.all(py));
        let transports = streams.iter().map(|stream| stream.get().transport(py));
        transports.flatten().collect()
    }

    #[getter(_closed)]
    fn closed(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| state.closed)
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

    #[getter(_task_factory)]
    fn task_factory(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state.with(py, |state| {
            state
                .task_factory
                .as_ref()
                .map(|factory| factory.clone_ref(py))
        })
    }

    #[setter(_task_factory)]
    fn set_task_factory_slot(&self, py: Python<'_>, factory: Option<Py<PyAny>>) {
        let old = self.state.with(py, |state| {
            std::mem::replace(&mut state.task_factory, factory)
        });
        drop(old);
    }

    #[getter(slow_callback_duration)]
    fn slow_callback_duration(&self, py: Python<'_>) -> f64 {
        self.state.with(py, |state| state.slow_callback_s)
    }

    #[setter(slow_callback_duration)]
    fn set_slow_callback_duration(&self, py: Python<'_>, seconds: f64) {
        self.state.with(py, |state| state.slow_callback_s = seconds);
    }

    /// What `statistics` tells, in groups.
    fn _statistics(&self, py: Python<'_>) -> statistics::Fields {
        statistics::fields(self, py)
    }

    /// The handles that are ready, in their order: a deque that may be changed.
    #[getter(_ready)]
    fn ready<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        lending::ready(slf)
    }

    /// Assigned by the standard library's constructor; ours is here already.
    #[setter(_ready)]
    fn set_ready(&self, _ready: &Bound<'_, PyAny>) {}

    /// The timers that wait, cancelled ones included: a heap that may be changed.
    #[getter(_scheduled)]
    fn scheduled<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyList>> {
        lending::timers(slf)
    }

    /// The standard loop's rounds do this when most timers are cancelled.
    #[setter(_scheduled)]
    fn set_scheduled(slf: &Bound<'_, Self>, scheduled: &Bound<'_, PyAny>) -> PyResult<()> {
        lending::set_timers(slf, scheduled)
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

    /// Drops every handle, and what the loop waits with: it is being closed.
    fn _clear_schedule(&self, py: Python<'_>) -> PyResult<()> {
        let lent = self.state.with(py, |state| state.lent.take());
        self.drop_schedule(py);
        lent.map_or(Ok(()), |lent| lent.clear(py))?;
        let streams = self.streams.with(py, |streams| streams.all(py));
        streams
            .iter()
            .try_for_each(|stream| stream.get().loosen(py))
    }
}

impl LoopCore {
    fn drop_schedule(&self, py: Python<'_>) {
        let held = self.state.with(py, |state| {
            (
                state.kernel.take(),
                state.schedule.take_all(),
                state.watches.take_all(),
                std::mem::take(&mut state.unsent),
                std::mem::take(&mut state.spare_queues),
                state.read_memory.take(),
                state.keywords.take(),
            )
        });
        drop(held);
    }

    /// Lends the memory for reading, of which there is one unless reading nests.
    fn with_read_memory<R>(&self, py: Python<'_>, read: impl FnOnce(&mut ReadMemory) -> R) -> R {
        let memory = self.state.with(py, |state| state.read_memory.take());
        let mut memory = memory.unwrap_or_else(|| Box::new(ReadMemory::new()));
        let result = read(&mut memory);
        let other = self
            .state
            .with(py, |state| state.read_memory.replace(memory));
        drop(other);
        result
    }

    fn wake(&self, py: Python<'_>) -> PyResult<()> {
        let kernel = self.state.with(py, |state| {
            // Whoever waits in our place looks at nothing but what the selector finds.
            if !std::mem::take(&mut state.asleep) && state.lent.is_none() {
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
}

/// Remembers what the standard loop is, before anybody replaces a part of it. Once the class of the
/// loop is made: workers have the extension too, and do without asyncio.
#[pyfunction]
fn learn_standard_loop(py: Python<'_>) -> PyResult<()> {
    overrides::learn(&py.get_type::<LoopCore>())
}

/// Finishes the class: its methods in C's calling convention.
pub(crate) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    context::learn_layout(module.py())?;
    TickScale::begin();
    module.add_class::<LoopCore>()?;
    module.add_class::<Stream>()?;
    module.add_class::<child::Child>()?;
    module.add_function(wrap_pyfunction!(child_pipe::add_pipe_methods, module)?)?;
    module.add_function(wrap_pyfunction!(learn_standard_loop, module)?)?;
    tls::add_to(module)?;
    module.add_function(wrap_pyfunction!(
        transport_calls::add_stream_methods,
        module
    )?)?;
    let class = module.py().get_type::<LoopCore>();
    sock::add_to(&class)?;
    fast::add_to(&class)?;
    lending::learn(module.py())
}

/// Looks at the state of the loop behind a pointer that a handle holds.
///
/// # Safety
/// The caller is attached, and the pointer is that of a live loop of ours: only those make handles.
unsafe fn with_state<R>(event_loop: *mut ffi::PyObject, look: impl FnOnce(&mut State) -> R) -> R {
    // SAFETY: as above.
    unsafe {
        let py = Python::assume_attached();
        let event_loop = ffi_bound(py, &event_loop).cast_unchecked::<LoopCore>();
        event_loop.get().state.with(py, look)
    }
}

/// Borrows an object behind a pointer for as long as the pointer is borrowed.
///
/// # Safety
/// The caller is attached, and the object lives as long as the pointer is borrowed.
unsafe fn ffi_bound<'a, 'py>(
    py: Python<'py>,
    pointer: &'a *mut ffi::PyObject,
) -> &'a Bound<'py, PyAny> {
    // SAFETY: as above.
    unsafe { Bound::ref_from_ptr(py, pointer) }
}
