//! Which worker runs which task: the pool lends workers to lanes, gives them tasks in advance, and
//! takes back what another worker could run sooner.

use core::time::Duration;

use crate::limits::{LEAST_LOADED_SCAN, PACK_PATIENCE, REFUSAL_DELAY, REFUSALS_MAX};
use crate::pool::{Pool, worker_key};
use crate::task::{NONE, Phase};
use crate::worker::WorkerState;
use crate::{Action, Instant, Outcome, TaskId, WorkerId};

/// A worker that has time for a task.
enum Candidate {
    /// A worker without a lane, the warmest of the idle ones.
    Idle,
    /// A worker of the lane that may hold one more.
    Busy(u32),
}

impl<P, V, C: Clone> Pool<P, V, C> {
    /// A worker has run a task to the end. The driver has the value already; it gives completions
    /// before the exit of the same worker.
    pub fn handle_completion(
        &mut self,
        now: Instant,
        worker: WorkerId,
        task: TaskId,
        run: Duration,
        value: V,
    ) {
        self.advance(now);
        let (Some(worker), Some(task)) = (self.find_worker(worker), self.find_task(task)) else {
            return;
        };
        if self.tasks[task].worker != worker {
            return;
        }
        let (lane, stop) = (self.tasks[task].lane, self.tasks[task].stop);
        self.detach(task);
        self.lanes[lane].slow = false;
        let entry = &mut self.workers[worker];
        entry.full = false;
        entry.refusals = 0;
        match stop {
            None => {
                // How long a stream takes is its consumer's doing, too.
                if !self.tasks[task].options.streams {
                    self.lanes[lane].estimate.record(run);
                }
                self.finish(task, Outcome::Completed { value });
            }
            Some(reason) => self.finish(task, reason.outcome()),
        }
        self.after_completion(worker, lane);
    }

    /// The ring of the worker had no room for a task that it was assigned. The task returns to
    /// the front of its queue, and the worker gets no more before its next completion.
    pub fn handle_assign_refused(&mut self, task: TaskId) {
        let Some(index) = self.find_task(task) else {
            return;
        };
        let (worker, lane) = (self.tasks[index].worker, self.tasks[index].lane);
        if !matches!(self.tasks[index].phase, Phase::Assigned | Phase::Revoking) {
            return;
        }
        self.workers[worker].full = true;
        // What was to follow on the same ring is withdrawn as well, so that the order is kept.
        let mut returning = self.withdraw_actions(worker);
        returning.push(task);
        for index in self.workers[worker].tasks.newest_first(&self.tasks) {
            if returning.contains(&self.task_id(index)) {
                self.return_unstarted(index);
            }
        }
        self.after_leaving(worker);
        self.dispatch(lane);
    }

    /// Drops the actions about tasks of this worker that the driver has not seen, and returns the
    /// tasks that were to be pushed to its ring.
    pub(super) fn withdraw_actions(&mut self, worker: u32) -> Vec<TaskId> {
        let id = self.worker_id(worker);
        let mut unpushed = Vec::new();
        self.actions.retain(|action| match action {
            Action::Assign { worker, task } if *worker == id => {
                unpushed.push(*task);
                false
            }
            _ => true,
        });
        self.actions.retain(|action| match action {
            Action::Revoke { task, .. }
            | Action::ReadStart { task, .. }
            | Action::Interrupt { task, .. } => !unpushed.contains(task),
            _ => true,
        });
        unpushed
    }

    /// Takes a task that was never started off its worker: back to the queue, or to its end if it
    /// was being stopped.
    pub(super) fn return_unstarted(&mut self, task: u32) {
        let (worker, stop) = (self.tasks[task].worker, self.tasks[task].stop);
        let entry = &mut self.workers[worker];
        entry.assigned_total = entry.assigned_total.saturating_sub(1);
        self.detach(task);
        match stop {
            Some(reason) => self.finish(task, reason.outcome()),
            None => self.requeue(task),
        }
    }

