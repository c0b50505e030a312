//! Writing of streams: sent within the call, as far as the kernel has room.
//!
//! When `write` returns, the bytes are in the kernel, unless something waits before them or there
//! was no room: what is left then goes out when the socket has room again. What waits is held by
//! reference until it is sent; what can change is copied, but only as far as it has to wait.
//!
//! A loop that gathers writes sends at the end of the round instead: what one round writes to a
//! stream goes out in one system call, before the loop looks whether it may sleep; much at once is
//! sent at once.
//!
//! Units:      bytes.
//! Invariants: 1. `size` is the sum of what the chunks still hold.
//!             2. Chunks hold exact `bytes`, or memory of ours: they cannot change, and dropping
//!                them runs no code.
//!             3. Nothing is sent once `lost` is set.
//! Errors:     as the standard transport: its own methods report them.
//! Source:     asyncio/selector_events.py; research on loops, section D2.

use std::io::{ErrorKind, IoSlice};

use offloop_sys::fork;
use offloop_sys::stream::{BUFFERS_MAX, send, send_from, send_vectored};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView, PyString};
use pyo3::{ffi, intern};

use super::stream::{Chunk, Payload, Stream, StreamState};
use super::view::View;
use super::watch::{Side, add_stream, remove_stream};
use super::{LoopCore, os_error};

/// Empty queues kept for streams that begin to write: as many as write in a busy round.
const SPARE_QUEUES: usize = 64;
/// Longer queues are not kept, in chunks.
const SPARE_QUEUE_MAX: usize = 16;
/// So much is not kept for the end of the round: it fills a socket's buffer by itself.
const SEND_AT_ONCE: usize = 64 * 1024;

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
pub(super) fn write(
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
pub(super) fn writelines(
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

    /// Whether `len` bytes are sent within the call that writes them: nothing waits before them,
    /// and the loop does not gather. One that gathers sends at once while no round is run, whose
    /// end would come, and what is much.
    fn sends_now(&self, py: Python<'_>, len: usize) -> bool {
        let (gathers, running) = self.gathers(py);
        self.state.with(py, |state| {
            let idle = !state.blocked && state.chunks.is_empty();
            idle && (!gathers || (state.takes_now() && (!running || len >= state.much())))
        })
    }

    /// Whether the loop gathers writes, and whether it runs rounds now.
    fn gathers(&self, py: Python<'_>) -> (bool, bool) {
        let state = &self.event_loop(py).get().state;
        state.with(py, |state| (state.gather_writes, state.running))
    }
}

impl StreamState {
    /// Whether sending calls no method of the protocol, which expects none inside `write`.
    fn takes_now(&self) -> bool {
        !self.blocked && !self.closing && !self.protocol_paused
    }

    /// So many bytes do not wait for the end of a round.
    fn much(&self) -> usize {
        SEND_AT_ONCE.min(self.uncommon.limits().high_water.saturating_add(1))
    }
}

/// Memory of records that wait for the end of the round, of which nothing was sent: more of them
/// can be appended before they are written again.
pub(super) fn take_unsent_records(py: Python<'_>, stream: &Stream) -> Option<Vec<u8>> {
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
pub(super) fn write_records(slf: &Bound<'_, Stream>, records: Vec<u8>) -> PyResult<()> {
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
    let core = stream.event_loop(py).get();
    let len = chunk.unsent(py).len();
    stream.state.with(py, |state| {
        if state.chunks.capacity() == 0 {
            let spare = core.state.with(py, |state| state.spare_queues.pop());
            state.chunks = spare.unwrap_or_default();
        }
        state.size += len;
        state.chunks.push_back(chunk);
    });
}

/// Sends what was queued: at once, or at the end of the round if the loop gathers writes; then the
/// protocol may have to pause.
fn sent_soon(slf: &Bound<'_, Stream>) -> PyResult<()> {
    let (py, stream) = (slf.py(), slf.get());
    let (gathers, running) = stream.gathers(py);
    let (at_once, schedule) = stream.state.with(py, |state| {
        let at_once = if gathers {
            state.takes_now() && (state.size >= state.much() || !running)
        } else {
            !state.blocked
        };
        let schedule = !state.blocked && !at_once && !state.scheduled;
        state.scheduled |= schedule;
        (at_once, schedule)
    });
    if at_once {
        flush(slf)?;
    } else if schedule {
        let unsent = slf.clone().unbind();
        let core = stream.event_loop(py).get();
        core.state.with(py, |state| state.unsent.push(unsent));
    }
    maybe_pause(py, stream)
}

fn maybe_pause(py: Python<'_>, stream: &Stream) -> PyResult<()> {
    let pause = stream.state.with(py, |state| {
        state.size > state.uncommon.limits().high_water && !state.protocol_paused
    });
    if pause {
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

/// Bytes that nobody can change: `bytes` themselves, or a copy of something else.
fn as_bytes<'py>(data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    if let Ok(bytes) = data.cast_exact::<PyBytes>() {
        return Ok(bytes.clone());
    }
    // Says what is wrong with others than buffers.
    PyMemoryView::from(data)?;
    copied(data)
}

fn copied<'py>(data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    let py = data.py();
    // SAFETY: attached; a new reference or an error that is set.
    let copy = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyBytes_FromObject(data.as_ptr()))? };
    Ok(copy.cast_into::<PyBytes>()?)
}

