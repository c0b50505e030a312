//! What the views ask of the program that they show.

use offloop::Runtime;
use offloop::watch::LoopSeen;
use offloop_core::watch::{Blocked, Ranked};

use crate::document::{Function, LoopStatistics, Task};

/// What does not change while the program runs.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// The version of Python.
    pub python: String,
    /// The version of offloop.
    pub offloop: String,
    /// The name of the program.
    pub program: String,
}

/// What the watch has found.
#[derive(Clone, Debug, Default)]
pub struct WatchSeen {
    /// What lasts longer is a stall; `None` while the watch is off.
    pub threshold_seconds: Option<f64>,
    /// What each loop does now.
    pub loops: Vec<LoopSeen>,
    /// What blocked loops, the longest time in all first.
    pub ranked: Vec<Ranked>,
    /// What the ranking had no room for.
    pub left_out: Blocked,
}

/// A loop, by the interpreter's word.
#[derive(Clone, Debug, Default)]
pub struct LoopRead {
    /// The number that the watch has for it, too.
    pub number: u64,
    /// The package of its class.
    pub kind: String,
    /// The name of its thread, while it runs.
    pub thread: String,
    /// The kernel's id of its thread, while it runs.
    pub native_id: u32,
    /// Whether it runs.
    pub is_running: bool,
    /// What it counts of itself, if it does.
    pub statistics: Option<LoopStatistics>,
}

/// What the interpreter alone knows.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// The name of the program, which may have become another since the views began.
    pub program: String,
    /// Loops that the watch or a thread has.
    pub loops: Vec<LoopRead>,
    /// Tasks that are not over, as many as were read.
    pub tasks: Vec<Task>,
    /// All tasks that are not over.
    pub total: u64,
    /// Time of the processor that it took, mostly with the GIL.
    pub cost_seconds: f64,
}

/// The program that is shown.
pub trait Program: Send + Sync {
    /// What does not change.
    fn identity(&self) -> Identity;

    /// The runtime, once there is one.
    fn runtime(&self) -> Option<Runtime>;

    /// What the watch has found.
    fn watch(&self) -> WatchSeen;

    /// What became of the calls of each function.
    fn functions(&self) -> Vec<Function>;

    /// The function of the call that the runtime has under this token.
    fn function_of(&self, token: u64) -> Option<String>;

    /// Asks the interpreter, and waits for it: on the reader's thread.
    ///
    /// # Errors
    /// Why there is no answer, in words.
    fn read(&self) -> Result<Reading, String>;

    /// Asks for the end of a task, and waits for the interpreter: on the reader's thread.
    ///
    /// # Errors
    /// Why it is not asked for, in words.
    fn cancel_task(&self, id: &str, name: &str) -> Result<(), String>;
}
