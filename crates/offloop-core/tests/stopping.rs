//! Cancels and time limits: one sentence each, in virtual time.

mod sim;

use offloop_core::{
    Action, Close, Expiry, Instant, LaneConfig, Outcome, Pool, PoolConfig, SubmitError,
    TaskOptions, limits,
};
use sim::{COMPLETED, Call, Sim, ms, us};

// Cancels and time limits.

#[test]
fn a_queued_task_is_cancelled_at_once_and_never_started() {
    let mut sim = Sim::with_workers(1);
    let running = sim.submit(Call::Hang);
    let queued = sim.submit(Call::Return(ms(1)));
    sim.run_for(ms(20));
    assert!(sim.cancel(queued));
    assert_eq!(sim.outcome(queued), Some(Outcome::Cancelled));
    assert!(!sim.cancel(queued), "it is finished");
    sim.cancel(running);
    sim.run_to_end();
    assert_eq!(sim.records[queued].starts, 0);
}

#[test]
fn a_task_given_in_advance_is_taken_back_without_disturbing_its_worker() {
    let mut sim = Sim::taught(1);
    sim.submit(Call::Return(ms(5)));
    let waiting = sim.submit(Call::Return(ms(1)));
    sim.run_for(ms(1));
    sim.cancel(waiting);
    assert_eq!(sim.outcome(waiting), Some(Outcome::Cancelled));
    sim.run_to_end();
    assert_eq!((sim.records[waiting].starts, sim.killed), (0, 0));
}

#[test]
fn a_running_call_is_cancelled_when_it_has_really_stopped() {
    let mut sim = Sim::with_workers(1);
    let task = sim.submit(Call::Hang);
    sim.run_for(ms(20));
    assert!(sim.cancel(task));
    assert_eq!(sim.outcome(task), None, "the call still runs");
    sim.run_for(ms(1));
    assert_eq!(sim.outcome(task), Some(Outcome::Cancelled));
    assert_eq!((sim.killed, sim.pool.workers_alive()), (0, 1));
}

#[test]
fn a_call_that_ignores_the_interruption_ends_with_its_worker_after_the_grace_period() {
    let mut sim = Sim::with_workers(1);
    let task = sim.submit(Call::HangDeaf);
    sim.run_for(ms(20));
    let since = sim.now;
    sim.cancel(task);
    sim.run_until_finished(task);
    let took = sim.finished_after(task, since);
    assert!(
        took >= limits::GRACE && took < limits::GRACE + ms(1),
        "{took:?}"
    );
    assert_eq!(
        (sim.outcome(task), sim.killed),
        (Some(Outcome::Cancelled), 1)
    );
}

#[test]
fn a_kill_hits_only_the_call_that_would_not_stop() {
    let mut sim = Sim::taught(1);
    let deaf = sim.submit(Call::HangDeaf);
    let behind: Vec<usize> = (0..20).map(|_| sim.submit(Call::Return(us(20)))).collect();
    sim.run_for(ms(1));
    assert!(sim.pool.statistics(sim.lane()).prefetched > 0);
    sim.cancel(deaf);
    let statistics = sim.pool.statistics(sim.lane());
    assert_eq!(
        (statistics.prefetched, statistics.queued),
        (0, 20),
        "all are out of its reach"
    );
    sim.run_to_end();
    assert_eq!(sim.outcome(deaf), Some(Outcome::Cancelled));
    for task in behind {
        assert_eq!(sim.outcome(task), Some(COMPLETED));
    }
}

#[test]
fn a_value_that_arrives_after_the_cancel_does_not_change_the_outcome() {
    let mut sim = Sim::with_workers(1);
    let task = sim.submit(Call::Return(ms(1)));
    sim.run_for(ms(20));
    let late = sim.submit(Call::Return(ms(1)));
    while !sim.is_running(late) {
        sim.run_for(us(10));
    }
    sim.chaos.delay = us(1);
    sim.cancel(late);
    sim.run_until_finished(late);
    assert_eq!(sim.outcome(late), Some(Outcome::Cancelled));
    assert_eq!(sim.outcome(task), Some(COMPLETED));
}

#[test]
fn a_deadline_counts_from_submission_wherever_the_task_is() {
    let mut sim = Sim::with_workers(1);
    let until = |now: Instant, limit| TaskOptions {
        deadline: now.checked_add(limit),
        ..TaskOptions::default()
    };
    let since = sim.now;
    let running = sim.submit_with(Call::Hang, until(since, ms(30)));
    let queued = sim.submit_with(Call::Return(ms(1)), until(since, ms(20)));
    sim.run_for(ms(40));
    let expired = Some(Outcome::Expired {
        which: Expiry::Deadline,
    });
    assert_eq!(
        (sim.outcome(running), sim.outcome(queued)),
        (expired, expired)
    );
    assert_eq!(sim.finished_after(queued, since), ms(20));
    assert!(sim.finished_after(running, since) < ms(31));
    assert_eq!(sim.records[queued].starts, 0);
}

