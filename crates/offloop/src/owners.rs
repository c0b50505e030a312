//! Who fetches outcomes: an owner for each event loop, and the resolver for everybody else.
//!
//! Invariants: 1. A mailbox is emptied by its own owner only, but for what is handed over.
//!             2. An owner that has been told is not told again before it has looked.
//!             3. Nobody who runs the user's code holds an outcome that any thread may resolve,
//!                but for the one that it resolves.
//! Source:     docs/design/004-who-resolves.md.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use offloop_sys::event::{Event, Timer};
use offloop_sys::fork;

use crate::fleet::Fleet;
use crate::notice::{News, Notice};
use crate::roster::Roster;
use crate::runtime::{RESOLVER, Shared, State};

pub(crate) struct OwnerState {
    pub(crate) event: Arc<Event>,
    /// Announces what need not be fetched at once; only for a patient owner.
    pub(crate) timer: Option<Arc<Timer>>,
    pub(crate) mailbox: VecDeque<Notice>,
    pub(crate) told: bool,
    /// It is fetching now: what comes meanwhile, it takes along.
    here: bool,
    /// Some of what came meanwhile may be resolved by any thread, should it leave that behind.
    may_leave: bool,
    /// It has taken some and left others since the supervisor last looked: it goes on with them.
    goes_on: bool,
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
            goes_on: false,
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
    pub(crate) crew: Roster,
    /// Sends the supervisor to look after the crew.
    pub(crate) relief: Arc<Timer>,
}

impl Owners {
    /// Nobody but the resolver yet.
    pub(crate) fn new(resolver: OwnerState, nudge: Arc<Timer>, relief: Arc<Timer>) -> Self {
        Self {
            slots: vec![resolver],
            nudge,
            nudge_armed: false,
            crew: Roster::default(),
            relief,
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
    pub(crate) fn post(&mut self, owner: u8, notice: Notice) {
        if let Some(slot) = self.slots.get_mut(usize::from(owner)) {
            slot.unfinished = slot.unfinished.saturating_sub(1);
        }
        self.deliver(owner, notice);
    }

    /// Puts something into the owner's mailbox, and tells it.
    pub(crate) fn deliver(&mut self, owner: u8, notice: Notice) {
        // An owner that is gone has nobody left who waits, unless any thread may resolve.
        let index = match self.slots.get(usize::from(owner)) {
            Some(slot) if slot.open => owner,
            _ if notice.any_thread => RESOLVER,
            _ => return,
        };
        let any_thread = notice.any_thread;
        if let Some(slot) = self.slots.get_mut(usize::from(index)) {
            slot.mailbox.push_back(notice);
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
        if index == RESOLVER {
            self.watch_crew();
        }
    }

    /// Moves what any thread may resolve from owners that did not come to the resolver. Those that
    /// are at work get another while.
    pub(crate) fn hand_over_stuck(&mut self) {
        let mut at_work = false;
        for index in RESOLVER + 1..self.count() {
            let slot = &mut self.slots[usize::from(index)];
            if std::mem::take(&mut slot.goes_on) && !slot.mailbox.is_empty() {
                at_work = true;
            } else {
                self.hand_over(index);
            }
        }
        if at_work {
            self.nudge_later();
        }
    }

    /// Moves everything that any thread may resolve to the resolver.
    pub(crate) fn hand_over_all(&mut self) {
        for index in RESOLVER + 1..self.count() {
            self.hand_over(index);
        }
    }

    fn hand_over(&mut self, index: u8) {
        let slot = &mut self.slots[usize::from(index)];
        if !slot.mailbox.iter().any(|notice| notice.any_thread) {
            return;
        }
        let (free, kept): (VecDeque<_>, VecDeque<_>) =
            slot.mailbox.drain(..).partition(|notice| notice.any_thread);
        slot.mailbox = kept;
        for notice in free {
            self.deliver(RESOLVER, notice);
        }
    }

    fn count(&self) -> u8 {
        u8::try_from(self.slots.len()).expect("at most OWNERS_MAX")
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
        let slot = &mut state.owners.slots[usize::from(self.index)];
        let count = slot.mailbox.len().min(limit);
        out.extend(slot.mailbox.drain(..count));
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

    /// Leaves something to the resolver, who is told by [`News::PassedOn`] under `token`.
    pub fn pass_on(&self, token: u64) {
        let notice = Notice {
            token,
            any_thread: true,
            news: News::PassedOn,
        };
        self.shared.lock().owners.deliver(RESOLVER, notice);
    }

    /// Looks for what workers have completed; true when some of that may be left.
    fn look(&self, state: &mut State) -> bool {
        let slot = &mut state.owners.slots[usize::from(self.index)];
        // While we are here, nobody needs to tell us.
        slot.told = true;
        slot.here = true;
        let more = state.drain(&self.shared, Some(self.index));
        state.owners.slots[usize::from(self.index)].here = false;
        more
    }

    /// What is left in the mailbox, or `more`, is announced; true when there is any.
    fn leave(&self, state: &mut State, more: bool) -> bool {
        let slot = &mut state.owners.slots[usize::from(self.index)];
        let more = more || !slot.mailbox.is_empty();
        slot.told = more;
        let leaves = std::mem::take(&mut slot.may_leave) && !slot.mailbox.is_empty();
        if leaves && self.index != RESOLVER {
            state.owners.nudge_later();
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

/// Where one who fetches stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing is left that it knows of.
    Outside,
    /// Its mailbox is not empty; `true`: and neither may be the workers' rings.
    Inside(bool),
}

/// Outcomes on their way to one who resolves them. What any thread may resolve is taken one at a
/// time: while the user's code runs, the others stay where the resolver may get them.
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
        let slot = &mut state.owners.slots[usize::from(owner.index)];
        let mut shared = false;
        while !shared && out.len() < limit {
            let Some(notice) = slot.mailbox.pop_front() else {
                break;
            };
            shared = notice.any_thread;
            out.push(notice);
        }
        let stays = shared && !slot.mailbox.is_empty();
        let more = if stays {
            *stage = Stage::Inside(rings);
            slot.goes_on = true;
            state.owners.nudge_later();
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
        state.owners.hand_over_all();
        let slot = &mut state.owners.slots[usize::from(self.index)];
        slot.open = false;
        slot.mailbox.clear();
    }
}
