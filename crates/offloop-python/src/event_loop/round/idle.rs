//! What a watched loop has looked at before it waits for ever.
//!
//! A loop that has nothing to run, no timer and no descriptor but its own goes on only if another
//! thread wakes it. If it has tasks that await each other in a circle, these never end. A listener
//! is asked to look for them at that moment. Looking takes longer the more tasks there are, so the
//! loop spends no more than a hundredth of its time on that: where a look comes too early it waits
//! with a limit instead, and looks then.
//!
//! Errors:     those of the listener are unraisable.

use std::time::Duration;

use offloop_sys::clock::monotonic_ns;
use pyo3::prelude::*;

use super::loop_core::LoopCore;

/// What the loop watches for itself: the socket that signals are written to.
pub(super) const OWN_DESCRIPTORS: usize = 1;

/// A look takes one part in so many of the time.
const SHARE: u64 = 100;

/// What hears that a loop is idle.
pub(super) struct Idle {
    pub(super) told: Py<PyAny>,
    /// The next look is not before this, in nanoseconds.
    next_ns: u64,
}

impl Idle {
    pub(super) fn new(told: Py<PyAny>) -> Self {
        Self { told, next_ns: 0 }
    }
}

/// The loop is about to wait without a limit. Has the listener look; returns the limit with which
/// the loop is to wait if it is too early for that.
#[inline]
pub(super) fn look(event_loop: &Bound<'_, LoopCore>) -> Option<Duration> {
    let py = event_loop.py();
    let rounds = &event_loop.get().state;
    if rounds.with(py, |state| state.idle.is_none()) {
        return None;
    }
    look_now(event_loop)
}

#[cold]
fn look_now(event_loop: &Bound<'_, LoopCore>) -> Option<Duration> {
    let py = event_loop.py();
    let port = event_loop.as_super().get();
    if port.state.with(py, |state| state.watches.len()) > OWN_DESCRIPTORS {
        return None;
    }
    let rounds = &event_loop.get().state;
    let begin = monotonic_ns();
    let (told, next_ns) = rounds.with(py, |state| {
        let idle = state.idle.as_ref()?;
        Some((idle.told.clone_ref(py), idle.next_ns))
    })?;
    if begin < next_ns {
        return Some(Duration::from_nanos(next_ns - begin));
    }
    if let Err(error) = told.call1(py, (event_loop,)) {
        error.write_unraisable(py, Some(told.bind(py)));
    }
    let end = monotonic_ns();
    rounds.with(py, |state| {
        if let Some(idle) = &mut state.idle {
            idle.next_ns = end.saturating_add(end.saturating_sub(begin).saturating_mul(SHARE));
        }
    });
    None
}
