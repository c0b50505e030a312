//! Readiness of many descriptors to be read and written, for an event loop.
//!
//! Unlike [`crate::poller`], interest can be changed, and descriptors are named by their numbers:
//! users of an event loop hand in numbers, and may close them without telling the loop.
//!
//! Units:      timeouts are nanoseconds, kept as exactly as the kernel can.
//! Errors:     the system's. A descriptor that was closed and opened again behind our back is
//!             watched anew without an error, since that is what the user means.
//! Threads:    one waits; other threads only wake it, through a descriptor of their own.
//! Source:     epoll(7), epoll_pwait2(2).

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use crate::check;

/// Events taken from the kernel in one wait, unless more are asked for; the rest stays for the
/// next.
const EVENTS: usize = 256;

/// What a descriptor is watched for, or is ready for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// Reading does not block.
    pub read: bool,
    /// Writing does not block.
    pub write: bool,
    /// Reported once, and then not until it is changed again.
    pub once: bool,
}

impl Interest {
    /// Neither.
    pub const NONE: Self = Self {
        read: false,
        write: false,
        once: false,
    };

    /// Whether it is neither.
    #[must_use]
    pub const fn is_none(self) -> bool {
        !self.read && !self.write
    }

    const fn events(self) -> u32 {
        let read = if self.read { libc::EPOLLIN } else { 0 };
        let write = if self.write { libc::EPOLLOUT } else { 0 };
        let once = if self.once { libc::EPOLLONESHOT } else { 0 };
        (read | write | once).cast_unsigned()
    }

    /// An error or a hang-up makes both ready: reading or writing then gives the error. That is
    /// also how Python's own selectors take it.
    const fn from_events(events: u32) -> Self {
        let read =
            (libc::EPOLLIN | libc::EPOLLHUP | libc::EPOLLERR | libc::EPOLLPRI).cast_unsigned();
        let write = (libc::EPOLLOUT | libc::EPOLLHUP | libc::EPOLLERR).cast_unsigned();
        Self {
            read: events & read != 0,
            write: events & write != 0,
            once: false,
        }
    }
}

/// Watches descriptors by number.
#[derive(Debug)]
pub struct Readiness(OwnedFd);

/// What one wait found; kept between waits for its memory.
pub struct Found {
    /// Those of the last wait; the next one fills the capacity.
    events: Vec<libc::epoll_event>,
    /// False once the kernel has refused `epoll_pwait2`; then timeouts are rounded up.
    precise: bool,
}

