//! The memory of handles.
//!
//! It goes round in two free lists, one for each type: a loop makes and drops a handle for every
//! callback.
//!
//! Invariants: 1. Only attached threads touch the free lists. In the memory that they hold, the
//!                rarely used fields are null, and `callback` points to the next of the list.

use std::mem::offset_of;
use std::ptr::{self, null_mut};

use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use super::super::ground::cell::GilCell;
use super::raw::{Contents, INLINE, RawHandle, TRACKED};

/// Handles kept for reuse while the loop is busy, of each type: 1.3 MB cover a burst.
const FREE_MAX: usize = 16_384;
/// Handles kept when the loop has nothing to do: below 100 KB.
const FREE_IDLE: usize = 1024;
/// Handles freed each time that the loop goes to sleep: that takes a microsecond.
const FREED_AT_ONCE: usize = 64;

/// Memory of handles that have ended.
struct Free {
    first: *mut RawHandle,
    count: usize,
}

// SAFETY: the memory belongs to the list alone, and moves with it.
unsafe impl Send for Free {}

impl Free {
    const NONE: Self = Self {
        first: null_mut(),
        count: 0,
    };
}

/// Of handles, and of timers, which are longer.
static FREE: [GilCell<Free>; 2] = [GilCell::new(Free::NONE), GilCell::new(Free::NONE)];

/// The size of handles or of timers.
pub(crate) const fn size(is_timer: bool) -> usize {
    if is_timer {
        size_of::<RawHandle>()
    } else {
        offset_of!(RawHandle, when)
    }
}

/// Memory for a handle: its arguments and rare fields are null. `None` is an error that is set.
///
/// # Safety
/// The type is that of handles, or of timers if `is_timer` says so.
#[inline]
pub(crate) unsafe fn allocate(
    py: Python<'_>,
    kind: *mut ffi::PyTypeObject,
    is_timer: bool,
) -> Option<ptr::NonNull<RawHandle>> {
    let free = FREE[usize::from(is_timer)].with(py, |free| {
        let first = free.first;
        if !first.is_null() {
            // SAFETY: memory of the list (invariant 1).
            free.first = unsafe { (*first).callback.cast() };
            free.count -= 1;
        }
        first
    });
    // SAFETY: invariant 1; initialising an object again gives it one reference and its type.
    unsafe {
        let mut memory = free;
        if memory.is_null() {
            memory = ffi::PyObject_GC_New(kind);
            if memory.is_null() {
                return None;
            }
            (*memory).args = [null_mut(); INLINE];
            (*memory).weak_references = null_mut();
            (*memory).origin = null_mut();
            return ptr::NonNull::new(memory);
        }
        ptr::NonNull::new(ffi::PyObject_Init(memory.cast(), kind).cast())
    }
}

/// Frees some of the memory that a burst of handles has left, once the loop has time.
pub(crate) fn trim(py: Python<'_>) {
    for list in &FREE {
        list.with(py, |free| {
            for _ in 0..free.count.saturating_sub(FREE_IDLE).min(FREED_AT_ONCE) {
                let first = free.first;
                // SAFETY: memory of the list (invariant 1), which is not used any more.
                unsafe {
                    free.first = (*first).callback.cast();
                    ffi::PyObject_GC_Del(first.cast());
                }
                free.count -= 1;
            }
        });
    }
}

/// Shows the collector an object, or nothing for null.
///
/// # Safety
/// The object whose traversal this is has a reference to it.
pub(super) unsafe fn show(
    visit: &PyVisit<'_>,
    object: *mut ffi::PyObject,
) -> Result<(), PyTraverseError> {
    if object.is_null() {
        return Ok(());
    }
    // SAFETY: the caller's. `Py` has the layout of the pointer that it owns; it is only shown to
    // the collector, and never dropped.
    let object = unsafe { std::mem::transmute::<*mut ffi::PyObject, Py<PyAny>>(object) };
    visit.call(&*std::mem::ManuallyDrop::new(object))
}

/// Drops what a handle holds, and gives its memory back.
///
/// # Safety
/// The object is the caller's alone; it is a timer if `is_timer` says so.
#[inline]
pub(super) unsafe fn release(py: Python<'_>, raw: *mut RawHandle, is_timer: bool) {
    // SAFETY: *attached*, and the caller's. What it holds is dropped while it is *whole*, and its
    // memory is given back after that.
    unsafe {
        if (*raw).flags & TRACKED != 0 {
            ffi::PyObject_GC_UnTrack(raw.cast());
        }
        if !(*raw).weak_references.is_null() {
            ffi::PyObject_ClearWeakRefs(raw.cast());
        }
        drop(Contents::take(raw));
        ffi::Py_XDECREF((*raw).context);
        ffi::Py_XDECREF((*raw).event_loop);
        let origin = std::mem::replace(&mut (*raw).origin, null_mut());
        if !origin.is_null() {
            drop(Box::from_raw(origin));
        }
        let kind = ffi::Py_TYPE(raw.cast());
        let kept = FREE[usize::from(is_timer)].with(py, |free| {
            let room = free.count < FREE_MAX;
            if room {
                (*raw).callback = std::mem::replace(&mut free.first, raw).cast();
                free.count += 1;
            }
            room
        });
        if !kept {
            ffi::PyObject_GC_Del(raw.cast());
        }
        ffi::Py_DECREF(kind.cast());
    }
}
