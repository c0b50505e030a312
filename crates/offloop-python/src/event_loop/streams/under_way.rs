//! Calls of a stream's protocol by the loop, which are marked in the stream while they last.
//!
//! A loop that goes on in another thread, while such a call still runs in the first, leaves the
//! stream alone: it neither reads nor feeds it, nor does it what follows from sending, nor is the
//! protocol told that the connection is lost. What became ready meanwhile is no longer watched,
//! and is watched again when the call has returned. What is decided is in
//! `offloop_core::event_loop::UnderWay`; the thread that is in a call enters the stream again, as
//! in the standard loop, when it runs the loop inside of the call.
//!
//! Threads:    any attached one. Between `forget` and the look at the mark other code may run,
//!             so the mark is looked at once more.

use std::mem::ManuallyDrop;

use offloop_core::event_loop::{Admission, SendAgain, Side};
use pyo3::intern;
use pyo3::prelude::*;

use super::super::ground::threads::{ThreadNumber, this_thread};
use super::state::StreamState;
use super::stream::Stream;
use super::uncommon::Postponed;

/// A call of a stream's protocol.
pub(super) struct Call<'a, 'py> {
    stream: &'a Bound<'py, Stream>,
    /// It has begun the mark, and ends it.
    begins: bool,
}

/// What has become of a call that was to begin.
pub(super) enum Begun<'a, 'py, R> {
    /// There is nothing to call.
    Nothing,
    /// A call is under way on another thread.
    Refused,
    /// It may be made.
    Call(Call<'a, 'py>, R),
}

impl<'a, 'py> Call<'a, 'py> {
    /// Marks a call that begins, if `look` finds in the same look at the state that there is one.
    #[inline]
    pub(super) fn begin<R>(
        stream: &'a Bound<'py, Stream>,
        look: impl FnOnce(&StreamState) -> Option<R>,
    ) -> Begun<'a, 'py, R> {
        let thread = this_thread();
        let begun = stream.get().state.with(stream.py(), |state| {
            let found = look(state)?;
            Some((state.under_way.enter(thread), found))
        });
        match begun {
            None => Begun::Nothing,
            Some((Admission::Refused, _)) => Begun::Refused,
            Some((admission, found)) => {
                let begins = admission == Admission::Begins;
                Begun::Call(Self { stream, begins }, found)
            }
        }
    }

    /// The call has returned, and the state is told by `note` of what it was. What was missed
    /// meanwhile is made up for.
    #[inline]
    pub(super) fn end(self, note: impl FnOnce(&mut StreamState)) -> PyResult<()> {
        let call = ManuallyDrop::new(self);
        let postponed = call.stream.get().state.with(call.stream.py(), |state| {
            note(state);
            call.leave(state)
        });
        postponed.map_or(Ok(()), |postponed| make_up(call.stream, postponed))
    }

    #[inline]
    fn leave(&self, state: &mut StreamState) -> Option<Postponed> {
        if !self.begins {
            return None;
        }
        state.under_way.leave();
        state.uncommon.take_postponed()
    }
}

impl Drop for Call<'_, '_> {
    /// A panic in the call.
    #[cold]
    fn drop(&mut self) {
        let (py, state) = (self.stream.py(), &self.stream.get().state);
        let postponed = state.with(py, |state| self.leave(state));
        let made_up = postponed.map(|postponed| make_up(self.stream, postponed));
        if let Some(Err(error)) = made_up {
            error.write_unraisable(py, Some(self.stream.as_any()));
        }
    }
}

/// Whether a call is under way on another thread than this one.
#[inline]
pub(super) fn is_elsewhere(state: &StreamState, thread: ThreadNumber) -> bool {
    state.under_way.refuses(thread)
}

/// A side of a stream is ready while a call is under way on another thread: the loop watches it no
/// more until that has returned, since the kernel would tell the same at every poll.
#[cold]
pub(super) fn postpone(slf: &Bound<'_, Stream>, side: Side) -> PyResult<()> {
    let (py, stream) = (slf.py(), slf.get());
    let wanted = stream.state.with(py, |state| match side {
        Side::Reader => state.reads(),
        Side::Writer => state.life.sends(),
    });
    if !wanted {
        // Paused, or over: it is not watched any more.
        return Ok(());
    }
    stream.forget(py, side)?;
    let postponed = stream.state.with(py, |state| {
        state.uncommon.note_missed(side);
        let returned = !is_elsewhere(state, this_thread());
        returned.then(|| state.uncommon.take_postponed()).flatten()
    });
    postponed.map_or(Ok(()), |postponed| make_up(slf, postponed))
}

/// Watches again what was ready while a call was under way, as far as it is still wanted, and has
/// the loop tell the protocol that the connection is lost.
#[cold]
fn make_up(slf: &Bound<'_, Stream>, postponed: Postponed) -> PyResult<()> {
    let Postponed { missed, loss } = postponed;
    let (py, stream) = (slf.py(), slf.get());
    let port = stream.event_loop(py).get();
    if port.is_closed(py) {
        return Ok(());
    }
    let (reads, sends) = stream.state.with(py, |state| {
        let reads = missed.reads_again(state.life, state.paused);
        (reads, missed.sends_again(state.life, &mut state.sending))
    });
    if let (Some(loss), Some(transport)) = (loss, stream.transport(py)) {
        let tell = transport.getattr(intern!(py, "_call_connection_lost"))?;
        stream
            .event_loop(py)
            .call_method1(intern!(py, "call_soon_threadsafe"), (tell, loss))?;
    }
    if reads {
        Stream::watch(slf, Side::Reader)?;
    }
    match sends {
        SendAgain::No => Ok(()),
        SendAgain::Watch => Stream::watch(slf, Side::Writer),
        SendAgain::List => {
            let stream = slf.clone().into_any().unbind();
            port.unsent.with(py, |unsent| unsent.list(stream));
            port.wake(py)
        }
    }
}
