//! The two types of handles, once the first loop has made them.

use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

/// The types of handles and of timers.
pub(crate) struct Types {
    pub(crate) handle: *mut ffi::PyTypeObject,
    pub(crate) timer: *mut ffi::PyTypeObject,
    /// This version of Python has a type for handles that other threads may wait for.
    pub(crate) are_waited_for: bool,
}

// SAFETY: two addresses of types that live for ever, used with a token (*attached*).
unsafe impl Send for Types {}
// SAFETY: nothing changes in it, and what it leads to is used with a token (*attached*).
unsafe impl Sync for Types {}

impl Types {
    pub(crate) fn handle<'py>(&self, py: Python<'py>) -> Bound<'py, PyType> {
        class(py, self.handle)
    }

    pub(crate) fn timer<'py>(&self, py: Python<'py>) -> Bound<'py, PyType> {
        class(py, self.timer)
    }
}

fn class(py: Python<'_>, class: *mut ffi::PyTypeObject) -> Bound<'_, PyType> {
    // SAFETY: *attached*; one of the two types, which live for ever.
    unsafe { Bound::from_borrowed_ptr(py, class.cast()).cast_into_unchecked() }
}

pub(crate) static TYPES: PyOnceLock<Types> = PyOnceLock::new();

/// The name of asyncio's class of handles that other threads may wait for, where it has one.
pub(crate) const THREAD_SAFE: &str = "_ThreadSafeHandle";

/// The two types, which the first loop makes.
#[inline]
pub(crate) fn types(py: Python<'_>) -> PyResult<&'static Types> {
    let missing = || PyRuntimeError::new_err("there is no loop whose handle this could be");
    TYPES.get(py).ok_or_else(missing)
}
