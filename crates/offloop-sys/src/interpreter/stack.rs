//! What may be believed of a stack that its own thread goes on changing.
//!
//! The frames are walked several times, the code objects are compared in between, and at the end it
//! is asked what the thread has done meanwhile:
//!
//! ```text
//! walk · compare codes · walk · compare codes · (let it run · walk), four times
//!  1                      2                                  3 to 6
//! ```
//!
//! A thread may be stopped anywhere, also between two steps of linking a frame. Then every walk
//! finds the same, and it may be the stack of a moment ago with a part missing. So a walk is
//! believed only together with another one, and with what the thread did in between.
//!
//! *Exact.* All walks have found the same frames at the same instructions, and either the thread
//! slept in the kernel all the time, or it ran in each of the pauses, which are irregular. A
//! thread that waits, sleeps or computes in one call of C is found so.
//!
//! *Each entry* of a stack that moves was found by walk 2 at an instruction of a code object, which
//! was the same one before and after that walk; and the same frame, running the same code, was
//! there in a walk after the thread had run. So the function was on the stack at that line. A code
//! object that was freed and replaced is noticed, unless one that equals it in name, file and lines
//! came back to the same address between the two comparisons, a few microseconds apart.
//!
//! Invariants: 1. An entry is in a `Stack` only as said above.
//!             2. Whatever was found is given away only if the caller's `still` holds afterwards.
//! Threads:    the reader's; the thread that is read takes no part.
//! Source:     docs/design/014-reading-a-stack.md.

use std::collections::HashMap;
use std::sync::Arc;

use super::chain::{Chain, Frame};
use super::code::{Codes, Place};
use super::lines::Position;
use super::memory::{Address, Memory, MemoryError};
use super::processor::Progress;
use super::threads::Thread;
use super::{Interpreter, Unreadable};
use crate::clock::monotonic_ns;

/// How often a stack is tried that moves, and for how long: one try takes 20 to 100 microseconds,
/// or some milliseconds where the thread has to share the processor with the reader.
const ATTEMPTS_MAX: usize = 16;
/// A thread that has moved this often, with all its frames read, goes on moving.
const MOVES_MAX: usize = 3;
const ATTEMPTS_NS_MAX: u64 = 8_000_000;

/// How long a thread has to run between the walks that must agree: irregular, so that a loop of
/// the program does not come by with the same steps; and longer than a processor is usually kept
/// by an interrupt, or by the host of a virtual machine, while the thread's clock goes on.
const PAUSES_NS: [u64; 4] = [50_000, 110_000, 30_000, 170_000];

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
    /// Where its frame is.
    pub frame: Address,
    /// Whether it is of a generator or a coroutine: then no other frame was there in its time.
    pub of_generator: bool,
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
        let begin = monotonic_ns();
        for attempt in 1..=ATTEMPTS_MAX {
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
                    if is_final(error) || self.let_run(thread) == Progress::Preempted {
                        break;
                    }
                }
            }
            let all_read = best.as_ref().is_some_and(|best| best.hidden == 0);
            if (all_read && attempt >= MOVES_MAX)
                || monotonic_ns().saturating_sub(begin) > ATTEMPTS_NS_MAX
            {
                break;
            }
        }
        match best {
            Some(stack) if !stack.entries.is_empty() => Reading::Moving(stack),
            _ => Reading::Unreadable(reason),
        }
    }

    /// Lets the thread out of where it cannot be read.
    fn let_run(&self, thread: Thread) -> Progress {
        let since = (self.processor.time_of)(thread.native_id);
        self.processor
            .wait_until_ran(thread.native_id, since, PAUSES_NS[0])
    }

    fn sample(&self, thread: Thread, codes: &mut Codes) -> Result<Sample, Unreadable> {
        let since = (self.processor.time_of)(thread.native_id);
        let first = self.chain_of(thread)?;
        codes.look(self, first.executables());
        let second = self.chain_of(thread)?;
        codes.keep_unchanged(self, second.executables());
        let [first_pause, more_pauses @ ..] = PAUSES_NS;
        let (third, asleep) = self.walk_later(thread, since, first_pause)?;
        let stack = self.stack_of(&second, codes, &Settled::new(&first, &third));
        let same = first == second && second == third && stack.hidden == 0;
        let exact = same && (asleep || self.stays(thread, &third, more_pauses));
        Ok(Sample { stack, exact })
    }

    /// Walks again once the thread has run for so long. If it slept instead, all the time, or is
    /// the one that reads, the walk is as good; otherwise no walk is.
    fn walk_later(
        &self,
        thread: Thread,
        since: Option<u64>,
        pause_ns: u64,
    ) -> Result<(Chain, bool), Unreadable> {
        let native_id = thread.native_id;
        if (self.processor.is_own)(native_id) {
            return Ok((self.chain_of(thread)?, true));
        }
        let progress = self.processor.wait_until_ran(native_id, since, pause_ns);
        let asleep = match progress {
            Progress::Ran => false,
            Progress::Asleep => true,
            Progress::Paused => return Err(Unreadable::Restless),
            Progress::Preempted => return Err(Unreadable::Preempted),
        };
        let chain = self.chain_of(thread)?;
        // It may have been woken before the walk.
        let asleep_still = asleep && (self.processor.time_of)(native_id) == since;
        if asleep && !asleep_still {
            return Err(Unreadable::Restless);
        }
        Ok((chain, asleep))
    }

    /// Whether the frames are the same for a while, in which the thread runs.
    fn stays(&self, thread: Thread, chain: &Chain, pauses_ns: [u64; PAUSES_NS.len() - 1]) -> bool {
        pauses_ns.into_iter().all(|pause_ns| {
            let since = (self.processor.time_of)(thread.native_id);
            self.walk_later(thread, since, pause_ns)
                .is_ok_and(|(now, _)| now == *chain)
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
            if !settled.has_later(frame) {
                break;
            }
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

    /// A frame alone, if its code is there.
    pub(super) fn entry_alone(&self, frame: &Frame, codes: &mut Codes) -> Option<StackEntry> {
        codes.look(self, std::iter::once(frame.executable));
        match self.entry(frame, codes) {
            Entry::Shown(entry) => Some(entry),
            Entry::Passed | Entry::Unknown => None,
        }
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
            frame: frame.address,
            of_generator: frame.of_generator,
        })
    }
}

