//! Exceptions: those made of the system's errors, and those that end a run.

use pyo3::exceptions::{PyKeyboardInterrupt, PyOSError, PySystemExit};
use pyo3::prelude::*;

/// The exception that Python's own calls raise: its class, number and text.
pub(crate) fn os_error(error: std::io::Error) -> PyErr {
    let Some(code) = error.raw_os_error() else {
        return PyErr::from(error);
    };
    let text = error.to_string();
    let suffix = format!(" (os error {code})");
    let text = text.strip_suffix(&suffix).unwrap_or(&text).to_owned();
    PyOSError::new_err((code, text))
}

/// What a listener of ours returned on the loop's thread, if anything: what it raises is the
/// program's only if it ends the run.
pub(crate) fn heard<T>(listener: &Bound<'_, PyAny>, result: PyResult<T>) -> PyResult<Option<T>> {
    let py = listener.py();
    match result {
        Err(error) if ends_run(py, &error) => Err(error),
        Err(error) => {
            error.write_unraisable(py, Some(listener));
            Ok(None)
        }
        Ok(returned) => Ok(Some(returned)),
    }
}

/// Whether an exception ends the run, instead of going to the loop's exception handler.
pub(crate) fn ends_run(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PySystemExit>(py) || error.is_instance_of::<PyKeyboardInterrupt>(py)
}
