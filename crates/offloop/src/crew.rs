//! The crew: threads that take turns in resolving what no event loop comes for.
//!
//! One of them is on duty. It takes outcomes out of the resolver's mailbox one at a time, and
//! holds none while the user's code runs. One that stays with an outcome for long while others
//! wait is left behind: another thread takes its turn, a new one if none is spare. When it comes
//! back, it finds that its turn is over, and is spare or ends. One that is about to wait in a
//! function of ours gives its turn away at once. When no thread may be added, outcomes are
//! stranded until one comes back; whoever waits for a certain one takes that itself.
//!
//! Invariants: 1. At most one thread is on duty. Only that one takes outcomes, unless they are
//!                stranded.
//!             2. While an outcome waits, somebody on duty has been told, or a look is due, or
//!                every thread of a full crew is with an outcome.
//! Threads:    those of the crew; the supervisor looks after them and starts further ones.
//! Source:     docs/design/004-who-resolves.md.

use std::cell::Cell;
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::Duration;

use offloop_sys::{fork, socket};

use crate::notice::Notice;
use crate::owners::Owners;
use crate::roster::{Next, Relief};
use crate::runtime::{RESOLVER, Runtime, Shared, State};

/// Between two looks at the one on duty; so whoever stays with an outcome is left behind after at
/// most twice as long. A callback rarely takes a millisecond, and the interpreter's lock is passed
/// on every five.
pub(crate) const RELIEF_AFTER: Duration = Duration::from_millis(20);

/// As much as other threads of the program get, since it is the user's code that needs it. Only
/// what is touched takes memory.
const STACK_BYTES: usize = 8 << 20;

impl Owners {
    /// An outcome waits for the resolver, who may be busy.
    pub(crate) fn watch_crew(&mut self) {
        if self.crew.begin_watch() {
            self.look_later();
        }
    }

    pub(crate) fn look_later(&self) {
        // The timer is ours and open: arming it cannot fail.
        let _ = self.relief.arm(RELIEF_AFTER);
    }

    fn waits_for_crew(&self) -> bool {
        !self.slots[usize::from(RESOLVER)].mailbox.is_empty()
    }
}

impl State {
    fn find_stranded(&self, is_wanted: impl Fn(u64) -> bool) -> Option<usize> {
        if !self.owners.crew.is_stranded() {
            return None;
        }
        let mailbox = &self.owners.slots[usize::from(RESOLVER)].mailbox;
        mailbox.iter().position(|notice| is_wanted(notice.token))
    }

    fn take_stranded(&mut self, is_wanted: impl Fn(u64) -> bool) -> Option<Notice> {
        let index = self.find_stranded(is_wanted)?;
        let mailbox = &mut self.owners.slots[usize::from(RESOLVER)].mailbox;
        mailbox.remove(index)
    }

    /// The timer fired: does what can be done under the lock; true when a thread is to be started.
    #[must_use]
    pub(crate) fn look_after_crew(&mut self, shared: &Shared) -> bool {
        let waits = self.owners.waits_for_crew();
        let relief = self.owners.crew.look(waits);
        self.relieve(shared, relief)
    }

    fn relieve(&mut self, shared: &Shared, relief: Relief) -> bool {
        match relief {
            Relief::Enough | Relief::Exhausted => {}
            Relief::LookAgain => self.owners.look_later(),
            Relief::Call => shared.turn_free.notify_one(),
            Relief::Start => return true,
        }
        false
    }
}

/// What a thread of the crew runs in its turn.
type Body = Arc<dyn Fn(&Turn) -> After + Send + Sync>;

/// The threads of this process, once there are any.
#[derive(Default)]
pub(crate) struct Crew {
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
    /// Its number, for [`Runtime::step_aside`].
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
        if !state.owners.crew.is_on_duty(self.number) {
            return Taken::Relieved;
        }
        let slot = &mut state.owners.slots[usize::from(RESOLVER)];
        slot.event.clear();
        // While we are here, nobody needs to tell us.
        slot.told = true;
        if state.drain(&self.shared, Some(RESOLVER)) {
            // The event is ours and open: signalling it cannot fail.
            let _ = state.owners.slots[usize::from(RESOLVER)].event.signal();
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
        if !guard.owners.crew.is_on_duty(self.number) {
            return Taken::Relieved;
        }
        let taken = self.take_from(&mut guard);
        if matches!(taken, Taken::Nothing) {
            self.shared.notify(&guard);
        }
        taken
    }

    fn take_from(&self, state: &mut State) -> Taken {
        let slot = &mut state.owners.slots[usize::from(RESOLVER)];
        let Some(notice) = slot.mailbox.pop_front() else {
            slot.told = false;
            state.owners.crew.rest();
            return Taken::Nothing;
        };
        let more = !slot.mailbox.is_empty();
        state.owners.crew.take();
        if more {
            state.owners.watch_crew();
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
            let next = state.owners.crew.next();
            // Whoever waits for the crew to be done sees it in the roster.
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
            state.owners.crew.spare -= 1;
        }
    }

