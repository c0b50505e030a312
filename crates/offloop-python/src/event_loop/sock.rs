//! `sock_recv`, `sock_recv_into` and `sock_sendall`: calls on a socket of the program's own.
//!
//! The system call is tried at once. If it would block, a future is made, and the loop watches the
//! descriptor for one event: that costs one system call for each wait, and leaves no watch behind
//! on a descriptor that may be another socket tomorrow. When the event comes, the call is made
//! again, and its outcome set on the future.
//!
//! Only sockets of exactly the standard class are handled here, while the program has replaced no
//! method of that class, and not in debug mode. For other sockets the methods return `None`: then
//! the coroutine takes the standard way, which calls the methods of the socket.
//!
//! Invariants: 1. A wait is in one place: the table of watched descriptors, or the queue.
//! Errors:     the system's, as the socket's own methods raise them.
//! Source:     asyncio/selector_events.py.

use std::io::ErrorKind;

use offloop_sys::stream::{STREAM, receive_into, send_from};
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};
use pyo3::{ffi, intern};

use super::ground::arguments::Arguments;
use super::ground::errors::os_error;
use super::ground::trampoline::{Method, put};
use super::ground::versions::Originals;
use super::ground::view::View;
use super::port::LoopPort;
use super::port::futures::future;
use super::port::read_memory::READ_BYTES;
use super::port::wait::{Wait, Work};
use super::port::watch::{add_wait, remove_wait};

/// Puts the methods on the class.
pub(crate) fn add_to(class: &Bound<'_, PyType>) -> PyResult<()> {
    put(class, &METHODS)
}

const METHODS: [Method<LoopPort>; 4] = [
    Method::new(
        c"_receive",
        c"_receive($self, sock, n, /)\n--\n\nBegin sock_recv.",
        receive,
    ),
    Method::new(
        c"_receive_into",
        c"_receive_into($self, sock, buf, /)\n--\n\nBegin sock_recv_into.",
        receive_into_buffer,
    ),
    Method::new(
        c"_send_all",
        c"_send_all($self, sock, data, /)\n--\n\nBegin sock_sendall.",
        send_all,
    ),
    Method::new(
        c"_stop_waiting",
        c"_stop_waiting($self, sock, future, /)\n--\n\nGive up what one of them began.",
        stop_waiting,
    ),
];

/// The class of a program's sockets, and the one that has the methods.
struct Classes {
    socket: Py<PyType>,
    native: Py<PyType>,
}

impl Classes {
    fn get(py: Python<'_>) -> PyResult<&Self> {
        static CLASSES: PyOnceLock<Classes> = PyOnceLock::new();
        CLASSES.get_or_try_init(py, || {
            let native = py.import("_socket")?.getattr("socket")?;
            Ok(Self {
                socket: Self::real_socket(&native)?.unbind(),
                native: native.cast_into::<PyType>()?.unbind(),
            })
        })
    }

