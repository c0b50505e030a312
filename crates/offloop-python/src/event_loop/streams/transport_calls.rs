//! The methods of a stream transport that are called for each packet.
//!
//! They belong to the Python class, whose instances keep their stream in `_native`: a slot, whose
//! place in them is learned once.
//!
//! Source:     asyncio/selector_events.py; Include/cpython/descrobject.h for the slot.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicIsize, Ordering};

use pyo3::prelude::*;
use pyo3::types::PyType;
use pyo3::{ffi, intern};

use super::super::ground::trampoline::{ffi_bound, only_argument, outcome, put_fast, put_simple};
use super::stream::Stream;
use super::writing;

/// The hot methods of a transport class whose instances keep their stream in `_native`.
#[pyfunction]
pub(crate) fn add_stream_methods(class: &Bound<'_, PyType>) -> PyResult<()> {
    learn_place(class)?;
    put_fast(
        class,
        &[
            (
                c"write",
                c"write($self, data)\n--\n\nSend data, without waiting for it to be sent.",
                write,
            ),
            (
                c"writelines",
                c"writelines($self, list_of_data)\n--\n\nSend one after the other.",
                writelines,
            ),
        ],
    )?;
    put_simple(
        class,
        &[
            (
                c"is_closing",
                c"is_closing($self)\n--\n\nReturn whether the connection is closing or closed.",
                is_closing,
                ffi::METH_NOARGS,
            ),
            (
                c"get_write_buffer_size",
                c"get_write_buffer_size($self)\n--\n\nReturn how many bytes wait to be sent.",
                get_write_buffer_size,
                ffi::METH_NOARGS,
            ),
        ],
    )
}

/// Where instances have `_native`, in bytes from their beginning; 0 while that is not known.
static PLACE: AtomicIsize = AtomicIsize::new(0);

fn learn_place(class: &Bound<'_, PyType>) -> PyResult<()> {
    let slot = class.getattr(intern!(class.py(), "_native"))?;
    // SAFETY: attached; a live object, which is read as what its type says that it is.
    unsafe {
        if ffi::Py_TYPE(slot.as_ptr()) == &raw mut ffi::PyMemberDescr_Type {
            let member = (*slot.as_ptr().cast::<ffi::PyMemberDescrObject>()).d_member;
            if (*member).type_code == ffi::Py_T_OBJECT_EX {
                PLACE.store((*member).offset, Ordering::Relaxed);
            }
        }
    }
    Ok(())
}

/// The attribute `_native` of a transport.
///
/// # Safety
/// It is an instance of the class that `learn_place` was asked about.
unsafe fn native<'py>(transport: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = transport.py();
    let place = PLACE.load(Ordering::Relaxed);
    if place > 0 {
        // SAFETY: as above: there is a reference, or null.
        let native = unsafe {
            let slot = transport.as_ptr().byte_offset(place);
            Bound::from_borrowed_ptr_or_opt(py, *slot.cast::<*mut ffi::PyObject>())
        };
        if let Some(native) = native {
            return Ok(native);
        }
    }
    // Says that it is missing.
    transport.getattr(intern!(py, "_native"))
}

/// Runs a method of a transport on its stream, with panics turned into exceptions.
///
/// # Safety
/// The argument is what the interpreter passes to a method.
unsafe fn enter_stream(
    slf: *mut ffi::PyObject,
    body: impl FnOnce(&Bound<'_, PyAny>, &Bound<'_, Stream>) -> PyResult<*mut ffi::PyObject>,
) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter, so attached, with a live object.
    let (py, transport) = unsafe {
        let py = Python::assume_attached();
        (py, ffi_bound(py, &slf))
    };
    let run = || {
        // SAFETY: the descriptor of the method has checked the class.
        let native = unsafe { native(transport)? };
        body(transport, native.cast::<Stream>()?)
    };
    outcome(py, catch_unwind(AssertUnwindSafe(run)))
}

unsafe extern "C" fn write(
    slf: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter.
    unsafe {
        enter_stream(slf, |transport, stream| {
            let parameter = ("write", intern!(stream.py(), "data"));
            let data = only_argument(stream.py(), &args, count, names, parameter)?;
            writing::write(transport, stream, data)?;
            Ok(ffi::Py_NewRef(ffi::Py_None()))
        })
    }
}

unsafe extern "C" fn writelines(
    slf: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter.
    unsafe {
        enter_stream(slf, |transport, stream| {
            let parameter = ("writelines", intern!(stream.py(), "list_of_data"));
            let lines = only_argument(stream.py(), &args, count, names, parameter)?;
            writing::writelines(transport, stream, lines)?;
            Ok(ffi::Py_NewRef(ffi::Py_None()))
        })
    }
}

unsafe extern "C" fn is_closing(
    slf: *mut ffi::PyObject,
    _: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter.
    unsafe {
        enter_stream(slf, |_, stream| {
            Ok(ffi::PyBool_FromLong(
                stream.get().closing(stream.py()).into(),
            ))
        })
    }
}

unsafe extern "C" fn get_write_buffer_size(
    slf: *mut ffi::PyObject,
    _: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter.
    unsafe {
        enter_stream(slf, |_, stream| {
            Ok(ffi::PyLong_FromSize_t(stream.get().size(stream.py())))
        })
    }
}
