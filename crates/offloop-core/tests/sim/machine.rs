//! The machine that the simulator plays: workers with rings, and what the driver does with them.
//!
//! A fake worker starts tasks a little after they were pushed, completes them in order, and dies
//! with its ring and its completions, as a process would.

use std::collections::VecDeque;
use std::time::Duration;

use offloop_core::{Action, Instant, TaskId, WorkerId};

use super::{Call, Event, Sim, ms};

pub(super) struct FakeWorker {
    pub(super) ready: bool,
    pub(super) dead: bool,
    /// Tasks in order; true once revoked.
    pub(super) ring: VecDeque<(TaskId, bool)>,
    pub(super) running: Option<Run>,
    pub(super) completed: VecDeque<(TaskId, Duration)>,
}

#[derive(Clone, Copy)]
pub(super) struct Run {
    pub(super) task: TaskId,
    pub(super) serial: usize,
    pub(super) number: u64,
    pub(super) started_at: Instant,
}

impl Sim {
    pub(super) fn execute(&mut self, action: Action<usize>) {
        match action {
            Action::Spawn { worker } => self.spawn(worker),
            Action::Assign { worker, task } => self.push(worker, task),
            Action::Revoke { worker, task } => {
                let revoked = self.revoke(worker, task);
                self.pool.handle_revoked(self.now, task, revoked);
            }
            Action::ReadStart { worker, task } => {
                let running = self.workers.get(&worker).and_then(|worker| worker.running);
                if let Some(run) = running.filter(|run| run.task == task) {
                    self.pool.handle_started(self.now, task, run.started_at);
                }
            }
            Action::Interrupt { worker, task } => self.interrupt(worker, task),
            Action::Kill { worker } => {
                self.killed += 1;
                assert!(
                    self.workers.contains_key(&worker),
                    "seed {}: kills an unknown worker",
                    self.seed
                );
                self.worker_dies(worker);
            }
            Action::Abandon { worker } => {
                // A worker that was late may have become ready since.
                assert!(
                    self.workers.contains_key(&worker),
                    "seed {}: abandons an unknown worker",
                    self.seed
                );
                self.worker_dies(worker);
            }
            Action::Retire { worker } => {
                self.retired += 1;
                let fake = &self.workers[&worker];
                let busy = fake.running.is_some() || fake.ring.iter().any(|&(_, revoked)| !revoked);
                assert!(!busy, "seed {}: retires a busy worker", self.seed);
                if !self.random.percent(self.chaos.ignores_retire) {
                    self.worker_dies(worker);
                }
            }
            Action::Finish {
                task,
                lane,
                outcome,
                payload,
            } => {
                self.finished(task, lane, outcome, payload);
            }
        }
    }

    fn spawn(&mut self, id: WorkerId) {
        self.spawned += 1;
        let fake = FakeWorker {
            ready: false,
            dead: false,
            ring: VecDeque::new(),
            running: None,
            completed: VecDeque::new(),
        };
        assert!(
            self.workers.insert(id, fake).is_none(),
            "seed {}: {id:?} reused",
            self.seed
        );
        let forked_after = self.some_delay();
        self.after(forked_after, Event::Forked(id));
        let delay = forked_after + ms(5) + self.some_delay();
        if self.random.percent(self.chaos.start_fails) {
            self.after(delay, Event::StartFails(id));
        } else if !self.random.percent(self.chaos.start_hangs) {
            self.after(delay, Event::Ready(id));
        }
    }

    fn push(&mut self, id: WorkerId, task: TaskId) {
        let refused = self.random.percent(self.chaos.ring_refuses);
        let worker = self
            .workers
            .get_mut(&id)
            .expect("assigns to a known worker");
        assert!(worker.ready, "seed {}: assigns before ready", self.seed);
        if refused || worker.ring.len() >= self.chaos.ring_slots {
            return self.pool.handle_assign_refused(task);
        }
        worker.ring.push_back((task, false));
        let delay = self.some_delay();
        self.after(delay, Event::Wake(id));
    }

