//! C's calling convention: how the interpreter calls a method of ours without building a tuple.
//!
//! Methods are put on a class as method descriptors, which is what the interpreter calls fastest:
//! the arguments stay where the caller has them, and none is converted. Calls with unusual
//! keywords are left to Python code, which sorts them out and calls again.
//!
//! Errors:     a panic becomes a `RuntimeError`.
//! Source:     docs.python.org/3/c-api/structures.html (METH_FASTCALL).

use std::ffi::CStr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;

use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};
use pyo3::{ffi, intern};

use super::cell::GilCell;
use crate::names::function;

/// A method's name, its text with the signature that `inspect` reads, and the function.
pub(crate) type FastMethod = (&'static CStr, &'static CStr, FastCall);
/// The same for one that takes one argument or none, as its flags say.
pub(crate) type SimpleMethod = (&'static CStr, &'static CStr, ffi::PyCFunction, i32);

pub(crate) type FastCall = unsafe extern "C" fn(
    *mut ffi::PyObject,
    *const *mut ffi::PyObject,
    ffi::Py_ssize_t,
    *mut ffi::PyObject,
) -> *mut ffi::PyObject;

/// Puts methods that take any arguments on a class.
pub(crate) fn put_fast(class: &Bound<'_, PyType>, methods: &[FastMethod]) -> PyResult<()> {
    for &(name, text, call) in methods {
        let definition = ffi::PyMethodDef {
            ml_name: name.as_ptr(),
            ml_meth: ffi::PyMethodDefPointer {
                PyCFunctionFastWithKeywords: call,
            },
            ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
            ml_doc: text.as_ptr(),
        };
        put(class, name, definition)?;
    }
    Ok(())
}

/// Puts methods that take one argument or none on a class.
pub(crate) fn put_simple(class: &Bound<'_, PyType>, methods: &[SimpleMethod]) -> PyResult<()> {
    for &(name, text, call, flags) in methods {
        let definition = ffi::PyMethodDef {
            ml_name: name.as_ptr(),
            ml_meth: ffi::PyMethodDefPointer { PyCFunction: call },
            ml_flags: flags,
            ml_doc: text.as_ptr(),
        };
        put(class, name, definition)?;
    }
    Ok(())
}

fn put(
    class: &Bound<'_, PyType>,
    name: &'static CStr,
    definition: ffi::PyMethodDef,
) -> PyResult<()> {
    let definition = Box::leak(Box::new(definition));
    // SAFETY: attached; the definition lives for ever, and its flags say how it is called.
    let descriptor = unsafe {
        let descriptor = ffi::PyDescr_NewMethod(class.as_type_ptr(), definition);
        Bound::from_owned_ptr_or_err(class.py(), descriptor)?
    };
    class.setattr(name.to_str().expect("ASCII"), descriptor)
}

pub(crate) fn outcome(
    py: Python<'_>,
    result: std::thread::Result<PyResult<*mut ffi::PyObject>>,
) -> *mut ffi::PyObject {
    match result {
        Ok(Ok(result)) => result,
        Ok(Err(error)) => {
            error.restore(py);
            null_mut()
        }
        Err(_) => {
            PyRuntimeError::new_err("offloop's event loop panicked: this is a bug of offloop")
                .restore(py);
            null_mut()
        }
    }
}

/// A call as C makes it; everything is borrowed from the caller.
pub(crate) struct Arguments<'a, 'py, T> {
    /// Whose method is called.
    pub(crate) slf: &'a Bound<'py, T>,
    pub(crate) positional: &'a [*mut ffi::PyObject],
    pub(crate) keywords: &'a [*mut ffi::PyObject],
    pub(crate) names: *mut ffi::PyObject,
}

/// Runs a method, with panics turned into exceptions.
///
/// # Safety
/// The arguments are those that the interpreter passes to a method of `T`.
pub(crate) unsafe fn enter<T>(
    slf: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
    body: impl FnOnce(Python<'_>, &Arguments<'_, '_, T>) -> PyResult<*mut ffi::PyObject>,
) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter, so attached; the descriptor has checked the type of
    // `slf`; `args` has `count` positional arguments and one for each of `names` after them.
    let (py, call) = unsafe {
        let py = Python::assume_attached();
        let keywords = if names.is_null() {
            0
        } else {
            ffi::PyTuple_GET_SIZE(names)
        };
        let count = count.unsigned_abs();
        let all: &[*mut ffi::PyObject] = if args.is_null() {
            &[]
        } else {
            std::slice::from_raw_parts(args, count + keywords.unsigned_abs())
        };
        let slf = ffi_bound(py, &slf).cast_unchecked::<T>();
        let call = Arguments {
            slf: &*std::ptr::from_ref(slf),
            positional: &all[..count.min(all.len())],
            keywords: &all[count.min(all.len())..],
            names,
        };
        (py, call)
    };
    outcome(py, catch_unwind(AssertUnwindSafe(|| body(py, &call))))
}

