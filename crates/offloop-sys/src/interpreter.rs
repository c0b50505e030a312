//! The Python stack of another thread of this process, or of another process, without the GIL.
//!
//! A watch must see what a thread does while that thread holds the lock, so it cannot ask the
//! interpreter. It reads the interpreter's structures as a debugger would, with reads that cannot
//! fault, while their owner goes on changing them. All that is read is untrusted: every address
//! may be stale, every size may be nonsense. What may be believed of it is decided in `stack.rs`.
//!
//! ```text
//! runtime -> interpreters -> threads          threads.rs     by the kernel's id of the thread
//!   thread -> frame -> frame -> frame         chain.rs       innermost first
//!   thread -> interpreter -> GIL              gil.rs         which thread has it
//!   thread -> frame, again and again          motion.rs      whether its instructions change
//!   thread -> task -> coroutine -> frame      tasks.rs       what tasks wait for, from 3.14 on
//!     frame -> code object                    code.rs        names, file, table of lines
//!       instruction -> line                   lines.rs       by the table
//! ```
//!
//! Shape:      `Interpreter` knows where things are (`layout.rs`); `Interpreter::find` a thread,
//!             `Interpreter::read` its stack.
//! Invariants: 1. Nothing read is used as an address or a size before it is checked, and nothing
//!                is used as an address but for another read.
//!             2. Every loop over what was read has a bound of its own.
//! Threads:    any, attached or not; the thread that is read takes no part.
//! Source:     docs/design/014-reading-a-stack.md.

mod chain;
mod code;
mod gil;
mod layout;
mod lines;
pub mod memory;
mod motion;
mod own;
mod processor;
mod stack;
mod tasks;
mod text;
mod threads;

use std::ffi::CStr;

use thiserror::Error;

pub use code::Codes;
pub use gil::{GilFacts, Holder};
pub use lines::{Entries, Position, position_of};
pub use motion::Motion;
pub use own::OwnCaller;
pub use processor::{own_native_id, time_of};
pub use stack::{Reading, Stack, StackEntry};
pub use tasks::{Asyncio, SeenTask};
pub use threads::Thread;

use layout::Layout;
use memory::{Address, Memory, MemoryError, OwnMemory};
use processor::Processor;

/// Why stacks of this interpreter cannot be read at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum UnsupportedError {
    /// No interpreter is loaded, or it hides what is looked for.
    #[error("the interpreter's own data has no symbol")]
    Hidden,
    /// Its layout is not known.
    #[error("the layout of version {version:#010x} is not known")]
    Version {
        /// In the form of `PY_VERSION_HEX`.
        version: u64,
    },
    /// What it says of its layout cannot be.
    #[error("the interpreter's layout is not the expected one")]
    Layout,
    /// Its threads run code of their own.
    #[error("builds without the GIL are not supported")]
    FreeThreaded,
    /// No memory can be read.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

/// Why a stack could not be read this time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum Unreadable {
    /// A read went wrong: what was to be read had gone, or may not be read.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The interpreter has no such thread: it has ended, or runs no Python.
    #[error("the interpreter has no such thread")]
    NoThread,
    /// The list of threads, or the chain of frames, does not end.
    #[error("a list of the interpreter's does not end")]
    Endless,
    /// An address or a size cannot be one.
    #[error("what stands in the place of {what} is none")]
    Malformed {
        /// In words.
        what: &'static str,
    },
    /// The frames changed each time before all of them had been read.
    #[error("the thread did not stay anywhere long enough")]
    Restless,
    /// The scheduler had stopped the thread, perhaps in the middle of linking a frame, and did not
    /// let it go on.
    #[error("the thread was ready to run, but the system did not let it")]
    Preempted,
}

