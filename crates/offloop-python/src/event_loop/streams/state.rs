//! What a stream knows.

use std::collections::VecDeque;
use std::sync::Arc;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};

use super::super::ground::address::Address;
use super::super::port::chunk::Chunk;
use super::receiver::Receiver;
use super::uncommon::Uncommon;

/// What a stream knows.
pub(crate) struct StreamState {
    pub(crate) transport: Option<Owner>,
    pub(crate) context: Option<Py<PyAny>>,
    /// The context is one that the transport was given, and stays.
    pub(super) context_given: bool,
    pub(crate) receiver: Receiver,
    pub(crate) chunks: VecDeque<Chunk>,
    pub(crate) size: usize,
    /// What the last read brought.
    pub(crate) last_read: usize,
    /// In the loop's list of streams to send at the end of the round.
    pub(crate) scheduled: bool,
    /// The kernel had no room: the loop watches for it.
    pub(crate) blocked: bool,
    pub(crate) protocol_paused: bool,
    pub(crate) closing: bool,
    pub(crate) paused: bool,
    pub(crate) eof: bool,
    /// How often somebody wrote, or it was lost, after the connection was.
    pub(crate) lost: u32,
    pub(crate) uncommon: Uncommon,
    /// Not to be found by its descriptor: `sendfile` does with that as it likes.
    pub(super) hidden: bool,
    /// Counted by its server.
    pub(super) attached: bool,
    pub(super) peername: Address,
    pub(super) sockname: Option<Py<PyAny>>,
    /// Counts it among the loop's open connections.
    pub(super) open: Option<Arc<()>>,
    /// Whose descriptor is used; gone when the connection is over.
    pub(super) socket: Option<Py<PyAny>>,
}

/// The transport of a stream, which has the stream. While the loop goes on they keep each other
/// alive; once it is closed, a transport that nobody has is to be freed without the collector.
pub(crate) enum Owner {
    Kept(Py<PyAny>),
    Known(Py<PyWeakrefReference>),
}

impl Owner {
    /// The transport, unless it is gone.
    pub(crate) fn get<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        match self {
            Self::Kept(transport) => Some(transport.bind(py).clone()),
            Self::Known(reference) => reference.bind(py).upgrade(),
        }
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Kept(transport) => visit.call(transport),
            Self::Known(reference) => visit.call(reference),
        }
    }
}
