//! A program whose terminal goes away ends, whatever it is in the middle of.
//!
//! What reads keys may read the end of a terminal again and again, and then looks at nothing else.
//! The kernel tells of that end by SIGHUP, of which the handler here ends the process. Any other
//! SIGHUP goes to the handler that was there before.
//!
//! Invariants: 1. The handler calls what is async-signal-safe, and nothing else.
//! Source:     signal-safety(7), poll(2), setpgid(2).

use std::io;
use std::mem::{transmute, zeroed};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::check;

/// The handler that was there before; 0 for none.
static BEFORE: AtomicUsize = AtomicUsize::new(0);

/// What a shell shows of a process that a signal has ended.
const STATUS_OF_SIGNAL: libc::c_int = 128;

extern "C" fn end_with_terminal(signal: libc::c_int) {
    let mut asked = libc::pollfd {
        fd: libc::STDIN_FILENO,
        events: 0,
        revents: 0,
    };
    // SAFETY: one valid entry for the call to read and fill.
    let found = unsafe { libc::poll(&raw mut asked, 1, 0) };
    if found > 0 && asked.revents & (libc::POLLHUP | libc::POLLERR) != 0 {
        // SAFETY: no pointers. Nothing is to be given back to a terminal that is gone.
        unsafe { libc::_exit(STATUS_OF_SIGNAL + signal) };
    }
    let before = BEFORE.load(Ordering::Relaxed);
    if before != 0 {
        // SAFETY: `begin` has put a handler there that takes the number of the signal alone.
        let before: extern "C" fn(libc::c_int) = unsafe { transmute(before) };
        before(signal);
    }
}

/// While this is there, the process ends with the terminal that is its standard input.
pub struct EndsWithTerminal {
    /// What was in force before, unless that has stayed.
    before: Option<libc::sigaction>,
}

impl EndsWithTerminal {
    /// From now on. Where the signal ends the process anyway, or has a handler that takes more than
    /// its number, nothing is changed. There is one at a time.
    ///
    /// # Errors
    /// The system's.
    pub fn begin() -> io::Result<Self> {
        // SAFETY: plain data, for which zero is a valid value.
        let mut before: libc::sigaction = unsafe { zeroed() };
        // SAFETY: `before` is valid for the call to fill.
        check(unsafe { libc::sigaction(libc::SIGHUP, std::ptr::null(), &raw mut before) })?;
        let is_default = before.sa_sigaction == libc::SIG_DFL;
        if is_default || before.sa_flags & libc::SA_SIGINFO != 0 {
            return Ok(Self { before: None });
        }
        let is_ignored = before.sa_sigaction == libc::SIG_IGN;
        let called = if is_ignored { 0 } else { before.sa_sigaction };
        BEFORE.store(called, Ordering::Relaxed);
        let mut action = before;
        action.sa_sigaction = end_with_terminal as extern "C" fn(libc::c_int) as usize;
        // SAFETY: valid for the call. The handler is async-signal-safe (invariant 1), and so must
        // the one be that was in force.
        check(unsafe { libc::sigaction(libc::SIGHUP, &raw const action, std::ptr::null_mut()) })?;
        Ok(Self {
            before: Some(before),
        })
    }
}

impl Drop for EndsWithTerminal {
    fn drop(&mut self) {
        if let Some(before) = self.before {
            // SAFETY: it was in force before, so the system takes it.
            unsafe { libc::sigaction(libc::SIGHUP, &raw const before, std::ptr::null_mut()) };
        }
    }
}

#[cfg(all(test, not(loom), not(miri)))]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
    use std::sync::atomic::AtomicBool;

    use super::*;

    static TOLD: AtomicBool = AtomicBool::new(false);

    extern "C" fn tell(_signal: libc::c_int) {
        TOLD.store(true, Ordering::Relaxed);
    }

    fn terminal() -> (OwnedFd, OwnedFd) {
        let (mut main, mut side) = (0, 0);
        // SAFETY: both are valid for the call to fill; it may choose the rest.
        let opened = unsafe {
            libc::openpty(
                &raw mut main,
                &raw mut side,
                std::ptr::null_mut(),
                std::ptr::null(),
                std::ptr::null(),
            )
        };
        check(opened).expect("a terminal");
        // SAFETY: fresh descriptors that nothing else has.
        unsafe { (OwnedFd::from_raw_fd(main), OwnedFd::from_raw_fd(side)) }
    }

    /// Reads keys for ever; a status of 1 is a failure.
    ///
    /// # Safety
    /// The calling process has forked, and runs nothing else.
    unsafe fn read_for_ever(side: libc::c_int, ready: libc::c_int) -> ! {
        // SAFETY: calls of the system with valid numbers and pointers; each is async-signal-safe.
        unsafe {
            let mut action: libc::sigaction = zeroed();
            action.sa_sigaction = tell as extern "C" fn(libc::c_int) as usize;
            if libc::setsid() < 0
                || libc::ioctl(side, libc::TIOCSCTTY, 0) < 0
                || libc::dup2(side, libc::STDIN_FILENO) < 0
                || libc::close(side) < 0
                || libc::sigaction(libc::SIGHUP, &raw const action, std::ptr::null_mut()) < 0
            {
                libc::_exit(1);
            }
            let Ok(_ends) = EndsWithTerminal::begin() else {
                libc::_exit(1);
            };
            libc::raise(libc::SIGHUP);
            if !TOLD.load(Ordering::Relaxed) {
                libc::_exit(1);
            }
            libc::write(ready, b"!".as_ptr().cast(), 1);
            let mut keys = [0_u8; 16];
            loop {
                libc::read(libc::STDIN_FILENO, keys.as_mut_ptr().cast(), keys.len());
            }
        }
    }

    #[test]
    fn what_reads_a_terminal_for_ever_ends_with_it() {
        let (main, side) = terminal();
        let (mut ready, told) = std::io::pipe().expect("a pipe");
        // SAFETY: the child makes calls of the system alone.
        let child = unsafe { libc::fork() };
        assert!(child >= 0);
        if child == 0 {
            // SAFETY: no pointers, and this has forked.
            unsafe {
                libc::close(main.as_raw_fd());
                read_for_ever(side.as_raw_fd(), told.as_raw_fd());
            }
        }
        drop((side, told));
        ready.read_exact(&mut [0]).expect("it reads");
        drop(File::from(main));
        let mut status = 0;
        // SAFETY: `status` is valid for the call to fill; the child is this process's.
        check(unsafe { libc::waitpid(child, &raw mut status, 0) }).expect("a child");
        assert_eq!(
            (libc::WIFEXITED(status), libc::WEXITSTATUS(status)),
            (true, STATUS_OF_SIGNAL + libc::SIGHUP)
        );
    }
}
