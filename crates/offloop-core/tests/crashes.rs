//! What becomes of tasks whose workers die or never start: one sentence each.

mod sim;

use std::time::Duration;

use offloop_core::{
    Action, Close, Expiry, Instant, LaneConfig, LaneId, Outcome, Pool, PoolConfig,
    RestartIntensity, SubmitError, TaskId, TaskOptions, WorkerId, limits,
};
use sim::{COMPLETED, Call, Sim, ms, us};

const LOST_ONCE: Outcome = Outcome::Lost {
    may_have_started: true,
    attempts: 1,
    crash: (),
};

// Crashes.

#[test]
fn a_crash_fails_only_the_task_that_was_running() {
    let mut sim = Sim::taught(1);
    let crash = sim.submit(Call::Crash(ms(1)));
    let others: Vec<usize> = (0..9).map(|_| sim.submit(Call::Return(us(50)))).collect();
    sim.run_to_end();
    assert_eq!(sim.outcome(crash), Some(LOST_ONCE));
    for task in others {
        assert_eq!(sim.outcome(task), Some(COMPLETED));
        assert_eq!(sim.records[task].starts, 1);
    }
}

#[test]
fn a_task_with_retries_survives_the_deaths_of_its_workers() {
    let mut sim = Sim::with_workers(2);
    let options = TaskOptions {
        retries: 2,
        ..TaskOptions::default()
    };
    let task = sim.submit_with(Call::CrashTimes(2), options);
    sim.run_until_finished(task);
    assert_eq!(
        (sim.outcome(task), sim.records[task].starts),
        (Some(COMPLETED), 3)
    );
}

#[test]
fn a_task_that_kills_every_worker_is_lost_when_its_retries_are_used_up() {
    let mut sim = Sim::with_workers(2);
    let options = TaskOptions {
        retries: 2,
        ..TaskOptions::default()
    };
    let task = sim.submit_with(Call::Crash(ms(1)), options);
    sim.run_until_finished(task);
    let lost = Outcome::Lost {
        may_have_started: true,
        attempts: 3,
        crash: (),
    };
    assert_eq!((sim.outcome(task), sim.spawned), (Some(lost), 3));
}

#[test]
fn a_cancelled_call_whose_worker_dies_is_cancelled_and_not_retried() {
    let mut sim = Sim::with_workers(1);
    let options = TaskOptions {
        retries: 5,
        ..TaskOptions::default()
    };
    let task = sim.submit_with(Call::HangDeaf, options);
    sim.run_for(ms(20));
    sim.cancel(task);
    sim.run_to_end();
    assert_eq!(
        (sim.outcome(task), sim.records[task].starts),
        (Some(Outcome::Cancelled), 1)
    );
}

#[test]
fn workers_that_never_start_break_the_fleet_after_growing_delays() {
    let mut sim = Sim::with_workers(4);
    sim.chaos.start_fails = 100;
    let since = sim.now;
    let tasks: Vec<usize> = (0..8).map(|_| sim.submit(Call::Return(ms(1)))).collect();
    sim.run_until_finished(tasks[7]);
    assert!(
        tasks
            .iter()
            .all(|&task| sim.outcome(task) == Some(Outcome::Broken))
    );
    assert!(
        sim.finished_after(tasks[7], since) > ms(300),
        "the starts were spread out"
    );
    let lane = sim.lane();
    let refused = sim.try_submit(lane, Call::Hang, TaskOptions::default());
    assert_eq!(refused, Err(SubmitError::Broken { payload: 8 }));
    sim.run_to_end();
    sim.check_the_end();
}

#[test]
fn a_worker_that_hangs_in_its_start_is_killed_and_replaced() {
    let config = PoolConfig {
        start_timeout: ms(200),
        ..PoolConfig::default()
    };
    let mut sim = Sim::new(7, config);
    sim.open_lane(LaneConfig::new(1));
    sim.chaos.start_hangs = 100;
    let task = sim.submit(Call::Return(ms(1)));
    sim.run_for(ms(190));
    assert_eq!((sim.killed, sim.outcome(task)), (0, None));
    sim.chaos.start_hangs = 0;
    sim.run_until_finished(task);
    assert_eq!((sim.killed, sim.spawned), (1, 2));
    assert_eq!(sim.outcome(task), Some(COMPLETED));
    assert_eq!(sim.pool.fleet_statistics().start_failures_total, 1);
}

