//! The GIL of a thread's interpreter: which thread has it; and whether garbage is collected.
//!
//! A thread that waits for the GIL sleeps in a condition variable that is a part of the GIL's own
//! structure, so the address that it told the kernel to wait at lies in there.
//!
//! Invariants: 1. A holder is told only if the GIL said the same before and after its id was read.
//! Source:     take_gil and drop_gil in Python/ceval_gil.c; docs/design/015-causes.md.

use super::layout::GilPlace;
use super::memory::{Address, Memory};
use super::threads::Thread;
use super::{Interpreter, Unreadable, checked, field, half_word, word};

/// How often the GIL is looked at until it stays with one thread for two reads in a row.
const ATTEMPTS_MAX: usize = 4;

/// What is known of a thread's GIL at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GilFacts {
    address: Address,
    /// How long its structure is, if a wait for it can be told from any other one.
    bytes: Option<u64>,
    /// Which thread has it; `None` if it passed from thread to thread all the time.
    pub holder: Option<Holder>,
    /// Whether the interpreter collects garbage, in whichever thread.
    pub collects: Option<bool>,
    /// Whether the thread asks for it, where the interpreter tells that itself.
    pub is_requested: Option<bool>,
}

/// Which thread has the GIL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// The one that was asked about.
    This,
    /// The one that the kernel has under this id.
    Other(u64),
    /// None; that one had it last, if it is still there and is another one.
    Free(Option<u64>),
}

impl GilFacts {
    /// Whether a thread that waits at this address waits for the GIL, if that can be told.
    #[must_use]
    pub fn is_awaited_at(&self, address: Address) -> Option<bool> {
        let inside = address.checked_sub(self.address);
        self.bytes
            .map(|bytes| inside.is_some_and(|inside| inside < bytes))
    }
}

impl<M: Memory> Interpreter<M> {
    /// What is known of the GIL that this thread needs.
    ///
    /// # Errors
    /// If the thread is not there, or its interpreter's data is not what it should be.
    pub fn gil_of(&self, thread: Thread) -> Result<GilFacts, Unreadable> {
        if !self.knows_gil {
            return Err(Unreadable::Malformed { what: "a GIL" });
        }
        let interpreter = checked(self.state_of(thread)?.interpreter, "an interpreter")?;
        let layout = &self.layout.gil;
        let address = self.gil_of_interpreter(interpreter)?;
        let is_requested = match layout.requested {
            None => None,
            Some(offset) => self.read_flag(thread.state, offset as u64)?,
        };
        Ok(GilFacts {
            address,
            bytes: layout.bytes,
            holder: self.holder(thread, address)?,
            collects: self.read_flag(interpreter, layout.collecting)?,
            is_requested,
        })
    }

    fn gil_of_interpreter(&self, interpreter: Address) -> Result<Address, Unreadable> {
        match self.layout.gil.place {
            GilPlace::Runtime(offset) => field(self.symbols.runtime, offset),
            GilPlace::Interpreter(offset) => checked(self.read_word(interpreter, offset)?, "a GIL"),
        }
    }

    fn holder(&self, thread: Thread, gil: Address) -> Result<Option<Holder>, Unreadable> {
        for _ in 0..ATTEMPTS_MAX {
            let before = self.read_gil(gil)?;
            let native_id = match before.holder {
                0 => Ok(0),
                state => self.native_id_of_holder(state, gil),
            };
            if self.read_gil(gil)? != before {
                continue;
            }
            return Ok(match (before.is_taken, native_id) {
                // The state of the thread that had it may be gone.
                (false, outcome) => Some(Holder::Free(outcome.ok().filter(|&native_id| {
                    native_id != thread.native_id && (self.processor.time_of)(native_id).is_some()
                }))),
                (true, Ok(0) | Err(_)) => None,
                (true, Ok(native_id)) if native_id == thread.native_id => Some(Holder::This),
                (true, Ok(native_id)) => Some(Holder::Other(native_id)),
            });
        }
        Ok(None)
    }

    fn native_id_of_holder(&self, state: Address, gil: Address) -> Result<u64, Unreadable> {
        let state = self.read_state(state)?;
        let interpreter = checked(state.interpreter, "an interpreter")?;
        if self.gil_of_interpreter(interpreter)? == gil {
            Ok(state.native_id)
        } else {
            Err(Unreadable::Malformed { what: "a thread" })
        }
    }

    fn read_gil(&self, gil: Address) -> Result<Words, Unreadable> {
        let layout = &self.layout.gil;
        let mut window = vec![0; layout.window()];
        self.memory.read(gil, &mut window)?;
        let is_taken = match half_word(&window, layout.locked) {
            0 => false,
            1 => true,
            _ => return Err(Unreadable::Malformed { what: "a GIL" }),
        };
        Ok(Words {
            is_taken,
            holder: word(&window, layout.holder),
        })
    }

    /// A field that is an integer and says yes or no.
    fn read_flag(&self, address: Address, offset: u64) -> Result<Option<bool>, Unreadable> {
        let mut half = [0; 4];
        self.memory.read(field(address, offset)?, &mut half)?;
        Ok(match u32::from_ne_bytes(half) {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        })
    }
}

/// The part of a GIL's structure that says which thread has it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Words {
    is_taken: bool,
    /// The state of the thread that has it, or had it last; 0 if none ever had.
    holder: Address,
}
