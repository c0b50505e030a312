//! The loop's methods that every callback goes through.
//!
//! Everything unusual (a callback given by keyword, debug mode) is left to Python code.
//!
//! Errors:     the standard loop's, with its texts.
//! Source:     asyncio/base_events.py for the meaning.

use pyo3::IntoPyObjectExt as _;
use pyo3::exceptions::{PyOverflowError, PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFloat, PyInt, PyTuple, PyType};
use pyo3::{ffi, intern};

use super::super::ground::trampoline::{
    self, FastMethod, SimpleMethod, enter, enter_plain, ffi_bound, missing, put_fast, put_simple,
};
use super::super::handle::{Callback, Handle, sharing};
use super::clock::{self, monotonic_s, time_object};
use super::found::Found;
use super::loop_core::LoopCore;
use super::{overrides, tasks};
use crate::names::function;

type Arguments<'a, 'py> = trampoline::Arguments<'a, 'py, LoopCore>;

/// Puts the methods on the class.
pub(crate) fn add_to(class: &Bound<'_, PyType>) -> PyResult<()> {
    put_fast(class, &CALLS)?;
    put_simple(class, &QUESTIONS)
}

const CALLS: [FastMethod; 6] = [
    (
        c"call_soon",
        c"call_soon($self, callback, *args, context=None)\n--\n\nRun it in the next round.",
        call_soon,
    ),
    (
        c"call_soon_threadsafe",
        c"call_soon_threadsafe($self, callback, *args, context=None)\n--\n\nFrom any thread.",
        call_soon_threadsafe,
    ),
    (
        c"call_later",
        c"call_later($self, delay, callback, *args, context=None)\n--\n\nRun it after seconds.",
        call_later,
    ),
    (
        c"call_at",
        c"call_at($self, when, callback, *args, context=None)\n--\n\nRun it at a time of the loop.",
        call_at,
    ),
    (
        c"create_future",
        c"create_future($self)\n--\n\nReturn a new future of this loop.",
        tasks::create_future,
    ),
    (
        c"create_task",
        c"create_task($self, coro, *, name=None, context=None, **kwargs)\n--\n\nRun a coroutine.",
        tasks::create_task,
    ),
];

const QUESTIONS: [SimpleMethod; 4] = [
    (
        c"time",
        c"time($self)\n--\n\nReturn the loop's time: seconds of the monotonic clock.",
        time,
        ffi::METH_NOARGS,
    ),
    (
        c"get_debug",
        c"get_debug($self)\n--\n\nReturn whether the loop is in debug mode.",
        get_debug,
        ffi::METH_NOARGS,
    ),
    (
        c"is_closed",
        c"is_closed($self)\n--\n\nReturn whether the loop was closed.",
        is_closed,
        ffi::METH_NOARGS,
    ),
    (
        c"is_running",
        c"is_running($self)\n--\n\nReturn whether the loop runs.",
        is_running,
        ffi::METH_NOARGS,
    ),
];

unsafe extern "C" fn time(slf: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter.
    unsafe {
        enter_plain(
            slf,
            |py, event_loop: &Bound<'_, LoopCore>| match clock::time(event_loop) {
                Ok(time) => time.into_ptr(),
                Err(error) => {
                    error.restore(py);
                    std::ptr::null_mut()
                }
            },
        )
    }
}

unsafe extern "C" fn get_debug(
    slf: *mut ffi::PyObject,
    _: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter.
    unsafe {
        enter_plain(slf, |py, event_loop: &Bound<'_, LoopCore>| {
            let debug = event_loop
                .as_super()
                .get()
                .state
                .with(py, |state| state.debug);
            ffi::PyBool_FromLong(debug.into())
        })
    }
}

unsafe extern "C" fn is_closed(
    slf: *mut ffi::PyObject,
    _: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter.
    unsafe {
        enter_plain(slf, |py, event_loop: &Bound<'_, LoopCore>| {
            ffi::PyBool_FromLong(event_loop.as_super().get().is_closed(py).into())
        })
    }
}

