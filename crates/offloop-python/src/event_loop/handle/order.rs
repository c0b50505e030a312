//! The order of timers: by their time; equal ones agree in callback and arguments too.
//!
//! Source:     asyncio/events.py (`TimerHandle`).

use std::ffi::{c_int, c_void};
use std::ptr::null_mut;

use pyo3::ffi;
use pyo3::prelude::*;

use super::attributes::{get_args, get_callback, get_when, when};
use super::raw::{CANCELLED, RawHandle};
use super::types::is_timer;

pub(super) unsafe extern "C" fn hash(object: *mut ffi::PyObject) -> ffi::Py_hash_t {
    // SAFETY: a slot of the timers' type, attached.
    unsafe {
        let when = when(object, null_mut());
        if when.is_null() {
            return -1;
        }
        let hash = ffi::PyObject_Hash(when);
        ffi::Py_DECREF(when);
        hash
    }
}

/// Timers are ordered by their time; equal ones agree in callback and arguments too.
pub(super) unsafe extern "C" fn compare(
    left: *mut ffi::PyObject,
    right: *mut ffi::PyObject,
    operation: c_int,
) -> *mut ffi::PyObject {
    // SAFETY: a slot of the timers' type, attached; both have our layout once checked.
    unsafe {
        let py = Python::assume_attached();
        if !is_timer(py, left) || !is_timer(py, right) {
            return ffi::Py_NewRef(ffi::Py_NotImplemented());
        }
        let (one, two) = (left.cast::<RawHandle>(), right.cast::<RawHandle>());
        let equal = || same(one, two);
        let or_equal = |result| match result {
            Ok(false) => equal(),
            result => result,
        };
        let result = match operation {
            ffi::Py_LT | ffi::Py_GT => compare_times(one, two, operation),
            ffi::Py_LE => or_equal(compare_times(one, two, ffi::Py_LT)),
            ffi::Py_GE => or_equal(compare_times(one, two, ffi::Py_GT)),
            ffi::Py_NE => equal().map(|equal| !equal),
            _ => equal(),
        };
        match result {
            Ok(result) => ffi::PyBool_FromLong(result.into()),
            Err(()) => null_mut(),
        }
    }
}

/// Compares the times of two timers as floats, or by what was given; `Err` is an error that is set.
unsafe fn compare_times(
    one: *mut RawHandle,
    two: *mut RawHandle,
    operation: c_int,
) -> Result<bool, ()> {
    // SAFETY: two live handles, attached.
    unsafe {
        if !(*one).origin.is_null() || !(*two).origin.is_null() {
            return compare_attributes(one, two, get_when, operation);
        }
        let (left, right) = ((*one).when, (*two).when);
        Ok(match operation {
            ffi::Py_LT => left < right,
            ffi::Py_GT => left > right,
            _ => left == right,
        })
    }
}

/// Compares what a method or a getter says of two handles; `Err` is an error that is set.
unsafe fn compare_attributes(
    one: *mut RawHandle,
    two: *mut RawHandle,
    getter: unsafe extern "C" fn(*mut ffi::PyObject, *mut c_void) -> *mut ffi::PyObject,
    operation: c_int,
) -> Result<bool, ()> {
    // SAFETY: two live handles, attached; getters make new references, which are dropped here.
    unsafe {
        let (left, right) = (
            getter(one.cast(), null_mut()),
            getter(two.cast(), null_mut()),
        );
        let result = if left.is_null() || right.is_null() {
            -1
        } else {
            ffi::PyObject_RichCompareBool(left, right, operation)
        };
        ffi::Py_XDECREF(left);
        ffi::Py_XDECREF(right);
        match result {
            -1 => Err(()),
            result => Ok(result != 0),
        }
    }
}

/// Whether two timers are equal; `Err` is an error that is set.
unsafe fn same(one: *mut RawHandle, two: *mut RawHandle) -> Result<bool, ()> {
    // SAFETY: two live handles, attached.
    unsafe {
        Ok(((*one).flags ^ (*two).flags) & CANCELLED == 0
            && compare_times(one, two, ffi::Py_EQ)?
            && compare_attributes(one, two, get_callback, ffi::Py_EQ)?
            && compare_attributes(one, two, get_args, ffi::Py_EQ)?)
    }
}
