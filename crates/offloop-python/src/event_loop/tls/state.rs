//! What a TLS connection knows.
//!
//! Invariants: 1. The connection's library is called only by who has taken the connection out of
//!                the state, never inside `GilCell::with`: it may call functions of the program's,
//!                or let other threads run.
//!             2. As long as there is a connection, `socket` keeps the object that its callbacks
//!                name.
//! Threads:    the loop's.

use offloop_sys::openssl::{Connection, Failure};
use pyo3::exceptions::{PyMemoryError, PyRuntimeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use super::super::ground::cell::GilCell;
use super::super::streams::receiver::Receiver;
use super::super::streams::stream::Stream;

/// A connection that was taken over.
pub(super) struct Taken {
    pub(super) connection: Connection,
    /// The object of the interpreter's that has the `SSL` as well.
    pub(super) socket: Py<PyAny>,
}

impl Taken {
    /// The exception for a failure. An error of the library's is met again by Python's own `read`,
    /// which makes its exception of it and empties the thread's queue of errors: to be called
    /// before anything else that may use the library.
    pub(super) fn error(&self, py: Python<'_>, failure: Failure) -> PyErr {
        match failure {
            Failure::Memory => PyMemoryError::new_err(()),
            Failure::Library => match self.socket.call_method1(py, intern!(py, "read"), (1,)) {
                Err(error) => error,
                Ok(_) => PyRuntimeError::new_err("the TLS connection has failed"),
            },
        }
    }
}

/// What a connection knows.
pub(super) struct TlsState {
    /// There once the connection was taken over, unless it is `in_use`.
    pub(super) taken: Option<Taken>,
    /// The library is at work on the connection, which comes back afterwards.
    pub(super) in_use: bool,
    pub(super) protocol: Option<Py<PyAny>>,
    pub(super) stream: Option<Py<Stream>>,
    /// The deque of what could not be encrypted yet.
    pub(super) backlog: Option<Py<PyAny>>,
    pub(super) receiver: Receiver,
    pub(super) phase: Phase,
    /// The program wants no data for now.
    pub(super) app_reading_paused: bool,
    /// The program was told to write no more for now.
    pub(super) app_writing_paused: bool,
    /// The stream was told to read no more for now.
    pub(super) ssl_reading_paused: bool,
    /// The stream wants nothing more for now.
    pub(super) ssl_writing_paused: bool,
    pub(super) incoming_high_water: usize,
    pub(super) incoming_low_water: usize,
    pub(super) outgoing_high_water: usize,
    pub(super) outgoing_low_water: usize,
}

impl TlsState {
    pub(super) fn connection(&self) -> Option<&Connection> {
        self.taken.as_ref().map(|taken| &taken.connection)
    }

    pub(super) fn connection_mut(&mut self) -> Option<&mut Connection> {
        self.taken.as_mut().map(|taken| &mut taken.connection)
    }
}

/// Which of the standard protocol's states it is in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Data goes both ways.
    Wrapped,
    /// The program has closed; what was received is still delivered.
    Flushing,
    /// Before the handshake, and after the end.
    Other,
}

/// The native half of a TLS connection.
#[pyclass(frozen, module = "_offloop_worker._offloop")]
pub(crate) struct Tls {
    pub(super) state: GilCell<TlsState>,
}

impl Tls {
    /// Has the library work on the connection, which is not in the state meanwhile. `None` if it
    /// was not taken over, is over, or is worked on already. What a callback of the program's has
    /// raised meanwhile comes out here from Python 3.15 on; earlier versions keep it for a read of
    /// their own.
    pub(super) fn with_connection<R>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut Taken) -> R,
    ) -> PyResult<Option<R>> {
        let taken = self.state.with(py, |state| {
            let taken = state.taken.take()?;
            state.in_use = true;
            Some(taken)
        });
        let Some(mut taken) = taken else {
            return Ok(None);
        };
        let result = work(&mut taken);
        let raised = PyErr::take(py);
        let over = self.state.with(py, |state| {
            if std::mem::take(&mut state.in_use) {
                state.taken.replace(taken)
            } else {
                Some(taken)
            }
        });
        drop(over);
        raised.map_or(Ok(Some(result)), Err)
    }

    pub(super) fn keep(&self, py: Python<'_>, received: &[u8]) -> PyResult<()> {
        let kept = self.state.with(py, |state| {
            let connection = state.connection_mut();
            connection.map_or(Ok(()), |connection| connection.keep(received))
        });
        kept.map_err(|_| PyMemoryError::new_err(()))
    }

    /// Ends the connection for an error, as the standard protocol does.
    pub(super) fn fail(&self, py: Python<'_>, error: PyErr) -> PyResult<()> {
        let Some(protocol) = self.protocol(py) else {
            return Err(error);
        };
        let arguments = (error.into_value(py), "Fatal error on SSL protocol");
        protocol.call_method1(intern!(py, "_fatal_error"), arguments)?;
        Ok(())
    }

    pub(super) fn protocol<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.state.with(py, |state| {
            let protocol = state.protocol.as_ref();
            protocol.map(|protocol| protocol.bind(py).clone())
        })
    }

    /// Has the standard protocol go on with what was received, once it is its turn.
    pub(super) fn read_soon(&self, py: Python<'_>) -> PyResult<()> {
        let stream = self
            .state
            .with(py, |state| Some(state.stream.as_ref()?.clone_ref(py)));
        if let (Some(protocol), Some(stream)) = (self.protocol(py), stream) {
            let read = protocol.getattr(intern!(py, "_do_read"))?;
            let event_loop = stream.get().event_loop(py);
            event_loop.call_method1(intern!(py, "call_soon"), (read,))?;
        }
        Ok(())
    }

    /// Calls a method of the standard protocol, unless that is gone.
    pub(super) fn call_protocol(
        &self,
        py: Python<'_>,
        method: &Bound<'_, PyString>,
    ) -> PyResult<()> {
        if let Some(protocol) = self.protocol(py) {
            protocol.call_method0(method)?;
        }
        Ok(())
    }
}

/// Bytes with these contents, or an error where `PyBytes::new` would panic.
pub(super) fn copied<'py>(py: Python<'py>, contents: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    PyBytes::new_with(py, contents.len(), |room| {
        room.copy_from_slice(contents);
        Ok(())
    })
}
