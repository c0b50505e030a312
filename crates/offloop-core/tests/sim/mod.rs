//! A driver and fake workers in virtual time, for the tests of the pool.
//!
//! The simulator does what the real driver does: it executes every action at once, answers
//! revocations from the worker's ring, delivers completions some time after they happened and
//! always before the exit of the same worker. Its workers start tasks a little after they were
//! pushed, and complete, hang, crash, refuse and die as their seed says.
//!
//! After every event it checks what must always hold; see `checks`. It panics with its seed.

#![allow(
    dead_code,
    reason = "each test file uses its own part of the simulator"
)]

mod checks;
mod machine;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use offloop_core::{
    Close, Instant, LaneConfig, LaneId, Outcome, Pool, PoolConfig, SubmitError, TaskId,
    TaskOptions, WorkerId,
};

use machine::FakeWorker;

/// How a task ends that its worker ran to the end.
pub const COMPLETED: Outcome = Outcome::Completed { value: () };

pub const fn us(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

pub const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// What a call does once it is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// Returns after a while.
    Return(Duration),
    /// Runs until it is interrupted.
    Hang,
    /// Runs until its worker is killed.
    HangDeaf,
    /// Takes its worker down after a while.
    Crash(Duration),
    /// Takes its worker down in its first so many attempts, then returns.
    CrashTimes(u32),
}

/// How badly the machine behaves, in percent unless said otherwise.
#[derive(Debug, Clone, Copy)]
pub struct Chaos {
    pub start_fails: u64,
    pub start_hangs: u64,
    pub ring_refuses: u64,
    pub dies_on_wake: u64,
    pub ignores_retire: u64,
    /// Slots of a ring.
    pub ring_slots: usize,
    /// Upper bound of delays of wake-ups, completions and exit reports.
    pub delay: Duration,
}

impl Chaos {
    pub const CALM: Self = Self {
        start_fails: 0,
        start_hangs: 0,
        ring_refuses: 0,
        dies_on_wake: 0,
        ignores_retire: 0,
        ring_slots: 1024,
        delay: us(40),
    };
}

/// What is known of one submission.
#[derive(Debug)]
pub struct Record {
    pub task: Option<TaskId>,
    pub lane: LaneId,
    pub call: Call,
    pub options: TaskOptions,
    pub starts: u32,
    pub started_at: Instant,
    pub started_by: Option<WorkerId>,
    /// Its worker ran it to the end.
    pub ran_through: bool,
    /// Its worker died while it ran.
    pub died: u32,
    pub asked_to_cancel: bool,
    pub outcome: Option<Outcome>,
    pub finished_at: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Forked(WorkerId),
    Ready(WorkerId),
    StartFails(WorkerId),
    Wake(WorkerId),
    RunEnds(WorkerId, u64),
    Crashes(WorkerId, u64),
    Deliver(WorkerId),
    ExitSeen(WorkerId),
}

pub struct Random(u64);

impl Random {
    pub fn seeded(seed: u64) -> Self {
        Self(seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound.max(1)
    }

    pub fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }
}

pub struct Sim {
    pub pool: Pool<usize>,
    pub now: Instant,
    pub chaos: Chaos,
    pub records: Vec<Record>,
    pub spawned: u32,
    pub killed: u32,
    pub retired: u32,
    seed: u64,
    random: Random,
    lanes: Vec<(LaneId, LaneConfig)>,
    workers: BTreeMap<WorkerId, FakeWorker>,
    events: BinaryHeap<Reverse<(Instant, u64, Event)>>,
    sequence: u64,
}

impl Sim {
    pub fn new(seed: u64, config: PoolConfig) -> Self {
        Self {
            pool: Pool::new(config),
            now: Instant::from_nanos(1_000_000_000),
            chaos: Chaos::CALM,
            records: Vec::new(),
            spawned: 0,
            killed: 0,
            retired: 0,
            seed,
            random: Random::seeded(seed),
            lanes: Vec::new(),
            workers: BTreeMap::new(),
            events: BinaryHeap::new(),
            sequence: 0,
        }
    }

