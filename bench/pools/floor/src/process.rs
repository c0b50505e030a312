//! The second process: forked, given one function to run, and reaped with its CPU time.
//!
//! Errors: whatever the kernel answers, as `io::Error`.

use std::io;
use std::mem::MaybeUninit;
use std::process::abort;

/// A forked process that runs one function and ends.
pub struct Partner {
    pid: libc::pid_t,
}

impl Partner {
    /// Fork; the child runs `body` and never returns to the caller's code.
    pub fn run(body: impl FnOnce()) -> io::Result<Self> {
        // SAFETY: this program has one thread, so the child may run any code after the fork.
        let pid = unsafe { libc::fork() };
        match pid {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                body();
                // SAFETY: ends this process at once; nothing runs after it.
                unsafe { libc::_exit(0) }
            }
            _ => Ok(Self { pid }),
        }
    }

    /// Wait for the end of the process. An unclean end is a bug of this program.
    pub fn join(self) -> io::Result<()> {
        let mut status = 0;
        // SAFETY: `status` is a valid place for the kernel to write to.
        if unsafe { libc::waitpid(self.pid, &mut status, 0) } < 0 {
            return Err(io::Error::last_os_error());
        }
        if status != 0 {
            abort();
        }
        Ok(())
    }
}

/// Microseconds of CPU of this process and of all that it has reaped.
pub fn cpu_us() -> f64 {
    [libc::RUSAGE_SELF, libc::RUSAGE_CHILDREN]
        .into_iter()
        .map(usage_us)
        .sum()
}

fn usage_us(who: libc::c_int) -> f64 {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: `usage` is a valid place; all-zero bytes are a valid `rusage` if the call fails.
    let usage = unsafe {
        libc::getrusage(who, usage.as_mut_ptr());
        usage.assume_init()
    };
    [usage.ru_utime, usage.ru_stime]
        .into_iter()
        .map(|time| time.tv_sec as f64 * 1e6 + time.tv_usec as f64)
        .sum()
}
