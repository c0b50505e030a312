//! The run of a handle: its callback is called, in its context.
//!
//! Errors:     `SystemExit` and `KeyboardInterrupt` come out; everything else that a callback
//!             raises goes to the loop's exception handler.
//! Source:     asyncio/events.py (`Handle._run`).

use std::ptr::null_mut;
use std::sync::atomic::Ordering;

use pyo3::ffi;
use pyo3::prelude::*;

use super::super::ground::errors::ends_run;
use super::context::{ALONE, Entered, hold_the_same};
use super::raw::{INLINE, RawHandle};
use super::reference::Handle;
use super::sharing::SharedRun;
use crate::names::function;

/// Runs a handle that is not spent.
#[inline]
pub(crate) fn run_handle(py: Python<'_>, handle: &Handle, entered: &Entered) -> PyResult<()> {
    if handle.is_spent(py) {
        return Ok(());
    }
    if let Err(error) = entered.switch_to(py, handle) {
        return report(handle.to_object(py).bind(py), error);
    }
    // The result of a callback is dropped.
    if handle.call(py).is_none() {
        let error = PyErr::fetch(py);
        entered.leave_to(py, handle)?;
        return report(handle.to_object(py).bind(py), error);
    }
    Ok(())
}

/// Runs a handle outside any round, as its `_run` method.
pub(crate) fn run_alone(py: Python<'_>, handle: &Handle) -> PyResult<()> {
    let entered = Entered::default();
    let result = run_handle(py, handle, &entered);
    let left = entered.leave(py);
    result.and(left)
}

/// A callback raised: the loop's exception handler hears of it.
pub(crate) fn report(handle: &Bound<'_, PyAny>, error: PyErr) -> PyResult<()> {
    let py = handle.py();
    if ends_run(py, &error) {
        return Err(error);
    }
    function(py, "offloop._loop.handles", "report")?.call1((handle, error.into_value(py)))?;
    Ok(())
}

impl Entered {
    /// Enters the context of a handle that is to run, or one with the same values.
    #[inline]
    pub(crate) fn switch_to(&self, py: Python<'_>, handle: &Handle) -> PyResult<()> {
        let Some(context) = handle.unseen_context(py) else {
            return self.switch(&handle.own_context(py)?);
        };
        // SAFETY: *attached*; both are alive: the handle's (*owned*), and the entered one.
        let context = unsafe {
            if self.is_copied.get()
                && ffi::Py_REFCNT(self.context.get()) == ALONE.load(Ordering::Relaxed)
                && hold_the_same(self.context.get(), context)
            {
                return Ok(());
            }
            if ffi::Py_REFCNT(context) == 1 {
                Bound::from_borrowed_ptr(py, context)
            } else {
                // Handles that wait share it, so the callback must not change it.
                Bound::from_owned_ptr_or_err(py, ffi::PyContext_Copy(context))?
            }
        };
        self.exchange(context, true)
    }

    /// Leaves the context in which a handle was called, and lets the handle have it: the exception
    /// handler finds there what the callback has set.
    pub(crate) fn leave_to(&self, py: Python<'_>, handle: &Handle) -> PyResult<()> {
        if let Some(context) = self.copied(py) {
            handle.adopt_context(context);
        }
        self.leave(py)
    }
}

impl Handle {
    /// Calls the callback, in the context that is entered. `None` is an error that is set.
    #[inline]
    fn call<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        let raw = self.0.as_ptr();
        // SAFETY: *attached*, *alive*. A handle that only we have cannot be cancelled during the
        // call, which would drop what it holds; otherwise `held` has references of its own to
        // callback and arguments. PY_VECTORCALL_ARGUMENTS_OFFSET lets the callee change the place
        // before the first argument meanwhile: that is `callback` of a handle that no other code
        // can look at, or `scratch` of `held`.
        unsafe {
            if self.is_sole(py) && (*raw).count as usize <= INLINE {
                let result = vectorcall((*raw).callback, &raw mut (*raw).args, (*raw).count);
                return Bound::from_owned_ptr_or_opt(py, result);
            }
            let mut held = Held::of(raw);
            let _run = SharedRun::begin(py, self);
            let result = if held.count as usize <= INLINE {
                vectorcall(held.callback, &raw mut held.args, held.count)
            } else {
                ffi::PyObject_Call(held.callback, held.args[0], null_mut())
            };
            Bound::from_owned_ptr_or_opt(py, result)
        }
    }
}

/// # Safety
/// The caller is attached, and keeps callback and arguments alive. Before the arguments it has a
/// field that no other code looks at meanwhile.
unsafe fn vectorcall(
    callback: *mut ffi::PyObject,
    args: *mut [*mut ffi::PyObject; INLINE],
    count: u32,
) -> *mut ffi::PyObject {
    let flags = count as usize | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET;
    // SAFETY: the caller's.
    unsafe { ffi::PyObject_Vectorcall(callback, args.cast_const().cast(), flags, null_mut()) }
}

/// Callback and arguments of a handle that may be cancelled during its call.
#[repr(C)]
struct Held {
    callback: *mut ffi::PyObject,
    /// The place before the arguments, which the callee may use.
    scratch: *mut ffi::PyObject,
    args: [*mut ffi::PyObject; INLINE],
    count: u32,
}

impl Held {
    /// # Safety
    /// The caller is attached, and has the handle, which is not spent.
    unsafe fn of(raw: *mut RawHandle) -> Self {
        // SAFETY: the caller's, so the callback is not null; unused arguments are (invariant 2).
        unsafe {
            let (callback, args) = ((*raw).callback, (*raw).args);
            ffi::Py_INCREF(callback);
            for argument in args {
                ffi::Py_XINCREF(argument);
            }
            Self {
                callback,
                scratch: null_mut(),
                args,
                count: (*raw).count,
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: the references of `of`, or null; attached, as `call` is, which has this.
        unsafe {
            for argument in self.args {
                ffi::Py_XDECREF(argument);
            }
            ffi::Py_DECREF(self.callback);
        }
    }
}
