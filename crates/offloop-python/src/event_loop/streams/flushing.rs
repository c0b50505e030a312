//! Sending of what waits in streams, as far as the kernel has room, and what follows from it.
//!
//! Invariants: 1. Nothing is sent once the connection is lost.
//!             2. Chunks hold exact `bytes`, or memory of ours: dropping them runs no code.
//! Errors:     as the standard transport: its own methods report them.
//! Source:     asyncio/selector_events.py; research on loops, section D2.

use std::collections::VecDeque;
use std::io::{ErrorKind, IoSlice};

use offloop_core::event_loop::{Gathering, Left, RunNumber, Side, take_sent};
use offloop_sys::stream::{BUFFERS_MAX, send, send_vectored};
use pyo3::prelude::*;

use super::super::ground::errors::os_error;
use super::super::ground::threads::this_thread;
use super::super::port::LoopPort;
use super::super::port::chunk::Chunk;
use super::super::port::marks::Mark;
use super::super::port::unsent::Unsent;
use super::state::StreamState;
use super::stream::Stream;
use super::under_way::{Begun, Call, is_elsewhere, postpone};

/// What one attempt to send came to.
enum Sent {
    /// Nothing more is to be sent on this connection.
    Lost,
    /// Nothing waits any more; whether something else waits for that.
    All(bool),
    /// More is left than is offered at once.
    More,
    /// There was no room for the rest.
    Some,
    Failed(std::io::Error),
}

/// Offers the kernel what waits, and forgets what it took.
fn offer(py: Python<'_>, fd: i32, state: &mut StreamState) -> Sent {
    if !state.life.sends() {
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
            match forget_sent(py, state, offered, count) {
                Left::MoreToOffer => return Sent::More,
                Left::NoRoom => return Sent::Some,
                Left::Nothing => {}
            }
            Sent::All(
                state.sending.is_blocked()
                    || state.protocol_paused
                    || state.life.is_closing()
                    || state.eof
                    || state.uncommon.empty_waiter().is_some(),
            )
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => Sent::Some,
        Err(error) => Sent::Failed(error),
    }
}

/// Takes `count` bytes off the queue: that drops chunks, which runs no code (invariant 2).
fn forget_sent(py: Python<'_>, state: &mut StreamState, offered: usize, count: usize) -> Left {
    state.size -= count;
    let unsent = |chunk: &Chunk| chunk.unsent(py).len();
    let advance = |chunk: &mut Chunk, count| chunk.sent += count;
    take_sent(&mut state.chunks, offered, count, unsent, advance)
}

/// The loop says that there is room.
pub(crate) fn flush_ready(slf: &Bound<'_, Stream>) -> PyResult<()> {
    let thread = this_thread();
    let is_elsewhere = |state: &mut StreamState| is_elsewhere(state, thread);
    if slf.get().state.with(slf.py(), is_elsewhere) {
        return postpone(slf, Side::Writer);
    }
    flush_now(slf)
}

/// Sends what waits, as far as there is room. Methods of the protocol are called in the stream's
/// context; what they raise is reported as that of any callback.
fn flush_now(slf: &Bound<'_, Stream>) -> PyResult<()> {
    let sent = match send_waiting(slf) {
        Sent::Lost | Sent::All(false) => return Ok(()),
        sent => sent,
    };
    let Begun::Call(call, ()) = Call::begin(slf, |_| Some(())) else {
        // The caller has looked, and no code of the program's has run since.
        return postpone(slf, Side::Writer);
    };
    let result = slf
        .get()
        .in_context(slf.py(), "_write_ready", || settle(slf, sent));
    result.and(call.end(|_| ()))
}

