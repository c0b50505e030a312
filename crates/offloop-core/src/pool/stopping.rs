//! Cancels and time limits: a queued task ends at once, a running one when it has really stopped.
//!
//! A task that a worker holds is asked back first. If it had started, its call is interrupted, and
//! the worker is killed when the grace period ends. The worker's other tasks go back to the queue
//! before that, so that the kill ends no other call.
//!
//! A pool whose driver has ended is abandoned: everything in it ends at once.

use crate::limits::START_CHECK_MIN;
use crate::pool::{Pool, task_key};
use crate::slab::Slab;
use crate::task::{Phase, Start, StopReason};
use crate::timers::Timers;
use crate::worker::WorkerState;
use crate::{Action, Expiry, Instant, LaneId, Outcome, TaskId};

impl<P, V, C: Clone> Pool<P, V, C> {
    /// Cancels a task. A queued task finishes at once; a task that a worker holds finishes when its
    /// call has stopped. False if the task is unknown or has finished.
    pub fn cancel(&mut self, now: Instant, task: TaskId) -> bool {
        self.advance(now);
        let Some(index) = self.find_task(task) else {
            return false;
        };
        self.stop(index, StopReason::Cancelled);
        true
    }

    /// Cancels the streams of a lane, as before it is waited for: their consumers may never come.
    pub fn stop_streams(&mut self, now: Instant, lane: LaneId) {
        self.advance(now);
        let Some(lane) = self.find_lane(lane) else {
            return;
        };
        let mut tasks = self.lanes[lane].queue.newest_first(&self.tasks);
        tasks.extend(self.held_tasks(lane));
        for task in tasks {
            if self.tasks[task].options.streams {
                self.stop(task, StopReason::Cancelled);
            }
        }
    }

    /// The answer to [`Action::Revoke`]: whether the task was taken back before it started.
    pub fn handle_revoked(&mut self, now: Instant, task: TaskId, revoked: bool) {
        self.advance(now);
        let Some(index) = self.find_task(task) else {
            return;
        };
        if self.tasks[index].phase != Phase::Revoking {
            return;
        }
        let (worker, lane) = (self.tasks[index].worker, self.tasks[index].lane);
        if revoked {
            self.return_unstarted(index);
            self.refresh_demand(lane);
            self.after_leaving(worker);
        } else {
            self.end_stealing(index);
            self.tasks[index].start.learn();
            self.tasks[index].phase = Phase::Assigned;
            if self.tasks[index].stop.is_some() {
                self.interrupt(index);
            }
        }
        // Several tasks that return together are queued in order before the first is assigned.
        if self.lanes[lane].stealing == 0 {
            self.dispatch(lane);
        }
    }

    /// The answer to [`Action::ReadStart`] for a task that its worker has started.
    pub fn handle_started(&mut self, now: Instant, task: TaskId, started_at: Instant) {
        self.advance(now);
        let Some(index) = self.find_task(task) else {
            return;
        };
        let task = &mut self.tasks[index];
        let held = matches!(task.phase, Phase::Assigned | Phase::Revoking);
        let (true, None, Some(run_timeout)) = (held, task.stop, task.options.run_timeout) else {
            return;
        };
        task.start = Start::Timed;
        let over_at = started_at.saturating_add(run_timeout);
        task.run_check = Some(over_at);
        let lane = task.lane;
        self.set_prefetched(index, false);
        if over_at <= self.now {
            self.stop(index, StopReason::Expired(Expiry::RunTimeout));
        } else {
            self.arm(index);
        }
        self.refresh_demand(lane);
    }

    /// Ends every task at once, whatever its worker does, and refuses later ones as broken. To be
    /// called by a driver that cannot go on, after it has ended all workers.
    ///
    /// Returns each task's payload and how the task ended: as broken, unless the pool had decided
    /// otherwise and the driver had not polled that yet. A driver that panicked may have left a
    /// decision half made, so this relies on no invariant of the pool.
    pub fn abandon(&mut self) -> Vec<(P, Outcome<V, C>)> {
        let mut ended = Vec::new();
        for action in core::mem::take(&mut self.actions) {
            if let Action::Finish {
                outcome, payload, ..
            } = action
            {
                ended.push((payload, outcome));
            }
        }
        let left = self.tasks.take_all();
        ended.extend(left.map(|task| (task.payload, Outcome::Broken)));
        for lane in self.lanes.values_mut() {
            lane.abandon();
        }
        self.workers = Slab::new();
        self.timers = Timers::new();
        self.idle.clear();
        self.hungry.clear();
        (self.queued, self.demand) = (0, 0);
        (self.starting, self.unwanted, self.parked) = (0, 0, 0);
        self.broken = true;
        ended
    }

