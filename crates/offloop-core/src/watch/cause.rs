//! Why a thread does not go on.
//!
//! The time between two looks has three parts: the thread ran, it was ready and not let run, or it
//! slept. The largest part chooses among the causes, and what was seen names it.
//!
//! Invariants: 1. `Python`, `Native` and `Collection` are said only of a thread that ran for more
//!                of the time than it slept, and more than it was kept from running.
//!             2. What is not known is `Unknown`, and never a guess.
//! Source:     docs/design/015-causes.md.

use core::time::Duration;
use std::sync::Arc;

use super::evidence::{Evidence, GilHolder, Motion, Seen, ThreadState, Wait};

/// The looking thread is late if it was away this part of the interval longer than it meant to be:
/// then the processors are not to be had.
const LATE_PART: u32 = 2;

/// What a thread does, or waits for, while its loop is stalled.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// Python code computes.
    Python,
    /// C code computes.
    Native {
        /// Whether it keeps the GIL.
        holds_gil: bool,
    },
    /// It sleeps.
    Sleep,
    /// It waits for a socket.
    Socket {
        /// The address of the other side, as in `10.0.0.5:5432`.
        peer: Option<Arc<str>>,
    },
    /// It waits for a file.
    File {
        /// Where the file is.
        path: Option<Arc<str>>,
    },
    /// It waits for a pipe, a terminal, or another descriptor.
    Descriptor {
        /// As the system calls it, as in `pipe:[4711]`.
        name: Option<Arc<str>>,
    },
    /// It waits for a lock, a condition, or another thread's end.
    Lock,
    /// It waits for a child process.
    Child {
        /// Its process id, if the thread waits for one.
        pid: Option<i32>,
    },
    /// Another thread has the GIL.
    OtherThread {
        /// The kernel's id of that thread.
        native_id: u64,
    },
    /// The interpreter collects garbage.
    Collection,
    /// It waits for memory: pages are read from a disk.
    Memory,
    /// The system does not let it run: other processes have the processors, or the process was
    /// stopped and goes on. No code is to blame.
    Starved,
    /// A debugger or a signal has stopped it. No code is to blame.
    Stopped,
    /// Many callbacks, none of which takes long, add up to one long round.
    Callbacks,
    /// What is known fits to none of these.
    Unknown,
}

impl Cause {
    /// The word for it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::Native { holds_gil: true } => "native",
            Self::Native { holds_gil: false } => "native-without-gil",
            Self::Sleep => "sleep",
            Self::Socket { .. } => "socket",
            Self::File { .. } => "file",
            Self::Descriptor { .. } => "descriptor",
            Self::Lock => "lock",
            Self::Child { .. } => "child",
            Self::OtherThread { .. } => "other-thread",
            Self::Collection => "collection",
            Self::Memory => "memory",
            Self::Starved => "starved",
            Self::Stopped => "stopped",
            Self::Callbacks => "callbacks",
            Self::Unknown => "unknown",
        }
    }

    /// Whether no code is to blame: the thread was not let run.
    #[must_use]
    pub const fn blames_no_code(&self) -> bool {
        matches!(self, Self::Starved | Self::Stopped)
    }
}

/// Why a slice took so long that was over before it was looked at, if the thread was ready and not
/// let run for so much of it.
///
/// The system is to blame if it took half of the time, or if the slice would not have been too long
/// without it. Nothing else can be known afterwards.
#[must_use]
pub fn cause_afterwards(lasted: Duration, delayed: Duration, threshold: Duration) -> Cause {
    if delayed >= lasted / 2 || lasted.saturating_sub(delayed) < threshold {
        Cause::Starved
    } else {
        Cause::Unknown
    }
}

/// How long a thread was kept from running between two looks. A wait that is not over is not in
/// what the kernel says; it is known if the thread never slept.
#[must_use]
pub fn delay(evidence: &Evidence) -> Duration {
    shares(evidence).map_or_else(
        || evidence.delayed.unwrap_or_default(),
        |shares| shares.delayed,
    )
}

/// How the time between two looks was spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shares {
    ran: Duration,
    delayed: Duration,
    asleep: Duration,
}

/// Why a thread does not go on.
///
/// The largest share of the time decides: it was not let run, it slept, or it ran. Where two are
/// equal, the one is told that blames less code.
#[must_use]
pub fn cause(evidence: &Evidence) -> Cause {
    decided(evidence, false)
}

/// The same of a thread that by itself ran for too long in this slice: its code is to blame,
/// however much it was kept from running besides.
#[must_use]
pub fn cause_beside_delays(evidence: &Evidence) -> Cause {
    decided(evidence, true)
}

fn decided(evidence: &Evidence, beside_delays: bool) -> Cause {
    let [_, now] = &evidence.looks;
    if now.state == ThreadState::Stopped {
        return Cause::Stopped;
    }
    let Some(Shares {
        ran,
        delayed,
        asleep,
    }) = shares(evidence)
    else {
        // It is asleep, or nothing can be said.
        return cause_of_wait(evidence);
    };
    if delayed >= ran.max(asleep) {
        match (beside_delays, asleep > ran) {
            (false, _) => Cause::Starved,
            (true, true) => cause_of_wait(evidence),
            (true, false) => cause_of_work(evidence),
        }
    } else if asleep >= ran {
        cause_of_wait(evidence)
    } else {
        cause_of_work(evidence)
    }
}

