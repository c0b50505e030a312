//! Workers that end, each in another way: one call fails, with everything that is known.

use offloop::{CallOptions, Crash, ExitStatus, LaneConfig, Outcome, WorkerFault};

use crate::fixture::{Fixture, Start, signal};

const SIGABRT: i32 = 6;
const SIGKILL: i32 = 9;
const SIGSEGV: i32 = 11;

#[test]
fn a_crash_fails_only_its_own_call_and_tells_everything() {
    let mut fixture = Fixture::new(2);
    let neighbour = fixture.submit("gate unharmed");
    fixture.report("gate");
    let crashing = fixture.submit("crash last words");
    let pid = fixture.report("crash");
    let (crash, attempts) = fixture.crash(crashing);
    let Crash {
        status,
        peak_memory_bytes,
        stderr_tail,
        fault,
        ..
    } = &*crash;
    assert_eq!(
        (crash.pid, *status, attempts),
        (pid, Some(ExitStatus::Signal(SIGSEGV)), 1)
    );
    assert!(
        peak_memory_bytes.unwrap() > 100_000,
        "{peak_memory_bytes:?}"
    );
    assert!(stderr_tail.contains("last words"), "{stderr_tail}");
    assert!(fault.is_none(), "{fault:?}");
    fixture.open_gate(1);
    assert_eq!(fixture.value(neighbour), "unharmed");
    fixture.echo();
}

#[test]
fn an_exit_and_an_abort_are_told_apart() {
    let mut fixture = Fixture::new(1);
    for code in [0, 7, 255] {
        let ticket = fixture.submit(&format!("exit {code}"));
        fixture.report("exit");
        assert_eq!(fixture.crash(ticket).0.status, Some(ExitStatus::Code(code)));
    }
    let ticket = fixture.submit("abort");
    fixture.report("abort");
    assert_eq!(
        fixture.crash(ticket).0.status,
        Some(ExitStatus::Signal(SIGABRT))
    );
}

#[test]
fn only_the_end_of_the_standard_error_is_kept() {
    let mut fixture = Fixture::new(1);
    for n in 0..200 {
        let ticket = fixture.submit(&format!("stderr line {n} of a talkative worker"));
        fixture.value(ticket);
    }
    let ticket = fixture.submit("crash the end");
    fixture.report("crash");
    let tail = &fixture.crash(ticket).0.stderr_tail;
    assert!(tail.len() <= 4096 && tail.ends_with("line 199 of a talkative worker\nthe end\n"));
}

#[test]
fn what_a_dead_worker_had_only_prefetched_runs_elsewhere() {
    let mut fixture = Fixture::new(1);
    fixture.teach_prefetching();
    let running = fixture.submit("gate never");
    let pid = fixture.report("gate");
    let behind: Vec<_> = (0..50)
        .map(|n| fixture.submit(&format!("echo {n}")))
        .collect();
    assert!(fixture.lane.statistics().unwrap().prefetched > 0);
    signal(pid, SIGKILL);
    assert_eq!(
        fixture.crash(running).0.status,
        Some(ExitStatus::Signal(SIGKILL))
    );
    for (n, ticket) in behind.into_iter().enumerate() {
        assert_eq!(fixture.value(ticket), n.to_string());
    }
    assert_eq!(fixture.lane.statistics().unwrap().lost, 1);
}

#[test]
fn an_idle_worker_that_dies_costs_nothing() {
    let mut fixture = Fixture::new(1);
    fixture.echo();
    let pid = fixture.runtime.worker_pids()[0];
    signal(pid, SIGKILL);
    fixture.until("the end of the worker", || {
        fixture.runtime.worker_pids().is_empty()
    });
    fixture.echo();
    assert_eq!(fixture.lane.statistics().unwrap().lost, 0);
}

#[test]
fn a_call_is_tried_again_only_when_asked_for() {
    let mut fixture = Fixture::new(1);
    let options = CallOptions {
        retries: 2,
        ..CallOptions::default()
    };
    let ticket = fixture.submit_with("exit 3", options);
    let pids: Vec<_> = (0..3).map(|_| fixture.report("exit")).collect();
    let (crash, attempts) = fixture.crash(ticket);
    assert_eq!((crash.pid, attempts), (pids[2], 3));
    assert!(!fixture.has_report());
}

#[test]
fn a_retry_on_a_good_worker_succeeds() {
    let mut fixture = Fixture::new(1);
    let options = CallOptions {
        retries: 1,
        ..CallOptions::default()
    };
    let ticket = fixture.submit_with("gate at last", options);
    signal(fixture.report("gate"), SIGKILL);
    fixture.report("gate");
    fixture.open_gate(1);
    assert_eq!(fixture.value(ticket), "at last");
}

#[test]
fn a_worker_that_eats_memory_dies_alone_under_a_limit() {
    let start = Start {
        memory_limit: Some(400_000),
        ..Start::default()
    };
    let mut fixture = Fixture::start(&start, LaneConfig::new(1));
    let ticket = fixture.submit("eat");
    fixture.report("eat");
    let crash = fixture.crash(ticket).0;
    assert_eq!(crash.status, Some(ExitStatus::Signal(SIGABRT)));
    assert!(
        crash.stderr_tail.contains("memory allocation of"),
        "{}",
        crash.stderr_tail
    );
    assert!(crash.peak_memory_bytes.unwrap() > 100 << 20, "{crash:?}");
    fixture.echo();
}

#[test]
fn a_worker_that_loses_its_descriptors_is_ended() {
    let mut fixture = Fixture::new(1);
    let ticket = fixture.submit("close");
    let pid = fixture.report("close");
    let crash = fixture.crash(ticket).0;
    assert_eq!(crash.status, Some(ExitStatus::Signal(SIGKILL)));
    let fault = crash.fault.as_ref();
    assert!(
        matches!(fault, Some(WorkerFault::ClosedChannel)),
        "{fault:?}"
    );
    fixture.gone(pid);
    fixture.echo();
}

#[test]
fn among_many_crashes_every_call_ends_once() {
    let mut fixture = Fixture::new(2);
    let commands = [
        "echo fine",
        "exit 1",
        "echo fine",
        "crash now",
        "echo fine",
        "abort",
    ];
    let tickets: Vec<_> = (0..180).map(|n| fixture.submit(commands[n % 6])).collect();
    for (n, ticket) in tickets.into_iter().enumerate() {
        match fixture.outcome(ticket) {
            Outcome::Returned(_) => assert_eq!(n % 2, 0),
            Outcome::Lost { attempts: 1, .. } => assert_eq!(n % 2, 1),
            other => panic!("{n}: {other:?}"),
        }
    }
    assert_eq!(fixture.unclaimed(), 0);
}
