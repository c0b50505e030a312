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
use pyo3::sync::PyOnceLock;

use super::handle::{
    CANCELLED, Handle, INLINE, RawHandle, SCHEDULED, SHARED, keep_text, own_context, take_contents,
};
use super::handle_memory::{clear, dealloc, dealloc_timer, size, track, traverse};
use super::handle_sharing::wait_for_run;
use crate::names::function;

pub(super) struct Types {
    pub(super) handle: *mut ffi::PyTypeObject,
    pub(super) timer: *mut ffi::PyTypeObject,
    /// This version of Python has a type for handles that other threads may wait for.
    pub(super) are_waited_for: bool,
}

// SAFETY: the two types are immortal for the process and used by attached threads only.
unsafe impl Send for Types {}
// SAFETY: as above.
unsafe impl Sync for Types {}

static TYPES: PyOnceLock<Types> = PyOnceLock::new();

/// What asyncio calls a handle that other threads may wait for, where it has such ones.
const THREAD_SAFE: &str = "_ThreadSafeHandle";

unsafe extern "C" fn cancel(
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
            let event_loop = (*raw).event_loop;
            let scheduled = (*raw).flags & SCHEDULED != 0;
            (*raw).flags |= CANCELLED;
            let debug = super::with_state(event_loop, |state| {
                if scheduled {
                    state.schedule.count_cancelled();
                }
                state.debug
            });
            if debug && let Err(error) = keep_text(Python::assume_attached(), raw) {
                error.restore(Python::assume_attached());
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

unsafe extern "C" fn get_context(
    object: *mut ffi::PyObject,
    _: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: a method of our type, attached; the context is never null in a live handle.
    unsafe { ffi::Py_XNewRef(own_context(object.cast())) }
}

unsafe extern "C" fn when(object: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
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

/// `_run()`, for foreign loops and for those who take handles out of the queue themselves.
unsafe extern "C" fn run(object: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: a method of our type, attached; a new reference is made for the time of the call.
    let (py, handle) = unsafe {
        ffi::Py_INCREF(object);
        let raw = ptr::NonNull::new_unchecked(object.cast::<RawHandle>());
        (Python::assume_attached(), Handle(raw))
    };
    let ran = super::turn::run_alone(py, &handle);
    match ran {
        // SAFETY: attached.
        Ok(()) => unsafe { ffi::Py_NewRef(ffi::Py_None()) },
        Err(error) => {
            error.restore(py);
            null_mut()
        }
    }
}

unsafe extern "C" fn get_callback(
    object: *mut ffi::PyObject,
    _: *mut c_void,
) -> *mut ffi::PyObject {
    // SAFETY: a getter of our type, attached.
    unsafe { or_none((*object.cast::<RawHandle>()).callback) }
}

unsafe extern "C" fn get_args(object: *mut ffi::PyObject, _: *mut c_void) -> *mut ffi::PyObject {
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

unsafe extern "C" fn get_cancelled(
    object: *mut ffi::PyObject,
    _: *mut c_void,
) -> *mut ffi::PyObject {
    // SAFETY: a getter of our type, attached.
    unsafe {
        let cancelled = (*object.cast::<RawHandle>()).flags & CANCELLED != 0;
        ffi::PyBool_FromLong(cancelled.into())
    }
}

unsafe extern "C" fn get_scheduled(
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
unsafe extern "C" fn set_scheduled(
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

unsafe extern "C" fn get_loop(object: *mut ffi::PyObject, _: *mut c_void) -> *mut ffi::PyObject {
    // SAFETY: a getter of our type, attached.
    unsafe { or_none((*object.cast::<RawHandle>()).event_loop) }
}

unsafe extern "C" fn get_private_context(
    object: *mut ffi::PyObject,
    _: *mut c_void,
) -> *mut ffi::PyObject {
    // SAFETY: as `get_context`.
    unsafe { get_context(object, null_mut()) }
}

unsafe extern "C" fn get_when(object: *mut ffi::PyObject, _: *mut c_void) -> *mut ffi::PyObject {
    // SAFETY: as `when`.
    unsafe { when(object, null_mut()) }
}

unsafe extern "C" fn get_traceback(
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

unsafe extern "C" fn get_repr(object: *mut ffi::PyObject, _: *mut c_void) -> *mut ffi::PyObject {
    // SAFETY: a getter of our type, attached.
    unsafe {
        let origin = (*object.cast::<RawHandle>()).origin.as_ref();
        or_none(pointer_to(origin.and_then(|origin| origin.text.as_ref())))
    }
}

/// `__class__`, by which `isinstance` takes us for what we stand for.
unsafe extern "C" fn get_class(object: *mut ffi::PyObject, _: *mut c_void) -> *mut ffi::PyObject {
    // SAFETY: a getter of our type, attached.
    let (py, is_timer, is_shared) = unsafe {
        let py = Python::assume_attached();
        let timer = TYPES.get(py).map(|types| types.timer);
        let is_timer = timer.is_some_and(|timer| ffi::PyObject_TypeCheck(object, timer) != 0);
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

unsafe extern "C" fn hash(object: *mut ffi::PyObject) -> ffi::Py_hash_t {
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
unsafe extern "C" fn compare(
    left: *mut ffi::PyObject,
    right: *mut ffi::PyObject,
    operation: c_int,
) -> *mut ffi::PyObject {
    // SAFETY: a slot of the timers' type, attached; both have our layout once checked.
    unsafe {
        let py = Python::assume_attached();
        let timers = TYPES.get(py).map(|types| types.timer);
        let both = timers.is_some_and(|timer| {
            ffi::PyObject_TypeCheck(left, timer) != 0 && ffi::PyObject_TypeCheck(right, timer) != 0
        });
        if !both {
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

pub(super) fn types(py: Python<'_>) -> PyResult<&'static Types> {
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
            method(c"cancel", cancel),
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
