//! The decisions for one fleet of interchangeable workers and the lanes that share it.
//!
//! A lane queues tasks; the fleet lends its workers to lanes that have work, up to each lane's
//! `workers_max`. A worker serves one lane at a time, holds that lane's tasks in the order in
//! which it runs them, and goes to the next lane in turn when it has none left.
//!
//! ```text
//!  submit ──► queue of a lane ──assign──► worker's tasks ──completion──► finished
//!                 ▲   │ cancel, expiry, drop     │  │ interrupt, kill       ▲
//!                 │   └──────────────────────────┼──┴───────────────────────┤
//!                 └── revoked, refused, exit ────┘   exit under a started task
//! ```
//!
//! The code is split by duty: `admission` (into the queue and out of the pool), `assignment` (which
//! worker runs which task), `stopping` (cancels, time limits), `fleet` (starts, exits, retirement).
//!
//! Invariants: 1. each admitted task is finished once, by `finish`, which alone removes it.
//!             2. while a lane could use one more worker, none is idle, unless the lane's queue is
//!                empty or a revocation is being answered.
//!             3. a worker that holds no task serves no lane.
//!             4. while a lane has demand, enough workers are starting, or a timer is set for when
//!                starting is allowed again, or the fleet is as large as it may be.
//! Threads:    none; the driver keeps the pool under one lock.

mod admission;
mod assignment;
mod fleet;
mod stopping;

use std::collections::VecDeque;

use core::time::Duration;

use crate::backoff::Backoff;
use crate::lane::{Lane, LaneConfig, LaneState, LaneStatistics};
use crate::restart::{RestartIntensity, RestartWindow};
use crate::slab::Slab;
use crate::task::{Task, TaskOptions};
use crate::timers::Timers;
use crate::worker::{Worker, WorkerState};
use crate::{Action, Instant, LaneId, SubmitError, TaskId, WorkerId, limits};

/// What holds for all workers of a fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolConfig {
    /// Tasks that a worker may start in its life; at least one.
    pub tasks_per_worker_max: Option<u32>,
    /// How long a worker without work is kept.
    pub idle_timeout: Duration,
    /// How long a worker may take from its fork until it is ready.
    pub start_timeout: Duration,
    /// Whether workers run an initializer. Its effects can be seen from outside, so no worker is
    /// left starting when every lane is closed and drained.
    pub initializes: bool,
    /// Unexpected exits that are accepted before the fleet gives up.
    pub restart: RestartIntensity,
    /// Source of the jitter in delays.
    pub seed: u64,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            tasks_per_worker_max: None,
            idle_timeout: limits::IDLE_TIMEOUT,
            start_timeout: limits::START_TIMEOUT,
            initializes: false,
            restart: RestartIntensity::default(),
            seed: 0,
        }
    }
}

/// The state of the fleet, at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FleetStatistics {
    /// Workers that have become ready and have not exited.
    pub alive: u32,
    /// Workers that are being started.
    pub starting: u32,
    /// Workers without work.
    pub idle: u32,
    /// Workers that became ready since the fleet exists.
    pub started_total: u64,
    /// Ready workers that exited without having been asked to.
    pub crashed_total: u64,
    /// Workers that did not become ready.
    pub start_failures_total: u64,
}

