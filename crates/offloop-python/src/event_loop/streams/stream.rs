//! The native half of a stream transport: what it knows.
//!
//! The transport itself is the standard library's, in Python; it does what happens once for each
//! connection. What happens for each packet is in `reading.rs` and `writing.rs`, what a stream
//! calls in `calling.rs`.
//!
//! Invariants: nothing is sent or received once the connection is lost.
//! Threads:    the loop's.
//! Source:     asyncio/selector_events.py.

use offloop_core::event_loop::Side;
use pyo3::exceptions::PyOverflowError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyType};
use pyo3::{ffi, intern};

use super::super::ground::address::Address;
use super::super::ground::arguments::truth;
use super::super::ground::cell::GilCell;
use super::super::ground::threads::this_thread;
use super::super::handle::context::copy_of_context;
use super::super::port::LoopPort;
use super::super::port::meter::Meter;
use super::super::port::watch::{add_stream, remove_stream};
use super::receiver::Receiver;
use super::state::{Ends, Owner, StreamState};

/// The native half of a stream transport.
#[pyclass(frozen, module = "_offloop_worker._offloop")]
pub(crate) struct Stream {
    /// The socket's descriptor when the connection was made.
    fd: i32,
    /// The socket is of the standard class: its descriptor can be read from the object.
    is_standard: bool,
    event_loop: Py<LoopPort>,
    pub(crate) state: GilCell<StreamState>,
}

/// The beginning of the standard class's objects, in all versions of Python.
#[repr(C)]
struct RawSocket {
    base: ffi::PyObject,
    fd: i32,
}

/// A number of bytes of any type, not negative; at most the largest `usize`, which none reaches.
fn limit(bytes: &Bound<'_, PyAny>) -> PyResult<usize> {
    if let Ok(bytes) = bytes.extract::<usize>() {
        return Ok(bytes);
    }
    match bytes.extract::<f64>() {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "saturates, which is what is wanted"
        )]
        Ok(bytes) => Ok(bytes.ceil() as usize),
        Err(error) if error.is_instance_of::<PyOverflowError>(bytes.py()) => Ok(usize::MAX),
        Err(error) => Err(error),
    }
}

/// Whether a socket object has its descriptor where we read it.
fn is_standard(socket: &Bound<'_, PyAny>, fd: i32) -> PyResult<bool> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let py = socket.py();
    let class = CLASS.get_or_try_init(py, || {
        let class = py.import("_socket")?.getattr("socket")?;
        Ok::<_, PyErr>(class.cast_into::<PyType>()?.unbind())
    })?;
    if !socket.is_instance(class.bind(py))? {
        return Ok(false);
    }
    // SAFETY: attached; the class is alive, and `socket` is an object of it, of at least its size.
    unsafe {
        let size = (*class.as_ptr().cast::<ffi::PyTypeObject>()).tp_basicsize;
        let fits = usize::try_from(size).is_ok_and(|size| size >= size_of::<RawSocket>());
        Ok(fits && (*socket.as_ptr().cast::<RawSocket>()).fd == fd)
    }
}

#[pymethods]
impl Stream {
    #[new]
    fn new(
        event_loop: Py<LoopPort>,
        socket: &Bound<'_, PyAny>,
        transport: Py<PyAny>,
    ) -> PyResult<Self> {
        let py = socket.py();
        let fd = socket.call_method0(intern!(py, "fileno"))?.extract()?;
        let is_standard = is_standard(socket, fd)?;
        let state = &event_loop.get().state;
        let ends = Ends {
            transport: Owner::Kept(transport),
            socket: socket.clone().unbind(),
            _open: state.with(py, |state| state.meter.connection()),
        };
        Ok(Self {
            fd,
            is_standard,
            event_loop,
            state: GilCell::new(StreamState::new(ends, Address::Other(py.None()))),
        })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        // SAFETY: the collector runs attached, and never inside `with`.
        let py = unsafe { Python::assume_attached() };
        self.state.with(py, |state| {
            state.uncommon.traverse(&visit)?;
            visit.call(&state.context)?;
            if let Some(ends) = &state.ends {
                ends.transport.traverse(&visit)?;
                visit.call(&ends.socket)?;
            }
            state.receiver.traverse(&visit)
        })
    }

