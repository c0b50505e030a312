//! The two types of handles, once the first loop has made them.

use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

/// The types of handles and of timers.
pub(crate) struct Types {
    pub(crate) handle: *mut ffi::PyTypeObject,
    pub(crate) timer: *mut ffi::PyTypeObject,
    /// This version of Python has a type for handles that other threads may wait for.
    pub(crate) are_waited_for: bool,
}

// SAFETY: the two types are immortal for the process and used by attached threads only.
unsafe impl Send for Types {}
// SAFETY: as above.
unsafe impl Sync for Types {}

pub(crate) static TYPES: PyOnceLock<Types> = PyOnceLock::new();

/// What asyncio calls a handle that other threads may wait for, where it has such ones.
pub(crate) const THREAD_SAFE: &str = "_ThreadSafeHandle";

/// Whether an object is a timer of ours.
pub(crate) fn is_timer(py: Python<'_>, object: *mut ffi::PyObject) -> bool {
    let timer = TYPES.get(py).map(|types| types.timer);
    // SAFETY: attached, a live object.
    timer.is_some_and(|timer| unsafe { ffi::PyObject_TypeCheck(object, timer) != 0 })
}

/// The two types, which the first loop makes.
#[inline]
pub(crate) fn types(py: Python<'_>) -> PyResult<&'static Types> {
    let missing = || PyRuntimeError::new_err("there is no loop whose handle this could be");
    TYPES.get(py).ok_or_else(missing)
}
