//! Tasks that end with an exception, noticed when they end.
//!
//! A watched loop looks after each step of a task whether the task holds an exception that no code
//! has asked for. That is so of each task that fails, for a moment: a task that awaits it asks in
//! the next round. What follows is decided in Python (`offloop/_watch/lost.py`). Here is the look
//! alone, which costs each step a few nanoseconds. It calls the C functions that an attribute does.
//!
//! Errors:     those of the listener are unraisable, but for those that end the run.

use std::ffi::{CStr, c_void};
use std::sync::Arc;

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyType};

use super::super::ground::errors::heard;
use super::super::port::schedule::Entry;

/// A property of a C class: what an attribute calls.
#[derive(Clone, Copy)]
struct Property {
    get: ffi::getter,
    closure: *mut c_void,
}

// SAFETY: a function of a class, and what the class gave it; both are as they are for ever.
unsafe impl Send for Property {}
// SAFETY: the same.
unsafe impl Sync for Property {}

impl Property {
    /// The property of a class, or of one that it derives from, that is written in C.
    fn find(class: &Bound<'_, PyType>, name: &CStr) -> PyResult<Self> {
        // SAFETY: *attached*: the class and its bases are alive, and a table ends with an entry
        // without a name.
        unsafe {
            let mut base = class.as_type_ptr();
            while !base.is_null() {
                let mut entry = (*base).tp_getset;
                while !entry.is_null() && !(*entry).name.is_null() {
                    if CStr::from_ptr((*entry).name) == name
                        && let Some(get) = (*entry).get
                    {
                        let closure = (*entry).closure;
                        return Ok(Self { get, closure });
                    }
                    entry = entry.add(1);
                }
                base = (*base).tp_base;
            }
        }
        let text = format!("{class} has no {name:?} that is written in C");
        Err(PyTypeError::new_err(text))
    }

    /// # Safety
    /// The caller is attached; `object` is alive, and an instance of the class.
    unsafe fn of<'py>(
        self,
        py: Python<'py>,
        object: *mut ffi::PyObject,
    ) -> Option<Bound<'py, PyAny>> {
        // SAFETY: the caller's. A new reference, or null and an error.
        let value = unsafe { Bound::from_owned_ptr_or_opt(py, (self.get)(object, self.closure)) };
        if value.is_none() {
            PyErr::take(py);
        }
        value
    }
}

/// What is looked at after each step, and what hears of it.
pub(super) struct Endings {
    /// What a loop calls for the next step of a task: a class of `_asyncio`.
    step: Py<PyType>,
    task: Py<PyType>,
    task_of_step: Property,
    /// Whether a task holds an exception that no code has asked for.
    log_traceback: Property,
    told: Py<PyAny>,
}

impl Endings {
    /// `told` is called with each task; `step` is what a loop calls for a task's next step.
    pub(super) fn new(step: &Bound<'_, PyType>, told: Bound<'_, PyAny>) -> PyResult<Arc<Self>> {
        let task = step.py().import("_asyncio")?.getattr("Task")?;
        let task = task.cast_into::<PyType>()?;
        Ok(Arc::new(Self {
            task_of_step: Property::find(step, c"__self__")?,
            log_traceback: Property::find(&task, c"_log_traceback")?,
            step: step.clone().unbind(),
            task: task.unbind(),
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
            let task = ffi::PyCFunction_GetSelf(called);
            let is_task =
                !task.is_null() && ffi::PyObject_TypeCheck(task, self.task.as_ptr().cast()) != 0;
            is_task.then(|| Bound::from_borrowed_ptr(py, task))
        }
    }

    /// A task, if it has ended with an exception that no code has asked for.
    #[inline]
    pub(super) fn has_failed(&self, task: &Bound<'_, PyAny>) -> bool {
        // SAFETY: *attached*; `task_of` or `look_at_new` has looked at the class.
        let unseen = unsafe { self.log_traceback.of(task.py(), task.as_ptr()) };
        unseen.is_some_and(|unseen| unseen.is(PyBool::new(task.py(), true)))
    }

    /// Tells of a task that has failed before it was given to the program: an eager one.
    #[cold]
    pub(super) fn look_at_new(&self, task: &Bound<'_, PyAny>) -> PyResult<()> {
        let class = self.task.as_ptr().cast();
        // SAFETY: *attached*, and both are alive. Unlike `isinstance`, this asks no object.
        let is_task = unsafe { ffi::PyObject_TypeCheck(task.as_ptr(), class) != 0 };
        if is_task && self.has_failed(task) {
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
