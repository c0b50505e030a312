//! What a stream knows.

use std::collections::VecDeque;
use std::sync::Arc;

use offloop_core::event_loop::{Life, Outgoing, Sending, UnderWay};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};

use super::super::ground::address::Address;
use super::super::ground::threads::ThreadNumber;
use super::super::port::chunk::Chunk;
use super::receiver::Receiver;
use super::uncommon::Uncommon;

/// What a stream knows. A program may have ten thousand idle ones.
pub(crate) struct StreamState {
    /// Gone when the connection is over.
    pub(super) ends: Option<Ends>,
    pub(super) life: Life,
    pub(super) sending: Sending,
    /// On which thread the loop's call of the protocol is under way.
    pub(super) under_way: UnderWay<ThreadNumber>,
    pub(super) context: Option<Py<PyAny>>,
    /// The context is one that the transport was given, and stays. A bit beside it, and not an enum
    /// around it, which would take eight bytes more.
    pub(super) context_given: bool,
    pub(crate) receiver: Receiver,
    pub(crate) chunks: VecDeque<Chunk>,
    pub(crate) size: usize,
    /// What the last read brought; no more than four bytes can say.
    pub(super) last_read: u32,
    /// The protocol was told to pause. Like the next two it goes with every phase of a life: the
    /// standard transport remembers it, and shows it, through a close.
    pub(super) protocol_paused: bool,
    /// The program wants no data for now.
    pub(super) paused: bool,
    /// The program writes nothing more.
    pub(super) eof: bool,
    pub(crate) uncommon: Uncommon,
    /// Not to be found by its descriptor: `sendfile` does with that as it likes. This and the next
    /// are what the registry in Python keeps here, whatever the connection does.
    pub(super) hidden: bool,
    /// Counted by its server.
    pub(super) attached: bool,
    pub(super) peername: Address,
    pub(super) sockname: Option<Py<PyAny>>,
}

const _: () = assert!(size_of::<StreamState>() <= STATE_BYTES_MAX);
/// So much a stream's state takes at most.
const STATE_BYTES_MAX: usize = 168;

/// What a stream stands between, as long as there is a connection.
pub(super) struct Ends {
    pub(super) transport: Owner,
    /// Whose descriptor is used.
    pub(super) socket: Py<PyAny>,
    /// Counts it among the loop's open connections.
    pub(super) _open: Arc<()>,
}

impl StreamState {
    /// That of a connection which has just been made.
    pub(super) fn new(ends: Ends, unknown: Address) -> Self {
        Self {
            ends: Some(ends),
            life: Life::Open,
            sending: Sending::Idle,
            under_way: UnderWay::Nowhere,
            context: None,
            context_given: false,
            receiver: Receiver::None,
            chunks: VecDeque::new(),
            size: 0,
            last_read: 0,
            protocol_paused: false,
            paused: false,
            eof: false,
            uncommon: Uncommon::default(),
            hidden: true,
            attached: false,
            peername: unknown,
            sockname: None,
        }
    }

    /// Whether what arrives is for the protocol now.
    #[inline]
    pub(super) const fn reads(&self) -> bool {
        self.life.reads() && !self.paused
    }

    /// What is decided by when something is written, or was sent.
    #[inline]
    pub(super) fn outgoing(&self) -> Outgoing {
        let limits = self.uncommon.limits();
        Outgoing {
            waiting: self.size,
            sending: self.sending,
            closing: self.life.is_closing(),
            protocol_paused: self.protocol_paused,
            low_water: limits.low_water,
            high_water: limits.high_water,
        }
    }
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
