//! What a TLS connection knows.
//!
//! Invariants: 1. The library is called only on a connection that was taken out of the state, and
//!                never inside `GilCell::with`: it may call functions of the program's, or let
//!                other threads run.
//!             2. As long as there is a connection, `socket` keeps the object that its callbacks
//!                name.
//!             3. What arrives while the connection is lent waits beside its place, in its order,
//!                and is read once the connection is back. The stream's flow control bounds it.
//! Threads:    the loop's.

use offloop_sys::openssl::{Connection, Failure};
use pyo3::exceptions::{PyMemoryError, PyRuntimeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyTuple};

use super::super::ground::cell::GilCell;
use super::super::streams::receiver::Receiver;
use super::super::streams::stream::Stream;

/// A connection that was taken over.
pub(super) struct Taken {
    pub(super) connection: Connection,
    /// The interpreter's own object, which has the same `SSL`.
    pub(super) socket: Py<PyAny>,
}

impl Taken {
    /// The exception for a failure. After an error of the library, Python's own `read` meets the
    /// error again, raises its exception, and empties the thread's queue of errors. So this has to
    /// be called before any other code that may use the library.
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

/// Where the connection is.
pub(super) enum Place {
    /// It was not taken over, or is over.
    Nowhere,
    Here(Taken),
    /// A call of the library has it, and gives it back at its end. What is received meanwhile waits
    /// here (invariant 3).
    Lent(Vec<u8>),
}

impl Place {
    /// Whether there is a connection, here or lent.
    pub(super) fn is_taken(&self) -> bool {
        !matches!(self, Self::Nowhere)
    }

    /// Lends the connection, if it is here.
    fn lend(&mut self) -> Option<Taken> {
        match std::mem::replace(self, Self::Lent(Vec::new())) {
            Self::Here(taken) => Some(taken),
            other => {
                *self = other;
                None
            }
        }
    }

    /// Takes the connection back, and gives it what has arrived meanwhile. Returns whether anything
    /// has; and the connection, for the caller to drop, if it is over.
    fn take_back(&mut self, mut taken: Taken) -> (Result<bool, OutOfMemory>, Option<Taken>) {
        let Self::Lent(arrived) = self else {
            return (Ok(false), Some(taken));
        };
        let any = !arrived.is_empty();
        let kept = taken.connection.keep(arrived);
        *self = Self::Here(taken);
        (kept.map(|()| any).map_err(|_| OutOfMemory), None)
    }
}

/// There was no memory for what has arrived.
pub(super) struct OutOfMemory;

/// What a connection knows.
pub(super) struct TlsState {
    pub(super) place: Place,
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
    /// The connection, unless it is lent.
    pub(super) fn connection(&self) -> Option<&Connection> {
        match &self.place {
            Place::Here(taken) => Some(&taken.connection),
            Place::Lent(_) | Place::Nowhere => None,
        }
    }

    /// The same, to be changed.
    pub(super) fn connection_mut(&mut self) -> Option<&mut Connection> {
        match &mut self.place {
            Place::Here(taken) => Some(&mut taken.connection),
            Place::Lent(_) | Place::Nowhere => None,
        }
    }

    /// Bytes that were received, and wait to be decrypted. While the connection is lent, those that
    /// have arrived since.
    pub(super) fn received_len(&self) -> usize {
        match &self.place {
            Place::Here(taken) => taken.connection.input_len(),
            Place::Lent(arrived) => arrived.len(),
            Place::Nowhere => 0,
        }
    }

    /// Adds to what was received.
    fn keep(&mut self, received: &[u8]) -> Result<(), OutOfMemory> {
        match &mut self.place {
            Place::Here(taken) => taken.connection.keep(received).map_err(|_| OutOfMemory),
            Place::Lent(arrived) => {
                arrived
                    .try_reserve(received.len())
                    .map_err(|_| OutOfMemory)?;
                arrived.extend_from_slice(received);
                Ok(())
            }
            // The connection is over, and nothing more will be read.
            Place::Nowhere => Ok(()),
        }
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
    /// Lends the connection to `work`, which calls the library. `None` if the connection was not
    /// taken over, is over, or is lent already. From Python 3.15 on this raises what a callback of
    /// the program's has raised meanwhile; earlier versions keep that for a read of their own.
    pub(super) fn with_connection<R>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut Taken) -> R,
    ) -> PyResult<Option<R>> {
        let Some(mut taken) = self.state.with(py, |state| state.place.lend()) else {
            return Ok(None);
        };
        let result = work(&mut taken);
        let raised = PyErr::take(py);
        let (arrived, over) = self.state.with(py, |state| state.place.take_back(taken));
        drop(over);
        let resumed = match arrived {
            Ok(true) => self.receive_soon(py),
            Ok(false) => Ok(()),
            Err(OutOfMemory) => Err(PyMemoryError::new_err(())),
        };
        match (resumed, raised) {
            (Ok(()), None) => Ok(Some(result)),
            (Ok(()), Some(raised)) => Err(raised),
            (Err(error), raised) => {
                error.set_cause(py, raised);
                Err(error)
            }
        }
    }

    /// Keeps what was received until the library wants it.
    pub(super) fn keep(&self, py: Python<'_>, received: &[u8]) -> PyResult<()> {
        let kept = self.state.with(py, |state| state.keep(received));
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

    /// Schedules a callback in which the standard protocol reads on.
    pub(super) fn read_soon(&self, py: Python<'_>) -> PyResult<()> {
        self.call_soon(py, |protocol| {
            (protocol.getattr(intern!(py, "_do_read"))?,).into_pyobject(py)
        })
    }

    /// Schedules a callback in which the standard protocol goes on with what was received, as its
    /// state says by then.
    fn receive_soon(&self, py: Python<'_>) -> PyResult<()> {
        self.call_soon(py, |protocol| {
            let received = protocol.getattr(intern!(py, "buffer_updated"))?;
            (received, 0).into_pyobject(py)
        })
    }

    /// Schedules a call of the standard protocol, unless the connection is over.
    fn call_soon<'py>(
        &self,
        py: Python<'py>,
        call: impl FnOnce(&Bound<'py, PyAny>) -> PyResult<Bound<'py, PyTuple>>,
    ) -> PyResult<()> {
        let stream = self
            .state
            .with(py, |state| Some(state.stream.as_ref()?.clone_ref(py)));
        if let (Some(protocol), Some(stream)) = (self.protocol(py), stream) {
            let event_loop = stream.get().event_loop(py);
            event_loop.call_method1(intern!(py, "call_soon"), call(&protocol)?)?;
        }
        Ok(())
    }

    /// Calls a method of the standard protocol, unless the connection is over.
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
