//! What the kernel knows of another thread of this process, without its help and any privilege.
//!
//! A look copies a few lines of `/proc` and the thread's clock. None of it waits for the thread,
//! which takes no part. Two looks tell how the time between them was spent.
//!
//! ```text
//! ThreadFiles::look -> Look          text.rs         state, call, faults, delay: parsed
//!   wait_of(look) -> Wait            calls.rs        which call, and what its arguments mean
//!                                    waits.rs        what they lead to
//!     describe_descriptor(fd)        descriptor.rs   socket, file, pipe
//! ```
//!
//! Invariants: 1. The files stay those of the thread that they were opened for: when it has ended,
//!                reads fail, even if the kernel gives its id to another thread.
//! Errors:     `LookError`: the thread has ended, a file cannot be read, a line is spoilt.
//! Threads:    any. Descriptors are not passed to programs; a forked child opens its own.
//! Source:     docs/design/015-causes.md.

mod calls;
mod descriptor;
mod text;
mod waits;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use thiserror::Error;

pub use calls::{Target, target_of};
pub use descriptor::{Descriptor, describe_descriptor, shown_address};
pub use text::{
    CallState, Malformed, Schedule, Stat, State, SystemCall, parse_call, parse_channel,
    parse_schedule, parse_sleeps, parse_stat,
};
pub use waits::{Wait, wait_of};

use crate::clock::monotonic_ns;
use crate::interpreter::time_of;

/// Bytes of a line that are read; each is shorter.
const LINE_BYTES_MAX: usize = 512;

/// Bytes of `status` that are read: its lists of groups and processors are long on some machines,
/// and then its end is not read.
const STATUS_BYTES_MAX: usize = 8192;

/// Why a thread cannot be looked at.
#[derive(Debug, Error)]
pub enum LookError {
    /// There is no such thread in this process any more.
    #[error("the thread has ended")]
    Ended,
    /// A file that every kernel has cannot be read.
    #[error("`{file}` of the thread cannot be read")]
    Unreadable {
        /// Its name.
        file: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A line is not of the form that the kernel has documented.
    #[error("`{file}` of the thread is not readable")]
    Malformed {
        /// Its name.
        file: &'static str,
        /// What is wrong.
        source: Malformed,
    },
}

/// A thread at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// When, by the monotonic clock.
    pub time_ns: u64,
    /// How long it has run since it began.
    pub ran_ns: Option<u64>,
    /// As the scheduler has it.
    pub state: State,
    /// What it has called, where the system lets us see that.
    pub call: Option<CallState>,
    /// Where in the kernel it sleeps, where the system says so.
    pub wait_channel: Option<Box<str>>,
    /// How long it was kept from running, and how often it ran, where the kernel counts that.
    pub schedule: Option<Schedule>,
    /// How often it went to sleep by itself.
    pub sleeps: Option<u64>,
    /// Pages that had to be read from a disk.
    pub major_faults: u64,
}

/// The files of `/proc` in which a thread is looked at.
#[derive(Debug)]
pub struct ThreadFiles {
    native_id: u64,
    stat: File,
    call: Option<File>,
    channel: Option<File>,
    schedule: Option<File>,
    status: Option<File>,
}

impl ThreadFiles {
    /// Opens those of the thread that the kernel has under this id in this process.
    ///
    /// # Errors
    /// `Ended`, if there is none; `Unreadable`, if there is no `/proc`, or no descriptor to be had.
    pub fn open(native_id: u64) -> Result<Self, LookError> {
        let open = |file| File::open(format!("/proc/self/task/{native_id}/{file}"));
        let unreadable = |source| LookError::Unreadable {
            file: "stat",
            source,
        };
        let stat = open("stat").map_err(|source| match source.kind() {
            io::ErrorKind::NotFound if File::open("/proc/self/stat").is_ok() => LookError::Ended,
            _ => unreadable(source),
        })?;
        // The rest differs between kernels and containers.
        Ok(Self {
            native_id,
            stat,
            call: open("syscall").ok(),
            channel: open("wchan").ok(),
            schedule: open("schedstat").ok(),
            status: open("status").ok(),
        })
    }

    /// The kernel's id of the thread.
    #[must_use]
    pub fn native_id(&self) -> u64 {
        self.native_id
    }

    /// Looks at the thread.
    ///
    /// # Errors
    /// `Ended`, if it has; or if its state cannot be read.
    pub fn look(&self) -> Result<Look, LookError> {
        let time_ns = monotonic_ns();
        // If the thread is still there afterwards, this was its clock, and no new thread's.
        let ran_ns = time_of(self.native_id);
        // Sleeps before the state: one that is seen asleep here has gone to sleep already.
        let sleeps = self.status.as_ref().and_then(sleeps_in);
        let stat = self.stat()?;
        let is_awake = stat.state == State::Ready;
        let mut line = [0; LINE_BYTES_MAX];
        let call = if is_awake {
            Some(CallState::Running)
        } else {
            optional(self.call.as_ref(), &mut line).and_then(|line| parse_call(line).ok())
        };
        let wait_channel = match call {
            // It says no more than the call does.
            Some(_) => None,
            None => optional(self.channel.as_ref(), &mut line)
                .and_then(|line| parse_channel(line).ok().flatten()),
        };
        let schedule = optional(self.schedule.as_ref(), &mut line)
            .and_then(|line| parse_schedule(line).ok().flatten());
        Ok(Look {
            time_ns,
            ran_ns,
            state: stat.state,
            call,
            wait_channel,
            schedule,
            sleeps,
            major_faults: stat.major_faults,
        })
    }

    fn stat(&self) -> Result<Stat, LookError> {
        const FILE: &str = "stat";
        let mut line = [0; LINE_BYTES_MAX];
        match read_whole(&self.stat, &mut line) {
            Ok(line) => {
                parse_stat(line).map_err(|source| LookError::Malformed { file: FILE, source })
            }
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Err(LookError::Ended),
            Err(source) => Err(LookError::Unreadable { file: FILE, source }),
        }
    }
}

/// For how long the thread that made this was ready and not let run, in its whole life.
#[derive(Debug)]
pub struct OwnDelay(File);

impl OwnDelay {
    /// Opens the file of the calling thread; `None` where the kernel does not have one.
    #[must_use]
    pub fn open() -> Option<Self> {
        File::open("/proc/thread-self/schedstat").ok().map(Self)
    }

    /// Nanoseconds until now; `None` from a kernel that does not count.
    #[must_use]
    pub fn nanoseconds(&self) -> Option<u64> {
        let mut line = [0; LINE_BYTES_MAX];
        let schedule = parse_schedule(read_whole(&self.0, &mut line).ok()?).ok()??;
        Some(schedule.delay_ns)
    }
}

/// What a file holds now, which the kernel writes anew for each read from its beginning.
fn read_whole<'a>(file: &File, into: &'a mut [u8]) -> io::Result<&'a [u8]> {
    let read = crate::retry(|| file.read_at(into, 0))?;
    Ok(&into[..read])
}

/// The same for one that may be forbidden, or not be there.
fn optional<'a>(file: Option<&File>, into: &'a mut [u8]) -> Option<&'a [u8]> {
    read_whole(file?, into).ok()
}

fn sleeps_in(status: &File) -> Option<u64> {
    let mut text = [0; STATUS_BYTES_MAX];
    parse_sleeps(read_whole(status, &mut text).ok()?).ok()
}
