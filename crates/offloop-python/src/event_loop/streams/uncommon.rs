//! What few streams have: kept apart, so that the many idle ones take less memory.
//!
//! Units:      bytes.
//! Invariants: a stream for which everything has always been as usual has no `Parts`.
//! Source:     asyncio/transports.py (`_FlowControlMixin`) for the limits.

use offloop_core::event_loop::{Missed, Side};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use super::super::port::read_memory::READ_BYTES;

/// The limits of a stream.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// What one read brings at most, except for a protocol with a buffer of its own.
    pub(crate) read_max: usize,
    /// The protocol is to pause while more than this waits to be sent.
    pub(crate) high_water: usize,
    /// The protocol resumes once no more than this waits.
    pub(crate) low_water: usize,
}

impl Limits {
    const USUAL: Self = Self {
        read_max: READ_BYTES,
        high_water: 64 * 1024,
        low_water: 16 * 1024,
    };
}

struct Parts {
    limits: Limits,
    /// The context in which the data that waits was written, unless the transport was given one.
    writing_context: Option<Py<PyAny>>,
    /// `sendfile` waits for the queue to be empty.
    empty_waiter: Option<Py<PyAny>>,
    postponed: Option<Postponed>,
}

/// What happened while a call of the protocol was under way on another thread.
#[derive(Default)]
pub(super) struct Postponed {
    /// What became ready.
    pub(super) missed: Missed,
    /// The protocol is to be told that the connection is lost: the exception, or `None`.
    pub(super) loss: Option<Py<PyAny>>,
}

/// The parts, once one of them is unusual.
#[derive(Default)]
pub(crate) struct Uncommon(Option<Box<Parts>>);

impl Uncommon {
    #[inline]
    pub(crate) fn limits(&self) -> Limits {
        self.0.as_ref().map_or(Limits::USUAL, |parts| parts.limits)
    }

    pub(crate) fn change_limits(&mut self, change: impl FnOnce(&mut Limits)) {
        let mut limits = self.limits();
        change(&mut limits);
        if limits != self.limits() {
            self.parts().limits = limits;
        }
    }

    #[inline]
    pub(crate) fn empty_waiter(&self) -> Option<&Py<PyAny>> {
        self.0.as_ref()?.empty_waiter.as_ref()
    }

    #[inline]
    pub(crate) fn writing_context(&self) -> Option<&Py<PyAny>> {
        self.0.as_ref()?.writing_context.as_ref()
    }

    /// Sets the waiter, and returns the one before, to be dropped outside of the state.
    #[must_use]
    pub(crate) fn set_empty_waiter(&mut self, waiter: Option<Py<PyAny>>) -> Option<Py<PyAny>> {
        if waiter.is_none() && self.0.is_none() {
            return None;
        }
        std::mem::replace(&mut self.parts().empty_waiter, waiter)
    }

    /// As `set_empty_waiter`, for the context.
    #[must_use]
    pub(crate) fn set_writing_context(&mut self, context: Option<Py<PyAny>>) -> Option<Py<PyAny>> {
        if context.is_none() && self.0.is_none() {
            return None;
        }
        std::mem::replace(&mut self.parts().writing_context, context)
    }

    pub(super) fn note_missed(&mut self, side: Side) {
        self.postponed().missed.note(side);
    }

    /// Keeps the first loss, and returns any later one, to be dropped outside of the state.
    #[must_use]
    pub(super) fn note_loss(&mut self, loss: Py<PyAny>) -> Option<Py<PyAny>> {
        let kept = &mut self.postponed().loss;
        if kept.is_some() {
            return Some(loss);
        }
        *kept = Some(loss);
        None
    }

    #[inline]
    pub(super) fn take_postponed(&mut self) -> Option<Postponed> {
        self.0.as_mut()?.postponed.take()
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(self.writing_context())?;
        visit.call(self.empty_waiter())?;
        let postponed = self.0.as_ref().and_then(|parts| parts.postponed.as_ref());
        visit.call(postponed.and_then(|postponed| postponed.loss.as_ref()))
    }

    fn postponed(&mut self) -> &mut Postponed {
        self.parts().postponed.get_or_insert_default()
    }

    fn parts(&mut self) -> &mut Parts {
        self.0.get_or_insert_with(|| {
            Box::new(Parts {
                limits: Limits::USUAL,
                writing_context: None,
                empty_waiter: None,
                postponed: None,
            })
        })
    }
}
