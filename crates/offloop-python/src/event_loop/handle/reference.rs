//! `Handle`: an owned reference to a handle, and all that the loop does with one.
//!
//! Invariants: those of the ground and of `raw.rs`, by number or name. *alive*: a `Handle` owns a
//!             reference, or is borrowed from an owner of one; so its memory is that of a handle.

use std::ptr;

use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};

use super::super::ground::arguments::Given;
use super::super::ground::trampoline::{Answer, Receiver};
use super::context::hold_the_same;
use super::memory::{allocate, show};
use super::raw::{
    CANCELLED, Contents, INLINE, Origin, REPEATS, RawHandle, SCHEDULED, SHARED, TRACKED, UNSEEN,
};
use super::types::types;

/// An owned reference to a handle of ours, as cheap to move as a pointer.
#[repr(transparent)]
pub(crate) struct Handle(pub(super) ptr::NonNull<RawHandle>);

// SAFETY: a reference to a Python object, which any thread may have. It is used with a token
// (*attached*), but for its drop: its owner is the state of a loop, which ends on an attached
// thread, or a function that has a token.
unsafe impl Send for Handle {}

// SAFETY: an instance of the class is *alive* while its reference is lent, and `Handle` has the
// layout of a pointer that is not null.
unsafe impl Receiver for Handle {
    type Borrowed<'py> = Self;

    fn class(py: Python<'_>) -> PyResult<Bound<'_, PyType>> {
        types(py).map(|types| types.handle(py))
    }

    #[inline]
    unsafe fn borrow<'a>(_py: Python<'_>, object: &'a *mut ffi::PyObject) -> &'a Self {
        // SAFETY: the caller's; the result is borrowed for as long as the pointer.
        unsafe { &*ptr::from_ref(object).cast() }
    }
}

impl Answer for Handle {
    #[inline]
    fn into_answer(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self.into_object(py))
    }
}

/// What a handle needs of its loop, which the loop's own class provides.
///
/// # Safety
/// Only one class has this: so the loop of any handle can be taken for it.
pub(crate) unsafe trait Owner: Sized + 'static {
    /// Counts a cancelled handle, which was in the heap of timers if it `was_scheduled`. Returns
    /// whether the loop is in debug mode.
    fn count_cancelled(event_loop: &Bound<'_, Self>, was_scheduled: bool) -> bool;
}

/// What is to be called, from a vectorcall: callback first.
pub(crate) struct Callback<'a, 'py, O: Owner> {
    /// The callback and its arguments.
    pub(crate) items: &'a [Bound<'py, PyAny>],
    /// A context given by the caller; otherwise the current one is copied.
    pub(crate) context: Given<'a, 'py>,
    pub(crate) event_loop: &'a Bound<'py, O>,
}

impl<O: Owner> Callback<'_, '_, O> {
    /// The context for the handle, as a reference of its own, and `UNSEEN` if it was copied here.
    #[inline]
    fn context(&self, py: Python<'_>) -> PyResult<(*mut ffi::PyObject, u8)> {
        if let Some(context) = self.context.filter(|context| !context.is_none()) {
            return Ok((context.clone().into_ptr(), 0));
        }
        // SAFETY: *attached*; a new reference, or null for an error that is set.
        let context = unsafe { ffi::PyContext_CopyCurrent() };
        if context.is_null() {
            return Err(PyErr::fetch(py));
        }
        Ok((context, UNSEEN))
    }
}

impl Handle {
    /// A new handle.
    pub(crate) fn new<O: Owner>(py: Python<'_>, callback: &Callback<'_, '_, O>) -> PyResult<Self> {
        Self::make(py, callback, None)
    }

    /// A new handle; `when` makes it a timer.
    #[inline]
    pub(super) fn make<O: Owner>(
        py: Python<'_>,
        callback: &Callback<'_, '_, O>,
        when: Option<f64>,
    ) -> PyResult<Self> {
        let types = types(py)?;
        let (called, arguments) = callback
            .items
            .split_first()
            .ok_or_else(|| PyRuntimeError::new_err("a handle without a callback"))?;
        let (context, flags) = callback.context(py)?;
        let kind = if when.is_some() {
            types.timer
        } else {
            types.handle
        };
        // SAFETY: *attached*; the type is that of such handles. Every field is written before
        // other code sees the object, with references of its own (*owned*, invariant 2).
        unsafe {
            let Some(raw) = allocate(py, kind, when.is_some()) else {
                ffi::Py_DECREF(context);
                return Err(PyErr::fetch(py));
            };
            let handle = raw.as_ptr();
            (*handle).context = context;
            (*handle).event_loop = ffi::Py_NewRef(callback.event_loop.as_ptr());
            (*handle).callback = ffi::Py_NewRef(called.as_ptr());
            if let Some(when) = when {
                (*handle).when = when;
            }
            (*handle).flags = flags;
            (*handle).count = u32::try_from(arguments.len()).unwrap_or(u32::MAX);
            if arguments.len() <= INLINE {
                for (slot, argument) in (*handle).args.iter_mut().zip(arguments) {
                    *slot = ffi::Py_NewRef(argument.as_ptr());
                }
            } else {
                match PyTuple::new(py, arguments) {
                    Ok(tuple) => (*handle).args[0] = tuple.into_ptr(),
                    Err(error) => {
                        (*handle).count = 0;
                        drop(Self(raw));
                        return Err(error);
                    }
                }
            }
            Ok(Self(raw))
        }
    }

