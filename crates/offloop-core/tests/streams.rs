//! Calls whose items are wanted one by one: what the pool decides differently for them.

mod sim;

use offloop_core::{Close, LaneConfig, Outcome, TaskOptions};
use sim::{COMPLETED, Call, Sim, ms, us};

const STREAM: TaskOptions = TaskOptions {
    deadline: None,
    run_timeout: None,
    retries: 0,
    bytes: 0,
    grace: None,
    streams: true,
};

#[test]
fn nothing_is_held_in_advance_behind_a_stream() {
    let mut sim = Sim::taught(1);
    let before = sim.submit(Call::Return(ms(5)));
    let stream = sim.submit_with(Call::Hang, STREAM);
    let behind: Vec<usize> = (0..5).map(|_| sim.submit(Call::Return(us(20)))).collect();
    sim.run_for(ms(1));
    let statistics = sim.pool.statistics(sim.lane());
    assert_eq!((statistics.prefetched, statistics.queued), (1, 5));
    sim.run_for(ms(20));
    assert_eq!(sim.outcome(before), Some(COMPLETED));
    assert!(sim.is_running(stream));
    sim.cancel(stream);
    sim.run_to_end();
    assert!(
        behind
            .iter()
            .all(|&call| sim.outcome(call) == Some(COMPLETED))
    );
}

#[test]
fn short_calls_beside_a_stream_go_to_another_worker_at_once() {
    let mut sim = Sim::taught(2);
    let stream = sim.submit_with(Call::Hang, STREAM);
    sim.run_for(ms(1));
    let beside = sim.submit(Call::Return(us(20)));
    let since = sim.now;
    sim.run_until_finished(beside);
    assert!(sim.finished_after(beside, since) < ms(1));
    sim.cancel(stream);
    sim.run_to_end();
}

#[test]
fn how_long_a_stream_takes_says_nothing_of_other_calls() {
    let mut sim = Sim::taught(1);
    let mean = sim.pool.statistics(sim.lane()).run_mean;
    sim.submit_with(Call::Return(ms(500)), STREAM);
    sim.run_to_end();
    assert_eq!(sim.pool.statistics(sim.lane()).run_mean, mean);
}

#[test]
fn a_call_that_has_delivered_an_item_is_not_started_again() {
    let mut sim = Sim::with_workers(1);
    let options = TaskOptions {
        retries: 3,
        ..STREAM
    };
    let silent = sim.submit_with(Call::CrashTimes(1), options);
    sim.run_until_finished(silent);
    assert_eq!(
        (sim.outcome(silent), sim.records[silent].starts),
        (Some(COMPLETED), 2)
    );
    let heard = sim.submit_with(Call::Hang, options);
    sim.run_for(ms(20));
    sim.deliver_item(heard);
    let worker = sim.running_on(heard).expect("it runs");
    sim.die(worker);
    sim.run_until_finished(heard);
    let lost = Outcome::Lost {
        may_have_started: true,
        attempts: 1,
        crash: (),
    };
    assert_eq!(sim.outcome(heard), Some(lost));
}

#[test]
fn stopping_the_streams_of_a_lane_leaves_its_calls_and_other_lanes() {
    let mut sim = Sim::with_workers(1);
    let other_lane = sim.open_lane(LaneConfig::new(1));
    let running = sim.submit_with(Call::Hang, STREAM);
    let elsewhere = sim.try_submit(other_lane, Call::Return(ms(90)), STREAM);
    let elsewhere = elsewhere.expect("it has room");
    sim.run_for(ms(20));
    let queued = sim.submit_with(Call::Return(ms(1)), STREAM);
    let call = sim.submit(Call::Return(ms(1)));
    let lane = sim.lane();
    sim.close(lane, Close::Drain);
    sim.stop_streams(lane);
    assert_eq!(sim.outcome(queued), Some(Outcome::Cancelled));
    assert_eq!(sim.outcome(running), None, "its call still runs");
    sim.run_to_end();
    assert_eq!(sim.outcome(running), Some(Outcome::Cancelled));
    assert_eq!(sim.records[queued].starts, 0);
    assert_eq!(sim.outcome(call), Some(COMPLETED));
    assert_eq!(sim.outcome(elsewhere), Some(COMPLETED));
}
