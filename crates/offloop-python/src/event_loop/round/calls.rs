//! The loop's methods that every callback goes through.
//!
//! Everything unusual (a callback given by keyword, debug mode) is left to Python code.
//!
//! Errors:     the standard loop's, with its texts.
//! Source:     asyncio/base_events.py for the meaning.

use pyo3::IntoPyObjectExt as _;
use pyo3::exceptions::{PyOverflowError, PyRuntimeError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFloat, PyInt, PyTuple, PyType};

use super::super::ground::arguments::{Arguments, Given, missing};
use super::super::ground::trampoline::{Method, put};
use super::super::handle::{Callback, Handle, TimerHandle, sharing};
use super::clock::{self, monotonic_s, time_object};
use super::found::Found;
use super::loop_core::LoopCore;
use super::{overrides, tasks};
use crate::names::function;

/// Puts the methods on the class.
pub(crate) fn add_to(class: &Bound<'_, PyType>) -> PyResult<()> {
    put(class, &METHODS)
}

const METHODS: [Method<LoopCore>; 10] = [
    Method::new(
        c"call_soon",
        c"call_soon($self, callback, *args, context=None)\n--\n\nRun it in the next round.",
        call_soon,
    ),
    Method::new(
        c"call_soon_threadsafe",
        c"call_soon_threadsafe($self, callback, *args, context=None)\n--\n\nFrom any thread.",
        call_soon_threadsafe,
    ),
    Method::new(
        c"call_later",
        c"call_later($self, delay, callback, *args, context=None)\n--\n\nRun it after seconds.",
        call_later,
    ),
    Method::new(
        c"call_at",
        c"call_at($self, when, callback, *args, context=None)\n--\n\nRun it at a time of the loop.",
        call_at,
    ),
    Method::new(
        c"create_future",
        c"create_future($self)\n--\n\nReturn a new future of this loop.",
        tasks::create_future,
    ),
    Method::new(
        c"create_task",
        c"create_task($self, coro, *, name=None, context=None, **kwargs)\n--\n\nRun a coroutine.",
        tasks::create_task,
    ),
    Method::plain(
        c"time",
        c"time($self)\n--\n\nReturn the loop's time: seconds of the monotonic clock.",
        time,
    ),
    Method::plain(
        c"get_debug",
        c"get_debug($self)\n--\n\nReturn whether the loop is in debug mode.",
        get_debug,
    ),
    Method::plain(
        c"is_closed",
        c"is_closed($self)\n--\n\nReturn whether the loop was closed.",
        is_closed,
    ),
    Method::plain(
        c"is_running",
        c"is_running($self)\n--\n\nReturn whether the loop runs.",
        is_running,
    ),
];

fn time(_py: Python<'_>, event_loop: &Bound<'_, LoopCore>) -> PyResult<Py<PyAny>> {
    clock::time(event_loop).map(Bound::unbind)
}

fn get_debug(py: Python<'_>, event_loop: &Bound<'_, LoopCore>) -> PyResult<bool> {
    let state = &event_loop.as_super().get().state;
    Ok(state.with(py, |state| state.debug))
}

fn is_closed(py: Python<'_>, event_loop: &Bound<'_, LoopCore>) -> PyResult<bool> {
    Ok(event_loop.as_super().get().is_closed(py))
}

fn is_running(py: Python<'_>, event_loop: &Bound<'_, LoopCore>) -> PyResult<bool> {
    // The standard loop's attribute: programs that nest loops change it.
    let thread = event_loop.getattr(intern!(py, "_thread_id"))?;
    Ok(!thread.is_none())
}

/// A handle that was scheduled, or what Python code has scheduled in its place.
type Scheduled = PyResult<Py<PyAny>>;

fn call_soon(
    py: Python<'_>,
    event_loop: &Bound<'_, LoopCore>,
    call: &Arguments<'_, '_>,
) -> Scheduled {
    let Some(context) = call.context() else {
        return Ok(call.sort_out(event_loop, "call_soon")?.unbind());
    };
    let handle = schedule(event_loop, call.positional, context, "call_soon")?;
    Ok(handle.into_object(py))
}

fn call_soon_threadsafe(
    py: Python<'_>,
    event_loop: &Bound<'_, LoopCore>,
    call: &Arguments<'_, '_>,
) -> Scheduled {
    let Some(context) = call.context() else {
        return Ok(call.sort_out(event_loop, "call_soon_threadsafe")?.unbind());
    };
    let handle = schedule(event_loop, call.positional, context, "call_soon_threadsafe")?;
    sharing::share(py, &handle)?;
    event_loop.as_super().get().wake(py)?;
    Ok(handle.into_object(py))
}

/// The checks that every method begins with; whether the loop is in debug mode.
#[inline]
fn check(event_loop: &Bound<'_, LoopCore>) -> PyResult<bool> {
    let state = &event_loop.as_super().get().state;
    let (closed, debug) = state.with(event_loop.py(), |state| (state.closed, state.debug));
    if closed {
        return Err(PyRuntimeError::new_err("Event loop is closed"));
    }
    Ok(debug)
}