    /// Gives the lane's queued tasks to workers that have time. Asks for workers if none has.
    pub(super) fn dispatch(&mut self, lane: u32) {
        while !self.lanes[lane].queue.is_empty() {
            let Some(candidate) = self.candidate(lane) else {
                break;
            };
            let Some(task) = self.next_queued(lane) else {
                break;
            };
            let worker = match candidate {
                Candidate::Busy(worker) => worker,
                Candidate::Idle => {
                    let worker = self
                        .idle
                        .pop_back()
                        .expect("candidate() saw an idle worker");
                    self.attach(worker, lane);
                    worker
                }
            };
            self.assign(task, worker);
        }
        self.refresh_demand(lane);
        if self.lanes[lane].demand > 0 && !self.idle.is_empty() {
            self.steal(lane);
        }
        self.request_spawns();
    }

    fn candidate(&mut self, lane: u32) -> Option<Candidate> {
        let another = self.lanes[lane].may_grow() && !self.idle.is_empty();
        let depth = if another {
            self.lanes[lane].pack()
        } else {
            self.lanes[lane].depth()
        };
        // A lane's workers hold at least one task each (pool invariant 3).
        let busy = if depth == 1 {
            None
        } else {
            self.least_loaded(lane, depth)
        };
        match busy {
            Some(worker) => {
                if self.lanes[lane].may_grow() {
                    self.watch(worker);
                }
                Some(Candidate::Busy(worker))
            }
            None if another => Some(Candidate::Idle),
            None => None,
        }
    }

    /// The worker of the lane that holds least, if it may hold one more.
    fn least_loaded(&mut self, lane: u32, depth: u32) -> Option<u32> {
        let lane = &mut self.lanes[lane];
        let count = lane.workers.len();
        let mut best = None;
        let mut best_load = u32::MAX;
        for step in 0..count.min(LEAST_LOADED_SCAN) {
            let worker = lane.workers[(lane.scan_from as usize + step) % count];
            let entry = &self.workers[worker];
            let load = entry.tasks.len();
            if load < best_load && entry.room(depth, self.config.tasks_per_worker_max) > 0 {
                (best, best_load) = (Some(worker), load);
            }
        }
        if count > LEAST_LOADED_SCAN {
            lane.scan_from = (lane.scan_from + LEAST_LOADED_SCAN as u32) % count as u32;
        }
        best
    }

    /// Looks at a packed worker again after a while: if the worker stays on one task for long, its
    /// other tasks must not wait behind that one.
    pub(super) fn watch(&mut self, worker: u32) {
        let entry = &mut self.workers[worker];
        if entry.watched == NONE {
            entry.watched = entry.tasks.first().unwrap_or(NONE);
            self.timers
                .set(worker_key(worker), self.now.saturating_add(PACK_PATIENCE));
        }
    }

    /// A packed worker is still on the task that it was on, or it has gone on to another.
    pub(super) fn end_patience(&mut self, worker: u32) {
        let entry = &mut self.workers[worker];
        let watched = core::mem::replace(&mut entry.watched, NONE);
        let (lane, first) = (entry.lane, entry.tasks.first());
        if lane == NONE || entry.prefetched == 0 {
            return;
        }
        // Again and again while anything is held: completions elsewhere end the lane's slowness.
        self.watch(worker);
        if first == Some(watched) {
            self.lanes[lane].slow = true;
            self.refresh_demand(lane);
            self.dispatch(lane);
        }
    }

    /// Lends a worker to a lane.
    fn attach(&mut self, worker: u32, lane: u32) {
        let workers = &mut self.lanes[lane].workers;
        let entry = &mut self.workers[worker];
        entry.state = WorkerState::Busy;
        entry.lane = lane;
        entry.place = workers.len() as u32;
        workers.push(worker);
    }

    /// Ends the loan of a worker that holds no task.
    pub(super) fn unlend(&mut self, worker: u32) {
        let entry = &mut self.workers[worker];
        let (lane, place) = (entry.lane, entry.place);
        if lane == NONE {
            return;
        }
        entry.lane = NONE;
        let workers = &mut self.lanes[lane].workers;
        workers.swap_remove(place as usize);
        if let Some(&moved) = workers.get(place as usize) {
            self.workers[moved].place = place;
        }
        self.refresh_demand(lane);
    }