    pub(crate) fn as_ptr(&self) -> *mut ffi::PyObject {
        self.0.as_ptr().cast()
    }

    pub(crate) fn into_object(self, py: Python<'_>) -> Py<PyAny> {
        let pointer = self.as_ptr();
        std::mem::forget(self);
        // SAFETY: *alive*; the reference is the object's from now on.
        unsafe { Bound::from_owned_ptr(py, pointer).unbind() }
    }

    pub(crate) fn to_object(&self, py: Python<'_>) -> Py<PyAny> {
        self.clone_ref(py).into_object(py)
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

    /// The object, for a container that the program has. It has yet to run, but the loop shows it
    /// no more: so the collector is told of it.
    pub(crate) fn into_known_object(self, py: Python<'_>) -> Py<PyAny> {
        self.track(py);
        self.into_object(py)
    }

    /// Another reference.
    #[inline]
    pub(crate) fn clone_ref(&self, _py: Python<'_>) -> Self {
        // SAFETY: *attached*, *alive*.
        unsafe { ffi::Py_INCREF(self.as_ptr()) };
        Self(self.0)
    }

    #[inline]
    fn flags(&self, _py: Python<'_>) -> u8 {
        // SAFETY: *attached*, *alive*; a plain field.
        unsafe { (*self.0.as_ptr()).flags }
    }

    /// Removes the flags in `remove`, and adds those in `add`.
    #[inline]
    fn change_flags(&self, py: Python<'_>, remove: u8, add: u8) {
        let flags = self.flags(py) & !remove | add;
        // SAFETY: *attached*, *alive*; a plain field.
        unsafe { (*self.0.as_ptr()).flags = flags };
    }

    #[inline]
    pub(crate) fn is_cancelled(&self, py: Python<'_>) -> bool {
        self.flags(py) & CANCELLED != 0
    }

    #[inline]
    pub(super) fn is_scheduled(&self, py: Python<'_>) -> bool {
        self.flags(py) & SCHEDULED != 0
    }

    #[inline]
    pub(super) fn is_shared(&self, py: Python<'_>) -> bool {
        self.flags(py) & SHARED != 0
    }

    pub(super) fn set_cancelled(&self, py: Python<'_>) {
        self.change_flags(py, 0, CANCELLED);
    }

    pub(super) fn set_shared(&self, py: Python<'_>) {
        self.change_flags(py, 0, SHARED);
    }

    /// Keeps the callback over runs, and the context with all that they set in it.
    pub(crate) fn set_repeats(&self, py: Python<'_>) {
        self.change_flags(py, UNSEEN, REPEATS);
    }

    #[inline]
    pub(crate) fn set_scheduled(&self, py: Python<'_>, scheduled: bool) {
        self.change_flags(py, SCHEDULED, if scheduled { SCHEDULED } else { 0 });
    }

    /// Whether there is nothing to run (any more).
    #[inline]
    pub(crate) fn is_spent(&self, _py: Python<'_>) -> bool {
        // SAFETY: *attached*, *alive*; a plain field.
        unsafe { (*self.0.as_ptr()).callback.is_null() }
    }

    /// The callback, borrowed for as long as the handle has it; null when the handle is spent.
    #[inline]
    pub(crate) fn callback(&self) -> *mut ffi::PyObject {
        // SAFETY: *alive*; a plain field, which changes only on attached threads. The caller has
        // an entry of the loop in hand, so its thread is attached.
        unsafe { (*self.0.as_ptr()).callback }
    }

    /// What is to be called.
    pub(super) fn called(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        // SAFETY: *attached*; *owned*, and a new reference is made.
        unsafe { Bound::from_borrowed_ptr_or_opt(py, self.callback()).map(Bound::unbind) }
    }

    /// The arguments of the call, unless the handle is spent.
    pub(super) fn args(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        if self.is_spent(py) {
            return Ok(None);
        }
        let raw = self.0.as_ptr();
        // SAFETY: *attached*, *alive*; so many arguments, or a tuple of all (invariant 2). New
        // references are made before anything else runs.
        unsafe {
            let count = (*raw).count as usize;
            let borrowed = |index: usize| Bound::from_borrowed_ptr(py, (*raw).args[index]);
            if count > INLINE {
                return Ok(Some(borrowed(0).unbind()));
            }
            let args = PyTuple::new(py, (0..count).map(borrowed))?;
            Ok(Some(args.into_any().unbind()))
        }
    }

    pub(super) fn event_loop(&self, py: Python<'_>) -> Py<PyAny> {
        // SAFETY: *attached*; *owned*, never null, and a new reference is made.
        unsafe { Bound::from_borrowed_ptr(py, (*self.0.as_ptr()).event_loop).unbind() }
    }

    /// Whether the caller has the only reference, and there is no weak one: then no other code can
    /// look at the handle or cancel it.
    #[inline]
    pub(super) fn is_sole(&self, _py: Python<'_>) -> bool {
        // SAFETY: *attached*, *alive*.
        unsafe {
            ffi::Py_REFCNT(self.as_ptr()) == 1 && (*self.0.as_ptr()).weak_references.is_null()
        }
    }

    /// The context, if only handles of the loop have it and only the caller has this handle. It is
    /// borrowed for as long as the handle has it.
    #[inline]
    pub(super) fn unseen_context(&self, py: Python<'_>) -> Option<*mut ffi::PyObject> {
        let unseen = self.flags(py) & UNSEEN != 0 && self.is_sole(py);
        // SAFETY: *attached*, *alive*; a plain field.
        unseen.then(|| unsafe { (*self.0.as_ptr()).context })
    }

    /// The context as an object that no other handle shares: the program may have it.
    #[inline]
    pub(crate) fn own_context<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if self.flags(py) & UNSEEN != 0 {
            self.make_context_own(py)?;
        }
        // SAFETY: *attached*; *owned*, never null, and a new reference is made.
        unsafe { Ok(Bound::from_borrowed_ptr(py, (*self.0.as_ptr()).context)) }
    }

