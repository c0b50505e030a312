//! What fetches notices: an owner for each event loop, and the resolver for all other threads.
//!
//! Invariants: a thread that runs the user's code holds no outcome that any thread may resolve, but
//!             for the one that it resolves.
//! Source:     docs/design/004-who-resolves.md.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use offloop_sys::event::{Event, Timer};
use offloop_sys::fork;

use crate::fleet::Fleet;
use crate::mailboxes::RESOLVER;
use crate::notice::{News, Notice};
use crate::shared::{Shared, State};

/// What fetches outcomes: an event loop, or the resolver.
pub struct Owner {
    pub(crate) shared: Arc<Shared>,
    pub(crate) index: u8,
    pub(crate) event: Arc<Event>,
    pub(crate) timer: Option<Arc<Timer>>,
}

impl Owner {
    /// Its number, for [`Call::owner`](crate::Call::owner).
    #[must_use]
    pub fn index(&self) -> u8 {
        self.index
    }

    /// Readable a little after outcomes came that need not be fetched at once; `None` unless the
    /// owner is patient.
    #[must_use]
    pub fn timer(&self) -> Option<&Timer> {
        self.timer.as_deref()
    }

    /// Readable while outcomes may wait.
    #[must_use]
    pub fn event(&self) -> &Event {
        &self.event
    }

    /// Appends at most `limit` outcomes to `out`. When more wait, the event stays readable and the
    /// result is true.
    pub fn drain(&self, limit: usize, out: &mut Vec<Notice>) -> bool {
        self.clear();
        self.poll(limit, out)
    }

    fn clear(&self) {
        self.event.clear();
        self.timer.as_ref().map(|timer| timer.clear());
    }

    /// As [`drain`](Self::drain), without touching the event: for a caller that looks before the
    /// event could have told it.
    pub fn poll(&self, limit: usize, out: &mut Vec<Notice>) -> bool {
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        let more = self.look(state);
        let slot = &mut state.mailboxes.slots[usize::from(self.index)];
        let count = slot.notices.len().min(limit);
        out.extend(slot.notices.drain(..count));
        let more = self.leave(state, more);
        self.shared.after(state);
        more
    }

    /// Fetches outcomes for a thread that resolves them as it goes.
    #[must_use]
    pub fn fetch(&self) -> Fetching<'_> {
        Fetching {
            owner: self,
            stage: Stage::Outside,
        }
    }

    /// Leaves something to the resolver, which is told by [`News::PassedOn`] under `token`.
    pub fn pass_on(&self, token: u64) {
        let notice = Notice {
            token,
            any_thread: true,
            news: News::PassedOn,
        };
        self.shared.lock().mailboxes.deliver(RESOLVER, notice);
    }

    /// Looks for what workers have completed; true when some of that may be left.
    fn look(&self, state: &mut State) -> bool {
        let slot = &mut state.mailboxes.slots[usize::from(self.index)];
        // This thread looks now, so it need not be told.
        slot.told = true;
        slot.here = true;
        let more = state.drain(&self.shared, Some(self.index));
        state.mailboxes.slots[usize::from(self.index)].here = false;
        more
    }

    /// What is left in the mailbox, or `more`, is announced; true when there is any.
    fn leave(&self, state: &mut State, more: bool) -> bool {
        let slot = &mut state.mailboxes.slots[usize::from(self.index)];
        let more = more || !slot.notices.is_empty();
        slot.told = more;
        let leaves = std::mem::take(&mut slot.may_leave) && !slot.notices.is_empty();
        if leaves && self.index != RESOLVER {
            state.mailboxes.nudge_later();
        }
        if more {
            // The event is ours and open: signalling it cannot fail.
            let _ = self.event.signal();
        }
        more
    }

    /// Whether a completion for this owner has been announced.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        let state = self.shared.lock();
        let slot = state.mailboxes.slots.get(usize::from(self.index));
        slot.is_some_and(|slot| !slot.notices.is_empty())
            || state
                .fleets
                .values()
                .flat_map(Fleet::channels)
                .any(|channel| {
                    channel
                        .segment()
                        .pending(self.index)
                        .load(Ordering::Relaxed)
                        != 0
                })
    }
}

/// How far a thread has come in fetching.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing is left that it knows of.
    Outside,
    /// Its mailbox is not empty; `true`: and neither may be the workers' rings.
    Inside(bool),
}

/// Outcomes on their way to a thread that resolves them. What any thread may resolve is taken one
/// at a time: while the user's code runs, the rest stays where the resolver may get it.
pub struct Fetching<'owner> {
    owner: &'owner Owner,
    stage: Stage,
}

impl Fetching<'_> {
    /// Appends at most `limit` outcomes to `out`; only the last may be one for any thread. False
    /// when nothing is left for now.
    pub fn next(&mut self, limit: usize, out: &mut Vec<Notice>) -> bool {
        let Self { owner, stage } = self;
        let looks = *stage == Stage::Outside;
        if looks {
            owner.clear();
        }
        let mut guard = owner.shared.lock();
        let state = &mut *guard;
        let rings = match *stage {
            Stage::Outside => owner.look(state),
            Stage::Inside(rings) => rings,
        };
        let slot = &mut state.mailboxes.slots[usize::from(owner.index)];
        let mut shared = false;
        while !shared && out.len() < limit {
            let Some(notice) = slot.notices.pop_front() else {
                break;
            };
            shared = notice.any_thread;
            out.push(notice);
        }
        let stays = shared && !slot.notices.is_empty();
        let more = if stays {
            *stage = Stage::Inside(rings);
            slot.goes_on = true;
            state.mailboxes.nudge_later();
            true
        } else {
            *stage = Stage::Outside;
            owner.leave(state, rings)
        };
        if looks {
            owner.shared.after(state);
        }
        more
    }
}

impl Drop for Fetching<'_> {
    fn drop(&mut self) {
        let Stage::Inside(rings) = self.stage else {
            return;
        };
        let mut guard = self.owner.shared.lock();
        self.owner.leave(&mut guard, rings);
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if self.index == RESOLVER || self.shared.generation != fork::generation() {
            return;
        }
        let mut state = self.shared.lock();
        state.mailboxes.hand_over_all();
        let slot = &mut state.mailboxes.slots[usize::from(self.index)];
        slot.open = false;
        slot.notices.clear();
    }
}
