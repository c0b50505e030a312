//! The one table from the runtime's errors to Python's exceptions.
//!
//! Each type of error has a function here, and each of its variants a row in that; no other file
//! chooses a class for them. `python/offloop/_outcomes.py` makes the texts of what ends a call.

pub(crate) mod samples;

use offloop::arena::ArenaError;
use offloop::{Crash, ExitStatus, Fault, LaneError, Outcome, OwnerError, SubmitError};
use pyo3::exceptions::{PyMemoryError, PyOSError, PyRuntimeError};
use pyo3::prelude::*;

use crate::names::{function, raise};

/// A call that was not taken.
pub(crate) fn not_submitted(py: Python<'_>, error: &SubmitError) -> PyErr {
    let text = error.to_string();
    match error {
        SubmitError::Full { .. } | SubmitError::FullBytes { .. } | SubmitError::TooLarge { .. } => {
            queue_full(py, &text)
        }
        SubmitError::Broken { fault } => no_workers(py, fault),
        SubmitError::Closed => {
            PyRuntimeError::new_err("cannot schedule new futures after shutdown")
        }
        SubmitError::Forked => {
            PyRuntimeError::new_err(format!("{text}: make a new pool in this process"))
        }
    }
}

/// A lane that was not opened.
pub(crate) fn not_opened(error: &LaneError) -> PyErr {
    match error {
        LaneError::Forked | LaneError::Stopped | LaneError::System { .. } => {
            PyOSError::new_err(error.to_string())
        }
    }
}

/// An event loop that gets no owner.
pub(crate) fn not_owned(error: &OwnerError) -> PyErr {
    match error {
        OwnerError::TooMany { .. } | OwnerError::System { .. } => {
            PyRuntimeError::new_err(error.to_string())
        }
    }
}

/// A block that could not be had.
pub(crate) fn not_allocated(py: Python<'_>, error: &ArenaError) -> PyErr {
    let text = error.to_string();
    match error {
        ArenaError::Full { .. } => queue_full(py, &text),
        ArenaError::System { .. } => PyMemoryError::new_err(text),
    }
}

/// A call that no worker finished. `None` for the outcomes that are no error here.
pub(crate) fn not_finished(py: Python<'_>, outcome: &Outcome) -> Option<PyErr> {
    let function = |name| function(py, "offloop._outcomes", name);
    let built = match outcome {
        Outcome::Returned(_) | Outcome::Cancelled => return None,
        Outcome::Expired { deadline } => {
            function("expired").and_then(|expired| expired.call1((*deadline,)))
        }
        Outcome::Dropped => function("dropped").and_then(|dropped| dropped.call0()),
        Outcome::Broken { fault } => return Some(no_workers(py, fault)),
        Outcome::Lost {
            may_have_started,
            attempts,
            crash,
        } => {
            let keywords = crashed(*may_have_started, *attempts, crash).into_pyobject(py);
            function("crashed").and_then(|crashed| crashed.call((), Some(&keywords?)))
        }
    };
    Some(built.map_or_else(|error| error, PyErr::from_value))
}

fn queue_full(py: Python<'_>, text: &str) -> PyErr {
    raise(py, "_offloop_worker.exceptions", "QueueFull", text)
}

fn no_workers(py: Python<'_>, fault: &Fault) -> PyErr {
    raise(py, "offloop._outcomes", "broken", &fault.to_string())
}

/// The keywords of `offloop._outcomes.crashed`.
#[derive(IntoPyObject)]
struct Crashed<'crash> {
    may_have_started: bool,
    attempts: u32,
    pid: i32,
    exit_code: Option<i32>,
    signal: Option<i32>,
    peak_memory_bytes: Option<u64>,
    stderr_tail: &'crash str,
    reason: Option<String>,
}

/// How a process ended: (exit code, signal).
pub(crate) fn exit(status: Option<ExitStatus>) -> (Option<i32>, Option<i32>) {
    match status {
        Some(ExitStatus::Code(code)) => (Some(code), None),
        Some(ExitStatus::Signal(signal)) => (None, Some(signal)),
        None => (None, None),
    }
}

fn crashed(may_have_started: bool, attempts: u32, crash: &Crash) -> Crashed<'_> {
    let (exit_code, signal) = exit(crash.status);
    Crashed {
        may_have_started,
        attempts,
        pid: crash.pid,
        exit_code,
        signal,
        peak_memory_bytes: crash.peak_memory_bytes,
        stderr_tail: &crash.stderr_tail,
        reason: crash.fault.as_ref().map(ToString::to_string),
    }
}
