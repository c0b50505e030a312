//! Workers that take their time before they take calls, or never do.

use std::time::{Duration, Instant};

use offloop::{CallOptions, Fault, LaneConfig, Outcome, WorkerFault};

use crate::fixture::{Fixture, Start};

/// Workers that report `born`, and greet their parent only after a byte from the gate.
fn slow_start(start_timeout: Option<Duration>) -> Start {
    Start {
        setup: "hello-waits for the gate",
        start_timeout,
        ..Start::default()
    }
}

#[test]
fn a_worker_that_takes_its_time_is_waited_for() {
    let mut fixture = Fixture::start(&slow_start(None), LaneConfig::new(1));
    let ticket = fixture.submit("pid");
    let pid = fixture.report("born");
    assert_eq!(fixture.runtime.worker_pids(), []);
    fixture.open_gate(1);
    assert_eq!(fixture.value(ticket), pid.to_string());
}

#[test]
fn a_worker_that_hangs_in_its_start_is_killed_and_replaced() {
    let start = slow_start(Some(Duration::from_millis(200)));
    let mut fixture = Fixture::start(&start, LaneConfig::new(1));
    let ticket = fixture.submit("pid");
    let hung = fixture.report("born");
    fixture.gone(hung);
    fixture.open_gate(1);
    // Were the machine so slow that the next one hung, too, the gate would open for another.
    assert_ne!(fixture.value(ticket), hung.to_string());
}

#[test]
fn workers_that_all_hang_in_their_start_break_the_lane_within_a_bound() {
    let limit = Duration::from_millis(50);
    let mut fixture = Fixture::start(&slow_start(Some(limit)), LaneConfig::new(2));
    let begun = Instant::now();
    let tickets: Vec<_> = (0..3).map(|_| fixture.submit("echo never")).collect();
    for ticket in tickets {
        let outcome = fixture.outcome(ticket);
        let Outcome::Broken { fault } = outcome else {
            panic!("{outcome:?}")
        };
        let Fault::WorkerEnded { crash } = &*fault else {
            panic!("{fault:?}")
        };
        let late =
            matches!(crash.fault, Some(WorkerFault::NotReady { limit: given }) if given == limit);
        assert!(late, "{crash:?}");
        assert!(fault.to_string().contains("still loading"), "{fault}");
    }
    assert!(begun.elapsed() >= limit * offloop_core::limits::START_FAILURES_MAX);
    while fixture.has_report() {
        fixture.gone(fixture.report("born"));
    }
}

#[test]
fn a_deadline_ends_a_call_whose_worker_hangs_in_its_start() {
    let mut fixture = Fixture::start(&slow_start(None), LaneConfig::new(1));
    let options = CallOptions {
        timeout: Some(Duration::from_millis(20)),
        ..CallOptions::default()
    };
    let ticket = fixture.submit_with("echo never", options);
    let pid = fixture.report("born");
    let outcome = fixture.outcome(ticket);
    assert!(
        matches!(outcome, Outcome::Expired { deadline: true }),
        "{outcome:?}"
    );
    fixture.open_gate(1);
    let next = fixture.submit("pid");
    assert_eq!(fixture.value(next), pid.to_string());
}

#[test]
fn lanes_that_wait_differently_long_for_their_workers_share_none() {
    let mut fixture = Fixture::new(1);
    fixture.launch.inherited = Vec::new().into();
    fixture.launch.setup = b"hello-fails alone".to_vec();
    let patient = fixture.launch.clone();
    let hasty = offloop::FleetConfig {
        start_timeout: Duration::from_secs(1),
        ..patient.clone().into()
    };
    let patient = fixture.runtime.open_lane(patient, LaneConfig::new(1));
    let hasty = fixture.runtime.open_lane(hasty, LaneConfig::new(1));
    let call = fixture.call("echo never");
    let token = call.token;
    let task = patient.unwrap().submit(call, CallOptions::default());
    let task = task.unwrap();
    let outcome = fixture.outcome(crate::fixture::Ticket { token, task });
    assert!(matches!(outcome, Outcome::Broken { .. }), "{outcome:?}");
    assert!(hasty.unwrap().broken().is_none());
}
