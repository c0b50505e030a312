//! Which worker gets a task, and when: one sentence each, in virtual time.

mod sim;

use std::time::Duration;

use offloop_core::{LaneConfig, Outcome, PoolConfig, TaskOptions, limits};
use sim::{COMPLETED, Call, Sim, ms, us};

const LOST_ONCE: Outcome = Outcome::Lost {
    may_have_started: true,
    attempts: 1,
    crash: (),
};

// Starting and lending workers.

#[test]
fn no_worker_is_started_before_there_is_work() {
    let sim = Sim::with_workers(4);
    assert_eq!(sim.spawned, 0);
    assert_eq!(sim.pool.poll_timeout(), None);
}

#[test]
fn workers_are_started_as_tasks_come_and_not_more_than_the_lane_may_use() {
    let mut sim = Sim::with_workers(3);
    for started in [1, 2, 3, 3, 3] {
        sim.submit(Call::Return(ms(10)));
        assert_eq!(sim.spawned, started);
    }
    sim.run_to_end();
    sim.check_the_end();
}

#[test]
fn an_idle_worker_is_used_before_another_is_started() {
    let mut sim = Sim::with_workers(4);
    for _ in 0..10 {
        let task = sim.submit(Call::Return(ms(1)));
        sim.run_until_finished(task);
    }
    assert_eq!(sim.spawned, 1);
}

#[test]
fn an_idle_worker_of_one_lane_serves_another() {
    let mut sim = Sim::with_workers(1);
    let other = sim.open_lane(LaneConfig::new(1));
    let first = sim.submit(Call::Return(ms(1)));
    sim.run_until_finished(first);
    let lent = sim.try_submit(other, Call::Return(ms(1)), TaskOptions::default());
    sim.run_until_finished(lent.expect("the lane is open"));
    assert_eq!(sim.spawned, 1);
}

#[test]
fn a_busy_lane_shares_its_workers_before_new_ones_have_started() {
    let mut sim = Sim::with_workers(2);
    let other = sim.open_lane(LaneConfig::new(2));
    for _ in 0..500 {
        sim.submit(Call::Return(us(500)));
    }
    sim.run_for(ms(50));
    assert!(sim.pool.statistics(sim.lane()).queued > 0);
    let late = sim.try_submit(other, Call::Return(us(100)), TaskOptions::default());
    let (late, since) = (late.expect("the lane is open"), sim.now);
    sim.run_until_finished(late);
    assert!(
        sim.finished_after(late, since) < ms(4),
        "a start takes 5 ms"
    );
}

#[test]
fn workers_without_work_are_retired_and_then_nothing_is_pending() {
    let mut sim = Sim::with_workers(2);
    let task = sim.submit(Call::Return(ms(1)));
    sim.run_until_finished(task);
    sim.run_for(limits::IDLE_TIMEOUT - ms(10));
    assert_eq!(sim.pool.workers_alive(), 1);
    sim.run_for(ms(20));
    assert_eq!(sim.pool.workers_alive(), 0);
    assert_eq!(sim.pool.poll_timeout(), None);
}

#[test]
fn a_worker_that_does_not_retire_is_killed() {
    let mut sim = Sim::with_workers(1);
    sim.chaos.ignores_retire = 100;
    let task = sim.submit(Call::Return(ms(1)));
    sim.run_until_finished(task);
    sim.run_to_end();
    assert_eq!((sim.retired, sim.killed), (1, 1));
    sim.check_the_end();
}

#[test]
fn a_worker_that_ran_its_share_of_tasks_is_replaced() {
    let config = PoolConfig {
        tasks_per_worker_max: Some(3),
        ..PoolConfig::default()
    };
    let mut sim = Sim::new(7, config);
    sim.open_lane(LaneConfig::new(1));
    let tasks: Vec<usize> = (0..9).map(|_| sim.submit(Call::Return(us(20)))).collect();
    sim.run_to_end();
    assert_eq!((sim.spawned, sim.retired), (3, 3));
    for task in tasks {
        assert_eq!(sim.outcome(task), Some(COMPLETED));
    }
}

