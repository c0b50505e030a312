//! Handles that one thread may cancel while another one runs them.
//!
//! From Python 3.14 on, who cancels a handle of `call_soon_threadsafe`, or asks whether it is
//! cancelled, waits for a run that goes on in another thread: afterwards its callback does not run
//! any more. The standard library has a lock in each such handle. Here a run that somebody could
//! wait for is noted, and all who wait do so at one place, without a lock that a fork could leave
//! taken.
//!
//! Invariants: 1. The lists change only in attached threads, so a run that ends after a thread has
//!                seen it also sees that thread waiting.
//! Errors:     what a signal handler raises in a thread that waits.
//! Source:     asyncio/events.py, `_ThreadSafeHandle`.

use std::thread::{self, Thread, ThreadId};
use std::time::Duration;

use offloop_sys::fork;
use pyo3::ffi;
use pyo3::prelude::*;

use super::super::ground::cell::GilCell;
use super::raw::{RawHandle, SHARED};
use super::types::types;

/// How long a thread waits before it looks for signals.
const SIGNALS: Duration = Duration::from_millis(50);

/// A run that others may wait for.
struct Run {
    /// The address of the handle, which whoever runs it keeps alive.
    handle: usize,
    thread: ThreadId,
    /// A child that the program forks has the thread that forked, and no other.
    forks: u32,
}

/// The runs that go on: one for each loop that calls such a handle now, and more where they nest.
static RUNS: GilCell<Vec<Run>> = GilCell::new(Vec::new());
/// Threads that wait for the end of a run.
static WAITING: GilCell<Vec<Thread>> = GilCell::new(Vec::new());

/// Says that other threads may cancel a handle, if this version of Python has them wait.
///
/// # Safety
/// The caller is attached and has the handle.
pub(crate) unsafe fn share(py: Python<'_>, raw: *mut RawHandle) -> PyResult<()> {
    if types(py)?.are_waited_for {
        // SAFETY: as above; a plain field.
        unsafe { (*raw).flags |= SHARED };
    }
    Ok(())
}

/// A run that others can wait for, while this is kept.
pub(crate) struct SharedRun<'py>(Python<'py>, usize);

impl<'py> SharedRun<'py> {
    /// Notes the run of a handle that is shared.
    ///
    /// # Safety
    /// The caller has the handle for as long as it keeps the result.
    pub(crate) unsafe fn begin(py: Python<'py>, raw: *mut RawHandle) -> Option<Self> {
        // SAFETY: attached, and alive.
        if unsafe { (*raw).flags } & SHARED == 0 {
            return None;
        }
        let run = Run {
            handle: raw.addr(),
            thread: thread::current().id(),
            forks: fork::generation(),
        };
        RUNS.with(py, |runs| runs.push(run));
        Some(Self(py, raw.addr()))
    }
}

impl Drop for SharedRun<'_> {
    fn drop(&mut self) {
        let me = thread::current().id();
        RUNS.with(self.0, |runs| {
            let is_it = |run: &Run| run.handle == self.1 && run.thread == me;
            if let Some(last) = runs.iter().rposition(is_it) {
                runs.remove(last);
            }
        });
        for waiting in WAITING.with(self.0, std::mem::take) {
            waiting.unpark();
        }
    }
}

/// Waits until no other thread runs the handle.
///
/// # Safety
/// The caller has the handle.
pub(crate) unsafe fn wait_for_run(py: Python<'_>, raw: *mut RawHandle) -> PyResult<()> {
    // SAFETY: attached, and alive.
    if unsafe { (*raw).flags } & SHARED == 0 {
        return Ok(());
    }
    // SAFETY: as above. Whoever has called us may be made to let go of it meanwhile.
    let _kept = unsafe { Bound::from_borrowed_ptr(py, raw.cast::<ffi::PyObject>()) };
    while runs_elsewhere(py, raw.addr()) {
        // Woken at the end of any run, also of one that ends before we sleep.
        WAITING.with(py, |waiting| waiting.push(thread::current()));
        py.detach(|| thread::park_timeout(SIGNALS));
        let me = thread::current().id();
        WAITING.with(py, |waiting| waiting.retain(|other| other.id() != me));
        py.check_signals()?;
    }
    Ok(())
}

/// Whether another thread runs the handle, and this one does not.
fn runs_elsewhere(py: Python<'_>, handle: usize) -> bool {
    let (me, forks) = (thread::current().id(), fork::generation());
    RUNS.with(py, |runs| {
        let mut threads = runs
            .iter()
            .filter(|run| run.handle == handle && (run.forks == forks || run.thread == me))
            .map(|run| run.thread)
            .peekable();
        threads.peek().is_some() && threads.all(|thread| thread != me)
    })
}
