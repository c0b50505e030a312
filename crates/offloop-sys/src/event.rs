//! Descriptors that become readable: an event counter and a one-shot timer.
//!
//! Both may be shared with worker processes by passing the descriptor. Signalling never blocks: a
//! counter that is full is already readable, which is all a signal means.
//!
//! Source: eventfd(2), timerfd_create(2).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use crate::{check, retry};

/// An event counter: `signal` makes it readable, `clear` makes it quiet.
#[derive(Debug)]
pub struct Event(OwnedFd);

impl Event {
    /// A new, quiet event.
    ///
    /// # Errors
    /// The system's, when no descriptor is left.
    pub fn new() -> io::Result<Self> {
        // SAFETY: eventfd takes no pointers; a non-negative result is a descriptor that we own.
        let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
        // SAFETY: as above; `fd` has no other owner.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Wraps a descriptor received from the process that made the event.
    #[must_use]
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Makes the event readable. A full counter is already readable, so that is no error.
    ///
    /// # Errors
    /// The system's, when the descriptor was closed behind our back.
    pub fn signal(&self) -> io::Result<()> {
        let one = 1u64.to_ne_bytes();
        write_counter(self.0.as_fd(), &one)
    }

    /// Makes the event quiet; says whether it had been signalled.
    pub fn clear(&self) -> bool {
        read_counter(self.0.as_fd())
    }
}

impl AsFd for Event {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A one-shot timer that becomes readable when it expires.
#[derive(Debug)]
pub struct Timer(OwnedFd);

impl Timer {
    /// A new, disarmed timer on the monotonic clock.
    ///
    /// # Errors
    /// The system's, when no descriptor is left.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers; a non-negative result is a descriptor that we own.
        let fd = check(unsafe {
            libc::timerfd_create(
                libc::CLOCK_MONOTONIC,
                libc::TFD_CLOEXEC | libc::TFD_NONBLOCK,
            )
        })?;
        // SAFETY: as above; `fd` has no other owner.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Wraps a descriptor received from the process that made the timer.
    #[must_use]
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Arms the timer to expire once after `delay`.
    ///
    /// # Errors
    /// The system's, when the descriptor was closed behind our back.
    pub fn arm(&self, delay: Duration) -> io::Result<()> {
        let spec = libc::itimerspec {
            it_interval: libc::timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            it_value: libc::timespec {
                tv_sec: i64::try_from(delay.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(delay.subsec_nanos()).max(1),
            },
        };
        let fd = self.0.as_raw_fd();
        // SAFETY: `spec` is valid for the call to read, and no old value is asked for.
        check(unsafe { libc::timerfd_settime(fd, 0, &raw const spec, std::ptr::null_mut()) })?;
        Ok(())
    }

    /// Makes an expired timer quiet.
    pub fn clear(&self) -> bool {
        read_counter(self.0.as_fd())
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn write_counter(fd: BorrowedFd<'_>, bytes: &[u8; 8]) -> io::Result<()> {
    let wrote = retry(|| {
        // SAFETY: `bytes` is valid for 8 bytes of reading.
        let count = unsafe { libc::write(fd.as_raw_fd(), bytes.as_ptr().cast(), 8) };
        if count < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    });
    match wrote {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        other => other,
    }
}

fn read_counter(fd: BorrowedFd<'_>) -> bool {
    let mut bytes = [0u8; 8];
    // SAFETY: `bytes` is valid for 8 bytes of writing.
    let count = unsafe { libc::read(fd.as_raw_fd(), bytes.as_mut_ptr().cast(), 8) };
    count == 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signalled_event_is_cleared_once() {
        let event = Event::new().unwrap();
        assert!(!event.clear());
        event.signal().unwrap();
        event.signal().unwrap();
        assert!(event.clear());
        assert!(!event.clear());
    }

    #[test]
    fn a_timer_becomes_readable_after_its_delay() {
        let timer = Timer::new().unwrap();
        timer.arm(Duration::from_millis(1)).unwrap();
        assert!(crate::socket::wait_readable(timer.as_fd(), Some(Duration::from_secs(5))).unwrap());
        assert!(timer.clear());
    }
}