/// What one attempt to send came to.
enum Sent {
    /// Nothing more is to be sent on this connection.
    Lost,
    /// Nothing waits any more; whether somebody has waited for that.
    All(bool),
    /// More is left than is offered at once.
    More,
    /// There was no room for the rest.
    Some,
    Failed(std::io::Error),
}

/// Offers the kernel what waits, and forgets what it took.
fn offer(py: Python<'_>, fd: i32, state: &mut StreamState) -> Sent {
    if state.lost > 0 {
        return Sent::Lost;
    }
    let (offered, result) = match state.chunks.len() {
        0 => (0, Ok(0)),
        1 => {
            let bytes = state.chunks[0].unsent(py);
            (bytes.len(), send(fd, bytes))
        }
        _ => {
            let mut slices = [IoSlice::new(&[]); BUFFERS_MAX];
            let (mut count, mut offered) = (0, 0);
            for (slice, chunk) in slices.iter_mut().zip(&state.chunks) {
                let bytes = chunk.unsent(py);
                *slice = IoSlice::new(bytes);
                count += 1;
                offered += bytes.len();
            }
            (offered, send_vectored(fd, &slices[..count]))
        }
    };
    match result {
        Ok(count) => {
            forget_sent(py, state, count);
            if !state.chunks.is_empty() {
                return if count == offered {
                    Sent::More
                } else {
                    Sent::Some
                };
            }
            Sent::All(
                state.blocked
                    || state.protocol_paused
                    || state.closing
                    || state.eof
                    || state.uncommon.empty_waiter().is_some(),
            )
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => Sent::Some,
        Err(error) => Sent::Failed(error),
    }
}

/// Takes `count` bytes off the queue.
fn forget_sent(py: Python<'_>, state: &mut StreamState, mut count: usize) {
    state.size -= count;
    while let Some(chunk) = state.chunks.front_mut() {
        let left = chunk.unsent(py).len();
        if left > count {
            chunk.sent += count;
            break;
        }
        count -= left;
        // Dropped here: that runs no code (invariant 2).
        state.chunks.pop_front();
    }
}

/// Sends what waits, as far as there is room. Methods of the protocol are called in the stream's
/// context; what they raise is reported as that of any callback.
pub(super) fn flush_ready(slf: &Bound<'_, Stream>) -> PyResult<()> {
    let stream = slf.get();
    match send_waiting(slf) {
        Sent::Lost | Sent::All(false) => Ok(()),
        sent => stream.in_context(slf.py(), "_write_ready", || settle(slf, sent)),
    }
}

/// As `flush_ready`, inside a call of the program's.
fn flush(slf: &Bound<'_, Stream>) -> PyResult<()> {
    settle(slf, send_waiting(slf))
}

fn send_waiting(slf: &Bound<'_, Stream>) -> Sent {
    let (py, stream) = (slf.py(), slf.get());
    let mut count = 0;
    let outcome = loop {
        let sent = stream.state.with(py, |state| {
            let waiting = state.size;
            let sent = offer(py, stream.fd_of(state), state);
            count += (waiting - state.size) as u64;
            sent
        });
        if !matches!(sent, Sent::More) {
            break sent;
        }
    };
    let core = stream.event_loop(py).get();
    stream.state.with(py, |stream| {
        core.state.with(py, |state| {
            state.meter.bytes_sent += count;
            // An idle connection needs no queue.
            let spare = stream.chunks.is_empty() && stream.chunks.capacity() > 0;
            if spare {
                let queue = std::mem::take(&mut stream.chunks);
                if queue.capacity() <= SPARE_QUEUE_MAX && state.spare_queues.len() < SPARE_QUEUES {
                    state.spare_queues.push(queue);
                }
            }
        });
    });
    outcome
}

/// Does what follows from an attempt to send.
fn settle(slf: &Bound<'_, Stream>, sent: Sent) -> PyResult<()> {
    let py = slf.py();
    let stream = slf.get();
    match sent {
        Sent::Lost | Sent::More | Sent::All(false) => Ok(()),
        Sent::All(true) => emptied(slf),
        Sent::Some => {
            wait_for_room(slf)?;
            maybe_resume(py, stream)
        }
        Sent::Failed(error) => write_failed(slf, os_error(error)),
    }
}

/// Has the loop watch for room. What a round has gathered was perhaps written by several, none of
/// whose contexts is entered at its end.
fn wait_for_room(slf: &Bound<'_, Stream>) -> PyResult<()> {
    let blocked = |state: &mut StreamState| std::mem::replace(&mut state.blocked, true);
    let (py, stream) = (slf.py(), slf.get());
    if !stream.state.with(py, blocked) {
        if !stream.gathers(py).0 {
            stream.keep_writing_context(py)?;
        }
        add_stream(slf, Side::Writer)?;
    }
    Ok(())
}

fn maybe_resume(py: Python<'_>, stream: &Stream) -> PyResult<()> {
    let resume = stream.state.with(py, |state| {
        state.protocol_paused && state.size <= state.uncommon.limits().low_water
    });
    if resume {
        stream.call_transport(py, "_maybe_resume_protocol")?;
    }
    Ok(())
}

/// Watches no more for room.
fn unblock(slf: &Bound<'_, Stream>) -> PyResult<()> {
    let (py, stream) = (slf.py(), slf.get());
    if stream.unblock(py) {
        remove_stream(slf, Side::Writer)?;
    }
    Ok(())
}

/// Everything was sent.
fn emptied(slf: &Bound<'_, Stream>) -> PyResult<()> {
    let py = slf.py();
    let stream = slf.get();
    unblock(slf)?;
    maybe_resume(py, stream)?;
    let (waits, waiter, closing, eof) = stream.state.with(py, |state| {
        let waiter = state.uncommon.empty_waiter();
        let waiter = waiter.map(|waiter| waiter.clone_ref(py));
        // Whoever resumed may have aborted it, or written more for the end of this round.
        let waits = state.chunks.is_empty() && state.lost == 0;
        (waits, waiter, state.closing, state.eof)
    });
    if !waits {
        return Ok(());
    }
    if let Some(waiter) = waiter {
        let waiter = waiter.bind(py);
        if !waiter.call_method0("done")?.is_truthy()? {
            waiter.call_method1("set_result", (py.None(),))?;
        }
    }
    if closing {
        stream.state.with(py, |state| state.lost += 1);
        if let Some(transport) = stream.transport(py) {
            transport.call_method1("_call_connection_lost", (py.None(),))?;
        }
    } else if eof {
        stream.call_transport(py, "_shut_down_writing")?;
    }
    Ok(())
}

fn write_failed(slf: &Bound<'_, Stream>, error: PyErr) -> PyResult<()> {
    let py = slf.py();
    let stream = slf.get();
    unblock(slf)?;
    stream.clear(py);
    let waiter = stream.empty_waiter(py);
    let value = error.clone_ref(py);
    stream.fail(py, error, "Fatal write error on socket transport")?;
    if let Some(waiter) = waiter {
        let waiter = waiter.bind(py);
        if !waiter.call_method0("done")?.is_truthy()? {
            waiter.call_method1("set_exception", (value.into_value(py),))?;
        }
    }
    Ok(())
}

/// In a child that the program has forked: what was gathered then is its parent's to send. Done
/// before anything else is written, which is the child's own.
fn leave_to_parent(py: Python<'_>, core: &LoopCore) {
    if !core.state.with(py, |state| state.gather_writes) {
        return;
    }
    let forks = fork::generation();
    let unsent = core.state.with(py, |state| {
        let forked = std::mem::replace(&mut state.forks, forks) != forks;
        forked.then(|| std::mem::take(&mut state.unsent))
    });
    for stream in unsent.into_iter().flatten() {
        let stream = stream.get();
        stream.state.with(py, |state| state.scheduled = false);
        stream.clear(py);
    }
}

/// Sends what the streams have collected in this round; the first error that ends the run.
pub(super) fn flush_all(py: Python<'_>, core: &LoopCore) -> PyResult<()> {
    leave_to_parent(py, core);
    let mut result = Ok(());
    loop {
        let mut unsent = core
            .state
            .with(py, |state| std::mem::take(&mut state.unsent));
        if unsent.is_empty() {
            return result;
        }
        for stream in unsent.drain(..) {
            let stream = stream.bind(py);
            stream.get().state.with(py, |state| state.scheduled = false);
            result = result.and(flush_ready(stream));
        }
        core.state.with(py, |state| {
            if state.unsent.capacity() == 0 {
                state.unsent = unsent;
            }
        });
    }
}
