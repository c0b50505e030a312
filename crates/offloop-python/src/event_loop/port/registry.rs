//! The streams of a loop, by descriptor, without keeping them alive.
//!
//! The standard loop has a weak reference to each transport and its server has another one, which
//! take 240 bytes together. Here a stream takes itself off the list when it is over, or dropped.
//!
//! Invariants: 1. A pointer in the list is that of a stream whose `Drop` has not begun, so it may
//!                be given a new reference: `Drop` calls `leave` before anything else, and nothing
//!                of Python's runs between the end of the last reference and that.
//! Threads:    any attached one.

use pyo3::ffi;
use pyo3::prelude::*;

/// A stream: an object of the streams' floor.
#[derive(Clone, Copy)]
struct Entry {
    fd: usize,
    /// The address of the native stream, by which `leave` finds it.
    address: usize,
    object: *mut ffi::PyObject,
}

/// Descriptors below this have a place of their own in `last`. A process has larger ones only if
/// the system's limit was raised.
const PLACES: usize = 1 << 20;

#[derive(Default)]
pub(crate) struct Registry {
    /// The last stream that was made for each descriptor.
    last: Vec<Option<Entry>>,
    /// Few: streams whose socket the program has closed, so that another stream got the
    /// descriptor; and streams whose descriptor has no place.
    displaced: Vec<Entry>,
}

// SAFETY: addresses of objects, which are used with a token (*attached*).
unsafe impl Send for Registry {}

impl Registry {
    /// Adds a stream, once. The stream calls `leave` when it is over, and when it is dropped.
    pub(crate) fn enter(&mut self, fd: usize, address: usize, object: &Bound<'_, PyAny>) {
        let entry = Entry {
            fd,
            address,
            object: object.as_ptr(),
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
    pub(crate) fn leave(&mut self, fd: usize, address: usize) {
        let is_it = |entry: &Entry| entry.address == address;
        match self.last.get_mut(fd) {
            Some(last) if last.as_ref().is_some_and(is_it) => *last = None,
            _ => self.displaced.retain(|entry| !is_it(entry)),
        }
    }

    /// The last stream that was made for a descriptor.
    pub(crate) fn at<'py>(&self, py: Python<'py>, fd: usize) -> Option<Bound<'py, PyAny>> {
        let entry = if fd < PLACES {
            (*self.last.get(fd)?)?
        } else {
            *self.displaced.iter().rev().find(|entry| entry.fd == fd)?
        };
        // SAFETY: invariant 1.
        Some(unsafe { entry.stream(py) })
    }

    /// Every stream.
    pub(crate) fn all<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, PyAny>> {
        let entries = self.last.iter().flatten().chain(&self.displaced);
        // SAFETY: invariant 1.
        entries.map(|entry| unsafe { entry.stream(py) }).collect()
    }
}

impl Entry {
    /// A new reference to the stream.
    ///
    /// # Safety
    /// The object is alive.
    unsafe fn stream<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        // SAFETY: *attached*; alive, as the caller says; a new reference is made.
        unsafe { Bound::from_borrowed_ptr(py, self.object) }
    }
}