/// Debug mode: checks thread and callback, and remembers where the handle was made.
fn inspect(
    event_loop: &Bound<'_, LoopCore>,
    handle: &Handle,
    method: &str,
    check_thread: bool,
) -> PyResult<()> {
    let py = event_loop.py();
    let inspect = function(py, "offloop._loop.handles", "inspect")?;
    let object = handle.to_object(py);
    let traceback = inspect.call1((event_loop, object, method, check_thread))?;
    handle.set_traceback(traceback);
    Ok(())
}

#[inline]
fn schedule<'py>(
    event_loop: &Bound<'py, LoopCore>,
    items: &[Bound<'py, PyAny>],
    context: Given<'_, 'py>,
    method: &str,
) -> PyResult<Handle> {
    let py = event_loop.py();
    let debug = check(event_loop)?;
    if items.is_empty() {
        return Err(missing(method, "callback"));
    }
    let callback = Callback {
        items,
        context,
        event_loop: event_loop.as_super(),
    };
    let handle = Handle::new(py, &callback)?;
    if debug {
        inspect(event_loop, &handle, method, method == "call_soon")?;
    }
    let result = handle.clone_ref(py);
    let state = &event_loop.as_super().get().state;
    state.with(py, |state| state.schedule.push_handle(py, handle));
    Ok(result)
}

fn call_later(
    py: Python<'_>,
    event_loop: &Bound<'_, LoopCore>,
    call: &Arguments<'_, '_>,
) -> Scheduled {
    let (Some(context), [delay, items @ ..]) = (call.context(), call.positional) else {
        return Ok(call.sort_out(event_loop, "call_later")?.unbind());
    };
    if delay.is_none() {
        return Err(PyTypeError::new_err("delay must not be None"));
    }
    let found = overrides::found(event_loop)?;
    let when = later(event_loop, found, delay)?;
    if !found.call_at {
        return call_overridden(event_loop, items, context, when);
    }
    let timer = schedule_at(event_loop, items, context, when, "call_later")?;
    Ok(timer.into_object(py))
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

/// The time after a delay. Plain numbers are added here. With any other object, or with a clock of
/// the program's, Python adds the two.
fn later(
    event_loop: &Bound<'_, LoopCore>,
    found: Found,
    delay: &Bound<'_, PyAny>,
) -> PyResult<When> {
    let py = delay.py();
    let own = overrides::clock_is_ours(py, found)?;
    if own && (delay.is_exact_instance_of::<PyFloat>() || delay.is_exact_instance_of::<PyInt>()) {
        return Ok(When {
            seconds: monotonic_s() + delay.extract::<f64>()?,
            given: None,
        });
    }
    let now = time_object(event_loop)?;
    When::of(&now.add(delay)?)
}

fn call_at(
    py: Python<'_>,
    event_loop: &Bound<'_, LoopCore>,
    call: &Arguments<'_, '_>,
) -> Scheduled {
    let (Some(context), [when, items @ ..]) = (call.context(), call.positional) else {
        return Ok(call.sort_out(event_loop, "call_at")?.unbind());
    };
    if when.is_none() {
        return Err(PyTypeError::new_err("when cannot be None"));
    }
    let timer = schedule_at(event_loop, items, context, When::of(when)?, "call_at")?;
    Ok(timer.into_object(py))
}

/// Has the program's own `call_at` do what `call_later` was asked for.
fn call_overridden(
    event_loop: &Bound<'_, LoopCore>,
    items: &[Bound<'_, PyAny>],
    context: Given<'_, '_>,
    when: When,
) -> Scheduled {
    if items.is_empty() {
        return Err(missing("call_later", "callback"));
    }
    let py = event_loop.py();
    let when = match when.given {
        Some(given) => given.into_bound(py),
        None => when.seconds.into_bound_py_any(py)?,
    };
    let arguments: Vec<_> = std::iter::once(&when).chain(items).collect();
    let arguments = PyTuple::new(py, arguments)?;
    let keywords = PyDict::new(py);
    keywords.set_item("context", context)?;
    let handle = event_loop.call_method("call_at", arguments, Some(&keywords))?;
    Ok(handle.unbind())
}

/// A number as seconds. An integer that is too large for a float becomes an infinite time, which
/// never comes or has passed.
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

#[inline]
fn schedule_at<'py>(
    event_loop: &Bound<'py, LoopCore>,
    items: &[Bound<'py, PyAny>],
    context: Given<'_, 'py>,
    when: When,
    method: &str,
) -> PyResult<Handle> {
    let py = event_loop.py();
    let debug = check(event_loop)?;
    if items.is_empty() {
        return Err(missing(method, "callback"));
    }
    let callback = Callback {
        items,
        context,
        event_loop: event_loop.as_super(),
    };
    let timer = TimerHandle::new(py, &callback, when.seconds, when.given)?;
    if debug {
        // The standard `call_later` calls `call_at`, so the texts of its errors name that.
        inspect(event_loop, &timer, "call_at", true)?;
    }
    let result = timer.clone_ref(py);
    let state = &event_loop.as_super().get().state;
    let swept = state.with(py, |state| state.schedule.push_timer(py, timer));
    drop(swept);
    Ok(result)
}
