//! The memory of an object that exports it, for the time of a system call.

use pyo3::ffi;
use pyo3::prelude::*;

/// Contiguous bytes of an object. While it is held, the object keeps its size and its place.
pub(crate) struct View(Box<ffi::Py_buffer>);

impl View {
    /// The bytes, for reading (`PyBUF_SIMPLE`) or writing too (`PyBUF_WRITABLE`); `None` when the
    /// object has none.
    pub(crate) fn of(object: &Bound<'_, PyAny>, flags: std::ffi::c_int) -> Option<Self> {
        let view = Self::export(object, flags);
        view.ok()
    }

    /// As `of`, but returns the error.
    pub(crate) fn export(object: &Bound<'_, PyAny>, flags: std::ffi::c_int) -> PyResult<Self> {
        let mut view = Box::new(ffi::Py_buffer::new());
        // SAFETY: *attached*; `view` is valid for the call to fill, and its address never changes.
        let result = unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), &raw mut *view, flags) };
        if result == 0 {
            Ok(Self(view))
        } else {
            Err(PyErr::fetch(object.py()))
        }
    }

    pub(crate) fn pointer(&self) -> *mut u8 {
        self.0.buf.cast()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len.unsigned_abs()
    }
}

impl Drop for View {
    fn drop(&mut self) {
        // SAFETY: filled by `export`, released once; attached, as the thread that holds a view is.
        unsafe { ffi::PyBuffer_Release(&raw mut *self.0) };
    }
}
