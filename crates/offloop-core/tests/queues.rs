//! What a lane admits, refuses and ends with: one sentence each, in virtual time.

mod sim;

use offloop_core::{Close, LaneConfig, Outcome, PoolConfig, QueuePolicy, SubmitError, TaskOptions};
use sim::{COMPLETED, Call, Sim, ms, us};

fn lane_with(workers_max: u32, queue_tasks_max: u32, policy: QueuePolicy) -> Sim {
    let mut sim = Sim::new(7, PoolConfig::default());
    sim.open_lane(LaneConfig {
        queue_tasks_max: Some(queue_tasks_max),
        policy,
        ..LaneConfig::new(workers_max)
    });
    sim
}

// Full queues.

#[test]
fn a_full_queue_refuses_and_takes_again_when_a_task_has_finished() {
    let mut sim = lane_with(2, 3, QueuePolicy::Refuse);
    let lane = sim.lane();
    for _ in 0..5 {
        sim.submit(Call::Return(ms(1)));
    }
    assert!(!sim.pool.has_room(lane));
    let refused = sim.try_submit(lane, Call::Hang, TaskOptions::default());
    let expected = SubmitError::Full {
        queued: 3,
        limit: 3,
        payload: 5,
    };
    assert_eq!(refused, Err(expected), "two can run, three wait");
    sim.run_until_finished(0);
    assert!(sim.pool.has_room(lane));
}

#[test]
fn a_queue_that_drops_ends_its_oldest_task_for_the_new_one() {
    let mut sim = lane_with(1, 2, QueuePolicy::DropOldest);
    let running = sim.submit(Call::Hang);
    sim.run_for(ms(20));
    let [oldest, middle, newest] = [0; 3].map(|_| sim.submit(Call::Return(ms(1))));
    assert_eq!(sim.outcome(oldest), Some(Outcome::Dropped));
    sim.cancel(running);
    sim.run_to_end();
    assert_eq!(sim.outcome(middle), Some(COMPLETED));
    assert_eq!(sim.outcome(newest), Some(COMPLETED));
}

#[test]
fn bytes_are_held_until_a_task_is_finished() {
    let mut sim = Sim::new(7, PoolConfig::default());
    let lane = sim.open_lane(LaneConfig {
        queue_bytes_max: Some(100),
        ..LaneConfig::new(1)
    });
    let of = |bytes| TaskOptions {
        bytes,
        ..TaskOptions::default()
    };
    let first = sim
        .try_submit(lane, Call::Return(ms(1)), of(70))
        .expect("70 of 100");
    let second = sim.try_submit(lane, Call::Hang, of(40));
    let expected = SubmitError::FullBytes {
        held: 70,
        bytes: 40,
        limit: 100,
        payload: 1,
    };
    assert_eq!(second, Err(expected));
    let third = sim.try_submit(lane, Call::Hang, of(101));
    assert_eq!(
        third,
        Err(SubmitError::TooLarge {
            bytes: 101,
            limit: 100,
            payload: 1
        })
    );
    sim.run_until_finished(first);
    sim.try_submit(lane, Call::Return(ms(1)), of(100))
        .expect("the first one is finished");
}

#[test]
fn nothing_is_dropped_for_a_task_that_does_not_fit_even_so() {
    let mut sim = Sim::new(7, PoolConfig::default());
    let lane = sim.open_lane(LaneConfig {
        queue_bytes_max: Some(100),
        policy: QueuePolicy::DropOldest,
        ..LaneConfig::new(1)
    });
    let of = |bytes| TaskOptions {
        bytes,
        ..TaskOptions::default()
    };
    let running = sim.try_submit(lane, Call::Hang, of(60)).expect("60 of 100");
    sim.run_for(ms(20));
    let waiting = sim
        .try_submit(lane, Call::Return(ms(1)), of(30))
        .expect("90 of 100");
    assert!(sim.try_submit(lane, Call::Hang, of(50)).is_err());
    assert_eq!(sim.outcome(waiting), None);
    sim.cancel(running);
}

// The end of a lane.

#[test]
fn a_draining_lane_runs_what_it_has_and_takes_nothing_more() {
    let mut sim = Sim::with_workers(1);
    let lane = sim.lane();
    let tasks: Vec<usize> = (0..5).map(|_| sim.submit(Call::Return(ms(1)))).collect();
    sim.close(lane, Close::Drain);
    let refused = sim.try_submit(lane, Call::Hang, TaskOptions::default());
    assert_eq!(refused, Err(SubmitError::Closed { payload: 5 }));
    assert!(!sim.pool.lane_is_drained(lane));
    sim.run_to_end();
    assert!(
        tasks
            .iter()
            .all(|&task| sim.outcome(task) == Some(COMPLETED))
    );
    assert!(sim.pool.lane_is_drained(lane));
}

#[test]
fn a_cancelling_lane_lets_the_running_call_go_on_and_ends_all_others() {
    let mut sim = Sim::taught(1);
    let lane = sim.lane();
    let running = sim.submit(Call::Return(ms(5)));
    let others: Vec<usize> = (0..500).map(|_| sim.submit(Call::Return(us(20)))).collect();
    sim.run_for(ms(1));
    sim.close(lane, Close::CancelQueued);
    assert!(
        others
            .iter()
            .all(|&task| sim.outcome(task) == Some(Outcome::Cancelled))
    );
    assert_eq!(sim.outcome(running), None);
    sim.run_until_finished(running);
    assert_eq!(sim.outcome(running), Some(COMPLETED));
}

#[test]
fn a_broken_lane_ends_its_tasks_and_leaves_other_lanes_alone() {
    let mut sim = Sim::with_workers(1);
    let (lane, other) = (sim.lane(), sim.open_lane(LaneConfig::new(1)));
    let running = sim.submit(Call::Hang);
    let queued = sim.submit(Call::Return(ms(1)));
    let task = sim.try_submit(other, Call::Return(ms(20)), TaskOptions::default());
    sim.run_for(ms(20));
    sim.break_lane(lane);
    assert_eq!(sim.outcome(queued), Some(Outcome::Broken));
    sim.run_to_end();
    assert_eq!(sim.outcome(running), Some(Outcome::Broken));
    assert_eq!(
        sim.outcome(task.expect("the lane is open")),
        Some(COMPLETED)
    );
    let refused = sim.try_submit(lane, Call::Hang, TaskOptions::default());
    assert_eq!(refused, Err(SubmitError::Broken { payload: 3 }));
}

#[test]
#[should_panic(expected = "only a closed, drained lane is forgotten")]
fn an_open_lane_is_not_forgotten() {
    let mut sim = Sim::with_workers(1);
    let lane = sim.lane();
    sim.pool.forget_lane(lane);
}

#[test]
fn late_news_of_what_is_no_more_has_no_effect() {
    let mut sim = Sim::with_workers(1);
    let serial = sim.submit(Call::Return(ms(1)));
    sim.run_until_finished(serial);
    let task = sim.records[serial].task.expect("it was admitted");
    let worker = sim.living_workers()[0];
    let before = sim.pool.statistics(sim.lane());
    sim.pool.handle_completion(sim.now, worker, task, ms(1), ());
    sim.pool.handle_revoked(sim.now, task, true);
    sim.pool.handle_started(sim.now, task, sim.now);
    sim.pool.handle_assign_refused(task);
    assert!(!sim.pool.cancel(sim.now, task));
    assert_eq!(sim.pool.poll_action(), None);
    assert_eq!(sim.pool.statistics(sim.lane()), before);
    assert_eq!(sim.pool.payload(task), None);
}