    fn revoke(&mut self, id: WorkerId, task: TaskId) -> bool {
        let worker = self
            .workers
            .get_mut(&id)
            .expect("revokes from a known worker");
        let mut slots = worker.ring.iter_mut();
        slots
            .find(|slot| slot.0 == task && !slot.1)
            .is_some_and(|slot| {
                slot.1 = true;
                true
            })
    }

    fn interrupt(&mut self, id: WorkerId, task: TaskId) {
        let worker = &self.workers[&id];
        let Some(run) = worker
            .running
            .filter(|run| run.task == task && !worker.dead)
        else {
            return;
        };
        if self.records[run.serial].call != Call::HangDeaf {
            let delay = self.some_delay();
            self.after(delay, Event::RunEnds(id, run.number));
        }
    }

    pub(super) fn wake(&mut self, id: WorkerId) {
        let dies = self.random.percent(self.chaos.dies_on_wake);
        let Some(worker) = self.workers.get(&id).filter(|worker| !worker.dead) else {
            return;
        };
        if dies {
            return self.worker_dies(id);
        }
        if worker.running.is_none() {
            self.start_next(id);
        }
    }

    fn start_next(&mut self, id: WorkerId) {
        let worker = self
            .workers
            .get_mut(&id)
            .expect("only living workers start tasks");
        let task = loop {
            match worker.ring.pop_front() {
                None => return,
                Some((_, true)) => {}
                Some((task, false)) => break task,
            }
        };
        self.sequence += 1;
        let (number, now, seed) = (self.sequence, self.now, self.seed);
        let serial = *self
            .pool
            .payload(task)
            .expect("a started task is unfinished");
        worker.running = Some(Run {
            task,
            serial,
            number,
            started_at: now,
        });
        let record = &mut self.records[serial];
        record.starts += 1;
        record.started_at = now;
        record.started_by = Some(id);
        let starts_max = 1 + record.options.retries;
        assert!(
            record.starts <= starts_max,
            "seed {seed}: {serial} started {} times",
            record.starts
        );
        assert_eq!(
            record.starts,
            record.died + 1,
            "seed {seed}: {serial} runs twice"
        );
        assert_eq!(
            record.outcome, None,
            "seed {seed}: {serial} started after its end"
        );
        match record.call {
            Call::Return(run) => self.after(run, Event::RunEnds(id, number)),
            Call::CrashTimes(times) if record.starts > times => {
                self.after(ms(1), Event::RunEnds(id, number));
            }
            Call::Crash(run) => self.after(run, Event::Crashes(id, number)),
            Call::CrashTimes(_) => self.after(ms(1), Event::Crashes(id, number)),
            Call::Hang | Call::HangDeaf => {}
        }
    }

    pub(super) fn run_ends(&mut self, id: WorkerId, number: u64) {
        let now = self.now;
        let Some(worker) = self.workers.get_mut(&id).filter(|worker| !worker.dead) else {
            return;
        };
        let Some(run) = worker.running.filter(|run| run.number == number) else {
            return;
        };
        worker.running = None;
        worker
            .completed
            .push_back((run.task, now.saturating_duration_since(run.started_at)));
        self.records[run.serial].ran_through = true;
        let delay = self.some_delay();
        self.after(delay, Event::Deliver(id));
        self.start_next(id);
    }

    pub(super) fn deliver(&mut self, id: WorkerId) {
        while let Some(worker) = self.workers.get_mut(&id) {
            let Some((task, run)) = worker.completed.pop_front() else {
                break;
            };
            self.pool.handle_completion(self.now, id, task, run, ());
            self.drive();
        }
    }

    pub(super) fn worker_dies(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id).filter(|worker| !worker.dead) else {
            return;
        };
        worker.dead = true;
        if let Some(run) = worker.running {
            self.records[run.serial].died += 1;
        }
        let delay = self.some_delay();
        self.after(delay, Event::ExitSeen(id));
    }

    fn some_delay(&mut self) -> Duration {
        let most = self.chaos.delay.as_nanos() as u64;
        Duration::from_nanos(self.random.below(most))
    }
}