    /// A fleet with default settings and one lane of so many workers.
    pub fn with_workers(workers_max: u32) -> Self {
        let mut sim = Self::new(7, PoolConfig::default());
        sim.open_lane(LaneConfig::new(workers_max));
        sim
    }

    /// Workers that have learnt that calls are short, so that they are given tasks in advance.
    pub fn taught(workers_max: u32) -> Self {
        let mut sim = Self::with_workers(workers_max);
        for _ in 0..20 * workers_max {
            sim.submit(Call::Return(us(20)));
        }
        sim.run_for(ms(50));
        assert_eq!(sim.pool.workers_alive(), workers_max);
        sim
    }

    pub fn open_lane(&mut self, config: LaneConfig) -> LaneId {
        let lane = self.pool.open_lane(config);
        self.lanes.push((lane, config));
        lane
    }

    pub fn lane(&self) -> LaneId {
        self.lanes[0].0
    }

    /// Submits to the first lane, without options.
    pub fn submit(&mut self, call: Call) -> usize {
        self.submit_with(call, TaskOptions::default())
    }

    pub fn submit_with(&mut self, call: Call, options: TaskOptions) -> usize {
        let lane = self.lane();
        self.try_submit(lane, call, options)
            .expect("the lane takes the task")
    }

    pub fn try_submit(
        &mut self,
        lane: LaneId,
        call: Call,
        options: TaskOptions,
    ) -> Result<usize, SubmitError<usize>> {
        let serial = self.records.len();
        self.records.push(Record {
            task: None,
            lane,
            call,
            options,
            starts: 0,
            started_at: Instant::ZERO,
            started_by: None,
            ran_through: false,
            died: 0,
            asked_to_cancel: false,
            outcome: None,
            finished_at: Instant::ZERO,
        });
        match self.pool.submit(self.now, lane, options, serial) {
            Ok(task) => self.records[serial].task = Some(task),
            Err(error) => {
                let outcome = self.records.pop().expect("just pushed").outcome;
                assert_eq!(outcome, None, "seed {}: a refused task finished", self.seed);
                self.drive();
                return Err(error);
            }
        }
        self.drive();
        Ok(serial)
    }

    pub fn cancel(&mut self, serial: usize) -> bool {
        let task = self.records[serial].task.expect("the task was admitted");
        self.records[serial].asked_to_cancel = true;
        let known = self.pool.cancel(self.now, task);
        self.drive();
        known
    }

    pub fn close(&mut self, lane: LaneId, how: Close) {
        self.pool.close_lane(self.now, lane, how);
        self.drive();
    }

    pub fn stop_streams(&mut self, lane: LaneId) {
        for record in &mut self.records {
            record.asked_to_cancel |= record.lane == lane && record.options.streams;
        }
        self.pool.stop_streams(self.now, lane);
        self.drive();
    }

    /// The worker of a stream has delivered an item of it.
    pub fn deliver_item(&mut self, serial: usize) {
        let task = self.records[serial].task.expect("the task was admitted");
        self.pool.handle_item(task);
        self.drive();
    }

    pub fn break_lane(&mut self, lane: LaneId) {
        self.pool.break_lane(self.now, lane);
        self.drive();
    }

    pub fn retire_idle(&mut self) {
        self.pool.retire_idle(self.now);
        self.drive();
    }

    pub fn outcome(&self, serial: usize) -> Option<Outcome> {
        self.records[serial].outcome
    }

    pub fn is_running(&self, serial: usize) -> bool {
        self.running_on(serial).is_some()
    }

    pub fn running_on(&self, serial: usize) -> Option<WorkerId> {
        let runs = self.workers.iter().filter(|(_, worker)| !worker.dead);
        let mut found =
            runs.filter(|(_, worker)| worker.running.is_some_and(|run| run.serial == serial));
        found.next().map(|(&id, _)| id)
    }

