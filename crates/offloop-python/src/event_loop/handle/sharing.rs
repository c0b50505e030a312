//! Handles that one thread may cancel while another one runs them.
//!
//! From Python 3.14 on, a thread that cancels a handle of `call_soon_threadsafe`, or asks whether
//! it is cancelled, waits for a run that goes on in another thread: afterwards the callback does
//! not run any more. The standard library has a lock in each such handle. Here each run of such a
//! handle is noted in one list, and the threads that wait are noted in another: a fork can leave no
//! lock taken.
//!
//! Invariants: 1. The lists change only in attached threads, so a run that ends after a thread has
//!                seen it also sees that thread waiting.
//! Errors:     what a signal handler raises in a thread that waits.
//! Source:     asyncio/events.py, `_ThreadSafeHandle`.

use std::thread::{self, Thread, ThreadId};
use std::time::Duration;

use offloop_sys::fork;
use pyo3::prelude::*;

use super::super::ground::cell::GilCell;
use super::reference::Handle;
use super::types::types;

/// How long a thread waits before it looks for signals.
const SIGNALS: Duration = Duration::from_millis(50);

/// A run that other threads may wait for.
struct Run {
    /// The address of the handle, which its run keeps alive.
    handle: usize,
    thread: ThreadId,
    /// The number of forks before it began: a child that the program forks has only the thread that
    /// forked.
    forks: u32,
}

/// The runs that go on: one for each loop that calls such a handle now, and more where they nest.
static RUNS: GilCell<Vec<Run>> = GilCell::new(Vec::new());
/// Threads that wait for the end of a run.
static WAITING: GilCell<Vec<Thread>> = GilCell::new(Vec::new());

/// Says that other threads may cancel a handle, if this version of Python has them wait.
pub(crate) fn share(py: Python<'_>, handle: &Handle) -> PyResult<()> {
    if types(py)?.are_waited_for {
        handle.set_shared(py);
    }
    Ok(())
}

/// A run that other threads can wait for, while this is kept.
pub(crate) struct SharedRun<'a, 'py>(Python<'py>, &'a Handle);

impl<'a, 'py> SharedRun<'a, 'py> {
    /// Notes the run of a handle that is shared.
    #[inline]
    pub(crate) fn begin(py: Python<'py>, handle: &'a Handle) -> Option<Self> {
        if !handle.is_shared(py) {
            return None;
        }
        let run = Run {
            handle: handle.as_ptr().addr(),
            thread: thread::current().id(),
            forks: fork::generation(),
        };
        RUNS.with(py, |runs| runs.push(run));
        Some(Self(py, handle))
    }
}

impl Drop for SharedRun<'_, '_> {
    fn drop(&mut self) {
        let me = thread::current().id();
        RUNS.with(self.0, |runs| {
            let is_it = |run: &Run| run.handle == self.1.as_ptr().addr() && run.thread == me;
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
#[inline]
pub(crate) fn wait_for_run(py: Python<'_>, handle: &Handle) -> PyResult<()> {
    if !handle.is_shared(py) {
        return Ok(());
    }
    // Another thread may drop the caller's reference meanwhile.
    let kept = handle.clone_ref(py);
    while runs_elsewhere(py, kept.as_ptr().addr()) {
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
