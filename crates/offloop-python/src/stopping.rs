//! The end of the program: what was accepted is finished, then threads and workers end.
//!
//! It runs as an exit handler, so the interpreter still works. Callbacks get time to return; one
//! that does not is left behind with its thread, which must not touch the interpreter any more.

use std::time::{Duration, Instant};

use offloop::Close;
use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;
use pyo3::types::PyType;

use crate::home::existing_home;
use crate::resolving::{self, WAIT_SLICE};

/// How long the program's end waits for callbacks once every call is over. The standard library
/// waits for ever; a service manager kills the process after about this long.
const CALLBACKS_BOUND: Duration = Duration::from_secs(10);
/// How long a thread without work may take to end: it is woken, and returns.
const THREADS_BOUND: Duration = Duration::from_secs(1);

/// A program that Ctrl-C has ended stops what runs; any other waits for it.
///
/// Workers have process groups of their own, so the terminal's signal does not reach them.
fn how_to_close(py: Python<'_>) -> Close {
    let ended = py
        .import("sys")
        .and_then(|sys| sys.getattr("last_type"))
        .and_then(|last| last.cast_into::<PyType>().map_err(PyErr::from));
    let interrupted = ended.is_ok_and(|last| {
        last.is_subclass_of::<PyKeyboardInterrupt>()
            .unwrap_or(false)
    });
    if interrupted {
        Close::Stop
    } else {
        Close::Drain
    }
}

/// Ends everything: waits for what was accepted, then ends the threads and the workers.
#[pyfunction]
pub(crate) fn stop(py: Python<'_>) -> PyResult<()> {
    let Some(home) = existing_home() else {
        return Ok(());
    };
    let runtime = &home.runtime;
    runtime.close_lanes(how_to_close(py));
    let mut interrupted = Ok(());
    while interrupted.is_ok() && !py.detach(|| runtime.wait_drained(WAIT_SLICE)) {
        interrupted = py.check_signals();
    }
    runtime.hand_over();
    let begun = Instant::now();
    while interrupted.is_ok()
        && begun.elapsed() < CALLBACKS_BOUND
        && !py.detach(|| runtime.wait_crew_idle(WAIT_SLICE))
    {
        interrupted = py.check_signals();
    }
    let left = py.detach(|| {
        let left = runtime.end_crew(THREADS_BOUND);
        runtime.stop();
        left
    });
    // What no thread came to resolve, such as calls that an interrupt has cut short. Callbacks run
    // only if no thread has been left behind.
    let mut notices = Vec::new();
    runtime.resolver().drain(usize::MAX, &mut notices);
    let mut resolved = Ok(());
    for notice in notices {
        resolved = resolved.and(if left == 0 {
            resolving::resolve(py, notice, None)
        } else {
            resolving::resolve_quietly(py, notice)
        });
    }
    if left > 0 {
        warn(py, left)?;
    }
    resolved.and(interrupted)
}

/// Says that callbacks are left behind.
fn warn(py: Python<'_>, count: u32) -> PyResult<()> {
    let text = format!(
        "offloop: the program ends although callbacks of futures do not return (threads that are \
         left behind: {count})\n"
    );
    let stderr = py.import("sys")?.getattr("stderr")?;
    if !stderr.is_none() {
        stderr.call_method1("write", (text,))?;
    }
    Ok(())
}
