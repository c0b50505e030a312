//! The bytes of a Python object, seen through the buffer protocol.
//!
//! Invariants: a view is made and dropped while attached, and its exporter lives for as long.

use pyo3::ffi;
use pyo3::prelude::*;

/// An exported buffer, released when dropped.
pub(crate) struct View(Box<ffi::Py_buffer>);

impl View {
    /// The contiguous bytes behind `object`; `None` when they are not contiguous.
    pub(crate) fn new(object: &Bound<'_, PyAny>) -> PyResult<Option<Self>> {
        let mut view = Box::new(ffi::Py_buffer::new());
        // SAFETY: attached, and `view` is valid for the call to fill; its address never changes.
        let result = unsafe {
            ffi::PyObject_GetBuffer(object.as_ptr(), &raw mut *view, ffi::PyBUF_ANY_CONTIGUOUS)
        };
        if result != 0 {
            PyErr::take(object.py());
            return Ok(None);
        }
        Ok(Some(Self(view)))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len.unsigned_abs()
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.0.readonly != 0
    }

    pub(crate) fn is_in_c_order(&self) -> bool {
        // SAFETY: filled by `new`; the call only reads it.
        unsafe { ffi::PyBuffer_IsContiguous(&raw const *self.0, b'C' as std::ffi::c_char) != 0 }
    }

    /// The lengths of the dimensions, in elements.
    pub(crate) fn shape(&self) -> &[isize] {
        let dimensions = usize::try_from(self.0.ndim).unwrap_or(0);
        if self.0.shape.is_null() || dimensions == 0 {
            return &[];
        }
        // SAFETY: an exporter that was asked for strides fills `ndim` lengths, which live as long
        // as the view.
        unsafe { std::slice::from_raw_parts(self.0.shape, dimensions) }
    }

    /// The bytes. The exporter may change them while we copy, as with every buffer in Python;
    /// then the copy holds either byte, and nothing else depends on it.
    pub(crate) fn bytes(&self) -> &[u8] {
        if self.len() == 0 {
            return &[];
        }
        // SAFETY: an exported contiguous buffer of `len` bytes that stays alive until released.
        unsafe { std::slice::from_raw_parts(self.0.buf.cast::<u8>(), self.len()) }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        // SAFETY: filled by `new`, released once; views live only inside attached calls.
        unsafe { ffi::PyBuffer_Release(&raw mut *self.0) };
    }
}