unsafe extern "C" fn is_running(
    slf: *mut ffi::PyObject,
    _: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter.
    unsafe {
        enter_plain(slf, |py, event_loop: &Bound<'_, LoopCore>| {
            // Where the standard loop has it, and programs that nest loops change it.
            match event_loop.getattr(intern!(py, "_thread_id")) {
                Ok(thread) => ffi::PyBool_FromLong((!thread.is_none()).into()),
                Err(error) => {
                    error.restore(py);
                    std::ptr::null_mut()
                }
            }
        })
    }
}

unsafe extern "C" fn call_soon(
    slf: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter.
    unsafe {
        enter(slf, args, count, names, |py, call: &Arguments<'_, '_>| {
            let Some(context) = call.context(py) else {
                return call.sort_out(py, "call_soon");
            };
            schedule(py, call, context, "call_soon")
        })
    }
}

unsafe extern "C" fn call_soon_threadsafe(
    slf: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter.
    unsafe {
        enter(slf, args, count, names, |py, call: &Arguments<'_, '_>| {
            let Some(context) = call.context(py) else {
                return call.sort_out(py, "call_soon_threadsafe");
            };
            let handle = schedule(py, call, context, "call_soon_threadsafe")?;
            let shared = sharing::share(py, handle.cast());
            if let Err(error) = shared.and_then(|()| call.slf.as_super().get().wake(py)) {
                ffi::Py_DECREF(handle);
                return Err(error);
            }
            Ok(handle)
        })
    }
}

/// The checks that every method begins with; whether the loop is in debug mode.
fn check(py: Python<'_>, call: &Arguments<'_, '_>) -> PyResult<bool> {
    let state = &call.slf.as_super().get().state;
    let (closed, debug) = state.with(py, |state| (state.closed, state.debug));
    if closed {
        return Err(PyRuntimeError::new_err("Event loop is closed"));
    }
    Ok(debug)
}

fn new_handle(
    py: Python<'_>,
    call: &Arguments<'_, '_>,
    items: &[*mut ffi::PyObject],
    context: *mut ffi::PyObject,
    when: Option<f64>,
) -> PyResult<Handle> {
    let callback = Callback {
        items,
        context,
        event_loop: call.slf.as_ptr(),
    };
    Handle::new(py, &callback, when)
}

/// Debug mode: checks thread and callback, and remembers where the handle was made.
fn inspect(
    py: Python<'_>,
    call: &Arguments<'_, '_>,
    handle: &Handle,
    method: &str,
    check_thread: bool,
) -> PyResult<()> {
    let traceback = function(py, "offloop._loop.handles", "inspect")?;
    let object = handle.to_object(py);
    let traceback = traceback.call1((call.slf, object, method, check_thread))?;
    handle.set_traceback(traceback);
    Ok(())
}

fn schedule(
    py: Python<'_>,
    call: &Arguments<'_, '_>,
    context: *mut ffi::PyObject,
    method: &str,
) -> PyResult<*mut ffi::PyObject> {
    let debug = check(py, call)?;
    if call.positional.is_empty() {
        return Err(missing(method, "callback"));
    }
    let handle = new_handle(py, call, call.positional, context, None)?;
    if debug {
        inspect(py, call, &handle, method, method == "call_soon")?;
    }
    let result = handle.clone_ref(py).into_ptr();
    let state = &call.slf.as_super().get().state;
    state.with(py, |state| state.schedule.push_handle(handle));
    Ok(result)
}

unsafe extern "C" fn call_later(
    slf: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter.
    unsafe {
        enter(slf, args, count, names, |py, call: &Arguments<'_, '_>| {
            let (Some(context), Some(delay)) = (call.context(py), call.positional.first()) else {
                return call.sort_out(py, "call_later");
            };
            if *delay == ffi::Py_None() {
                return Err(PyTypeError::new_err("delay must not be None"));
            }
            let found = overrides::found(call.slf)?;
            let when = later(call, found, ffi_bound(py, delay))?;
            if !found.call_at {
                return call_overridden(py, call, context, when);
            }
            schedule_at(py, call, context, when, "call_later")
        })
    }
}

/// When a timer is due.
struct When {
    seconds: f64,
    /// What was given, if it was no float.
    given: Option<Py<PyAny>>,
}