// Tasks given in advance.

#[test]
fn tasks_of_one_worker_start_in_the_order_of_submission() {
    let mut sim = Sim::taught(1);
    let tasks: Vec<usize> = (0..600).map(|_| sim.submit(Call::Return(us(5)))).collect();
    sim.run_for(ms(200));
    let starts = tasks.iter().map(|&task| sim.records[task].started_at);
    assert!(starts.is_sorted());
}

#[test]
fn calls_of_unknown_length_are_not_given_in_advance() {
    let mut sim = Sim::with_workers(1);
    for _ in 0..5 {
        sim.submit(Call::Hang);
    }
    sim.run_for(ms(50));
    let statistics = sim.pool.statistics(sim.lane());
    assert_eq!(
        (statistics.running, statistics.prefetched, statistics.queued),
        (1, 0, 4)
    );
}

#[test]
fn short_calls_are_given_in_advance_and_the_bound_holds() {
    let mut sim = Sim::taught(1);
    let blocker = sim.submit(Call::Hang);
    for _ in 0..1_000 {
        sim.submit(Call::Return(us(1)));
    }
    let statistics = sim.pool.statistics(sim.lane());
    assert!(statistics.prefetched > 10 && statistics.prefetched < limits::PREFETCH_TASKS_MAX);
    assert_eq!(statistics.prefetched + statistics.queued, 1_000);
    sim.run_for(ms(1));
    sim.cancel(blocker);
    sim.run_to_end();
    sim.check_the_end();
}

#[test]
fn an_idle_worker_takes_over_what_waits_behind_a_slow_call() {
    let mut sim = Sim::taught(2);
    let slow = sim.submit(Call::Return(Duration::from_secs(10)));
    let since = sim.now;
    let quick: Vec<usize> = (0..100).map(|_| sim.submit(Call::Return(us(20)))).collect();
    sim.run_until_finished(slow);
    for task in quick {
        assert!(
            sim.finished_after(task, since) < ms(50),
            "{task} waited for the slow call"
        );
    }
}

#[test]
fn what_waits_behind_a_slow_call_goes_on_when_the_other_worker_dies() {
    let mut sim = Sim::taught(2);
    let slow = sim.submit(Call::Return(Duration::from_secs(10)));
    let crash = sim.submit(Call::Crash(us(100)));
    let since = sim.now;
    let quick: Vec<usize> = (0..60).map(|_| sim.submit(Call::Return(us(20)))).collect();
    sim.run_until_finished(slow);
    assert_eq!(sim.outcome(crash), Some(LOST_ONCE));
    for task in quick {
        assert_eq!(sim.outcome(task), Some(COMPLETED));
        assert!(
            sim.finished_after(task, since) < ms(100),
            "{task} waited for the slow call"
        );
    }
}

#[test]
fn a_ring_without_room_loses_and_reorders_nothing() {
    let mut sim = Sim::taught(1);
    sim.chaos.ring_slots = 4;
    let tasks: Vec<usize> = (0..300).map(|_| sim.submit(Call::Return(us(5)))).collect();
    sim.run_for(ms(500));
    assert!(
        tasks
            .iter()
            .all(|&task| sim.outcome(task) == Some(COMPLETED))
    );
    assert!(
        tasks
            .iter()
            .map(|&task| sim.records[task].started_at)
            .is_sorted()
    );
}

#[test]
fn a_worker_that_refuses_with_an_empty_ring_is_tried_again_and_then_replaced() {
    let mut sim = Sim::with_workers(1);
    sim.chaos.ring_refuses = 100;
    let task = sim.submit(Call::Return(ms(1)));
    sim.run_for(Duration::from_secs(3));
    assert!(sim.killed >= 1, "a worker that takes nothing is not kept");
    sim.chaos.ring_refuses = 0;
    sim.run_until_finished(task);
    assert_eq!(sim.outcome(task), Some(COMPLETED));
}
