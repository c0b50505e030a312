//! A call on a socket of the program's that waits until the socket can go on.

use offloop_core::event_loop::Side;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

/// What is to be done once the socket can go on.
pub(crate) enum Work {
    Receive(usize),
    /// Into this buffer.
    ReceiveInto(Py<PyAny>),
    /// The data, of which so many bytes were sent.
    Send(Py<PyAny>, usize),
}

impl Work {
    /// Whether a part of it is done, so that it cannot be done again from the start.
    pub(crate) fn has_begun(&self) -> bool {
        matches!(self, Self::Send(_, sent) if *sent > 0)
    }
}

/// A call that waits for its socket.
pub(crate) struct Wait {
    pub(crate) fd: i32,
    pub(crate) socket: Py<PyAny>,
    pub(crate) future: Py<PyAny>,
    pub(crate) work: Work,
}

impl Wait {
    pub(crate) fn fd(&self) -> i32 {
        self.fd
    }

    pub(crate) fn is_for(&self, future: &Bound<'_, PyAny>) -> bool {
        self.future.is(future)
    }

    pub(crate) fn to_object(&self, py: Python<'_>) -> Py<PyAny> {
        self.future.clone_ref(py)
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.socket)?;
        visit.call(&self.future)?;
        match &self.work {
            Work::Receive(_) => Ok(()),
            Work::ReceiveInto(object) | Work::Send(object, _) => visit.call(object),
        }
    }

    pub(crate) fn side(&self) -> Side {
        match self.work {
            Work::Receive(_) | Work::ReceiveInto(_) => Side::Reader,
            Work::Send(..) => Side::Writer,
        }
    }
}