#[test]
fn workers_that_all_hang_in_their_start_break_the_fleet_within_a_bound() {
    let config = PoolConfig {
        start_timeout: ms(200),
        ..PoolConfig::default()
    };
    let mut sim = Sim::new(7, config);
    sim.open_lane(LaneConfig::new(2));
    sim.chaos.start_hangs = 100;
    let since = sim.now;
    let tasks: Vec<usize> = (0..4).map(|_| sim.submit(Call::Return(ms(1)))).collect();
    sim.run_to_end();
    sim.check_the_end();
    for task in tasks {
        assert_eq!(sim.outcome(task), Some(Outcome::Broken));
        assert!(sim.finished_after(task, since) >= ms(200) * limits::START_FAILURES_MAX);
    }
    assert_eq!(sim.killed, sim.spawned);
}

#[test]
fn a_deadline_ends_a_task_whose_worker_hangs_in_its_start() {
    let mut sim = Sim::with_workers(1);
    sim.chaos.start_hangs = 100;
    let options = TaskOptions {
        deadline: Some(sim.now.saturating_add(ms(30))),
        ..TaskOptions::default()
    };
    let (since, task) = (sim.now, sim.submit_with(Call::Return(ms(1)), options));
    sim.run_until_finished(task);
    let expired = Outcome::Expired {
        which: Expiry::Deadline,
    };
    assert_eq!(sim.outcome(task), Some(expired));
    assert_eq!((sim.finished_after(task, since), sim.killed), (ms(30), 0));
}

#[test]
fn a_worker_that_is_ready_too_late_gets_no_task() {
    let mut pool: Pool<()> = Pool::new(PoolConfig {
        start_timeout: ms(10),
        ..PoolConfig::default()
    });
    let lane = pool.open_lane(LaneConfig::new(1));
    let now = Instant::from_nanos(1);
    let submitted = pool.submit(now, lane, TaskOptions::default(), ());
    assert!(submitted.is_ok());
    let Some(Action::Spawn { worker }) = pool.poll_action() else {
        panic!("no worker is started")
    };
    assert_eq!(pool.poll_timeout(), None, "the fork has a bound of its own");
    pool.handle_worker_forked(now, worker);
    let late = now.saturating_add(ms(10));
    assert_eq!(pool.poll_timeout(), Some(late));
    pool.handle_timeout(late);
    assert_eq!(pool.poll_action(), Some(Action::Kill { worker }));
    pool.handle_worker_ready(late, worker);
    assert_eq!((pool.poll_action(), pool.workers_alive()), (None, 0));
    pool.handle_worker_exit(late, worker, None, ());
    assert_eq!(pool.fleet_statistics().start_failures_total, 1);
}

#[test]
fn a_passing_failure_to_start_only_delays() {
    let mut sim = Sim::with_workers(4);
    sim.chaos.start_fails = 100;
    let task = sim.submit(Call::Return(ms(1)));
    sim.run_for(ms(100));
    sim.chaos.start_fails = 0;
    sim.run_until_finished(task);
    assert_eq!(sim.outcome(task), Some(COMPLETED));
}

#[test]
fn too_many_deaths_within_the_period_break_the_fleet() {
    let restart = RestartIntensity {
        restarts_max: 5,
        period: Duration::from_secs(10),
    };
    let mut sim = Sim::new(
        7,
        PoolConfig {
            restart,
            ..PoolConfig::default()
        },
    );
    sim.open_lane(LaneConfig::new(1));
    let tasks: Vec<usize> = (0..8).map(|_| sim.submit(Call::Crash(ms(1)))).collect();
    sim.run_to_end();
    let ended = |outcome| {
        tasks
            .iter()
            .filter(|&&task| sim.outcome(task) == Some(outcome))
            .count()
    };
    assert_eq!((ended(LOST_ONCE), ended(Outcome::Broken)), (6, 2));
    assert!(sim.pool.is_broken());
}

#[test]
fn workers_killed_for_their_tasks_do_not_count_as_crashes() {
    let restart = RestartIntensity {
        restarts_max: 0,
        period: Duration::from_secs(10),
    };
    let mut sim = Sim::new(
        7,
        PoolConfig {
            restart,
            ..PoolConfig::default()
        },
    );
    sim.open_lane(LaneConfig::new(1));
    for _ in 0..5 {
        let options = TaskOptions {
            run_timeout: Some(ms(1)),
            ..TaskOptions::default()
        };
        let task = sim.submit_with(Call::HangDeaf, options);
        sim.run_until_finished(task);
    }
    assert_eq!((sim.killed, sim.pool.is_broken()), (5, false));
}

