//! The frames of all threads, by the interpreter's word, where asking is safe.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Whether no other interpreter exists. With one that has a GIL of its own, CPython's list of the
/// frames of all threads reads what other threads change: it must not be asked for.
fn is_only_interpreter(_py: Python<'_>) -> bool {
    // SAFETY: attached. The list is only counted, and its first entry is always there.
    unsafe { ffi::PyInterpreterState_Next(ffi::PyInterpreterState_Head()).is_null() }
}

/// The frames of all threads by their ids, as `sys._current_frames`; none where that is not safe.
#[pyfunction]
pub(crate) fn current_frames(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    if !is_only_interpreter(py) {
        return Ok(PyDict::new(py));
    }
    let frames = py.import("sys")?.call_method0("_current_frames")?;
    Ok(frames.cast_into::<PyDict>()?)
}