/// The state machine of one fleet. `P` is what the driver keeps with a task, `V` what it says
/// of a completion, `C` of a crash; the last two come back with the outcomes that they lead to.
///
/// - Commands: `open_lane`, `close_lane`, `stop_streams`, `break_lane`, `forget_lane`, `submit`,
///   `cancel`, `retire_idle`, `expect_exit`, `abandon`.
/// - Events: `handle_worker_forked`, `handle_worker_ready`, `handle_spawn_failed`,
///   `handle_worker_exit`, `handle_assign_refused`, `handle_item`, `handle_completion`,
///   `handle_revoked`, `handle_started`, `handle_timeout`.
/// - Polls: `poll_action`, to be drained after each of the above, and `poll_timeout`.
///
/// Events about finished tasks and ended workers have no effect. Time never runs backwards: an
/// event with an earlier time than the previous event happens at the previous event's time.
#[derive(Debug)]
pub struct Pool<P, V = (), C = ()> {
    config: PoolConfig,
    now: Instant,
    tasks: Slab<Task<P>>,
    lanes: Slab<Lane>,
    workers: Slab<Worker>,
    actions: VecDeque<Action<P, V, C>>,
    timers: Timers,
    /// Workers without work: the longest idle at the front, the warmest at the back.
    idle: VecDeque<u32>,
    /// Lanes that may want workers, in the order of their turns.
    hungry: VecDeque<u32>,
    queued: usize,
    /// Sum of the lanes' demands.
    demand: u32,
    starting: u32,
    /// Starting workers whose start is being ended.
    unwanted: u32,
    parked: u32,
    broken: bool,
    restarts: RestartWindow,
    backoff: Backoff,
    /// No worker is started before.
    spawn_at: Instant,
    start_failed_at: Option<Instant>,
    counted: FleetStatistics,
}

impl<P, V, C: Clone> Pool<P, V, C> {
    /// A fleet without lanes and workers.
    #[must_use]
    pub fn new(mut config: PoolConfig) -> Self {
        config.tasks_per_worker_max = config.tasks_per_worker_max.map(|most| most.max(1));
        Self {
            config,
            now: Instant::ZERO,
            tasks: Slab::new(),
            lanes: Slab::new(),
            workers: Slab::new(),
            actions: VecDeque::new(),
            timers: Timers::new(),
            idle: VecDeque::new(),
            hungry: VecDeque::new(),
            queued: 0,
            demand: 0,
            starting: 0,
            unwanted: 0,
            parked: 0,
            broken: false,
            restarts: RestartWindow::new(config.restart),
            backoff: Backoff::new(
                limits::START_BACKOFF,
                limits::START_BACKOFF_MAX,
                config.seed,
            ),
            spawn_at: Instant::ZERO,
            start_failed_at: None,
            counted: FleetStatistics::default(),
        }
    }

    /// Opens an admission class. Nothing is started before there is work.
    pub fn open_lane(&mut self, config: LaneConfig) -> LaneId {
        let (index, generation) = self.lanes.insert(Lane::new(config));
        LaneId::new(index, generation)
    }

    /// Takes a task, or gives its payload back with the reason.
    ///
    /// A full queue refuses under [`Wait`](crate::QueuePolicy::Wait) and
    /// [`Refuse`](crate::QueuePolicy::Refuse): the caller does the waiting. A task whose deadline
    /// has passed is admitted and finishes as expired without being started.
    pub fn submit(
        &mut self,
        now: Instant,
        lane: LaneId,
        options: TaskOptions,
        payload: P,
    ) -> Result<TaskId, SubmitError<P>> {
        self.advance(now);
        let Some(index) = self.find_lane(lane) else {
            return Err(SubmitError::Closed { payload });
        };
        let payload = self.admit(index, options.bytes, payload)?;
        Ok(self.enqueue(index, options, payload))
    }

    /// Whether a lane would take a task that holds no bytes.
    #[must_use]
    pub fn has_room(&self, lane: LaneId) -> bool {
        self.find_lane(lane).is_some_and(|index| {
            let lane = &self.lanes[index];
            !self.broken && lane.state == LaneState::Open && !lane.is_full()
        })
    }

    /// Whether a lane refuses tasks only until other tasks have finished.
    #[must_use]
    pub fn lane_is_full(&self, lane: LaneId) -> bool {
        self.find_lane(lane).is_some_and(|index| {
            let lane = &self.lanes[index];
            !self.broken && lane.state == LaneState::Open && lane.is_full()
        })
    }

    /// Whether the lane takes calls: it is neither closed nor broken.
    #[must_use]
    pub fn lane_is_open(&self, lane: LaneId) -> bool {
        let index = self.find_lane(lane);
        index.is_some_and(|index| self.lanes[index].state == LaneState::Open)
    }

