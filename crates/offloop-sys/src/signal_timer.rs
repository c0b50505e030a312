//! A timer that sends this process a signal, once, after a while.
//!
//! It takes neither a thread nor the timers that a program may use itself (`alarm`, `setitimer`).
//! A child that is forked does not inherit it, and makes its own.
//!
//! Source:     timer_create(2), timer_settime(2).

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::check;

/// A timer of the kernel, and the process that has it.
struct Timer {
    id: usize,
    process: u32,
}

/// Sends one signal. Setting it again before it has expired replaces the earlier setting.
pub struct SignalTimer {
    signal: i32,
    timer: Mutex<Option<Timer>>,
}

impl SignalTimer {
    /// For this signal. The kernel's timer is made when it is first set.
    #[must_use]
    pub const fn new(signal: i32) -> Self {
        Self {
            signal,
            timer: Mutex::new(None),
        }
    }

    /// Has the signal sent to this process in so long; at least a nanosecond.
    ///
    /// # Errors
    /// The system's, when there are too many timers.
    pub fn set(&self, after: Duration) -> io::Result<()> {
        let mut timer = self.timer.lock().unwrap_or_else(PoisonError::into_inner);
        let process = std::process::id();
        let id = match &*timer {
            Some(timer) if timer.process == process => timer.id,
            _ => {
                let id = create(self.signal)?;
                *timer = Some(Timer { id, process });
                id
            }
        };
        let zero = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let setting = libc::itimerspec {
            it_interval: zero,
            it_value: libc::timespec {
                tv_sec: i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(after.subsec_nanos().max(1)),
            },
        };
        let id = id as libc::timer_t;
        // SAFETY: a timer of this process, which is never deleted; the setting is valid for the
        // call, and no old one is asked for.
        check(unsafe { libc::timer_settime(id, 0, &raw const setting, std::ptr::null_mut()) })?;
        Ok(())
    }
}

fn create(signal: i32) -> io::Result<usize> {
    // SAFETY: sigevent is plain data, for which zero is a valid value.
    let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
    event.sigev_notify = libc::SIGEV_SIGNAL;
    event.sigev_signo = signal;
    let mut id: libc::timer_t = std::ptr::null_mut();
    // SAFETY: both pointers are valid for the call, which fills the second.
    check(unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut id) })?;
    Ok(id as usize)
}
