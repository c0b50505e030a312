//! The parent's side of a zygote: the process that forks the workers of one fleet and reaps them.
//!
//! It has one thread, has imported what its workers need, and does nothing by itself. Requests and
//! replies are packets on one socket; each request gets one reply, and a zygote that does not
//! reply within its bound is killed and replaced.
//!
//! ```text
//! parent   S setup (memory descriptor, inherited descriptors)      zygote   Z ready | X failed
//!          F worker, generation (five descriptors)                          P pid (pidfd), N errno
//!          R pid                                                            E pid, status, peak
//! ```
//!
//! Source: docs/format/zygote.md.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use offloop_core::{Instant, WorkerId};
use offloop_sys::fork::ForkGuarded;
use offloop_sys::process::{self, ExitStatus};
use offloop_sys::socket::{self, Wait};
use offloop_sys::{memory, process::Exit};

use crate::launch::Launch;

/// Longest message between parent and zygote, apart from the setup, which goes through memory.
pub(crate) const MESSAGE_BYTES_MAX: usize = 4096;

/// How long a zygote may take for its setup: preloaded packages are imported from cold disks.
const SETUP_BOUND: Duration = Duration::from_secs(60);

/// What a zygote replied.
#[derive(Debug)]
pub(crate) enum Reply {
    /// The setup is done; workers may be forked.
    Ready,
    /// The setup failed; the text says why.
    SetupFailed(String),
    /// A worker was forked.
    Forked {
        worker: WorkerId,
        pid: i32,
        pidfd: OwnedFd,
    },
    /// A worker could not be forked.
    ForkFailed { worker: WorkerId, source: io::Error },
    /// A worker's end.
    Exited { pid: i32, exit: Option<Exit> },
}

/// A running zygote.
#[derive(Debug)]
pub(crate) struct Zygote {
    pub(crate) pid: i32,
    pidfd: OwnedFd,
    socket: ForkGuarded,
    /// Held open for as long as the workers may live; its end kills them all.
    lifeline: Arc<ForkGuarded>,
    /// Its setup is done: from now on it replies at once.
    ready: bool,
    /// When each reply that it owes is overdue, in the order of the requests.
    owed: VecDeque<Instant>,
}

impl Zygote {
    /// Starts the program of `launch` and sends it its setup.
    pub(crate) fn start(launch: &Launch) -> io::Result<Self> {
        let (ours, theirs) = socket::pair()?;
        let (lifeline_read, lifeline_write) = socket::pipe()?;
        let lifeline = Arc::new(ForkGuarded::new(lifeline_write)?);
        let ours = ForkGuarded::new(ours)?;
        let pid = process::spawn(&launch.program, &[theirs.as_fd(), lifeline_read.as_fd()])?;
        let pidfd = process::open_pidfd(pid)?;
        let setup = memory::create_shared(c"offloop-setup", launch.setup.len().max(1))?;
        let mapping = memory::Mapping::new(setup)?;
        mapping.write(0, &launch.setup);
        let mut descriptors = vec![mapping.fd()];
        descriptors.extend(launch.tracker.iter().map(|fd| fd.as_fd()));
        descriptors.extend(launch.inherited.iter().map(AsFd::as_fd));
        let mut message = vec![b'S'];
        message.extend_from_slice(&(launch.setup.len() as u64).to_ne_bytes());
        socket::send(ours.as_fd(), &message, &descriptors, Wait::No)?;
        Ok(Self {
            pid,
            pidfd,
            socket: ours,
            lifeline,
            ready: false,
            owed: VecDeque::new(),
        })
    }

    /// What keeps the workers alive; each of them gets a share.
    pub(crate) fn lifeline(&self) -> Arc<ForkGuarded> {
        Arc::clone(&self.lifeline)
    }

    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// When the first of the replies that it owes is overdue.
    pub(crate) fn overdue_at(&self) -> Option<Instant> {
        self.owed.iter().min().copied()
    }

