//! Reading of streams: from the kernel to the protocol with as few copies as the protocol allows.
//!
//! `port/read_memory.rs` decides where the bytes that are read lie.
//!
//! A stream is read once in each round, even when more is left in the socket: the callbacks that
//! the protocol has scheduled run before it gets more. There a program may empty its only buffer,
//! or pause.
//!
//! Units:      bytes.
//! Errors:     what the protocol or the system raises closes the connection, as in the standard
//!             transport, whose methods report it.
//! Source:     asyncio/selector_events.py; research on loops, section D7.

use std::io::ErrorKind;

use offloop_core::event_loop::Side;
use offloop_sys::stream::{receive, receive_into, waiting};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::{ffi, intern};

use super::super::ground::errors::os_error;
use super::super::ground::view::View;
use super::super::handle::context::Entered;
use super::super::port::read_memory::{LARGE, READ_BYTES, ReadMemory};
use super::feeding::Feed;
use super::receiver::Receiver;
use super::stream::Stream;
use super::under_way::{Begun, Call, postpone};

/// How much the protocol got, if anything.
type Got = PyResult<Option<usize>>;

/// Reads a stream that is readable. Records of TLS are for `read_records`.
pub(crate) fn read_ready(
    slf: &Bound<'_, Stream>,
    entered: &Entered,
    memory: &mut ReadMemory,
    read_records: impl FnOnce(&Stream, &Bound<'_, PyAny>, &mut ReadMemory) -> Got,
) -> PyResult<()> {
    let py = slf.py();
    let stream = slf.get();
    let (call, context) = match Call::begin(slf, |state| {
        let context = state.context.as_ref();
        context.map(|context| context.clone_ref(py))
    }) {
        Begun::Call(call, context) => (call, context),
        Begun::Refused => return postpone(slf, Side::Reader),
        Begun::Nothing => return Ok(()),
    };
    // A context that is entered further down on the stack cannot be entered again.
    let got = match entered.switch(context.bind(py)) {
        Ok(()) => read_once(stream, py, memory, read_records),
        Err(error) => Err(error),
    };
    let (count, result) = match got {
        Ok(count) => (count, Ok(())),
        Err(error) => (None, stream.report(py, "_read_ready", Err(error))),
    };
    let ended = call.end(|state| {
        if let Some(count) = count {
            state.last_read = u32::try_from(count).unwrap_or(u32::MAX);
        }
    });
    result.and(ended)
}

fn read_once(
    stream: &Stream,
    py: Python<'_>,
    memory: &mut ReadMemory,
    read_records: impl FnOnce(&Stream, &Bound<'_, PyAny>, &mut ReadMemory) -> Got,
) -> Got {
    let (stop, receiver, sizes) = stream.state.with(py, |state| {
        let stop = !state.reads();
        let sizes = Sizes {
            last: state.last_read as usize,
            max: state.uncommon.limits().read_max,
        };
        (stop, state.receiver.clone_ref(py), sizes)
    });
    if stop {
        return Ok(None);
    }
    match receiver {
        Receiver::Data(protocol) => read_data(stream, protocol.bind(py), memory, sizes),
        Receiver::Reader(protocol) => read_feeding(stream, protocol.bind(py), memory, sizes),
        Receiver::Buffered(protocol) => read_buffered(stream, protocol.bind(py)),
        Receiver::Tls(tls) => read_records(stream, tls.bind(py), memory),
        Receiver::None => Ok(None),
    }
}

/// What a stream's last read brought, and what its next one may bring at most.
#[derive(Clone, Copy)]
struct Sizes {
    last: usize,
    max: usize,
}

/// Sorts out what the system answered: a count above zero is for the protocol.
pub(crate) fn received(
    py: Python<'_>,
    stream: &Stream,
    answer: std::io::Result<usize>,
) -> PyResult<Option<usize>> {
    match answer {
        Ok(0) => stream.call_transport(py, "_read_ready__on_eof")?,
        Ok(count) => {
            stream.count(py, |meter| meter.bytes_received += count as u64);
            return Ok(Some(count));
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
        Err(error) => {
            let message = "Fatal read error on socket transport";
            stream.fail(py, os_error(error), message)?;
        }
    }
    Ok(None)
}

fn data_failed(py: Python<'_>, stream: &Stream, error: PyErr) -> PyResult<Option<usize>> {
    let message = "Fatal error: protocol.data_received() call failed.";
    stream.fail(py, error, message)?;
    Ok(None)
}

/// Reads for `data_received`. Returns how much the protocol got, as all of these do.
fn read_data(
    stream: &Stream,
    protocol: &Bound<'_, PyAny>,
    memory: &mut ReadMemory,
    sizes: Sizes,
) -> PyResult<Option<usize>> {
    let py = protocol.py();
    let (answer, data) = match memory.receive(py, stream.fd(py), sizes.max, sizes.last)? {
        Ok(data) => (Ok(data.as_bytes().len()), Some(data)),
        Err(error) => (Err(error), None),
    };
    let Some(count) = received(py, stream, answer)? else {
        return Ok(None);
    };
    match protocol.call_method1(intern!(py, "data_received"), (data,)) {
        Ok(_) => Ok(Some(count)),
        Err(error) => data_failed(py, stream, error),
    }
}

/// Reads for a stream reader of the standard library's. Much data goes straight into its buffer.
fn read_feeding(
    stream: &Stream,
    protocol: &Bound<'_, PyAny>,
    memory: &mut ReadMemory,
    sizes: Sizes,
) -> PyResult<Option<usize>> {
    let py = protocol.py();
    let Some(feed) = Feed::begin(protocol) else {
        return read_data(stream, protocol, memory, sizes);
    };
    let fd = stream.fd(py);
    let len = if sizes.last < LARGE {
        0
    } else {
        waiting(fd).unwrap_or(0).min(sizes.max)
    };
    let (answer, in_place) = if len < LARGE {
        let buffer = &mut memory.buffer()[..sizes.max.min(READ_BYTES)];
        (receive(fd, buffer), false)
    } else {
        match feed.extend_with(len, |room| receive(fd, room)) {
            Ok(answer) => (answer, true),
            Err(error) => return data_failed(py, stream, error),
        }
    };
    let Some(count) = received(py, stream, answer)? else {
        return Ok(None);
    };
    let fed = if in_place {
        feed.finish()
    } else {
        feed.extend(&memory.buffer()[..count])
            .and_then(|()| feed.finish())
    };
    match fed {
        Ok(()) => Ok(Some(count)),
        Err(error) => data_failed(py, stream, error),
    }
}

/// Reads for `buffer_updated`.
fn read_buffered(stream: &Stream, protocol: &Bound<'_, PyAny>) -> PyResult<Option<usize>> {
    let py = protocol.py();
    let buffer = match buffer_of(protocol, -1) {
        Ok(buffer) => buffer,
        Err(error) => {
            let message = "Fatal error: protocol.get_buffer() call failed.";
            stream.fail(py, error, message)?;
            return Ok(None);
        }
    };
    let Some(view) = View::of(&buffer, ffi::PyBUF_WRITABLE) else {
        return unwritable(stream, &buffer);
    };
    // SAFETY: the view is valid for writing its length until it is released below.
    let answer = unsafe { receive_into(stream.fd(py), view.pointer(), view.len()) };
    drop(view);
    let Some(count) = received(py, stream, answer)? else {
        return Ok(None);
    };
    if let Err(error) = protocol.call_method1(intern!(py, "buffer_updated"), (count,)) {
        let message = "Fatal error: protocol.buffer_updated() call failed.";
        stream.fail(py, error, message)?;
        return Ok(None);
    }
    Ok(Some(count))
}

/// The buffer that `get_buffer` returns, which must not be empty.
pub(crate) fn buffer_of<'py>(
    protocol: &Bound<'py, PyAny>,
    hint: isize,
) -> PyResult<Bound<'py, PyAny>> {
    let buffer = protocol.call_method1(intern!(protocol.py(), "get_buffer"), (hint,))?;
    if buffer.len()? == 0 {
        return Err(PyRuntimeError::new_err(
            "get_buffer() returned an empty buffer",
        ));
    }
    Ok(buffer)
}

/// Has the socket's own method raise what is wrong with a buffer.
fn unwritable(stream: &Stream, buffer: &Bound<'_, PyAny>) -> PyResult<Option<usize>> {
    let py = buffer.py();
    let Some(transport) = stream.transport(py) else {
        return Ok(None);
    };
    let socket = transport.getattr(intern!(py, "_sock"))?;
    match socket.call_method1(intern!(py, "recv_into"), (buffer,)) {
        Ok(_) => Ok(None),
        Err(error) => {
            stream.fail(py, error, "Fatal read error on socket transport")?;
            Ok(None)
        }
    }
}
