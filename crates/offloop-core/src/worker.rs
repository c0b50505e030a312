//! One worker process, as the pool sees it.
//!
//! States:     Starting -> Idle <-> Busy, and from there Retiring (asked to exit) or Killed. A
//!             worker that takes too long to start is Overdue, and being killed. A worker that the
//!             pool does not need any more while it starts is Unwanted, and its start is being
//!             ended. A worker that refused a task while it had none is Parked for a moment. The
//!             exit event removes it, whatever its state.
//! Invariants: 1. tasks is empty unless the state is Busy or Killed.
//!             2. lane is set exactly while tasks is not empty, transitions apart.

use crate::Instant;
use crate::task::{NONE, TaskList};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WorkerState {
    Starting,
    Overdue,
    Unwanted,
    Idle,
    Busy,
    Parked,
    Retiring,
    Killed,
}

#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) state: WorkerState,
    /// The lane that it serves, or NONE, and its place in that lane's list of workers.
    pub(crate) lane: u32,
    pub(crate) place: u32,
    /// What it holds, in the order in which it runs them.
    pub(crate) tasks: TaskList,
    /// How many of them are held in advance.
    pub(crate) prefetched: u32,
    /// How many of them are being stopped.
    pub(crate) stopping: u32,
    /// How many of them are streams: what stood behind one would wait for its consumer.
    pub(crate) streams: u32,
    /// Tasks given to it in its life, less those taken back.
    pub(crate) assigned_total: u32,
    /// It refused a task and gets none before it completes one.
    pub(crate) full: bool,
    /// Refusals in a row while it held nothing.
    pub(crate) refusals: u32,
    /// The driver has asked it to exit, without the pool.
    pub(crate) asked: bool,
    /// The task that it was on when the patience of a packed worker was last armed.
    pub(crate) watched: u32,
    pub(crate) spawned_at: Instant,
    pub(crate) idle_since: Instant,
}

impl Worker {
    pub(crate) const fn starting(now: Instant) -> Self {
        Self {
            state: WorkerState::Starting,
            lane: NONE,
            place: 0,
            tasks: TaskList::new(),
            prefetched: 0,
            stopping: 0,
            streams: 0,
            assigned_total: 0,
            full: false,
            refusals: 0,
            asked: false,
            watched: NONE,
            spawned_at: now,
            idle_since: now,
        }
    }

    /// How many more tasks it may be given when `depth` is what it may hold at once.
    pub(crate) fn room(&self, depth: u32, tasks_max: Option<u32>) -> u32 {
        let serves = matches!(self.state, WorkerState::Idle | WorkerState::Busy);
        if !serves || self.full || self.stopping > 0 || self.streams > 0 {
            return 0;
        }
        let ring = depth.saturating_sub(self.tasks.len());
        ring.min(self.left(tasks_max))
    }

    /// How many more tasks it may be given in its life.
    pub(crate) fn left(&self, tasks_max: Option<u32>) -> u32 {
        tasks_max.map_or(u32::MAX, |most| most.saturating_sub(self.assigned_total))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idle() -> Worker {
        Worker {
            state: WorkerState::Idle,
            ..Worker::starting(Instant::ZERO)
        }
    }

    #[test]
    fn room_is_bounded_by_depth_and_by_the_tasks_left_in_its_life() {
        let worker = Worker {
            assigned_total: 7,
            ..idle()
        };
        assert_eq!(worker.room(5, None), 5);
        assert_eq!(worker.room(5, Some(10)), 3);
        assert_eq!(worker.room(5, Some(7)), 0);
    }

    #[test]
    fn a_worker_that_is_full_stopping_streaming_or_not_ready_has_no_room() {
        assert_eq!(
            Worker {
                full: true,
                ..idle()
            }
            .room(5, None),
            0
        );
        assert_eq!(
            Worker {
                stopping: 1,
                ..idle()
            }
            .room(5, None),
            0
        );
        assert_eq!(
            Worker {
                streams: 1,
                ..idle()
            }
            .room(5, None),
            0
        );
        assert_eq!(Worker::starting(Instant::ZERO).room(5, None), 0);
        assert_eq!(
            Worker {
                state: WorkerState::Killed,
                ..idle()
            }
            .room(5, None),
            0
        );
    }
}
