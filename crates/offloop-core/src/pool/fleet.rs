//! Workers come and go: starts on demand, delays after failures, exits, retirement.

use crate::lane::LaneState;
use crate::limits::{FLEET_WORKERS_MAX, RETIRE_GRACE, START_FAILURES_MAX};
use crate::pool::{Pool, worker_key};
use crate::restart::Verdict;
use crate::task::NONE;
use crate::worker::{Worker, WorkerState};
use crate::{Action, Instant, Outcome, TaskId, WorkerId};

impl<P, V, C: Clone> Pool<P, V, C> {
    /// The process of a worker exists: it must become ready within the time that it may take.
    pub fn handle_worker_forked(&mut self, now: Instant, worker: WorkerId) {
        self.advance(now);
        let Some(index) = self.find_worker(worker) else {
            return;
        };
        if self.workers[index].state == WorkerState::Starting {
            let over_at = self.now.saturating_add(self.config.start_timeout);
            self.timers.set(worker_key(index), over_at);
        }
    }

    /// A started worker is ready for tasks. A worker that is being killed for being late stays
    /// late.
    pub fn handle_worker_ready(&mut self, now: Instant, worker: WorkerId) {
        self.advance(now);
        let Some(index) = self.find_worker(worker) else {
            return;
        };
        if self.workers[index].state != WorkerState::Starting {
            return;
        }
        self.timers.clear(worker_key(index));
        self.starting -= 1;
        self.counted.started_total += 1;
        self.backoff.reset();
        self.start_failed_at = None;
        self.serve(index);
        self.request_spawns();
    }

    /// A worker could not be started. The next start waits a while; after several failures in a
    /// row the fleet gives up, and what is queued finishes as broken.
    pub fn handle_spawn_failed(&mut self, now: Instant, worker: WorkerId) {
        self.advance(now);
        let Some(index) = self.find_worker(worker) else {
            return;
        };
        match self.workers[index].state {
            WorkerState::Starting | WorkerState::Overdue => self.start_failed(index),
            WorkerState::Unwanted => self.start_ended(index),
            _ => {}
        }
    }

    /// A worker has ended, whether asked to or not. `started` is the task that it had started and
    /// not completed, if any: only that one is lost. All else that it held is queued again.
    pub fn handle_worker_exit(
        &mut self,
        now: Instant,
        worker: WorkerId,
        started: Option<TaskId>,
        crash: C,
    ) {
        self.advance(now);
        let Some(index) = self.find_worker(worker) else {
            return;
        };
        let lane = self.workers[index].lane;
        let expected = match self.workers[index].state {
            WorkerState::Starting | WorkerState::Overdue => return self.start_failed(index),
            WorkerState::Unwanted => return self.start_ended(index),
            WorkerState::Retiring | WorkerState::Killed => true,
            WorkerState::Idle => {
                self.idle.retain(|&other| other != index);
                self.workers[index].asked
            }
            WorkerState::Parked => {
                self.parked -= 1;
                self.workers[index].asked
            }
            WorkerState::Busy => self.workers[index].asked,
        };
        self.timers.clear(worker_key(index));
        self.withdraw_actions(index);
        for task in self.workers[index].tasks.newest_first(&self.tasks) {
            let was_started = started == Some(self.task_id(task));
            if was_started || self.tasks[task].start.is_known() {
                self.lose(task, &crash);
            } else {
                self.return_unstarted(task);
            }
        }
        self.unlend(index);
        self.workers.remove(index);
        if !expected {
            self.counted.crashed_total += 1;
            if self.restarts.record(self.now) == Verdict::GiveUp {
                self.give_up();
            }
        }
        if lane != NONE {
            self.dispatch(lane);
        }
        self.request_spawns();
    }

    /// Asks all idle workers to exit, as before a shutdown.
    pub fn retire_idle(&mut self, now: Instant) {
        self.advance(now);
        while let Some(worker) = self.idle.pop_front() {
            self.retire(worker);
        }
    }

    /// The driver has asked a worker to exit by itself, as at the program's end: that it ends is no
    /// crash, and does not count against the fleet.
    pub fn expect_exit(&mut self, worker: WorkerId) {
        if let Some(index) = self.find_worker(worker) {
            self.workers[index].asked = true;
        }
    }

    /// A worker has delivered an item of a task. Its consumer has seen a part of the outcome, so
    /// the call is not started again should its worker end.
    pub fn handle_item(&mut self, task: TaskId) {
        if let Some(index) = self.find_task(task) {
            self.tasks[index].options.retries = 0;
        }
    }

