//! What Python sees of handles: two types with the methods and attributes of asyncio's.
//!
//! The private names are there too, since libraries and test suites read them.
//!
//! Source:     asyncio/events.py.

use std::ffi::CStr;
use std::mem::offset_of;
use std::ptr::null_mut;

use pyo3::prelude::*;

use super::super::ground::slots::{Attribute, Slot, make_type};
use super::super::ground::trampoline::Method;
use super::memory::size;
use super::raw::RawHandle;
use super::reference::{Handle, Owner};
use super::run::run_alone;
use super::sharing::wait_for_run;
use super::timer::TimerHandle;
use super::types::{THREAD_SAFE, TYPES, Types};
use super::{attributes, collected, order};
use crate::names::function;

/// The standard library's documentation describes the methods.
const NO_TEXT: &CStr = c"";

fn cancel<O: Owner>(py: Python<'_>, handle: &Handle) -> PyResult<()> {
    wait_for_run(py, handle)?;
    if handle.is_cancelled(py) {
        return Ok(());
    }
    let was_scheduled = handle.is_scheduled(py);
    handle.set_cancelled(py);
    let event_loop = handle.event_loop(py).into_bound(py);
    // SAFETY: the loop of a handle is an `Owner`, of which there is one class.
    let event_loop = unsafe { event_loop.cast_unchecked::<O>() };
    if O::count_cancelled(event_loop, was_scheduled) {
        handle.keep_text(py)?;
    }
    // The contents that are dropped may own the last other reference to the handle.
    let kept = handle.clone_ref(py);
    drop(kept.take(py));
    kept.track(py);
    Ok(())
}

fn cancelled(py: Python<'_>, handle: &Handle) -> PyResult<bool> {
    wait_for_run(py, handle)?;
    Ok(handle.is_cancelled(py))
}

/// `_run()`, for foreign loops and for programs that take handles out of the queue themselves. The
/// second reference tells the run that the handle may be cancelled meanwhile.
fn run(py: Python<'_>, handle: &Handle) -> PyResult<()> {
    run_alone(py, &handle.clone_ref(py))
}

fn repr(py: Python<'_>, handle: &Handle) -> PyResult<Py<PyAny>> {
    let describe = function(py, "offloop._loop.handles", "describe")?;
    Ok(describe.call1((handle.to_object(py),))?.unbind())
}

/// Makes the two types, unless they are made already. The loop of every handle will be an `O`.
pub(crate) fn make_types<O: Owner>(py: Python<'_>) -> PyResult<&'static Types> {
    TYPES.get_or_try_init(py, || {
        let methods = [
            Method::plain(c"cancel", NO_TEXT, cancel::<O>),
            Method::plain(c"cancelled", NO_TEXT, cancelled),
            Method::plain(c"get_context", NO_TEXT, attributes::context),
            Method::plain(c"_run", NO_TEXT, run),
        ];
        let computed = [
            Attribute::new(c"_callback", attributes::callback),
            Attribute::new(c"_args", attributes::args),
            Attribute::new(c"_cancelled", attributes::cancelled),
            Attribute::new(c"_context", attributes::context),
            Attribute::new(c"_loop", attributes::event_loop),
            Attribute::new(c"_source_traceback", attributes::traceback),
            Attribute::new(c"_repr", attributes::text),
            Attribute::new(c"__class__", attributes::class),
        ];
        // SAFETY: the field is one for a pointer, null in new handles.
        let weak = unsafe { Slot::weak_references(offset_of!(RawHandle, weak_references)) };
        let slots = vec![
            Slot::methods(&methods),
            Slot::attributes(&computed),
            Slot::repr(repr),
            Slot::traverse(collected::traverse),
            Slot::clear(collected::clear),
            Slot::end(collected::end),
            weak,
        ];
        // SAFETY: handles have that size, and their slots take them for a `Handle`.
        let handle = unsafe { make_type(py, c"offloop.Handle", size(false), slots, null_mut())? };
        let methods = [Method::plain(c"when", NO_TEXT, attributes::when)];
        let computed = [
            Attribute::new(c"_when", attributes::when),
            Attribute::new(c"_scheduled", attributes::scheduled)
                .changed_by(attributes::set_scheduled),
        ];
        let slots = vec![
            Slot::methods(&methods),
            Slot::attributes(&computed),
            Slot::compare(order::compare),
            Slot::hash(order::hash),
            Slot::traverse(|timer: &TimerHandle, visitor| collected::traverse(timer, visitor)),
            Slot::clear(|py, timer: &TimerHandle| collected::clear(py, timer)),
            Slot::end(collected::end_timer),
        ];
        // SAFETY: timers have that size, and their slots take them for a `TimerHandle`. Each is a
        // `Handle` too, whose slots they inherit.
        let timer = unsafe { make_type(py, c"offloop.TimerHandle", size(true), slots, handle)? };
        let are_waited_for = py.import("asyncio.events")?.hasattr(THREAD_SAFE)?;
        Ok(Types {
            handle,
            timer,
            are_waited_for,
        })
    })
}
