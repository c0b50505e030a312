//! TLS connections: the interpreter's own OpenSSL, called from here, reads and writes the records.
//!
//! The standard library makes the connection, with the program's `ssl.SSLContext`, and does the
//! handshake, the shutdown, the time limits and the flow control, in Python and once for each
//! connection. When the handshake is done, the native half takes the `SSL` out of the standard
//! object and does what is left for each packet. A connection that cannot be taken over, for which
//! `taking.rs` says the reasons, stays with the standard library's code for its whole life.
//!
//! Shape:      `state.rs` what is known of a connection · `taking.rs` the `SSL` of a standard
//!             object · `records.rs` from the socket to the protocol · `sealing.rs` from `write` to
//!             the socket. The methods that Python calls are here.
//! Threads:    the loop's.
//! Source:     asyncio/sslproto.py; docs/design/009-tls.md.

mod records;
mod sealing;
mod state;
mod taking;

use offloop_sys::openssl::Connection;
use pyo3::exceptions::PyMemoryError;
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

pub(crate) use records::read_ready;

use super::ground::arguments::truth;
use super::ground::cell::GilCell;
use super::ground::view::View;
use super::streams::receiver::Receiver;
use super::streams::stream::Stream;
use state::{Phase, Place, Taken, Tls, TlsState, copied};

#[pymethods]
impl Tls {
    #[new]
    fn new() -> Self {
        Self {
            state: GilCell::new(TlsState {
                place: Place::Nowhere,
                protocol: None,
                stream: None,
                backlog: None,
                receiver: Receiver::None,
                phase: Phase::Other,
                app_reading_paused: false,
                app_writing_paused: false,
                ssl_reading_paused: false,
                ssl_writing_paused: false,
                incoming_high_water: 0,
                incoming_low_water: 0,
                outgoing_high_water: 0,
                outgoing_low_water: 0,
            }),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // SAFETY: *collected*: attached, and never inside `with`.
        let py = unsafe { Python::assume_attached() };
        self.state.with(py, |state| {
            if let Place::Here(taken) = &state.place {
                visit.call(&taken.socket)?;
            }
            visit.call(&state.protocol)?;
            visit.call(&state.backlog)?;
            visit.call(&state.stream)?;
            state.receiver.traverse(&visit)
        })
    }

    fn __clear__(&self, py: Python<'_>) {
        self.detach(py);
    }

    /// Connects the native half with its protocol, and with the stream below that.
    fn connect(&self, py: Python<'_>, protocol: Py<PyAny>, stream: Option<Py<Stream>>) {
        let old = self.state.with(py, |state| {
            (
                state.protocol.replace(protocol),
                std::mem::replace(&mut state.stream, stream),
            )
        });
        drop(old);
    }

    /// Takes the connection over from the standard objects, if that can be done. Returns whether it
    /// was.
    fn take_over(
        &self,
        ssl_object: &Bound<'_, PyAny>,
        context: &Bound<'_, PyAny>,
        incoming: &Bound<'_, PyAny>,
        outgoing: &Bound<'_, PyAny>,
        backlog: Py<PyAny>,
    ) -> PyResult<bool> {
        let py = ssl_object.py();
        if self.state.with(py, |state| state.stream.is_none()) {
            return Ok(false);
        }
        let Some((mut connection, socket)) =
            taking::take_over(ssl_object, context, incoming, outgoing)?
        else {
            return Ok(false);
        };
        let received = incoming
            .call_method0(intern!(py, "read"))?
            .cast_into::<PyBytes>()?;
        let unsent = outgoing
            .call_method0(intern!(py, "read"))?
            .cast_into::<PyBytes>()?;
        let mut records = Vec::new();
        connection
            .keep(received.as_bytes())
            .and_then(|()| Ok(records.try_reserve_exact(unsent.as_bytes().len())?))
            .map_err(|_| PyMemoryError::new_err(()))?;
        records.extend_from_slice(unsent.as_bytes());
        connection.swap_output(records);
        self.state.with(py, |state| {
            state.place = Place::Here(Taken { connection, socket });
            state.backlog = Some(backlog);
        });
        Ok(true)
    }

    /// Drops everything: the connection is over.
    fn detach(&self, py: Python<'_>) {
        let held = self.state.with(py, |state| {
            state.phase = Phase::Other;
            (
                // A connection that is lent is dropped when it is given back.
                std::mem::replace(&mut state.place, Place::Nowhere),
                state.protocol.take(),
                state.stream.take(),
                state.backlog.take(),
                std::mem::replace(&mut state.receiver, Receiver::None),
            )
        });
        drop(held);
    }

    /// Gives data to `protocol` from now on.
    fn set_protocol(&self, protocol: &Bound<'_, PyAny>, buffered: bool) -> PyResult<()> {
        let py = protocol.py();
        let receiver = Receiver::of(protocol, buffered)?;
        let old = self
            .state
            .with(py, |state| std::mem::replace(&mut state.receiver, receiver));
        drop(old);
        Ok(())
    }

    /// The connection was taken over.
    #[getter]
    fn taken(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| state.place.is_taken())
    }

