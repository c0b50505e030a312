//! Shared memory as Python sees it: a writable buffer that keeps its range alive.

use std::any::Any;
use std::ffi::c_int;

use offloop::arena::MappedBlock;
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;

use crate::names::byte_format;

/// A range of shared memory, exported through the buffer protocol.
///
/// Arrays that are decoded from it use it in place. When the last of them is gone the range is
/// given back to the process that owns it. Its bytes never become a Rust reference.
#[pyclass(frozen, module = "_offloop_worker._offloop")]
pub(crate) struct SharedBuffer {
    block: MappedBlock,
    _lease: Box<dyn Any + Send + Sync>,
}

impl SharedBuffer {
    pub(crate) fn new(block: MappedBlock, lease: Box<dyn Any + Send + Sync>) -> Self {
        Self {
            block,
            _lease: lease,
        }
    }
}

#[pymethods]
impl SharedBuffer {
    fn __len__(&self) -> usize {
        self.block.len()
    }

    unsafe fn __getbuffer__(
        slf: Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        if view.is_null() {
            return Err(PyBufferError::new_err("view is null"));
        }
        let block = &slf.get().block;
        let len = isize::try_from(block.len())
            .map_err(|_| PyBufferError::new_err("buffer is longer than a Py_ssize_t"))?;
        let wants = |flag: c_int| flags & flag == flag;
        // SAFETY: `view` is valid for the call to fill. The pointer stays valid while `obj`, a new
        // reference to ourselves, keeps the mapping; shape and strides point into the view itself,
        // which the consumer keeps until it releases it.
        unsafe {
            (*view).buf = block.as_ptr().cast();
            (*view).len = len;
            (*view).readonly = 0;
            (*view).itemsize = 1;
            (*view).ndim = 1;
            (*view).format = if wants(ffi::PyBUF_FORMAT) {
                byte_format().into_raw()
            } else {
                std::ptr::null_mut()
            };
            (*view).shape = if wants(ffi::PyBUF_ND) {
                &raw mut (*view).len
            } else {
                std::ptr::null_mut()
            };
            (*view).strides = if wants(ffi::PyBUF_STRIDES) {
                &raw mut (*view).itemsize
            } else {
                std::ptr::null_mut()
            };
            (*view).suboffsets = std::ptr::null_mut();
            (*view).internal = std::ptr::null_mut();
            (*view).obj = slf.into_any().into_ptr();
        }
        Ok(())
    }

    unsafe fn __releasebuffer__(&self, view: *mut ffi::Py_buffer) {
        // SAFETY: `format` is what `__getbuffer__` put there: null, or a string of ours.
        unsafe {
            if !(*view).format.is_null() {
                drop(std::ffi::CString::from_raw((*view).format));
            }
        }
    }
}
