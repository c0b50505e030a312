//! Waits for the readiness of many descriptors, each with a token of the caller.
//!
//! Level-triggered: a descriptor that still has something to say is reported again. Source:
//! epoll(7), epoll_pwait2(2).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use crate::check;

/// Events taken from the kernel in one wait; more stay for the next.
const EVENTS_MAX: usize = 64;

/// One descriptor that became ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The token given when the descriptor was added.
    pub token: u64,
}

/// A set of descriptors to wait for.
#[derive(Debug)]
pub struct Poller(OwnedFd);

impl Poller {
    /// An empty set.
    ///
    /// # Errors
    /// The system's, when no descriptor is left.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers; a non-negative result is ours.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: as above.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Watches `fd` for reading and for its end. The caller removes it before closing it.
    ///
    /// # Errors
    /// The system's.
    pub fn add(&self, fd: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        let events = (libc::EPOLLIN | libc::EPOLLRDHUP).cast_unsigned();
        let mut event = libc::epoll_event { events, u64: token };
        let (epoll, fd) = (self.0.as_raw_fd(), fd.as_raw_fd());
        // SAFETY: `event` is valid for the call to read.
        check(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &raw mut event) })?;
        Ok(())
    }

    /// Watches `fd` no more.
    ///
    /// # Errors
    /// The system's, when `fd` was not watched.
    pub fn remove(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let (epoll, fd) = (self.0.as_raw_fd(), fd.as_raw_fd());
        // SAFETY: the event pointer is ignored for a removal.
        check(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_DEL, fd, std::ptr::null_mut()) })?;
        Ok(())
    }

    /// Waits for readiness, at most `limit` (`None`: until something is ready), and fills `ready`.
    /// A signal ends the wait with nothing ready.
    ///
    /// # Errors
    /// The system's.
    pub fn wait(&self, ready: &mut Vec<Ready>, limit: Option<Duration>) -> io::Result<()> {
        ready.clear();
        // Rounded up: waking a millisecond early would spin until the deadline.
        let limit_ms = limit.map_or(-1, |limit| {
            let ms = limit.as_nanos().div_ceil(1_000_000);
            i32::try_from(ms).unwrap_or(i32::MAX)
        });
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX];
        let room = i32::try_from(EVENTS_MAX).expect("a small constant");
        // SAFETY: `events` has room for EVENTS_MAX entries.
        let count =
            unsafe { libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), room, limit_ms) };
        match check(count) {
            Ok(count) => {
                let count = usize::try_from(count).unwrap_or(0);
                ready.extend(
                    events[..count]
                        .iter()
                        .map(|event| Ready { token: event.u64 }),
                );
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::event::Event;

    #[test]
    fn only_what_was_signalled_is_ready() {
        let poller = Poller::new().unwrap();
        let (one, two) = (Event::new().unwrap(), Event::new().unwrap());
        poller.add(one.as_fd(), 1).unwrap();
        poller.add(two.as_fd(), 2).unwrap();
        two.signal().unwrap();
        let mut ready = Vec::new();
        poller
            .wait(&mut ready, Some(Duration::from_secs(5)))
            .unwrap();
        assert_eq!(ready, [Ready { token: 2 }]);
        poller.remove(two.as_fd()).unwrap();
        poller.wait(&mut ready, Some(Duration::ZERO)).unwrap();
        assert!(ready.is_empty());
    }
}
