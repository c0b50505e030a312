//! The class of tasks that is written in C, and what is read of its objects without Python code.
//!
//! It calls the C functions that an attribute does, whatever a class that derives from it has under
//! the name.

use std::ffi::{CStr, c_void};

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyType};
use pyo3::{ffi, intern};

/// A property of a C class: what an attribute calls.
#[derive(Clone, Copy)]
pub(super) struct Property {
    get: ffi::getter,
    closure: *mut c_void,
}

// SAFETY: a function of a class, and what the class gave it; both are as they are for ever.
unsafe impl Send for Property {}
// SAFETY: the same.
unsafe impl Sync for Property {}

impl Property {
    /// The property of a class, or of one that it derives from, that is written in C.
    pub(super) fn find(class: &Bound<'_, PyType>, name: &CStr) -> PyResult<Self> {
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
    pub(super) unsafe fn of<'py>(
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

/// The class of tasks.
pub(super) struct TaskClass {
    class: Py<PyType>,
    /// Whether a task holds an exception that no code has asked for.
    log_traceback: Property,
    coroutine: Property,
    /// A word of asyncio's.
    state: Property,
}

static TASK_CLASS: PyOnceLock<TaskClass> = PyOnceLock::new();

impl TaskClass {
    /// The class, of which there is one.
    pub(super) fn get(py: Python<'_>) -> PyResult<&'static Self> {
        TASK_CLASS.get_or_try_init(py, || {
            let class = py.import("_asyncio")?.getattr("Task")?;
            let class = class.cast_into::<PyType>()?;
            Ok(Self {
                log_traceback: Property::find(&class, c"_log_traceback")?,
                coroutine: Property::find(&class, c"_coro")?,
                state: Property::find(&class, c"_state")?,
                class: class.unbind(),
            })
        })
    }

    /// Whether an object is a task of this class. Unlike `isinstance`, this asks no object.
    #[inline]
    pub(super) fn has(&self, object: &Bound<'_, PyAny>) -> bool {
        // SAFETY: *attached*, and both are alive.
        unsafe { ffi::PyObject_TypeCheck(object.as_ptr(), self.class.as_ptr().cast()) != 0 }
    }

    /// Whether a task has ended with an exception that no code has asked for. An object of another
    /// class has not.
    #[inline]
    pub(super) fn has_failed(&self, task: &Bound<'_, PyAny>) -> bool {
        if !self.has(task) {
            return false;
        }
        // SAFETY: *attached*; the class was looked at.
        let unseen = unsafe { self.log_traceback.of(task.py(), task.as_ptr()) };
        unseen.is_some_and(|unseen| unseen.is(PyBool::new(task.py(), true)))
    }

    /// Whether a task is not over. An object of another class is not known to be a task.
    #[inline]
    pub(super) fn is_pending(&self, task: &Bound<'_, PyAny>) -> bool {
        if !self.has(task) {
            return false;
        }
        // SAFETY: *attached*; the class was looked at.
        let state = unsafe { self.state.of(task.py(), task.as_ptr()) };
        let pending = intern!(task.py(), "PENDING");
        state.is_some_and(|state| state.is(pending) || state.eq(pending).is_ok_and(|same| same))
    }

    /// What a task runs; `None` of an object of another class.
    pub(super) fn coroutine_of<'py>(&self, task: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
        if !self.has(task) {
            return None;
        }
        // SAFETY: *attached*; the class was looked at.
        unsafe { self.coroutine.of(task.py(), task.as_ptr()) }
    }
}
