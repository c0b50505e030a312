//! Whether a thread that runs stays in one call of C, or runs Python code.
//!
//! The interpreter notes in a frame which instruction it is at. While C computes, that stays. A
//! loop of Python goes on to another one, but it is back within nanoseconds: looks at it may find
//! the same by chance. So there are many looks, at irregular times. A loop of a single instruction,
//! as in `while True: pass`, is found by that instruction, which is a jump. Between two long calls
//! of C the instruction changes too, so that a change or two are no proof of Python.
//!
//! Threads:    the looking one's; the thread that is looked at takes no part.
//! Source:     docs/design/015-causes.md.

use std::time::Duration;

use super::chain::Frame;
use super::memory::Memory;
use super::processor::Progress;
use super::threads::Thread;
use super::{Interpreter, Unreadable};
use crate::clock::monotonic_ns;

/// How long the thread runs between two looks.
const PAUSES_NS: [u64; 16] = [
    23_000, 71_000, 37_000, 11_000, 53_000, 29_000, 83_000, 41_000, 61_000, 19_000, 47_000, 31_000,
    67_000, 13_000, 59_000, 43_000,
];

/// Looks in a row that find the same instruction where it is one call of C. A loop of Python that
/// is at one instruction half of its time would be taken for C once in 65,000 times.
const STILL_LOOKS: usize = PAUSES_NS.len();

/// Looks that find another instruction where it is Python code: one more than the end of a call
/// and the beginning of the next one make.
const MOVES: usize = 3;

/// Looks that may fail because the thread slept, or was not let run, and how long it is waited for
/// then: altogether a little longer than a thread of Python has the GIL before it lets another run.
const FAILURES_MAX: usize = 3;
const ROUSED: Duration = Duration::from_millis(2);

/// How long all of it may take where the thread, or the looking one, is let run for a short time
/// only: on an idle machine it takes 1.5 ms.
const ALTOGETHER_NS_MAX: u64 = 20_000_000;

/// What the instructions of a thread do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Motion {
    /// They change again and again, or are a loop: Python code runs.
    Moving,
    /// It is the same one all the time: it has called C.
    Still,
}

impl<M: Memory> Interpreter<M> {
    /// Looks for up to a few milliseconds whether the thread's instructions change while it runs.
    ///
    /// # Errors
    /// `Preempted`, if it sleeps or is not let run for long enough; or why it cannot be read.
    pub fn motion_of(&self, thread: Thread) -> Result<Motion, Unreadable> {
        let Some(mut last) = self.innermost(thread)? else {
            return Ok(Motion::Still);
        };
        let begin = monotonic_ns();
        let (mut failures, mut moves, mut still) = (0, 0, 0);
        for pause_ns in PAUSES_NS.into_iter().cycle() {
            failures += usize::from(!self.lets_run(thread, pause_ns));
            if failures > FAILURES_MAX || monotonic_ns().saturating_sub(begin) > ALTOGETHER_NS_MAX {
                break;
            }
            match self.innermost(thread) {
                Ok(Some(now)) if now == last => still += 1,
                Ok(Some(now)) => {
                    (last, still) = (now, 0);
                    moves += 1;
                }
                Ok(None) => return Ok(Motion::Still),
                Err(error @ Unreadable::NoThread) => return Err(error),
                // It was read while it changed.
                Err(_) => failures += 1,
            }
            if moves == MOVES {
                return Ok(Motion::Moving);
            }
            if still == STILL_LOOKS {
                return self.motion_at(last);
            }
        }
        Err(Unreadable::Preempted)
    }

    /// Gives the thread time to run for so long; it may sleep instead, or not be let run.
    fn lets_run(&self, thread: Thread, pause_ns: u64) -> bool {
        let since = (self.processor.time_of)(thread.native_id);
        match (self.processor).wait_until_ran(thread.native_id, since, pause_ns) {
            Progress::Ran => true,
            Progress::Preempted => false,
            Progress::Asleep | Progress::Paused => {
                std::thread::sleep(ROUSED);
                false
            }
        }
    }

    /// A thread that stays at a jump is in a loop, for a jump takes no time.
    fn motion_at(&self, frame: Frame) -> Result<Motion, Unreadable> {
        let mut operation = [0];
        self.memory.read(frame.instruction, &mut operation)?;
        Ok(if self.layout.loops.contains(&operation[0]) {
            Motion::Moving
        } else {
            Motion::Still
        })
    }
}
