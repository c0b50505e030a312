//! Handles: callbacks that wait to be run, and that may be cancelled.
//!
//! A handle is made for every callback, so it costs as little as an object can: its memory comes
//! from a free list, up to three arguments lie in it, and it is called without building a tuple.
//! To Python it looks like `asyncio.Handle` or `asyncio.TimerHandle`, private names included, and
//! says so when `isinstance` asks.
//!
//! Shape:      one C struct for both types; `TimerHandle` adds the time and is ordered by it. What
//!             Python sees of them is in `handle_type.rs`.
//! Invariants: 1. `callback` is null when the handle was cancelled, has run, or was left in a loop
//!                that was closed, so a handle that
//!                its user keeps cannot keep a circle alive. That is why the collector need not
//!                know handles, which would cost more than all the rest; the loop shows it what
//!                those in its queues hold.
//!             2. `args[..count]` are owned references when `count <= INLINE`; otherwise `args[0]`
//!                owns a tuple of all of them.
//!             3. The free list is touched only by attached threads, and holds memory whose
//!                fields are all null.
//! Threads:    any attached one.
//! Source:     asyncio/events.py for what a handle can do.

use std::ptr::{self, null_mut};

use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use super::cell::GilCell;
use super::handle_type::types;

/// Arguments that a handle holds without a tuple.
pub(super) const INLINE: usize = 3;
/// Handles kept for reuse: 1,024 of 136 bytes cover a burst and cost less than one read buffer.
const FREE_MAX: usize = 1024;

pub(super) const CANCELLED: u8 = 1;
/// In the heap of timers.
pub(super) const SCHEDULED: u8 = 2;
/// Run each time a descriptor is ready, until cancelled.
const REPEATS: u8 = 4;

/// The context is a fresh copy that nobody else has, and the collector does not know it.
const HIDDEN: u8 = 8;

/// The C layout of both types.
#[repr(C)]
pub(super) struct RawHandle {
    pub(super) base: ffi::PyObject,
    pub(super) callback: *mut ffi::PyObject,
    pub(super) args: [*mut ffi::PyObject; INLINE],
    pub(super) context: *mut ffi::PyObject,
    pub(super) event_loop: *mut ffi::PyObject,
    /// In debug mode: where the handle was made, and how a cancelled one looked.
    pub(super) traceback: *mut ffi::PyObject,
    pub(super) repr: *mut ffi::PyObject,
    pub(super) weak_references: *mut ffi::PyObject,
    pub(super) when: f64,
    pub(super) count: u32,
    pub(super) flags: u8,
}

static FREE: GilCell<Vec<usize>> = GilCell::new(Vec::new());

/// An owned reference to a handle of ours, as cheap to move as a pointer.
pub(super) struct Handle(pub(super) ptr::NonNull<RawHandle>);

// SAFETY: a reference to a Python object; used, cloned and dropped by attached threads only, which
// its owner (the loop, whose methods are all called from Python) sees to.
unsafe impl Send for Handle {}

/// What is to be called, from a vectorcall: callback first.
pub(super) struct Callback<'a> {
    /// The callback and its arguments.
    pub(super) items: &'a [*mut ffi::PyObject],
    /// A context given by the caller; otherwise the current one is copied.
    pub(super) context: *mut ffi::PyObject,
    pub(super) event_loop: *mut ffi::PyObject,
}