    /// Stops a task wherever it is. The first reason counts.
    pub(super) fn stop(&mut self, index: u32, reason: StopReason) {
        let task = &mut self.tasks[index];
        if task.stop.is_some() {
            return;
        }
        let (lane, worker) = (task.lane, task.worker);
        if task.phase == Phase::Queued {
            self.unqueue(index);
            self.finish(index, reason.outcome());
            return self.refresh_demand(lane);
        }
        task.stop = Some(reason);
        self.workers[worker].stopping += 1;
        self.disarm(index);
        if self.tasks[index].phase != Phase::Assigned {
            return;
        }
        if self.tasks[index].start.is_known() {
            return self.interrupt(index);
        }
        self.tasks[index].phase = Phase::Revoking;
        self.set_prefetched(index, false);
        let (worker, task) = (self.worker_id(worker), self.task_id(index));
        self.actions.push_back(Action::Revoke { worker, task });
        self.refresh_demand(lane);
    }

    /// Interrupts a call that is known to have started, and takes back what waits behind it.
    fn interrupt(&mut self, index: u32) {
        let (lane, worker) = (self.tasks[index].lane, self.tasks[index].worker);
        let grace = self.tasks[index]
            .options
            .grace
            .unwrap_or(self.lanes[lane].config.grace);
        let task = &mut self.tasks[index];
        task.phase = Phase::Interrupted;
        task.timed = true;
        self.timers
            .set(task_key(index), self.now.saturating_add(grace));
        let (worker_id, task) = (self.worker_id(worker), self.task_id(index));
        self.actions.push_back(Action::Interrupt {
            worker: worker_id,
            task,
        });
        for behind in self.workers[worker].tasks.newest_first(&self.tasks) {
            if behind == index {
                break;
            }
            self.take_back(behind);
        }
        self.refresh_demand(lane);
    }

    pub(super) fn task_timer_fired(&mut self, index: u32) {
        let task = &mut self.tasks[index];
        task.timed = false;
        match task.phase {
            Phase::Queued => self.stop(index, StopReason::Expired(Expiry::Deadline)),
            Phase::Assigned | Phase::Revoking => self.limit_reached(index),
            Phase::Interrupted => {
                task.phase = Phase::Killing;
                let worker = task.worker;
                self.kill(worker);
            }
            Phase::Killing => {}
        }
    }

    /// A deadline ends the task; a run time's check asks when the call started, and then again
    /// as long as it has not.
    fn limit_reached(&mut self, index: u32) {
        let now = self.now;
        let task = &mut self.tasks[index];
        if task
            .options
            .deadline
            .is_some_and(|deadline| deadline <= now)
        {
            return self.stop(index, StopReason::Expired(Expiry::Deadline));
        }
        let Some(run_timeout) = task.options.run_timeout else {
            return;
        };
        if task.start == Start::Timed {
            return self.stop(index, StopReason::Expired(Expiry::RunTimeout));
        }
        task.run_check = Some(now.saturating_add(run_timeout.max(START_CHECK_MIN)));
        let worker = task.worker;
        self.arm(index);
        let (worker, task) = (self.worker_id(worker), self.task_id(index));
        self.actions.push_back(Action::ReadStart { worker, task });
    }

    /// Ends a worker. Its tasks are looked after when it has exited.
    pub(super) fn kill(&mut self, worker: u32) {
        if self.workers[worker].state == WorkerState::Killed {
            return;
        }
        self.workers[worker].state = WorkerState::Killed;
        let worker = self.worker_id(worker);
        self.actions.push_back(Action::Kill { worker });
    }
}
