//! The function that calls into native code, read in place by the thread that it runs in.
//!
//! A thread's own frames stand still while it reads them, and their code objects are alive. So
//! plain loads do, where the reader of other threads copies and compares. No object is made for a
//! frame, as the interpreter's own functions do, so it costs a few nanoseconds.
//!
//! Threads:    attached ones, each for itself.

use super::Interpreter;
use super::layout::{Current, WORD};
use super::memory::{Address, OwnMemory};

/// Frames that are looked at: asyncio has no more between a program and a new task.
const FRAMES_MAX: usize = 16;

/// How long one instruction is.
const UNIT_BYTES: u64 = 2;

/// A function that runs, by addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnCaller {
    /// Its code object.
    pub code: Address,
    /// The instruction that it is at, from the first one of the code.
    pub unit: u32,
}

/// The word at an offset of what is at an address.
///
/// # Safety
/// There is a word, which no other thread writes meanwhile.
unsafe fn load(address: Address, offset: usize) -> u64 {
    let place = std::ptr::with_exposed_provenance::<u8>(address as usize);
    // SAFETY: the caller's.
    unsafe { place.add(offset).cast::<u64>().read_unaligned() }
}

impl Interpreter<OwnMemory> {
    /// The innermost function of the calling thread whose code is none of `passed`, which is
    /// sorted.
    ///
    /// # Safety
    /// The calling thread is attached, and `state` is its `PyThreadState`. This reader has been
    /// tried, so the layout is that of the interpreter.
    #[must_use]
    pub unsafe fn own_caller(&self, state: Address, passed: &[Address]) -> Option<OwnCaller> {
        let layout = &self.layout.frame;
        // SAFETY: the caller's: a state, its frames and their code objects are alive and where the
        // layout says; none but this thread changes its frames.
        unsafe {
            let mut frame = match self.layout.thread.current {
                Current::Frame(offset) => load(state, offset),
                Current::Record { record, frame } => {
                    let record = load(state, record);
                    load(record, usize::try_from(frame).ok()?)
                }
            };
            for _ in 0..FRAMES_MAX {
                if frame == 0 {
                    return None;
                }
                let owner = load(frame, layout.owner) as u8;
                let code = load(frame, layout.executable) & !layout.executable_tags;
                if owner < layout.inner_owners
                    && code != 0
                    && load(code, self.layout.object_type) == self.symbols.code_type
                    && passed.binary_search(&code).is_err()
                {
                    let begin = code.checked_add(self.layout.code.instructions as u64)?;
                    let bytes = load(frame, layout.instruction).checked_sub(begin)?;
                    let unit = u32::try_from(bytes / UNIT_BYTES).ok()?;
                    return Some(OwnCaller { code, unit });
                }
                frame = load(frame, layout.previous);
            }
        }
        None
    }
}

const _: () = assert!(WORD == size_of::<u64>());
