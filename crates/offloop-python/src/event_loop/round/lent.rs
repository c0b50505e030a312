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

/// Whether a queue is what the standard loop has, and no kind of the program's own.
pub(super) fn is_deque(queue: &Bound<'_, PyAny>) -> PyResult<bool> {
    let deque = &tools(queue.py())?.deque;
    Ok(queue.get_type().is(deque))
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

    /// Whether only the loop refers to them, and none is the program's own kind of container.
    pub(super) fn is_sole(&self, py: Python<'_>) -> bool {
        // SAFETY: *attached*; two references that are held.
        let alone = unsafe {
            ffi::Py_REFCNT(self.ready.as_ptr()) == 1 && ffi::Py_REFCNT(self.timers.as_ptr()) == 1
        };
        alone
            && self.timers.bind(py).is_exact_instance_of::<PyList>()
            && is_deque(self.ready.bind(py)).unwrap_or(false)
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
            // A program's own kind may not show what it holds.
            for item in container.try_iter().into_iter().flatten() {
                if let Ok(handle) = Handle::from_object(item?) {
                    drop(handle.take_contents(py));
                }
            }
            container.call_method0("clear")?;
        }
        Ok(())
    }
}
