//! What the runtime offers to threads that resolve: those of the crew, and those that wait.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::crew::{After, Turn};
use crate::mailboxes::RESOLVER;
use crate::notice::Notice;
use crate::runtime::Runtime;

impl Runtime {
    /// Starts the crew of this process unless it has one: threads that call `body` in their turn.
    ///
    /// # Errors
    /// The system's, when no thread is left.
    pub fn start_crew(
        &self,
        body: impl Fn(&Turn) -> After + Send + Sync + 'static,
    ) -> io::Result<()> {
        self.crew.start(Arc::new(body))
    }

    /// For a thread of the crew that is about to wait inside of its turn: another one takes over.
    pub fn step_aside(&self, turn: u64) {
        if !self.is_forked() {
            self.crew.give_away(turn);
        }
    }

    /// For a thread that waits for certain outcomes while every thread of a full crew is with an
    /// outcome: takes the first that `is_wanted` by its token. To be called again after a while.
    #[must_use]
    pub fn take_stranded(&self, is_wanted: impl Fn(u64) -> bool) -> Option<Notice> {
        if self.is_forked() {
            return None;
        }
        self.shared.lock().take_stranded(is_wanted)
    }

    /// As [`take_stranded`](Self::take_stranded), and waits for it until `limit` has passed or
    /// `is_over`, of which [`tell_waiting`](Self::tell_waiting) tells.
    #[must_use]
    pub fn wait_stranded(
        &self,
        limit: Duration,
        token: u64,
        is_over: impl Fn() -> bool,
    ) -> Option<Notice> {
        let state = self.shared.lock();
        self.shared.wait_until(state, limit, |state| {
            is_over() || state.find_stranded(|other| other == token).is_some()
        });
        self.take_stranded(|other| other == token)
    }

    /// Waiting threads look again.
    pub fn tell_waiting(&self) {
        if !self.is_forked() {
            self.shared.notify(&self.shared.lock());
        }
    }

    /// Waits until nothing is left for the crew and no thread of it is with an outcome, at most
    /// `limit`; false when it passed.
    #[must_use]
    pub fn wait_crew_idle(&self, limit: Duration) -> bool {
        let state = self.shared.lock();
        self.shared.wait_until(state, limit, |state| {
            let roster = &state.mailboxes.roster;
            roster.threads == 0 || !state.mailboxes.waits_for_crew() && roster.is_idle()
        })
    }

    /// Ends the threads of the crew, within `limit`: how many are left behind.
    #[must_use]
    pub fn end_crew(&self, limit: Duration) -> u32 {
        let mut state = self.shared.lock();
        state.mailboxes.roster.ending = true;
        state.mailboxes.roster.vacate();
        // The event is ours and open: signalling it cannot fail.
        let _ = state.mailboxes.event(RESOLVER).signal();
        self.shared.turn_free.notify_all();
        self.shared
            .wait_until(state, limit, |state| state.mailboxes.roster.threads == 0);
        self.shared.lock().mailboxes.roster.threads
    }
}
