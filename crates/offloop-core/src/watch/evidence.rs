//! What is known of a thread when it is asked why it does not go on.
//!
//! It is looked at twice, and between the looks its stack is read. What cannot be known is `None`,
//! or the variant that says so: a rule never takes a missing fact for a fact.

use core::time::Duration;
use std::sync::Arc;

/// All that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Between the looks.
    pub interval: Duration,
    /// How long the thread ran in it, by its own clock.
    pub ran: Option<Duration>,
    /// How long it was ready and not let run. The kernel adds a wait only once it is over.
    pub delayed: Option<Duration>,
    /// How often it went to sleep by itself.
    pub sleeps: Option<u64>,
    /// Pages that were read from a disk for it.
    pub major_faults: u64,
    /// How much longer the looking thread itself was away than it had meant to be.
    pub late: Duration,
    /// The two looks.
    pub looks: [Seen; 2],
    /// What its stack did.
    pub motion: Motion,
}

/// What was seen at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// As the scheduler has it.
    pub state: ThreadState,
    /// What it waits for, while it is asleep.
    pub wait: Wait,
    /// Which thread has the GIL.
    pub gil: Option<GilHolder>,
    /// Whether its interpreter collects garbage.
    pub collects: Option<bool>,
}

/// A thread as the scheduler has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ThreadState {
    /// It runs, or would.
    Ready,
    /// It waits for an event.
    Asleep,
    /// It waits for a device, and cannot be interrupted.
    AsleepForDevice,
    /// A signal or a debugger has stopped it.
    Stopped,
    /// Not known, or nothing of these.
    Unknown,
}

/// What a thread waits for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Wait {
    /// A point in time.
    Time,
    /// A socket, and the address of the other side.
    Socket(Option<Arc<str>>),
    /// A file, and where it is.
    File(Option<Arc<str>>),
    /// Another descriptor, and its name.
    Descriptor(Option<Arc<str>>),
    /// A lock, a condition, or another thread's end.
    Lock,
    /// The GIL.
    Gil,
    /// The end of a child process, and its process id.
    Child(Option<i32>),
    /// A page of memory: it sleeps, and has called nothing.
    Page,
    /// Something else, or nothing.
    Unknown,
}

/// Which thread has the GIL, or had it last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GilHolder {
    /// The thread that is asked about.
    This,
    /// The thread that the kernel has under this id.
    Other(u64),
    /// None has it at this moment; the thread with this id had it last.
    Free(Option<u64>),
}

/// What a stack did while the thread ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Motion {
    /// Instructions or functions changed: Python code runs.
    Moving,
    /// The same instruction all the time: it is one call of C.
    Still,
    /// It was not read, or did not run while it was.
    Unknown,
}