#[test]
fn workers_that_the_driver_asked_to_exit_did_not_crash_whatever_they_were_doing() {
    let restart = RestartIntensity {
        restarts_max: 0,
        period: Duration::from_secs(10),
    };
    for asked in [true, false] {
        let mut pool: Pool<()> = Pool::new(PoolConfig {
            restart,
            ..PoolConfig::default()
        });
        let lane = pool.open_lane(LaneConfig::new(2));
        let now = Instant::from_nanos(1);
        let mut submit = || {
            let task = pool.submit(now, lane, TaskOptions::default(), ());
            task.expect("the lane is open");
        };
        submit();
        submit();
        let mut workers = Vec::new();
        while let Some(action) = pool.poll_action() {
            let Action::Spawn { worker } = action else {
                panic!("{action:?}")
            };
            workers.push(worker);
        }
        let mut held = Vec::new();
        for worker in &workers {
            pool.handle_worker_ready(now, *worker);
            let Some(Action::Assign { task, .. }) = pool.poll_action() else {
                panic!("no task for {worker:?}")
            };
            held.push(task);
        }
        pool.handle_completion(now, workers[0], held[0], us(9), ());
        while pool.poll_action().is_some() {}
        let statistics = pool.fleet_statistics();
        assert_eq!((statistics.alive, statistics.idle), (2, 1));
        for worker in &workers {
            if asked {
                pool.expect_exit(*worker);
            }
            pool.handle_worker_exit(now, *worker, None, ());
        }
        let crashed = pool.fleet_statistics().crashed_total;
        let expected = if asked { 0 } else { 2 };
        assert_eq!((crashed, pool.is_broken()), (expected, !asked));
        // Nothing happens for a worker that is no more.
        pool.expect_exit(workers[0]);
    }
}

/// A pool whose workers run an initializer, with one task each for two workers that are starting.
fn initializing(lanes: usize) -> (Pool<()>, Vec<LaneId>, Vec<TaskId>, Vec<WorkerId>) {
    let mut pool = Pool::new(PoolConfig {
        initializes: true,
        ..PoolConfig::default()
    });
    let now = Instant::from_nanos(1);
    let lanes: Vec<LaneId> = (0..lanes)
        .map(|_| pool.open_lane(LaneConfig::new(2)))
        .collect();
    let submit = |_| pool.submit(now, lanes[0], TaskOptions::default(), ());
    let tasks = (0..2)
        .map(submit)
        .map(|task| task.expect("the lane is open"))
        .collect();
    let mut workers = Vec::new();
    while let Some(action) = pool.poll_action() {
        let Action::Spawn { worker } = action else {
            panic!("{action:?}")
        };
        workers.push(worker);
    }
    assert_eq!(workers.len(), 2);
    (pool, lanes, tasks, workers)
}

#[test]
fn a_start_that_is_not_needed_is_ended_when_the_last_lane_is_over() {
    let (mut pool, lanes, tasks, workers) = initializing(1);
    let now = Instant::from_nanos(2);
    pool.close_lane(now, lanes[0], Close::Drain);
    assert!(pool.poll_action().is_none());
    for task in tasks {
        assert!(pool.cancel(now, task));
    }
    let mut abandoned = Vec::new();
    while let Some(action) = pool.poll_action() {
        if let Action::Abandon { worker } = action {
            abandoned.push(worker);
        }
    }
    assert_eq!(abandoned, workers);
    assert!(pool.is_ending_starts());
    pool.handle_worker_ready(now, workers[0]);
    pool.handle_worker_exit(now, workers[0], None, ());
    pool.handle_spawn_failed(now, workers[1]);
    assert!(!pool.is_ending_starts());
    let statistics = pool.fleet_statistics();
    assert_eq!(statistics.start_failures_total, 0);
    assert_eq!((statistics.starting, pool.workers_alive()), (0, 0));
    assert!(pool.poll_action().is_none() && pool.poll_timeout().is_none());
}

