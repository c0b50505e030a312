//! Begins and ends to watch descriptors, with the errors that the standard loop raises.
//!
//! Source:     selectors.py (`_fileobj_lookup`), asyncio/selector_events.py.

use offloop_core::event_loop::{Side, Target};
use pyo3::exceptions::{
    PyAttributeError, PyOverflowError, PyRuntimeError, PyTypeError, PyValueError,
};
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyTuple};
use pyo3::{ffi, intern};

use super::super::ground::errors::os_error;
use super::super::handle::{Callback, Handle};
use super::state::{LoopPort, State};
use super::table::{Epoll, Exchange, Waiting};
use super::wait::Wait;

/// What is to be called, its arguments, and the context if the caller names one.
type Called<'a, 'py> = (
    &'a Bound<'py, PyAny>,
    &'a Bound<'py, PyTuple>,
    Option<&'a Bound<'py, PyAny>>,
);

/// `add_reader` and `add_writer`: the handle that was there before is cancelled.
pub(crate) fn add(
    event_loop: &Bound<'_, LoopPort>,
    file: &Bound<'_, PyAny>,
    side: Side,
    (callback, args, context): Called<'_, '_>,
) -> PyResult<Py<PyAny>> {
    let py = event_loop.py();
    let port = event_loop.get();
    port.check_closed(py)?;
    let (fd, closed) = match descriptor(file) {
        Ok(fd) => (narrow(fd)?, false),
        Err(error) => (closed_file(port, file, error)?, true),
    };
    let items: Vec<_> = std::iter::once(callback.clone()).chain(args).collect();
    let handle = Handle::new(
        py,
        &Callback {
            items: &items,
            context,
            event_loop,
        },
    )?;
    handle.set_repeats(py);
    let object = handle.to_object(py);
    let change = Exchange {
        side,
        watcher: Some(Waiting::Handle(handle)),
        file: (!file.is_instance_of::<PyInt>()).then(|| file.clone().unbind()),
        target: if closed {
            Target::Closed
        } else {
            target(port, fd, Some(file), py)
        },
    };
    set(port, py, fd, change)?;
    Ok(object)
}

/// Waits once until a socket can go on.
pub(crate) fn add_wait(
    port: &LoopPort,
    py: Python<'_>,
    side: Side,
    wait: Box<Wait>,
) -> PyResult<()> {
    port.check_closed(py)?;
    let fd = wait.fd();
    let change = Exchange {
        side,
        watcher: Some(Waiting::Wait(wait)),
        file: None,
        target: target(port, fd, None, py),
    };
    set(port, py, fd, change).map(drop)
}

/// Gives up the wait that `future` stands for, if it still lasts.
pub(crate) fn remove_wait(port: &LoopPort, py: Python<'_>, fd: i32, future: &Bound<'_, PyAny>) {
    let old = port.state.with(py, |state| {
        let is_it =
            |watcher: &Waiting| matches!(watcher, Waiting::Wait(wait) if wait.is_for(future));
        // It is found at `fd`, unless the socket was closed meanwhile.
        let (fd, side) = match state.watches.find(fd, is_it)? {
            (Waiting::Wait(wait), side) => (wait.fd(), side),
            _ => return None,
        };
        let kernel = Epoll(&state.kernel.as_ref()?.readiness);
        let change = Exchange::removal(side);
        Some(state.watches.exchange(&kernel, fd, change))
    });
    drop(old);
}

/// Watches the descriptor of a stream for one of its sides.
pub(crate) fn add_stream(
    port: &LoopPort,
    stream: &Bound<'_, PyAny>,
    fd: i32,
    side: Side,
) -> PyResult<()> {
    let py = stream.py();
    port.check_closed(py)?;
    let change = Exchange {
        side,
        watcher: Some(Waiting::Stream(stream.clone().unbind())),
        file: None,
        target: target(port, fd, None, py),
    };
    set(port, py, fd, change).map(drop)
}

/// Watches one side of a stream no more.
pub(crate) fn remove_stream(port: &LoopPort, py: Python<'_>, fd: i32, side: Side) -> PyResult<()> {
    if !port.is_closed(py) {
        set(port, py, fd, Exchange::removal(side))?;
    }
    Ok(())
}

