//! Calls the user's code on a thread that the end of the program may leave behind in it.
//!
//! Before Python 3.14, a thread that wants the interpreter back after its end is ended by
//! `pthread_exit`, which unwinds its stack. Rust's stack entries do not allow that: the process
//! would be aborted on its way out. So the unwinding is stopped at the call, and the thread sleeps
//! until the process is gone, as from 3.14 on. PyO3 does the same where it takes the interpreter
//! itself.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

unsafe extern "C-unwind" {
    /// A function that PyO3 itself does not call: its declaration, which denies the unwinding,
    /// would hold for ours as well.
    fn PyObject_CallObject(
        callable: *mut ffi::PyObject,
        arguments: *mut ffi::PyObject,
    ) -> *mut ffi::PyObject;
}

/// Never ends its thread's life when it is dropped.
struct Sleeps;

impl Drop for Sleeps {
    fn drop(&mut self) {
        loop {
            std::thread::park();
        }
    }
}

/// Calls without arguments. If the interpreter ends meanwhile, this does not return.
pub(crate) fn call(callable: &Bound<'_, PyAny>) -> PyResult<()> {
    call_with(callable, None).map(drop)
}

/// Calls with these arguments, or none. If the interpreter ends meanwhile, this does not return.
pub(crate) fn call_with<'py>(
    callable: &Bound<'py, PyAny>,
    arguments: Option<&Bound<'py, PyTuple>>,
) -> PyResult<Bound<'py, PyAny>> {
    let arguments = arguments.map_or(std::ptr::null_mut(), |arguments| arguments.as_ptr());
    let sleeps = Sleeps;
    // SAFETY: attached, both are live objects, and null stands for no arguments. The result is a
    // new reference, or null with an error set. Unwinding ends in this function, at `sleeps`.
    let result = unsafe { PyObject_CallObject(callable.as_ptr(), arguments) };
    std::mem::forget(sleeps);
    // SAFETY: as above.
    unsafe { Bound::from_owned_ptr_or_err(callable.py(), result) }
}
