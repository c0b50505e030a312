//! The attributes of handles, private ones included: libraries and test suites read them.
//!
//! Source:     asyncio/events.py.

use std::ffi::{c_int, c_void};
use std::ptr::{self, null_mut};

use pyo3::ffi;
use pyo3::prelude::*;

use super::raw::{CANCELLED, INLINE, RawHandle, SCHEDULED, SHARED, own_context};
use super::reference::Handle;
use super::types::{THREAD_SAFE, is_timer};
use crate::names::function;

pub(super) unsafe extern "C" fn get_context(
    object: *mut ffi::PyObject,
    _: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: a method of our type, attached; the context is never null in a live handle.
    unsafe { ffi::Py_XNewRef(own_context(object.cast())) }
}

pub(super) unsafe extern "C" fn when(
    object: *mut ffi::PyObject,
    _: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: a method of our type, attached.
    unsafe {
        let raw = object.cast::<RawHandle>();
        let origin = (*raw).origin.as_ref();
        match origin.and_then(|origin| origin.when.as_ref()) {
            Some(when) => ffi::Py_NewRef(when.as_ptr()),
            None => ffi::PyFloat_FromDouble((*raw).when),
        }
    }
}

pub(super) unsafe extern "C" fn get_callback(
    object: *mut ffi::PyObject,
    _: *mut c_void,
) -> *mut ffi::PyObject {
    // SAFETY: a getter of our type, attached.
    unsafe { or_none((*object.cast::<RawHandle>()).callback) }
}

pub(super) unsafe extern "C" fn get_args(
    object: *mut ffi::PyObject,
    _: *mut c_void,
) -> *mut ffi::PyObject {
    let raw = object.cast::<RawHandle>();
    // SAFETY: a getter of our type, attached (invariant 2).
    unsafe {
        let count = (*raw).count as usize;
        if (*raw).callback.is_null() {
            return ffi::Py_NewRef(ffi::Py_None());
        }
        if count > INLINE {
            return ffi::Py_NewRef((*raw).args[0]);
        }
        let tuple = ffi::PyTuple_New(count as ffi::Py_ssize_t);
        if !tuple.is_null() {
            for index in 0..count {
                let item = ffi::Py_NewRef((*raw).args[index]);
                ffi::PyTuple_SET_ITEM(tuple, index as ffi::Py_ssize_t, item);
            }
        }
        tuple
    }
}

pub(super) unsafe extern "C" fn get_cancelled(
    object: *mut ffi::PyObject,
    _: *mut c_void,
) -> *mut ffi::PyObject {
    // SAFETY: a getter of our type, attached.
    unsafe {
        let cancelled = (*object.cast::<RawHandle>()).flags & CANCELLED != 0;
        ffi::PyBool_FromLong(cancelled.into())
    }
}

pub(super) unsafe extern "C" fn get_scheduled(
    object: *mut ffi::PyObject,
    _: *mut c_void,
) -> *mut ffi::PyObject {
    // SAFETY: a getter of our type, attached.
    unsafe {
        let scheduled = (*object.cast::<RawHandle>()).flags & SCHEDULED != 0;
        ffi::PyBool_FromLong(scheduled.into())
    }
}

/// For the standard loop's rounds, which take timers out of the heap.
pub(super) unsafe extern "C" fn set_scheduled(
    object: *mut ffi::PyObject,
    value: *mut ffi::PyObject,
    _: *mut c_void,
) -> c_int {
    if value.is_null() {
        // SAFETY: attached; a text that ends with null.
        unsafe {
            let text = c"_scheduled cannot be deleted".as_ptr();
            ffi::PyErr_SetString(ffi::PyExc_AttributeError, text);
        }
        return -1;
    }
    // SAFETY: a setter of our type, attached; a new reference for the time of the call.
    unsafe {
        let scheduled = ffi::PyObject_IsTrue(value);
        if scheduled >= 0 {
            ffi::Py_INCREF(object);
            Handle(ptr::NonNull::new_unchecked(object.cast())).set_scheduled(scheduled != 0);
        }
        scheduled.min(0)
    }
}

pub(super) unsafe extern "C" fn get_loop(
    object: *mut ffi::PyObject,
    _: *mut c_void,
) -> *mut ffi::PyObject {
    // SAFETY: a getter of our type, attached.
    unsafe { or_none((*object.cast::<RawHandle>()).event_loop) }
}

pub(super) unsafe extern "C" fn get_private_context(
    object: *mut ffi::PyObject,
    _: *mut c_void,
) -> *mut ffi::PyObject {
    // SAFETY: as `get_context`.
    unsafe { get_context(object, null_mut()) }
}

pub(super) unsafe extern "C" fn get_when(
    object: *mut ffi::PyObject,
    _: *mut c_void,
) -> *mut ffi::PyObject {
    // SAFETY: as `when`.
    unsafe { when(object, null_mut()) }
}

pub(super) unsafe extern "C" fn get_traceback(
    object: *mut ffi::PyObject,
    _: *mut c_void,
) -> *mut ffi::PyObject {
    // SAFETY: a getter of our type, attached.
    unsafe {
        let origin = (*object.cast::<RawHandle>()).origin.as_ref();
        or_none(pointer_to(
            origin.and_then(|origin| origin.traceback.as_ref()),
        ))
    }
}

pub(super) unsafe extern "C" fn get_repr(
    object: *mut ffi::PyObject,
    _: *mut c_void,
) -> *mut ffi::PyObject {
    // SAFETY: a getter of our type, attached.
    unsafe {
        let origin = (*object.cast::<RawHandle>()).origin.as_ref();
        or_none(pointer_to(origin.and_then(|origin| origin.text.as_ref())))
    }
}

/// `__class__`, by which `isinstance` takes us for what we stand for.
pub(super) unsafe extern "C" fn get_class(
    object: *mut ffi::PyObject,
    _: *mut c_void,
) -> *mut ffi::PyObject {
    // SAFETY: a getter of our type, attached.
    let (py, is_timer, is_shared) = unsafe {
        let py = Python::assume_attached();
        let is_timer = is_timer(py, object);
        let is_shared = (*object.cast::<RawHandle>()).flags & SHARED != 0;
        (py, is_timer, is_shared)
    };
    let name = match (is_timer, is_shared) {
        (true, _) => "TimerHandle",
        (false, true) => THREAD_SAFE,
        (false, false) => "Handle",
    };
    match function(py, "asyncio.events", name) {
        Ok(class) => class.into_ptr(),
        Err(error) => {
            error.restore(py);
            null_mut()
        }
    }
}

fn pointer_to(object: Option<&Py<PyAny>>) -> *mut ffi::PyObject {
    object.map_or(null_mut(), Py::as_ptr)
}

unsafe fn or_none(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: the caller is attached and borrows `object`, or passes null.
    unsafe {
        if object.is_null() {
            ffi::Py_NewRef(ffi::Py_None())
        } else {
            ffi::Py_NewRef(object)
        }
    }
}