    /// Decides about a task whose worker ended after starting it.
    fn lose(&mut self, index: u32, crash: &C) {
        let lane = self.tasks[index].lane;
        self.detach(index);
        let task = &mut self.tasks[index];
        if let Some(reason) = task.stop {
            return self.finish(index, reason.outcome());
        }
        let may_retry = !self.broken && self.lanes[lane].keeps_waiting_tasks();
        if may_retry && task.options.retries > 0 {
            task.options.retries -= 1;
            task.attempt += 1;
            self.lanes[lane].counted.retried += 1;
            return self.requeue(index);
        }
        let attempts = task.attempt;
        self.finish(
            index,
            Outcome::Lost {
                may_have_started: true,
                attempts,
                crash: crash.clone(),
            },
        );
    }

    /// Ends the starts of workers that no lane can need, if there is something to see of them.
    pub(super) fn end_unwanted_starts(&mut self) {
        let is_over = |lane: u32| {
            let lane = &self.lanes[lane];
            lane.state != LaneState::Open && lane.tasks == 0
        };
        if !self.config.initializes
            || self.starting == self.unwanted
            || !self.lanes.indices().into_iter().all(is_over)
        {
            return;
        }
        for index in self.workers.indices() {
            let worker = &mut self.workers[index];
            if matches!(worker.state, WorkerState::Starting | WorkerState::Overdue) {
                worker.state = WorkerState::Unwanted;
                self.unwanted += 1;
                self.timers.clear(worker_key(index));
                let worker = self.worker_id(index);
                self.actions.push_back(Action::Abandon { worker });
            }
        }
    }

    /// A worker that was not needed any more will not start.
    fn start_ended(&mut self, index: u32) {
        self.withdraw_actions(index);
        self.workers.remove(index);
        self.starting -= 1;
        self.unwanted -= 1;
        self.request_spawns();
    }

    fn start_failed(&mut self, index: u32) {
        let spawned_at = self.workers[index].spawned_at;
        self.timers.clear(worker_key(index));
        self.withdraw_actions(index);
        self.workers.remove(index);
        self.starting -= 1;
        self.counted.start_failures_total += 1;
        // Starts that were under way together and fail together are one failure.
        if self
            .start_failed_at
            .is_none_or(|failed_at| spawned_at > failed_at)
        {
            self.start_failed_at = Some(self.now);
            self.spawn_at = self.now.saturating_add(self.backoff.next_delay());
            if self.backoff.attempts() >= START_FAILURES_MAX {
                self.give_up();
            }
        }
        self.request_spawns();
    }

    /// Ends everything that waits. What runs may run to its end.
    fn give_up(&mut self) {
        self.broken = true;
        for lane in self.lanes.indices() {
            self.break_queue(lane);
            self.refresh_demand(lane);
        }
    }

    /// Whether a further worker is to be started, now or when the delay is over.
    pub(super) fn wants_worker(&self) -> bool {
        let coming = self.starting - self.unwanted + self.parked + self.idle.len() as u32;
        coming < self.demand && !self.broken && self.workers.len() < FLEET_WORKERS_MAX as usize
    }

    pub(super) fn request_spawns(&mut self) {
        while self.wants_worker() && self.now >= self.spawn_at {
            let (index, generation) = self.workers.insert(Worker::starting(self.now));
            self.starting += 1;
            let worker = WorkerId::new(index, generation);
            self.actions.push_back(Action::Spawn { worker });
        }
    }

    /// Asks a worker that holds no task to exit.
    pub(super) fn retire(&mut self, worker: u32) {
        self.workers[worker].state = WorkerState::Retiring;
        self.timers
            .set(worker_key(worker), self.now.saturating_add(RETIRE_GRACE));
        let worker = self.worker_id(worker);
        self.actions.push_back(Action::Retire { worker });
        self.request_spawns();
    }

    pub(super) fn worker_timer_fired(&mut self, worker: u32) {
        match self.workers[worker].state {
            WorkerState::Starting => {
                self.workers[worker].state = WorkerState::Overdue;
                let worker = self.worker_id(worker);
                self.actions.push_back(Action::Kill { worker });
            }
            WorkerState::Parked => {
                self.parked -= 1;
                self.workers[worker].full = false;
                self.serve(worker);
            }
            WorkerState::Retiring => self.kill(worker),
            WorkerState::Busy => self.end_patience(worker),
            _ => {}
        }
    }

    /// When the worker that is idle for longest is to be retired.
    pub(super) fn next_retirement_at(&self) -> Option<Instant> {
        let longest_idle = *self.idle.front()?;
        let idle_since = self.workers[longest_idle].idle_since;
        Some(idle_since.saturating_add(self.config.idle_timeout))
    }

    pub(super) fn retire_overdue(&mut self) {
        while self.next_retirement_at().is_some_and(|at| at <= self.now) {
            let Some(worker) = self.idle.pop_front() else {
                break;
            };
            self.retire(worker);
        }
    }
}
