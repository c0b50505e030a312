//! `Handle`: an owned reference to a handle, and all that the loop does with one.
//!
//! The numbers of invariants are those of `raw.rs`.

use std::ptr;

use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use super::context::hold_the_same;
use super::memory::{allocate, show, track};
use super::raw::{
    CANCELLED, Contents, INLINE, REPEATS, RawHandle, SCHEDULED, TRACKED, UNSEEN, keep_text, origin,
    own_context, take_contents,
};
use super::types::types;

/// An owned reference to a handle of ours, as cheap to move as a pointer.
pub(crate) struct Handle(pub(super) ptr::NonNull<RawHandle>);

// SAFETY: a reference to a Python object; used, cloned and dropped by attached threads only, which
// its owner (the loop, whose methods are all called from Python) sees to.
unsafe impl Send for Handle {}

/// What is to be called, from a vectorcall: callback first.
pub(crate) struct Callback<'a> {
    /// The callback and its arguments.
    pub(crate) items: &'a [*mut ffi::PyObject],
    /// A context given by the caller; otherwise the current one is copied.
    pub(crate) context: *mut ffi::PyObject,
    pub(crate) event_loop: *mut ffi::PyObject,
}

impl Handle {
    /// A new handle. `when` makes it a timer.
    pub(crate) fn new(
        py: Python<'_>,
        callback: &Callback<'_>,
        when: Option<f64>,
    ) -> PyResult<Self> {
        let types = types(py)?;
        // SAFETY: attached; `items` and the others are live objects that the caller borrows, and
        // every field is written before the collector can see the object.
        unsafe {
            let (context, flags) =
                if callback.context.is_null() || callback.context == ffi::Py_None() {
                    (ffi::PyContext_CopyCurrent(), UNSEEN)
                } else {
                    (ffi::Py_NewRef(callback.context), 0)
                };
            if context.is_null() {
                return Err(PyErr::fetch(py));
            }
            let kind = if when.is_some() {
                types.timer
            } else {
                types.handle
            };
            let Some(raw) = allocate(py, kind, when.is_some()) else {
                ffi::Py_DECREF(context);
                return Err(PyErr::fetch(py));
            };
            let handle = raw.as_ptr();
            (*handle).context = context;
            (*handle).event_loop = ffi::Py_NewRef(callback.event_loop);
            (*handle).callback = ffi::Py_NewRef(callback.items[0]);
            if let Some(when) = when {
                (*handle).when = when;
            }
            (*handle).flags = flags;
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

    pub(crate) fn as_ptr(&self) -> *mut ffi::PyObject {
        self.0.as_ptr().cast()
    }

    /// The object, as a new reference for C.
    pub(crate) fn into_ptr(self) -> *mut ffi::PyObject {
        let pointer = self.as_ptr();
        std::mem::forget(self);
        pointer
    }

    pub(crate) fn to_object(&self, py: Python<'_>) -> Py<PyAny> {
        let pointer = self.clone_ref(py).into_ptr();
        // SAFETY: a new reference to a live object.
        unsafe { Bound::from_owned_ptr(py, pointer).unbind() }
    }

    /// The handle that an object is; the object again when it is none of ours.
    pub(crate) fn from_object(object: Bound<'_, PyAny>) -> Result<Self, Bound<'_, PyAny>> {
        let class = object.get_type_ptr();
        let is_ours =
            types(object.py()).is_ok_and(|types| [types.handle, types.timer].contains(&class));
        match ptr::NonNull::new(object.as_ptr().cast()) {
            Some(raw) if is_ours => {
                // The reference is the handle's from now on.
                std::mem::forget(object);
                Ok(Self(raw))
            }
            _ => Err(object),
        }
    }

    /// The object, which the collector knows: others keep it from now on, and it has yet to run.
    pub(crate) fn into_known_object(self, py: Python<'_>) -> Py<PyAny> {
        // SAFETY: alive, attached; the reference is the object's from now on.
        unsafe {
            track(self.0.as_ptr());
            Bound::from_owned_ptr(py, self.into_ptr()).unbind()
        }
    }

    /// Another reference; attached threads only.
    pub(crate) fn clone_ref(&self, _py: Python<'_>) -> Self {
        // SAFETY: attached, a live object.
        unsafe { ffi::Py_INCREF(self.as_ptr()) };
        Self(self.0)
    }

    fn raw(&self) -> &RawHandle {
        // SAFETY: alive while we own a reference. Fields change only through raw pointers, by
        // attached threads, and no reference is held across a call into Python.
        unsafe { self.0.as_ref() }
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.raw().flags & CANCELLED != 0
    }

    /// Whether there is nothing to run (any more).
    pub(crate) fn is_spent(&self) -> bool {
        self.raw().callback.is_null()
    }

    /// Keeps the callback over runs, and the context with all that they set in it.
    pub(crate) fn set_repeats(&self) {
        // SAFETY: alive, attached; a plain field.
        unsafe {
            let flags = &raw mut (*self.0.as_ptr()).flags;
            *flags = (*flags | REPEATS) & !UNSEEN;
        }
    }

    /// What is to be called; null when the handle is spent.
    pub(crate) fn callback(&self) -> *mut ffi::PyObject {
        self.raw().callback
    }

    /// When a timer is due.
    pub(crate) fn when(&self) -> f64 {
        self.raw().when
    }

    /// The time of a new timer, as it was given.
    pub(crate) fn set_when(&self, when: Py<PyAny>) {
        // SAFETY: alive, attached; what is replaced is that of a new handle: nothing.
        unsafe { origin(self.0.as_ptr()).when = Some(when) };
    }

    pub(crate) fn set_scheduled(&self, scheduled: bool) {
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

    /// Whether nobody but the caller has the handle, or can get it by a weak reference, and so
    /// nobody can look at it or cancel it.
    #[inline]
    pub(super) fn is_sole(&self) -> bool {
        // SAFETY: alive, attached.
        unsafe { ffi::Py_REFCNT(self.as_ptr()) == 1 && self.raw().weak_references.is_null() }
    }

    /// The context of a handle that nobody else has, if nobody has the context either.
    #[inline]
    pub(crate) fn unseen_context(&self) -> Option<*mut ffi::PyObject> {
        let raw = self.raw();
        (raw.flags & UNSEEN != 0 && self.is_sole()).then_some(raw.context)
    }

    /// The context as an object that this handle shares with no other.
    pub(crate) fn own_context(&self, py: Python<'_>) -> PyResult<*mut ffi::PyObject> {
        // SAFETY: alive, attached.
        let context = unsafe { own_context(self.0.as_ptr()) };
        if context.is_null() {
            return Err(PyErr::fetch(py));
        }
        Ok(context)
    }

    /// Takes a context that was copied for this handle's run, for others to have.
    ///
    /// # Safety
    /// The caller is attached, and `context` is alive.
    pub(crate) unsafe fn adopt_context(&self, context: *mut ffi::PyObject) {
        let raw = self.0.as_ptr();
        // SAFETY: as above; the old one goes when the handle is whole again.
        unsafe {
            if (*raw).flags & UNSEEN != 0 {
                (*raw).flags &= !UNSEEN;
                let context = ffi::Py_NewRef(context);
                ffi::Py_DECREF(std::mem::replace(&mut (*raw).context, context));
            }
        }
    }

    /// Takes the context of another handle if it holds the same, so that many handles in the queue
    /// need memory, and the collector's time, for one.
    ///
    /// Runs no Python code: the context that goes is a copy whose contents the other keeps.
    #[inline]
    pub(crate) fn share_context(&self, other: &Self) {
        let (raw, from) = (self.0.as_ptr(), other.0.as_ptr());
        // SAFETY: alive, attached; contexts are never null in live handles.
        unsafe {
            if (*raw).flags & (*from).flags & UNSEEN != 0
                && hold_the_same((*raw).context, (*from).context)
            {
                let context = ffi::Py_NewRef((*from).context);
                ffi::Py_DECREF(std::mem::replace(&mut (*raw).context, context));
            }
        }
    }

    /// Lets go of callback and arguments after the run, unless nobody else has the handle, which
    /// then goes as a whole. In debug mode its text is kept.
    pub(crate) fn finish(&self, py: Python<'_>, debug: bool) -> PyResult<()> {
        let raw = self.0.as_ptr();
        // SAFETY: alive, attached. References go only after they have left the handle.
        unsafe {
            if self.is_sole() || (*raw).flags & (CANCELLED | REPEATS) != 0 {
                return Ok(());
            }
            if debug {
                keep_text(py, raw)?;
            }
            drop(take_contents(raw));
            track(raw);
        }
        Ok(())
    }

    /// Shows the collector what a handle of the loop holds, which is in one place of it.
    ///
    /// Who is called by a handle mostly keeps it too, and would otherwise live for ever with a loop
    /// that nobody closes. Somebody who keeps nothing but a handle of such a loop finds its
    /// contents cleared, and could not have run it. Only a handle that repeats may be in the loop
    /// twice, and is shown if it is not.
    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let raw = self.raw();
        if raw.flags & TRACKED != 0 {
            return show(visit, self.as_ptr());
        }
        // SAFETY: the collector runs attached; only looks.
        if raw.flags & REPEATS != 0 && unsafe { ffi::Py_REFCNT(self.as_ptr()) } != 1 {
            return Ok(());
        }
        let [first, second] = raw.args;
        let held = [raw.callback, first, second, raw.context, raw.event_loop];
        held.iter().try_for_each(|object| show(visit, *object))
    }

    /// Takes callback and arguments out of a handle that will not run, for the caller to drop.
    pub(crate) fn take_contents(&self) -> Contents {
        // SAFETY: alive, attached; the collector is told while the handle is whole.
        unsafe {
            let contents = take_contents(self.0.as_ptr());
            if !self.is_sole() {
                track(self.0.as_ptr());
            }
            contents
        }
    }

    pub(crate) fn set_traceback(&self, traceback: Bound<'_, PyAny>) {
        // SAFETY: alive, attached; what is replaced is that of a new handle: nothing.
        unsafe { origin(self.0.as_ptr()).traceback = Some(traceback.unbind()) };
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: we own one reference; attached, as everybody who owns handles is.
        unsafe { ffi::Py_DECREF(self.as_ptr()) };
    }
}
