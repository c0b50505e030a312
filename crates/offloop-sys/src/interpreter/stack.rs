//! What may be believed of a stack that somebody else goes on changing.
//!
//! The frames are walked several times, and the code objects are compared before and after:
//!
//! ```text
//! walk · compare codes · walk · compare codes · walk · (pauses, each with a walk)
//!  1                      2                      3
//! ```
//!
//! *Each entry.* Walk 2 found its frame at an instruction of a code object, which was the same one
//! before and after that walk. So the function was on the thread's stack, at that line, at some
//! moment of the reading. A code object that was freed and replaced is noticed, unless one that
//! equals it in name, file and lines came back to the same address between the two comparisons,
//! a few microseconds apart: it takes the interpreter longer to make two.
//!
//! *The stack as a whole* is exact if the thread has not run at all between the first walk and the
//! last, by its own clock; or else if all walks found the same frames at the same instructions,
//! with irregular pauses between them. Whoever sleeps, waits or computes in one call of C is found
//! so. A thread that runs Python code moves from one instruction to the next: then the outer
//! frames that were the same in all three walks are said to be settled, and the inner ones are
//! each true, but perhaps not all of the same moment.
//!
//! Invariants: 1. An entry is in a `Stack` only as said above.
//!             2. Whatever was found is given away only if the caller's `still` holds afterwards.
//! Threads:    the reader's; the thread that is read takes no part.
//! Source:     docs/design/014-reading-a-stack.md.

use std::collections::HashMap;
use std::hint::spin_loop;
use std::sync::Arc;

use super::chain::{Chain, Frame};
use super::code::{Codes, Place};
use super::lines::Position;
use super::memory::{Address, Memory, MemoryError};
use super::threads::Thread;
use super::{Interpreter, Unreadable};

/// How often a stack is tried that moves. Each try takes 10 to 50 microseconds.
const ATTEMPTS_MAX: usize = 8;

/// Turns of waiting between walks that must agree: irregular, so that a loop of the program does
/// not come by with the same steps, and some 50 microseconds together.
const PAUSES: [u32; 8] = [11, 170, 3, 490, 61, 23, 830, 250];

/// One function that is running.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StackEntry {
    /// As the code object has it. What is not a character is replaced.
    pub filename: Arc<str>,
    /// The qualified name.
    pub function: Arc<str>,
    /// Where the function begins.
    pub first_line: i32,
    /// What it is doing.
    pub position: Position,
}

/// The functions that a thread is in, innermost first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Stack {
    /// At most 256.
    pub entries: Vec<StackEntry>,
    /// How many frames there are further out.
    pub cut: u32,
    /// How many frames there were further in which came and went too quickly to be read.
    pub hidden: u32,
    /// How many of the outermost entries were the same from the reading's beginning to its end.
    pub settled: usize,
}

/// What came of a reading.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reading {
    /// The whole stack, as it was at one moment and, as far as could be seen, all the time.
    Exact(Stack),
    /// Each entry was on the stack at some moment; the `settled` ones all the time.
    Moving(Stack),
    /// What was to be read had ended before it was read, by the caller's word.
    Over,
    /// Nothing can be said.
    Unreadable(Unreadable),
}

/// One try.
struct Sample {
    stack: Stack,
    exact: bool,
}

impl<M: Memory> Interpreter<M> {
    /// Reads the stack of a thread, while `still` says that it is doing what the caller is
    /// interested in: that the number of the callback that runs is the same, for one
    /// (`Running::read`). It is asked after each try, so it was so until the last byte was read.
    ///
    /// `codes` may be kept for the next reading, of any thread.
    pub fn read(&self, thread: Thread, codes: &mut Codes, still: impl Fn() -> bool) -> Reading {
        let mut best: Option<Stack> = None;
        let mut reason = Unreadable::Restless;
        for _ in 0..ATTEMPTS_MAX {
            let outcome = self.sample(thread, codes);
            if !still() {
                return Reading::Over;
            }
            match outcome {
                Ok(sample) if sample.exact => return Reading::Exact(sample.stack),
                Ok(Sample { stack, .. }) => {
                    if best.as_ref().is_none_or(|best| stack.hidden <= best.hidden) {
                        best = Some(stack);
                    }
                }
                Err(error) => {
                    reason = error;
                    if is_final(error) {
                        break;
                    }
                }
            }
        }
        match best {
            Some(stack) if !stack.entries.is_empty() => Reading::Moving(stack),
            _ => Reading::Unreadable(reason),
        }
    }