    /// Whether the methods that are done here are still the system's calls.
    #[inline]
    fn are_unchanged(&self, py: Python<'_>) -> PyResult<bool> {
        static ORIGINALS: Originals = Originals::new();
        let (class, native) = (self.socket.bind(py), self.native.bind(py));
        ORIGINALS.are_there([class, native], || {
            for name in ["recv", "recv_into", "send"] {
                if !class.getattr(name)?.is(native.getattr(name)?) {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }

    /// `socket.socket`, also while a test has put something else there.
    fn real_socket<'py>(native: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyType>> {
        let py = native.py();
        let module = py.import("socket")?;
        for class in native.call_method0("__subclasses__")?.try_iter()? {
            let class = class?.cast_into::<PyType>()?;
            if class.module()? == "socket" && class.qualname()? == "socket" {
                return Ok(class);
            }
        }
        Ok(module.getattr("socket")?.cast_into::<PyType>()?)
    }
}

/// The descriptor of a socket on which we may do ourselves what its method does.
fn plain_socket(port: &LoopPort, socket: &Bound<'_, PyAny>) -> PyResult<Option<i32>> {
    let py = socket.py();
    let classes = Classes::get(py)?;
    let class = classes.socket.bind(py);
    if !socket.get_type().is(class) || port.state.with(py, |state| state.debug) {
        return Ok(None);
    }
    if !classes.are_unchanged(py)? {
        return Ok(None);
    }
    let fd: i32 = socket.call_method0(intern!(py, "fileno"))?.extract()?;
    Ok((fd >= 0).then_some(fd))
}

/// What one attempt came to.
enum Attempt<'py> {
    Done(Bound<'py, PyAny>),
    Blocked,
    /// The call is left to the standard way.
    Unusual,
}

/// Tries the call; the number of bytes sent so far moves on.
fn attempt<'py>(
    py: Python<'py>,
    port: &LoopPort,
    fd: i32,
    work: &mut Work,
) -> PyResult<Attempt<'py>> {
    let answer = match work {
        Work::Receive(len) => {
            let answer = port.with_read_memory(py, |memory| {
                let answer = memory.receive(py, fd, *len, memory.last_call);
                if let Ok(Ok(data)) = &answer {
                    memory.last_call = data.as_bytes().len();
                }
                answer
            });
            return match answer? {
                Ok(data) => Ok(Attempt::Done(data.into_any())),
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Attempt::Blocked),
                Err(error) => Err(os_error(error)),
            };
        }
        Work::ReceiveInto(buffer) => {
            let Some(view) = View::of(buffer.bind(py), ffi::PyBUF_WRITABLE) else {
                return Ok(Attempt::Unusual);
            };
            if view.len() == 0 {
                // The standard method asks the system for nothing too, and gets it.
                return Ok(Attempt::Done(0_usize.into_pyobject(py)?.into_any()));
            }
            // SAFETY: *held*, for writing.
            unsafe { receive_into(fd, view.pointer(), view.len()) }
        }
        Work::Send(data, sent) => {
            let Some(view) = View::of(data.bind(py), ffi::PyBUF_SIMPLE) else {
                return Ok(Attempt::Unusual);
            };
            let left = view.len() - *sent;
            // SAFETY: *held*, for reading. From attempt to attempt, the memory view that stands for
            // the data once it waits keeps it from shrinking below what was sent.
            let answer = unsafe { send_from(fd, view.pointer().add(*sent), left) };
            *sent += *answer.as_ref().unwrap_or(&0);
            match answer {
                Ok(count) if count < left => return Ok(Attempt::Blocked),
                Ok(_) => return Ok(Attempt::Done(py.None().into_bound(py))),
                error => error,
            }
        }
    };
    match answer {
        Ok(count) => Ok(Attempt::Done(count.into_pyobject(py)?.into_any())),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Attempt::Blocked),
        Err(error) => Err(os_error(error)),
    }
}

/// What a method here returns: `None` leaves the call to the standard way.
type Begun = PyResult<Option<Py<PyAny>>>;

/// The first attempt: its result (`True` when all was sent), or the future to await, or `None` for
/// unusual calls.
fn begin(event_loop: &Bound<'_, LoopPort>, socket: &Bound<'_, PyAny>, mut work: Work) -> Begun {
    let py = event_loop.py();
    let port = event_loop.get();
    let Some(fd) = plain_socket(port, socket)? else {
        return Ok(None);
    };
    match attempt(py, port, fd, &mut work)? {
        Attempt::Done(_) if matches!(work, Work::Send(..)) => true.into_py_any(py).map(Some),
        Attempt::Done(result) => Ok(Some(result.unbind())),
        Attempt::Unusual => Ok(None),
        Attempt::Blocked if !work.has_begun() && blocks(socket)? => Ok(None),
        Attempt::Blocked => {
            check_no_transport(event_loop, fd)?;
            if let Work::Send(data, _) = &mut work {
                // From now on the data may not change its size.
                let view = pyo3::types::PyMemoryView::from(data.bind(py))?;
                *data = view.into_any().unbind();
            }
            let future = future(py, event_loop)?;
            let wait = Box::new(Wait {
                fd,
                socket: socket.clone().unbind(),
                future: future.clone().unbind(),
                work,
            });
            add_wait(port, py, wait.side(), wait)?;
            Ok(Some(future.unbind()))
        }
    }
}

