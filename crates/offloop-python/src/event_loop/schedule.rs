//! What is to be run: the queue of what is ready, and the timers that are not due yet.
//!
//! Cancelling costs nothing here: a cancelled handle is passed over when its turn comes.
//!
//! Invariants: every method returns the handles that it lets go of, for the caller to drop when
//!             the state is no longer in use.

use std::collections::VecDeque;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use super::handle::Handle;
use super::sock::Wait;
use super::stream::Stream;
use super::timers::Timers;
use super::watch::Side;

/// Something to run.
pub(super) enum Entry {
    Ours(Handle),
    /// A handle that somebody else has put into the queue: the standard library does for signals.
    Foreign(Py<PyAny>),
    /// A stream that can read or write.
    Stream(Py<Stream>, Side),
    /// A call on a socket that can go on.
    Wait(Box<Wait>),
}

impl Entry {
    pub(super) fn is_cancelled(&self, py: Python<'_>) -> PyResult<bool> {
        match self {
            Self::Ours(handle) => Ok(handle.is_cancelled()),
            Self::Stream(..) | Self::Wait(_) => Ok(false),
            Self::Foreign(handle) => handle
                .bind(py)
                .getattr(pyo3::intern!(py, "_cancelled"))?
                .is_truthy(),
        }
    }

    pub(super) fn to_object(&self, py: Python<'_>) -> Py<PyAny> {
        match self {
            Self::Ours(handle) => handle.to_object(py),
            Self::Foreign(handle) => handle.clone_ref(py),
            Self::Stream(stream, _) => stream.clone_ref(py).into_any(),
            Self::Wait(wait) => wait.to_object(py),
        }
    }

    /// The context in which a stream calls its protocol.
    pub(super) fn context(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        match self {
            Self::Stream(stream, side) => stream.get().context(py, *side),
            _ => None,
        }
    }

    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Ours(handle) => handle.traverse(visit),
            Self::Foreign(handle) => visit.call(handle),
            Self::Stream(stream, _) => visit.call(stream),
            Self::Wait(wait) => wait.traverse(visit),
        }
    }
}

/// Everything that waits to be run.
#[derive(Default)]
pub(super) struct Schedule {
    ready: VecDeque<Entry>,
    timers: Timers,
}

impl Schedule {
    #[inline]
    pub(super) fn push(&mut self, entry: Entry) {
        self.ready.push_back(entry);
    }

    #[inline]
    pub(super) fn pop(&mut self) -> Option<Entry> {
        self.ready.pop_front()
    }

    pub(super) fn ready_len(&self) -> usize {
        self.ready.len()
    }

    /// Adds a callback of ours; it shares the context of the one before it, if it can.
    #[inline]
    pub(super) fn push_handle(&mut self, handle: Handle) {
        if let Some(Entry::Ours(last)) = self.ready.back() {
            handle.share_context(last);
        }
        self.ready.push_back(Entry::Ours(handle));
    }

    /// Adds a timer; cancelled ones are swept out now and then, and returned.
    #[must_use]
    pub(super) fn push_timer(&mut self, handle: Handle) -> Vec<Handle> {
        self.timers.push(handle)
    }

    pub(super) fn count_cancelled(&mut self) {
        self.timers.count_cancelled();
    }

    pub(super) fn cancelled_timers(&self) -> usize {
        self.timers.cancelled()
    }

    /// When the next timer is due; cancelled ones before it move to `dropped`.
    pub(super) fn next_timer(&mut self, dropped: &mut Vec<Handle>) -> Option<f64> {
        self.timers.next(dropped)
    }

    /// Moves the timers that are due before `end` to the queue; `fired` is told how late each is.
    pub(super) fn release_due(&mut self, end: f64, mut fired: impl FnMut(f64)) {
        while let Some(handle) = self.timers.pop_due(end) {
            if !handle.is_cancelled() {
                fired(end - handle.when());
            }
            self.ready.push_back(Entry::Ours(handle));
        }
    }

    /// Timers that wait and are not cancelled.
    pub(super) fn timers_len(&self) -> usize {
        self.timers.len().saturating_sub(self.timers.cancelled())
    }

    pub(super) fn has_timers(&self) -> bool {
        !self.timers.is_empty()
    }

    /// All timers, in their order, which others keep from now on.
    pub(super) fn take_timers(&mut self) -> Vec<Handle> {
        self.timers.take()
    }

    pub(super) fn set_cancelled_timers(&mut self, count: usize) {
        self.timers.set_cancelled(count);
    }

    /// Takes back what others have kept: before what has come since, and all timers.
    #[must_use]
    pub(super) fn put_back(&mut self, ready: Vec<Entry>, timers: Vec<Handle>) -> Vec<Handle> {
        for entry in ready.into_iter().rev() {
            if let Entry::Ours(handle) = &entry {
                handle.set_scheduled(false);
            }
            self.ready.push_front(entry);
        }
        self.timers.put_back(timers)
    }

    /// Everything, for the caller to drop. None of it will run, whoever else has it.
    pub(super) fn take_all(&mut self) -> impl Sized + use<> {
        let timers = std::mem::take(&mut self.timers);
        let ready = std::mem::take(&mut self.ready);
        let mut contents = Vec::with_capacity(timers.len() + ready.len());
        for handle in timers.handles() {
            handle.set_scheduled(false);
            contents.push(handle.take_contents());
        }
        for entry in &ready {
            if let Entry::Ours(handle) = entry {
                contents.push(handle.take_contents());
            }
        }
        (ready, timers, contents)
    }

    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        for entry in &self.ready {
            entry.traverse(visit)?;
        }
        self.timers.traverse(visit)
    }
}