/// What a frame is in the list of entries.
enum Entry {
    Shown(StackEntry),
    /// Still being made, or the interpreter's own, which it does not show.
    Passed,
    /// Its code is not there any more.
    Unknown,
}

/// Another try would end in the same way.
fn is_final(error: Unreadable) -> bool {
    matches!(
        error,
        Unreadable::NoThread
            | Unreadable::Preempted
            | Unreadable::Memory(MemoryError::Forbidden { .. })
    )
}

/// The frames that the first walk found, and the last.
struct Settled([HashMap<Address, Frame>; 2]);

impl Settled {
    fn new(first: &Chain, last: &Chain) -> Self {
        Self([first, last].map(|chain| {
            let frames = chain.frames.iter();
            frames.map(|frame| (frame.address, *frame)).collect()
        }))
    }

    /// Both found it at the same instruction.
    fn has(&self, frame: &Frame) -> bool {
        let Self(walks) = self;
        walks
            .iter()
            .all(|walk| walk.get(&frame.address) == Some(frame))
    }

    /// The last one found it running the same code.
    fn has_later(&self, frame: &Frame) -> bool {
        let Self([_, last]) = self;
        let found = last.get(&frame.address);
        found.is_some_and(|found| found.executable == frame.executable)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Symbols;
    use super::super::processor::Processor;
    use super::*;

    const STATE: Address = 0x1000;
    const NATIVE_ID: u64 = 7;

    /// The state of one thread of CPython 3.12, which runs nothing.
    struct Idle;

    impl Memory for Idle {
        fn read(&self, address: Address, into: &mut [u8]) -> Result<(), MemoryError> {
            let mut state = [0; 256];
            state[16..24].copy_from_slice(&8_u64.to_ne_bytes());
            state[144..152].copy_from_slice(&NATIVE_ID.to_ne_bytes());
            let begin = usize::try_from(address - STATE).expect("only the state is read");
            into.copy_from_slice(&state[begin..begin + into.len()]);
            Ok(())
        }
    }

    fn read(processor: Processor) -> Reading {
        let symbols = Symbols {
            version: 0x030c_01f0,
            runtime: 0,
            code_type: 0,
            text_type: 0,
            bytes_type: 0,
        };
        let interpreter = Interpreter {
            processor,
            ..Interpreter::of_memory(Idle, symbols).expect("a known layout")
        };
        interpreter.read(Thread::new(STATE, NATIVE_ID), &mut Codes::new(), || true)
    }

    #[test]
    fn a_thread_that_sleeps_or_runs_is_believed() {
        let asleep = Processor {
            time_of: |_| Some(5),
            is_asleep: |_| true,
            ..Processor::UNKNOWN
        };
        assert_eq!(read(asleep), Reading::Exact(Stack::default()));
        assert_eq!(read(Processor::UNKNOWN), Reading::Exact(Stack::default()));
        let running = Processor {
            time_of: |_| Some(monotonic_ns()),
            ..Processor::UNKNOWN
        };
        assert_eq!(read(running), Reading::Exact(Stack::default()));
    }

    #[test]
    fn a_thread_that_the_scheduler_has_stopped_is_not_believed() {
        let stopped = Processor {
            time_of: |_| Some(5),
            ..Processor::UNKNOWN
        };
        assert_eq!(read(stopped), Reading::Unreadable(Unreadable::Preempted));
    }
}
