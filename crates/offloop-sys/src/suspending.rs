//! A program that its user stops and has go on later, as with Ctrl-Z and `fg`: it hears of both, to
//! give its terminal back before, and to take it again afterwards.
//!
//! Invariants: 1. The handler only stores: it is async-signal-safe.
//! Source:     sigaction(2), signal-safety(7), setpgid(2) on orphaned process groups.

use std::io;
use std::mem::zeroed;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::check;

static STOP_WANTED: AtomicBool = AtomicBool::new(false);
static WENT_ON: AtomicBool = AtomicBool::new(false);

extern "C" fn note(signal: libc::c_int) {
    let noted = if signal == libc::SIGTSTP {
        &STOP_WANTED
    } else {
        &WENT_ON
    };
    noted.store(true, Ordering::Relaxed);
}

/// Which processes are to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stops {
    /// This one alone.
    Process,
    /// Its whole job: all processes of its group.
    Job,
}

/// While this is there, a stop is noted instead of made. There is one at a time.
pub struct Suspending {
    stop_before: libc::sigaction,
    continue_before: libc::sigaction,
}

impl Suspending {
    /// Notes from now on.
    ///
    /// # Errors
    /// The system's.
    pub fn begin() -> io::Result<Self> {
        let noting = noting();
        let stop_before = set(libc::SIGTSTP, &noting)?;
        if stop_before.sa_sigaction == libc::SIG_IGN {
            // What started this process wants it never to be stopped so.
            set(libc::SIGTSTP, &stop_before)?;
        }
        let continue_before = set(libc::SIGCONT, &noting)?;
        STOP_WANTED.store(false, Ordering::Relaxed);
        WENT_ON.store(false, Ordering::Relaxed);
        Ok(Self {
            stop_before,
            continue_before,
        })
    }

    /// Whether a stop was asked for since the last look.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        STOP_WANTED.swap(false, Ordering::Relaxed)
    }

    /// Whether the process was stopped otherwise, and goes on, since the last look.
    #[must_use]
    pub fn went_on(&self) -> bool {
        WENT_ON.swap(false, Ordering::Relaxed)
    }

    /// Stops, and returns once the process goes on. Where no shell could have it go on, the system
    /// does not stop it.
    ///
    /// # Errors
    /// The system's.
    pub fn stop(&self, which: Stops) -> io::Result<()> {
        if self.stop_before.sa_sigaction == libc::SIG_IGN {
            return Ok(());
        }
        let noting = set(libc::SIGTSTP, &self.stop_before)?;
        let sent = match which {
            // SAFETY: no pointers; the signal does what it did before.
            Stops::Process => check(unsafe { libc::raise(libc::SIGTSTP) }),
            // SAFETY: the same.
            Stops::Job => check(unsafe { libc::kill(0, libc::SIGTSTP) }),
        };
        set(libc::SIGTSTP, &noting)?;
        STOP_WANTED.store(false, Ordering::Relaxed);
        WENT_ON.store(false, Ordering::Relaxed);
        sent.map(|_| ())
    }
}

impl Drop for Suspending {
    fn drop(&mut self) {
        // Both were in force before, so the system takes them.
        let _ = set(libc::SIGTSTP, &self.stop_before);
        let _ = set(libc::SIGCONT, &self.continue_before);
    }
}

fn noting() -> libc::sigaction {
    // SAFETY: plain data, for which zero is a valid value: no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { zeroed() };
    action.sa_sigaction = note as extern "C" fn(libc::c_int) as usize;
    // A poll returns nonetheless.
    action.sa_flags = libc::SA_RESTART;
    action
}

/// Sets what a signal does; what it did before.
fn set(signal: libc::c_int, action: &libc::sigaction) -> io::Result<libc::sigaction> {
    // SAFETY: plain data, for which zero is a valid value.
    let mut before: libc::sigaction = unsafe { zeroed() };
    // SAFETY: both are valid for the call. The handler is `note`, which is async-signal-safe
    // (invariant 1), or one that was in force before.
    check(unsafe { libc::sigaction(signal, action, &raw mut before) })?;
    Ok(before)
}

#[cfg(all(test, not(loom), not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn a_stop_is_noted_and_what_was_before_comes_back() {
        let ignoring = libc::sigaction {
            sa_sigaction: libc::SIG_IGN,
            ..noting()
        };
        let first = set(libc::SIGTSTP, &ignoring).expect("a valid signal");
        let suspending = Suspending::begin().expect("valid signals");
        // SAFETY: no pointers; the signal is ignored.
        unsafe { libc::raise(libc::SIGTSTP) };
        suspending.stop(Stops::Process).expect("it is ignored");
        assert!(!suspending.is_wanted());
        // SAFETY: no pointers; the process runs.
        unsafe { libc::raise(libc::SIGCONT) };
        assert!(suspending.went_on() && !suspending.went_on());
        drop(suspending);
        let last = set(libc::SIGTSTP, &first).expect("a valid signal");
        assert_eq!(last.sa_sigaction, libc::SIG_IGN);

        let suspending = Suspending::begin().expect("valid signals");
        // SAFETY: no pointers; the signal is noted.
        unsafe { libc::raise(libc::SIGTSTP) };
        assert!(suspending.is_wanted() && !suspending.is_wanted());
    }
}
