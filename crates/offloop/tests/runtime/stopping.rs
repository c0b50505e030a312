//! Cancelling and time limits, wherever the call stands.

use std::time::{Duration, Instant};

use offloop::{CallOptions, Close, LaneConfig, Outcome};

use crate::fixture::{Fixture, Start};

fn millis(count: u64) -> Option<Duration> {
    Some(Duration::from_millis(count))
}

fn worker_pid(fixture: &mut Fixture) -> i32 {
    let ticket = fixture.submit("pid");
    fixture.value(ticket).parse().unwrap()
}

#[test]
fn a_queued_call_that_is_cancelled_never_starts() {
    let mut fixture = Fixture::new(1);
    let running = fixture.submit("gate done");
    fixture.report("gate");
    let queued = fixture.submit("gate never");
    assert_eq!(fixture.lane.statistics().unwrap().queued, 1);
    assert!(fixture.lane.cancel(queued.task));
    assert!(matches!(fixture.outcome(queued), Outcome::Cancelled));
    fixture.open_gate(1);
    assert_eq!(fixture.value(running), "done");
    assert!(!fixture.has_report());
    assert!(!fixture.lane.cancel(running.task), "it is over");
}

#[test]
fn a_prefetched_call_that_is_cancelled_never_starts() {
    let mut fixture = Fixture::new(1);
    fixture.teach_prefetching();
    let running = fixture.submit("gate done");
    fixture.report("gate");
    let prefetched = [fixture.submit("gate never"), fixture.submit("gate never")];
    let behind = fixture.submit("echo behind");
    assert_eq!(fixture.lane.statistics().unwrap().prefetched, 3);
    for ticket in prefetched {
        assert!(fixture.lane.cancel(ticket.task));
        assert!(matches!(fixture.outcome(ticket), Outcome::Cancelled));
    }
    fixture.open_gate(1);
    assert_eq!(fixture.value(running), "done");
    assert_eq!(fixture.value(behind), "behind");
    assert!(!fixture.has_report());
}

#[test]
fn a_running_call_that_listens_is_interrupted_and_its_worker_lives_on() {
    let mut fixture = Fixture::new(1);
    let before = worker_pid(&mut fixture);
    let running = fixture.submit("hang");
    assert_eq!(fixture.report("hang"), before);
    assert!(fixture.lane.is_running(running.task));
    assert!(fixture.lane.cancel(running.task));
    assert!(matches!(fixture.outcome(running), Outcome::Cancelled));
    assert_eq!(worker_pid(&mut fixture), before);
}

#[test]
fn a_running_call_that_is_deaf_is_killed_after_the_grace_period() {
    let grace = Duration::from_millis(60);
    let config = LaneConfig {
        grace,
        ..LaneConfig::new(1)
    };
    let mut fixture = Fixture::start(&Start::default(), config);
    let running = fixture.submit("deaf");
    let pid = fixture.report("deaf");
    let asked = Instant::now();
    assert!(fixture.lane.cancel(running.task));
    assert!(matches!(fixture.outcome(running), Outcome::Cancelled));
    assert!(asked.elapsed() >= grace);
    fixture.gone(pid);
    assert_ne!(worker_pid(&mut fixture), pid);
}

#[test]
fn a_call_may_have_a_grace_period_of_its_own() {
    let config = LaneConfig {
        grace: Duration::from_secs(3600),
        ..LaneConfig::new(1)
    };
    let mut fixture = Fixture::start(&Start::default(), config);
    let options = CallOptions {
        grace: millis(1),
        ..CallOptions::default()
    };
    let running = fixture.submit_with("deaf", options);
    fixture.report("deaf");
    assert!(fixture.lane.cancel(running.task));
    assert!(matches!(fixture.outcome(running), Outcome::Cancelled));
}

