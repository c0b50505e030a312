//! Who fetches outcomes: an owner for each event loop, and the resolver for everybody else.
//!
//! Invariants: 1. A mailbox is emptied by its own owner only.
//!             2. An owner that has been told is not told again before it has looked.
//! Source:     docs/design/004-who-resolves.md.

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use offloop_sys::event::{Event, Timer};
use offloop_sys::{fork, socket};

use crate::fleet::Fleet;
use crate::outcome::Finished;
use crate::runtime::{RESOLVER, Shared};

pub(crate) struct OwnerState {
    pub(crate) event: Arc<Event>,
    /// Announces what need not be fetched at once; only for a patient owner.
    pub(crate) timer: Option<Arc<Timer>>,
    pub(crate) mailbox: VecDeque<Finished>,
    pub(crate) told: bool,
    /// It is fetching now: what comes meanwhile, it takes along.
    here: bool,
    /// Some of what came meanwhile may be resolved by any thread, should it leave that behind.
    may_leave: bool,
    /// Somebody holds the [`Owner`].
    pub(crate) open: bool,
    /// Its calls that are not finished; until there are none, the number is given to nobody else.
    pub(crate) unfinished: u64,
}

impl OwnerState {
    pub(crate) fn new(event: Arc<Event>, timer: Option<Arc<Timer>>) -> Self {
        Self {
            event,
            timer,
            mailbox: VecDeque::new(),
            told: false,
            here: false,
            may_leave: false,
            open: true,
            unfinished: 0,
        }
    }
}

/// An owner that has not fetched after this long is stuck: what any thread may resolve goes to the
/// resolver.
const PATIENCE: Duration = Duration::from_millis(1);

/// Everybody who fetches outcomes.
pub(crate) struct Owners {
    pub(crate) slots: Vec<OwnerState>,
    /// Sends the supervisor to look for owners that are stuck.
    nudge: Arc<Timer>,
    nudge_armed: bool,
}

impl Owners {
    /// Nobody but the resolver yet.
    pub(crate) fn new(resolver: OwnerState, nudge: Arc<Timer>) -> Self {
        Self {
            slots: vec![resolver],
            nudge,
            nudge_armed: false,
        }
    }

    /// The supervisor has come: the next outcome that waits sends for it again.
    pub(crate) fn nudged(&mut self) {
        self.nudge_armed = false;
    }

    /// Somebody may have to stand in for an owner. A worker arms the timer when it completes a
    /// call; but calls end without a completion, too, and a worker may die before it has done so.
    fn nudge_later(&mut self) {
        if !self.nudge_armed {
            // The timer is ours and open: arming it cannot fail.
            self.nudge_armed = self.nudge.arm(PATIENCE).is_ok();
        }
    }

    pub(crate) fn event(&self, owner: u8) -> Arc<Event> {
        // A number keeps its event for ever, so workers learn it once.
        let slot = self.slots.get(usize::from(owner));
        Arc::clone(&slot.unwrap_or(&self.slots[usize::from(RESOLVER)]).event)
    }

    /// The timer of a patient owner.
    pub(crate) fn timer(&self, owner: u8) -> Option<Arc<Timer>> {
        self.slots
            .get(usize::from(owner))
            .and_then(|slot| slot.timer.clone())
    }

    pub(crate) fn count_unfinished(&mut self, owner: u8) {
        if let Some(slot) = self.slots.get_mut(usize::from(owner)) {
            slot.unfinished += 1;
        }
    }

    /// Posts the end of one of the owner's calls.
    pub(crate) fn post(&mut self, owner: u8, finished: Finished) {
        if let Some(slot) = self.slots.get_mut(usize::from(owner)) {
            slot.unfinished = slot.unfinished.saturating_sub(1);
        }
        self.deliver(owner, finished);
    }

    /// Puts something into the owner's mailbox, and tells it.
    pub(crate) fn deliver(&mut self, owner: u8, finished: Finished) {
        // An owner that is gone has nobody left who waits, unless any thread may resolve.
        let index = match self.slots.get(usize::from(owner)) {
            Some(slot) if slot.open => owner,
            _ if finished.any_thread => RESOLVER,
            _ => return,
        };
        let any_thread = finished.any_thread;
        if let Some(slot) = self.slots.get_mut(usize::from(index)) {
            slot.mailbox.push_back(finished);
            let comes = slot.here || index == RESOLVER;
            slot.may_leave |= any_thread && slot.here;
            if !slot.told {
                slot.told = true;
                // The event is ours and open: signalling it cannot fail.
                let _ = slot.event.signal();
            }
            if any_thread && !comes {
                self.nudge_later();
            }
        }
    }
}

/// One who fetches outcomes: an event loop, or the resolver.
pub struct Owner {
    pub(crate) shared: Arc<Shared>,
    pub(crate) index: u8,
    pub(crate) event: Arc<Event>,
    pub(crate) timer: Option<Arc<Timer>>,
}

impl Owner {
    /// Its number, for [`Call::owner`].
    #[must_use]
    pub fn index(&self) -> u8 {
        self.index
    }

    /// Starts a thread that calls `body` whenever outcomes may wait, until that returns false.
    ///
    /// # Errors
    /// The system's, when no thread is left.
    pub fn serve(
        self: Arc<Self>,
        name: &str,
        mut body: impl FnMut(&Self) -> bool + Send + 'static,
    ) -> std::io::Result<JoinHandle<()>> {
        std::thread::Builder::new()
            .name(name.into())
            .spawn(move || {
                loop {
                    match socket::wait_readable(self.event.as_fd(), None) {
                        Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                        Err(_closed) => return,
                        Ok(_) => {}
                    }
                    if !body(&self) {
                        return;
                    }
                }
            })
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
    pub fn drain(&self, limit: usize, out: &mut Vec<Finished>) -> bool {
        self.event.clear();
        self.timer.as_ref().map(|timer| timer.clear());
        self.poll(limit, out)
    }

    /// As [`drain`](Self::drain), without touching the event: for a caller that looks before the
    /// event could have told it.
    pub fn poll(&self, limit: usize, out: &mut Vec<Finished>) -> bool {
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        if let Some(slot) = state.owners.slots.get_mut(usize::from(self.index)) {
            // While we are here, nobody needs to tell us.
            slot.told = true;
            slot.here = true;
        }
        let mut more = state.drain(&self.shared, Some(self.index));
        if let Some(slot) = state.owners.slots.get_mut(usize::from(self.index)) {
            let count = slot.mailbox.len().min(limit);
            out.extend(slot.mailbox.drain(..count));
            more |= !slot.mailbox.is_empty();
            slot.told = more;
            slot.here = false;
            let leaves = std::mem::take(&mut slot.may_leave) && !slot.mailbox.is_empty();
            if leaves && self.index != RESOLVER {
                state.owners.nudge_later();
            }
        }
        if more {
            // The event is ours and open: signalling it cannot fail.
            let _ = self.event.signal();
        }
        self.shared.after(state);
        more
    }

    /// Whether a completion for this owner has been announced.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        let state = self.shared.lock();
        let mailbox = state.owners.slots.get(usize::from(self.index));
        mailbox.is_some_and(|slot| !slot.mailbox.is_empty())
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

impl Drop for Owner {
    fn drop(&mut self) {
        if self.index == RESOLVER || self.shared.generation != fork::generation() {
            return;
        }
        let mut state = self.shared.lock();
        state.hand_over_stuck(RESOLVER);
        let slot = &mut state.owners.slots[usize::from(self.index)];
        slot.open = false;
        slot.mailbox.clear();
    }
}