    /// Asks for a worker that has these descriptors. A zygote that is not ready yet may take
    /// `SETUP_BOUND` longer.
    pub(crate) fn request_fork(
        &mut self,
        worker: WorkerId,
        descriptors: &[BorrowedFd<'_>],
        overdue_at: Instant,
    ) -> io::Result<()> {
        let setup = if self.ready {
            Duration::ZERO
        } else {
            SETUP_BOUND
        };
        let overdue_at = overdue_at.saturating_add(setup);
        let mut message = vec![b'F'];
        message.extend_from_slice(&worker.index().to_ne_bytes());
        message.extend_from_slice(&worker.generation().to_ne_bytes());
        self.request(&message, descriptors, overdue_at)
    }

    /// Asks for the end of the worker `pid`, which has ended already.
    pub(crate) fn request_exit(&mut self, pid: i32, overdue_at: Instant) -> io::Result<()> {
        let mut message = vec![b'R'];
        message.extend_from_slice(&pid.to_ne_bytes());
        self.request(&message, &[], overdue_at)
    }

    fn request(
        &mut self,
        message: &[u8],
        descriptors: &[BorrowedFd<'_>],
        overdue_at: Instant,
    ) -> io::Result<()> {
        socket::send(self.socket.as_fd(), message, descriptors, Wait::No)?;
        self.owed.push_back(overdue_at);
        Ok(())
    }

    /// The next reply, if one is there. `UnexpectedEof`: the zygote has ended.
    pub(crate) fn try_reply(&mut self) -> io::Result<Option<Reply>> {
        let mut buffer = [0; MESSAGE_BYTES_MAX];
        let (len, descriptors) = match socket::receive(self.socket.as_fd(), &mut buffer, Wait::No) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        let reply = decode(&buffer[..len], descriptors)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "malformed zygote reply"))?;
        if matches!(reply, Reply::Ready | Reply::SetupFailed(_)) {
            self.ready = true;
        } else {
            self.owed.pop_front();
        }
        Ok(Some(reply))
    }

    /// Ends the zygote and takes its status, so that no zombie stays. Its workers live on until
    /// the lifeline, too, is dropped; the caller decides when.
    pub(crate) fn kill(&self) -> io::Result<Exit> {
        process::kill(self.pidfd.as_fd())?;
        process::reap(self.pid)
    }

    /// Ends the zygote for good. If the program runs under another user by now and may not signal
    /// the zygote, it ends with its lifeline, unless workers still share that.
    pub(crate) fn end(self) -> io::Result<Exit> {
        let Self {
            pid,
            pidfd,
            lifeline,
            ..
        } = self;
        let alone = Arc::into_inner(lifeline).map(drop).is_some();
        match process::kill(pidfd.as_fd()) {
            Err(error) if !alone => Err(error),
            _ => process::reap(pid),
        }
    }

    /// Whether its setup is done, well or badly.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready
    }
}

fn decode(bytes: &[u8], descriptors: Vec<OwnedFd>) -> Option<Reply> {
    let (kind, rest) = bytes.split_first()?;
    let number = |at: usize| Some(i32::from_ne_bytes(*rest.get(at..)?.first_chunk()?));
    let worker = || {
        Some(WorkerId::new(
            number(0)?.cast_unsigned(),
            number(4)?.cast_unsigned(),
        ))
    };
    Some(match kind {
        b'Z' => Reply::Ready,
        b'X' => Reply::SetupFailed(String::from_utf8_lossy(rest).into_owned()),
        b'P' => Reply::Forked {
            worker: worker()?,
            pid: number(8)?,
            pidfd: descriptors.into_iter().next()?,
        },
        b'N' => Reply::ForkFailed {
            worker: worker()?,
            source: io::Error::from_raw_os_error(number(8)?),
        },
        b'E' => {
            let value = number(8)?;
            let status = match number(4)? {
                0 => Some(ExitStatus::Code(value)),
                1 => Some(ExitStatus::Signal(value)),
                _ => None,
            };
            let peak = u64::from_ne_bytes(*rest.get(12..)?.first_chunk()?);
            let exit = status.map(|status| Exit {
                status,
                peak_memory_bytes: peak,
            });
            Reply::Exited {
                pid: number(0)?,
                exit,
            }
        }
        _ => return None,
    })
}
