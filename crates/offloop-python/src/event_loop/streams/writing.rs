//! Writing of streams: sent within the call, as far as the kernel has room.
//!
//! What is sent now and what is kept is decided in `offloop_core::event_loop::Outgoing`. What waits
//! is held by reference until it is sent; what can change is copied, but only as far as it has to
//! wait.
//!
//! Units:      bytes.
//! Invariants: 1. `size` is the sum of what the chunks still hold.
//!             2. Chunks hold exact `bytes`, or memory of ours: they cannot change, and dropping
//!                them runs no code.
//!             3. Nothing is sent once the connection is lost.
//! Errors:     as the standard transport: its own methods report them.
//! Source:     asyncio/selector_events.py; research on loops, section D2.

use std::io::ErrorKind;

use offloop_core::event_loop::{Gathering, When};
use offloop_sys::stream::{send, send_from};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView, PyString};
use pyo3::{ffi, intern};

use super::super::ground::errors::os_error;
use super::super::ground::view::View;
use super::super::port::chunk::{Chunk, Payload};
use super::super::port::unsent::Unsent;
use super::flushing::{flush, leave_to_parent, wait_for_room, write_failed};
use super::state::StreamState;
use super::stream::Stream;

/// What a program writes.
enum Data<'a, 'py> {
    /// Cannot change, and may be kept.
    Bytes(&'a Bound<'py, PyBytes>),
    /// Can change once the view is gone.
    Memory(View),
}

impl Data<'_, '_> {
    fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.as_bytes().len(),
            Self::Memory(view) => view.len(),
        }
    }

    fn send(&self, fd: i32) -> std::io::Result<usize> {
        match self {
            Self::Bytes(bytes) => send(fd, bytes.as_bytes()),
            // SAFETY: the view is valid for reading its length while it is held.
            Self::Memory(view) => unsafe { send_from(fd, view.pointer(), view.len()) },
        }
    }

    /// What comes after the first `sent` bytes, to be kept.
    fn after(&self, py: Python<'_>, sent: usize) -> Chunk {
        match self {
            Self::Bytes(bytes) => Chunk {
                bytes: Payload::Object((*bytes).clone().unbind()),
                sent,
            },
            Self::Memory(view) => {
                // SAFETY: the view is valid for reading its length while it is held, and no Python
                // code runs meanwhile.
                let bytes = unsafe { std::slice::from_raw_parts(view.pointer(), view.len()) };
                let rest = PyBytes::new(py, bytes.get(sent..).unwrap_or_default());
                Chunk {
                    bytes: Payload::Object(rest.unbind()),
                    sent: 0,
                }
            }
        }
    }
}

/// As `transport.write`.
pub(crate) fn write(
    transport: &Bound<'_, PyAny>,
    slf: &Bound<'_, Stream>,
    data: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let (py, stream) = (slf.py(), slf.get());
    if let Ok(bytes) = data.cast_exact::<PyBytes>() {
        stream.check_writable(py, "write")?;
        return write_data(transport, slf, Data::Bytes(bytes));
    }
    check_type(transport, data)?;
    stream.check_writable(py, "write")?;
    match View::of(data, ffi::PyBUF_SIMPLE) {
        Some(view) => write_data(transport, slf, Data::Memory(view)),
        // Not in one piece.
        None => write_data(transport, slf, Data::Bytes(&copied(data)?)),
    }
}

