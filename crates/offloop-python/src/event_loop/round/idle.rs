//! What hears that a watched loop is about to wait for ever.
//!
//! A loop that has nothing to run, no timer and no descriptor but its own goes on only if another
//! thread wakes it. If it has tasks that await each other in a circle, these never end. A listener
//! looks for them at that moment. Looking takes longer the more tasks there are, so the loop spends
//! no more than a hundredth of its time on that: where a look comes too early it waits with a limit
//! instead, and looks then.

use std::time::Duration;

use pyo3::prelude::*;

/// What the loop watches for itself: the socket that signals are written to.
pub(super) const OWN_DESCRIPTORS: usize = 1;

/// A look takes one part in so many of the time.
const SHARE: u64 = 100;

/// What hears that a loop is idle.
pub(super) struct Idle {
    pub(super) told: Py<PyAny>,
    /// The next look is not before this, in nanoseconds.
    next_ns: u64,
}

impl Idle {
    pub(super) fn new(told: Py<PyAny>) -> Self {
        Self { told, next_ns: 0 }
    }

    /// How long it is too early for a look.
    pub(super) fn too_early(&self, now_ns: u64) -> Option<Duration> {
        let wait = self.next_ns.checked_sub(now_ns)?;
        (wait > 0).then(|| Duration::from_nanos(wait))
    }

    /// A look is over.
    pub(super) fn looked(&mut self, begin_ns: u64, end_ns: u64) {
        let rest = end_ns.saturating_sub(begin_ns).saturating_mul(SHARE);
        self.next_ns = end_ns.saturating_add(rest);
    }
}
