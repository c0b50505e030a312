//! What more than one floor uses of a loop, and the class that has it.
//!
//! Invariants: 1. The state is looked at only between calls into Python (`cell.rs`).
//!             2. Handles leave the state before they are dropped, since that may run any code.
//! Threads:    any attached one.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use offloop_core::event_loop::Runs;
use offloop_sys::event::Event;
use offloop_sys::readiness::Readiness;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::super::ground::cell::GilCell;
use super::super::ground::errors::os_error;
use super::super::ground::threads::ThreadNumber;
use super::super::handle::Owner;
use super::super::handle::class::make_types;
use super::super::handle::context::Entered;
use super::marks::Marks;
use super::meter::Meter;
use super::read_memory::ReadMemory;
use super::registry::Registry;
use super::schedule::Schedule;
use super::table::Watches;
use super::unsent::Unsent;

/// What more than one floor uses of a loop.
pub(crate) struct State {
    pub(crate) kernel: Option<Arc<Kernel>>,
    pub(crate) schedule: Schedule,
    /// Each with the context that it has entered.
    pub(crate) runs: Runs<ThreadNumber, Arc<Entered>>,
    pub(crate) watches: Watches,
    pub(crate) meter: Meter,
    /// A thread waits for readiness, and was not woken yet.
    pub(crate) asleep: bool,
    pub(crate) closed: bool,
    pub(crate) stopping: bool,
    pub(crate) debug: bool,
}

impl State {
    /// Whether rounds are run now, each of which has an end.
    pub(crate) fn runs_rounds(&self) -> bool {
        !self.runs.is_empty() && !self.schedule.is_lent()
    }
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
    pub(crate) unsent: GilCell<Unsent>,
    /// Taken out by the thread that reads.
    read_memory: GilCell<Option<Box<ReadMemory>>>,
    /// What futures and tasks are made with: `{"loop": self}`. Made when it is first needed.
    pub(super) keywords: GilCell<Option<Py<PyDict>>>,
    pub(crate) streams: GilCell<Registry>,
    pub(crate) marks: Marks,
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
                runs: Runs::default(),
                watches: Watches::default(),
                meter: Meter::default(),
                asleep: false,
                // Until the standard constructor says otherwise: there is nothing to close before.
                closed: true,
                stopping: false,
                debug: false,
            }),
            unsent: GilCell::new(Unsent::default()),
            read_memory: GilCell::new(None),
            keywords: GilCell::new(None),
            streams: GilCell::new(Registry::default()),
            marks: Marks::default(),
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
        let memory = self.read_memory.with(py, Option::take);
        let mut memory = memory.unwrap_or_else(|| Box::new(ReadMemory::new()));
        let result = read(&mut memory);
        let other = self.read_memory.with(py, |kept| kept.replace(memory));
        drop(other);
        result
    }

    /// Wakes the loop's thread, from any thread.
    pub(crate) fn wake(&self, py: Python<'_>) -> PyResult<()> {
        let kernel = self.state.with(py, |state| {
            // A program that polls in our place looks at nothing but what the selector finds.
            if !std::mem::take(&mut state.asleep) && !state.schedule.is_lent() {
                return None;
            }
            state.meter.wakeups += 1;
            state.kernel.clone()
        });
        if let Some(kernel) = kernel {
            // Detached: the loop's thread wants the GIL as soon as it is awake, and
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
                state.schedule.take_all(py),
                std::mem::take(&mut state.watches),
            )
        });
        let unsent = self.unsent.with(py, Unsent::take_all);
        let memory = self.read_memory.with(py, Option::take);
        let keywords = self.keywords.with(py, Option::take);
        self.marks.forget(py);
        drop((held, unsent, memory, keywords));
    }
}

// SAFETY: the one class that has it.
unsafe impl Owner for LoopPort {
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
