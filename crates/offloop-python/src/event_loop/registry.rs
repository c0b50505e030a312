//! The streams of a loop, by descriptor, without keeping them alive.
//!
//! The standard loop has a weak reference to each transport and its server has another one, which
//! take 240 bytes together. Here a stream takes itself off the list when it is over, or gone.
//!
//! Invariants: 1. A pointer in the list is that of a stream whose `Drop` has not begun, so it may
//!                be given a new reference: `Drop` calls `leave` before anything else, and nothing
//!                of Python's runs between the end of the last reference and that.
//! Threads:    any attached one.

use std::ptr;

use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};

use super::stream::Stream;

/// A stream, and the object in which it lies.
#[derive(Clone, Copy)]
struct Entry {
    stream: *const Stream,
    object: *mut ffi::PyObject,
}

/// Descriptors below have a place of their own; a process has more only if the system is told so.
const PLACES: usize = 1 << 20;

#[derive(Default)]
pub(super) struct Registry {
    /// The last stream that was made for each descriptor.
    last: Vec<Option<Entry>>,
    /// Few: streams that another one has displaced, after their socket was closed behind their
    /// backs, and those whose descriptor has no place.
    displaced: Vec<Entry>,
}

// SAFETY: pointers to objects that attached threads use, whichever those are.
unsafe impl Send for Registry {}

impl Registry {
    /// Adds a stream once; it calls `leave` when it is over, and as it goes.
    pub(super) fn enter(&mut self, fd: usize, stream: &Bound<'_, Stream>) {
        let entry = Entry {
            stream: ptr::from_ref(stream.get()),
            object: stream.as_ptr(),
        };
        if fd >= PLACES {
            self.displaced.push(entry);
            return;
        }
        if self.last.len() <= fd {
            self.last.resize(fd + 1, None);
        }
        let before = self.last[fd].replace(entry);
        self.displaced.extend(before);
    }

    /// Takes a stream off the list, if it is there.
    pub(super) fn leave(&mut self, fd: usize, stream: *const Stream) {
        let is_it = |entry: &Entry| entry.stream == stream;
        match self.last.get_mut(fd) {
            Some(last) if last.as_ref().is_some_and(is_it) => *last = None,
            _ => self.displaced.retain(|entry| !is_it(entry)),
        }
    }

    /// The last stream that was made for a descriptor.
    pub(super) fn at<'py>(&self, py: Python<'py>, fd: usize) -> Option<Bound<'py, Stream>> {
        let entry = if fd < PLACES {
            (*self.last.get(fd)?)?
        } else {
            // SAFETY: invariant 1.
            let has_it = |entry: &&Entry| unsafe { (*entry.stream).is_of(fd) };
            *self.displaced.iter().rev().find(has_it)?
        };
        // SAFETY: invariant 1.
        Some(unsafe { entry.stream(py) })
    }

    /// Every stream.
    pub(super) fn all<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, Stream>> {
        let entries = self.last.iter().flatten().chain(&self.displaced);
        // SAFETY: invariant 1.
        entries.map(|entry| unsafe { entry.stream(py) }).collect()
    }
}

/// The transport of a stream, which has the stream. While the loop goes on they keep each other
/// alive; once it is closed, a transport that nobody has is to be freed without the collector.
pub(super) enum Owner {
    Kept(Py<PyAny>),
    Known(Py<PyWeakrefReference>),
}

impl Owner {
    /// The transport, unless it is gone.
    pub(super) fn get<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        match self {
            Self::Kept(transport) => Some(transport.bind(py).clone()),
            Self::Known(reference) => reference.bind(py).upgrade(),
        }
    }

    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Kept(transport) => visit.call(transport),
            Self::Known(reference) => visit.call(reference),
        }
    }
}

impl Entry {
    /// A new reference to the stream.
    ///
    /// # Safety
    /// The object is alive.
    unsafe fn stream<'py>(&self, py: Python<'py>) -> Bound<'py, Stream> {
        // SAFETY: as above, and a stream is what it was made of.
        unsafe { Bound::from_borrowed_ptr(py, self.object).cast_into_unchecked() }
    }
}
