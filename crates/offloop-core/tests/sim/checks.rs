//! What must hold in every history, and at its end.

use offloop_core::{Expiry, LaneConfig, LaneId, Outcome, TaskId};

use super::Sim;

impl Sim {
    /// Takes note of the end of a task; it must be the first, the right one, and really the end.
    pub(super) fn finished(&mut self, task: TaskId, lane: LaneId, outcome: Outcome, serial: usize) {
        let (seed, now) = (self.seed, self.now);
        assert!(
            !self.is_running(serial),
            "seed {seed}: {serial} finished while it runs"
        );
        let Some(record) = self.records.get_mut(serial) else {
            panic!("seed {seed}: {serial} finished but was never submitted");
        };
        assert_eq!(record.outcome, None, "seed {seed}: {serial} finished twice");
        assert!(
            record.task.is_none_or(|known| known == task),
            "seed {seed}: wrong task"
        );
        assert_eq!(record.lane, lane, "seed {seed}: wrong lane");
        match outcome {
            Outcome::Completed { .. } => {
                assert!(record.ran_through, "seed {seed}: {serial} did not run")
            }
            Outcome::Cancelled | Outcome::Broken | Outcome::Dropped => {}
            Outcome::Expired {
                which: Expiry::Deadline,
            } => {
                assert!(
                    record.options.deadline.is_some_and(|at| at <= now),
                    "seed {seed}: early"
                );
            }
            Outcome::Expired {
                which: Expiry::RunTimeout,
            } => {
                let over = record
                    .options
                    .run_timeout
                    .map(|limit| record.started_at.saturating_add(limit));
                assert!(
                    over.is_some_and(|at| at <= now),
                    "seed {seed}: {serial} expired early"
                );
            }
            Outcome::Lost {
                may_have_started,
                attempts,
                crash: (),
            } => {
                assert!(
                    may_have_started && record.died > 0,
                    "seed {seed}: {serial} lost for nothing"
                );
                assert_eq!(attempts, record.starts, "seed {seed}: {serial} attempts");
            }
        }
        record.outcome = Some(outcome);
        record.finished_at = now;
    }

    /// What holds after every event, once the actions are executed.
    pub(super) fn check(&self) {
        let seed = self.seed;
        for &(lane, config) in &self.lanes {
            let statistics = self.pool.statistics(lane);
            assert!(
                statistics.workers <= config.workers_max,
                "seed {seed}: too many workers"
            );
            let tasks = statistics.queued + statistics.prefetched + statistics.running;
            if let Some(limit) = config.queue_tasks_max {
                assert!(
                    tasks <= limit + config.workers_max,
                    "seed {seed}: queue over its limit"
                );
            }
            if let Some(limit) = config.queue_bytes_max {
                assert!(
                    statistics.bytes <= limit,
                    "seed {seed}: bytes over their limit"
                );
            }
            let over = statistics.completed
                + statistics.cancelled
                + statistics.expired
                + statistics.lost
                + statistics.dropped
                + statistics.broken;
            let open = statistics.submitted - over;
            assert_eq!(
                u64::from(tasks),
                open,
                "seed {seed}: tasks are not accounted for"
            );
            let drained = self.pool.lane_is_drained(lane);
            assert_eq!(drained, tasks == 0, "seed {seed}: drained");
            self.check_progress(lane, config);
        }
    }

    /// A lane that has queued tasks and may be lent a worker finds no idle one, and one is coming.
    fn check_progress(&self, lane: LaneId, config: LaneConfig) {
        let (statistics, fleet) = (self.pool.statistics(lane), self.pool.fleet_statistics());
        if statistics.queued == 0 || statistics.workers == config.workers_max {
            return;
        }
        let seed = self.seed;
        assert_eq!(
            fleet.idle, 0,
            "seed {seed}: idle workers beside queued tasks"
        );
        let coming = fleet.starting > 0 || self.pool.poll_timeout().is_some();
        assert!(coming, "seed {seed}: no worker comes for queued tasks");
    }

    /// Closes the books: every submitted task has finished, no worker is left, nothing is pending.
    pub fn check_the_end(&self) {
        let seed = self.seed;
        for (serial, record) in self.records.iter().enumerate() {
            assert!(
                record.outcome.is_some(),
                "seed {seed}: {serial} never finished: {record:?}"
            );
        }
        assert_eq!(
            self.pool.poll_timeout(),
            None,
            "seed {seed}: a timer is left"
        );
        assert_eq!(
            self.pool.workers_alive(),
            0,
            "seed {seed}: a worker is left"
        );
        assert!(
            self.workers.is_empty(),
            "seed {seed}: the pool forgot a worker"
        );
        assert_eq!(
            self.pool.queued(),
            0,
            "seed {seed}: a task is left in a queue"
        );
    }
}
