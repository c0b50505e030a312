//! Into the queue of a lane, back into it, and out of the pool; and the end of a lane.

use core::time::Duration;

use crate::lane::{Close, Lane, LaneState};
use crate::pool::{Pool, task_key};
use crate::task::{Phase, Start, StopReason, Task, TaskOptions};
use crate::{Action, Expiry, Instant, LaneId, Outcome, QueuePolicy, SubmitError, TaskId};

impl<P, V, C: Clone> Pool<P, V, C> {
    /// Stops admission to a lane. What is queued goes on to the end or is cancelled, as `how`
    /// says; a lane that drains may still be closed with `CancelQueued`. The oldest tasks, for
    /// which workers are being started, count as begun: a cold pool behaves like a warm one.
    pub fn close_lane(&mut self, now: Instant, lane: LaneId, how: Close) {
        self.advance(now);
        let Some(index) = self.find_lane(lane) else {
            return;
        };
        let state = &mut self.lanes[index].state;
        if !matches!(*state, LaneState::Open | LaneState::Draining) && how != Close::Drain {
            // Closed before; what runs may still be stopped.
            return self.stop_running(index, how);
        }
        match (how, *state) {
            (Close::Drain, LaneState::Open) => *state = LaneState::Draining,
            (Close::Drain, _) => {}
            _ => {
                *state = LaneState::Cancelling;
                let queued = self.lanes[index].queue.newest_first(&self.tasks);
                // One for each worker that starts is what the standard pool would have passed on.
                let kept = if how == Close::CancelQueued {
                    (self.starting - self.unwanted) as usize
                } else {
                    0
                };
                let waiting = queued.len().saturating_sub(kept);
                for task in queued.into_iter().take(waiting) {
                    self.unqueue(task);
                    self.finish(task, Outcome::Cancelled);
                }
                for task in self.held_tasks(index) {
                    self.take_back(task);
                }
                self.stop_running(index, how);
            }
        }
        self.refresh_demand(index);
        self.end_unwanted_starts();
    }

    /// Stops what the workers of a closed lane hold, where closing asks for it.
    fn stop_running(&mut self, index: u32, how: Close) {
        let reason = match how {
            Close::Stop => StopReason::Cancelled,
            Close::Terminate | Close::Kill => StopReason::Broken,
            Close::Drain | Close::CancelQueued => return,
        };
        if how == Close::Kill {
            self.lanes[index].config.grace = Duration::ZERO;
        }
        for task in self.held_tasks(index) {
            self.stop(task, reason);
        }
    }

    /// Gives a lane up, as when its workers cannot be set up: all its tasks finish as broken,
    /// running calls are stopped first, and later submissions are refused.
    pub fn break_lane(&mut self, now: Instant, lane: LaneId) {
        self.advance(now);
        let Some(index) = self.find_lane(lane) else {
            return;
        };
        self.lanes[index].state = LaneState::Broken;
        self.break_queue(index);
        for task in self.held_tasks(index) {
            self.stop(task, StopReason::Broken);
        }
        self.refresh_demand(index);
        self.end_unwanted_starts();
    }

    /// Frees the place of a lane that is closed and drained. A lane that is neither is a bug of
    /// the driver.
    pub fn forget_lane(&mut self, lane: LaneId) {
        let Some(index) = self.find_lane(lane) else {
            return;
        };
        let Lane { state, tasks, .. } = self.lanes[index];
        assert!(
            state != LaneState::Open && tasks == 0,
            "only a closed, drained lane is forgotten"
        );
        if self.lanes[index].hungry {
            self.hungry.retain(|&other| other != index);
        }
        self.lanes.remove(index);
    }

    /// Whether the lane takes a task of so many bytes; makes room if its policy says so.
    pub(super) fn admit(
        &mut self,
        index: u32,
        bytes: u64,
        payload: P,
    ) -> Result<P, SubmitError<P>> {
        let lane = &self.lanes[index];
        if self.broken || lane.state == LaneState::Broken {
            return Err(SubmitError::Broken { payload });
        }
        if lane.state != LaneState::Open {
            return Err(SubmitError::Closed { payload });
        }
        if let Some(limit) = lane.config.queue_bytes_max.filter(|&limit| bytes > limit) {
            return Err(SubmitError::TooLarge {
                bytes,
                limit,
                payload,
            });
        }
        if !lane.is_full() && lane.bytes_over(bytes) == 0 {
            return Ok(payload);
        }
        self.make_room(index, bytes);
        let lane = &self.lanes[index];
        if lane.is_full() {
            let limit = lane.config.queue_tasks_max.unwrap_or(u32::MAX);
            return Err(SubmitError::Full {
                queued: lane.waiting(),
                limit,
                payload,
            });
        }
        if lane.bytes_over(bytes) > 0 {
            let (held, limit) = (lane.bytes, lane.config.queue_bytes_max.unwrap_or(u64::MAX));
            return Err(SubmitError::FullBytes {
                held,
                bytes,
                limit,
                payload,
            });
        }
        Ok(payload)
    }

    /// Drops the oldest waiting tasks of a lane with that policy, if that helps.
    fn make_room(&mut self, index: u32, bytes: u64) {
        let lane = &self.lanes[index];
        let helps = !lane.queue.is_empty() && lane.queued_bytes >= lane.bytes_over(bytes);
        if lane.config.policy != QueuePolicy::DropOldest || !helps {
            return;
        }
        while self.lanes[index].is_full() || self.lanes[index].bytes_over(bytes) > 0 {
            let Some(oldest) = self.lanes[index].queue.first() else {
                break;
            };
            self.unqueue(oldest);
            self.finish(oldest, Outcome::Dropped);
        }
    }