    fn sample(&self, thread: Thread, codes: &mut Codes) -> Result<Sample, Unreadable> {
        let ran_before = (self.processor_time)(thread.native_id);
        let first = self.chain_of(thread)?;
        codes.look(self, first.executables());
        let second = self.chain_of(thread)?;
        codes.keep_unchanged(self, second.executables());
        let third = self.chain_of(thread)?;
        let stood = ran_before.is_some() && ran_before == (self.processor_time)(thread.native_id);
        let settled = Settled::new(&first, &third);
        let stack = self.stack_of(&second, codes, &settled);
        let same = first == second && second == third && stack.hidden == 0;
        Ok(Sample {
            exact: same && (stood || self.stays(thread, &third)),
            stack,
        })
    }

    /// Whether the frames are the same for a while.
    fn stays(&self, thread: Thread, chain: &Chain) -> bool {
        PAUSES.into_iter().all(|turns| {
            (0..turns).for_each(|_| spin_loop());
            self.chain_of(thread).is_ok_and(|now| now == *chain)
        })
    }

    /// The entries of a chain, from the outermost in, as far as their code is known.
    fn stack_of(&self, chain: &Chain, codes: &Codes, settled: &Settled) -> Stack {
        let mut stack = Stack {
            cut: chain.cut,
            ..Stack::default()
        };
        let mut still_settled = true;
        let mut read = 0;
        for frame in chain.frames.iter().rev() {
            still_settled &= settled.has(frame);
            match self.entry(frame, codes) {
                Entry::Shown(entry) => stack.entries.push(entry),
                Entry::Passed => {}
                Entry::Unknown => break,
            }
            read += 1;
            if still_settled {
                stack.settled = stack.entries.len();
            }
        }
        stack.entries.reverse();
        stack.hidden = u32::try_from(chain.frames.len() - read).unwrap_or(u32::MAX);
        stack
    }

    fn entry(&self, frame: &Frame, codes: &Codes) -> Entry {
        let Some(code) = codes.get(frame.executable) else {
            return Entry::Unknown;
        };
        let place = code.place(&self.layout.code, frame.executable, frame.instruction);
        let unit = match place {
            Place::Outside => return Entry::Unknown,
            Place::Before(Some(unit)) if frame.of_generator => unit,
            Place::Before(_) => return Entry::Passed,
            Place::Unit(unit) => unit,
        };
        Entry::Shown(StackEntry {
            filename: Arc::clone(&code.filename),
            function: Arc::clone(&code.qualname),
            first_line: code.first_line(),
            position: code.position(unit),
        })
    }
}

/// What a frame is in the list of entries.
enum Entry {
    Shown(StackEntry),
    /// Still being made, or the interpreter's own: nobody shows it.
    Passed,
    /// Its code is not there any more.
    Unknown,
}

/// Another try would end in the same way.
fn is_final(error: Unreadable) -> bool {
    matches!(
        error,
        Unreadable::NoThread | Unreadable::Memory(MemoryError::Forbidden { .. })
    )
}

/// The frames that were found at the same instruction by the first walk and by the last.
struct Settled([HashMap<Address, Frame>; 2]);

impl Settled {
    fn new(first: &Chain, last: &Chain) -> Self {
        Self([first, last].map(|chain| {
            let frames = chain.frames.iter();
            frames.map(|frame| (frame.address, *frame)).collect()
        }))
    }

    fn has(&self, frame: &Frame) -> bool {
        let Self(walks) = self;
        walks
            .iter()
            .all(|walk| walk.get(&frame.address) == Some(frame))
    }
}
