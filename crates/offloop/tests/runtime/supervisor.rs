//! The supervisor itself: what becomes of all calls when it panics, and how it tells fleets apart.

use std::sync::{Arc, Barrier};
use std::time::Duration;

use offloop::{After, CallOptions, Fault, Lane, LaneConfig, Outcome, SubmitError, Taken, Turn};

use crate::fixture::{Fixture, LIMIT, Start, Ticket, signal};

const SIGKILL: i32 = 9;

fn assert_panicked(fault: &Fault) {
    let told =
        matches!(fault, Fault::SupervisorPanic { message } if message == "a test wants it so");
    assert!(told, "{fault:?}");
}

/// A lane that shares its workers with no other.
fn lane_of_its_own(fixture: &Fixture) -> Lane {
    let launch = fixture.launch.clone();
    let lane = fixture.runtime.open_lane(launch, LaneConfig::new(1));
    lane.unwrap()
}

#[test]
fn a_supervisor_that_panics_ends_every_call_and_every_process() {
    let config = LaneConfig {
        queue_tasks_max: Some(2),
        ..LaneConfig::new(1)
    };
    let mut fixture = Fixture::start(&Start::default(), config);
    let running = fixture.submit("gate never");
    let pid = fixture.report("gate");
    let queued = fixture.submit("echo never");
    let retried = CallOptions {
        retries: 3,
        ..CallOptions::default()
    };
    let may_be_tried_again = fixture.submit_with("echo never", retried);
    let room = 1_000;
    fixture.lane.notify_room(fixture.owner.index(), room);
    let other = lane_of_its_own(&fixture);
    let call = fixture.call("gate never");
    let token = call.token;
    let task = other.submit(call, CallOptions::default()).unwrap();
    let other_pid = fixture.report("gate");
    let elsewhere = Ticket { token, task };
    let zygotes = fixture.runtime.zygote_pids();
    assert_eq!(zygotes.len(), 2);

    fixture.runtime.panic_supervisor();

    for ticket in [running, queued, may_be_tried_again, elsewhere] {
        let outcome = fixture.outcome(ticket);
        let Outcome::Broken { fault } = outcome else {
            panic!("{outcome:?}")
        };
        assert_panicked(&fault);
    }
    fixture.room(room);
    assert_eq!(fixture.unclaimed(), 0);
    for pid in zygotes.into_iter().chain([pid, other_pid]) {
        fixture.gone(pid);
    }
    let statistics = fixture.lane.statistics().unwrap();
    assert_eq!((statistics.broken, statistics.running), (3, 0));
    assert!(!fixture.lane.cancel(running.task));
    assert!(fixture.lane.wait_drained(Duration::ZERO));
}

#[test]
fn calls_after_a_panic_of_the_supervisor_are_refused_at_once() {
    let mut fixture = Fixture::new(1);
    fixture.echo();
    let ticket = fixture.submit("gate never");
    fixture.report("gate");
    fixture.runtime.panic_supervisor();
    assert!(matches!(fixture.outcome(ticket), Outcome::Broken { .. }));
    let later = lane_of_its_own(&fixture);
    let call = fixture.call("echo never");
    let refused = later.submit(call, CallOptions::default()).unwrap_err();
    let call = fixture.call("echo never");
    let again = fixture.submit_call(call, CallOptions::default());
    for refused in [refused, again.unwrap_err()] {
        let SubmitError::Broken { fault } = refused else {
            panic!("{refused:?}")
        };
        assert_panicked(&fault);
    }
    assert_panicked(&later.broken().unwrap());
    // No submitter waits for what will never be.
    assert!(later.wait_room(Duration::ZERO) && later.has_room());
    assert!(later.wait_worker(Duration::ZERO));
    later.close(offloop::Close::Drain);
    assert!(later.wait_drained(Duration::ZERO));
    drop(later);
}

#[test]
fn after_a_panic_of_the_supervisor_a_callback_that_blocks_still_delays_no_other() {
    let mut fixture = Fixture::new(1);
    let release = Arc::new(Barrier::new(2));
    let blocked = Arc::clone(&release);
    let (sender, taken) = std::sync::mpsc::channel();
    let body = move |turn: &Turn| match turn.look() {
        Taken::Notice(notice) => {
            // The receiver is gone once the test has failed.
            let _ = sender.send(notice.token);
            if notice.token == 1 {
                blocked.wait();
            }
            After::Again
        }
        Taken::Nothing => After::Wait,
        Taken::Relieved => After::Relieved,
    };
    fixture.runtime.start_crew(body).unwrap();
    // The crew also gets the outcomes of an owner that does not come.
    for _ in 0..3 {
        let mut call = fixture.call("gate never");
        call.any_thread = true;
        fixture.submit_call(call, CallOptions::default()).unwrap();
    }
    fixture.report("gate");
    fixture.runtime.panic_supervisor();
    let mut tokens: Vec<u64> = (0..3)
        .map(|_| taken.recv_timeout(fixture.left()).unwrap())
        .collect();
    tokens.sort_unstable();
    assert_eq!(tokens, [1, 2, 3]);
    release.wait();
    assert!(fixture.runtime.wait_crew_idle(LIMIT));
    assert_eq!(fixture.runtime.end_crew(LIMIT), 0);
}

#[test]
fn more_fleets_than_fit_into_twenty_bits_are_told_apart() {
    let mut fixture = Fixture::new(1);
    fixture.echo();
    // The first fleet has number 1. A number that was cut to 20 bits would name it, or none.
    for skipped in [(1 << 20) - 2, 0, 0, 1 << 21, u32::MAX - (1 << 22)] {
        fixture.runtime.skip_fleets(skipped);
        let next = lane_of_its_own(&fixture);
        let first = std::mem::replace(&mut fixture.lane, next);
        fixture.echo();
        let ticket = fixture.submit("gate never");
        signal(fixture.report("gate"), SIGKILL);
        fixture.crash(ticket);
        fixture.echo();
        fixture.lane = first;
        fixture.echo();
    }
}

#[test]
fn a_number_that_a_fleet_has_is_not_given_to_another() {
    let mut fixture = Fixture::new(1);
    fixture.echo();
    fixture.runtime.skip_fleets(u32::MAX - 1);
    // Neither 0, which is no fleet's, nor 1, which is the fixture's.
    let second = lane_of_its_own(&fixture);
    let first = std::mem::replace(&mut fixture.lane, second);
    let gated = fixture.submit("gate second");
    let pid = fixture.report("gate");
    fixture.lane = first;
    fixture.echo();
    let own = fixture.runtime.worker_pids();
    assert!(own.len() == 2 && own.contains(&pid), "{own:?}");
    fixture.open_gate(1);
    assert_eq!(fixture.value(gated), "second");
}
