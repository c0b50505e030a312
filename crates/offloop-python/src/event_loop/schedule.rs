//! What is to be run: the queue of ready handles, and the heap of timers.
//!
//! Cancelling costs nothing here: a cancelled handle is passed over when its turn comes. Cancelled
//! timers are counted, and swept out once they are most of a large heap.
//!
//! Shape:      a ring of entries; a binary heap ordered by time, then by the order of arrival.
//! Invariants: every method returns the handles that it lets go of, for the caller to drop when
//!             the state is no longer in use.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use super::handle::Handle;
use super::sock::Wait;
use super::stream::Stream;
use super::watch::Side;

/// Fewer timers are not worth sweeping. The standard loop's numbers.
const SWEEP_MIN: usize = 100;

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

    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Ours(handle) => handle.traverse(visit),
            Self::Foreign(handle) => visit.call(handle),
            Self::Stream(stream, _) => visit.call(stream),
            Self::Wait(wait) => wait.traverse(visit),
        }
    }
}

struct Timer {
    when: f64,
    sequence: u64,
    handle: Handle,
}

impl Ord for Timer {
    /// The earliest is the greatest, as `BinaryHeap` wants it.
    fn cmp(&self, other: &Self) -> Ordering {
        other
            .when
            .total_cmp(&self.when)
            .then_with(|| other.sequence.cmp(&self.sequence))
    }
}

impl PartialOrd for Timer {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Timer {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Timer {}

/// Everything that waits to be run.
#[derive(Default)]
pub(super) struct Schedule {
    ready: VecDeque<Entry>,
    timers: BinaryHeap<Timer>,
    sequence: u64,
    cancelled: usize,
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

    /// Adds a timer; when most of them are cancelled, those are swept out and returned.
    #[must_use]
    pub(super) fn push_timer(&mut self, handle: Handle) -> Vec<Handle> {
        let mut swept = Vec::new();
        self.sweep(&mut swept);
        handle.set_scheduled(true);
        self.sequence += 1;
        self.timers.push(Timer {
            when: handle.when(),
            sequence: self.sequence,
            handle,
        });
        swept
    }

    pub(super) fn count_cancelled(&mut self) {
        self.cancelled += 1;
    }

    pub(super) fn cancelled_timers(&self) -> usize {
        self.cancelled
    }

    /// When the next timer is due; cancelled ones before it move to `dropped`.
    pub(super) fn next_timer(&mut self, dropped: &mut Vec<Handle>) -> Option<f64> {
        self.sweep(dropped);
        while self.timers.peek()?.handle.is_cancelled() {
            self.cancelled = self.cancelled.saturating_sub(1);
            dropped.extend(self.pop_timer());
        }
        self.timers.peek().map(|timer| timer.when)
    }

    /// Takes the cancelled timers out, once they are most of a large heap.
    #[inline]
    fn sweep(&mut self, dropped: &mut Vec<Handle>) {
        if self.timers.len() <= SWEEP_MIN || self.cancelled * 2 <= self.timers.len() {
            return;
        }
        let mut timers = std::mem::take(&mut self.timers).into_vec();
        let cancelled = timers.extract_if(.., |timer| timer.handle.is_cancelled());
        dropped.extend(cancelled.map(|timer| {
            timer.handle.set_scheduled(false);
            timer.handle
        }));
        self.timers = timers.into();
        self.cancelled = 0;
    }

    fn pop_timer(&mut self) -> Option<Handle> {
        let handle = self.timers.pop()?.handle;
        handle.set_scheduled(false);
        Some(handle)
    }

    /// Moves the timers that are due before `end` to the queue.
    pub(super) fn release_due(&mut self, end: f64) {
        while self.timers.peek().is_some_and(|timer| timer.when < end) {
            if let Some(handle) = self.pop_timer() {
                if handle.is_cancelled() {
                    self.cancelled = self.cancelled.saturating_sub(1);
                }
                self.ready.push_back(Entry::Ours(handle));
            }
        }
    }

    pub(super) fn has_timers(&self) -> bool {
        !self.timers.is_empty()
    }

    pub(super) fn ready(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        self.ready.iter().map(|entry| entry.to_object(py)).collect()
    }

    pub(super) fn timers(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        let object = |timer: &Timer| timer.handle.to_object(py);
        self.timers.iter().map(object).collect()
    }

    /// Everything, for the caller to drop. None of it will run, whoever else has it.
    pub(super) fn take_all(&mut self) -> impl Sized + use<> {
        self.cancelled = 0;
        let timers = std::mem::take(&mut self.timers);
        let ready = std::mem::take(&mut self.ready);
        let mut contents = Vec::with_capacity(timers.len() + ready.len());
        for timer in &timers {
            timer.handle.set_scheduled(false);
            contents.push(timer.handle.take_contents());
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
        for timer in &self.timers {
            timer.handle.traverse(visit)?;
        }
        Ok(())
    }
}
