//! Why a thread does not go on.

use std::sync::Arc;

/// What a thread does, or waits for, while its loop is stalled.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// Python code computes.
    Python,
    /// C code computes.
    Native {
        /// Whether it keeps the GIL.
        holds_gil: bool,
    },
    /// It sleeps.
    Sleep,
    /// It waits for a socket.
    Socket {
        /// The address of the other side, as in `10.0.0.5:5432`.
        peer: Option<Arc<str>>,
    },
    /// It waits for a file.
    File {
        /// Where the file is.
        path: Option<Arc<str>>,
    },
    /// It waits for a pipe, a terminal, or another descriptor.
    Descriptor {
        /// As the system calls it, as in `pipe:[4711]`.
        name: Option<Arc<str>>,
    },
    /// It waits for a lock, a condition, or another thread's end.
    Lock,
    /// It waits for a child process.
    Child {
        /// Its process id, if the thread waits for one.
        pid: Option<i32>,
    },
    /// Another thread has the GIL.
    OtherThread {
        /// The kernel's id of that thread.
        native_id: u64,
    },
    /// The interpreter collects garbage.
    Collection,
    /// It waits for memory: pages are read from a disk.
    Memory,
    /// The system does not let it run: other processes have the processors. No code is to blame.
    Starved,
    /// Many callbacks, none of which takes long, add up to one long round.
    Callbacks,
    /// What is known fits to none of these.
    Unknown,
}
