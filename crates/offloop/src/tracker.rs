//! The line to the resource tracker: a pipe that is written to before it has a reader.
//!
//! The program and its workers hold the write end. As soon as one of them registers something, the
//! supervisor starts the tracker's program and gives it the read end, with what is in the pipe.
//! So a program that shares no memory starts no process for it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use offloop_sys::fork::ForkGuarded;
use offloop_sys::process::{self, Program};
use offloop_sys::socket;

/// The read end of a line whose tracker is not running yet.
pub(crate) struct TrackerLine {
    read: ForkGuarded,
    program: Program,
}

impl TrackerLine {
    /// A line, and its write end. `program` will find the read end at descriptor 3.
    pub(crate) fn open(program: Program) -> io::Result<(Self, OwnedFd)> {
        let (read, write) = socket::pipe()?;
        let read = ForkGuarded::new(read)?;
        Ok((Self { read, program }, write))
    }

    pub(crate) fn read_end(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }

    /// Whether something has been written to it.
    pub(crate) fn is_in_use(&self) -> bool {
        socket::has_bytes(self.read.as_fd())
    }

    /// Starts the tracker. It is not waited for: it ends when its last writer has ended.
    pub(crate) fn start(&self) -> io::Result<()> {
        process::spawn(&self.program, &[self.read.as_fd()]).map(|_pid| ())
    }
}
