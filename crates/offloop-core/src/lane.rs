//! A lane: one user-visible executor's bounded queue, its limits and its share of the workers.
//!
//! States:     Open -> Draining -> Cancelling, and Broken from any of them. Only an open lane
//!             admits; a cancelling lane also keeps nothing waiting.
//! Units:      limits count unfinished tasks and their bytes. A lane holds at most `workers_max +
//!             queue_tasks_max` tasks: those that its workers can run at once, and those that
//!             wait. Running tasks count for bytes too, since their arguments hold memory.
//! Invariants: 1. workers.len() <= workers_max.
//!             2. demand is 0 unless the lane could use more workers than it has.

use core::time::Duration;

use crate::estimate::RunEstimate;
use crate::limits;
use crate::task::TaskList;

/// What a full queue does with one task more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum QueuePolicy {
    /// The submission is refused; the caller waits for room and submits again.
    #[default]
    Wait,
    /// The submission is refused, and the refusal is the caller's answer.
    Refuse,
    /// The oldest waiting task is finished as dropped. Such a lane never gives a worker tasks in
    /// advance, so that what waits can always be dropped.
    DropOldest,
}

/// The limits of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneConfig {
    /// Workers that serve the lane at once; at least one.
    pub workers_max: u32,
    /// Tasks that wait, beyond those that the workers can run at once.
    pub queue_tasks_max: Option<u32>,
    /// Bytes of all unfinished tasks.
    pub queue_bytes_max: Option<u64>,
    /// What happens beyond the limits.
    pub policy: QueuePolicy,
    /// Time between interrupting a call and killing its worker.
    pub grace: Duration,
}

impl LaneConfig {
    /// A lane of `workers_max` workers without a limit on its queue.
    #[must_use]
    pub const fn new(workers_max: u32) -> Self {
        Self {
            workers_max,
            queue_tasks_max: None,
            queue_bytes_max: None,
            policy: QueuePolicy::Wait,
            grace: limits::GRACE,
        }
    }
}

/// What becomes of queued tasks when a lane is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// They run to the end.
    Drain,
    /// They finish as cancelled, and so does what a worker holds but has not started. Running
    /// calls go on.
    CancelQueued,
    /// As `CancelQueued`, and running calls are cancelled too: interrupted, then killed.
    Stop,
    /// As `CancelQueued`, and running calls finish as broken: interrupted, then killed.
    Terminate,
    /// As `Terminate`, but killed at once.
    Kill,
}

/// The state of one lane, at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LaneStatistics {
    /// Workers that serve the lane.
    pub workers: u32,
    /// Tasks that no worker holds.
    pub queued: u32,
    /// Tasks that a worker holds in advance.
    pub prefetched: u32,
    /// Tasks that a worker holds, less the prefetched ones.
    pub running: u32,
    /// Bytes of all unfinished tasks.
    pub bytes: u64,
    /// Tasks admitted since the lane was opened.
    pub submitted: u64,
    /// Tasks that ran to the end.
    pub completed: u64,
    /// Tasks that were cancelled.
    pub cancelled: u64,
    /// Tasks that ran into a time limit.
    pub expired: u64,
    /// Tasks that were lost with their worker.
    pub lost: u64,
    /// Tasks that gave way to newer ones.
    pub dropped: u64,
    /// Tasks that ended because the lane or the fleet gave up.
    pub broken: u64,
    /// Starts of a task beyond its first, after its worker ended.
    pub retried: u64,
    /// Mean run time of recent calls.
    pub run_mean: Option<Duration>,
}

