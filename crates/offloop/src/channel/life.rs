//! Where a worker is in its life: asked for, starting, ready, ended.
//!
//! The zygote names the worker's process, and the worker says hello: in either order. With both it
//! is ready, unless its start was given up before.
//!
//! Invariants: 1. A worker becomes ready once, with a process, after its hello.
//!             2. The call that ends a life gets its process, so that happens once.

use std::os::fd::OwnedFd;

/// A worker's process.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
}

/// Where a worker is in its life.
#[derive(Debug)]
pub(crate) enum Life {
    /// The zygote was asked for it, and has not named its process.
    Requested(Start),
    /// It has a process.
    Running {
        process: Process,
        stage: Stage,
        /// We have killed it.
        killed: bool,
    },
    /// Its process has ended, and its status is awaited.
    Ended { pid: i32, reached: Stage },
}

/// How far a worker has come.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stage {
    Starting(Start),
    /// It takes calls.
    Ready,
}

/// A start that is not over: what the worker has said of it, and what was decided. Each may come
/// first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    /// The worker said hello.
    greeted: bool,
    prospect: Prospect,
}

/// What is to become of a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prospect {
    /// The worker becomes ready.
    Good,
    /// It has taken too long, and is being killed.
    Late,
    /// The pool does not need it: it is ended before it is ready, and nothing that it says counts.
    Unwanted,
}

impl Life {
    /// That of a worker which the zygote is asked for.
    pub(crate) const fn new() -> Self {
        Self::Requested(Start {
            greeted: false,
            prospect: Prospect::Good,
        })
    }

    /// The zygote has forked it.
    pub(crate) fn begin(&mut self, process: Process) {
        if let Self::Requested(start) = *self {
            *self = Self::Running {
                process,
                stage: Stage::Starting(start),
                killed: false,
            };
        }
    }

    /// It says hello; false when it has done so before.
    pub(crate) fn greet(&mut self) -> bool {
        self.start_mut()
            .is_some_and(|start| !std::mem::replace(&mut start.greeted, true))
    }

    /// Its start is given up, if it is not over.
    pub(crate) fn give_up(&mut self, prospect: Prospect) {
        if let Some(start) = self.start_mut() {
            start.prospect = prospect;
        }
    }

    /// Its process id if it becomes ready now, with a process and after its hello (invariant 1).
    pub(crate) fn become_ready(&mut self) -> Option<i32> {
        let Self::Running { process, stage, .. } = self else {
            return None;
        };
        let Stage::Starting(start) = *stage else {
            return None;
        };
        if !start.greeted || start.prospect != Prospect::Good {
            return None;
        }
        *stage = Stage::Ready;
        Some(process.pid)
    }

    /// Its process id if it is killed for the first time.
    pub(crate) fn kill(&mut self) -> Option<i32> {
        match self {
            Self::Running {
                process, killed, ..
            } if !*killed => {
                *killed = true;
                Some(process.pid)
            }
            _ => None,
        }
    }

    /// Its process has ended: that process, the first time (invariant 2).
    pub(crate) fn end(&mut self) -> Option<Process> {
        let Self::Running { process, stage, .. } = self else {
            return None;
        };
        let (pid, reached) = (process.pid, *stage);
        match std::mem::replace(self, Self::Ended { pid, reached }) {
            Self::Running { process, .. } => Some(process),
            _ => None,
        }
    }

    pub(crate) const fn process(&self) -> Option<&Process> {
        match self {
            Self::Running { process, .. } => Some(process),
            Self::Requested(_) | Self::Ended { .. } => None,
        }
    }

    /// Its process id, once it has one.
    pub(crate) const fn pid(&self) -> Option<i32> {
        match self {
            Self::Requested(_) => None,
            Self::Running { process, .. } => Some(process.pid),
            Self::Ended { pid, .. } => Some(*pid),
        }
    }

    /// Whether it takes calls.
    pub(crate) const fn is_ready(&self) -> bool {
        let Self::Running { stage, .. } = self else {
            return false;
        };
        matches!(stage, Stage::Ready)
    }

    /// Whether it has been ready, whatever has become of it.
    pub(crate) const fn was_ready(&self) -> bool {
        self.start().is_none()
    }

