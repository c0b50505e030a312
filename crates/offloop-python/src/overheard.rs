//! A call that a program makes, heard by a listener first.
//!
//! The interpreter tells of a coroutine that nothing has awaited by calling a function of the
//! `warnings` module. That function names the line from the stack entry below its own. A function
//! of Python's in its place would be that entry; this object leaves none.
//!
//! Errors:     those of the listener are unraisable, but for `KeyboardInterrupt` and its like; the
//!             function's are the caller's.

use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::forsaking;

/// Calls `listener`, and then `function`, with the same arguments.
#[pyclass(frozen, module = "_offloop_worker._offloop")]
pub(crate) struct Overheard {
    listener: Py<PyAny>,
    /// What is called as if this were not there.
    #[pyo3(get)]
    function: Py<PyAny>,
}

#[pymethods]
impl Overheard {
    #[new]
    fn new(listener: Py<PyAny>, function: Py<PyAny>) -> Self {
        Self { listener, function }
    }

    #[pyo3(signature = (*args))]
    fn __call__(&self, args: &Bound<'_, PyTuple>) -> PyResult<Py<PyAny>> {
        let py = args.py();
        forsaking::stay();
        let heard = self.listener.call1(py, args);
        let result = self.function.call1(py, args);
        match heard {
            Err(error) if error.is_instance_of::<PyException>(py) => {
                error.write_unraisable(py, Some(self.listener.bind(py)));
                result
            }
            // As Ctrl-C: it is the program's.
            Err(error) => Err(error),
            Ok(_) => result,
        }
    }
}