    fn __clear__(&self, py: Python<'_>) {
        self.detach(py);
    }

    /// Keeps the names of both ends, even after the connection is over.
    fn keep_names(&self, peername: &Bound<'_, PyAny>, sockname: Py<PyAny>) {
        let py = peername.py();
        let peername = Address::of(peername);
        let old = self.state.with(py, |state| {
            (
                std::mem::replace(&mut state.peername, peername),
                state.sockname.replace(sockname),
            )
        });
        drop(old);
    }

    #[getter]
    fn peername(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let peername = self.state.with(py, |state| state.peername.clone_ref(py));
        peername.into_object(py)
    }

    #[getter]
    fn sockname(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let name = |state: &mut StreamState| Some(state.sockname.as_ref()?.clone_ref(py));
        self.state.with(py, name)
    }

    /// Whether its transport is found by the descriptor.
    #[getter]
    fn listed(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| !state.hidden)
    }

    #[setter]
    fn set_listed(&self, py: Python<'_>, listed: bool) {
        self.state.with(py, |state| state.hidden = !listed);
    }

    /// Whether a server counts it.
    #[getter]
    fn attached(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| state.attached)
    }

    #[setter]
    fn set_attached(&self, py: Python<'_>, attached: bool) {
        self.state.with(py, |state| state.attached = attached);
    }

    /// Enters the stream into the loop's registry.
    fn enter_registry(slf: &Bound<'_, Self>) {
        let (py, stream) = (slf.py(), slf.get());
        if let Ok(fd) = usize::try_from(stream.fd) {
            let streams = &stream.event_loop.get().streams;
            let address = stream.address();
            streams.with(py, |streams| streams.enter(fd, address, slf.as_any()));
        }
    }

    /// Drops transport and protocol: the connection is over.
    fn detach(&self, py: Python<'_>) {
        self.leave_registry(py);
        let held = self.state.with(py, |state| {
            state.size = 0;
            (
                state.ends.take(),
                state.context.take(),
                state.uncommon.set_writing_context(None),
                state.uncommon.set_empty_waiter(None),
                std::mem::replace(&mut state.receiver, Receiver::None),
                std::mem::take(&mut state.chunks),
            )
        });
        drop(held);
    }

    /// Calls the methods of `protocol` from now on.
    fn set_protocol(&self, protocol: &Bound<'_, PyAny>, buffered: bool) -> PyResult<()> {
        let receiver = Receiver::of_stream(protocol, buffered)?;
        let old = self.state.with(protocol.py(), |state| {
            std::mem::replace(&mut state.receiver, receiver)
        });
        drop(old);
        Ok(())
    }

    /// The context that the transport was given, from Python 3.15 on.
    #[getter(context)]
    fn given_context(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let given = |state: &mut StreamState| {
            let given = state.context.as_ref().filter(|_| state.context_given);
            given.map(|context| context.clone_ref(py))
        };
        self.state.with(py, given)
    }

    #[setter(context)]
    fn set_given_context(&self, py: Python<'_>, context: Option<Py<PyAny>>) {
        let old = self.state.with(py, |state| {
            state.context_given = context.is_some();
            std::mem::replace(&mut state.context, context)
        });
        drop(old);
    }

    /// Whether the protocol is told of a loss later: a call of it is under way on another thread,
    /// and has to return first.
    fn postpone_loss(&self, py: Python<'_>, loss: Py<PyAny>) -> bool {
        let thread = this_thread();
        let (postponed, other) = self.state.with(py, |state| {
            let postponed = state.under_way.refuses(thread);
            let other = if postponed {
                state.uncommon.note_loss(loss)
            } else {
                Some(loss)
            };
            (postponed, other)
        });
        drop(other);
        postponed
    }

    /// Begins to read: in the context that was given, or else, as a callback would, in a copy of
    /// the current one.
    fn start_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (py, state) = (slf.py(), &slf.get().state);
        if !state.with(py, |state| state.context_given) {
            let copy = copy_of_context(py)?;
            let old = state.with(py, |state| state.context.replace(copy));
            drop(old);
        }
        Self::watch(slf, Side::Reader)
    }

    /// Reads and sends no more: the transport does it in Python. Returns what was not sent.
    fn hand_over<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, PyBytes>> {
        let (_receiver, chunks) = self.state.with(py, |state| {
            state.size = 0;
            let _listed = state.sending.leave_list();
            (
                std::mem::replace(&mut state.receiver, Receiver::None),
                std::mem::take(&mut state.chunks),
            )
        });
        let unsent = chunks.iter().map(|chunk| chunk.unsent(py));
        unsent.map(|bytes| PyBytes::new(py, bytes)).collect()
    }

    /// Drops what was not sent.
    pub(crate) fn clear(&self, py: Python<'_>) {
        let dropped = self.state.with(py, |state| {
            state.size = 0;
            std::mem::take(&mut state.chunks)
        });
        drop(dropped);
    }

    /// Byte strings that wait to be sent.
    fn __len__(&self, py: Python<'_>) -> usize {
        self.state.with(py, |state| state.chunks.len())
    }

    /// Bytes that wait to be sent.
    pub(crate) fn size(&self, py: Python<'_>) -> usize {
        self.state.with(py, |state| state.size)
    }

    #[getter]
    pub(crate) fn closing(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| state.life.is_closing())
    }

    #[setter]
    fn set_closing(&self, py: Python<'_>, #[pyo3(from_py_with = truth)] closing: bool) {
        self.state.with(py, |state| state.life.set_closing(closing));
    }

    #[getter]
    fn paused(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| state.paused)
    }

    #[setter]
    fn set_paused(&self, py: Python<'_>, #[pyo3(from_py_with = truth)] paused: bool) {
        self.state.with(py, |state| state.paused = paused);
    }

    #[getter]
    fn eof(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| state.eof)
    }

    #[setter]
    fn set_eof(&self, py: Python<'_>, #[pyo3(from_py_with = truth)] eof: bool) {
        self.state.with(py, |state| state.eof = eof);
    }

    #[getter]
    pub(crate) fn lost(&self, py: Python<'_>) -> u32 {
        self.state.with(py, |state| state.life.lost())
    }

    #[setter]
    fn set_lost(&self, py: Python<'_>, lost: u32) {
        self.state.with(py, |state| state.life.set_lost(lost));
    }

    #[getter]
    fn protocol_paused(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| state.protocol_paused)
    }

    #[setter]
    fn set_protocol_paused(&self, py: Python<'_>, #[pyo3(from_py_with = truth)] paused: bool) {
        self.state.with(py, |state| state.protocol_paused = paused);
    }

    #[getter]
    fn read_max(&self, py: Python<'_>) -> usize {
        self.state
            .with(py, |state| state.uncommon.limits().read_max)
    }

    #[setter]
    fn set_read_max(&self, bytes: &Bound<'_, PyAny>) -> PyResult<()> {
        let limit = limit(bytes)?;
        self.change_limits(bytes.py(), |limits| limits.read_max = limit);
        Ok(())
    }

    #[getter]
    fn high_water(&self, py: Python<'_>) -> usize {
        self.state
            .with(py, |state| state.uncommon.limits().high_water)
    }

    #[setter]
    fn set_high_water(&self, bytes: &Bound<'_, PyAny>) -> PyResult<()> {
        let limit = limit(bytes)?;
        self.change_limits(bytes.py(), |limits| limits.high_water = limit);
        Ok(())
    }

    #[getter]
    fn low_water(&self, py: Python<'_>) -> usize {
        self.state
            .with(py, |state| state.uncommon.limits().low_water)
    }

    #[setter]
    fn set_low_water(&self, bytes: &Bound<'_, PyAny>) -> PyResult<()> {
        let limit = limit(bytes)?;
        self.change_limits(bytes.py(), |limits| limits.low_water = limit);
        Ok(())
    }

    #[getter]
    pub(crate) fn empty_waiter(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state.with(py, |state| {
            let waiter = state.uncommon.empty_waiter();
            waiter.map(|waiter| waiter.clone_ref(py))
        })
    }

    #[setter]
    fn set_empty_waiter(&self, py: Python<'_>, waiter: Option<Py<PyAny>>) {
        let old = self
            .state
            .with(py, |state| state.uncommon.set_empty_waiter(waiter));
        drop(old);
    }

    /// What the loop's log of slow callbacks reads from a handle.
    #[getter(_callback)]
    fn callback<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let method = self.state.with(py, |state| {
            let method = state.receiver.method();
            method.map(|(protocol, name)| (protocol.clone_ref(py), name))
        });
        match method {
            Some((protocol, name)) => protocol.bind(py).getattr_opt(name),
            None => Ok(None),
        }
    }

    /// As `_callback`: there is no handle, and so no traceback of where it was made.
    #[getter(_source_traceback)]
    fn source_traceback(&self) -> Option<Py<PyAny>> {
        None
    }

    fn __str__(&self, py: Python<'_>) -> PyResult<String> {
        match (self.callback(py)?, self.transport(py)) {
            (Some(call), Some(transport)) => {
                let (call, transport) = (call.repr()?, transport.repr()?);
                Ok(format!("{call} for {transport}"))
            }
            _ => Ok(self.__repr__(py)),
        }
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        self.state.with(py, |state| {
            format!(
                "<Stream fd={} unsent={} sending={:?} paused={} life={:?}>",
                self.fd, state.size, state.sending, state.paused, state.life
            )
        })
    }
}

