//! The crew: threads that take turns in resolving what no event loop comes for.
//!
//! One of them is on duty. It takes outcomes out of the resolver's mailbox one at a time, and holds
//! none while the user's code runs. If it stays with an outcome for long while further outcomes
//! wait, another thread takes its turn: a spare thread, or a new one. When the first thread comes
//! back, it finds that its turn is over, and becomes spare or ends. A thread that is about to wait
//! in a function of offloop's gives its turn away at once. When no thread may be added, outcomes
//! are stranded until a thread comes back; a thread that waits for a certain outcome takes it
//! itself.
//!
//! Invariants: 1. At most one thread is on duty. Only that one takes outcomes, unless they are
//!                stranded.
//!             2. While an outcome waits, the thread on duty has been told, or a look is due, or
//!                every thread of a full crew is with an outcome.
//! Threads:    those of the crew; the supervisor looks after them and starts further ones.
//! Source:     docs/design/004-who-resolves.md.

use std::cell::Cell;
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, PoisonError};

use offloop_sys::{fork, socket};

use crate::journal::Event;
use crate::mailboxes::RESOLVER;
use crate::notice::Notice;
use crate::roster::{Next, Relief};
use crate::shared::{Shared, State, now};

/// As much as other threads of the program get, since it is the user's code that needs it. Only
/// what is touched takes memory.
const STACK_BYTES: usize = 8 << 20;

impl State {
    pub(crate) fn find_stranded(&self, is_wanted: impl Fn(u64) -> bool) -> Option<usize> {
        if !self.mailboxes.roster.is_stranded() {
            return None;
        }
        let mailbox = &self.mailboxes.slots[usize::from(RESOLVER)].notices;
        mailbox.iter().position(|notice| is_wanted(notice.token))
    }

    pub(crate) fn take_stranded(&mut self, is_wanted: impl Fn(u64) -> bool) -> Option<Notice> {
        let index = self.find_stranded(is_wanted)?;
        let mailbox = &mut self.mailboxes.slots[usize::from(RESOLVER)].notices;
        mailbox.remove(index)
    }

    /// The timer fired: does what can be done under the lock; true when a thread is to be started.
    #[must_use]
    pub(crate) fn look_after_crew(&mut self, shared: &Shared) -> bool {
        let waits = self.mailboxes.waits_for_crew();
        let had_turn = self.mailboxes.roster.has_turn();
        let relief = self.mailboxes.roster.look(waits);
        if had_turn && !self.mailboxes.roster.has_turn() {
            let threads = self.mailboxes.roster.threads;
            self.journal.write(now(), Event::Stall { threads });
        }
        self.relieve(shared, relief)
    }

    fn relieve(&mut self, shared: &Shared, relief: Relief) -> bool {
        match relief {
            Relief::Enough | Relief::Exhausted => {}
            Relief::LookAgain => self.mailboxes.look_later(),
            Relief::Call => shared.turn_free.notify_one(),
            Relief::Start => return true,
        }
        false
    }
}

/// What a thread of the crew runs in its turn.
pub(crate) type Body = Arc<dyn Fn(&Turn) -> After + Send + Sync>;

/// The threads of this process, once there are any.
pub(crate) struct Crew {
    shared: Arc<Shared>,
    body: OnceLock<Body>,
    started: AtomicBool,
}

/// What follows a look into the mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// It is empty: wait.
    Wait,
    /// More may be there: look again.
    Again,
    /// The turn is over.
    Relieved,
    /// The thread can do nothing any more.
    End,
}

/// What [`Turn::take`] found.
#[derive(Debug)]
pub enum Taken {
    /// The next notice.
    Notice(Notice),
    /// None; the owner's event tells of the next one.
    Nothing,
    /// Another thread has the turn now.
    Relieved,
}

/// The right to take outcomes, until another thread takes over.
pub struct Turn {
    shared: Arc<Shared>,
    number: u64,
}

impl Turn {
    /// Its number, for [`Runtime::step_aside`](crate::Runtime::step_aside).
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Looks for what workers have completed, and takes the first outcome.
    #[must_use]
    pub fn look(&self) -> Taken {
        if self.is_forked() {
            return Taken::Relieved;
        }
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        if !state.mailboxes.roster.is_on_duty(self.number) {
            return Taken::Relieved;
        }
        let slot = &mut state.mailboxes.slots[usize::from(RESOLVER)];
        slot.event.clear();
        // This thread looks now, so it need not be told.
        slot.told = true;
        if state.drain(&self.shared, Some(RESOLVER)) {
            // The event is ours and open: signalling it cannot fail.
            let _ = state.mailboxes.slots[usize::from(RESOLVER)].event.signal();
        }
        let taken = self.take_from(state);
        self.shared.after(state);
        taken
    }

    /// Takes the next outcome of those that are in the mailbox.
    #[must_use]
    pub fn take(&self) -> Taken {
        if self.is_forked() {
            return Taken::Relieved;
        }
        let mut guard = self.shared.lock();
        if !guard.mailboxes.roster.is_on_duty(self.number) {
            return Taken::Relieved;
        }
        let taken = self.take_from(&mut guard);
        if matches!(taken, Taken::Nothing) {
            self.shared.notify(&guard);
        }
        taken
    }

