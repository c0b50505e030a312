//! Marks: which callback runs now, for a watch in another thread.
//!
//! While a loop is armed it marks each callback: its number, when it began, what is called, and by
//! which thread. A watch reads that at any moment, without the GIL, and so tells a callback that
//! takes long from many that are short. What a watch reads lives outside of the loop's objects: the
//! watch keeps it, and may be a thread that never attaches.
//!
//! Invariants: 1. The object of a mark that is shown is alive: the mark has a reference to it.
//! Threads:    the thread that runs the loop marks; any thread reads.

use std::sync::Arc;

use offloop_sys::clock::{monotonic_ns, ticks};
use offloop_sys::running::{Running, Work};
use pyo3::ffi;
use pyo3::prelude::*;

use super::super::ground::cell::GilCell;
use super::super::ground::trampoline::ffi_bound;

/// When the loop was armed, by both clocks: the rate of the ticks follows from that.
#[derive(Clone, Copy)]
pub(crate) struct Armed {
    ticks: u64,
    ns: u64,
}

impl Armed {
    pub(crate) fn now() -> Self {
        Self {
            ticks: ticks(),
            ns: monotonic_ns(),
        }
    }

    /// Seconds since `start`, which is in ticks. Counters of two cores may disagree a little.
    fn seconds_since(self, start: u64) -> f64 {
        let now = Self::now();
        let difference = |later: u64, earlier: u64| {
            #[expect(clippy::cast_precision_loss, reason = "a rough interval")]
            let difference = later.saturating_sub(earlier) as f64;
            difference
        };
        let armed_ticks = difference(now.ticks, self.ticks).max(1.0);
        difference(now.ticks, start) * difference(now.ns, self.ns) / armed_ticks * 1e-9
    }
}

/// The marks of a loop.
pub(crate) struct Marks {
    running: Arc<Running>,
    state: GilCell<State>,
}

#[derive(Default)]
struct State {
    /// `None` while callbacks are not marked.
    armed: Option<Armed>,
    /// The greatest number of a mark that ended while another one was shown.
    ended_behind: u64,
}

impl Default for Marks {
    fn default() -> Self {
        Self {
            running: Arc::new(Running::new()),
            state: GilCell::new(State::default()),
        }
    }
}

impl Marks {
    pub(crate) fn arm(&self, py: Python<'_>, armed: Option<Armed>) {
        self.state.with(py, |state| state.armed = armed);
    }

    #[inline]
    pub(crate) fn are_armed(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| state.armed.is_some())
    }

    /// The calling thread runs the loop from now on. Returns the callback inside which it does.
    pub(crate) fn begin_run(&self) -> Option<Work> {
        let inside = self.running.read();
        self.running.set_thread();
        inside
    }

    /// The callback inside which a run began goes on, and is shown again if it still has a mark.
    pub(crate) fn end_run(&self, py: Python<'_>, inside: Option<Work>) {
        let ended_behind = self.state.with(py, |state| state.ended_behind);
        let inside = inside.filter(|work| work.number > ended_behind);
        inside
            .into_iter()
            .for_each(|work| self.running.resume(work));
    }

    /// Number, age in seconds and callable of what runs now; `None` between callbacks.
    pub(crate) fn current(&self, py: Python<'_>) -> Option<(u64, f64, Option<Py<PyAny>>)> {
        let armed = self.state.with(py, |state| state.armed)?;
        let work = self.running.read()?;
        let called = work.object as usize as *mut ffi::PyObject;
        let called = if called.is_null() {
            None
        } else {
            // SAFETY: attached: marks are made and removed by attached threads, and this one has
            // not been removed since it was read, so its object is alive (invariant 1).
            Some(unsafe { ffi_bound(py, &called) }.clone().unbind())
        };
        Some((work.number, armed.seconds_since(work.start), called))
    }
}

/// A callback is marked as running until this is dropped.
pub(crate) struct Mark<'a, 'py> {
    py: Python<'py>,
    marks: &'a Marks,
    number: u64,
    /// A reference of ours, or null.
    called: *mut ffi::PyObject,
}

impl<'a, 'py> Mark<'a, 'py> {
    /// Marks a callback that is about to run; `called` is what a watch is to see, or null.
    ///
    /// # Safety
    /// `called` is alive, or null.
    pub(crate) unsafe fn begin(
        py: Python<'py>,
        marks: &'a Marks,
        called: *mut ffi::PyObject,
    ) -> Self {
        // SAFETY: attached, by the token; alive or null, by the caller.
        unsafe { ffi::Py_XINCREF(called) };
        Self {
            py,
            marks,
            number: marks.running.begin(called as usize as u64, ticks()),
            called,
        }
    }
}

impl Drop for Mark<'_, '_> {
    fn drop(&mut self) {
        if !self.marks.running.end(self.number) {
            // A run began inside this callback, and is not over.
            self.marks.state.with(self.py, |state| {
                state.ended_behind = state.ended_behind.max(self.number);
            });
        }
        // SAFETY: attached, by the token; the reference of `begin`, and this mark is neither shown
        // any more nor will be: `end_run` shows no mark that ended behind another.
        unsafe { ffi::Py_XDECREF(self.called) };
    }
}
