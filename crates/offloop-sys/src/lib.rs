//! The part of offloop that touches the operating system, and the home of its unsafe code.
//!
//! Everything here is a small safe face over one mechanism: memory shared by file descriptor, a
//! single-producer ring inside it, sockets that carry descriptors, wakers, clocks, processes. The
//! crate knows nothing of tasks, pools or Python; it never starts a thread and never waits without
//! a bound that the caller gave.

#[cfg(not(loom))]
pub mod activity;
pub mod clock;
pub mod event;
pub mod file;
pub mod fork;
pub mod handshake;
pub mod hangup;
pub mod identity;
#[cfg(not(loom))]
pub mod interpreter;
pub mod lifeline;
pub mod memory;
#[cfg(not(loom))]
pub mod native_stack;
pub mod openssl;
pub mod poller;
pub mod process;
pub mod readiness;
pub mod ring;
pub mod running;
#[cfg(not(loom))]
pub mod segment;
pub mod signal_timer;
pub mod socket;
#[cfg(not(loom))]
pub mod spawn;
pub mod stream;
pub mod suspending;
pub mod sync;
pub mod terminal;
pub mod thread;

/// Turns the `-1` of a system call into the error it left in `errno`.
pub(crate) fn check(result: libc::c_int) -> std::io::Result<libc::c_int> {
    if result < 0 {
        Err(std::io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// The same, for calls that return a length.
pub(crate) fn check_size(result: libc::ssize_t) -> std::io::Result<usize> {
    usize::try_from(result).map_err(|_| std::io::Error::last_os_error())
}

/// Repeats a call that a signal interrupted; every other error is the caller's.
pub(crate) fn retry<T>(mut call: impl FnMut() -> std::io::Result<T>) -> std::io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
