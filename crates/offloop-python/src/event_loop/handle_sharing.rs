//! Handles that one thread may cancel while another one runs them.
//!
//! From Python 3.14 on, who cancels a handle of `call_soon_threadsafe`, or asks whether it is
//! cancelled, waits for a run that goes on in another thread: afterwards its callback does not run
//! any more. The standard library has a lock in each such handle. Here a run that somebody could
//! wait for is marked, and all who wait do so at one place.
//!
//! Invariants: 1. Marks and the number of the waiting change only in attached threads, so a run
//!                that ends after a thread has seen its mark also sees that thread waiting.
//! Source:     asyncio/events.py, `_ThreadSafeHandle`.

use std::cell::RefCell;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pyo3::ffi;
use pyo3::prelude::*;

use super::cell::GilCell;
use super::handle::{RUNNING, RawHandle, SHARED};
use super::handle_type::types;

/// How long a thread waits before it looks for signals.
const SIGNALS: Duration = Duration::from_millis(50);

/// Threads that wait for the end of a run.
static WAITING: GilCell<usize> = GilCell::new(0);
/// Runs that ended while somebody waited.
static ENDED: Mutex<u64> = Mutex::new(0);
static END: Condvar = Condvar::new();

thread_local! {
    /// The marked runs of this thread, of which the last one is the innermost.
    static RUNS: RefCell<Vec<*mut RawHandle>> = const { RefCell::new(Vec::new()) };
}

/// Says that other threads may cancel a handle, if this version of Python has them wait.
///
/// # Safety
/// The caller is attached and has the handle.
pub(super) unsafe fn share(py: Python<'_>, raw: *mut RawHandle) -> PyResult<()> {
    if types(py)?.are_waited_for {
        // SAFETY: as above; a plain field.
        unsafe { (*raw).flags |= SHARED };
    }
    Ok(())
}

/// A run that others can wait for, while this is kept.
pub(super) struct MarkedRun<'py> {
    py: Python<'py>,
    raw: *mut RawHandle,
}

impl<'py> MarkedRun<'py> {
    /// Marks the run of a handle that is shared.
    ///
    /// # Safety
    /// The caller has the handle for as long as it keeps the result.
    pub(super) unsafe fn begin(py: Python<'py>, raw: *mut RawHandle) -> Option<Self> {
        // SAFETY: attached, and alive.
        unsafe {
            if (*raw).flags & SHARED == 0 {
                return None;
            }
            (*raw).flags |= RUNNING;
        }
        RUNS.with_borrow_mut(|runs| runs.push(raw));
        Some(Self { py, raw })
    }
}

impl Drop for MarkedRun<'_> {
    fn drop(&mut self) {
        let goes_on = RUNS.with_borrow_mut(|runs| {
            runs.pop();
            runs.contains(&self.raw)
        });
        if goes_on {
            return;
        }
        // SAFETY: attached, and the handle is alive as `begin` asks for.
        unsafe { (*self.raw).flags &= !RUNNING };
        if WAITING.with(self.py, |waiting| *waiting > 0) {
            *ended() += 1;
            END.notify_all();
        }
    }
}

/// Waits until no other thread runs the handle; an error is what a signal handler has raised.
///
/// # Safety
/// The caller has the handle.
pub(super) unsafe fn wait_for_run(py: Python<'_>, raw: *mut RawHandle) -> PyResult<()> {
    // SAFETY: attached, and alive.
    let is_running = || unsafe { (*raw).flags & RUNNING != 0 };
    if !is_running() || RUNS.with_borrow(|runs| runs.contains(&raw)) {
        return Ok(());
    }
    // SAFETY: as above. Whoever has called us may be made to let go of it meanwhile.
    let _kept = unsafe { Bound::from_borrowed_ptr(py, raw.cast::<ffi::PyObject>()) };
    WAITING.with(py, |waiting| *waiting += 1);
    let mut result = Ok(());
    while is_running() && result.is_ok() {
        let seen = *ended();
        py.detach(|| {
            let waited = END.wait_timeout_while(ended(), SIGNALS, |now| *now == seen);
            drop(waited);
        });
        result = py.check_signals();
    }
    WAITING.with(py, |waiting| *waiting -= 1);
    result
}

/// The lock is held for single steps only, in which nothing can fail.
fn ended() -> MutexGuard<'static, u64> {
    ENDED.lock().unwrap_or_else(PoisonError::into_inner)
}