    fn make_context_own(&self, py: Python<'_>) -> PyResult<()> {
        let raw = self.0.as_ptr();
        // SAFETY: *attached*, *alive*, *owned*. What is dropped is a reference to a context that
        // handles share (invariant 3), so nothing ends with it.
        unsafe {
            if ffi::Py_REFCNT((*raw).context) != 1 {
                let copy = ffi::PyContext_Copy((*raw).context);
                if copy.is_null() {
                    return Err(PyErr::fetch(py));
                }
                ffi::Py_DECREF(std::mem::replace(&mut (*raw).context, copy));
            }
        }
        self.change_flags(py, UNSEEN, 0);
        Ok(())
    }

    /// Takes the context that was copied for this handle's run: the program may have it.
    pub(super) fn adopt_context(&self, context: Bound<'_, PyAny>) {
        let py = context.py();
        if self.flags(py) & UNSEEN == 0 {
            return;
        }
        self.change_flags(py, UNSEEN, 0);
        // SAFETY: *attached*, *alive*, *owned*; *whole*: the old one is dropped after that.
        let old = unsafe {
            let old = std::mem::replace(&mut (*self.0.as_ptr()).context, context.into_ptr());
            Bound::from_owned_ptr(py, old)
        };
        drop(old);
    }

    /// Takes the context of another handle if it has the same values: so many handles in the queue
    /// need the memory, and the collector's time, for one context.
    ///
    /// Runs no Python code: the context that is dropped is a copy whose values the other keeps.
    #[inline]
    pub(crate) fn share_context(&self, py: Python<'_>, other: &Self) {
        if self.flags(py) & other.flags(py) & UNSEEN == 0 {
            return;
        }
        let (raw, from) = (self.0.as_ptr(), other.0.as_ptr());
        // SAFETY: *attached*, both *alive*; contexts of both are *owned*, and never null.
        unsafe {
            if hold_the_same((*raw).context, (*from).context) {
                let context = ffi::Py_NewRef((*from).context);
                ffi::Py_DECREF(std::mem::replace(&mut (*raw).context, context));
            }
        }
    }

    /// Drops callback and arguments after the run, and in debug mode keeps the text. A handle that
    /// only the caller has is left as it is: it ends as a whole. So is one that repeats.
    #[inline]
    pub(crate) fn finish(&self, py: Python<'_>, debug: bool) -> PyResult<()> {
        if self.is_sole(py) || self.flags(py) & (CANCELLED | REPEATS) != 0 {
            return Ok(());
        }
        if debug {
            self.keep_text(py)?;
        }
        drop(self.take(py));
        self.track(py);
        Ok(())
    }