/// What the time was spent with, if that is known.
fn shares(evidence: &Evidence) -> Option<Shares> {
    let interval = evidence.interval;
    let ran = evidence.ran?.min(interval);
    if interval.is_zero() {
        return None;
    }
    let rest = interval.saturating_sub(ran);
    let told = evidence.delayed.unwrap_or_default().min(rest);
    // Of this it is not said whether the thread slept, or has been waiting since.
    let open = rest.saturating_sub(told);
    let is_delay = match nature(evidence) {
        Nature::Awake => true,
        Nature::Asleep => false,
        Nature::Mixed => evidence.late >= interval / LATE_PART,
    };
    Some(if is_delay {
        Shares {
            ran,
            delayed: rest,
            asleep: Duration::ZERO,
        }
    } else {
        Shares {
            ran,
            delayed: told,
            asleep: open,
        }
    })
}

/// Of what kind the time is in which a thread did not run.
enum Nature {
    /// It never slept.
    Awake,
    /// It was asleep at both looks.
    Asleep,
    /// Sometimes it slept.
    Mixed,
}

fn nature(evidence: &Evidence) -> Nature {
    let [first, second] = &evidence.looks;
    let never_slept = evidence.sleeps.unwrap_or(0) == 0;
    match (first.state, second.state) {
        (ThreadState::Ready, ThreadState::Ready) if never_slept => Nature::Awake,
        _ if is_asleep(first) && is_asleep(second) => Nature::Asleep,
        _ => Nature::Mixed,
    }
}

fn is_asleep(seen: &Seen) -> bool {
    matches!(
        seen.state,
        ThreadState::Asleep | ThreadState::AsleepForDevice
    )
}

/// Why a thread sleeps: by the later look, or by the earlier one if that says nothing.
fn cause_of_wait(evidence: &Evidence) -> Cause {
    let [first, second] = &evidence.looks;
    let asleep = [second, first].into_iter().filter(|seen| is_asleep(seen));
    let known = asleep
        .map(|seen| cause_of_sleep(seen, evidence))
        .find(|cause| *cause != Cause::Unknown);
    match known {
        Some(cause) => cause,
        // It was seen awake, between many short waits for pages.
        None if evidence.major_faults > 0 && is_known(evidence) => Cause::Memory,
        None => Cause::Unknown,
    }
}

/// Whether it is known how long the thread ran.
fn is_known(evidence: &Evidence) -> bool {
    evidence.ran.is_some() && !evidence.interval.is_zero()
}

fn cause_of_sleep(seen: &Seen, evidence: &Evidence) -> Cause {
    match &seen.wait {
        Wait::Time => Cause::Sleep,
        Wait::Socket(peer) => Cause::Socket { peer: peer.clone() },
        Wait::File(path) => Cause::File { path: path.clone() },
        Wait::Descriptor(name) => Cause::Descriptor { name: name.clone() },
        Wait::Lock => Cause::Lock,
        Wait::Child(pid) => Cause::Child { pid: *pid },
        Wait::Page => Cause::Memory,
        Wait::Gil => other_holder(seen, evidence)
            .map_or(Cause::Unknown, |native_id| Cause::OtherThread { native_id }),
        Wait::Unknown
            if evidence.major_faults > 0 && seen.state == ThreadState::AsleepForDevice =>
        {
            Cause::Memory
        }
        Wait::Unknown => Cause::Unknown,
    }
}

/// The thread that has the GIL which this one waits for: as that look says, or the other one.
fn other_holder(seen: &Seen, evidence: &Evidence) -> Option<u64> {
    let [first, second] = &evidence.looks;
    [seen, second, first]
        .into_iter()
        .find_map(|seen| match seen.gil {
            Some(GilHolder::Other(native_id) | GilHolder::Free(Some(native_id))) => Some(native_id),
            _ => None,
        })
}

/// What a thread does that runs.
fn cause_of_work(evidence: &Evidence) -> Cause {
    let [first, second] = &evidence.looks;
    let collects = first.collects == Some(true) && second.collects == Some(true);
    // Where the looks differ, other threads can run, at least at times.
    let holds_gil = [first.gil, second.gil]
        .into_iter()
        .flatten()
        .map(|holder| holder == GilHolder::This)
        .reduce(|first, second| first && second);
    match (evidence.motion, holds_gil) {
        (Motion::Moving, _) => Cause::Python,
        // The collector runs in the middle of an instruction, however long that was looked at.
        (Motion::Still | Motion::Unknown, Some(true)) if collects => Cause::Collection,
        // A thread of Python that waits for the GIL now and then stays where it is, too.
        (Motion::Still, Some(false)) if evidence.looks.iter().any(awaits_gil) => Cause::Unknown,
        (Motion::Still, Some(holds_gil)) => Cause::Native { holds_gil },
        // Python code would have the GIL, or sleep until it has.
        (Motion::Unknown, Some(false)) if never_has_gil(evidence) => {
            Cause::Native { holds_gil: false }
        }
        _ => Cause::Unknown,
    }
}

fn awaits_gil(seen: &Seen) -> bool {
    seen.wait == Wait::Gil
}

fn never_has_gil(evidence: &Evidence) -> bool {
    let has_not = |seen: &Seen| {
        seen.state == ThreadState::Ready
            && matches!(seen.gil, Some(GilHolder::Other(_) | GilHolder::Free(_)))
    };
    evidence.looks.iter().all(has_not)
}

#[cfg(test)]
mod tests;
