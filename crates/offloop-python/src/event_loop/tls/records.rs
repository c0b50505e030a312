//! Reading: from the socket through the library to the protocol.
//!
//! The library reads the received bytes where they lie. The plaintext of all records in them is
//! delivered at once: a short one through a buffer of the loop's, a long one decrypted into its
//! final place. Bytes that the library has not used are kept before the protocol is called.
//!
//! Units:      bytes.
//! Errors:     after an error of the library Python's own `read` is called at once. It meets the
//!             error again and raises its exception, with which the standard protocol closes the
//!             connection. No code of the program's runs between the two. The plaintext of the same
//!             pass is dropped, as the standard protocol does. What the program's protocol raises
//!             is reported as the standard protocol reports it.
//! Source:     asyncio/sslproto.py (`_do_read`).

use offloop_sys::openssl::{End, RECORD_BYTES, Read};
use offloop_sys::stream::receive;
use pyo3::exceptions::{PyAttributeError, PyException, PyMemoryError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use pyo3::{ffi, intern};

use super::super::ground::view::View;
use super::super::port::read_memory::{LARGE, ReadMemory, contents, set_len};
use super::super::streams::feeding::Feed;
use super::super::streams::reading::{buffer_of, received};
use super::super::streams::receiver::Receiver;
use super::super::streams::stream::Stream;
use super::sealing;
use super::state::{Phase, Place, Tls};

/// Room for the plaintext of less than `LARGE` received bytes, and of a record begun before.
const PLAIN_BYTES: usize = LARGE + RECORD_BYTES;

/// Reads for a TLS connection whose stream is readable.
pub(crate) fn read_ready(
    stream: &Stream,
    tls: &Bound<'_, PyAny>,
    memory: &mut ReadMemory,
) -> PyResult<Option<usize>> {
    let py = tls.py();
    let tls = tls.cast::<Tls>()?;
    let answer = receive(stream.fd(py), memory.buffer());
    let Some(count) = received(py, stream, answer)? else {
        return Ok(None);
    };
    let buffer = memory.take_buffer();
    let result = hand_over(py, tls.get(), &buffer.as_slice()[..count], memory);
    memory.put_buffer(buffer);
    match result {
        Ok(()) => Ok(Some(count)),
        Err(error) => {
            let message = "Fatal error: protocol.buffer_updated() call failed.";
            stream.fail(py, error, message)?;
            Ok(None)
        }
    }
}

fn hand_over(py: Python<'_>, tls: &Tls, received: &[u8], memory: &mut ReadMemory) -> PyResult<()> {
    let (lent, taken, phase) = tls.state.with(py, |state| {
        let lent = matches!(state.place, Place::Lent(_));
        (lent, state.place.is_taken(), state.phase)
    });
    if lent {
        // A call of the library runs rounds, in which this was read: it waits for that call's end.
        tls.keep(py, received)?;
        return control_reading(tls, py);
    }
    if taken && phase == Phase::Wrapped {
        return deliver(tls, py, received, memory);
    }
    let Some(protocol) = tls.protocol(py) else {
        return Ok(());
    };
    if taken {
        tls.keep(py, received)?;
        protocol.call_method1(intern!(py, "buffer_updated"), (0,))?;
    } else {
        protocol.call_method1(intern!(py, "_receive"), (PyBytes::new(py, received),))?;
    }
    Ok(())
}

/// Decrypts and delivers what was received, now and before, as far as the program wants it.
pub(crate) fn deliver(
    tls: &Tls,
    py: Python<'_>,
    received: &[u8],
    memory: &mut ReadMemory,
) -> PyResult<()> {
    let mut rest = received;
    let mut result = deliver_all(tls, py, &mut rest, memory);
    if result.is_err() {
        // What the library was not given before the error is kept.
        result = tls.keep(py, rest).and(result);
    }
    match result {
        Err(error) if error.is_instance_of::<PyException>(py) => tls.fail(py, error),
        other => other,
    }
}

fn deliver_all(
    tls: &Tls,
    py: Python<'_>,
    received: &mut &[u8],
    memory: &mut ReadMemory,
) -> PyResult<()> {
    let mut tried = false;
    loop {
        let receiver = tls.state.with(py, |state| {
            let here = matches!(state.place, Place::Here(_));
            let wanted = here && !state.app_reading_paused && state.phase != Phase::Other;
            wanted.then(|| state.receiver.clone_ref(py))
        });
        let Some(receiver) = receiver else {
            break;
        };
        tried = true;
        match deliver_once(tls, py, &receiver, received, memory)? {
            End::Full => {}
            End::Again => break,
            End::Ended => {
                tls.call_protocol(py, intern!(py, "_call_eof_received"))?;
                tls.call_protocol(py, intern!(py, "_start_shutdown"))?;
                break;
            }
        }
    }
    tls.keep(py, std::mem::take(received))?;
    if tried {
        sealing::go_on(tls, py)?;
    }
    control_reading(tls, py)
}

/// Has the stream pause or resume reading, as the standard protocol does.
fn control_reading(tls: &Tls, py: Python<'_>) -> PyResult<()> {
    let control = tls.state.with(py, |state| {
        let size = state.received_len();
        match &state.place {
            Place::Nowhere => false,
            // How much waits is not known before the connection is back.
            Place::Lent(_) if state.ssl_reading_paused => false,
            _ if state.ssl_reading_paused => size <= state.incoming_low_water,
            _ => size >= state.incoming_high_water,
        }
    });
    if control {
        tls.call_protocol(py, intern!(py, "_control_ssl_reading"))?;
    }
    Ok(())
}

/// Decrypts into the room, and keeps what was not used.
///
/// # Safety
/// `room` is valid for writing `len` bytes, whatever Python code runs meanwhile.
unsafe fn decrypt(
    tls: &Tls,
    py: Python<'_>,
    received: &mut &[u8],
    room: *mut u8,
    len: usize,
) -> PyResult<Read> {
    let read = tls.with_connection(py, |taken| {
        // SAFETY: the caller's.
        let read = unsafe { taken.connection.read_into(received, room, len) };
        let read = read.map_err(|failure| {
            let raised = PyErr::take(py);
            raised.unwrap_or_else(|| taken.error(py, failure))
        })?;
        let kept = taken.connection.keep(std::mem::take(received));
        kept.map_err(|_| PyMemoryError::new_err(()))?;
        Ok(read)
    });
    let end = End::Again;
    read?.unwrap_or(Ok(Read { count: 0, end }))
}

/// Hands the protocol what waits in one piece, as the standard protocol does, or as much as the
/// protocol has a buffer for. How much waits is bounded by flow control.
fn deliver_once(
    tls: &Tls,
    py: Python<'_>,
    receiver: &Receiver,
    received: &mut &[u8],
    memory: &mut ReadMemory,
) -> PyResult<End> {
    let waiting = received.len() + tls.received(py);
    match receiver {
        Receiver::Buffered(protocol) => {
            let protocol = protocol.bind(py);
            let hint = waiting.try_into().unwrap_or(isize::MAX);
            let view = View::export(&buffer_of(protocol, hint)?, ffi::PyBUF_WRITABLE)?;
            // SAFETY: *held*, for writing, until it is released.
            let read = unsafe { decrypt(tls, py, received, view.pointer(), view.len())? };
            drop(view);
            let full = matches!(read.end, End::Full);
            if full {
                // The callbacks that the protocol schedules now run before it gets more.
                tls.read_soon(py)?;
            }
            if read.count > 0 {
                protocol.call_method1(intern!(py, "buffer_updated"), (read.count,))?;
            }
            Ok(if full { End::Again } else { read.end })
        }
        Receiver::Reader(protocol) => match Feed::begin(protocol.bind(py)) {
            Some(feed) => deliver_feeding(tls, py, feed, received, waiting, memory),
            None => deliver_data(tls, protocol.bind(py), received, waiting, memory),
        },
        Receiver::Data(protocol) => deliver_data(tls, protocol.bind(py), received, waiting, memory),
        Receiver::Tls(_) | Receiver::None => Err(PyAttributeError::new_err(
            "the protocol has no attribute 'data_received'",
        )),
    }
}

fn deliver_data(
    tls: &Tls,
    protocol: &Bound<'_, PyAny>,
    received: &mut &[u8],
    waiting: usize,
    memory: &mut ReadMemory,
) -> PyResult<End> {
    let py = protocol.py();
    let call = |data: &Bound<'_, PyBytes>| {
        let method = intern!(py, "data_received");
        protocol.call_method1(method, (data,)).map(drop)
    };
    if waiting < LARGE {
        let room = memory.plain(PLAIN_BYTES);
        // SAFETY: room of that length, borrowed exclusively.
        let read = unsafe { decrypt(tls, py, received, room.as_mut_ptr(), room.len())? };
        if read.count > 0 {
            call(&PyBytes::new(py, &room[..read.count]))?;
        }
        return Ok(read.end);
    }
    let len = waiting + RECORD_BYTES;
    let kept = memory.large(py, len)?;
    // SAFETY: ours is the only reference, and the bytes have room for `len`.
    let read = unsafe { decrypt(tls, py, received, contents(&kept.bytes), len)? };
    let data = if read.count * 2 < kept.capacity || read.count < 2 {
        // SAFETY: so many bytes were written just now.
        let filled = unsafe { std::slice::from_raw_parts(contents(&kept.bytes), read.count) };
        PyBytes::new(py, filled)
    } else {
        // SAFETY: ours is the only reference, and the bytes have room for more.
        unsafe { set_len(&kept.bytes, read.count) };
        kept.bytes.bind(py).clone()
    };
    memory.keep(kept);
    if read.count > 0 {
        call(&data)?;
    }
    Ok(read.end)
}

/// As `deliver_data`, for a stream reader of the standard library's. Much plaintext goes straight
/// into its buffer.
fn deliver_feeding(
    tls: &Tls,
    py: Python<'_>,
    feed: Feed<'_>,
    received: &mut &[u8],
    waiting: usize,
    memory: &mut ReadMemory,
) -> PyResult<End> {
    let read = if waiting < LARGE {
        let room = memory.plain(PLAIN_BYTES);
        // SAFETY: room of that length, borrowed exclusively.
        let read = unsafe { decrypt(tls, py, received, room.as_mut_ptr(), room.len())? };
        feed.extend(&room[..read.count])?;
        read
    } else {
        let mut end = End::Again;
        let mut count = 0;
        let len = waiting + RECORD_BYTES;
        feed.extend_held(len, |room| {
            // SAFETY: room of that length, held for as long as this runs.
            let read = unsafe { decrypt(tls, py, received, room, len)? };
            (count, end) = (read.count, read.end);
            Ok(count)
        })?;
        Read { count, end }
    };
    if read.count > 0 {
        feed.finish()?;
    }
    Ok(read.end)
}
