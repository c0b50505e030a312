//! The trace that a call belongs to, in the worker that runs it (`_offloop_worker/traced.py`).
//!
//! Whatever fails here, the call goes on: Python's hook for unraisable errors hears of it.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::names;

/// A call that runs within its trace.
pub(super) struct Traced(Py<PyAny>);

/// Enters the trace that `carried` names, if the worker can.
pub(super) fn enter(callable: &Bound<'_, PyAny>, carried: &Bound<'_, PyDict>) -> Option<Traced> {
    let py = callable.py();
    let entered = names::function(py, "_offloop_worker.traced", "enter")
        .and_then(|enter| enter.call1((callable, carried)));
    match entered {
        Ok(traced) => (!traced.is_none()).then(|| Traced(traced.unbind())),
        Err(error) => {
            error.write_unraisable(py, Some(callable));
            None
        }
    }
}

impl Traced {
    /// The call is over, perhaps by an error.
    pub(super) fn leave(self, py: Python<'_>, error: Option<&PyErr>) {
        let leave = self.0.bind(py);
        let value = error.map(|error| error.value(py).clone());
        if let Err(error) = leave.call_method1("leave", (value,)) {
            error.write_unraisable(py, Some(leave));
        }
    }
}
