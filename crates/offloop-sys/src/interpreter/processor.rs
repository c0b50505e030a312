//! A thread as the kernel has it: its id, and how long it has run.
//!
//! A thread that has not run between two readings of its clock has changed nothing in between,
//! wherever it was stopped.
//!
//! Source: clock_getcpuclockid(3), and the kernel's own rule for such a clock's number.

/// The kernel's id of the thread that calls.
#[must_use]
pub fn own_native_id() -> u64 {
    // SAFETY: has no preconditions.
    u64::from(unsafe { libc::gettid() }.unsigned_abs())
}

/// Nanoseconds that the thread with this kernel's id has run; `None` if it is not one of ours.
pub(super) fn time_of(native_id: u64) -> Option<u64> {
    /// In the number of a clock: it is one thread's, and counts what it ran.
    const PER_THREAD: libc::clockid_t = 4;
    const RUN_TIME: libc::clockid_t = 2;
    // 0 would be the thread that asks.
    let id = libc::clockid_t::try_from(native_id)
        .ok()
        .filter(|&id| id != 0)?;
    let clock = !id << 3 | PER_THREAD | RUN_TIME;
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid timespec for the call to fill; the kernel checks the number.
    let outcome = unsafe { libc::clock_gettime(clock, &raw mut time) };
    (outcome == 0).then(|| time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs())
}

#[cfg(not(miri))]
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_passes_for_a_thread_that_runs() {
        let first = time_of(own_native_id()).expect("our own");
        while time_of(own_native_id()).expect("our own") == first {}
    }

    #[test]
    fn time_stands_for_a_thread_that_waits() {
        let (say, heard) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            say.send(own_native_id()).expect("somebody listens");
            ended.recv().expect_err("nothing is sent");
        });
        let id = heard.recv().expect("it says its id");
        // It comes to rest sooner or later.
        let mut before = time_of(id);
        let mut same = 0;
        while same < 1000 {
            let now = time_of(id);
            same = if now == before { same + 1 } else { 0 };
            before = now;
        }
        drop(end);
        thread.join().expect("it ends");
    }

    #[test]
    fn other_processes_and_no_ids_at_all_have_none() {
        for id in [0, 1, u64::MAX, 1 << 31, 1 << 40] {
            assert_eq!(time_of(id), None);
        }
    }
}