    pub(crate) const fn has_ended(&self) -> bool {
        matches!(self, Self::Ended { .. })
    }

    pub(crate) const fn has_greeted(&self) -> bool {
        match self.start() {
            Some(start) => start.greeted,
            None => true,
        }
    }

    pub(crate) fn is_unwanted(&self) -> bool {
        self.start()
            .is_some_and(|start| start.prospect == Prospect::Unwanted)
    }

    /// What is known of its start, unless it was ready.
    const fn start(&self) -> Option<&Start> {
        match self {
            Self::Requested(start)
            | Self::Running {
                stage: Stage::Starting(start),
                ..
            }
            | Self::Ended {
                reached: Stage::Starting(start),
                ..
            } => Some(start),
            Self::Running { .. } | Self::Ended { .. } => None,
        }
    }

    const fn start_mut(&mut self) -> Option<&mut Start> {
        match self {
            Self::Requested(start)
            | Self::Running {
                stage: Stage::Starting(start),
                ..
            }
            | Self::Ended {
                reached: Stage::Starting(start),
                ..
            } => Some(start),
            Self::Running { .. } | Self::Ended { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A descriptor that stands for a process.
    fn process() -> Process {
        let file = std::fs::File::open("/dev/null").expect("a descriptor");
        Process {
            pid: 7,
            pidfd: file.into(),
        }
    }

    fn running() -> Life {
        let mut life = Life::new();
        life.begin(process());
        life
    }

    fn ready() -> Life {
        let mut life = running();
        assert!(life.greet());
        assert_eq!(life.become_ready(), Some(7));
        life
    }

    #[test]
    fn a_worker_is_ready_with_a_process_and_a_hello_in_either_order() {
        let mut life = Life::new();
        assert!(life.greet());
        assert_eq!(life.become_ready(), None);
        life.begin(process());
        assert_eq!(life.become_ready(), Some(7));
        assert!(life.is_ready());

        let mut life = running();
        assert_eq!(life.become_ready(), None);
        assert!(life.greet());
        assert_eq!(life.become_ready(), Some(7));
        assert_eq!(life.become_ready(), None, "once");
    }

    #[test]
    fn a_second_hello_is_none() {
        let mut life = running();
        assert!(life.greet());
        assert!(!life.greet());
        assert!(!ready().greet());
    }

    #[test]
    fn a_start_that_was_given_up_makes_no_worker_ready() {
        for prospect in [Prospect::Late, Prospect::Unwanted] {
            let mut life = running();
            life.give_up(prospect);
            assert!(life.greet());
            assert_eq!(life.become_ready(), None);
            assert!(!life.was_ready());
            assert_eq!(life.is_unwanted(), prospect == Prospect::Unwanted);
        }
        let mut late = running();
        late.give_up(Prospect::Late);
        late.give_up(Prospect::Unwanted);
        assert!(late.is_unwanted());
    }

    #[test]
    fn a_worker_that_is_not_needed_stays_so_once_it_is_forked() {
        let mut life = Life::new();
        life.give_up(Prospect::Unwanted);
        life.begin(process());
        assert!(life.is_unwanted());
    }

    #[test]
    fn a_ready_worker_cannot_be_late_or_unwanted() {
        let mut life = ready();
        life.give_up(Prospect::Unwanted);
        assert!(!life.is_unwanted());
        assert!(life.is_ready());
    }

    #[test]
    fn a_process_is_killed_and_ends_once() {
        assert_eq!(Life::new().kill(), None, "there is nothing to kill");
        let mut life = ready();
        assert_eq!(life.kill(), Some(7));
        assert_eq!(life.kill(), None);
        assert!(life.is_ready(), "until it has ended");
        assert!(life.end().is_some());
        assert!(life.end().is_none());
        assert_eq!(life.kill(), None);
        assert!(life.has_ended() && life.was_ready() && !life.is_ready());
        assert_eq!(life.pid(), Some(7));
        assert!(life.process().is_none());
    }

    #[test]
    fn what_a_worker_said_last_is_heard_after_its_end() {
        let mut life = running();
        assert!(life.end().is_some());
        assert!(!life.has_greeted());
        assert!(life.greet());
        assert_eq!(life.become_ready(), None);
        assert!(!life.was_ready());
    }
}