    /// Puts an admitted task at the end of its lane's queue, and assigns it if a worker has time.
    pub(super) fn enqueue(&mut self, lane: u32, options: TaskOptions, payload: P) -> TaskId {
        let (task, generation) = self.tasks.insert(Task::new(lane, options, payload));
        let entry = &mut self.lanes[lane];
        entry.tasks += 1;
        entry.bytes = entry.bytes.saturating_add(options.bytes);
        entry.counted.submitted += 1;
        let is_next = entry.queue.is_empty();
        entry.queue.push_back(&mut self.tasks, task);
        entry.queued_bytes = entry.queued_bytes.saturating_add(options.bytes);
        self.queued += 1;
        if options.deadline.is_some() {
            self.arm(task);
        }
        if is_next {
            self.dispatch(lane);
        } else {
            // A worker that could take this task would have taken those before it (invariant 2).
            self.refresh_demand(lane);
            self.request_spawns();
        }
        TaskId::new(task, generation)
    }

    /// Puts a task that is with no worker back to the front of its queue, or ends it if its lane
    /// keeps nothing waiting any more.
    pub(super) fn requeue(&mut self, task: u32) {
        let index = self.tasks[task].lane;
        let lane = &mut self.lanes[index];
        if self.broken || lane.state == LaneState::Broken {
            return self.finish(task, Outcome::Broken);
        }
        if !lane.keeps_waiting_tasks() {
            return self.finish(task, Outcome::Cancelled);
        }
        let entry = &mut self.tasks[task];
        entry.phase = Phase::Queued;
        entry.start = Start::Unknown;
        lane.queued_bytes = lane.queued_bytes.saturating_add(entry.options.bytes);
        lane.queue.push_front(&mut self.tasks, task);
        self.queued += 1;
        self.arm(task);
    }

    /// Takes a task out of its lane's queue.
    pub(super) fn unqueue(&mut self, task: u32) {
        let (index, bytes) = (self.tasks[task].lane, self.tasks[task].options.bytes);
        let lane = &mut self.lanes[index];
        lane.queue.remove(&mut self.tasks, task);
        lane.queued_bytes = lane.queued_bytes.saturating_sub(bytes);
        self.queued -= 1;
    }

    /// The next task to start, with those that have expired taken out on the way.
    pub(super) fn next_queued(&mut self, lane: u32) -> Option<u32> {
        while let Some(task) = self.lanes[lane].queue.first() {
            self.unqueue(task);
            let deadline = self.tasks[task].options.deadline;
            if deadline.is_none_or(|deadline| deadline > self.now) {
                return Some(task);
            }
            self.finish(
                task,
                Outcome::Expired {
                    which: Expiry::Deadline,
                },
            );
        }
        None
    }

    /// Ends a task that stands in no list: the only way out of the pool.
    pub(super) fn finish(&mut self, index: u32, outcome: Outcome<V, C>) {
        self.disarm(index);
        let task = self.task_id(index);
        let Task {
            payload,
            lane,
            options,
            ..
        } = self.tasks.remove(index);
        let entry = &mut self.lanes[lane];
        entry.tasks -= 1;
        entry.bytes = entry.bytes.saturating_sub(options.bytes);
        let counted = &mut entry.counted;
        *match outcome {
            Outcome::Completed { .. } => &mut counted.completed,
            Outcome::Cancelled => &mut counted.cancelled,
            Outcome::Expired { .. } => &mut counted.expired,
            Outcome::Lost { .. } => &mut counted.lost,
            Outcome::Dropped => &mut counted.dropped,
            Outcome::Broken => &mut counted.broken,
        } += 1;
        let was_last = entry.tasks == 0 && entry.state != LaneState::Open;
        let lane = LaneId::new(lane, self.lanes.generation(lane));
        self.actions.push_back(Action::Finish {
            task,
            lane,
            outcome,
            payload,
        });
        if was_last {
            self.end_unwanted_starts();
        }
    }

    pub(super) fn break_queue(&mut self, lane: u32) {
        while let Some(task) = self.lanes[lane].queue.first() {
            self.unqueue(task);
            self.finish(task, Outcome::Broken);
        }
    }

    /// The tasks of a lane that workers hold, newest first on each worker.
    pub(super) fn held_tasks(&self, lane: u32) -> Vec<u32> {
        let workers = self.lanes[lane].workers.iter();
        workers
            .flat_map(|&worker| self.workers[worker].tasks.newest_first(&self.tasks))
            .collect()
    }

    /// Sets the timer of a task to the earlier of its deadline and its run time's next check.
    pub(super) fn arm(&mut self, index: u32) {
        let task = &mut self.tasks[index];
        let at = [task.options.deadline, task.run_check]
            .into_iter()
            .flatten()
            .min();
        match at {
            Some(at) => {
                task.timed = true;
                self.timers.set(task_key(index), at);
            }
            None => self.disarm(index),
        }
    }

    pub(super) fn disarm(&mut self, index: u32) {
        let task = &mut self.tasks[index];
        if task.timed {
            task.timed = false;
            self.timers.clear(task_key(index));
        }
    }
}
