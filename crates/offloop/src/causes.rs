//! Why a thread of this process does not go on, found from outside of it.
//!
//! A thread is seen twice: what the kernel knows of it, and what its interpreter's GIL says. In
//! between it is found out whether its instructions change. All that becomes evidence, in the words
//! of `offloop_core::watch`, which decides.
//!
//! Invariants: 1. What could not be read is missing in the evidence, and nothing stands for it.
//! Threads:    any; the thread that is seen takes no part.
//! Source:     docs/design/015-causes.md.

use std::sync::Arc;
use std::time::Duration;

use offloop_core::watch::{self, Evidence, GilHolder, Seen, ThreadState};
use offloop_sys::activity::{Look, LookError, State, ThreadFiles, Wait, wait_of};
use offloop_sys::interpreter::memory::OwnMemory;
use offloop_sys::interpreter::{GilFacts, Holder, Interpreter, Motion, Thread, Unreadable};

/// A thread as it was at one moment.
#[derive(Clone, Debug)]
pub struct Sight {
    look: Look,
    wait: Wait,
    gil: Option<GilFacts>,
}

impl Sight {
    /// Sees a thread of Python.
    ///
    /// # Errors
    /// If the kernel does not have it any more, or does not let us look.
    pub fn of(
        files: &ThreadFiles,
        interpreter: &Interpreter<OwnMemory>,
        thread: Thread,
    ) -> Result<Self, LookError> {
        let look = files.look()?;
        let gil = interpreter.gil_of(thread).ok();
        let wait = wait_of(&look, interpreter.memory());
        Ok(Self { look, wait, gil })
    }

    /// The same, with what a later sight says of the GIL and the collector: times are measured from
    /// this one, and what the thread works at now began later.
    #[must_use]
    pub fn with_gil_of(self, later: &Self) -> Self {
        Self {
            gil: later.gil,
            ..self
        }
    }

    /// Whether the thread ran, or would have.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self.look.state, State::Ready)
    }

    /// Whether the thread had the GIL.
    #[must_use]
    pub fn has_gil(&self) -> bool {
        self.gil.and_then(|gil| gil.holder) == Some(Holder::This)
    }

    /// Finds out whether the thread's instructions change, unless it was seen to wait for something
    /// that only an event ends. It takes up to some milliseconds.
    ///
    /// # Errors
    /// If that cannot be told, because the thread does not run, or cannot be read.
    pub fn motion(
        &self,
        interpreter: &Interpreter<OwnMemory>,
        thread: Thread,
    ) -> Result<Motion, Unreadable> {
        match wait(&self.wait, self.gil.as_ref()) {
            watch::Wait::Unknown | watch::Wait::Gil => interpreter.motion_of(thread),
            _ => Err(Unreadable::Preempted),
        }
    }
}

/// What two sights of a thread show, and its motion between them; `late` is how much longer than
/// it had meant to be the looking thread was away.
#[must_use]
pub fn evidence(
    sights: &[Sight; 2],
    motion: Result<Motion, Unreadable>,
    late: Duration,
) -> Evidence {
    let [first, second] = sights.each_ref().map(|sight| &sight.look);
    let since = |of: fn(&Look) -> Option<u64>| of(second)?.checked_sub(of(first)?);
    let delayed = since(|look| look.schedule.map(|schedule| schedule.delay_ns));
    Evidence {
        interval: Duration::from_nanos(second.time_ns.saturating_sub(first.time_ns)),
        ran: since(|look| look.ran_ns).map(Duration::from_nanos),
        delayed: delayed.map(Duration::from_nanos),
        sleeps: since(|look| look.sleeps),
        major_faults: second.major_faults.saturating_sub(first.major_faults),
        late,
        looks: sights.each_ref().map(seen),
        motion: match motion {
            Ok(Motion::Moving) => watch::Motion::Moving,
            Ok(Motion::Still) => watch::Motion::Still,
            Err(_) => watch::Motion::Unknown,
        },
    }
}

fn seen(sight: &Sight) -> Seen {
    Seen {
        state: match sight.look.state {
            State::Ready => ThreadState::Ready,
            State::Asleep => ThreadState::Asleep,
            State::AsleepForDevice => ThreadState::AsleepForDevice,
            State::Stopped => ThreadState::Stopped,
            State::Other => ThreadState::Unknown,
        },
        wait: wait(&sight.wait, sight.gil.as_ref()),
        gil: sight
            .gil
            .and_then(|gil| gil.holder)
            .map(|holder| match holder {
                Holder::This => GilHolder::This,
                Holder::Other(native_id) => GilHolder::Other(native_id),
                Holder::Free(native_id) => GilHolder::Free(native_id),
            }),
        collects: sight.gil.and_then(|gil| gil.collects),
    }
}

fn wait(wait: &Wait, gil: Option<&GilFacts>) -> watch::Wait {
    let shared = |text: &Option<String>| text.as_deref().map(Arc::from);
    match wait {
        Wait::Time => watch::Wait::Time,
        Wait::Socket { peer, .. } => watch::Wait::Socket(shared(peer)),
        Wait::File { path } => watch::Wait::File(shared(path)),
        Wait::Descriptor { name } => watch::Wait::Descriptor(shared(name)),
        Wait::Futex { address } => match gil.and_then(|gil| is_for_gil(*address, gil)) {
            Some(true) => watch::Wait::Gil,
            Some(false) => watch::Wait::Lock,
            None => watch::Wait::Unknown,
        },
        Wait::Child { pid } => watch::Wait::Child(*pid),
        Wait::Page => watch::Wait::Page,
        Wait::Nothing | Wait::Other => watch::Wait::Unknown,
    }
}

/// Whether a thread that waits for a lock, perhaps at a known address, waits for the GIL.
fn is_for_gil(address: Option<u64>, gil: &GilFacts) -> Option<bool> {
    let by_address = address.and_then(|address| gil.is_awaited_at(address));
    // A thread that has the GIL waits for something else.
    let has_it = (gil.holder == Some(Holder::This)).then_some(false);
    by_address.or(gil.is_requested).or(has_it)
}
