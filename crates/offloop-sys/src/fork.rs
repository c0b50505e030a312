//! What happens to our descriptors when the program forks.
//!
//! A child that the user's program forks inherits our ends of the workers' channels and lifelines.
//! If it kept them, a worker would never see the end of file that tells it that its parent has
//! ended. So every such descriptor is registered here, and a handler closes them in the child.
//!
//! Invariants: 1. A slot holds a descriptor number, or -1.
//!             2. The child's handler only closes and stores: it is async-signal-safe.
//! Source:     pthread_atfork(3), signal-safety(7).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Once;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

/// Descriptors that may be registered at once: four for each worker, for 1,024 workers.
const SLOTS: usize = 4096;

static DESCRIPTORS: [AtomicI32; SLOTS] = [const { AtomicI32::new(-1) }; SLOTS];
static GENERATION: AtomicU32 = AtomicU32::new(0);
static INSTALL: Once = Once::new();

extern "C" fn close_all_in_child() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
    for slot in &DESCRIPTORS {
        let fd = slot.swap(-1, Ordering::Relaxed);
        if fd >= 0 {
            // SAFETY: invariant 1: a descriptor that this process inherited from its parent. Its
            // owner does not use it in this child (`GENERATION` tells the owner's code).
            unsafe { libc::close(fd) };
        }
    }
}

/// From now on [`generation`] counts the forks of this process, and guarded descriptors close.
pub fn watch() {
    INSTALL.call_once(|| {
        // SAFETY: the handler is async-signal-safe (invariant 2) and lives for ever.
        unsafe { libc::pthread_atfork(None, None, Some(close_all_in_child)) };
    });
}

/// How many forks lie between this process and the process that loaded the program.
#[must_use]
pub fn generation() -> u32 {
    GENERATION.load(Ordering::Relaxed)
}

/// Has a forked child close a descriptor before it runs anything else, while this is kept. The
/// descriptor must stay open for as long.
#[derive(Debug)]
pub struct ForkGuard {
    slot: usize,
    generation: u32,
}

impl ForkGuard {
    /// Registers `fd`, which stays the caller's.
    ///
    /// # Errors
    /// `QuotaExceeded` when 4,096 descriptors are registered already.
    pub fn new(fd: BorrowedFd<'_>) -> io::Result<Self> {
        watch();
        for (slot, entry) in DESCRIPTORS.iter().enumerate() {
            let claimed =
                entry.compare_exchange(-1, fd.as_raw_fd(), Ordering::Relaxed, Ordering::Relaxed);
            if claimed.is_ok() {
                return Ok(Self {
                    slot,
                    generation: generation(),
                });
            }
        }
        Err(io::Error::new(
            io::ErrorKind::QuotaExceeded,
            format!(
                "no room to guard descriptor {} across forks: limit {SLOTS}",
                fd.as_raw_fd()
            ),
        ))
    }

    /// Whether no fork lies between its making and this process.
    fn is_of_this_process(&self) -> bool {
        self.generation == generation()
    }
}

impl Drop for ForkGuard {
    fn drop(&mut self) {
        if self.is_of_this_process() {
            DESCRIPTORS[self.slot].store(-1, Ordering::Relaxed);
        }
    }
}

/// A descriptor that does not outlive a fork: the child closes it before it runs anything else.
#[derive(Debug)]
pub struct ForkGuarded {
    fd: Option<OwnedFd>,
    guard: ForkGuard,
}

impl ForkGuarded {
    /// Registers `fd`.
    ///
    /// # Errors
    /// `QuotaExceeded` when 4,096 descriptors are registered already.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        let guard = ForkGuard::new(fd.as_fd())?;
        Ok(Self {
            fd: Some(fd),
            guard,
        })
    }
}

impl AsFd for ForkGuarded {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_ref().expect("present until drop").as_fd()
    }
}

impl Drop for ForkGuarded {
    fn drop(&mut self) {
        let fd = self.fd.take().expect("present until drop");
        if self.guard.is_of_this_process() {
            // Before the number is free: another descriptor that gets it is not to be closed.
            DESCRIPTORS[self.guard.slot].store(-1, Ordering::Relaxed);
            drop(fd);
            // The slot may be another descriptor's by the time that the guard is dropped.
            self.guard.generation = generation().wrapping_sub(1);
        } else {
            // In a forked child: the handler closed the number, which may be another descriptor's
            // by now.
            let _: RawFd = std::os::fd::IntoRawFd::into_raw_fd(fd);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket;

    #[test]
    fn a_forked_child_does_not_keep_a_guarded_descriptor() {
        let (mine, theirs) = socket::pair().unwrap();
        let guarded = ForkGuarded::new(mine).unwrap();
        let (done_read, done_write) = socket::pipe().unwrap();
        // SAFETY: the child only waits for its own pipe to close and exits.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            drop(done_write);
            let _ = socket::read(done_read.as_fd(), &mut [0; 1]);
            // SAFETY: ends the child without running anything of the test harness.
            unsafe { libc::_exit(0) };
        }
        drop(guarded);
        // The child lives and was never told to close anything, yet the peer sees the end.
        let limit = Some(std::time::Duration::from_secs(5));
        assert!(socket::wait_readable(theirs.as_fd(), limit).unwrap());
        drop(done_write);
        let mut status = 0;
        // SAFETY: `status` is valid for the call to fill.
        unsafe { libc::waitpid(pid, &raw mut status, 0) };
    }
}