/// Makes the call again, after the event for which it waits.
pub(crate) fn go_on(port: &LoopPort, py: Python<'_>, mut wait: Box<Wait>) -> PyResult<()> {
    let future = wait.future.bind(py).clone();
    if future.call_method0(intern!(py, "done"))?.is_truthy()? {
        return Ok(());
    }
    let fd: i32 = wait
        .socket
        .bind(py)
        .call_method0(intern!(py, "fileno"))?
        .extract()?;
    let result = if fd == wait.fd {
        attempt(py, port, fd, &mut wait.work)
    } else {
        // Closed since the event came.
        let error = std::io::Error::from_raw_os_error(offloop_sys::stream::BAD_DESCRIPTOR);
        Err(os_error(error))
    };
    let error = match result {
        Ok(Attempt::Done(value)) => {
            future.call_method1(intern!(py, "set_result"), (value,))?;
            return Ok(());
        }
        Ok(Attempt::Blocked) => match add_wait(port, py, wait.side(), wait) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        },
        Ok(Attempt::Unusual) => PyTypeError::new_err("the buffer cannot be used any more"),
        Err(error) => error,
    };
    future.call_method1(intern!(py, "set_exception"), (error.into_value(py),))?;
    Ok(())
}

/// Whether the socket is a stream: what arrives on it has no boundaries between messages.
fn is_stream(socket: &Bound<'_, PyAny>) -> PyResult<bool> {
    let kind: i32 = socket.getattr(intern!(socket.py(), "type"))?.extract()?;
    Ok(kind == STREAM)
}

/// Whether the socket's own methods would wait. The standard way lets them.
fn blocks(socket: &Bound<'_, PyAny>) -> PyResult<bool> {
    let timeout = socket.call_method0(intern!(socket.py(), "gettimeout"))?;
    Ok(timeout.is_none() || timeout.is_truthy()?)
}

/// Raises the standard error if a transport uses the descriptor.
fn check_no_transport(event_loop: &Bound<'_, LoopPort>, fd: i32) -> PyResult<()> {
    let py = event_loop.py();
    let by_stream = usize::try_from(fd).is_ok_and(|fd| {
        let streams = &event_loop.get().streams;
        streams.with(py, |streams| streams.at(py, fd)).is_some()
    });
    let by_other = || {
        let transports = event_loop.getattr(intern!(py, "_transports"))?;
        match transports.getattr(intern!(py, "data"))?.cast::<PyDict>() {
            Ok(transports) => transports.contains(fd),
            Err(_) => Ok(true),
        }
    };
    if by_stream || by_other()? {
        let name = intern!(py, "_ensure_fd_no_transport");
        event_loop.call_method1(name, (fd,))?;
    }
    Ok(())
}

/// `_receive(sock, n)`.
fn receive(_py: Python<'_>, event_loop: &Bound<'_, LoopPort>, call: &Arguments<'_, '_>) -> Begun {
    let (socket, len) = two(call)?;
    match len.extract::<usize>() {
        // A longer message would be cut at `READ_BYTES`; a stream has no messages.
        Ok(len) if len > 0 && (len <= READ_BYTES || is_stream(socket)?) => {
            begin(event_loop, socket, Work::Receive(len))
        }
        _ => Ok(None),
    }
}

/// `_receive_into(sock, buffer)`.
fn receive_into_buffer(
    _py: Python<'_>,
    event_loop: &Bound<'_, LoopPort>,
    call: &Arguments<'_, '_>,
) -> Begun {
    let (socket, buffer) = two(call)?;
    begin(
        event_loop,
        socket,
        Work::ReceiveInto(buffer.clone().unbind()),
    )
}

/// `_send_all(sock, data)`.
fn send_all(_py: Python<'_>, event_loop: &Bound<'_, LoopPort>, call: &Arguments<'_, '_>) -> Begun {
    let (socket, data) = two(call)?;
    begin(event_loop, socket, Work::Send(data.clone().unbind(), 0))
}

/// `_stop_waiting(sock, future)`.
fn stop_waiting(
    py: Python<'_>,
    event_loop: &Bound<'_, LoopPort>,
    call: &Arguments<'_, '_>,
) -> PyResult<()> {
    let (socket, future) = two(call)?;
    let fd: i32 = socket.call_method0(intern!(py, "fileno"))?.extract()?;
    remove_wait(event_loop.get(), py, fd, future);
    Ok(())
}

/// The two arguments of every method here.
fn two<'a, 'py>(
    call: &Arguments<'a, 'py>,
) -> PyResult<(&'a Bound<'py, PyAny>, &'a Bound<'py, PyAny>)> {
    match (call.positional, call.keywords) {
        ([one, other], []) => Ok((one, other)),
        _ => Err(PyTypeError::new_err(
            "two positional arguments are expected",
        )),
    }
}