impl Stream {
    /// Removes the stream from the loop's registry, if it is there.
    fn leave_registry(&self, py: Python<'_>) {
        if let Ok(fd) = usize::try_from(self.fd) {
            let streams = &self.event_loop.get().streams;
            streams.with(py, |streams| streams.leave(fd, self.address()));
        }
    }

    /// The address by which the loop's registry finds the stream, even when it is being dropped.
    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Has the loop watch the descriptor for one side.
    pub(super) fn watch(slf: &Bound<'_, Self>, side: Side) -> PyResult<()> {
        let stream = slf.get();
        add_stream(stream.event_loop.get(), slf.as_any(), stream.fd, side)
    }

    /// Has the loop watch that side no more.
    pub(super) fn forget(&self, py: Python<'_>, side: Side) -> PyResult<()> {
        remove_stream(self.event_loop.get(), py, self.fd, side)
    }

    /// The socket's descriptor; -1, which no call takes, once the socket is closed: another file
    /// may have the number by then.
    pub(crate) fn fd(&self, py: Python<'_>) -> i32 {
        self.state.with(py, |state| self.fd_of(state))
    }

    /// As `fd`.
    #[inline]
    pub(crate) fn fd_of(&self, state: &StreamState) -> i32 {
        match state.ends.as_ref().map(|ends| &ends.socket) {
            // SAFETY: attached, as the thread that has the state is; `is_standard` has checked it.
            Some(socket) if self.is_standard => unsafe {
                (*socket.as_ptr().cast::<RawSocket>()).fd
            },
            Some(_) => self.fd,
            None => -1,
        }
    }

    pub(crate) fn event_loop<'py>(&self, py: Python<'py>) -> &Bound<'py, LoopPort> {
        self.event_loop.bind(py)
    }

    /// Adds to what the loop counts.
    pub(crate) fn count(&self, py: Python<'_>, add: impl FnOnce(&mut Meter)) {
        let state = &self.event_loop.get().state;
        state.with(py, |state| add(&mut state.meter));
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: Python objects end in attached threads.
        let py = unsafe { Python::assume_attached() };
        self.leave_registry(py);
    }
}