impl When {
    fn of(when: &Bound<'_, PyAny>) -> PyResult<Self> {
        let given = !when.is_exact_instance_of::<PyFloat>();
        Ok(Self {
            seconds: seconds(when)?,
            given: given.then(|| when.clone().unbind()),
        })
    }
}

/// The time after a delay. Plain numbers are added here; what is none says itself what its sum with
/// a time is, and so does the time of a clock of the program's.
fn later(call: &Arguments<'_, '_>, found: Found, delay: &Bound<'_, PyAny>) -> PyResult<When> {
    let py = delay.py();
    let own = overrides::clock_is_ours(py, found)?;
    if own && (delay.is_exact_instance_of::<PyFloat>() || delay.is_exact_instance_of::<PyInt>()) {
        return Ok(When {
            seconds: monotonic_s() + delay.extract::<f64>()?,
            given: None,
        });
    }
    let now = time_object(call.slf)?;
    When::of(&now.add(delay)?)
}

unsafe extern "C" fn call_at(
    slf: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter.
    unsafe {
        enter(slf, args, count, names, |py, call: &Arguments<'_, '_>| {
            let (Some(context), Some(when)) = (call.context(py), call.positional.first()) else {
                return call.sort_out(py, "call_at");
            };
            if *when == ffi::Py_None() {
                return Err(PyTypeError::new_err("when cannot be None"));
            }
            let when = When::of(ffi_bound(py, when))?;
            schedule_at(py, call, context, when, "call_at")
        })
    }
}

/// Lets the `call_at` of a subclass do what `call_later` was asked for.
fn call_overridden(
    py: Python<'_>,
    call: &Arguments<'_, '_>,
    context: *mut ffi::PyObject,
    when: When,
) -> PyResult<*mut ffi::PyObject> {
    let Some((_, items)) = call
        .positional
        .split_first()
        .filter(|(_, items)| !items.is_empty())
    else {
        return Err(missing("call_later", "callback"));
    };
    // SAFETY: attached; the interpreter lends the arguments and the context for the call.
    let (items, context) = unsafe {
        let items = items.iter().map(|item| Bound::from_borrowed_ptr(py, *item));
        (items, Bound::from_borrowed_ptr_or_opt(py, context))
    };
    let when = match when.given {
        Some(given) => given.into_bound(py),
        None => when.seconds.into_bound_py_any(py)?,
    };
    let mut arguments = vec![when];
    arguments.extend(items);
    let arguments = PyTuple::new(py, arguments)?;
    let keywords = PyDict::new(py);
    keywords.set_item("context", context)?;
    let handle = call
        .slf
        .call_method("call_at", arguments, Some(&keywords))?;
    Ok(handle.into_ptr())
}

/// A number as seconds; an integer that is too large for that is a time that never comes, or one
/// that has passed.
fn seconds(number: &Bound<'_, PyAny>) -> PyResult<f64> {
    match number.extract::<f64>() {
        Err(error) if error.is_instance_of::<PyOverflowError>(number.py()) => {
            Ok(if number.lt(0)? {
                f64::NEG_INFINITY
            } else {
                f64::INFINITY
            })
        }
        result => result,
    }
}

fn schedule_at(
    py: Python<'_>,
    call: &Arguments<'_, '_>,
    context: *mut ffi::PyObject,
    when: When,
    method: &str,
) -> PyResult<*mut ffi::PyObject> {
    let debug = check(py, call)?;
    let items = &call.positional[1..];
    if items.is_empty() {
        return Err(missing(method, "callback"));
    }
    let handle = new_handle(py, call, items, context, Some(when.seconds))?;
    if let Some(given) = when.given {
        handle.set_when(given);
    }
    if debug {
        // The standard `call_later` calls `call_at`, whose name is in the text of what it refuses.
        inspect(py, call, &handle, "call_at", true)?;
    }
    let result = handle.clone_ref(py).into_ptr();
    let state = &call.slf.as_super().get().state;
    let swept = state.with(py, |state| state.schedule.push_timer(handle));
    drop(swept);
    Ok(result)
}
