//! The CPU time of another process, of all its threads, as its kernel clock tells it.
//!
//! Source: clock_getcpuclockid(3), clock_gettime(2).

use std::io;
use std::time::Duration;

/// Return the CPU time that a process has used so far.
pub fn of_process(pid: libc::pid_t) -> io::Result<Duration> {
    let mut clock: libc::clockid_t = 0;
    // SAFETY: the only pointer is to a live local, which the call fills on success.
    let status = unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) };
    if status != 0 {
        return Err(io::Error::from_raw_os_error(status));
    }
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a live local of the type that the call fills.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let nanoseconds = time.tv_sec * 1_000_000_000 + time.tv_nsec;
    Ok(Duration::from_nanos(nanoseconds.unsigned_abs()))
}
