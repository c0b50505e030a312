//! What Python sees of handles: two types with the methods and attributes of asyncio's.
//!
//! The private names are there too, since libraries and test suites read them.
//!
//! Source:     asyncio/events.py.

use std::ffi::{c_char, c_int, c_void};
use std::mem::offset_of;
use std::ptr::{self, null_mut};

use pyo3::ffi;
use pyo3::prelude::*;

use super::super::ground::trampoline::ffi_bound;
use super::attributes::{
    get_args, get_callback, get_cancelled, get_class, get_context, get_loop, get_private_context,
    get_repr, get_scheduled, get_traceback, get_when, set_scheduled, when,
};
use super::memory::{clear, dealloc, dealloc_timer, size, track, traverse};
use super::order::{compare, hash};
use super::raw::{CANCELLED, RawHandle, SCHEDULED, keep_text, take_contents};
use super::reference::Handle;
use super::run::run_alone;
use super::sharing::wait_for_run;
use super::types::{THREAD_SAFE, TYPES, Types};
use crate::names::function;

/// What a handle needs of its loop, which the loop's own class provides.
pub(crate) trait Owner: Sized {
    /// A handle was cancelled, which was in the heap of timers if it `was_scheduled`. Returns
    /// whether the loop is in debug mode.
    fn count_cancelled(event_loop: &Bound<'_, Self>, was_scheduled: bool) -> bool;
}

unsafe extern "C" fn cancel<O: Owner>(
    object: *mut ffi::PyObject,
    _: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    let raw = object.cast::<RawHandle>();
    // SAFETY: a method of our type, attached. The handle is kept alive while its callback's
    // references go, which may run any code.
    unsafe {
        if let Err(error) = wait_for_run(Python::assume_attached(), raw) {
            error.restore(Python::assume_attached());
            return null_mut();
        }
        if (*raw).flags & CANCELLED == 0 {
            let py = Python::assume_attached();
            let was_scheduled = (*raw).flags & SCHEDULED != 0;
            (*raw).flags |= CANCELLED;
            // A loop of ours: only those make handles.
            let event_loop = ffi_bound(py, &(*raw).event_loop).cast_unchecked::<O>();
            let debug = O::count_cancelled(event_loop, was_scheduled);
            if debug && let Err(error) = keep_text(py, raw) {
                error.restore(py);
                return null_mut();
            }
            ffi::Py_INCREF(object);
            drop(take_contents(raw));
            track(raw);
            ffi::Py_DECREF(object);
        }
        ffi::Py_NewRef(ffi::Py_None())
    }
}

unsafe extern "C" fn cancelled(
    object: *mut ffi::PyObject,
    _: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: a method of our type, attached.
    unsafe {
        if let Err(error) = wait_for_run(Python::assume_attached(), object.cast()) {
            error.restore(Python::assume_attached());
            return null_mut();
        }
        get_cancelled(object, null_mut())
    }
}

/// `_run()`, for foreign loops and for those who take handles out of the queue themselves.
unsafe extern "C" fn run(object: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: a method of our type, attached; a new reference is made for the time of the call.
    let (py, handle) = unsafe {
        ffi::Py_INCREF(object);
        let raw = ptr::NonNull::new_unchecked(object.cast::<RawHandle>());
        (Python::assume_attached(), Handle(raw))
    };
    let ran = run_alone(py, &handle);
    match ran {
        // SAFETY: attached.
        Ok(()) => unsafe { ffi::Py_NewRef(ffi::Py_None()) },
        Err(error) => {
            error.restore(py);
            null_mut()
        }
    }
}

unsafe extern "C" fn repr(object: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: a slot of our type, attached.
    let (py, handle) = unsafe {
        let py = Python::assume_attached();
        (py, Bound::from_borrowed_ptr(py, object))
    };
    let text = function(py, "offloop._loop.handles", "describe")
        .and_then(|describe| describe.call1((handle,)));
    match text {
        Ok(text) => text.into_ptr(),
        Err(error) => {
            error.restore(py);
            null_mut()
        }
    }
}

const fn getter(name: &'static std::ffi::CStr, get: ffi::getter) -> ffi::PyGetSetDef {
    ffi::PyGetSetDef {
        name: name.as_ptr(),
        get: Some(get),
        set: None,
        doc: ptr::null(),
        closure: null_mut(),
    }
}

const fn changeable(
    name: &'static std::ffi::CStr,
    get: ffi::getter,
    set: ffi::setter,
) -> ffi::PyGetSetDef {
    let mut attribute = getter(name, get);
    attribute.set = Some(set);
    attribute
}

const fn method(name: &'static std::ffi::CStr, call: ffi::PyCFunction) -> ffi::PyMethodDef {
    ffi::PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunction: call },
        ml_flags: ffi::METH_NOARGS,
        ml_doc: ptr::null(),
    }
}

