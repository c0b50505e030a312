//! Where a run waits for the loop that another thread has.
//!
//! Invariants: 1. A thread that changes which run has the loop, or asks for it, turns this
//!                afterwards. A run reads the count before it asks whether it may go on, so it
//!                misses no turn.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Longest wait without a look whether the program has a signal to handle.
const LOOK_AT_SIGNALS: Duration = Duration::from_millis(100);

/// A count of turns, on which threads wait.
#[derive(Default)]
pub(super) struct Turnstile {
    turns: Mutex<u64>,
    turned: Condvar,
}

impl Turnstile {
    pub(super) fn turns(&self) -> u64 {
        *self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes every run that waits.
    pub(super) fn turn(&self) {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        *turns += 1;
        drop(turns);
        self.turned.notify_all();
    }

    /// Waits for the next turn, or until signals have to be looked at. The caller is detached.
    pub(super) fn wait(&self, seen: u64) {
        let turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .turned
            .wait_timeout_while(turns, LOOK_AT_SIGNALS, |turns| *turns == seen);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}
