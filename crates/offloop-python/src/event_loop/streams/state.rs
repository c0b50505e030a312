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
    /// `None` when the connection is over.
    pub(super) ends: Option<Ends>,
    pub(super) life: Life,
    pub(super) sending: Sending,
    /// On which thread the loop's call of the protocol is under way.
    pub(super) under_way: UnderWay<ThreadNumber>,
    pub(super) context: Option<Py<PyAny>>,
    /// The transport was given the context, which stays. This is a flag beside the context, since
    /// an enum around it would take eight bytes more.
    pub(super) context_given: bool,
    pub(crate) receiver: Receiver,
    pub(crate) chunks: VecDeque<Chunk>,
    pub(crate) size: usize,
    /// How much the last read brought, or the largest number of four bytes.
    pub(super) last_read: u32,
    /// The protocol was told to pause. This and the next two are no part of `life`: the standard
    /// transport keeps them, and shows them, through a close.
    pub(super) protocol_paused: bool,
    /// The program wants no data for now.
    pub(super) paused: bool,
    /// The program writes nothing more.
    pub(super) eof: bool,
    pub(crate) uncommon: Uncommon,
    /// The transport is not found by its descriptor, which `sendfile` uses by itself. This and the
    /// next flag belong to the registry in Python, and do not change with the connection.
    pub(super) hidden: bool,
    /// The server counts it.
    pub(super) attached: bool,
    pub(super) peername: Address,
    pub(super) sockname: Option<Py<PyAny>>,
}

const _: () = assert!(size_of::<StreamState>() <= STATE_BYTES_MAX);
/// A stream's state takes no more bytes than this.
const STATE_BYTES_MAX: usize = 168;

/// The two ends of a stream, as long as there is a connection.
pub(super) struct Ends {
    pub(super) transport: Owner,
    /// The socket whose descriptor is used.
    pub(super) socket: Py<PyAny>,
    /// Counts the stream among the loop's open connections.
    pub(super) _open: Arc<()>,
}

impl StreamState {
    /// The state of a connection that has just been made.
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

    /// What decides what happens when data is written, or was sent.
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

/// The transport of a stream, which refers to the stream. While the loop is open they keep each
/// other alive. Once it is closed the stream only knows the transport: a transport that the program
/// drops is then freed without the collector.
pub(crate) enum Owner {
    Kept(Py<PyAny>),
    Known(Py<PyWeakrefReference>),
}

impl Owner {
    /// The transport, unless it was freed.
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
