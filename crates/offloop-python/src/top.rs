//! `offloop top`, for the command line: the program stands in crate `offloop-top`.
//!
//! Threads:    the caller's, without the GIL, but for a look at the signals that Python has caught.

use std::cell::RefCell;
use std::time::Duration;

use offloop_top::Options;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// Shows a program; why it ended, in one line, and the exit status: none and 0 if that was wanted.
#[pyfunction]
#[pyo3(signature = (pid, *, once, as_json, every_seconds))]
fn top(
    py: Python<'_>,
    pid: Option<u32>,
    once: bool,
    as_json: bool,
    every_seconds: f64,
) -> PyResult<(Option<String>, i32)> {
    let every = Duration::try_from_secs_f64(every_seconds)
        .map_err(|error| PyValueError::new_err(error.to_string()))?;
    let options = Options {
        pid,
        version: u64::from(version(py)?),
        once,
        as_json,
        every,
    };
    let (outcome, raised) = py.detach(|| {
        let raised = RefCell::new(None);
        let goes_on = || match Python::attach(|py| py.check_signals()) {
            Ok(()) => true,
            Err(error) => {
                raised.replace(Some(error));
                false
            }
        };
        let outcome = offloop_top::top(options, &goes_on);
        (outcome, raised.into_inner())
    });
    match (raised, outcome) {
        (Some(error), _) => Err(error),
        (None, Ok(())) => Ok((None, 0)),
        (None, Err(trouble)) => Ok((Some(trouble.to_string()), trouble.status())),
    }
}

/// Of this interpreter, in the form of `PY_VERSION_HEX`.
fn version(py: Python<'_>) -> PyResult<u32> {
    py.import("sys")?.getattr("hexversion")?.extract()
}

pub(crate) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(top, module)?)
}