/// As `flush_now`, inside a call of the program's.
pub(super) fn flush(slf: &Bound<'_, Stream>) -> PyResult<()> {
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
    let port = stream.event_loop(py).get();
    port.state.with(py, |state| state.meter.bytes_sent += count);
    stream.state.with(py, |stream| {
        // An idle connection needs no queue.
        if stream.chunks.is_empty() && stream.chunks.capacity() > 0 {
            let queue = std::mem::take(&mut stream.chunks);
            port.unsent.with(py, |unsent| unsent.keep_queue(queue));
        }
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
pub(super) fn wait_for_room(slf: &Bound<'_, Stream>) -> PyResult<()> {
    let block = |state: &mut StreamState| state.sending.block();
    let (py, stream) = (slf.py(), slf.get());
    if stream.state.with(py, block) {
        if stream.gathering(py) == Gathering::Off {
            stream.keep_writing_context(py)?;
        }
        Stream::watch(slf, Side::Writer)?;
    }
    Ok(())
}

fn maybe_resume(py: Python<'_>, stream: &Stream) -> PyResult<()> {
    let outgoing = |state: &mut StreamState| state.outgoing();
    if stream.state.with(py, outgoing).resumes() {
        stream.call_transport(py, "_maybe_resume_protocol")?;
    }
    Ok(())
}

/// Watches no more for room.
fn unblock(slf: &Bound<'_, Stream>) -> PyResult<()> {
    let (py, stream) = (slf.py(), slf.get());
    if stream.unblock(py) {
        stream.forget(py, Side::Writer)?;
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
        // The protocol that was resumed may have aborted the connection, or written more.
        let waits = state.chunks.is_empty() && state.life.sends();
        (waits, waiter, state.life.is_closing(), state.eof)
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
        stream.state.with(py, |state| state.life.lose());
        if let Some(transport) = stream.transport(py) {
            transport.call_method1("_call_connection_lost", (py.None(),))?;
        }
    } else if eof {
        stream.call_transport(py, "_shut_down_writing")?;
    }
    Ok(())
}

pub(super) fn write_failed(slf: &Bound<'_, Stream>, error: PyErr) -> PyResult<()> {
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
pub(super) fn leave_to_parent(py: Python<'_>, port: &LoopPort) {
    if let Some(streams) = port.unsent.with(py, Unsent::take_of_parent) {
        forget_what_waits(py, streams);
    }
}

#[cold]
fn forget_what_waits(py: Python<'_>, streams: VecDeque<Py<PyAny>>) {
    // Nothing else is put there.
    let streams = streams.into_iter();
    for stream in streams.filter_map(|stream| stream.into_bound(py).cast_into::<Stream>().ok()) {
        let stream = stream.get();
        let _listed = stream.state.with(py, |state| state.sending.leave_list());
        stream.clear(py);
    }
}

/// Sends what the streams have collected; a run does for as long as it has the loop. Returns the
/// first error that ends the run.
pub(crate) fn flush_all(py: Python<'_>, port: &LoopPort, run: Option<RunNumber>) -> PyResult<()> {
    leave_to_parent(py, port);
    let armed = port.marks.are_armed(py);
    let mut result = Ok(());
    let thread = this_thread();
    loop {
        let goes_on = port
            .state
            .with(py, |state| run.is_none_or(|run| state.runs.has(run)));
        let unsent = goes_on
            .then(|| port.unsent.with(py, Unsent::next))
            .flatten();
        let Some(stream) = unsent else {
            return result;
        };
        let stream = stream.bind(py).cast::<Stream>()?;
        let sends = stream.get().state.with(py, |state| {
            let elsewhere = is_elsewhere(state, thread);
            let listed = state.sending.leave_list();
            if listed && elsewhere {
                // The thread that is in a call has it listed again.
                state.uncommon.note_missed(Side::Writer);
            }
            listed && !elsewhere
        });
        // SAFETY: alive: we have it.
        let mark = armed.then(|| unsafe { Mark::begin(py, &port.marks, stream.as_ptr()) });
        if sends {
            result = result.and(flush_now(stream));
        }
        drop(mark);
    }
}