    /// Shows the collector what a handle in one of the loop's queues or tables holds.
    ///
    /// The object that a handle calls mostly keeps the handle too: both would otherwise live for
    /// ever with a loop that the program never closes. A program that keeps only a handle of such a
    /// loop finds its contents cleared, and could not have run it. Only a handle that repeats may
    /// be in the loop twice: it is shown while it has one reference.
    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let raw = self.0.as_ptr();
        // SAFETY: *collected*, so attached; *alive*. Fields are only looked at.
        let (flags, references, held) = unsafe {
            let [first, second] = (*raw).args;
            let ((called, context), event_loop) =
                (((*raw).callback, (*raw).context), (*raw).event_loop);
            let held = [called, first, second, context, event_loop];
            ((*raw).flags, ffi::Py_REFCNT(self.as_ptr()), held)
        };
        if flags & TRACKED != 0 {
            // SAFETY: the reference that this is, which the loop has.
            return unsafe { show(visit, self.as_ptr()) };
        }
        if flags & REPEATS != 0 && references != 1 {
            return Ok(());
        }
        // SAFETY: *owned* by the handle, for which the loop shows them.
        held.iter()
            .try_for_each(|object| unsafe { show(visit, *object) })
    }

    /// Callback and arguments, for the caller to drop.
    #[inline]
    pub(super) fn take(&self, _py: Python<'_>) -> Contents {
        // SAFETY: *attached*, *alive*.
        unsafe { Contents::take(self.0.as_ptr()) }
    }

    /// Takes callback and arguments out of a handle that will not run, for the caller to drop.
    pub(crate) fn take_contents(&self, py: Python<'_>) -> Contents {
        let contents = self.take(py);
        // The collector is told while the handle is whole.
        if !self.is_sole(py) {
            self.track(py);
        }
        contents
    }

    /// Tells the collector of a handle that the loop does not show (any more): it has a context and
    /// a loop, which may lead back to it.
    #[inline]
    pub(super) fn track(&self, py: Python<'_>) {
        if self.flags(py) & TRACKED == 0 {
            self.change_flags(py, 0, TRACKED);
            // SAFETY: *attached*, *alive*; each is tracked once.
            unsafe { ffi::PyObject_GC_Track(self.as_ptr().cast()) };
        }
    }

    #[inline]
    pub(super) fn has_origin(&self, _py: Python<'_>) -> bool {
        // SAFETY: *attached*, *alive*; a plain field.
        unsafe { !(*self.0.as_ptr()).origin.is_null() }
    }

    /// Looks at the origin, which few handles have. `look` runs no Python code.
    pub(super) fn origin<R>(
        &self,
        _py: Python<'_>,
        look: impl FnOnce(&Origin) -> Option<R>,
    ) -> Option<R> {
        // SAFETY: *attached*, *alive*: null, or a box that belongs to the handle, which stays as
        // it is while no Python code runs.
        unsafe { (*self.0.as_ptr()).origin.as_ref().and_then(look) }
    }

    /// Changes the origin. `change` runs no Python code: it returns what is to be dropped.
    fn change_origin<R>(&self, _py: Python<'_>, change: impl FnOnce(&mut Origin) -> R) -> R {
        let raw = self.0.as_ptr();
        // SAFETY: *attached*, *alive*: null, or a box that belongs to the handle, at which no other
        // code looks while no Python code runs.
        unsafe {
            if (*raw).origin.is_null() {
                (*raw).origin = Box::into_raw(Box::default());
            }
            change(&mut *(*raw).origin)
        }
    }

    /// Keeps the text of a handle that is about to lose its contents, of which the text is made.
    pub(super) fn keep_text(&self, py: Python<'_>) -> PyResult<()> {
        let text = self.to_object(py).bind(py).repr()?;
        let text = text.into_any().unbind();
        drop(self.change_origin(py, |origin| origin.text.replace(text)));
        Ok(())
    }

    /// The time of a new timer, as it was given.
    pub(super) fn set_given(&self, py: Python<'_>, given: Py<PyAny>) {
        drop(self.change_origin(py, |origin| origin.when.replace(given)));
    }

    pub(crate) fn set_traceback(&self, traceback: Bound<'_, PyAny>) {
        let (py, traceback) = (traceback.py(), traceback.unbind());
        drop(self.change_origin(py, |origin| origin.traceback.replace(traceback)));
    }
}

impl Drop for Handle {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the reference that it owns; attached, see `Send`.
        unsafe { ffi::Py_DECREF(self.as_ptr()) };
    }
}