impl Readiness {
    /// Watches nothing.
    ///
    /// # Errors
    /// The system's, when no descriptor is left.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers; a non-negative result is ours.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: as above.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Changes what `fd` is watched for, from what the caller last set to `after`.
    ///
    /// # Errors
    /// The system's: a number that is no open descriptor, or a descriptor that cannot be watched.
    pub fn change(&self, fd: RawFd, before: Interest, after: Interest) -> io::Result<()> {
        if after.is_none() {
            return self.forget(fd);
        }
        if before.is_none() {
            return match self.control(libc::EPOLL_CTL_ADD, fd, after) {
                Err(error) if error.raw_os_error() == Some(libc::EEXIST) => self.modify(fd, after),
                result => result,
            };
        }
        match self.modify(fd, after) {
            // Closed and opened again behind our back.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                self.control(libc::EPOLL_CTL_ADD, fd, after)
            }
            result => result,
        }
    }

    /// Changes what `fd` is watched for to `after`, which is not empty. A new descriptor that has
    /// got the number of the watched one is left alone.
    ///
    /// # Errors
    /// The system's: `NotFound` or `EBADF` when the descriptor was closed behind our back.
    pub fn modify(&self, fd: RawFd, after: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, after)
    }

    /// Watches `fd` no more.
    ///
    /// # Errors
    /// The system's, but none for a descriptor that was closed behind our back: the kernel has
    /// forgotten it by itself.
    pub fn forget(&self, fd: RawFd) -> io::Result<()> {
        match self.control(libc::EPOLL_CTL_DEL, fd, Interest::NONE) {
            Err(error) if is_gone(&error) => Ok(()),
            result => result,
        }
    }

    /// Forgets everything, for the caller to watch anew what it wants. The kernel goes on reporting
    /// a descriptor that was closed while a duplicate of it is open, and its number no longer
    /// reaches it in the kernel: only this ends the reports.
    ///
    /// No thread may wait here meanwhile.
    ///
    /// # Errors
    /// The system's; then everything is as before.
    pub fn renew(&self) -> io::Result<()> {
        let new = Self::new()?;
        // SAFETY: no pointers; our own number, which stays ours, gets another meaning.
        check(unsafe { libc::dup3(new.0.as_raw_fd(), self.0.as_raw_fd(), libc::O_CLOEXEC) })?;
        Ok(())
    }

    /// Watches an event counter that wakes the thread that waits here. Each signal is reported
    /// once, and the counter needs no clearing.
    ///
    /// # Errors
    /// The system's.
    pub fn watch_waker(&self, fd: RawFd) -> io::Result<()> {
        let events = (libc::EPOLLIN | libc::EPOLLET).cast_unsigned();
        self.control_events(libc::EPOLL_CTL_ADD, fd, events)
    }

    fn control(&self, operation: i32, fd: RawFd, interest: Interest) -> io::Result<()> {
        self.control_events(operation, fd, interest.events())
    }

    fn control_events(&self, operation: i32, fd: RawFd, events: u32) -> io::Result<()> {
        let mut event = libc::epoll_event {
            events,
            u64: u64::try_from(fd).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?,
        };
        // SAFETY: `event` is valid for the call to read; a wrong number is an error, no more.
        check(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), operation, fd, &raw mut event) })?;
        Ok(())
    }

    /// Waits until something is ready, at most `limit` (`None`: for ever).
    ///
    /// # Errors
    /// The system's; `Interrupted` when a signal ended the wait. Then nothing was found.
    pub fn wait(&self, found: &mut Found, limit: Option<Duration>) -> io::Result<()> {
        found.events.clear();
        let count = match limit {
            Some(limit) if found.precise && !limit.is_zero() => {
                match self.wait_precisely(found, limit) {
                    // Some containers refuse what they do not know with the second.
                    Err(error)
                        if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) =>
                    {
                        found.precise = false;
                        self.wait_roundly(found, Some(limit))
                    }
                    result => result,
                }
            }
            _ => self.wait_roundly(found, limit),
        };
        let count = usize::try_from(count?).unwrap_or(0);
        // SAFETY: the kernel has filled so many, which are no more than it was given room for.
        unsafe { found.events.set_len(count) };
        Ok(())
    }

    fn wait_precisely(&self, found: &mut Found, limit: Duration) -> io::Result<i32> {
        let timeout = libc::timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(limit.subsec_nanos()),
        };
        let room = found.room();
        // By its number: C libraries before 2.35 have no function for it.
        // SAFETY: `events` has that much room, `timeout` is valid for reading, and
        // no mask is given.
        let count = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.0.as_raw_fd(),
                found.events.as_mut_ptr(),
                room,
                &raw const timeout,
                std::ptr::null::<libc::sigset_t>(),
                0_usize,
            )
        };
        check(i32::try_from(count).unwrap_or(i32::MAX))
    }

    fn wait_roundly(&self, found: &mut Found, limit: Option<Duration>) -> io::Result<i32> {
        // Rounded up: waking a millisecond early would spin until the deadline.
        let limit_ms = limit.map_or(-1, |limit| {
            i32::try_from(limit.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX)
        });
        let room = found.room();
        let events = found.events.as_mut_ptr();
        // SAFETY: `events` has that much room.
        check(unsafe { libc::epoll_wait(self.0.as_raw_fd(), events, room, limit_ms) })
    }
}

impl Default for Found {
    fn default() -> Self {
        Self {
            events: Vec::with_capacity(EVENTS),
            precise: true,
        }
    }
}

impl Found {
    /// Has the next wait find so many descriptors at once, if so many are ready. Pages are used
    /// only for what is found.
    pub fn make_room(&mut self, count: usize) {
        if self.events.capacity() < count {
            // Another one, for nothing of the old one is to be copied.
            self.events = Vec::with_capacity(count.next_power_of_two());
        }
    }

    fn room(&self) -> i32 {
        i32::try_from(self.events.capacity()).unwrap_or(i32::MAX)
    }

