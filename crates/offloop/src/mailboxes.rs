//! The mailboxes: what each owner is still to be told, and which owner is woken for it.
//!
//! There is a mailbox for each event loop. The resolver has one for all other threads.
//!
//! Invariants: 1. A mailbox is emptied by its own owner only, but for what is handed over.
//!             2. An owner that has been told is not told again before it has looked.
//! Source:     docs/design/004-who-resolves.md.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use offloop_sys::event::{Event, Timer};

use crate::notice::Notice;
use crate::roster::Roster;

/// The owner that resolves calls of plain threads, and those of loops that are stuck.
pub const RESOLVER: u8 = 0;

/// Between two looks at the thread on duty. A thread that stays with an outcome loses its turn
/// after at most twice as long. A callback rarely takes a millisecond, and threads pass the GIL on
/// every five.
pub(crate) const RELIEF_AFTER: Duration = Duration::from_millis(20);

/// One owner's mailbox.
pub(crate) struct Mailbox {
    pub(crate) event: Arc<Event>,
    /// Announces what need not be fetched at once; only for a patient owner.
    pub(crate) timer: Option<Arc<Timer>>,
    pub(crate) notices: VecDeque<Notice>,
    pub(crate) told: bool,
    /// Its owner is fetching now: what comes meanwhile, it takes along.
    pub(crate) here: bool,
    /// Some of what came meanwhile may be resolved by any thread, should it leave that behind.
    pub(crate) may_leave: bool,
    /// The owner has taken some and left some since the supervisor last looked: it goes on with
    /// them.
    pub(crate) goes_on: bool,
    /// The owner is held.
    pub(crate) open: bool,
    /// Its calls that are not finished. Until there are none, no new owner gets the number.
    pub(crate) unfinished: u64,
}

impl Mailbox {
    pub(crate) fn new(event: Arc<Event>, timer: Option<Arc<Timer>>) -> Self {
        Self {
            event,
            timer,
            notices: VecDeque::new(),
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

/// All mailboxes.
pub(crate) struct Mailboxes {
    pub(crate) slots: Vec<Mailbox>,
    /// Sends the supervisor to look for owners that are stuck.
    nudge: Arc<Timer>,
    nudge_armed: bool,
    pub(crate) roster: Roster,
    /// Sends the supervisor to look after the crew.
    pub(crate) relief: Arc<Timer>,
}

impl Mailboxes {
    /// The resolver's only.
    pub(crate) fn new(resolver: Mailbox, nudge: Arc<Timer>, relief: Arc<Timer>) -> Self {
        Self {
            slots: vec![resolver],
            nudge,
            nudge_armed: false,
            roster: Roster::default(),
            relief,
        }
    }

    /// The supervisor has come: the next outcome that waits sends for it again.
    pub(crate) fn nudged(&mut self) {
        self.nudge_armed = false;
    }

    /// The resolver may have to stand in for an owner. A worker arms the timer when it completes a
    /// call; but calls end without a completion, too, and a worker may die before it has done so.
    pub(crate) fn nudge_later(&mut self) {
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
        // Without an owner no thread waits for it; the resolver takes what any thread may resolve.
        let index = match self.slots.get(usize::from(owner)) {
            Some(slot) if slot.open => owner,
            _ if notice.any_thread => RESOLVER,
            _ => return,
        };
        let any_thread = notice.any_thread;
        if let Some(slot) = self.slots.get_mut(usize::from(index)) {
            slot.notices.push_back(notice);
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
            if std::mem::take(&mut slot.goes_on) && !slot.notices.is_empty() {
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
        if !slot.notices.iter().any(|notice| notice.any_thread) {
            return;
        }
        let (free, kept): (VecDeque<_>, VecDeque<_>) =
            slot.notices.drain(..).partition(|notice| notice.any_thread);
        slot.notices = kept;
        for notice in free {
            self.deliver(RESOLVER, notice);
        }
    }

    fn count(&self) -> u8 {
        u8::try_from(self.slots.len()).expect("at most OWNERS_MAX")
    }

    /// An outcome waits for the resolver, which may be busy.
    pub(crate) fn watch_crew(&mut self) {
        if self.roster.begin_watch() {
            self.look_later();
        }
    }

    pub(crate) fn look_later(&self) {
        // The timer is ours and open: arming it cannot fail.
        let _ = self.relief.arm(RELIEF_AFTER);
    }

    /// Whether the crew has something to do.
    pub(crate) fn waits_for_crew(&self) -> bool {
        !self.slots[usize::from(RESOLVER)].notices.is_empty()
    }
}
