//! The C struct of handles.
//!
//! Invariants: 1. `callback` is null when the handle was cancelled, has run, or was left in a loop
//!                that was closed. From then on the collector knows the handle, if there is a
//!                reference to it besides the loop's. Before that the loop shows the collector
//!                what the handles in its queues hold: to track each handle would cost more than
//!                all the rest.
//!             2. `args[..count]` are owned references when `count <= INLINE`; otherwise `args[0]`
//!                owns a tuple of all of them.
//!             3. A context that is `UNSEEN` was copied for handles of the loop, which may share
//!                it; no other object refers to it.
//!             4. *owned*: what a field points to is a reference of the handle's, or null. The
//!                fields `context` and `event_loop` are never null before the handle's end.
//!             5. *whole*: a reference leaves its field before it is dropped, since that may run
//!                any code, which may look at the handle.
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
/// Only handles of the loop have ever had the context (invariant 3).
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
    /// Stands before the arguments: a callee may use the place in front of its arguments.
    pub(crate) callback: *mut ffi::PyObject,
    pub(crate) args: [*mut ffi::PyObject; INLINE],
    pub(crate) context: *mut ffi::PyObject,
    pub(crate) event_loop: *mut ffi::PyObject,
    pub(crate) weak_references: *mut ffi::PyObject,
    /// Null, except in debug mode and in timers whose time was given as no float.
    pub(crate) origin: *mut Origin,
    /// Only a timer has this.
    pub(crate) when: f64,
}

/// What few handles have. In debug mode: where the handle was made, and its text from before it was
/// cancelled or had run. In a timer: its time as it was given, if that was no float.
#[derive(Default)]
pub(crate) struct Origin {
    pub(crate) traceback: Option<Py<PyAny>>,
    pub(crate) text: Option<Py<PyAny>>,
    pub(crate) when: Option<Py<PyAny>>,
}

/// What a handle held.
pub(crate) struct Contents([*mut ffi::PyObject; INLINE + 1]);

impl Contents {
    /// Takes callback and arguments out of a handle; the caller drops them when it is safe.
    ///
    /// # Safety
    /// The memory is that of a handle; the caller is attached.
    #[inline]
    pub(crate) unsafe fn take(raw: *mut RawHandle) -> Self {
        // SAFETY: the caller's. Each reference moves out once (*owned*).
        unsafe {
            let [first, second] = std::mem::replace(&mut (*raw).args, [null_mut(); INLINE]);
            (*raw).count = 0;
            let callback = std::mem::replace(&mut (*raw).callback, null_mut());
            Self([callback, first, second])
        }
    }
}

impl Drop for Contents {
    fn drop(&mut self) {
        for item in self.0 {
            // SAFETY: references that `take` has moved here, or null. They are dropped on an
            // attached thread: by the state of a loop, or by a function that has a token.
            unsafe { ffi::Py_XDECREF(item) };
        }
    }
}
