//! What is to be run: the queue of what is ready, and the timers that are not due yet.
//!
//! Cancelling costs nothing here: a cancelled handle is passed over when its turn comes.
//!
//! Invariants: every method returns the handles that it lets go of, for the caller to drop when
//!             the state is no longer in use.

use std::collections::VecDeque;

use offloop_core::event_loop::{Side, Timer, TimerQueue};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use super::super::handle::{Handle, TimerHandle};
use super::wait::Wait;

impl Timer for TimerHandle {
    /// A timer is an object of Python's.
    type Access<'py> = Python<'py>;

    #[inline]
    fn when(&self, py: Python<'_>) -> f64 {
        self.when(py)
    }

    #[inline]
    fn is_cancelled(&self, py: Python<'_>) -> bool {
        Handle::is_cancelled(self, py)
    }

    #[inline]
    fn set_scheduled(&self, py: Python<'_>, scheduled: bool) {
        Handle::set_scheduled(self, py, scheduled);
    }

    #[inline]
    fn wait_beside(&self, py: Python<'_>, other: &Self) {
        self.share_context(py, other);
    }
}

/// Something to run.
pub(crate) enum Entry {
    Ours(Handle),
    /// A handle that other code has put into the queue: the standard library does for signals.
    Foreign(Py<PyAny>),
    /// A stream that can read or write: an object of the streams' floor.
    Stream(Py<PyAny>, Side),
    /// A call on a socket that can go on.
    Wait(Box<Wait>),
}

impl Entry {
    pub(crate) fn is_cancelled(&self, py: Python<'_>) -> PyResult<bool> {
        match self {
            Self::Ours(handle) => Ok(handle.is_cancelled(py)),
            Self::Stream(..) | Self::Wait(_) => Ok(false),
            Self::Foreign(handle) => handle
                .bind(py)
                .getattr(pyo3::intern!(py, "_cancelled"))?
                .is_truthy(),
        }
    }

    pub(crate) fn to_object(&self, py: Python<'_>) -> Py<PyAny> {
        match self {
            Self::Ours(handle) => handle.to_object(py),
            Self::Foreign(handle) => handle.clone_ref(py),
            Self::Stream(stream, _) => stream.clone_ref(py),
            Self::Wait(wait) => wait.to_object(py),
        }
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
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
pub(crate) struct Schedule {
    /// The program has what was to be run, and nothing is taken out here.
    is_lent: bool,
    ready: VecDeque<Entry>,
    timers: TimerQueue<TimerHandle>,
}

impl Schedule {
    #[inline]
    pub(crate) fn push(&mut self, entry: Entry) {
        self.ready.push_back(entry);
    }

    /// The next entry; `None` also while the program has what is to be run.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Entry> {
        if self.is_lent {
            return None;
        }
        self.ready.pop_front()
    }

    /// The next entry, for the program to have.
    pub(crate) fn pop_lent(&mut self) -> Option<Entry> {
        self.ready.pop_front()
    }

    #[inline]
    pub(crate) fn is_lent(&self) -> bool {
        self.is_lent
    }

    pub(crate) fn set_lent(&mut self, is_lent: bool) {
        self.is_lent = is_lent;
    }

    pub(crate) fn ready_len(&self) -> usize {
        self.ready.len()
    }

    /// Adds a callback of ours; it shares the context of the one before it, if it can.
    #[inline]
    pub(crate) fn push_handle(&mut self, py: Python<'_>, handle: Handle) {
        if let Some(Entry::Ours(last)) = self.ready.back() {
            handle.share_context(py, last);
        }
        self.ready.push_back(Entry::Ours(handle));
    }

    /// Adds a timer; cancelled ones are swept out now and then, and returned.
    #[must_use]
    pub(crate) fn push_timer(&mut self, py: Python<'_>, timer: TimerHandle) -> Vec<TimerHandle> {
        self.timers.push(py, timer)
    }

    pub(crate) fn count_cancelled(&mut self) {
        self.timers.count_cancelled();
    }

    pub(crate) fn cancelled_timers(&self) -> usize {
        self.timers.cancelled()
    }

    /// When the next timer is due; cancelled ones before it move to `dropped`.
    pub(crate) fn next_timer(
        &mut self,
        py: Python<'_>,
        dropped: &mut Vec<TimerHandle>,
    ) -> Option<f64> {
        self.timers.next(py, dropped)
    }

    /// Moves the timers that are due before `end` to the queue; `fired` is told how late each is.
    pub(crate) fn release_due(&mut self, py: Python<'_>, end: f64, mut fired: impl FnMut(f64)) {
        while let Some(timer) = self.timers.pop_due(py, end) {
            if !timer.is_cancelled(py) {
                fired(end - timer.when(py));
            }
            self.ready.push_back(Entry::Ours(timer.into_handle()));
        }
    }

    /// When the last timer is due that is not cancelled.
    pub(crate) fn latest_timer(&self, py: Python<'_>) -> Option<f64> {
        self.timers.latest(py)
    }

    /// Timers that wait and are not cancelled.
    pub(crate) fn timers_len(&self) -> usize {
        self.timers.len().saturating_sub(self.timers.cancelled())
    }

    pub(crate) fn has_timers(&self) -> bool {
        !self.timers.is_empty()
    }

    /// Takes out all timers, in their order: the program's heap has them from now on.
    pub(crate) fn take_timers(&mut self) -> Vec<TimerHandle> {
        self.timers.take()
    }

    pub(crate) fn set_cancelled_timers(&mut self, count: usize) {
        self.timers.set_cancelled(count);
    }

    /// Takes back what the program had: `ready` goes before what has come since.
    #[must_use]
    pub(crate) fn put_back(
        &mut self,
        py: Python<'_>,
        ready: Vec<Entry>,
        timers: Vec<TimerHandle>,
    ) -> Vec<TimerHandle> {
        for entry in ready.into_iter().rev() {
            if let Entry::Ours(handle) = &entry {
                handle.set_scheduled(py, false);
            }
            self.ready.push_front(entry);
        }
        self.timers.put_back(py, timers)
    }

    /// Takes everything out, for the caller to drop. None of it will run, even if the program has
    /// it too.
    pub(crate) fn take_all(&mut self, py: Python<'_>) -> impl Sized + use<> {
        self.is_lent = false;
        let timers = std::mem::take(&mut self.timers);
        let ready = std::mem::take(&mut self.ready);
        let mut contents = Vec::with_capacity(timers.len() + ready.len());
        for handle in timers.iter() {
            Handle::set_scheduled(handle, py, false);
            contents.push(handle.take_contents(py));
        }
        for entry in &ready {
            if let Entry::Ours(handle) = entry {
                contents.push(handle.take_contents(py));
            }
        }
        (ready, timers, contents)
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        for entry in &self.ready {
            entry.traverse(visit)?;
        }
        let mut timers = self.timers.iter();
        timers.try_for_each(|handle| handle.traverse(visit))
    }
}