    /// A worker dies by a hand from outside.
    pub fn die(&mut self, worker: WorkerId) {
        self.worker_dies(worker);
        self.drive();
    }

    pub fn living_workers(&self) -> Vec<WorkerId> {
        let living = self
            .workers
            .iter()
            .filter(|(_, worker)| worker.ready && !worker.dead);
        living.map(|(&id, _)| id).collect()
    }

    /// How long after its submission time, the time of the whole simulation, a task finished.
    pub fn finished_after(&self, serial: usize, since: Instant) -> Duration {
        self.records[serial]
            .finished_at
            .saturating_duration_since(since)
    }

    pub fn run_for(&mut self, duration: Duration) {
        let end = self.now.saturating_add(duration);
        while self.step(end) {}
        self.now = end;
    }

    /// Runs until nothing can happen any more. Idle workers are retired on the way.
    pub fn run_to_end(&mut self) {
        while self.step(Instant::MAX) {}
    }

    /// Runs until the submission is finished; it must happen at last.
    pub fn run_until_finished(&mut self, serial: usize) {
        while self.outcome(serial).is_none() {
            assert!(
                self.step(Instant::MAX),
                "seed {}: {serial} never finishes",
                self.seed
            );
        }
    }

    /// One event or timeout, unless the next one is later than `end`.
    fn step(&mut self, end: Instant) -> bool {
        self.sequence += 1;
        assert!(
            self.sequence < 10_000_000,
            "seed {}: no end in sight",
            self.seed
        );
        let event_at = self.events.peek().map(|Reverse((at, _, _))| *at);
        let timeout_at = self.pool.poll_timeout();
        let Some(next_at) = [event_at, timeout_at].into_iter().flatten().min() else {
            return false;
        };
        if next_at > end {
            return false;
        }
        self.now = self.now.max(next_at);
        if event_at == Some(next_at) {
            let Reverse((_, _, event)) = self.events.pop().expect("just seen");
            self.handle(event);
        } else {
            self.pool.handle_timeout(self.now);
            let again = self.pool.poll_timeout();
            assert!(
                again.is_none_or(|at| at > self.now),
                "seed {}: busy timer",
                self.seed
            );
        }
        self.drive();
        true
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Forked(id) => self.pool.handle_worker_forked(self.now, id),
            Event::Ready(id) => {
                if let Some(worker) = self.workers.get_mut(&id) {
                    worker.ready = true;
                    self.pool.handle_worker_ready(self.now, id);
                }
            }
            Event::StartFails(id) => {
                if self.workers.get(&id).is_none_or(|worker| worker.dead) {
                    return;
                }
                self.workers.remove(&id);
                if self.random.percent(50) {
                    self.pool.handle_spawn_failed(self.now, id);
                } else {
                    self.pool.handle_worker_exit(self.now, id, None, ());
                }
            }
            Event::Wake(id) => self.wake(id),
            Event::RunEnds(id, number) => self.run_ends(id, number),
            Event::Crashes(id, number) => {
                let running = self.workers.get(&id).and_then(|worker| worker.running);
                if running.is_some_and(|run| run.number == number) {
                    self.worker_dies(id);
                }
            }
            Event::Deliver(id) => self.deliver(id),
            Event::ExitSeen(id) => {
                self.deliver(id);
                let worker = self.workers.remove(&id).expect("exits once");
                let started = worker.running.map(|run| run.task);
                self.pool.handle_worker_exit(self.now, id, started, ());
            }
        }
    }

    fn after(&mut self, delay: Duration, event: Event) {
        self.sequence += 1;
        let at = self.now.saturating_add(delay);
        self.events.push(Reverse((at, self.sequence, event)));
    }

    /// Executes all actions, as the driver does after every call.
    fn drive(&mut self) {
        while let Some(action) = self.pool.poll_action() {
            self.execute(action);
        }
        self.check();
    }
}
