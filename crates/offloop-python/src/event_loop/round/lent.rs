//! Python's own containers, for what is to be run.

use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyList;

use super::super::handle::Handle;

/// What is used on the containers. Looked up early: a loop may be closed when no module can be
/// imported any more.
pub(super) struct Tools {
    pub(super) deque: Py<PyAny>,
    pub(super) heappush: Py<PyAny>,
}

static TOOLS: PyOnceLock<Tools> = PyOnceLock::new();

pub(crate) fn learn(py: Python<'_>) -> PyResult<()> {
    tools(py).map(drop)
}

pub(super) fn tools(py: Python<'_>) -> PyResult<&Tools> {
    TOOLS.get_or_try_init(py, || {
        Ok(Tools {
            deque: py.import("collections")?.getattr("deque")?.unbind(),
            heappush: py.import("heapq")?.getattr("heappush")?.unbind(),
        })
    })
}

/// The two containers.
pub(crate) struct Lent {
    pub(super) ready: Py<PyAny>,
    pub(super) timers: Py<PyList>,
}

impl Lent {
    pub(super) fn clone_ref(&self, py: Python<'_>) -> Self {
        Self {
            ready: self.ready.clone_ref(py),
            timers: self.timers.clone_ref(py),
        }
    }

    /// Whether only the loop refers to them.
    pub(super) fn is_sole(&self, _py: Python<'_>) -> bool {
        // SAFETY: *attached*; two references that are held.
        unsafe {
            ffi::Py_REFCNT(self.ready.as_ptr()) == 1 && ffi::Py_REFCNT(self.timers.as_ptr()) == 1
        }
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.ready)?;
        visit.call(&self.timers)
    }

    /// Empties both. None of it will run, even if the program has it too.
    pub(crate) fn clear(&self, py: Python<'_>) -> PyResult<()> {
        let ready = self.ready.bind(py);
        let timers = self.timers.bind(py).as_any();
        for container in [ready, timers] {
            for item in container.try_iter()? {
                if let Ok(handle) = Handle::from_object(item?) {
                    drop(handle.take_contents(py));
                }
            }
            container.call_method0("clear")?;
        }
        Ok(())
    }
}