#[test]
fn starts_go_on_while_another_lane_is_open() {
    let (mut pool, lanes, _, workers) = initializing(2);
    let now = Instant::from_nanos(2);
    pool.close_lane(now, lanes[0], Close::Stop);
    while let Some(action) = pool.poll_action() {
        assert!(matches!(action, Action::Finish { .. }), "{action:?}");
    }
    pool.close_lane(now, lanes[1], Close::Drain);
    let abandoned = std::iter::from_fn(|| pool.poll_action()).collect::<Vec<_>>();
    let all = workers.into_iter().map(|worker| Action::Abandon { worker });
    assert_eq!(abandoned, all.collect::<Vec<_>>());
    // A lane that comes now starts workers of its own.
    let lane = pool.open_lane(LaneConfig::new(1));
    pool.submit(now, lane, TaskOptions::default(), ())
        .expect("the lane is open");
    assert!(matches!(pool.poll_action(), Some(Action::Spawn { .. })));
}

#[test]
fn nothing_is_assigned_to_a_worker_whose_exit_was_told_first() {
    let mut pool: Pool<()> = Pool::new(PoolConfig::default());
    let lane = pool.open_lane(LaneConfig::new(1));
    let now = Instant::from_nanos(1);
    let task = pool
        .submit(now, lane, TaskOptions::default(), ())
        .expect("the lane is open");
    let Some(Action::Spawn { worker }) = pool.poll_action() else {
        panic!("no worker is started")
    };
    pool.handle_worker_ready(now, worker);
    pool.handle_worker_exit(now, worker, None, ());
    let Some(Action::Spawn { worker: next }) = pool.poll_action() else {
        panic!("the assignment to the dead worker was not withdrawn")
    };
    pool.handle_worker_ready(now, next);
    assert_eq!(
        pool.poll_action(),
        Some(Action::Assign { worker: next, task })
    );
}

#[test]
fn starts_that_fail_together_count_once() {
    let mut sim = Sim::with_workers(8);
    sim.chaos.start_fails = 100;
    let tasks: Vec<usize> = (0..8).map(|_| sim.submit(Call::Return(ms(1)))).collect();
    sim.run_for(ms(10));
    assert!(
        !sim.pool.is_broken(),
        "eight starts failed, but at one time"
    );
    sim.chaos.start_fails = 0;
    sim.run_to_end();
    assert!(
        tasks
            .iter()
            .all(|&task| sim.outcome(task) == Some(COMPLETED))
    );
}

/// Lets the workers that `pool` asks for be ready at once, and their calls start; the last of them.
fn carry_out(
    pool: &mut Pool<&'static str, u32, &'static str>,
    ended: &mut Vec<(&'static str, Outcome<u32, &'static str>)>,
) -> Option<WorkerId> {
    let now = Instant::from_nanos(1);
    let mut last = None;
    while let Some(action) = pool.poll_action() {
        match action {
            Action::Spawn { worker } => {
                pool.handle_worker_ready(now, worker);
                last = Some(worker);
            }
            Action::Revoke { task, .. } => pool.handle_revoked(now, task, false),
            Action::Finish {
                outcome, payload, ..
            } => ended.push((payload, outcome)),
            _ => {}
        }
    }
    last
}

#[test]
fn what_is_told_of_a_completion_or_a_crash_comes_back_with_its_outcome() {
    let now = Instant::from_nanos(1);
    let mut pool = Pool::new(PoolConfig::default());
    let lane = pool.open_lane(LaneConfig::new(1));
    let mut ended = Vec::new();
    let mut submit = |name, retries| {
        let options = TaskOptions {
            retries,
            ..TaskOptions::default()
        };
        let task = pool.submit(now, lane, options, name);
        task.expect("the lane is open")
    };
    let returns = submit("returns", 0);
    let (stopped, retried) = (submit("stopped", 0), submit("retried", 1));
    let worker = carry_out(&mut pool, &mut ended).expect("a worker is started");
    pool.handle_completion(now, worker, returns, ms(1), 42);
    carry_out(&mut pool, &mut ended);
    // Its value comes too late: the call counts as cancelled.
    assert!(pool.cancel(now, stopped));
    carry_out(&mut pool, &mut ended);
    pool.handle_completion(now, worker, stopped, ms(1), 43);
    carry_out(&mut pool, &mut ended);
    pool.handle_worker_exit(now, worker, Some(retried), "the first crash");
    let worker = carry_out(&mut pool, &mut ended).expect("another worker is started");
    pool.handle_worker_exit(now, worker, Some(retried), "the last crash");
    carry_out(&mut pool, &mut ended);
    let lost = Outcome::Lost {
        may_have_started: true,
        attempts: 2,
        crash: "the last crash",
    };
    let expected = [
        ("returns", Outcome::Completed { value: 42 }),
        ("stopped", Outcome::Cancelled),
        ("retried", lost),
    ];
    assert_eq!(ended, expected);
}