    /// The state of the standard protocol, by the name that it has there.
    fn set_phase(&self, py: Python<'_>, name: &str) {
        let phase = match name {
            "WRAPPED" => Phase::Wrapped,
            "FLUSHING" => Phase::Flushing,
            _ => Phase::Other,
        };
        self.state.with(py, |state| state.phase = phase);
    }

    /// Decrypts and delivers what was received.
    fn read(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let stream = slf.get().state.with(py, |state| {
            state.stream.as_ref().map(|stream| stream.clone_ref(py))
        });
        let Some(stream) = stream else {
            return Ok(());
        };
        let port = stream.get().event_loop(py).get();
        port.with_read_memory(py, |memory| records::deliver(slf.get(), py, &[], memory))
    }

    /// Bytes that were received, and wait to be decrypted. While the connection is lent, those that
    /// have arrived since.
    fn received(&self, py: Python<'_>) -> usize {
        self.state.with(py, |state| state.received_len())
    }

    /// Adds to what was received.
    fn receive(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let view = View::export(data, ffi::PyBUF_SIMPLE)?;
        if view.len() > 0 {
            // SAFETY: *held*, for reading; no Python code runs meanwhile, which could write it.
            let bytes = unsafe { std::slice::from_raw_parts(view.pointer(), view.len()) };
            self.keep(data.py(), bytes)?;
        }
        Ok(())
    }

    /// Bytes that are encrypted, and wait for the stream; none while the connection is lent.
    fn unsent(&self, py: Python<'_>) -> usize {
        self.state.with(py, |state| {
            state.connection().map_or(0, Connection::output_len)
        })
    }

    /// Takes the encrypted bytes.
    fn take_unsent<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = self.state.with(py, |state| {
            let connection = state.connection_mut();
            connection.map_or_else(Vec::new, |connection| connection.swap_output(Vec::new()))
        });
        copied(py, &bytes)
    }

    #[getter]
    fn app_reading_paused(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| state.app_reading_paused)
    }

    #[setter]
    fn set_app_reading_paused(&self, py: Python<'_>, #[pyo3(from_py_with = truth)] paused: bool) {
        self.state
            .with(py, |state| state.app_reading_paused = paused);
    }

    #[getter]
    fn app_writing_paused(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| state.app_writing_paused)
    }

    #[setter]
    fn set_app_writing_paused(&self, py: Python<'_>, #[pyo3(from_py_with = truth)] paused: bool) {
        self.state
            .with(py, |state| state.app_writing_paused = paused);
    }

    #[getter]
    fn ssl_reading_paused(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| state.ssl_reading_paused)
    }

    #[setter]
    fn set_ssl_reading_paused(&self, py: Python<'_>, #[pyo3(from_py_with = truth)] paused: bool) {
        self.state
            .with(py, |state| state.ssl_reading_paused = paused);
    }

    #[getter]
    fn ssl_writing_paused(&self, py: Python<'_>) -> bool {
        self.state.with(py, |state| state.ssl_writing_paused)
    }

    #[setter]
    fn set_ssl_writing_paused(&self, py: Python<'_>, #[pyo3(from_py_with = truth)] paused: bool) {
        self.state
            .with(py, |state| state.ssl_writing_paused = paused);
    }

    #[getter]
    fn incoming_high_water(&self, py: Python<'_>) -> usize {
        self.state.with(py, |state| state.incoming_high_water)
    }

    #[setter]
    fn set_incoming_high_water(&self, py: Python<'_>, bytes: usize) {
        self.state
            .with(py, |state| state.incoming_high_water = bytes);
    }

    #[getter]
    fn incoming_low_water(&self, py: Python<'_>) -> usize {
        self.state.with(py, |state| state.incoming_low_water)
    }

    #[setter]
    fn set_incoming_low_water(&self, py: Python<'_>, bytes: usize) {
        self.state
            .with(py, |state| state.incoming_low_water = bytes);
    }

    #[getter]
    fn outgoing_high_water(&self, py: Python<'_>) -> usize {
        self.state.with(py, |state| state.outgoing_high_water)
    }

    #[setter]
    fn set_outgoing_high_water(&self, py: Python<'_>, bytes: usize) {
        self.state
            .with(py, |state| state.outgoing_high_water = bytes);
    }

    #[getter]
    fn outgoing_low_water(&self, py: Python<'_>) -> usize {
        self.state.with(py, |state| state.outgoing_low_water)
    }

    #[setter]
    fn set_outgoing_low_water(&self, py: Python<'_>, bytes: usize) {
        self.state
            .with(py, |state| state.outgoing_low_water = bytes);
    }
}

/// Puts the class, and what makes transports of it, into the module.
pub(crate) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Tls>()?;
    module.add_function(wrap_pyfunction!(sealing::add_tls_methods, module)?)
}
