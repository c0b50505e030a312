//! The table of descriptors: what waits for each of them, and epoll, which is told of it.
//!
//! What the kernel is told is decided in `offloop_core::event_loop::Descriptors`.

use std::io;

use offloop_core::event_loop::{Change, Descriptors, Interest, Kernel, Watcher};
use offloop_sys::readiness::{self, Readiness};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use super::super::handle::Handle;
use super::schedule::{Entry, Schedule};
use super::wait::Wait;

/// What waits for a descriptor, and is queued when that is ready.
pub(crate) enum Waiting {
    /// A callback of the program's, or of the standard library's.
    Handle(Handle),
    /// A stream, which reads or writes by itself.
    Stream(Py<PyAny>),
    /// A call on a socket, which waits once.
    Wait(Box<Wait>),
}

impl Waiting {
    fn to_object(&self, py: Python<'_>) -> Py<PyAny> {
        match self {
            Self::Handle(handle) => handle.to_object(py),
            Self::Stream(stream) => stream.clone_ref(py),
            Self::Wait(wait) => wait.to_object(py),
        }
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Handle(handle) => handle.traverse(visit),
            Self::Stream(stream) => visit.call(stream),
            Self::Wait(wait) => wait.traverse(visit),
        }
    }
}

impl Watcher for Waiting {
    #[inline]
    fn is_once(&self) -> bool {
        matches!(self, Self::Wait(_))
    }

    #[inline]
    fn may_have_file(&self) -> bool {
        matches!(self, Self::Handle(_))
    }
}

/// The descriptors of a loop, each with the file object by which the program named it.
pub(crate) type Watches = Descriptors<Waiting, Py<PyAny>>;
pub(super) type Exchange = Change<Waiting, Py<PyAny>>;

/// The kernel as the table of descriptors sees it.
pub(super) struct Epoll<'a>(pub(super) &'a Readiness);

/// The interest as `offloop-sys` has it.
const fn told(interest: Interest) -> readiness::Interest {
    readiness::Interest {
        read: interest.read,
        write: interest.write,
        once: interest.once,
    }
}

impl Kernel for Epoll<'_> {
    type Error = io::Error;

    fn impossible() -> io::Error {
        io::ErrorKind::InvalidInput.into()
    }

    fn is_unknown(error: &io::Error) -> bool {
        error.kind() == io::ErrorKind::NotFound
    }

    fn is_closed(error: &io::Error) -> bool {
        error.raw_os_error() == Some(offloop_sys::stream::BAD_DESCRIPTOR)
    }

    fn add(&self, fd: i32, interest: Interest) -> io::Result<()> {
        self.0.change(fd, readiness::Interest::NONE, told(interest))
    }

    fn modify(&self, fd: i32, interest: Interest) -> io::Result<()> {
        self.0.modify(fd, told(interest))
    }

    fn forget(&self, fd: i32) -> io::Result<()> {
        self.0.forget(fd)
    }

    fn renew(&self) -> io::Result<()> {
        self.0.renew()
    }
}

/// Queues what waits for `fd` to be ready; false when nothing watches `fd` (`Descriptors::ready`).
pub(crate) fn queue_ready(
    py: Python<'_>,
    (watches, schedule): (&mut Watches, &mut Schedule),
    readiness: &Readiness,
    fd: i32,
    ready: readiness::Interest,
) -> bool {
    let ready = Interest {
        read: ready.read,
        write: ready.write,
        once: ready.once,
    };
    watches.ready(&Epoll(readiness), fd, ready, |side, place| {
        let entry = match place {
            Some(Waiting::Handle(handle)) => Some(Entry::Ours(handle.clone_ref(py))),
            Some(Waiting::Stream(stream)) => Some(Entry::Stream(stream.clone_ref(py), side)),
            // It waits once, so it leaves the table.
            Some(Waiting::Wait(_)) => match place.take() {
                Some(Waiting::Wait(wait)) => Some(Entry::Wait(wait)),
                _ => None,
            },
            None => None,
        };
        entry.into_iter().for_each(|entry| schedule.push(entry));
    })
}

/// Has the kernel forget the descriptors that are not watched any more.
pub(crate) fn renew(watches: &mut Watches, readiness: &Readiness) -> io::Result<()> {
    watches.renew(&Epoll(readiness))
}

/// What waits for a descriptor: its reader, and its writer.
pub(crate) fn watched(watches: &Watches, py: Python<'_>, fd: i32) -> [Option<Py<PyAny>>; 2] {
    let watchers = watches.watchers_at(fd);
    watchers.map(|watcher| watcher.map(|watcher| watcher.to_object(py)))
}

/// Shows the collector all that waits, and the file objects that name descriptors.
pub(crate) fn traverse(watches: &Watches, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
    let mut files = watches.files();
    files.try_for_each(|file| visit.call(file))?;
    let mut watchers = watches.watchers();
    watchers.try_for_each(|watcher| watcher.traverse(visit))
}