    fn assign(&mut self, index: u32, worker: u32) {
        let task = &mut self.tasks[index];
        task.phase = Phase::Assigned;
        task.worker = worker;
        let streams = u32::from(task.options.streams);
        if let Some(run_timeout) = task.options.run_timeout {
            task.run_check = Some(self.now.saturating_add(run_timeout));
            self.arm(index);
        }
        let entry = &mut self.workers[worker];
        entry.streams += streams;
        let is_first = entry.tasks.is_empty();
        entry.tasks.push_back(&mut self.tasks, index);
        entry.assigned_total = entry.assigned_total.saturating_add(1);
        if !is_first {
            self.set_prefetched(index, true);
        }
        let (worker, task) = (self.worker_id(worker), self.task_id(index));
        self.actions.push_back(Action::Assign { worker, task });
    }

    /// Takes a task off its worker, with all that is counted for it there.
    pub(super) fn detach(&mut self, index: u32) {
        self.set_prefetched(index, false);
        self.end_stealing(index);
        let task = &mut self.tasks[index];
        let worker = core::mem::replace(&mut task.worker, NONE);
        task.run_check = None;
        let stopping = u32::from(task.stop.is_some());
        let streams = u32::from(task.options.streams);
        let entry = &mut self.workers[worker];
        entry.stopping -= stopping;
        entry.streams -= streams;
        entry.tasks.remove(&mut self.tasks, index);
        if let Some(first) = entry.tasks.first() {
            self.set_prefetched(first, false);
        }
    }

    pub(super) fn set_prefetched(&mut self, index: u32, prefetched: bool) {
        let task = &mut self.tasks[index];
        if task.prefetched == prefetched {
            return;
        }
        task.prefetched = prefetched;
        let on_worker = &mut self.workers[task.worker].prefetched;
        let in_lane = &mut self.lanes[task.lane].prefetched;
        if prefetched {
            *on_worker += 1;
            *in_lane += 1;
        } else {
            *on_worker -= 1;
            *in_lane -= 1;
        }
    }

    fn after_completion(&mut self, worker: u32, lane: u32) {
        if !self.lanes[lane].queue.is_empty() && !self.others_are_hungry(lane) {
            self.fill(worker, lane);
        }
        self.after_leaving(worker);
        self.refresh_demand(lane);
    }

    /// Whether a worker that becomes free should go to another lane first. The ring may hold
    /// lanes that are hungry no more; they leave it when their turn comes.
    fn others_are_hungry(&self, lane: u32) -> bool {
        self.hungry
            .front()
            .is_some_and(|&first| first != lane || self.hungry.len() > 1)
    }

    /// Gives a worker of the lane its fair share of the queue.
    fn fill(&mut self, worker: u32, lane: u32) {
        let entry = &self.lanes[lane];
        let share = entry
            .queue
            .len()
            .div_ceil(entry.workers.len().max(1) as u32);
        let room = self.workers[worker].room(entry.depth(), self.config.tasks_per_worker_max);
        for _ in 0..room.min(share) {
            if self.workers[worker].streams > 0 {
                break;
            }
            let Some(task) = self.next_queued(lane) else {
                break;
            };
            self.assign(task, worker);
        }
    }

    /// Looks after a worker that a task has left: a worker that holds no tasks is free.
    pub(super) fn after_leaving(&mut self, worker: u32) {
        let lane = self.workers[worker].lane;
        if !self.workers[worker].tasks.is_empty() || lane == NONE {
            return;
        }
        self.unlend(worker);
        let entry = &mut self.workers[worker];
        if core::mem::replace(&mut entry.watched, NONE) != NONE {
            self.timers.clear(worker_key(worker));
        }
        let entry = &self.workers[worker];
        if entry.state == WorkerState::Killed {
            // Its exit is all that is still to come.
        } else if entry.left(self.config.tasks_per_worker_max) == 0 {
            self.retire(worker);
        } else if entry.full {
            self.park(worker);
        } else {
            self.serve(worker);
        }
        // The lane may be lent another worker in its place, and a worker that it could not use
        // before may be idle.
        if self.lanes[lane].demand > 0 {
            self.dispatch(lane);
        }
    }