#[test]
fn a_task_whose_deadline_has_passed_is_never_started() {
    let mut sim = Sim::with_workers(1);
    let first = sim.submit(Call::Return(ms(1)));
    sim.run_until_finished(first);
    let options = TaskOptions {
        deadline: Some(sim.now),
        ..TaskOptions::default()
    };
    let task = sim.submit_with(Call::Return(ms(1)), options);
    assert_eq!(
        sim.outcome(task),
        Some(Outcome::Expired {
            which: Expiry::Deadline
        })
    );
    assert_eq!(sim.records[task].starts, 0);
}

#[test]
fn the_run_time_counts_from_the_start_of_the_call() {
    let mut sim = Sim::taught(1);
    let limited = TaskOptions {
        run_timeout: Some(ms(10)),
        ..TaskOptions::default()
    };
    let slow = sim.submit(Call::Return(ms(55)));
    let in_time = sim.submit_with(Call::Return(ms(8)), limited);
    let too_long = sim.submit_with(Call::Hang, limited);
    sim.run_until_finished(too_long);
    assert_eq!(sim.outcome(slow), Some(COMPLETED));
    assert_eq!(
        sim.outcome(in_time),
        Some(COMPLETED),
        "waiting is not running"
    );
    assert_eq!(
        sim.outcome(too_long),
        Some(Outcome::Expired {
            which: Expiry::RunTimeout
        })
    );
    let ran = sim.finished_after(too_long, sim.records[too_long].started_at);
    assert!(ran >= ms(10) && ran < ms(11), "{ran:?}");
}

// Closing a lane that does not wait.

#[test]
fn a_lane_that_is_stopped_cancels_what_runs_and_what_waits() {
    let mut sim = Sim::with_workers(1);
    let running = sim.submit(Call::Hang);
    let queued = sim.submit(Call::Return(ms(1)));
    sim.run_for(ms(20));
    sim.close(sim.lane(), Close::Stop);
    assert_eq!(sim.outcome(queued), Some(Outcome::Cancelled));
    assert_eq!(sim.outcome(running), None, "it is interrupted first");
    sim.run_to_end();
    assert_eq!(sim.outcome(running), Some(Outcome::Cancelled));
}

#[test]
fn a_lane_that_is_terminated_fails_what_runs_and_cancels_what_waits() {
    let mut sim = Sim::with_workers(1);
    let running = sim.submit(Call::Hang);
    let queued = sim.submit(Call::Return(ms(1)));
    sim.run_for(ms(20));
    sim.close(sim.lane(), Close::Terminate);
    sim.run_to_end();
    assert_eq!(sim.outcome(queued), Some(Outcome::Cancelled));
    assert_eq!(sim.outcome(running), Some(Outcome::Broken));
}

#[test]
fn a_lane_that_is_killed_waits_for_no_grace() {
    let mut sim = Sim::with_workers(1);
    let running = sim.submit(Call::HangDeaf);
    sim.run_for(ms(20));
    sim.close(sim.lane(), Close::Drain);
    sim.close(sim.lane(), Close::Kill);
    sim.run_for(ms(10));
    assert_eq!(sim.outcome(running), Some(Outcome::Broken));
}

// A pool whose driver has ended.

#[test]
fn an_abandoned_pool_ends_every_task_once_and_takes_no_more() {
    let now = Instant::from_nanos(1);
    let mut pool: Pool<&str> = Pool::new(PoolConfig::default());
    let lane = pool.open_lane(LaneConfig::new(1));
    let options = TaskOptions {
        deadline: Some(now.saturating_add(ms(1))),
        ..TaskOptions::default()
    };
    let mut submit = |name| pool.submit(now, lane, options, name).expect("it is open");
    let (running, _, cancelled) = (submit("runs"), submit("waits"), submit("cancelled"));
    let Some(Action::Spawn { worker }) = pool.poll_action() else {
        panic!("no worker is started")
    };
    pool.handle_worker_ready(now, worker);
    assert!(matches!(pool.poll_action(), Some(Action::Assign { task, .. }) if task == running));
    assert!(pool.cancel(now, cancelled));
    let mut ended = pool.abandon();
    ended.sort_by_key(|(name, _)| *name);
    let expected = [
        ("cancelled", Outcome::Cancelled),
        ("runs", Outcome::Broken),
        ("waits", Outcome::Broken),
    ];
    assert_eq!(ended, expected);
    // What comes late has no effect.
    pool.handle_completion(now, worker, running, ms(1), ());
    pool.handle_worker_exit(now, worker, Some(running), ());
    pool.handle_timeout(now.saturating_add(ms(10)));
    assert!(!pool.cancel(now, running));
    assert!(pool.poll_action().is_none() && pool.poll_timeout().is_none());
    assert!(pool.lane_is_drained(lane) && pool.is_broken());
    let statistics = pool.statistics(lane);
    assert_eq!((statistics.broken, statistics.cancelled), (2, 1));
    assert_eq!((statistics.queued, statistics.running), (0, 0));
    let refused = pool.submit(now, lane, options, "late").unwrap_err();
    assert!(matches!(refused, SubmitError::Broken { payload: "late" }));
    pool.forget_lane(lane);
}
