//! What the pool asks its driver to do, and how a task can end.
//!
//! Both sets are closed: a driver that matches all variants handles everything that can happen.

use crate::{LaneId, TaskId, WorkerId};

/// One thing for the driver to do, at once and in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action<P, V = (), C = ()> {
    /// Start a process under this name. Answer with `handle_worker_forked` when it exists: its
    /// `start_timeout` begins then. After that answer with `handle_worker_ready` or, if it ends
    /// before, with `handle_worker_exit`. If there will be no process, answer with
    /// `handle_spawn_failed`, within a bound of the driver's own.
    Spawn {
        /// The name of the process to be.
        worker: WorkerId,
    },
    /// Push the task to that worker's ring, or call `handle_assign_refused`.
    Assign {
        /// The worker that runs it next.
        worker: WorkerId,
        /// What to run; see `Pool::payload`.
        task: TaskId,
    },
    /// Take the task back if the worker has not started it; answer with `handle_revoked`.
    Revoke {
        /// The worker that holds it in its ring.
        worker: WorkerId,
        /// The task to take back.
        task: TaskId,
    },
    /// Read whether and when the worker started the task. If it did, call `handle_started`;
    /// if it did not, do nothing: the pool asks again after another `run_timeout`.
    ReadStart {
        /// The worker that runs the task.
        worker: WorkerId,
        /// The task that it should name.
        task: TaskId,
    },
    /// Raise the interruption inside the running call, if the worker still runs this task.
    Interrupt {
        /// The worker that runs it.
        worker: WorkerId,
        /// The task that must match.
        task: TaskId,
    },
    /// End the process at once; answer with `handle_worker_exit` when it has ended.
    Kill {
        /// The worker to end.
        worker: WorkerId,
    },
    /// End the start of a worker that the pool does not need any more, without telling it; answer
    /// with `handle_spawn_failed` if there is no process, or else with `handle_worker_exit`.
    Abandon {
        /// The worker that is starting.
        worker: WorkerId,
    },
    /// Ask an idle worker to exit; answer with `handle_worker_exit` when it has.
    Retire {
        /// The worker to ask.
        worker: WorkerId,
    },
    /// The task is over. This comes exactly once for every task that was admitted.
    Finish {
        /// The task. From now on its id is stale.
        task: TaskId,
        /// Where it was submitted.
        lane: LaneId,
        /// How it ended.
        outcome: Outcome<V, C>,
        /// What was handed to `submit`.
        payload: P,
    },
}

/// How a task ended. `V` is what the driver knows of a completion, `C` what it knows of a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome<V = (), C = ()> {
    /// Its worker ran it to the end.
    Completed {
        /// What was handed to `handle_completion`.
        value: V,
    },
    /// It was cancelled, and its call has really stopped or never started.
    Cancelled,
    /// A time limit passed, and its call has really stopped or never started.
    Expired {
        /// Which limit it was.
        which: Expiry,
    },
    /// Its worker ended while it ran the task, and no retry was left.
    Lost {
        /// Whether the call may have begun, and so have had effects.
        may_have_started: bool,
        /// How many times it was started, the last one included.
        attempts: u32,
        /// What was handed to `handle_worker_exit`.
        crash: C,
    },
    /// A newer task took its place in a full queue.
    Dropped,
    /// Its lane or the whole fleet gave up.
    Broken,
}

/// Which time limit a task ran into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Expiry {
    /// The point in time that was set at submission.
    Deadline,
    /// The longest time that the call itself may run.
    RunTimeout,
}

/// Why a lane did not take a task. The payload comes back untouched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError<P> {
    /// The lane has as many waiting tasks as it may have.
    #[error("the queue is full: {queued} tasks wait, limit {limit}")]
    Full {
        /// Tasks beyond those that the lane's workers can run at once.
        queued: u32,
        /// The lane's `queue_tasks_max`.
        limit: u32,
        /// The work, given back.
        payload: P,
    },
    /// The unfinished tasks of the lane hold too many bytes for this one to be added.
    #[error("the queue is full: {held} bytes are held, {bytes} more exceed the limit {limit}")]
    FullBytes {
        /// Bytes of all unfinished tasks.
        held: u64,
        /// Bytes of this task.
        bytes: u64,
        /// The lane's `queue_bytes_max`.
        limit: u64,
        /// The work, given back.
        payload: P,
    },
    /// This task alone is larger than the lane's limit, so waiting would not help.
    #[error("a task of {bytes} bytes exceeds the queue's limit of {limit} bytes")]
    TooLarge {
        /// Bytes of this task.
        bytes: u64,
        /// The lane's `queue_bytes_max`.
        limit: u64,
        /// The work, given back.
        payload: P,
    },
    /// The lane was closed, or never was.
    #[error("the lane is closed")]
    Closed {
        /// The work, given back.
        payload: P,
    },
    /// The lane or the whole fleet has given up.
    #[error("the lane is broken: its workers could not be kept alive")]
    Broken {
        /// The work, given back.
        payload: P,
    },
}

impl<P> SubmitError<P> {
    /// The work that was refused.
    pub fn into_payload(self) -> P {
        match self {
            Self::Full { payload, .. }
            | Self::FullBytes { payload, .. }
            | Self::TooLarge { payload, .. }
            | Self::Closed { payload }
            | Self::Broken { payload } => payload,
        }
    }

    /// Whether the same task may be taken later, when other tasks have finished.
    #[must_use]
    pub const fn is_temporary(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::FullBytes { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_its_limit_and_gives_the_work_back() {
        let error = SubmitError::Full {
            queued: 8,
            limit: 8,
            payload: "work",
        };
        assert_eq!(
            error.to_string(),
            "the queue is full: 8 tasks wait, limit 8"
        );
        assert!(error.is_temporary());
        assert_eq!(error.into_payload(), "work");
        assert!(!SubmitError::Closed { payload: () }.is_temporary());
    }
}
