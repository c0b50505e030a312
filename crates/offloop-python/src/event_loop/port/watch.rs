//! Descriptors, and who of a loop waits for them.
//!
//! What the kernel is told is decided in `offloop_core::event_loop::Descriptors`. Here are those
//! who wait, and the errors that the standard loop raises.
//!
//! Source:     selectors.py (`_fileobj_lookup`), asyncio/selector_events.py.

use std::io;

use offloop_core::event_loop::{Change, Descriptors, Interest, Kernel, Side, Target, Watcher};
use offloop_sys::readiness::{self, Readiness};
use pyo3::exceptions::{
    PyAttributeError, PyOverflowError, PyRuntimeError, PyTypeError, PyValueError,
};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyTuple};
use pyo3::{ffi, intern};

use super::super::ground::errors::os_error;
use super::super::handle::{Callback, Handle};
use super::schedule::Entry;
use super::wait::Wait;
use super::{LoopPort, State};

/// Who is told that a descriptor is ready.
pub(crate) enum Waiting {
    /// A callback of the program's, or of the standard library's.
    Handle(Handle),
    /// A stream, which reads or writes by itself.
    Stream(Py<PyAny>),
    /// A call on a socket, which waits once.
    Wait(Box<Wait>),
}

impl Waiting {
    fn to_object(&self, py: Python<'_>) -> Py<PyAny> {
        match self {
            Self::Handle(handle) => handle.to_object(py),
            Self::Stream(stream) => stream.clone_ref(py),
            Self::Wait(wait) => wait.to_object(py),
        }
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Handle(handle) => handle.traverse(visit),
            Self::Stream(stream) => visit.call(stream),
            Self::Wait(wait) => wait.traverse(visit),
        }
    }
}

impl Watcher for Waiting {
    #[inline]
    fn is_once(&self) -> bool {
        matches!(self, Self::Wait(_))
    }

    #[inline]
    fn may_have_file(&self) -> bool {
        matches!(self, Self::Handle(_))
    }
}

/// The descriptors of a loop; what names one is a file object of the program's.
pub(crate) type Watches = Descriptors<Waiting, Py<PyAny>>;
type Exchange = Change<Waiting, Py<PyAny>>;

/// The kernel as the table of descriptors sees it.
struct Epoll<'a>(&'a Readiness);

/// What one part of ours calls an interest is what the other does.
const fn told(interest: Interest) -> readiness::Interest {
    readiness::Interest {
        read: interest.read,
        write: interest.write,
        once: interest.once,
    }
}

impl Kernel for Epoll<'_> {
    type Error = io::Error;

    fn impossible() -> io::Error {
        io::ErrorKind::InvalidInput.into()
    }

    fn is_unknown(error: &io::Error) -> bool {
        error.kind() == io::ErrorKind::NotFound
    }

    fn is_closed(error: &io::Error) -> bool {
        error.raw_os_error() == Some(offloop_sys::stream::BAD_DESCRIPTOR)
    }

    fn add(&self, fd: i32, interest: Interest) -> io::Result<()> {
        self.0.change(fd, readiness::Interest::NONE, told(interest))
    }

    fn modify(&self, fd: i32, interest: Interest) -> io::Result<()> {
        self.0.modify(fd, told(interest))
    }

    fn forget(&self, fd: i32) -> io::Result<()> {
        self.0.forget(fd)
    }

    fn renew(&self) -> io::Result<()> {
        self.0.renew()
    }
}

/// Queues whoever waits for what `fd` is ready for; false when nobody knows it.
pub(crate) fn queue_ready(
    py: Python<'_>,
    state: &mut State,
    readiness: &Readiness,
    fd: i32,
    ready: readiness::Interest,
) -> bool {
    let State {
        schedule, watches, ..
    } = state;
    let ready = Interest {
        read: ready.read,
        write: ready.write,
        once: ready.once,
    };
    watches.ready(&Epoll(readiness), fd, ready, |side, place| {
        let entry = match place {
            Some(Waiting::Handle(handle)) => Some(Entry::Ours(handle.clone_ref(py))),
            Some(Waiting::Stream(stream)) => Some(Entry::Stream(stream.clone_ref(py), side)),
            // It is over with that.
            Some(Waiting::Wait(_)) => match place.take() {
                Some(Waiting::Wait(wait)) => Some(Entry::Wait(wait)),
                _ => None,
            },
            None => None,
        };
        entry.into_iter().for_each(|entry| schedule.push(entry));
    })
}

/// Has the kernel forget the descriptors that nobody watches any more.
pub(crate) fn renew(state: &mut State, readiness: &Readiness) -> io::Result<()> {
    state.watches.renew(&Epoll(readiness))
}

/// Who waits for a descriptor: a reader, a writer.
pub(crate) fn watched(state: &State, py: Python<'_>, fd: i32) -> [Option<Py<PyAny>>; 2] {
    let watchers = state.watches.watchers_at(fd);
    watchers.map(|watcher| watcher.map(|watcher| watcher.to_object(py)))
}

/// Shows the collector everybody who waits, and what names a descriptor.
pub(crate) fn traverse(watches: &Watches, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
    let mut files = watches.files();
    files.try_for_each(|file| visit.call(file))?;
    let mut watchers = watches.watchers();
    watchers.try_for_each(|watcher| watcher.traverse(visit))
}

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
    let items: Vec<_> = std::iter::once(callback.as_ptr())
        .chain(args.iter_borrowed().map(|item| item.as_ptr()))
        .collect();
    let handle = Handle::new(
        py,
        &Callback {
            items: &items,
            context: context.map_or(std::ptr::null_mut(), Bound::as_ptr),
            event_loop: event_loop.as_ptr(),
        },
        None,
    )?;
    handle.set_repeats();
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
        // Mostly at its descriptor, unless the socket was closed meanwhile.
        let (fd, side) = match state.watches.find(fd, is_it)? {
            (Waiting::Wait(wait), side) => (wait.fd(), side),
            _ => return None,
        };
        let kernel = Epoll(&state.kernel.as_ref()?.readiness);
        let change = Exchange::nobody(side);
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
        set(port, py, fd, Exchange::nobody(side))?;
    }
    Ok(())
}

/// Whether an open `fd` is still what it was when it was first watched: the file object that the
/// program gave then says so, unless it is the one that is given now.
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

/// Exchanges a watcher and cancels the old one; whether there was one.
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
                // Nobody has waited for it since another one got its number.
                return Ok(false);
            }
            Some(closed_file(port, file, error)?)
        }
    };
    // No number as large is watched.
    fd.map_or(Ok(false), |fd| set(port, py, fd, Exchange::nobody(side)))
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
                // SAFETY: attached, a live object; a new reference or an error.
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
