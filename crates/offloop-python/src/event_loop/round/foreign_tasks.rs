//! Tasks of a loop that is not ours: where they are made, and which of them fail.
//!
//! Such a task gets a callback for its end. Nearly all tasks end well, so the callback is here, and
//! asks Python only of those that have failed (`offloop/_watch/loop_losses.py`).
//!
//! Threads:    the loop's.

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3::{ffi, intern};

use super::makers;
use super::task_class::TaskClass;
use crate::forsaking;

/// The callback of the tasks of one loop.
#[pyclass(frozen, module = "_offloop_worker._offloop")]
pub(crate) struct TaskEnds {
    tasks: &'static TaskClass,
    /// Called with each task that has failed, and with each that is not written in C.
    told: Py<PyAny>,
    /// The context in which the tasks call this: it changes nothing there.
    keywords: Py<PyDict>,
}

fn empty_context(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: *attached*; a new reference, or null for an error that is set.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_New()) }
}

#[pymethods]
impl TaskEnds {
    #[new]
    fn new(told: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = told.py();
        let keywords = PyDict::new(py);
        keywords.set_item(intern!(py, "context"), empty_context(py)?)?;
        Ok(Self {
            tasks: TaskClass::get(py)?,
            told: told.clone().unbind(),
            keywords: keywords.unbind(),
        })
    }

    /// How asyncio names this in the text of a task that is pending.
    #[getter(__qualname__)]
    fn qualified_name(&self) -> &'static str {
        "offloop.watch"
    }

    /// A task is made, by the innermost function of Python's that is not asyncio's. Whether it is
    /// known what it runs: that of a task which is not written in C must be given.
    #[pyo3(signature = (task, coroutine=None))]
    fn made<'py>(&self, task: &Bound<'py, PyAny>, coroutine: Option<Bound<'py, PyAny>>) -> bool {
        let coroutine = coroutine.or_else(|| self.tasks.coroutine_of(task));
        coroutine
            .inspect(|coroutine| makers::note(task, coroutine))
            .is_some()
    }

    /// A task is made: both `made` and `listen` in one, where nothing but that is to be done. False
    /// of a task that is over already, or is not written in C.
    fn begun(slf: &Bound<'_, Self>, task: &Bound<'_, PyAny>) -> PyResult<bool> {
        let ends = slf.get();
        let is_pending = ends.tasks.is_pending(task)?;
        if is_pending {
            ends.made(task, None);
            Self::listen(slf, task)?;
        }
        Ok(is_pending)
    }

    /// Hears of the end of a task.
    fn listen(slf: &Bound<'_, Self>, task: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let keywords = slf.get().keywords.bind(py);
        task.call_method(intern!(py, "add_done_callback"), (slf,), Some(keywords))?;
        Ok(())
    }

    /// A task has ended.
    fn __call__(&self, task: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.tasks.has(task) && !self.tasks.has_failed(task) {
            return Ok(());
        }
        forsaking::stay();
        self.told.bind(task.py()).call1((task,)).map(drop)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // The attributes of the listener end the circle that this is in.
        visit.call(&self.told)?;
        visit.call(&self.keywords)
    }
}