    fn take_from(&self, state: &mut State) -> Taken {
        let slot = &mut state.mailboxes.slots[usize::from(RESOLVER)];
        let Some(notice) = slot.notices.pop_front() else {
            slot.told = false;
            state.mailboxes.roster.rest();
            return Taken::Nothing;
        };
        let more = !slot.notices.is_empty();
        state.mailboxes.roster.take();
        if more {
            state.mailboxes.watch_crew();
        }
        Taken::Notice(notice)
    }

    fn is_forked(&self) -> bool {
        self.shared.generation != fork::generation()
    }

    /// Waits for a turn; `None` when the thread is to end.
    fn wait(shared: &Arc<Shared>) -> Option<Self> {
        if shared.generation != fork::generation() {
            return None;
        }
        let mut state = shared.lock();
        loop {
            let next = state.mailboxes.roster.next();
            // A thread that waits for the crew to be done sees it in the roster.
            shared.notify(&state);
            match next {
                Next::Turn(number) => {
                    let shared = Arc::clone(shared);
                    return Some(Self { shared, number });
                }
                Next::End => return None,
                Next::Spare => {}
            }
            let waited = shared.turn_free.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
            state.mailboxes.roster.spare -= 1;
        }
    }

    /// Waits until the event says that outcomes may be there.
    fn wait_outcomes(&self) -> io::Result<()> {
        let event = self.shared.lock().mailboxes.event(RESOLVER);
        loop {
            match socket::wait_readable(event.as_fd(), None) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result.map(|_readable| ()),
            }
        }
    }
}

impl Crew {
    /// A crew without threads.
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        Self {
            shared: Arc::clone(shared),
            body: OnceLock::new(),
            started: AtomicBool::new(false),
        }
    }

    /// Starts the first thread unless there has been one.
    pub(crate) fn start(self: &Arc<Self>, body: Body) -> io::Result<()> {
        if self.started.load(Ordering::Acquire) {
            return Ok(());
        }
        // A body that another thread has set does the same.
        let _ = self.body.set(body);
        let mut state = self.shared.lock();
        if state.mailboxes.roster.threads == 0 {
            self.spawn()?;
            state.mailboxes.roster.threads = 1;
        }
        self.started.store(true, Ordering::Release);
        Ok(())
    }

    /// The thread of `turn` gives it away, if it still has it.
    pub(crate) fn give_away(self: &Arc<Self>, turn: u64) {
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        let relief = state.mailboxes.roster.give_away(turn);
        let start = state.relieve(&self.shared, relief);
        // What waits may be stranded now, and a thread may wait for it.
        self.shared.notify(state);
        drop(guard);
        if start {
            self.start_counted();
        }
    }

    /// Starts a thread that the roster has counted. If the system has none, the supervisor tries
    /// again.
    pub(crate) fn start_counted(self: &Arc<Self>) {
        if self.spawn().is_err() {
            let mut guard = self.shared.lock();
            let state = &mut *guard;
            let relief = state.mailboxes.roster.start_failed();
            // The roster asks for a later look here, and for no thread.
            let _ = state.relieve(&self.shared, relief);
        }
    }

    fn spawn(self: &Arc<Self>) -> io::Result<()> {
        let body = self.body.get().map(Arc::clone);
        let body = body.ok_or(io::ErrorKind::NotFound)?;
        let crew = Arc::clone(self);
        let thread = std::thread::Builder::new()
            .name("offloop-resolver".into())
            .stack_size(STACK_BYTES);
        thread.spawn(move || {
            let turn = Cell::new(0);
            Seat { crew, turn }.run(&body);
        })?;
        Ok(())
    }
}

/// A thread's place in the crew.
struct Seat {
    crew: Arc<Crew>,
    /// The last turn that it had.
    turn: Cell<u64>,
}

impl Seat {
    fn run(&self, body: &Body) {
        while let Some(turn) = Turn::wait(&self.crew.shared) {
            self.turn.set(turn.number);
            loop {
                match body(&turn) {
                    After::Again => {}
                    After::Wait if turn.wait_outcomes().is_ok() => {}
                    After::Relieved => break,
                    After::Wait | After::End => return self.end_all(),
                }
            }
        }
    }

    /// Nothing can be resolved any more.
    fn end_all(&self) {
        let mut state = self.crew.shared.lock();
        state.mailboxes.roster.ending = true;
        let _relief = state.mailboxes.roster.lose(self.turn.get());
        self.crew.shared.turn_free.notify_all();
        self.crew.shared.notify(&state);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        // Its message has been printed. Another thread resolves the outcomes that are left.
        let mut guard = self.crew.shared.lock();
        let state = &mut *guard;
        let relief = state.mailboxes.roster.lose(self.turn.get());
        let start = state.relieve(&self.crew.shared, relief);
        drop(guard);
        if start {
            self.crew.start_counted();
        }
    }
}