fn slot(slot: c_int, function: *mut c_void) -> ffi::PyType_Slot {
    ffi::PyType_Slot {
        slot,
        pfunc: function,
    }
}

/// Tables that the types point into for ever.
fn leak<T>(items: Vec<T>) -> *mut c_void {
    Vec::leak(items).as_mut_ptr().cast()
}

/// Makes the two types, unless they are made already. Handles will be those of an `O`.
pub(crate) fn make_types<O: Owner>(py: Python<'_>) -> PyResult<&'static Types> {
    TYPES.get_or_try_init(py, || {
        let members = vec![
            ffi::PyMemberDef {
                name: c"__weaklistoffset__".as_ptr(),
                type_code: ffi::Py_T_PYSSIZET,
                offset: offset_of!(RawHandle, weak_references) as ffi::Py_ssize_t,
                flags: ffi::Py_READONLY,
                doc: ptr::null(),
            },
            ffi::PyMemberDef::default(),
        ];
        let getters = vec![
            getter(c"_callback", get_callback),
            getter(c"_args", get_args),
            getter(c"_cancelled", get_cancelled),
            getter(c"_context", get_private_context),
            getter(c"_loop", get_loop),
            getter(c"_source_traceback", get_traceback),
            getter(c"_repr", get_repr),
            getter(c"__class__", get_class),
            ffi::PyGetSetDef::default(),
        ];
        let methods = vec![
            method(c"cancel", cancel::<O>),
            method(c"cancelled", cancelled),
            method(c"get_context", get_context),
            method(c"_run", run),
            ffi::PyMethodDef::zeroed(),
        ];
        let handle = make_type(
            py,
            c"offloop.Handle",
            size(false),
            vec![
                slot(ffi::Py_tp_dealloc, dealloc as *mut c_void),
                slot(ffi::Py_tp_repr, repr as *mut c_void),
                slot(ffi::Py_tp_members, leak(members)),
                slot(ffi::Py_tp_getset, leak(getters)),
                slot(ffi::Py_tp_methods, leak(methods)),
            ],
            null_mut(),
        )?;
        let getters = vec![
            getter(c"_when", get_when),
            changeable(c"_scheduled", get_scheduled, set_scheduled),
            ffi::PyGetSetDef::default(),
        ];
        let methods = vec![method(c"when", when), ffi::PyMethodDef::zeroed()];
        let timer = make_type(
            py,
            c"offloop.TimerHandle",
            size(true),
            vec![
                slot(ffi::Py_tp_dealloc, dealloc_timer as *mut c_void),
                slot(ffi::Py_tp_richcompare, compare as *mut c_void),
                slot(ffi::Py_tp_hash, hash as *mut c_void),
                slot(ffi::Py_tp_getset, leak(getters)),
                slot(ffi::Py_tp_methods, leak(methods)),
            ],
            handle.cast(),
        )?;
        let are_waited_for = py.import("asyncio.events")?.hasattr(THREAD_SAFE)?;
        Ok(Types {
            handle,
            timer,
            are_waited_for,
        })
    })
}

fn make_type(
    py: Python<'_>,
    name: &'static std::ffi::CStr,
    size: usize,
    mut slots: Vec<ffi::PyType_Slot>,
    base: *mut ffi::PyObject,
) -> PyResult<*mut ffi::PyTypeObject> {
    slots.extend([
        slot(ffi::Py_tp_traverse, traverse as *mut c_void),
        slot(ffi::Py_tp_clear, clear as *mut c_void),
        slot(0, null_mut()),
    ]);
    // The base flag is for `TimerHandle` alone: nobody can make instances of subclasses.
    let flags = ffi::Py_TPFLAGS_DEFAULT
        | ffi::Py_TPFLAGS_BASETYPE
        | ffi::Py_TPFLAGS_HAVE_GC
        | ffi::Py_TPFLAGS_DISALLOW_INSTANTIATION;
    let mut spec = ffi::PyType_Spec {
        name: name.as_ptr().cast::<c_char>(),
        basicsize: c_int::try_from(size).expect("a small struct"),
        itemsize: 0,
        flags: flags.try_into().expect("flags of 32 bits"),
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: attached; name and tables live for ever, the specification for the call, and every
    // slot has the signature that its number asks for.
    unsafe {
        let bases = if base.is_null() {
            null_mut()
        } else {
            ffi::PyTuple_Pack(1, base)
        };
        let class = ffi::PyType_FromSpecWithBases(&raw mut spec, bases);
        ffi::Py_XDECREF(bases);
        if class.is_null() {
            return Err(PyErr::fetch(py));
        }
        Ok(class.cast())
    }
}
