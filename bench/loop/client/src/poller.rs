//! Level-triggered epoll: which connections can be read or written now.
//!
//! Invariants: 1. `descriptor` is an epoll descriptor that only this poller owns.
//! Source:     epoll(7).

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// How many events one wait can return; more connections are ready at once in later waits.
const EVENTS_MAX: usize = 256;

/// An epoll descriptor with room for its events.
pub struct Poller {
    descriptor: OwnedFd,
    events: Vec<libc::epoll_event>,
}

/// What a connection waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// An answer.
    Read,
    /// An answer, and room for the rest of its request.
    ReadAndWrite,
}

impl Poller {
    /// Make a poller that watches nothing.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers are passed.
        let descriptor = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            // SAFETY: the descriptor is new and valid, and has no other owner (invariant 1).
            descriptor: unsafe { OwnedFd::from_raw_fd(descriptor) },
            events: vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX],
        })
    }

    /// Begin to watch a socket under a number.
    pub fn add(&self, socket: RawFd, number: usize) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, socket, number, Interest::Read)
    }

    /// Change what a watched socket waits for.
    pub fn change(&self, socket: RawFd, number: usize, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, socket, number, interest)
    }

    /// Wait until something is ready; return the numbers of what is.
    pub fn wait(&mut self) -> io::Result<impl Iterator<Item = usize> + use<'_>> {
        let count = loop {
            // SAFETY: the pointer and the count describe the vector's own elements, which live
            // as long as the call; the descriptor is open (invariant 1).
            let count = unsafe {
                libc::epoll_wait(
                    self.descriptor.as_raw_fd(),
                    self.events.as_mut_ptr(),
                    EVENTS_MAX as libc::c_int,
                    -1,
                )
            };
            if let Ok(count) = usize::try_from(count) {
                break count;
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        };
        Ok(self.events[..count].iter().map(|event| event.u64 as usize))
    }

    fn control(
        &self,
        operation: libc::c_int,
        socket: RawFd,
        number: usize,
        interest: Interest,
    ) -> io::Result<()> {
        let wanted = match interest {
            Interest::Read => libc::EPOLLIN,
            Interest::ReadAndWrite => libc::EPOLLIN | libc::EPOLLOUT,
        };
        let mut event = libc::epoll_event {
            events: wanted.cast_unsigned(),
            u64: number as u64,
        };
        // SAFETY: `event` is a live local that the kernel copies; the descriptor is open
        // (invariant 1), and a socket that is not gives an error.
        let status = unsafe {
            libc::epoll_ctl(
                self.descriptor.as_raw_fd(),
                operation,
                socket,
                &raw mut event,
            )
        };
        if status == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}
