//! Threads of the interpreter, found by the id that the kernel has for them.
//!
//! The interpreter keeps a list of its interpreters, and for each a list of its threads, which
//! change while they are read: threads come and go. What is read of a thread must say that it
//! belongs to the interpreter whose list it was found in; otherwise the search begins again.
//!
//! Invariants: a search ends after `ATTEMPTS_MAX` rounds of `LIST_MAX` reads at most.

use super::layout::Current;
use super::memory::{Address, Memory};
use super::{Interpreter, Unreadable, checked, word};

/// Threads and interpreters that are looked at in one round: as many as a process can have.
const LIST_MAX: usize = 64 * 1024;

/// Rounds until a search gives up. Threads rarely end between two reads of a list.
const ATTEMPTS_MAX: usize = 8;

/// A thread that runs Python, or did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thread {
    pub(super) state: Address,
    pub(super) native_id: u64,
}

impl Thread {
    /// The thread of this kernel's id, whose `PyThreadState` is known to be at `state`. If it is
    /// not there, or not there any more, that is found out at each reading.
    #[must_use]
    pub fn new(state: Address, native_id: u64) -> Self {
        Self { state, native_id }
    }

    /// The kernel's id of it.
    #[must_use]
    pub fn native_id(self) -> u64 {
        self.native_id
    }
}

/// What is read of a thread's state.
pub(super) struct State {
    next: Address,
    pub interpreter: Address,
    pub native_id: u64,
    /// The innermost frame; 0 if it runs no Python.
    pub frame: Address,
}

impl<M: Memory> Interpreter<M> {
    /// The thread that the kernel has under this id.
    ///
    /// One that has states of several interpreters is in the newest of them: code in it was called
    /// from the older ones. A state without frames is taken only if there is no other.
    ///
    /// # Errors
    /// `NoThread`, if it runs no Python; or why the lists cannot be read.
    pub fn find(&self, native_id: u64) -> Result<Thread, Unreadable> {
        let mut outcome = Err(Unreadable::NoThread);
        for _ in 0..ATTEMPTS_MAX {
            outcome = self.search(native_id);
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }

    /// All threads, those of the newest interpreter first.
    ///
    /// # Errors
    /// Why the lists cannot be read.
    pub fn threads(&self) -> Result<Vec<Thread>, Unreadable> {
        let mut outcome = Err(Unreadable::Endless);
        for _ in 0..ATTEMPTS_MAX {
            let mut found = Vec::new();
            outcome = self.each_thread(|state, seen| {
                let native_id = seen.native_id;
                found.push(Thread { state, native_id });
                None::<()>
            });
            if outcome.is_ok() {
                return Ok(found);
            }
        }
        outcome.map(|_| Vec::new())
    }

    fn search(&self, native_id: u64) -> Result<Thread, Unreadable> {
        let mut idle = None;
        let found = self.each_thread(|state, seen| {
            if seen.native_id != native_id {
                return None;
            }
            let thread = Thread { state, native_id };
            if seen.frame != 0 {
                return Some(thread);
            }
            idle = idle.or(Some(thread));
            None
        })?;
        found.or(idle).ok_or(Unreadable::NoThread)
    }

    /// Looks at all threads once, until `look` has found what it wants.
    fn each_thread<R>(
        &self,
        mut look: impl FnMut(Address, &State) -> Option<R>,
    ) -> Result<Option<R>, Unreadable> {
        let mut looks = 0;
        let head = self.layout.interpreters_head;
        let mut interpreter = self.read_word(self.symbols.runtime, head)?;
        while interpreter != 0 {
            checked(interpreter, "an interpreter")?;
            let mut state = self.read_word(interpreter, self.layout.threads_head)?;
            while state != 0 {
                looks += 1;
                if looks > LIST_MAX {
                    return Err(Unreadable::Endless);
                }
                let seen = self.read_state(state)?;
                if seen.interpreter != interpreter {
                    return Err(Unreadable::Malformed { what: "a thread" });
                }
                if let Some(found) = look(state, &seen) {
                    return Ok(Some(found));
                }
                state = seen.next;
            }
            looks += 1;
            if looks > LIST_MAX {
                return Err(Unreadable::Endless);
            }
            interpreter = self.read_word(interpreter, self.layout.interpreter_next)?;
        }
        Ok(None)
    }

    /// The state of a thread, if it is still that thread's.
    pub(super) fn state_of(&self, thread: Thread) -> Result<State, Unreadable> {
        let state = self.read_state(thread.state)?;
        if state.native_id == thread.native_id && state.interpreter != 0 {
            Ok(state)
        } else {
            Err(Unreadable::NoThread)
        }
    }

    pub(super) fn read_state(&self, address: Address) -> Result<State, Unreadable> {
        let layout = &self.layout.thread;
        let mut window = vec![0; layout.window()];
        self.memory
            .read(checked(address, "a thread")?, &mut window)?;
        let frame = match layout.current {
            Current::Frame(offset) => word(&window, offset),
            Current::Record { record, frame } => match word(&window, record) {
                0 => 0,
                record => self.read_word(checked(record, "a record")?, frame)?,
            },
        };
        Ok(State {
            next: word(&window, layout.next),
            interpreter: word(&window, layout.interpreter),
            native_id: word(&window, layout.native_id),
            frame,
        })
    }
}