impl<T> Arguments<'_, '_, T> {
    /// The context given by keyword, null for none; `None` when other keywords are given.
    pub(crate) fn context(&self, py: Python<'_>) -> Option<*mut ffi::PyObject> {
        match self.keywords {
            [] => Some(null_mut()),
            [context] => {
                // SAFETY: a tuple of one name.
                let name = unsafe { ffi::PyTuple_GET_ITEM(self.names, 0) };
                is_context(py, name).then_some(*context)
            }
            _ => None,
        }
    }

    /// Leaves an unusual call to Python, which sorts its keywords out and calls again.
    pub(crate) fn sort_out(&self, py: Python<'_>, method: &str) -> PyResult<*mut ffi::PyObject> {
        // SAFETY: borrowed objects that live for the call.
        let object = |pointer: &*mut ffi::PyObject| unsafe { ffi_bound(py, pointer).clone() };
        let positional = PyTuple::new(py, self.positional.iter().map(object))?;
        let keywords = PyDict::new(py);
        for (index, value) in self.keywords.iter().enumerate() {
            // SAFETY: a tuple with as many names as there are keywords.
            let name = unsafe { ffi::PyTuple_GET_ITEM(self.names, index as ffi::Py_ssize_t) };
            keywords.set_item(object(&name), object(value))?;
        }
        let sorted = function(py, "offloop._loop.handles", method)?;
        let result = sorted.call1((self.slf.as_any(), positional, keywords))?;
        Ok(result.into_ptr())
    }
}

/// Whether the name of a keyword is this one: mostly both are the interned string.
pub(crate) fn is_named(
    py: Python<'_>,
    name: *mut ffi::PyObject,
    wanted: &Bound<'_, PyString>,
) -> bool {
    // SAFETY: attached; names of keywords are strings, which compare without running any code.
    name == wanted.as_ptr() || unsafe { ffi_bound(py, &name) }.eq(wanted).unwrap_or(false)
}

/// The name `context` as tasks give it to `call_soon`: a string of their own, which is not
/// interned. It is recognised by its place, and kept alive so that nothing else gets there.
static CONTEXT_OF_TASKS: GilCell<Option<Py<PyAny>>> = GilCell::new(None);

/// Whether the name of a keyword is `context`.
#[inline]
fn is_context(py: Python<'_>, name: *mut ffi::PyObject) -> bool {
    let known = |kept: &mut Option<Py<PyAny>>| {
        let kept = kept.as_ref();
        kept.is_some_and(|kept| kept.as_ptr() == name)
    };
    CONTEXT_OF_TASKS.with(py, known) || is_context_at_first(py, name)
}

#[cold]
fn is_context_at_first(py: Python<'_>, name: *mut ffi::PyObject) -> bool {
    let wanted = intern!(py, "context");
    let is_named = is_named(py, name, wanted);
    if is_named && name != wanted.as_ptr() {
        // SAFETY: attached, a live object.
        let kept = unsafe { ffi_bound(py, &name) }.clone().unbind();
        CONTEXT_OF_TASKS.with(py, |first| first.get_or_insert(kept).as_ptr());
    }
    is_named
}

pub(crate) fn missing(method: &str, name: &str) -> PyErr {
    PyTypeError::new_err(format!(
        "{method}() missing 1 required positional argument: '{name}'"
    ))
}

/// Runs a method that takes no arguments, with panics turned into exceptions.
///
/// # Safety
/// `slf` is what the interpreter passes to a method of `T`.
pub(crate) unsafe fn enter_plain<T>(
    slf: *mut ffi::PyObject,
    body: impl FnOnce(Python<'_>, &Bound<'_, T>) -> *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter, so attached; the descriptor has checked the type.
    let (py, slf) = unsafe {
        let py = Python::assume_attached();
        (py, ffi_bound(py, &slf).cast_unchecked::<T>())
    };
    outcome(py, catch_unwind(AssertUnwindSafe(|| Ok(body(py, slf)))))
}

/// The one argument of a call, which may be given by its name.
///
/// # Safety
/// The arguments are those that the interpreter passes to a method that takes any.
pub(crate) unsafe fn only_argument<'a, 'py>(
    py: Python<'py>,
    args: &'a *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
    (method, parameter): (&str, &Bound<'py, PyString>),
) -> PyResult<&'a Bound<'py, PyAny>> {
    // SAFETY: as above: `args` holds `count` objects and one for each of the names.
    unsafe {
        let given = if names.is_null() {
            count == 1
        } else {
            count == 0
                && ffi::PyTuple_GET_SIZE(names) == 1
                && is_named(py, ffi::PyTuple_GET_ITEM(names, 0), parameter)
        };
        if given {
            return Ok(ffi_bound(py, &**args));
        }
    }
    Err(PyTypeError::new_err(format!(
        "{method}() takes one argument: {parameter}"
    )))
}

/// Borrows an object behind a pointer for as long as the pointer is borrowed.
///
/// # Safety
/// The caller is attached, and the object lives as long as the pointer is borrowed.
pub(crate) unsafe fn ffi_bound<'a, 'py>(
    py: Python<'py>,
    pointer: &'a *mut ffi::PyObject,
) -> &'a Bound<'py, PyAny> {
    // SAFETY: as above.
    unsafe { Bound::ref_from_ptr(py, pointer) }
}
