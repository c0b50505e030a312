//! The zygote fails, ends, or does not answer; and setups that can never work.

use std::time::{Duration, Instant};

use offloop::{CallOptions, ExitStatus, Fault, LaneConfig, Outcome, SubmitError};

use crate::fixture::{Fixture, Start, signal};

const SIGKILL: i32 = 9;
const SIGSTOP: i32 = 19;

/// Kills the only zygote and waits until the runtime has noticed.
fn kill_zygote(fixture: &Fixture) -> i32 {
    let pid = fixture.runtime.zygote_pids()[0];
    signal(pid, SIGKILL);
    fixture.until("the loss of the zygote", || {
        fixture.runtime.zygote_pids().is_empty()
    });
    pid
}

#[test]
fn workers_live_on_without_their_zygote_and_the_next_one_gets_another() {
    let mut fixture = Fixture::new(2);
    let running = fixture.submit("gate survived");
    fixture.report("gate");
    let old = kill_zygote(&fixture);
    let needs_another_worker = fixture.submit("echo from a new family");
    assert_eq!(fixture.value(needs_another_worker), "from a new family");
    assert_ne!(fixture.runtime.zygote_pids(), [old]);
    fixture.open_gate(1);
    assert_eq!(fixture.value(running), "survived");
}

#[test]
fn the_end_of_a_worker_without_a_zygote_is_found_in_the_kernel() {
    let mut fixture = Fixture::new(1);
    let running = fixture.submit("gate never");
    let pid = fixture.report("gate");
    kill_zygote(&fixture);
    signal(pid, SIGKILL);
    let crash = fixture.crash(running).0;
    assert_eq!(crash.pid, pid);
    // Known where the kernel keeps it (6.15) and a process reaps orphans; never wrong.
    assert!(
        matches!(crash.status, None | Some(ExitStatus::Signal(SIGKILL))),
        "{crash:?}"
    );
    fixture.echo();
}

#[test]
fn a_zygote_that_does_not_answer_is_replaced() {
    let mut fixture = Fixture::new(2);
    fixture.runtime.set_reply_bound(Duration::from_millis(100));
    let running = fixture.submit("gate survived");
    fixture.report("gate");
    let old = fixture.runtime.zygote_pids()[0];
    signal(old, SIGSTOP);
    let begun = Instant::now();
    fixture.echo();
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
    assert_ne!(fixture.runtime.zygote_pids()[0], old);
    fixture.gone(old);
    fixture.open_gate(1);
    assert_eq!(fixture.value(running), "survived");
}

#[test]
fn a_crash_under_a_stopped_zygote_is_reported_within_its_bound() {
    let mut fixture = Fixture::new(1);
    let running = fixture.submit("gate never");
    let pid = fixture.report("gate");
    signal(fixture.runtime.zygote_pids()[0], SIGSTOP);
    signal(pid, SIGKILL);
    let begun = Instant::now();
    assert_eq!(fixture.crash(running).0.pid, pid);
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
    fixture.echo();
}

fn broken(setup: &'static str) -> String {
    let start = Start {
        setup,
        ..Start::default()
    };
    let mut fixture = Fixture::start(&start, LaneConfig::new(2));
    let tickets: Vec<_> = (0..3)
        .filter_map(|_| {
            let call = fixture.call("echo never");
            fixture.submit_call(call, CallOptions::default()).ok()
        })
        .collect();
    let mut reasons = Vec::new();
    for ticket in tickets {
        match fixture.outcome(ticket) {
            Outcome::Broken { fault } => reasons.push(fault.to_string()),
            other => panic!("{setup}: {other:?}"),
        }
    }
    let call = fixture.call("echo late");
    let refused = fixture
        .submit_call(call, CallOptions::default())
        .unwrap_err();
    assert!(matches!(refused, SubmitError::Broken { .. }), "{refused:?}");
    assert!(!reasons.is_empty());
    assert_eq!(refused.to_string(), reasons[0]);
    reasons.remove(0)
}

#[test]
fn a_setup_that_fails_breaks_the_lane_with_its_reason() {
    assert_eq!(broken("setup-fails no such module"), "no such module");
}

#[test]
fn a_worker_that_cannot_begin_breaks_the_lane_with_its_reason() {
    for _ in 0..10 {
        assert_eq!(
            broken("hello-fails the initializer raised"),
            "the initializer raised"
        );
    }
}

#[test]
fn a_worker_that_ends_before_its_hello_breaks_the_lane_in_the_end() {
    let reason = broken("hello-exits 5");
    assert!(
        reason.contains("exit code 5") && reason.contains("no hello from here"),
        "{reason}"
    );
}

#[test]
fn a_zygote_that_ends_in_its_setup_breaks_the_lane_in_the_end() {
    let reason = broken("setup-exits 3");
    assert_eq!(
        reason,
        "the workers' program ended with exit code 3 in its setup"
    );
}

#[test]
fn a_program_that_is_not_there_breaks_the_lane_in_the_end() {
    let mut fixture = Fixture::new(1);
    fixture.launch.program.path = "/nowhere/offloop-worker".into();
    fixture.lane = fixture
        .runtime
        .open_lane(fixture.launch.clone(), LaneConfig::new(1))
        .unwrap();
    let ticket = fixture.submit("echo never");
    let outcome = fixture.outcome(ticket);
    let Outcome::Broken { fault } = outcome else {
        panic!("{outcome:?}")
    };
    let Fault::StartZygote { source } = &*fault else {
        panic!("{fault:?}")
    };
    assert_eq!(source.kind(), std::io::ErrorKind::NotFound);
}
