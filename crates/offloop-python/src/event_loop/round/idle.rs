//! What hears that a watched loop is about to wait.
//!
//! If it has tasks that await each other in a circle, these never end. A listener looks for them
//! when the loop has nothing else to do. Where a look comes too early ([`Looks`]), the wait gets a
//! limit, and the look is taken then: a loop that sleeps is woken once for it.

use offloop_core::watch::Looks;
use pyo3::prelude::*;

/// What the loop watches for itself: the socket that signals are written to.
pub(super) const OWN_DESCRIPTORS: usize = 1;

/// What hears that a loop is idle.
pub(super) struct Idle {
    /// Called with the loop, and whether it waits for ever.
    pub(super) told: Py<PyAny>,
    pub(super) looks: Looks,
}

impl Idle {
    pub(super) fn new(told: Py<PyAny>) -> Self {
        Self {
            told,
            looks: Looks::default(),
        }
    }
}