    /// A worker that refused a task while it held none would never complete one; it is tried
    /// again a little later, and ended if that does not help.
    fn park(&mut self, worker: u32) {
        let entry = &mut self.workers[worker];
        entry.refusals += 1;
        let refusals = entry.refusals;
        if refusals > REFUSALS_MAX {
            return self.kill(worker);
        }
        entry.state = WorkerState::Parked;
        self.parked += 1;
        let delay = REFUSAL_DELAY * (1 << (refusals - 1));
        self.timers
            .set(worker_key(worker), self.now.saturating_add(delay));
    }

    /// Finds work for a worker that has none: the queues of hungry lanes in their turns, then the
    /// prefetched tasks of a lane whose workers are too slow; else it is idle.
    pub(super) fn serve(&mut self, worker: u32) {
        let mut slow_lane = None;
        for _ in 0..self.hungry.len() {
            let Some(lane) = self.hungry.pop_front() else {
                break;
            };
            self.lanes[lane].hungry = false;
            if !self.lanes[lane].queue.is_empty() && self.lanes[lane].may_grow() {
                self.attach(worker, lane);
                self.fill(worker, lane);
                self.refresh_demand(lane);
                if !self.workers[worker].tasks.is_empty() {
                    return;
                }
                self.unlend(worker);
            } else if self.lanes[lane].demand > 0 {
                slow_lane = slow_lane.or(Some(lane));
                self.join_hungry(lane);
            }
        }
        let entry = &mut self.workers[worker];
        entry.state = WorkerState::Idle;
        entry.idle_since = self.now;
        self.idle.push_back(worker);
        if let Some(lane) = slow_lane {
            self.steal(lane);
        }
    }

    /// Takes back the newer half of what the lane's most loaded worker holds in advance. The tasks
    /// return to the queue as the driver answers, and go from there to idle workers.
    fn steal(&mut self, lane: u32) {
        if self.lanes[lane].stealing > 0 || self.lanes[lane].prefetched == 0 {
            return;
        }
        let workers = self.lanes[lane].workers.iter().copied();
        let living = workers.filter(|&worker| self.workers[worker].state == WorkerState::Busy);
        let Some(victim) = living.max_by_key(|&worker| self.workers[worker].prefetched) else {
            return;
        };
        let half = self.workers[victim].prefetched.div_ceil(2) as usize;
        let newest = self.workers[victim]
            .tasks
            .newest_first(&self.tasks)
            .into_iter();
        let taken: Vec<u32> = newest
            .filter(|&task| self.tasks[task].prefetched)
            .take(half)
            .collect();
        for task in taken {
            self.take_back(task);
        }
        self.refresh_demand(lane);
    }

    /// Asks for a task back, to be queued again, unless it has started or is asked for already.
    pub(super) fn take_back(&mut self, index: u32) {
        let task = &mut self.tasks[index];
        if task.phase != Phase::Assigned || task.start.is_known() || task.stop.is_some() {
            return;
        }
        task.phase = Phase::Revoking;
        task.stealing = true;
        let (lane, worker) = (task.lane, task.worker);
        self.lanes[lane].stealing += 1;
        self.set_prefetched(index, false);
        let (worker, task) = (self.worker_id(worker), self.task_id(index));
        self.actions.push_back(Action::Revoke { worker, task });
    }

    pub(super) fn end_stealing(&mut self, index: u32) {
        let task = &mut self.tasks[index];
        if core::mem::replace(&mut task.stealing, false) {
            self.lanes[task.lane].stealing -= 1;
        }
    }

    /// Brings the lane's demand, the sum of all demands and the ring of hungry lanes up to date.
    pub(super) fn refresh_demand(&mut self, lane: u32) {
        let entry = &mut self.lanes[lane];
        let demand = if self.broken { 0 } else { entry.demand_now() };
        self.demand = self.demand - entry.demand + demand;
        entry.demand = demand;
        if demand > 0 {
            self.join_hungry(lane);
        }
    }

    fn join_hungry(&mut self, lane: u32) {
        let entry = &mut self.lanes[lane];
        if !core::mem::replace(&mut entry.hungry, true) {
            self.hungry.push_back(lane);
        }
    }
}