    /// Whether no unfinished task of the lane is left; also true of a forgotten lane.
    #[must_use]
    pub fn lane_is_drained(&self, lane: LaneId) -> bool {
        self.find_lane(lane)
            .is_none_or(|index| self.lanes[index].tasks == 0)
    }

    /// What was handed to `submit`, until the task is finished.
    #[must_use]
    pub fn payload(&self, task: TaskId) -> Option<&P> {
        self.find_task(task).map(|index| &self.tasks[index].payload)
    }

    /// As [`payload`](Self::payload), to be changed.
    pub fn payload_mut(&mut self, task: TaskId) -> Option<&mut P> {
        self.find_task(task)
            .map(|index| &mut self.tasks[index].payload)
    }

    /// Which attempt a task is at, from 1, until it is finished.
    #[must_use]
    pub fn attempt(&self, task: TaskId) -> Option<u32> {
        self.find_task(task).map(|index| self.tasks[index].attempt)
    }

    /// The next thing to do, oldest first.
    pub fn poll_action(&mut self) -> Option<Action<P, V, C>> {
        self.actions.pop_front()
    }

    /// When `handle_timeout` is due; `None` while no time limit, delay or idle worker is pending.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let spawn_at = self.wants_worker().then_some(self.spawn_at);
        let retire_at = self.next_retirement_at();
        let earliest = [self.timers.next_at(), retire_at, spawn_at]
            .into_iter()
            .flatten()
            .min();
        earliest.filter(|&at| at < Instant::MAX)
    }

    /// Does what is due at `now`: expires, kills, retires idle workers, starts delayed ones.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.advance(now);
        while let Some(key) = self.timers.pop_due(self.now) {
            let index = key / 2;
            if key == task_key(index) {
                self.task_timer_fired(index);
            } else {
                self.worker_timer_fired(index);
            }
        }
        self.retire_overdue();
        self.request_spawns();
    }

    /// The state of one lane; all zero for a forgotten one.
    #[must_use]
    pub fn statistics(&self, lane: LaneId) -> LaneStatistics {
        self.find_lane(lane)
            .map(|index| self.lanes[index].statistics())
            .unwrap_or_default()
    }

    /// The state of the fleet.
    #[must_use]
    pub fn fleet_statistics(&self) -> FleetStatistics {
        FleetStatistics {
            alive: self.workers_alive(),
            starting: self.starting,
            idle: self.idle.len() as u32,
            ..self.counted
        }
    }

    /// Workers that have become ready and have not exited, those being ended included.
    #[must_use]
    pub fn workers_alive(&self) -> u32 {
        self.workers.len() as u32 - self.starting
    }

    /// Whether starts that the pool does not need any more are still being ended.
    #[must_use]
    pub fn is_ending_starts(&self) -> bool {
        self.unwanted > 0
    }

    /// Whether the start of a worker is still wanted.
    #[must_use]
    pub fn wants_start(&self, worker: WorkerId) -> bool {
        let index = self.find_worker(worker);
        index.is_some_and(|index| self.workers[index].state == WorkerState::Starting)
    }

    /// Tasks that no worker holds, in all lanes.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// Whether the fleet has given up: its workers fail to start, or die too often.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    fn advance(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    fn find_task(&self, task: TaskId) -> Option<u32> {
        self.tasks.find(task.index(), task.generation())
    }

    fn find_lane(&self, lane: LaneId) -> Option<u32> {
        self.lanes.find(lane.index(), lane.generation())
    }

    fn find_worker(&self, worker: WorkerId) -> Option<u32> {
        self.workers.find(worker.index(), worker.generation())
    }

    fn task_id(&self, index: u32) -> TaskId {
        TaskId::new(index, self.tasks.generation(index))
    }

    fn worker_id(&self, index: u32) -> WorkerId {
        WorkerId::new(index, self.workers.generation(index))
    }
}

/// Timer keys: tasks have the even ones, workers the odd ones.
const fn task_key(index: u32) -> u32 {
    index * 2
}

const fn worker_key(index: u32) -> u32 {
    index * 2 + 1
}
