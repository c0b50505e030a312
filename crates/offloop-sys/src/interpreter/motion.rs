//! Whether a thread that runs stays in one call of C, or runs Python code.
//!
//! The interpreter notes in a frame which instruction it is at. While C computes, that stays. A
//! loop of Python goes on to another one, but it is back within nanoseconds: looks at it may find
//! the same by chance. So there are many looks, at irregular times. A loop of a single instruction,
//! as in `while True: pass`, is found by that instruction, which is a jump.
//!
//! Threads:    the looking one's; the thread that is looked at takes no part.
//! Source:     docs/design/015-causes.md.

use std::time::Duration;

use super::chain::Frame;
use super::memory::Memory;
use super::processor::Progress;
use super::threads::Thread;
use super::{Interpreter, Unreadable};

/// How long the thread runs between two looks. A thread of Python that is at one instruction half
/// of its time would be taken for C once in 65,000 times.
const PAUSES_NS: [u64; 16] = [
    23_000, 71_000, 37_000, 11_000, 53_000, 29_000, 83_000, 41_000, 61_000, 19_000, 47_000, 31_000,
    67_000, 13_000, 59_000, 43_000,
];

/// Looks that may fail because the thread slept, or was not let run, and how long it is waited for
/// then: altogether a little longer than a thread of Python has the GIL before it lets another run.
const FAILURES_MAX: usize = 3;
const ROUSED: Duration = Duration::from_millis(2);

/// What the instructions of a thread do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Motion {
    /// They change, or are a loop: Python code runs.
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
        let Some(first) = self.innermost(thread)? else {
            return Ok(Motion::Still);
        };
        let mut failures = 0;
        for pause_ns in PAUSES_NS {
            let since = (self.processor.time_of)(thread.native_id);
            match (self.processor).wait_until_ran(thread.native_id, since, pause_ns) {
                Progress::Ran => {}
                _ if failures == FAILURES_MAX => return Err(Unreadable::Preempted),
                Progress::Preempted => failures += 1,
                Progress::Asleep | Progress::Paused => {
                    failures += 1;
                    std::thread::sleep(ROUSED);
                }
            }
            if self.innermost(thread)? != Some(first) {
                return Ok(Motion::Moving);
            }
        }
        Ok(if self.loops_at(first)? {
            Motion::Moving
        } else {
            Motion::Still
        })
    }

    /// Whether the instruction is a jump, which can be nothing but a loop.
    fn loops_at(&self, frame: Frame) -> Result<bool, Unreadable> {
        let mut operation = [0];
        self.memory.read(frame.instruction, &mut operation)?;
        Ok(self.layout.loops.contains(&operation[0]))
    }
}
