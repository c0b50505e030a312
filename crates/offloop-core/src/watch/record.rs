//! What is known of a stall.

use core::time::Duration;
use std::sync::Arc;

use super::cause::Cause;
use crate::Instant;
use crate::event_loop::{Moment, Stalled};

/// One function on a stack.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// As the code object has it.
    pub filename: Arc<str>,
    /// The qualified name.
    pub function: Arc<str>,
    /// The line that runs; a few instructions have none.
    pub line: Option<i32>,
}

/// One function of C on a stack.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NativeEntry {
    /// Its name; the name of its file and an address in it where there is none.
    pub function: Arc<str>,
    /// The file that holds its code.
    pub file: Arc<str>,
}

/// How far a stack can be believed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Quality {
    /// The whole stack, as it was all the time that was looked.
    Exact,
    /// Each entry was on the stack at some moment.
    Moving,
    /// The interpreter was asked, when it had the time to answer: a fall-back.
    Fallback,
    /// There is none, and why.
    Missing(Arc<str>),
}

/// The functions that a thread is in, innermost first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stack {
    /// Innermost first.
    pub entries: Vec<Entry>,
    /// How many there are further out that were not kept.
    pub cut: u32,
    /// How many came and went too quickly to be read, further in.
    pub hidden: u32,
    /// How many of the innermost ones did not stay where they were while it was read: what they
    /// have called came back.
    pub unsettled: usize,
    /// How far it can be believed.
    pub quality: Quality,
}

/// What runs the callbacks of a loop: the end of a file's name, and functions in it.
const RUNNERS: [(&str, &[&str]); 5] = [
    ("/offloop/_loop/event_loop.py", &["EventLoop.run_forever"]),
    (
        "/asyncio/base_events.py",
        &[
            "BaseEventLoop._run_once",
            "BaseEventLoop.run_forever",
            "BaseEventLoop.run_until_complete",
        ],
    ),
    ("/asyncio/events.py", &["Handle._run"]),
    ("/asyncio/runners.py", &["Runner.run", "run"]),
    ("/offloop/_watch/foreign.py", &["Announcements._run"]),
];

fn runs_callbacks(entry: &Entry) -> bool {
    RUNNERS.iter().any(|(file, functions)| {
        entry.filename.ends_with(file) && functions.contains(&&*entry.function)
    })
}

impl Stack {
    /// Without what is further out than the callback: how the loop came to run says nothing of it.
    #[must_use]
    pub fn of_callback(mut self) -> Self {
        if let Some(runner) = self.entries.iter().position(runs_callbacks) {
            self.entries.truncate(runner);
            self.cut = 0;
        }
        self
    }
}

/// The thread that runs the loop.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StalledThread {
    /// The kernel's id.
    pub native_id: u64,
    /// Its name.
    pub name: Arc<str>,
}

/// Where something was made.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The file.
    pub filename: Arc<str>,
    /// The line in it.
    pub line: i32,
}

/// What is known of the task whose step it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskFacts {
    /// Its name.
    pub name: Arc<str>,
    /// The qualified name of its coroutine.
    pub coroutine: Arc<str>,
    /// Where it was made, if that was kept.
    pub made: Option<Origin>,
    /// The tasks that await it, and those that await these: names with the lines where they wait.
    pub awaited_by: Vec<Arc<str>>,
}

/// A stall, with what was found out about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The stall.
    pub stall: Stall,
    /// The entry that is to blame, if one is.
    pub culprit: Option<Entry>,
    /// Its line, as its file has it.
    pub source: Option<Arc<str>>,
    /// What to write instead, as a line of code, or what to do.
    pub advice: Option<Arc<str>>,
    /// The block that says all of it, if the stall is for people.
    pub words: Option<Arc<str>>,
}

/// A stall, as it is known at one moment. It is told when it is found, perhaps again while it
/// lasts, and when it is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stall {
    /// From 1, in the order in which they were first told; the same in all reports of one stall.
    pub number: u64,
    /// The thread of the loop.
    pub thread: StalledThread,
    /// A callback, or a round of many. For a loop that tells its rounds alone, a callback that was
    /// seen to run for a large part of the round stands for it.
    pub stalled: Stalled,
    /// When the callback or the round began.
    pub started: Instant,
    /// When it was told first.
    pub reported: Instant,
    /// How long it has lasted; exactly, when it is over.
    pub lasted: Duration,
    /// Which report this is.
    pub moment: Moment,
    /// Stalls that were not told since the last one, because there were too many.
    pub suppressed: u64,
    /// Why.
    pub cause: Cause,
    /// Whether the thread keeps the GIL in what it does or waits for: no other one runs Python.
    pub keeps_gil: bool,
    /// What runs: of the thread that is to blame, which is another one for `OtherThread`.
    pub stack: Stack,
    /// What ran earlier in a round, in another callback, if it is known.
    pub earlier: Option<Stack>,
    /// Functions of C that the innermost entry of the stack has led to, innermost first, where
    /// these are wanted.
    pub native: Vec<NativeEntry>,
    /// The callback's name, where it is known without a stack.
    pub callback: Option<Arc<str>>,
    /// The task.
    pub task: Option<TaskFacts>,
    /// The request, as in `GET /thumbnails/{name}`.
    pub request: Option<Arc<str>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(entries: &[(&str, &str)]) -> Stack {
        let entry = |&(filename, function): &(&str, &str)| Entry {
            filename: filename.into(),
            function: function.into(),
            line: Some(1),
        };
        Stack {
            entries: entries.iter().map(entry).collect(),
            cut: 3,
            hidden: 0,
            unsettled: 0,
            quality: Quality::Exact,
        }
    }

    #[test]
    fn what_runs_the_loop_is_left_out_and_a_loop_inside_is_the_one() {
        let event_loop = "/lib/python3.13/site-packages/offloop/_loop/event_loop.py";
        let all = [
            ("inner.py", "work"),
            (event_loop, "EventLoop.run_forever"),
            ("outer.py", "work"),
            (
                "/lib/python3.13/asyncio/base_events.py",
                "BaseEventLoop._run_once",
            ),
            ("main.py", "<module>"),
        ];
        let of_callback = stack(&all).of_callback();
        assert_eq!(
            (&of_callback.entries[..], of_callback.cut),
            (&stack(&all[..1]).entries[..], 0)
        );
        assert_eq!(stack(&all[1..]).of_callback().entries, []);
        assert_eq!(stack(&all[2..3]).of_callback(), stack(&all[2..3]));
    }
}
