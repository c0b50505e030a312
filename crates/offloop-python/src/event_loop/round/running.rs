//! The callback that runs now, for a watch in another thread.
//!
//! While the loop is armed it marks each callback: its number, when it began, and what is called.
//! A watch reads that at any moment, without the interpreter's lock, and so tells a callback that
//! takes long from many that are short.
//!
//! Threads:    the loop's thread marks; any thread reads.

use std::ptr::null_mut;

use offloop_sys::clock::{monotonic_ns, ticks};
use offloop_sys::running::Running;
use pyo3::ffi;
use pyo3::prelude::*;

use super::super::ground::trampoline::ffi_bound;
use super::super::port::schedule::Entry;

/// When the loop was armed, by both clocks: the pace of the ticks follows from that.
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

/// A callback is marked as running until this goes.
pub(crate) struct Mark<'a> {
    running: &'a Running,
    /// Ours, so that who reads the mark finds it alive.
    called: *mut ffi::PyObject,
}

impl<'a> Mark<'a> {
    /// Marks an entry that is about to run.
    pub(crate) fn begin(running: &'a Running, entry: &Entry) -> Self {
        let called = match entry {
            Entry::Ours(handle) => handle.callback(),
            Entry::Foreign(handle) => handle.as_ptr(),
            Entry::Stream(stream, _) => stream.as_ptr(),
            Entry::Wait(_) => null_mut(),
        };
        // SAFETY: attached, as the loop is whenever it has an entry in hand; alive, or null.
        unsafe { ffi::Py_XINCREF(called) };
        running.begin(called as usize as u64, ticks());
        Self { running, called }
    }
}

impl Drop for Mark<'_> {
    fn drop(&mut self) {
        self.running.end();
        // SAFETY: attached, as above; the reference of `begin`, which no mark shows any more.
        unsafe { ffi::Py_XDECREF(self.called) };
    }
}

/// Number, age in seconds and callable of what runs now; `None` between callbacks.
pub(crate) fn current(
    py: Python<'_>,
    armed: Armed,
    running: &Running,
) -> Option<(u64, f64, Option<Py<PyAny>>)> {
    let callback = running.read()?;
    let called = callback.object as usize as *mut ffi::PyObject;
    let called = if called.is_null() {
        None
    } else {
        // SAFETY: attached: marks are made and removed by attached threads, and this one has not
        // been removed since it was read, so its object is alive.
        Some(unsafe { ffi_bound(py, &called) }.clone().unbind())
    };
    Some((callback.number, armed.seconds_since(callback.start), called))
}
