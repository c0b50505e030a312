//! The C struct of handles, and what is done with it by pointer.
//!
//! Invariants: 1. `callback` is null when the handle was cancelled, has run, or was left in a loop
//!                that was closed. From then on the collector knows the handle if somebody keeps
//!                it. Before, it need not, which would cost more than all the rest: the loop shows
//!                it what the handles in its queues hold.
//!             2. `args[..count]` are owned references when `count <= INLINE`; otherwise `args[0]`
//!                owns a tuple of all of them.
//!             3. A context that is `UNSEEN` was copied for handles of the loop, which may share
//!                it, and nobody else has it.
//! Threads:    any attached one.

use std::ptr::null_mut;

use pyo3::ffi;
use pyo3::prelude::*;

/// Arguments that a handle holds without a tuple.
pub(crate) const INLINE: usize = 2;
pub(crate) const CANCELLED: u8 = 1;
/// In the heap of timers.
pub(crate) const SCHEDULED: u8 = 2;
/// Run each time a descriptor is ready, until cancelled.
pub(crate) const REPEATS: u8 = 4;
/// Nobody but handles of the loop has ever had the context (invariant 3).
pub(crate) const UNSEEN: u8 = 8;
/// The collector knows the handle (invariant 1).
pub(crate) const TRACKED: u8 = 16;
/// Other threads may cancel it, and wait for its run.
pub(crate) const SHARED: u8 = 32;

/// The C layout of both types. What every handle needs lies in the first 64 bytes.
#[repr(C)]
pub(crate) struct RawHandle {
    pub(crate) base: ffi::PyObject,
    pub(crate) count: u32,
    pub(crate) flags: u8,
    /// Before the arguments: a callee may use the place in front of its arguments meanwhile.
    pub(crate) callback: *mut ffi::PyObject,
    pub(crate) args: [*mut ffi::PyObject; INLINE],
    pub(crate) context: *mut ffi::PyObject,
    pub(crate) event_loop: *mut ffi::PyObject,
    pub(crate) weak_references: *mut ffi::PyObject,
    /// Null for all but few: those of debug mode, and timers whose time was given as no float.
    pub(crate) origin: *mut Origin,
    /// Only a timer has this.
    pub(crate) when: f64,
}

/// In debug mode: where the handle was made, and how one looked that was cancelled or has run. Of a
/// timer: its time as it was given, if that was no float.
#[derive(Default)]
pub(crate) struct Origin {
    pub(crate) traceback: Option<Py<PyAny>>,
    pub(crate) text: Option<Py<PyAny>>,
    pub(crate) when: Option<Py<PyAny>>,
}

/// What a handle held.
pub(crate) struct Contents([*mut ffi::PyObject; INLINE + 1]);

impl Drop for Contents {
    fn drop(&mut self) {
        for item in self.0 {
            // SAFETY: owned references, or null; attached, as everybody who has handles is.
            unsafe { ffi::Py_XDECREF(item) };
        }
    }
}

/// The context as an object that this handle shares with no other, for others to have; null is an
/// error that is set.
pub(crate) unsafe fn own_context(raw: *mut RawHandle) -> *mut ffi::PyObject {
    // SAFETY: the caller is attached and has the handle, whose context is never null.
    unsafe {
        if (*raw).flags & UNSEEN != 0 {
            if ffi::Py_REFCNT((*raw).context) != 1 {
                let copy = ffi::PyContext_Copy((*raw).context);
                if copy.is_null() {
                    return copy;
                }
                ffi::Py_DECREF(std::mem::replace(&mut (*raw).context, copy));
            }
            (*raw).flags &= !UNSEEN;
        }
        (*raw).context
    }
}

/// What is kept in debug mode.
///
/// # Safety
/// The caller is attached, has the handle, and runs no Python code while it has the reference.
pub(crate) unsafe fn origin<'a>(raw: *mut RawHandle) -> &'a mut Origin {
    // SAFETY: null, or a box that belongs to the handle.
    unsafe {
        if (*raw).origin.is_null() {
            (*raw).origin = Box::into_raw(Box::default());
        }
        &mut *(*raw).origin
    }
}

/// Keeps the text of a handle that is about to lose its contents: afterwards nobody can tell.
///
/// # Safety
/// The caller is attached and has the handle.
pub(crate) unsafe fn keep_text(py: Python<'_>, raw: *mut RawHandle) -> PyResult<()> {
    // SAFETY: as above; the old text goes when the reference to its place is no longer in use.
    unsafe {
        let text = Bound::from_owned_ptr_or_err(py, ffi::PyObject_Repr(raw.cast()))?;
        let old = origin(raw).text.replace(text.unbind());
        drop(old);
    }
    Ok(())
}

/// Takes callback and arguments out of a handle; the caller drops them when it is safe.
pub(crate) unsafe fn take_contents(raw: *mut RawHandle) -> Contents {
    // SAFETY: alive, attached. Each pointer moves out once.
    unsafe {
        let [first, second] = std::mem::replace(&mut (*raw).args, [null_mut(); INLINE]);
        (*raw).count = 0;
        let callback = std::mem::replace(&mut (*raw).callback, null_mut());
        Contents([callback, first, second])
    }
}
