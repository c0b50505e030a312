//! What the collector is shown of handles, and how they end.
//!
//! The collector knows only handles that cannot run any more, see `raw.rs`.

use std::ptr::null_mut;

use pyo3::ffi;
use pyo3::prelude::*;

use super::super::ground::slots::{Ended, Stopped, Visitor};
use super::memory::release;
use super::reference::Handle;
use super::timer::TimerHandle;

/// What the collector sees of a handle that it knows.
pub(super) fn traverse(handle: &Handle, visitor: &Visitor) -> Result<(), Stopped> {
    let raw = handle.0.as_ptr();
    // SAFETY: *collected*, so attached; *alive*. Fields are only looked at, and what is shown is
    // *owned*, as the type is by its instances.
    unsafe {
        let [first, second] = (*raw).args;
        let origin = (*raw).origin.as_ref();
        let traceback = origin.and_then(|origin| origin.traceback.as_ref());
        let when = origin.and_then(|origin| origin.when.as_ref());
        let held = [
            (*raw).callback,
            first,
            second,
            (*raw).context,
            (*raw).event_loop,
            traceback.map_or(null_mut(), Py::as_ptr),
            when.map_or(null_mut(), Py::as_ptr),
            ffi::Py_TYPE(raw.cast()).cast(),
        ];
        held.into_iter().try_for_each(|object| visitor.show(object))
    }
}

/// Lets go of what a handle would call. Its context and its loop clear themselves.
pub(super) fn clear(py: Python<'_>, handle: &Handle) {
    drop(handle.take(py));
}

/// The end of a handle.
pub(super) fn end(py: Python<'_>, ended: Ended<Handle>) {
    // SAFETY: `Ended`: a handle that is ours alone.
    unsafe { release(py, ended.into_ptr().cast(), false) };
}

/// The end of a timer.
pub(super) fn end_timer(py: Python<'_>, ended: Ended<TimerHandle>) {
    // SAFETY: `Ended`: a timer that is ours alone.
    unsafe { release(py, ended.into_ptr().cast(), true) };
}