impl Handle {
    /// A new handle. `when` makes it a timer.
    pub(super) fn new(
        py: Python<'_>,
        callback: &Callback<'_>,
        when: Option<f64>,
    ) -> PyResult<Self> {
        let types = types(py)?;
        // SAFETY: attached; `items` and the others are live objects that the caller borrows, and
        // every field is written before the collector can see the object.
        unsafe {
            let context = if callback.context.is_null() || callback.context == ffi::Py_None() {
                ffi::PyContext_CopyCurrent()
            } else {
                ffi::Py_NewRef(callback.context)
            };
            if context.is_null() {
                return Err(PyErr::fetch(py));
            }
            let kind = if when.is_some() {
                types.timer
            } else {
                types.handle
            };
            let Some(raw) = allocate(py, kind) else {
                ffi::Py_DECREF(context);
                return Err(PyErr::fetch(py));
            };
            let handle = raw.as_ptr();
            (*handle).context = context;
            (*handle).event_loop = ffi::Py_NewRef(callback.event_loop);
            (*handle).callback = ffi::Py_NewRef(callback.items[0]);
            (*handle).when = when.unwrap_or(0.0);
            (*handle).flags = 0;
            let arguments = &callback.items[1..];
            (*handle).count = u32::try_from(arguments.len()).unwrap_or(u32::MAX);
            if arguments.len() <= INLINE {
                for (slot, argument) in (*handle).args.iter_mut().zip(arguments) {
                    *slot = ffi::Py_NewRef(*argument);
                }
            } else {
                let tuple = ffi::PyTuple_New(arguments.len() as ffi::Py_ssize_t);
                if tuple.is_null() {
                    (*handle).count = 0;
                    drop(Self(raw));
                    return Err(PyErr::fetch(py));
                }
                for (index, argument) in arguments.iter().enumerate() {
                    let item = ffi::Py_NewRef(*argument);
                    ffi::PyTuple_SET_ITEM(tuple, index as ffi::Py_ssize_t, item);
                }
                (*handle).args[0] = tuple;
            }
            Ok(Self(raw))
        }
    }

    pub(super) fn as_ptr(&self) -> *mut ffi::PyObject {
        self.0.as_ptr().cast()
    }

    /// The object, as a new reference for C.
    pub(super) fn into_ptr(self) -> *mut ffi::PyObject {
        let pointer = self.as_ptr();
        std::mem::forget(self);
        pointer
    }

    pub(super) fn to_object(&self, py: Python<'_>) -> Py<PyAny> {
        let pointer = self.clone_ref(py).into_ptr();
        // SAFETY: a new reference to a live object.
        unsafe { Bound::from_owned_ptr(py, pointer).unbind() }
    }

    /// Another reference; attached threads only.
    pub(super) fn clone_ref(&self, _py: Python<'_>) -> Self {
        // SAFETY: attached, a live object.
        unsafe { ffi::Py_INCREF(self.as_ptr()) };
        Self(self.0)
    }

    fn raw(&self) -> &RawHandle {
        // SAFETY: alive while we own a reference. Fields change only through raw pointers, by
        // attached threads, and no reference is held across a call into Python.
        unsafe { self.0.as_ref() }
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.raw().flags & CANCELLED != 0
    }

    /// Whether there is nothing to run (any more).
    pub(super) fn is_spent(&self) -> bool {
        self.raw().callback.is_null()
    }

    /// Keeps the callback over runs.
    pub(super) fn set_repeats(&self) {
        // SAFETY: alive, attached; a plain field.
        unsafe { (*self.0.as_ptr()).flags |= REPEATS };
    }

    pub(super) fn when(&self) -> f64 {
        self.raw().when
    }

    pub(super) fn set_scheduled(&self, scheduled: bool) {
        // SAFETY: alive, attached; a plain field.
        unsafe {
            let flags = &raw mut (*self.0.as_ptr()).flags;
            *flags = if scheduled {
                *flags | SCHEDULED
            } else {
                *flags & !SCHEDULED
            };
        }
    }

    pub(super) fn context(&self) -> *mut ffi::PyObject {
        // SAFETY: alive, attached.
        unsafe { show_context(self.0.as_ptr()) };
        self.raw().context
    }

    /// Hides a context that was made for this handle from the collector, until it is used.
    ///
    /// Thousands of handles in the queue would otherwise be looked through again and again. The
    /// loop keeps them alive while they are there, so there is nothing to collect.
    pub(super) fn hide_context(&self) {
        let raw = self.0.as_ptr();
        // SAFETY: alive, attached. One reference: the context was copied for this handle.
        unsafe {
            if ffi::Py_REFCNT((*raw).context) == 1 && (*raw).flags & HIDDEN == 0 {
                ffi::PyObject_GC_UnTrack((*raw).context.cast());
                (*raw).flags |= HIDDEN;
            }
        }
    }