#[test]
fn what_a_killed_worker_had_prefetched_runs_elsewhere() {
    let config = LaneConfig {
        grace: Duration::from_millis(10),
        ..LaneConfig::new(1)
    };
    let mut fixture = Fixture::start(&Start::default(), config);
    fixture.teach_prefetching();
    let running = fixture.submit("deaf");
    fixture.report("deaf");
    let behind: Vec<_> = (0..20)
        .map(|n| fixture.submit(&format!("echo {n}")))
        .collect();
    assert!(fixture.lane.cancel(running.task));
    assert!(matches!(fixture.outcome(running), Outcome::Cancelled));
    for (n, ticket) in behind.into_iter().enumerate() {
        assert_eq!(fixture.value(ticket), n.to_string());
    }
}

#[test]
fn a_deadline_ends_a_call_that_waits_and_one_that_runs() {
    let mut fixture = Fixture::new(1);
    let options = CallOptions {
        timeout: millis(50),
        ..CallOptions::default()
    };
    let running = fixture.submit_with("hang", options);
    let queued = fixture.submit_with("gate never", options);
    for ticket in [running, queued] {
        let outcome = fixture.outcome(ticket);
        assert!(
            matches!(outcome, Outcome::Expired { deadline: true }),
            "{outcome:?}"
        );
    }
    fixture.echo();
}

#[test]
fn the_run_time_counts_from_the_start_of_the_call() {
    let mut fixture = Fixture::new(1);
    let first = fixture.submit("gate open");
    fixture.report("gate");
    let patient = CallOptions {
        run_timeout: millis(30),
        ..CallOptions::default()
    };
    let waiting = fixture.submit_with("echo patient", patient);
    let clock = CallOptions {
        timeout: millis(90),
        ..CallOptions::default()
    };
    let clock = fixture.submit_with("echo never", clock);
    assert!(matches!(
        fixture.outcome(clock),
        Outcome::Expired { deadline: true }
    ));
    fixture.open_gate(1);
    assert_eq!(fixture.value(first), "open");
    assert_eq!(fixture.value(waiting), "patient");
}

#[test]
fn a_call_that_runs_too_long_is_stopped() {
    let mut fixture = Fixture::new(1);
    let pid = worker_pid(&mut fixture);
    let options = CallOptions {
        run_timeout: millis(30),
        ..CallOptions::default()
    };
    let running = fixture.submit_with("hang", options);
    let outcome = fixture.outcome(running);
    assert!(
        matches!(outcome, Outcome::Expired { deadline: false }),
        "{outcome:?}"
    );
    assert_eq!(worker_pid(&mut fixture), pid);
}

#[test]
fn a_stopped_worker_is_ended_by_a_time_limit() {
    let config = LaneConfig {
        grace: Duration::from_millis(20),
        ..LaneConfig::new(1)
    };
    let mut fixture = Fixture::start(&Start::default(), config);
    let options = CallOptions {
        run_timeout: millis(30),
        ..CallOptions::default()
    };
    let running = fixture.submit_with("stop", options);
    let pid = fixture.report("stop");
    let outcome = fixture.outcome(running);
    assert!(
        matches!(outcome, Outcome::Expired { deadline: false }),
        "{outcome:?}"
    );
    fixture.gone(pid);
    fixture.echo();
}

#[test]
fn cancelling_what_is_queued_leaves_what_runs() {
    let mut fixture = Fixture::new(1);
    fixture.teach_prefetching();
    let running = fixture.submit("gate done");
    fixture.report("gate");
    let waiting: Vec<_> = (0..300).map(|_| fixture.submit("gate never")).collect();
    fixture.lane.close(Close::CancelQueued);
    for ticket in waiting {
        assert!(matches!(fixture.outcome(ticket), Outcome::Cancelled));
    }
    fixture.open_gate(1);
    assert_eq!(fixture.value(running), "done");
    assert!(!fixture.has_report());
}

#[test]
fn an_interrupt_never_hits_the_next_call() {
    let mut fixture = Fixture::new(1);
    for _ in 0..200 {
        let first = fixture.submit("echo first");
        let next = fixture.submit("echo next");
        // Too early, in time or too late: only the first may be hit.
        fixture.lane.cancel(first.task);
        let outcome = fixture.outcome(first);
        assert!(
            matches!(outcome, Outcome::Cancelled | Outcome::Returned(_)),
            "{outcome:?}"
        );
        assert_eq!(fixture.value(next), "next");
    }
}
