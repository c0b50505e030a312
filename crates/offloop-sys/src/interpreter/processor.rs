//! A thread as the kernel sees it: its id, whether it sleeps, and how long it has run.
//!
//! What another thread is doing to its memory can be believed in two cases: it sleeps in a call of
//! the kernel, so it is not in the middle of anything; or it was seen to run, and everything is
//! still the same. A thread that was stopped by the scheduler is in neither.
//!
//! Source:     clock_getcpuclockid(3), and the kernel's own rule for such a clock's number;
//!             proc_pid_stat(5).

use std::fs::File;
use std::io::Read;
use std::time::Duration;

/// Looks at the clock of a thread that is running; one or two suffice, unless it is interrupted.
const LOOKS_MAX: u32 = 32;

/// How long, and how often, a thread that is ready to run is given the processor.
const GIVEN: Duration = Duration::from_millis(1);
const GIVEN_MAX: u32 = 3;

/// Bytes of the line of a thread in `/proc` that are read: its state stands after its name.
const STATE_BYTES_MAX: usize = 128;

/// The kernel's id of the thread that calls.
#[must_use]
pub fn own_native_id() -> u64 {
    // SAFETY: has no preconditions.
    u64::from(unsafe { libc::gettid() }.unsigned_abs())
}

/// Where to learn of a thread.
#[derive(Clone, Copy, Debug)]
pub(super) struct Processor {
    /// Nanoseconds that a thread has run; `None` if that cannot be known.
    pub time_of: fn(u64) -> Option<u64>,
    /// Whether it waits in the kernel.
    pub is_asleep: fn(u64) -> bool,
    /// Whether it is the one that asks, and so does nothing else.
    pub is_own: fn(u64) -> bool,
}

impl Processor {
    /// That of this process.
    pub(super) const OWN: Self = Self {
        time_of,
        is_asleep,
        is_own: |native_id| native_id == own_native_id(),
    };

    /// One of which nothing is known, for memory that is no process's.
    pub(super) const UNKNOWN: Self = Self {
        time_of: |_| None,
        is_asleep: |_| false,
        is_own: |_| false,
    };
}

/// What a thread has done since the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing: it has been asleep.
    Asleep,
    /// It ran for as long as was asked for; or that cannot be told.
    Ran,
    /// Too little to be told from nothing, and then it fell asleep.
    Paused,
    /// It would run, and was not let.
    Preempted,
}

impl Processor {
    /// Waits until a thread has run for so long since its clock was read, but not for ever: a few
    /// milliseconds, in which it is given the processor.
    pub(super) fn wait_until_ran(
        self,
        native_id: u64,
        since: Option<u64>,
        at_least_ns: u64,
    ) -> Progress {
        let (mut looks, mut given, mut last) = (0, 0, since);
        loop {
            let (Some(since), Some(now)) = (since, (self.time_of)(native_id)) else {
                return Progress::Ran;
            };
            if now.saturating_sub(since) >= at_least_ns {
                return Progress::Ran;
            }
            if last != Some(now) && looks < LOOKS_MAX {
                looks += 1;
                last = Some(now);
                let missing = at_least_ns.saturating_sub(now.saturating_sub(since));
                std::thread::sleep(Duration::from_nanos(missing).min(GIVEN));
                continue;
            }
            // It sleeps since its clock was read, if the clock shows the same afterwards.
            if (self.is_asleep)(native_id) && (self.time_of)(native_id) == Some(now) {
                return if now == since {
                    Progress::Asleep
                } else {
                    Progress::Paused
                };
            }
            if given == GIVEN_MAX {
                return Progress::Preempted;
            }
            given += 1;
            std::thread::sleep(GIVEN);
        }
    }
}

/// The clock of a thread of this process: nanoseconds that it has run.
#[must_use]
pub fn time_of(native_id: u64) -> Option<u64> {
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

/// Whether a thread of this process waits in the kernel, for an event or for a device.
fn is_asleep(native_id: u64) -> bool {
    let mut line = [0; STATE_BYTES_MAX];
    let read = File::open(format!("/proc/self/task/{native_id}/stat"))
        .and_then(|mut file| file.read(&mut line));
    let line = &line[..read.unwrap_or(0)];
    // The name may hold anything, and the state is the letter after its last parenthesis.
    let state = line.iter().rposition(|&byte| byte == b')');
    matches!(state.and_then(|end| line.get(end + 2)), Some(b'S' | b'D'))
}

#[cfg(not(miri))]
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_runs_has_run() {
        let since = time_of(own_native_id());
        assert!(since.is_some());
        let progress = Processor::OWN.wait_until_ran(own_native_id(), since, 20_000);
        assert_eq!(progress, Progress::Ran);
        assert!(!is_asleep(own_native_id()));
    }

    #[test]
    fn a_thread_that_waits_is_asleep() {
        let (say, heard) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::Builder::new()
            .name(") R".to_owned())
            .spawn(move || {
                say.send(own_native_id()).expect("the test listens");
                ended.recv().expect_err("nothing is sent");
            })
            .expect("a thread");
        let id = heard.recv().expect("it says its id");
        // It comes to rest sooner or later.
        let progress = || Processor::OWN.wait_until_ran(id, time_of(id), 1_000_000);
        while progress() != Progress::Asleep {}
        drop(end);
        thread.join().expect("it ends");
    }

    #[test]
    fn a_thread_that_is_not_let_run_is_told_so() {
        let stopped = Processor {
            time_of: |_| Some(7),
            ..Processor::UNKNOWN
        };
        assert_eq!(stopped.wait_until_ran(1, Some(7), 1), Progress::Preempted);
        assert_eq!(stopped.wait_until_ran(1, Some(6), 2), Progress::Preempted);
        let sleeping = Processor {
            is_asleep: |_| true,
            ..stopped
        };
        assert_eq!(sleeping.wait_until_ran(1, Some(7), 1), Progress::Asleep);
        assert_eq!(sleeping.wait_until_ran(1, Some(6), 2), Progress::Paused);
        assert_eq!(Processor::UNKNOWN.wait_until_ran(1, None, 1), Progress::Ran);
    }

    #[test]
    fn other_processes_and_no_ids_at_all_have_no_clock() {
        for id in [0, 1, u64::MAX, 1 << 31, 1 << 40] {
            assert_eq!(time_of(id), None);
        }
    }
}
