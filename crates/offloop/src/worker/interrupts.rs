//! Which call the interrupt signal is meant for.
//!
//! The handler runs between any two instructions of the worker's main thread, so it reads only
//! atomics: the sequence numbers of the running call and of the call that the parent wants stopped.

use std::sync::atomic::{AtomicU64, Ordering};

use offloop_sys::segment::Segment;

static CURRENT: AtomicU64 = AtomicU64::new(0);

/// A call runs from now on.
pub(super) fn begin_call(sequence: u64) {
    CURRENT.store(sequence, Ordering::Relaxed);
}

/// It is over: an interrupt that is meant for it comes too late.
pub(super) fn end_call() {
    CURRENT.store(0, Ordering::Relaxed);
}

/// What the handler of the interrupt signal may ask.
#[derive(Clone, Debug)]
pub struct InterruptView(pub(super) Segment);

impl InterruptView {
    /// Whether the parent wants the running call stopped.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        is_interrupted(&self.0)
    }
}

pub(super) fn is_interrupted(segment: &Segment) -> bool {
    let current = CURRENT.load(Ordering::Relaxed);
    current != 0 && segment.interrupt_for().load(Ordering::Acquire) == current
}