/// Nothing of the program's is called while the data is held: it may change its buffer there.
fn write_data(
    transport: &Bound<'_, PyAny>,
    slf: &Bound<'_, Stream>,
    data: Data<'_, '_>,
) -> PyResult<()> {
    let (py, stream) = (slf.py(), slf.get());
    let len = data.len();
    if len == 0 {
        return Ok(());
    }
    if stream.lost(py) > 0 {
        drop(data);
        transport.call_method0(intern!(py, "_write_after_loss"))?;
        return Ok(());
    }
    let sent = if stream.sends_now(py, len) {
        match data.send(stream.fd(py)) {
            Ok(count) => {
                stream.count(py, |meter| meter.bytes_sent += count as u64);
                if count == len {
                    return Ok(());
                }
                Some(count)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Some(0),
            Err(error) => {
                drop(data);
                return write_failed(slf, os_error(error));
            }
        }
    } else {
        None
    };
    let chunk = data.after(py, sent.unwrap_or(0));
    drop(data);
    push(py, stream, chunk);
    if sent.is_some() {
        wait_for_room(slf)?;
        return maybe_pause(py, stream);
    }
    sent_soon(slf)
}

/// As `transport.writelines`.
pub(crate) fn writelines(
    transport: &Bound<'_, PyAny>,
    slf: &Bound<'_, Stream>,
    lines: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let py = slf.py();
    let stream = slf.get();
    stream.check_writable(py, "writelines")?;
    if !lines.is_truthy()? {
        return Ok(());
    }
    let lines: Vec<Bound<'_, PyBytes>> = lines
        .try_iter()?
        .map(|data| as_bytes(&data?))
        .collect::<PyResult<_>>()?;
    if stream.lost(py) > 0 && !lines.is_empty() {
        transport.call_method0(intern!(py, "_write_after_loss"))?;
        return Ok(());
    }
    for bytes in lines {
        if !bytes.as_bytes().is_empty() {
            let bytes = Payload::Object(bytes.unbind());
            push(py, stream, Chunk { bytes, sent: 0 });
        }
    }
    sent_soon(slf)
}

impl Stream {
    fn check_writable(&self, py: Python<'_>, method: &str) -> PyResult<()> {
        leave_to_parent(py, self.event_loop(py).get());
        let (eof, sending_file) = self.state.with(py, |state| {
            (state.eof, state.uncommon.empty_waiter().is_some())
        });
        if eof {
            let text = format!("Cannot call {method}() after write_eof()");
            return Err(PyRuntimeError::new_err(text));
        }
        if sending_file {
            let text = format!("unable to {method}; sendfile is in progress");
            return Err(PyRuntimeError::new_err(text));
        }
        Ok(())
    }

    /// Whether `len` bytes are offered to the kernel within the call that writes them.
    fn sends_now(&self, py: Python<'_>, len: usize) -> bool {
        let gathering = self.gathering(py);
        let outgoing = |state: &mut StreamState| state.outgoing();
        self.state.with(py, outgoing).sends_now(len, gathering)
    }

    /// Whether the loop keeps what is written for the end of the round.
    pub(super) fn gathering(&self, py: Python<'_>) -> Gathering {
        let unsent = &self.event_loop(py).get().unsent;
        unsent.with(py, |unsent| unsent.gathering())
    }
}

/// Memory of records that wait for the end of the round, of which nothing was sent: more of them
/// can be appended before they are written again.
pub(crate) fn take_unsent_records(py: Python<'_>, stream: &Stream) -> Option<Vec<u8>> {
    stream.state.with(py, |state| {
        let last = state
            .chunks
            .pop_back_if(|last| last.sent == 0 && matches!(last.bytes, Payload::Records(_)))?;
        let Payload::Records(bytes) = last.bytes else {
            return None;
        };
        state.size -= bytes.len();
        Some(bytes)
    })
}

/// Sends records of TLS.
pub(crate) fn write_records(slf: &Bound<'_, Stream>, records: Vec<u8>) -> PyResult<()> {
    let py = slf.py();
    let stream = slf.get();
    leave_to_parent(py, stream.event_loop(py).get());
    if stream.lost(py) > 0 {
        return stream.call_transport(py, "_write_after_loss");
    }
    let bytes = Payload::Records(records);
    push(py, stream, Chunk { bytes, sent: 0 });
    sent_soon(slf)
}

fn push(py: Python<'_>, stream: &Stream, chunk: Chunk) {
    let port = stream.event_loop(py).get();
    let len = chunk.unsent(py).len();
    stream.state.with(py, |state| {
        if state.chunks.capacity() == 0 {
            state.chunks = port.unsent.with(py, Unsent::queue);
        }
        state.size += len;
        state.chunks.push_back(chunk);
    });
}

/// Sends what was queued: at once, or at the end of the round if the loop gathers writes; then the
/// protocol may have to pause.
fn sent_soon(slf: &Bound<'_, Stream>) -> PyResult<()> {
    let (py, stream) = (slf.py(), slf.get());
    let gathering = stream.gathering(py);
    let (when, enters) = stream.state.with(py, |state| {
        let when = state.outgoing().when(gathering);
        (when, when == When::AtEnd && state.sending.list())
    });
    match when {
        When::AtOnce => flush(slf)?,
        When::AtEnd if enters => {
            let listed = slf.clone().into_any().unbind();
            let port = stream.event_loop(py).get();
            port.unsent.with(py, |unsent| unsent.list(listed));
        }
        When::AtEnd | When::Blocked => {}
    }
    maybe_pause(py, stream)
}

fn maybe_pause(py: Python<'_>, stream: &Stream) -> PyResult<()> {
    let outgoing = |state: &mut StreamState| state.outgoing();
    if stream.state.with(py, outgoing).pauses() {
        stream.call_transport(py, "_maybe_pause_protocol")?;
    }
    Ok(())
}

/// Lets the standard method refuse what it does not take, in the running version's words.
fn check_type(transport: &Bound<'_, PyAny>, data: &Bound<'_, PyAny>) -> PyResult<()> {
    let known = data.is_instance_of::<PyBytes>()
        || data.is_instance_of::<PyByteArray>()
        || data.is_instance_of::<PyMemoryView>();
    if !known {
        standard(transport, intern!(data.py(), "write"), data)?;
    }
    Ok(())
}

/// Calls the standard class's method.
fn standard(
    transport: &Bound<'_, PyAny>,
    method: &Bound<'_, PyString>,
    argument: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let py = transport.py();
    let class = py
        .import("asyncio.selector_events")?
        .getattr("_SelectorSocketTransport")?;
    class.getattr(method)?.call1((transport, argument))?;
    Ok(())
}

/// Bytes that cannot change: `bytes` themselves, or a copy of something else.
fn as_bytes<'py>(data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    if let Ok(bytes) = data.cast_exact::<PyBytes>() {
        return Ok(bytes.clone());
    }
    // Says what is wrong with an object that is no buffer.
    PyMemoryView::from(data)?;
    copied(data)
}

fn copied<'py>(data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    let py = data.py();
    // SAFETY: attached; a new reference or an error that is set.
    let copy = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyBytes_FromObject(data.as_ptr()))? };
    Ok(copy.cast_into::<PyBytes>()?)
}
