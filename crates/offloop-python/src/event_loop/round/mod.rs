//! The loop and its rounds, on top of all floors.
//!
//! `LoopCore` is the base class of `offloop.EventLoop`, whose other base is the standard library's
//! own loop. Its own base is `LoopPort`, which is what the floors below know of a loop.
//!
//! Shape:      `loop_core.rs` what it knows · `run.rs`, `turnstile.rs` a run · `turn.rs` its rounds
//!             · `entry.rs` what is run · `poll.rs` what is ready, asked from the kernel ·
//!             `clock.rs` the loop's time · `calls.rs`, `tasks.rs` methods called too often for
//!             anything but C's calling convention · `lending.rs`, `lent.rs` the queues that
//!             programs use · `overrides.rs`, `found.rs` the methods that they replace · `whose.rs`
//!             whether a round is ours · `endings.rs`, `idle.rs`, `makers.rs`,
//!             `foreign_tasks.rs`, `create_task.rs`, `task_class.rs` what a watch hears of tasks ·
//!             `statistics.rs` what the loop has counted. The methods that Python calls are here.
//! Source:     asyncio/base_events.py and selector_events.py; docs/design/007-loop.md.

pub(crate) mod calls;
mod clock;
pub(crate) mod create_task;
mod endings;
mod entry;
mod foreign_tasks;
mod found;
mod idle;
mod lending;
pub(crate) mod lent;
mod loop_core;
pub(crate) mod makers;
pub(crate) mod overrides;
mod poll;
mod run;
mod statistics;
mod task_class;
mod tasks;
mod turn;
mod turnstile;
mod whose;

use offloop_sys::readiness::Found;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple, PyType};

use super::ground::cell::GilCell;
use super::port::LoopPort;
use super::port::marks::{Armed, Called};
use super::port::schedule::Entry;
use super::streams::stream::Stream;
use crate::forsaking;
use crate::watch::blocked::BlockedTime;
use endings::Endings;
use found::Overrides;
use idle::Idle;
use loop_core::{State, all_streams};
use turnstile::Turnstile;

pub(crate) use foreign_tasks::{Looked, NextRound, TaskEnds};
pub(crate) use loop_core::LoopCore;

