//! `TimerHandle`: a handle that has a time. A plain handle has no memory for one.
//!
//! Invariants: those of `reference.rs`.

use std::ptr;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::super::ground::trampoline::{Answer, Receiver};
use super::reference::{Callback, Handle, Owner};
use super::types::types;

/// An owned reference to a handle that is a timer.
#[repr(transparent)]
pub(crate) struct TimerHandle(Handle);

// SAFETY: as a `Handle`; an instance of the class of timers is one, and has a time.
unsafe impl Receiver for TimerHandle {
    type Borrowed<'py> = Self;

    fn class(py: Python<'_>) -> PyResult<Bound<'_, PyType>> {
        types(py).map(|types| types.timer(py))
    }

    #[inline]
    unsafe fn borrow<'a>(_py: Python<'_>, object: &'a *mut ffi::PyObject) -> &'a Self {
        // SAFETY: the caller's; the result is borrowed for as long as the pointer.
        unsafe { &*ptr::from_ref(object).cast() }
    }
}

impl Answer for TimerHandle {
    fn into_answer(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.0.into_answer(py)
    }
}

impl std::ops::Deref for TimerHandle {
    type Target = Handle;

    #[inline]
    fn deref(&self) -> &Handle {
        &self.0
    }
}

impl TimerHandle {
    /// A new timer; `given` is its time, where that was given as no float.
    pub(crate) fn new<O: Owner>(
        py: Python<'_>,
        callback: &Callback<'_, '_, O>,
        when: f64,
        given: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let timer = Handle::make(py, callback, Some(when))?;
        if let Some(given) = given {
            timer.set_given(py, given);
        }
        Ok(Self(timer))
    }

    /// The timer that an object is; the object again when it is none of ours.
    pub(crate) fn from_object(object: Bound<'_, PyAny>) -> Result<Self, Bound<'_, PyAny>> {
        let class = object.get_type_ptr();
        if !types(object.py()).is_ok_and(|types| types.timer == class) {
            return Err(object);
        }
        Handle::from_object(object).map(Self)
    }

    pub(crate) fn into_handle(self) -> Handle {
        self.0
    }

    /// When it is due.
    #[inline]
    pub(crate) fn when(&self, _py: Python<'_>) -> f64 {
        // SAFETY: *attached*, *alive*; a plain field, which timers have.
        unsafe { (*self.0.0.as_ptr()).when }
    }

    /// The time as it was given, if that was no float.
    pub(super) fn given(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.origin(py, |origin| Some(origin.when.as_ref()?.clone_ref(py)))
    }
}