/// What is known of an interpreter from outside: its version, and where its own data is.
#[derive(Clone, Copy, Debug)]
pub struct Symbols {
    /// In the form of `PY_VERSION_HEX`.
    pub version: u64,
    /// The runtime's state.
    pub runtime: Address,
    /// The type of code objects. What is read is taken for one only if it says that it is.
    pub code_type: Address,
    /// The type of strings.
    pub text_type: Address,
    /// The type of byte strings.
    pub bytes_type: Address,
}

/// An interpreter, and the memory that it lives in.
#[derive(Debug)]
pub struct Interpreter<M> {
    memory: M,
    layout: Layout,
    symbols: Symbols,
    processor: Processor,
    /// Whether what it says of its GIL is believed.
    knows_gil: bool,
}

impl Interpreter<OwnMemory> {
    /// The interpreter of this process.
    ///
    /// It should be tried on a stack that is known before anything is believed that it reads.
    ///
    /// # Errors
    /// If its stacks cannot be read.
    pub fn of_this_process(memory: OwnMemory) -> Result<Self, UnsupportedError> {
        let mut version = [0; 8];
        memory.read(symbol(c"Py_Version")?, &mut version)?;
        let symbols = Symbols {
            version: u64::from_ne_bytes(version),
            runtime: symbol(c"_PyRuntime")?,
            code_type: symbol(c"PyCode_Type")?,
            text_type: symbol(c"PyUnicode_Type")?,
            bytes_type: symbol(c"PyBytes_Type")?,
        };
        Ok(Self {
            processor: Processor::OWN,
            ..Self::of_memory(memory, symbols)?
        })
    }
}

/// Where the object of this name is, in whatever this process has loaded for all to use.
fn symbol(name: &CStr) -> Result<Address, UnsupportedError> {
    // SAFETY: a string that ends with a zero; the answer is only a number to us.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    if found.is_null() {
        Err(UnsupportedError::Hidden)
    } else {
        Ok(found.addr() as Address)
    }
}

/// The word at an offset of what was read; the caller has read that far.
fn word(bytes: &[u8], offset: usize) -> u64 {
    let mut word = [0; layout::WORD];
    word.copy_from_slice(&bytes[offset..offset + layout::WORD]);
    u64::from_ne_bytes(word)
}

/// Half a word at an offset, as above.
fn half_word(bytes: &[u8], offset: usize) -> u32 {
    let mut half = [0; 4];
    half.copy_from_slice(&bytes[offset..offset + 4]);
    u32::from_ne_bytes(half)
}

/// An address that an object or a structure can have.
fn checked(address: Address, what: &'static str) -> Result<Address, Unreadable> {
    if address != 0 && address.is_multiple_of(layout::WORD as u64) {
        Ok(address)
    } else {
        Err(Unreadable::Malformed { what })
    }
}

/// Where a field is.
fn field(address: Address, offset: u64) -> Result<Address, Unreadable> {
    address
        .checked_add(offset)
        .ok_or(Unreadable::Malformed { what: "an address" })
}

impl<M: Memory> Interpreter<M> {
    /// An interpreter in any memory.
    ///
    /// # Errors
    /// If its stacks cannot be read.
    pub fn of_memory(memory: M, symbols: Symbols) -> Result<Self, UnsupportedError> {
        Ok(Self {
            layout: Layout::find(&memory, symbols.runtime, symbols.version)?,
            memory,
            symbols,
            processor: Processor::UNKNOWN,
            knows_gil: true,
        })
    }

    /// The same one, of whose GIL nothing is believed.
    #[must_use]
    pub fn without_gil(self) -> Self {
        Self {
            knows_gil: false,
            ..self
        }
    }

    /// The memory that it lives in.
    pub fn memory(&self) -> &M {
        &self.memory
    }

    /// The word in a field.
    fn read_word(&self, address: Address, offset: u64) -> Result<u64, Unreadable> {
        let mut word = [0; layout::WORD];
        self.memory.read(field(address, offset)?, &mut word)?;
        Ok(u64::from_ne_bytes(word))
    }
}