    /// How many descriptors are ready.
    #[must_use]
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Descriptor number `index` of them, and what it is ready for.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<(RawFd, Interest)> {
        let event = self.events.get(index)?;
        let fd = RawFd::try_from(event.u64).ok()?;
        Some((fd, Interest::from_events(event.events)))
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EBADF))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    const READ: Interest = Interest {
        read: true,
        ..Interest::NONE
    };
    const BOTH: Interest = Interest {
        write: true,
        ..READ
    };

    fn ready(readiness: &Readiness, limit: Option<Duration>) -> Vec<(RawFd, Interest)> {
        let mut found = Found::default();
        readiness.wait(&mut found, limit).unwrap();
        (0..found.len())
            .map(|index| found.get(index).unwrap())
            .collect()
    }

    #[test]
    fn interest_decides_what_is_reported() {
        let readiness = Readiness::new().unwrap();
        let (near, mut far) = UnixStream::pair().unwrap();
        let fd = near.as_raw_fd();
        readiness.change(fd, Interest::NONE, READ).unwrap();
        assert_eq!(ready(&readiness, Some(Duration::ZERO)), []);
        far.write_all(b"x").unwrap();
        assert_eq!(ready(&readiness, None), [(fd, READ)]);
        readiness.change(fd, READ, BOTH).unwrap();
        assert_eq!(ready(&readiness, None), [(fd, BOTH)]);
        readiness.change(fd, BOTH, Interest::NONE).unwrap();
        assert_eq!(ready(&readiness, Some(Duration::ZERO)), []);
    }

    #[test]
    fn interest_for_once_is_reported_once() {
        let readiness = Readiness::new().unwrap();
        let (near, mut far) = UnixStream::pair().unwrap();
        let fd = near.as_raw_fd();
        let once = Interest { once: true, ..READ };
        readiness.change(fd, Interest::NONE, once).unwrap();
        far.write_all(b"x").unwrap();
        assert_eq!(ready(&readiness, None), [(fd, READ)]);
        assert_eq!(ready(&readiness, Some(Duration::ZERO)), []);
        readiness.change(fd, once, once).unwrap();
        assert_eq!(ready(&readiness, None), [(fd, READ)]);
    }

    #[test]
    fn descriptor_closed_and_opened_again_is_watched_anew() {
        let readiness = Readiness::new().unwrap();
        let (near, _far) = UnixStream::pair().unwrap();
        let fd = near.as_raw_fd();
        readiness.change(fd, Interest::NONE, READ).unwrap();
        drop(near);
        readiness.change(fd, READ, Interest::NONE).unwrap();
        let (near, far) = UnixStream::pair().unwrap();
        let fd = near.as_raw_fd();
        readiness.change(fd, READ, READ).unwrap();
        drop(far);
        // The other end has hung up.
        assert_eq!(ready(&readiness, None), [(fd, BOTH)]);
    }

    #[test]
    fn watching_less_leaves_a_descriptor_alone_that_took_the_place_of_another() {
        let readiness = Readiness::new().unwrap();
        let (near, _far) = UnixStream::pair().unwrap();
        let (other, far) = UnixStream::pair().unwrap();
        let fd = near.as_raw_fd();
        readiness.change(fd, Interest::NONE, BOTH).unwrap();
        // In one step: tests on other threads take every number that is free.
        // SAFETY: both numbers are open, and owned by this test.
        assert_eq!(unsafe { libc::dup2(other.as_raw_fd(), fd) }, fd);
        let error = readiness.modify(fd, READ).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
        drop(far);
        assert_eq!(ready(&readiness, Some(Duration::ZERO)), []);
    }

    #[test]
    fn renewing_ends_what_is_told_of_a_closed_number() {
        let readiness = Readiness::new().unwrap();
        let (near, mut far) = UnixStream::pair().unwrap();
        let fd = near.as_raw_fd();
        let copy = near.try_clone().unwrap();
        readiness.change(fd, Interest::NONE, READ).unwrap();
        drop(near);
        readiness.forget(fd).unwrap();
        far.write_all(b"x").unwrap();
        assert_eq!(ready(&readiness, None), [(fd, READ)]);
        readiness.renew().unwrap();
        assert_eq!(ready(&readiness, Some(Duration::ZERO)), []);
        let fd = copy.as_raw_fd();
        readiness.change(fd, Interest::NONE, READ).unwrap();
        assert_eq!(ready(&readiness, None), [(fd, READ)]);
    }

    #[test]
    fn one_wait_finds_as_many_as_there_is_room_for() {
        let readiness = Readiness::new().unwrap();
        let watched: Vec<_> = (0..EVENTS + 10)
            .map(|_| crate::event::Event::new().unwrap())
            .collect();
        for event in &watched {
            let fd = event.as_fd().as_raw_fd();
            readiness.change(fd, Interest::NONE, READ).unwrap();
            event.signal().unwrap();
        }
        let mut found = Found::default();
        readiness.wait(&mut found, Some(Duration::ZERO)).unwrap();
        assert_eq!(found.len(), EVENTS);
        found.make_room(watched.len());
        readiness.wait(&mut found, Some(Duration::ZERO)).unwrap();
        assert_eq!(found.len(), watched.len());
    }

    #[test]
    fn wrong_number_is_an_error() {
        let readiness = Readiness::new().unwrap();
        for fd in [-1, 1_000_000] {
            let error = readiness.change(fd, Interest::NONE, READ).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EBADF));
        }
    }

    #[test]
    fn wait_ends_at_its_limit() {
        let readiness = Readiness::new().unwrap();
        let limit = Some(Duration::from_micros(300));
        assert_eq!(ready(&readiness, limit), []);
        let mut found = Found {
            precise: false,
            ..Found::default()
        };
        readiness.wait(&mut found, limit).unwrap();
        assert!(found.is_empty());
    }

    #[test]
    fn a_waker_is_reported_once_for_each_signal_without_clearing() {
        let waker = crate::event::Event::new().unwrap();
        let readiness = Readiness::new().unwrap();
        readiness.watch_waker(waker.as_fd().as_raw_fd()).unwrap();
        let mut found = Found::default();
        for _ in 0..2 {
            waker.signal().unwrap();
            readiness.wait(&mut found, Some(Duration::ZERO)).unwrap();
            assert_eq!(found.len(), 1);
            readiness.wait(&mut found, Some(Duration::ZERO)).unwrap();
            assert!(found.is_empty());
        }
    }
}
