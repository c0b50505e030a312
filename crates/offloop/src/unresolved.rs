//! Counts the futures that a thread which closes a lane has to wait for.
//!
//! A future is counted from its call's submission until its callbacks are over. Resolving runs the
//! user's code, which may close the same lane: such a thread must not wait for itself, nor for
//! another thread that is in the same state.
//!
//! Source:     docs/design/004-who-resolves.md.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Futures of one lane that a thread may have to wait for.
#[derive(Default)]
pub struct Unresolved {
    counts: Mutex<Counts>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Counts {
    /// Futures that have no result yet.
    unset: usize,
    /// Unset futures whose resolving thread waits itself now.
    stalled: usize,
    /// Futures that have a result, and whose callbacks are not over.
    calling_back: usize,
}

impl Counts {
    /// Whether the wait of a thread is over. A thread that is resolving (`inside`) waits for
    /// results only, and not for results that depend on threads like itself: two of them would wait
    /// for each other.
    fn are_over(&self, inside: bool) -> bool {
        if inside {
            self.unset <= self.stalled
        } else {
            self.unset == 0 && self.calling_back == 0
        }
    }
}

impl Unresolved {
    fn change(&self, change: impl FnOnce(&mut Counts)) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut counts);
        if counts.unset <= counts.stalled {
            self.changed.notify_all();
        }
    }

    /// Counts a new future.
    pub fn add(&self) {
        self.change(|counts| counts.unset += 1);
    }

    /// A future has its result, or its call was refused. `calls_back`: its callbacks come next.
    pub fn set(&self, calls_back: bool) {
        self.change(|counts| {
            counts.unset -= 1;
            counts.calling_back += usize::from(calls_back);
        });
    }

    /// The callbacks of a future are over.
    pub fn called_back(&self) {
        self.change(|counts| counts.calling_back -= 1);
    }

    /// The thread that resolves a future waits.
    pub fn stall(&self) {
        self.change(|counts| counts.stalled += 1);
    }

    /// That thread waits no more.
    pub fn resume(&self) {
        self.change(|counts| counts.stalled -= 1);
    }

    /// Whether no future of the lane has to be waited for.
    #[must_use]
    pub fn is_none(&self) -> bool {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.are_over(false)
    }

    /// Waits until every future is resolved, at most `limit`; false when it passed. `inside` says
    /// that the thread is resolving a future.
    #[must_use]
    pub fn wait_none(&self, inside: bool, limit: Duration) -> bool {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .changed
            .wait_timeout_while(counts, limit, |counts| !counts.are_over(inside));
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_over(unresolved: &Unresolved, inside: bool) -> bool {
        unresolved.wait_none(inside, Duration::ZERO)
    }

    #[test]
    fn callbacks_are_waited_for_but_by_a_thread_that_runs_some() {
        let unresolved = Unresolved::default();
        unresolved.add();
        assert!(!is_over(&unresolved, true));
        unresolved.set(true);
        assert!(is_over(&unresolved, true));
        assert!(!is_over(&unresolved, false));
        unresolved.called_back();
        assert!(is_over(&unresolved, false));
    }

    #[test]
    fn threads_that_resolve_do_not_wait_for_each_other() {
        let unresolved = Unresolved::default();
        unresolved.add();
        unresolved.add();
        unresolved.stall();
        assert!(!is_over(&unresolved, true));
        unresolved.stall();
        assert!(is_over(&unresolved, true));
        assert!(!is_over(&unresolved, false));
    }
}