    /// Waits until the event says that outcomes may be there.
    fn wait_outcomes(&self) -> io::Result<()> {
        let event = self.shared.lock().owners.event(RESOLVER);
        loop {
            match socket::wait_readable(event.as_fd(), None) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result.map(|_readable| ()),
            }
        }
    }
}

/// The thread of `turn` gives it away, if it still has it.
fn give_away(shared: &Arc<Shared>, turn: u64) {
    let mut guard = shared.lock();
    let state = &mut *guard;
    let relief = state.owners.crew.give_away(turn);
    let start = state.relieve(shared, relief);
    // What waits may be stranded now, and somebody wait for it.
    shared.notify(state);
    drop(guard);
    if start {
        start_counted(shared);
    }
}

/// Starts a thread that the roster has counted. If the system has none, the supervisor tries again.
pub(crate) fn start_counted(shared: &Arc<Shared>) {
    if spawn(shared).is_err() {
        let mut guard = shared.lock();
        let state = &mut *guard;
        let relief = state.owners.crew.start_failed();
        // A look that is due starts nothing by itself.
        let _ = state.relieve(shared, relief);
    }
}

fn spawn(shared: &Arc<Shared>) -> io::Result<()> {
    let body = shared.crew.body.get().map(Arc::clone);
    let body = body.ok_or(io::ErrorKind::NotFound)?;
    let shared = Arc::clone(shared);
    let thread = std::thread::Builder::new()
        .name("offloop-resolver".into())
        .stack_size(STACK_BYTES);
    thread.spawn(move || {
        let turn = Cell::new(0);
        Seat { shared, turn }.run(&body);
    })?;
    Ok(())
}

/// A thread's place in the crew.
struct Seat {
    shared: Arc<Shared>,
    /// The last turn that it had.
    turn: Cell<u64>,
}

impl Seat {
    fn run(&self, body: &Body) {
        while let Some(turn) = Turn::wait(&self.shared) {
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
        let mut state = self.shared.lock();
        state.owners.crew.ending = true;
        let _nobody = state.owners.crew.lose(self.turn.get());
        self.shared.turn_free.notify_all();
        self.shared.notify(&state);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        // Its message has been printed. The others' outcomes are another thread's.
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        let relief = state.owners.crew.lose(self.turn.get());
        let start = state.relieve(&self.shared, relief);
        drop(guard);
        if start {
            start_counted(&self.shared);
        }
    }
}

impl Runtime {
    /// Starts the crew of this process unless it has one: threads that call `body` in their turn.
    ///
    /// # Errors
    /// The system's, when no thread is left.
    pub fn start_crew(
        &self,
        body: impl Fn(&Turn) -> After + Send + Sync + 'static,
    ) -> io::Result<()> {
        let crew = &self.0.crew;
        if crew.started.load(Ordering::Acquire) {
            return Ok(());
        }
        // One that another thread has set does the same.
        let _ = crew.body.set(Arc::new(body));
        let mut state = self.0.lock();
        if state.owners.crew.threads == 0 {
            spawn(&self.0)?;
            state.owners.crew.threads = 1;
        }
        crew.started.store(true, Ordering::Release);
        Ok(())
    }

    /// For a thread of the crew that is about to wait inside of its turn: another one takes over.
    pub fn step_aside(&self, turn: u64) {
        if !self.is_forked() {
            give_away(&self.0, turn);
        }
    }

    /// For one who waits for certain outcomes, when every thread of a full crew is with one: takes
    /// the first that `is_wanted` by its token. To be called again after a while.
    #[must_use]
    pub fn take_stranded(&self, is_wanted: impl Fn(u64) -> bool) -> Option<Notice> {
        if self.is_forked() {
            return None;
        }
        self.0.lock().take_stranded(is_wanted)
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
        let state = self.0.lock();
        self.0.wait_until(state, limit, |state| {
            is_over() || state.find_stranded(|other| other == token).is_some()
        });
        self.take_stranded(|other| other == token)
    }

    /// Those who wait look again.
    pub fn tell_waiting(&self) {
        if !self.is_forked() {
            self.0.notify(&self.0.lock());
        }
    }

    /// Waits until nothing is left for the crew and no thread of it is with an outcome, at most
    /// `limit`; false when it passed.
    #[must_use]
    pub fn wait_crew_idle(&self, limit: Duration) -> bool {
        let state = self.0.lock();
        self.0.wait_until(state, limit, |state| {
            let roster = &state.owners.crew;
            roster.threads == 0 || !state.owners.waits_for_crew() && roster.is_idle()
        })
    }

    /// Ends the threads of the crew, within `limit`: how many are left behind.
    #[must_use]
    pub fn end_crew(&self, limit: Duration) -> u32 {
        let mut state = self.0.lock();
        state.owners.crew.ending = true;
        state.owners.crew.vacate();
        // The event is ours and open: signalling it cannot fail.
        let _ = state.owners.event(RESOLVER).signal();
        self.0.turn_free.notify_all();
        self.0
            .wait_until(state, limit, |state| state.owners.crew.threads == 0);
        self.0.lock().owners.crew.threads
    }
}
