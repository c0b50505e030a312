//! How two processes tell each other that something is there, with a system call only when the
//! other one sleeps or has not been told yet.
//!
//! All handshakes but the last have one shape. One side publishes something, and then looks at a
//! word; the other side stores the word, and then looks for what was published. Between its store
//! and its look each side passes a fence, so at least one of them sees the other.
//!
//! ```text
//! handshake     one side: publishes, fence, looks       other side: stores, fence, looks
//! doorbell      parent: a frame         sleeping?       worker: sleeping = 1   submission ring
//! window        parent: items taken     sleeping?       worker: sleeping = 1   items taken
//! interrupt     parent: interrupt_for   sleeping?       worker: sleeping = 1   interrupt_for
//! announcement  worker: a completion    pending?        owner:  pending = 0    completion ring
//! backlog       worker: a completion    backlog?        parent: backlog = 1    completion ring
//! nudge         worker: a completion    nudge_armed = 1 supervisor: = 0        completion ring
//! ```
//!
//! Invariants: 1. What is in a ring is seen by its consumer before it sleeps, or it is woken. So
//!                are the words that a worker waits for in the middle of a stream.
//!             2. A worker that sleeps while tasks wait in the parent has told the supervisor, or
//!                the parent finds its completions in its own look.
//! Threads:    each word has its sides in two processes; see `segment`.
//! Source:     docs/design/002-ring.md; all are model-checked in tests/models.

use crate::sync::{AtomicU32, Ordering, fence};

/// Called by a producer after it pushed, or after it stored a word that a worker may wait for:
/// whether the sleeper must be woken by a system call.
///
/// The flag is 1 while the consumer sleeps or is about to; its partner is [`prepare_sleep`].
pub fn take_sleeper(sleeping: &AtomicU32) -> bool {
    fence(Ordering::SeqCst);
    sleeping.load(Ordering::Relaxed) != 0 && sleeping.swap(0, Ordering::Relaxed) != 0
}

/// Called by a consumer before its last looks, at the ring and with [`sees_backlog`]: from now on
/// it wants to be woken.
pub fn prepare_sleep(sleeping: &AtomicU32) {
    // A store would do: an exchange of the producer that found our last 0 comes before this in any
    // order. The model checker knows that only of exchanges, and beside a system call one is cheap.
    sleeping.swap(1, Ordering::Relaxed);
    // For several handshakes: our store comes before our look at the ring and at the words that the
    // parent stores before it rings (doorbell, window, interrupt), and our completions come before
    // our look at the backlog.
    fence(Ordering::SeqCst);
}

/// Called by a consumer that is awake again, or was kept awake by its last look.
pub fn end_sleep(sleeping: &AtomicU32) {
    // Relaxed: a producer that still sees 1 sends one wake-up too many.
    sleeping.store(0, Ordering::Relaxed);
}

/// Called by a producer after it pushed for a reader that is woken once per batch: whether this
/// producer is the first since the reader last took the flag, and so must wake it.
pub fn raise_pending(pending: &AtomicU32) -> bool {
    fence(Ordering::SeqCst);
    pending.load(Ordering::Relaxed) == 0 && pending.swap(1, Ordering::Relaxed) == 0
}

/// Called by the reader before it drains: what is pushed from now on wakes it again.
pub fn take_pending(pending: &AtomicU32) -> bool {
    let raised = pending.load(Ordering::Relaxed) != 0;
    if raised {
        pending.store(0, Ordering::Relaxed);
    }
    fence(Ordering::SeqCst);
    raised
}

/// Called by the parent when tasks begin to wait, for each worker's word, before it looks whether
/// a completion has made room meanwhile.
pub fn raise_backlog<'words>(backlogs: impl Iterator<Item = &'words AtomicU32>) {
    for backlog in backlogs {
        backlog.store(1, Ordering::Relaxed);
    }
    fence(Ordering::SeqCst);
}

/// Called by the parent when nothing waits any more.
pub fn lower_backlog<'words>(backlogs: impl Iterator<Item = &'words AtomicU32>) {
    for backlog in backlogs {
        // Relaxed: a worker that still sees 1 tells the supervisor once too often.
        backlog.store(0, Ordering::Relaxed);
    }
}

/// Called by a worker after [`prepare_sleep`]: whether to tell the supervisor that it has time.
pub fn sees_backlog(backlog: &AtomicU32) -> bool {
    backlog.load(Ordering::Relaxed) != 0
}

/// Called by a worker after it pushed a completion: whether it must arm the supervisor's timer.
pub fn claim_nudge(armed: &AtomicU32) -> bool {
    // Release publishes the push to the supervisor, whose exchange reads what we wrote when it
    // comes second; when we come second, we read its 0.
    armed.swap(1, Ordering::AcqRel) == 0
}

/// Called by the supervisor when the timer has expired, before it drains: completions that are
/// pushed from now on arm it again.
pub fn end_nudge(armed: &AtomicU32) {
    // An exchange and not a store: it acquires from a worker that found the timer still armed.
    armed.swap(0, Ordering::AcqRel);
}