/// Whether an open `fd` is still the descriptor that the loop watches. The file object that the
/// program gave for it then is asked, unless the program gives the same object now.
fn target(port: &LoopPort, fd: i32, given: Option<&Bound<'_, PyAny>>, py: Python<'_>) -> Target {
    let named = |state: &mut State| Some(state.watches.file_at(fd)?.bind(py).clone());
    let Some(file) = port.state.with(py, named) else {
        return Target::Same;
    };
    if given.is_some_and(|given| given.is(&file)) {
        return Target::Same;
    }
    match descriptor(&file) {
        Ok(number) if number == i64::from(fd) => Target::Same,
        // It has another number or none, or cannot say.
        _ => Target::New,
    }
}

/// Exchanges a watcher, and cancels the old one. Returns whether there was one.
fn set(port: &LoopPort, py: Python<'_>, fd: i32, change: Exchange) -> PyResult<bool> {
    let outcome = port.state.with(py, |state| {
        let kernel = Epoll(&state.kernel.as_ref()?.readiness);
        Some(state.watches.exchange(&kernel, fd, change))
    });
    let Some(outcome) = outcome else {
        return Err(PyRuntimeError::new_err("Event loop is closed"));
    };
    let gone = outcome.map_err(|(error, _gone)| os_error(error))?;
    let found = gone.watcher.is_some();
    for watcher in gone.others.into_iter().chain([gone.watcher]).flatten() {
        if let Waiting::Handle(handle) = watcher {
            let object = handle.to_object(py);
            object.bind(py).call_method0(intern!(py, "cancel"))?;
        }
    }
    Ok(found)
}

/// `remove_reader` and `remove_writer`: whether there was one.
pub(crate) fn remove(
    event_loop: &Bound<'_, LoopPort>,
    file: &Bound<'_, PyAny>,
    side: Side,
) -> PyResult<bool> {
    let py = event_loop.py();
    let port = event_loop.get();
    if port.is_closed(py) {
        return Ok(false);
    }
    let fd = match descriptor(file) {
        Ok(fd) => narrow(fd).ok(),
        Err(error) => {
            let displaced = port.state.with(py, |state| {
                state.watches.take_displaced(|_, held| held.is(file))
            });
            if displaced.is_some() {
                // It lost its watchers when another file got its number.
                return Ok(false);
            }
            Some(closed_file(port, file, error)?)
        }
    };
    // A number too large for the system is never watched.
    fd.map_or(Ok(false), |fd| set(port, py, fd, Exchange::removal(side)))
}

/// The number under which a closed file object is watched, or the error that it has none.
fn closed_file(port: &LoopPort, file: &Bound<'_, PyAny>, error: PyErr) -> PyResult<i32> {
    let py = file.py();
    if !error.is_instance_of::<PyValueError>(py) {
        return Err(error);
    }
    let is_it = |held: &Py<PyAny>| held.is(file);
    let found = port.state.with(py, |state| state.watches.find_file(is_it));
    found.ok_or(error)
}

/// A number, or the number of something with `fileno()`; the errors are those of `selectors`.
fn descriptor(object: &Bound<'_, PyAny>) -> PyResult<i64> {
    let py = object.py();
    let number = if object.is_instance_of::<PyInt>() {
        object.clone()
    } else {
        let number = object
            .call_method0(intern!(py, "fileno"))
            .and_then(|number| {
                // SAFETY: *attached*, an object that is held; a new reference or an error.
                unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyNumber_Long(number.as_ptr())) }
            });
        number.map_err(|error| {
            let is_refusal = error.is_instance_of::<PyAttributeError>(py)
                || error.is_instance_of::<PyTypeError>(py)
                || error.is_instance_of::<PyValueError>(py);
            if is_refusal {
                PyValueError::new_err(format!("Invalid file object: {object:?}"))
            } else {
                error
            }
        })?
    };
    if number.lt(0)? {
        let text = format!("Invalid file descriptor: {number}");
        return Err(PyValueError::new_err(text));
    }
    Ok(number.extract().unwrap_or(i64::MAX))
}

/// The number as the system takes it.
fn narrow(fd: i64) -> PyResult<i32> {
    let text = "Python int too large to convert to C int";
    i32::try_from(fd).map_err(|_| PyOverflowError::new_err(text))
}