impl LaneStatistics {
    /// The sum of this lane's and of `later`'s, which took its place.
    #[must_use]
    pub fn with(&self, later: &Self) -> Self {
        Self {
            workers: self.workers + later.workers,
            queued: self.queued + later.queued,
            prefetched: self.prefetched + later.prefetched,
            running: self.running + later.running,
            bytes: self.bytes + later.bytes,
            submitted: self.submitted + later.submitted,
            completed: self.completed + later.completed,
            cancelled: self.cancelled + later.cancelled,
            expired: self.expired + later.expired,
            lost: self.lost + later.lost,
            dropped: self.dropped + later.dropped,
            broken: self.broken + later.broken,
            retried: self.retried + later.retried,
            run_mean: later.run_mean.or(self.run_mean),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LaneState {
    Open,
    Draining,
    Cancelling,
    Broken,
}

#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) config: LaneConfig,
    pub(crate) state: LaneState,
    /// What no worker holds, oldest first.
    pub(crate) queue: TaskList,
    pub(crate) queued_bytes: u64,
    /// All unfinished tasks, and their bytes.
    pub(crate) tasks: u32,
    pub(crate) bytes: u64,
    /// Tasks held by workers in advance, which an idle worker may take over.
    pub(crate) prefetched: u32,
    /// Revocations under way, after which tasks return to the queue.
    pub(crate) stealing: u32,
    /// Workers that hold tasks of the lane.
    pub(crate) workers: Vec<u32>,
    /// Where the next search for a lightly loaded worker starts.
    pub(crate) scan_from: u32,
    /// Further workers that the lane could use now.
    pub(crate) demand: u32,
    /// It stands in the ring of lanes that want workers.
    pub(crate) hungry: bool,
    pub(crate) estimate: RunEstimate,
    /// A worker stays on one task for long: nothing is packed until the next completion.
    pub(crate) slow: bool,
    pub(crate) counted: LaneStatistics,
}

impl Lane {
    pub(crate) fn new(mut config: LaneConfig) -> Self {
        config.workers_max = config.workers_max.max(1);
        Self {
            config,
            state: LaneState::Open,
            queue: TaskList::new(),
            queued_bytes: 0,
            tasks: 0,
            bytes: 0,
            prefetched: 0,
            stealing: 0,
            workers: Vec::new(),
            scan_from: 0,
            demand: 0,
            hungry: false,
            estimate: RunEstimate::default(),
            slow: false,
            counted: LaneStatistics::default(),
        }
    }

    /// Forgets what the lane had to do, which ended as broken, and refuses all else.
    pub(crate) fn abandon(&mut self) {
        let broken = u64::from(self.tasks);
        let mut counted = self.counted;
        counted.broken += broken;
        *self = Self {
            state: LaneState::Broken,
            counted,
            ..Self::new(self.config)
        };
    }

    /// Whether the lane may be lent another worker.
    pub(crate) fn may_grow(&self) -> bool {
        self.workers.len() < self.config.workers_max as usize
    }

    /// Workers that would be of use beyond those that the lane has.
    pub(crate) fn demand_now(&self) -> u32 {
        let packed = (self.pack() - 1).saturating_mul(self.workers.len() as u32);
        let waiting = self.queue.len() + self.prefetched.saturating_sub(packed);
        waiting.min(self.config.workers_max - self.workers.len() as u32)
    }

    /// Tasks that one worker holds before another one is of use to the lane.
    pub(crate) fn pack(&self) -> u32 {
        let drops = self.config.policy == QueuePolicy::DropOldest;
        if drops || self.slow {
            1
        } else {
            self.estimate.pack()
        }
    }

    /// Tasks that one worker may hold. While the lane may still get another worker, nothing but
    /// very short calls is held in advance: the newcomer would only have to take it back.
    pub(crate) fn depth(&self) -> u32 {
        let drops = self.config.policy == QueuePolicy::DropOldest;
        if drops {
            1
        } else if self.may_grow() {
            self.pack()
        } else {
            self.estimate.depth()
        }
    }

    /// Tasks beyond those that the lane's workers can run at once.
    pub(crate) fn waiting(&self) -> u32 {
        self.tasks.saturating_sub(self.config.workers_max)
    }

    /// Whether one more task exceeds the limit in count.
    pub(crate) fn is_full(&self) -> bool {
        let limit = self.config.queue_tasks_max.unwrap_or(u32::MAX);
        self.tasks >= self.config.workers_max.saturating_add(limit)
    }

    /// By how much `bytes` more exceed the limit in bytes.
    pub(crate) fn bytes_over(&self, bytes: u64) -> u64 {
        let limit = self.config.queue_bytes_max.unwrap_or(u64::MAX);
        self.bytes.saturating_add(bytes).saturating_sub(limit)
    }

    /// Whether tasks may still return to the queue.
    pub(crate) fn keeps_waiting_tasks(&self) -> bool {
        matches!(self.state, LaneState::Open | LaneState::Draining)
    }

    pub(crate) fn statistics(&self) -> LaneStatistics {
        let held = self.tasks - self.queue.len();
        LaneStatistics {
            workers: self.workers.len() as u32,
            queued: self.queue.len(),
            prefetched: self.prefetched,
            running: held - self.prefetched,
            bytes: self.bytes,
            run_mean: self.estimate.mean(),
            ..self.counted
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_takes_what_its_workers_can_run_and_what_may_wait() {
        let mut lane = Lane::new(LaneConfig {
            queue_tasks_max: Some(3),
            ..LaneConfig::new(2)
        });
        lane.tasks = 4;
        assert!(!lane.is_full());
        lane.tasks = 5;
        assert!(lane.is_full());
        assert_eq!(lane.waiting(), 3);
    }

    #[test]
    fn a_lane_without_limits_is_never_full() {
        let mut lane = Lane::new(LaneConfig::new(1));
        lane.tasks = u32::MAX - 1;
        lane.bytes = u64::MAX - 1;
        assert!(!lane.is_full());
        assert_eq!(lane.bytes_over(100), 0);
    }

    #[test]
    fn nothing_is_held_in_advance_while_another_worker_may_come() {
        let mut lane = Lane::new(LaneConfig::new(2));
        lane.estimate.record(Duration::from_micros(50));
        lane.workers.push(0);
        assert_eq!(lane.depth(), 1);
        lane.workers.push(1);
        assert_eq!(lane.depth(), 41);
        lane.config.policy = QueuePolicy::DropOldest;
        assert_eq!(lane.depth(), 1);
    }

    #[test]
    fn a_lane_of_no_workers_is_given_one() {
        assert_eq!(Lane::new(LaneConfig::new(0)).config.workers_max, 1);
    }
}