#[pymethods]
impl LoopCore {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(
        py: Python<'_>,
        _args: &Bound<'_, PyTuple>,
        _kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<PyClassInitializer<Self>> {
        forsaking::stay();
        let core = Self {
            state: GilCell::new(State {
                found: Some(Found::default()),
                overrides: Overrides::default(),
                lent: None,
                slow_callback_s: 0.1,
                task_factory: None,
                endings: None,
                idle: None,
            }),
            turnstile: Turnstile::default(),
        };
        let port = PyClassInitializer::from(LoopPort::new(py)?);
        Ok(port.add_subclass(core))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // SAFETY: *collected*: attached, and never inside `with`.
        let py = unsafe { Python::assume_attached() };
        self.state.with(py, |state| {
            visit.call(&state.task_factory)?;
            visit.call(state.endings.as_ref().map(|endings| endings.told()))?;
            visit.call(state.idle.as_ref().map(|idle| &idle.told))?;
            match &state.lent {
                Some(lent) => lent.traverse(&visit),
                None => Ok(()),
            }
        })
    }

    fn __clear__(&self, py: Python<'_>) {
        let held = self.state.with(py, |state| {
            let watch = (state.endings.take(), state.idle.take());
            (state.task_factory.take(), state.lent.take(), watch)
        });
        drop(held);
    }

    /// Runs until `stop`, once the loop has been made the running one.
    fn _run(slf: &Bound<'_, Self>) -> PyResult<()> {
        turn::run(slf)
    }

    /// One round: polls, and runs what is ready.
    fn _run_once(slf: &Bound<'_, Self>) -> PyResult<()> {
        turn::run_once(slf)
    }

    /// The program has set or removed an attribute of this loop, in the place of one of ours.
    fn _set_replaced(&self, py: Python<'_>, name: &str, replaced: bool) {
        overrides::replace(self, py, name, replaced);
    }

    /// Whether `_run` does what `_run_once` again and again would do.
    fn _rounds_are_ours(slf: &Bound<'_, Self>) -> PyResult<bool> {
        forsaking::stay();
        whose::rounds_are_ours(slf)
    }

    /// What is ready, for `_selector`: descriptors, and masks as in `selectors`.
    #[pyo3(signature = (timeout=None))]
    fn _select(slf: &Bound<'_, Self>, timeout: Option<f64>) -> PyResult<Vec<(i32, u8)>> {
        lending::select(slf, timeout)
    }

    /// Queues what waits for the descriptors that the selector has found.
    fn _process_events(slf: &Bound<'_, Self>, event_list: &Bound<'_, PyAny>) -> PyResult<()> {
        lending::process_events(slf, event_list)
    }

    /// Begins or ends to mark each callback while it runs, for `_running_callback`.
    #[pyo3(signature = (armed=true))]
    fn _arm_watch(slf: &Bound<'_, Self>, armed: bool) {
        let armed = armed.then(Armed::now);
        slf.as_super().get().marks.arm(slf.py(), armed);
    }

    /// Joins a watch that one of its callbacks has turned on, before that callback is over.
    fn _join_watch(slf: &Bound<'_, Self>) -> PyResult<()> {
        if slf.as_super().get().marks.is_era_over(slf.py()) {
            poll::begin_era(slf)?;
        }
        Ok(())
    }

    /// What runs now on an armed loop: its number, for how many seconds, and what is called.
    fn _running_callback(slf: &Bound<'_, Self>) -> Option<(u64, f64, Option<Py<PyAny>>)> {
        slf.as_super().get().marks.current(slf.py())
    }

    /// What was called, and in which context, by the callback of this number: one that runs now, or
    /// has just taken long under a watch.
    fn _callback_of(slf: &Bound<'_, Self>, number: u64) -> Option<Called> {
        slf.as_super().get().marks.called(slf.py(), number)
    }

    /// Lets go of what `_callback_of` has kept.
    fn _forget_callbacks(slf: &Bound<'_, Self>) {
        slf.as_super().get().marks.forget(slf.py());
    }

    /// Measures for how long the loop is blocked from now on; None while no watch is on.
    fn _blocked_time(slf: &Bound<'_, Self>) -> Option<BlockedTime> {
        slf.as_super().get().marks.blocked_time(slf.py())
    }

    /// When the last timer is due, in seconds of the loop's clock: never, if the program has them.
    fn _latest_timer(slf: &Bound<'_, Self>) -> Option<f64> {
        let (py, port) = (slf.py(), slf.as_super().get());
        match slf.get().lent(py) {
            Some(_) => Some(f64::INFINITY),
            None => port.state.with(py, |state| state.schedule.latest_timer(py)),
        }
    }

    /// Has `ended` hear of each task that ends with an exception, when it ends. `step` is the class
    /// of what a loop calls for the next step of a task. `idle` is called now and then before the
    /// loop waits, with the loop and whether only another thread can wake it. It returns for how
    /// many seconds the loop may wait before it is to be called again.

    #[pyo3(signature = (step=None, ended=None, idle=None))]
    fn _watch_tasks(
        &self,
        step: Option<&Bound<'_, PyType>>,
        ended: Option<Bound<'_, PyAny>>,
        idle: Option<Py<PyAny>>,
        py: Python<'_>,
    ) -> PyResult<()> {
        let endings = match (step, ended) {
            (Some(step), Some(ended)) => Some(Endings::new(step, ended)?),
            _ => None,
        };
        let idle = idle.map(Idle::new);
        let old = self.state.with(py, |state| {
            let old = std::mem::replace(&mut state.endings, endings);
            (old, std::mem::replace(&mut state.idle, idle))
        });
        drop(old);
        Ok(())
    }

    fn _add_callback(slf: &Bound<'_, Self>, handle: &Bound<'_, PyAny>) -> PyResult<()> {
        let (py, port) = (slf.py(), slf.as_super().get());
        let entry = Entry::Foreign(handle.clone().unbind());
        if !entry.is_cancelled(py)? {
            port.state.with(py, |state| state.schedule.push(entry));
        }
        Ok(())
    }

    /// The transport of the stream that has a descriptor, unless it is over.
    fn _stream_at<'py>(
        slf: &Bound<'py, Self>,
        fd: &Bound<'py, PyAny>,
    ) -> Option<Bound<'py, PyAny>> {
        let (py, port) = (slf.py(), slf.as_super().get());
        let fd = fd.extract::<usize>().ok()?;
        let stream = port.streams.with(py, |streams| streams.at(py, fd))?;
        stream.cast::<Stream>().ok()?.get().listed_transport(py)
    }

    /// The transports of all streams that are not over.
    fn _streams<'py>(slf: &Bound<'py, Self>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let (py, streams) = (slf.py(), all_streams(slf)?);
        let transports = streams.iter().map(|stream| stream.get().transport(py));
        Ok(transports.flatten().collect())
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
    fn _statistics(slf: &Bound<'_, Self>) -> statistics::LoopStatistics {
        statistics::statistics(slf)
    }

    /// The handles that are ready, in their order: a deque that may be changed.
    #[getter(_ready)]
    fn ready<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        lending::ready(slf)
    }

    /// Assigned by the standard library's constructor, and by programs that look at what is queued.
    #[setter(_ready)]
    fn set_ready(slf: &Bound<'_, Self>, ready: &Bound<'_, PyAny>) -> PyResult<()> {
        lending::set_ready(slf, ready)
    }

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

    /// Drops every handle, and what the loop waits with: it is being closed.
    fn _clear_schedule(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (py, port) = (slf.py(), slf.as_super().get());
        let lent = slf.get().state.with(py, |state| state.lent.take());
        port.drop_schedule(py);
        lent.map_or(Ok(()), |lent| lent.clear(py))?;
        let streams = all_streams(slf)?;
        streams
            .iter()
            .try_for_each(|stream| stream.get().loosen(py))
    }
}