    /// Lets go of callback and arguments after the run, unless nobody else has the handle, which
    /// then goes as a whole. In debug mode its text is kept.
    pub(super) fn finish(&self, py: Python<'_>, debug: bool) -> PyResult<()> {
        let raw = self.0.as_ptr();
        // SAFETY: alive, attached. References go only after they have left the handle.
        unsafe {
            if ffi::Py_REFCNT(raw.cast()) == 1 || (*raw).flags & (CANCELLED | REPEATS) != 0 {
                return Ok(());
            }
            if debug {
                let text = ffi::PyObject_Repr(raw.cast());
                if text.is_null() {
                    return Err(PyErr::fetch(py));
                }
                ffi::Py_XDECREF(std::mem::replace(&mut (*raw).repr, text));
            }
            for item in take_callback(raw) {
                ffi::Py_XDECREF(item);
            }
        }
        Ok(())
    }

    /// Shows the collector what a handle of the loop holds, which is in one place of it.
    ///
    /// Who is called by a handle mostly keeps it too, and would otherwise live for ever with a loop
    /// that nobody closes. Somebody who keeps nothing but a handle of such a loop finds its
    /// contents cleared, and could not have run it. Only a handle that repeats may be in the loop
    /// twice, and is shown if it is not.
    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let raw = self.raw();
        // SAFETY: the collector runs attached; only looks.
        if raw.flags & REPEATS != 0 && unsafe { ffi::Py_REFCNT(self.as_ptr()) } != 1 {
            return Ok(());
        }
        let [first, second, third] = raw.args;
        for pointer in [
            raw.callback,
            first,
            second,
            third,
            raw.context,
            raw.event_loop,
        ] {
            if pointer.is_null() {
                continue;
            }
            // SAFETY: `Py` has the layout of the pointer that it owns; it is only shown to the
            // collector, and never dropped.
            let object = unsafe { std::mem::transmute::<*mut ffi::PyObject, Py<PyAny>>(pointer) };
            visit.call(&*std::mem::ManuallyDrop::new(object))?;
        }
        Ok(())
    }

    /// Takes callback and arguments out of a handle that will not run, for the caller to drop.
    pub(super) fn take_contents(&self) -> Contents {
        // SAFETY: alive, attached.
        Contents(unsafe { take_callback(self.0.as_ptr()) })
    }

    pub(super) fn set_traceback(&self, traceback: Bound<'_, PyAny>) {
        // SAFETY: alive, attached; the old value is null in a new handle.
        unsafe { (*self.0.as_ptr()).traceback = traceback.into_ptr() };
    }

    /// Calls the callback, in whatever context is entered. Null is an error that is set.
    ///
    /// The callback is kept alive during the call: it may cancel its own handle.
    pub(super) fn call(&self, _py: Python<'_>) -> *mut ffi::PyObject {
        let raw = self.0.as_ptr();
        // SAFETY: attached. Callback and arguments get references of their own for the call,
        // since it may cancel the handle, which drops those of the handle. The first of `slots`
        // is scratch space for the callee, as PY_VECTORCALL_ARGUMENTS_OFFSET promises.
        unsafe {
            let callback = (*raw).callback;
            let count = (*raw).count as usize;
            ffi::Py_INCREF(callback);
            let result = if count <= INLINE {
                let mut slots = [null_mut(); INLINE + 1];
                for index in 0..count {
                    slots[index + 1] = ffi::Py_NewRef((*raw).args[index]);
                }
                let flags = count | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET;
                let first = slots.as_mut_ptr().add(1);
                let result =
                    ffi::PyObject_Vectorcall(callback, first.cast_const(), flags, null_mut());
                for argument in &slots[1..=count] {
                    ffi::Py_DECREF(*argument);
                }
                result
            } else {
                let tuple = ffi::Py_NewRef((*raw).args[0]);
                let result = ffi::PyObject_Call(callback, tuple, null_mut());
                ffi::Py_DECREF(tuple);
                result
            };
            ffi::Py_DECREF(callback);
            result
        }
    }
}

