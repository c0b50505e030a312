//! Tasks that end with an exception, noticed when they end.
//!
//! A watched loop looks after each step of a task whether the task holds an exception that no code
//! has asked for. That is so of each task that fails, for a moment: a task that awaits it asks in
//! the next round. What follows is decided in Python (`offloop/_watch/lost.py`). Here is the look
//! alone, which costs each step a few nanoseconds.
//!
//! Errors:     those of the listener are unraisable, but for those that end the run.

use std::sync::Arc;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::super::ground::errors::heard;
use super::super::port::schedule::Entry;
use super::task_class::{Property, TaskClass};

/// What is looked at after each step, and what hears of it.
pub(super) struct Endings {
    /// What a loop calls for the next step of a task: a class of `_asyncio`.
    step: Py<PyType>,
    tasks: &'static TaskClass,
    task_of_step: Property,
    told: Py<PyAny>,
}

impl Endings {
    /// `told` is called with each task; `step` is what a loop calls for a task's next step.
    pub(super) fn new(step: &Bound<'_, PyType>, told: Bound<'_, PyAny>) -> PyResult<Arc<Self>> {
        Ok(Arc::new(Self {
            task_of_step: Property::find(step, c"__self__")?,
            tasks: TaskClass::get(step.py())?,
            step: step.clone().unbind(),
            told: told.unbind(),
        }))
    }

    pub(super) fn told(&self) -> &Py<PyAny> {
        &self.told
    }

    /// The task of which an entry is a step.
    #[inline]
    pub(super) fn task_of<'py>(&self, py: Python<'py>, entry: &Entry) -> Option<Bound<'py, PyAny>> {
        let Entry::Ours(handle) = entry else {
            return None;
        };
        let called = handle.callback();
        if called.is_null() {
            return None;
        }
        // SAFETY: *attached*: the handle has what it calls; the classes are compared before the
        // functions are called.
        unsafe {
            let class = ffi::Py_TYPE(called);
            if class.cast() == self.step.as_ptr() {
                return self.task_of_step.of(py, called);
            }
            if class != (&raw mut ffi::PyCFunction_Type) {
                return None;
            }
            let task = Bound::from_borrowed_ptr_or_opt(py, ffi::PyCFunction_GetSelf(called))?;
            Some(task).filter(|task| self.tasks.has(task))
        }
    }

    /// Whether a task has ended with an exception that no code has asked for.
    #[inline]
    pub(super) fn has_failed(&self, task: &Bound<'_, PyAny>) -> bool {
        self.tasks.has_failed(task)
    }

    /// Tells of a task that has failed before it was given to the program: an eager one.
    #[cold]
    pub(super) fn look_at_new(&self, task: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.has_failed(task) {
            self.tell(task)?;
        }
        Ok(())
    }

    /// Tells of a task that has failed.
    #[cold]
    pub(super) fn tell(&self, task: &Bound<'_, PyAny>) -> PyResult<()> {
        let told = self.told.bind(task.py());
        heard(told, told.call1((task,))).map(drop)
    }
}