/// What a handle held.
pub(super) struct Contents([*mut ffi::PyObject; INLINE + 1]);

impl Drop for Contents {
    fn drop(&mut self) {
        for item in self.0 {
            // SAFETY: owned references, or null; attached, as everybody who has handles is.
            unsafe { ffi::Py_XDECREF(item) };
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: we own one reference; attached, as everybody who owns handles is.
        unsafe { ffi::Py_DECREF(self.as_ptr()) };
    }
}

/// Memory for a handle, its fields null; `None` is an error that is set.
unsafe fn allocate(
    py: Python<'_>,
    kind: *mut ffi::PyTypeObject,
) -> Option<ptr::NonNull<RawHandle>> {
    let free = FREE.with(py, Vec::pop);
    // SAFETY: invariant 3; initialising an object again gives it one reference and its type.
    unsafe {
        let object = match free {
            Some(address) => ffi::PyObject_Init(address as *mut ffi::PyObject, kind),
            None => {
                let memory = ffi::PyObject_Malloc(size_of::<RawHandle>());
                if memory.is_null() {
                    ffi::PyErr_NoMemory();
                    return None;
                }
                clear_fields(memory.cast());
                ffi::PyObject_Init(memory.cast(), kind)
            }
        };
        ptr::NonNull::new(object.cast())
    }
}

/// Lets the collector know the context again: before anybody else has it, and before it goes.
pub(super) unsafe fn show_context(raw: *mut RawHandle) {
    // SAFETY: the caller is attached and has the handle; what is hidden is not tracked.
    unsafe {
        if (*raw).flags & HIDDEN != 0 {
            (*raw).flags &= !HIDDEN;
            ffi::PyObject_GC_Track((*raw).context.cast());
        }
    }
}

unsafe fn clear_fields(raw: *mut RawHandle) {
    // SAFETY: the caller owns the memory and nothing in it is an owned reference.
    unsafe {
        (*raw).callback = null_mut();
        (*raw).args = [null_mut(); INLINE];
        (*raw).context = null_mut();
        (*raw).event_loop = null_mut();
        (*raw).traceback = null_mut();
        (*raw).repr = null_mut();
        (*raw).weak_references = null_mut();
        (*raw).count = 0;
        (*raw).flags = 0;
    }
}

/// Takes callback and arguments out of a handle; the caller drops them when it is safe.
pub(super) unsafe fn take_callback(raw: *mut RawHandle) -> [*mut ffi::PyObject; INLINE + 1] {
    // SAFETY: alive, attached. Each pointer moves out once.
    unsafe {
        let args = std::mem::replace(&mut (*raw).args, [null_mut(); INLINE]);
        (*raw).count = 0;
        let callback = std::mem::replace(&mut (*raw).callback, null_mut());
        [callback, args[0], args[1], args[2]]
    }
}

pub(super) unsafe extern "C" fn dealloc(object: *mut ffi::PyObject) {
    let raw = object.cast::<RawHandle>();
    // SAFETY: the last reference is gone, so the object is ours alone.
    unsafe {
        if !(*raw).weak_references.is_null() {
            ffi::PyObject_ClearWeakRefs(object);
        }
        for item in take_callback(raw) {
            ffi::Py_XDECREF(item);
        }
        show_context(raw);
        ffi::Py_XDECREF((*raw).context);
        ffi::Py_XDECREF((*raw).event_loop);
        ffi::Py_XDECREF((*raw).traceback);
        ffi::Py_XDECREF((*raw).repr);
        let kind = ffi::Py_TYPE(object);
        let py = Python::assume_attached();
        let kept = FREE.with(py, |free| {
            let room = free.len() < FREE_MAX;
            if room {
                clear_fields(raw);
                free.push(object as usize);
            }
            room
        });
        if !kept {
            ffi::PyObject_Free(object.cast());
        }
        ffi::Py_DECREF(kind.cast());
    }
}
