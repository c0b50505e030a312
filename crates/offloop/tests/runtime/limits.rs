//! Full queues: what is refused comes back, what waits is told, what is dropped is said so.

use std::time::Duration;

use offloop::{CallOptions, LaneConfig, Outcome, QueuePolicy, SubmitError};

use crate::fixture::{Fixture, Start};

fn fixture(config: LaneConfig) -> Fixture {
    Fixture::start(&Start::default(), config)
}

#[test]
fn a_full_queue_refuses_and_gives_the_call_back() {
    let config = LaneConfig {
        queue_tasks_max: Some(1),
        policy: QueuePolicy::Refuse,
        ..LaneConfig::new(1)
    };
    let mut fixture = fixture(config);
    let running = fixture.submit("gate first");
    fixture.report("gate");
    let waiting = fixture.submit("echo second");
    assert!(!fixture.lane.has_room());
    let call = fixture.call("echo third");
    let token = call.token;
    let refused = fixture
        .submit_call(call, CallOptions::default())
        .unwrap_err();
    assert!(refused.to_string().contains("limit 1"), "{refused}");
    let SubmitError::Full {
        queued: 1,
        limit: 1,
        call,
    } = refused
    else {
        panic!("{refused:?}")
    };
    assert_eq!(
        (call.token, call.payload.inline.as_slice()),
        (token, b"echo third".as_slice())
    );
    fixture.open_gate(1);
    assert_eq!(fixture.value(running), "first");
    assert_eq!(fixture.value(waiting), "second");
    let again = fixture.submit_call(*call, CallOptions::default()).unwrap();
    assert_eq!(fixture.value(again), "third");
}

#[test]
fn a_submitter_that_waits_for_room_is_told_when_there_may_be_some() {
    let config = LaneConfig {
        queue_tasks_max: Some(0),
        ..LaneConfig::new(1)
    };
    let mut fixture = fixture(config);
    let running = fixture.submit("gate first");
    fixture.report("gate");
    assert!(!fixture.lane.wait_room(Duration::from_millis(20)));
    let room = u64::MAX;
    fixture.lane.notify_room(fixture.owner.index(), room);
    fixture.open_gate(1);
    assert_eq!(fixture.value(running), "first");
    fixture.room(room);
    assert!(fixture.lane.wait_room(fixture.left()));
    // With room already there, the answer comes at once.
    fixture.lane.notify_room(fixture.owner.index(), room);
    fixture.room(room);
}

#[test]
fn a_thread_that_waits_for_room_goes_on_when_a_call_ends() {
    let config = LaneConfig {
        queue_tasks_max: Some(0),
        ..LaneConfig::new(1)
    };
    let mut fixture = fixture(config);
    let running = fixture.submit("gate first");
    fixture.report("gate");
    let (lane, left) = (&fixture.lane, fixture.left());
    std::thread::scope(|scope| {
        let waiter = scope.spawn(move || lane.wait_room(left));
        fixture.open_gate(1);
        // A thread has to look: here the owner's, whose event the worker signals.
        crate::fixture::wait_notices(&fixture.owner, left);
        assert!(waiter.join().unwrap());
    });
    assert!(!fixture.lane.cancel(running.task));
}

#[test]
fn the_limit_in_bytes_counts_what_is_unfinished() {
    let config = LaneConfig {
        queue_bytes_max: Some(100),
        ..LaneConfig::new(1)
    };
    let mut fixture = fixture(config);
    let running = fixture.submit("gate first");
    fixture.report("gate");
    let large = fixture.call(&format!("echo {}", "x".repeat(96)));
    let refused = fixture
        .submit_call(large, CallOptions::default())
        .unwrap_err();
    let too_large = matches!(
        refused,
        SubmitError::TooLarge {
            bytes: 101,
            limit: 100
        }
    );
    assert!(too_large, "{refused:?}");
    let fitting = format!("echo {}", "x".repeat(90));
    let call = fixture.call(&fitting);
    let refused = fixture
        .submit_call(call, CallOptions::default())
        .unwrap_err();
    let full = matches!(
        refused,
        SubmitError::FullBytes {
            held: 10,
            bytes: 95,
            limit: 100,
            ..
        }
    );
    assert!(full, "{refused:?}");
    fixture.open_gate(1);
    fixture.value(running);
    let fits = fixture.submit(&fitting);
    assert_eq!(fixture.value(fits).len(), 90);
}

#[test]
fn a_queue_that_drops_ends_its_oldest_call() {
    let config = LaneConfig {
        queue_tasks_max: Some(2),
        policy: QueuePolicy::DropOldest,
        ..LaneConfig::new(1)
    };
    let mut fixture = fixture(config);
    let running = fixture.submit("gate first");
    fixture.report("gate");
    let waiting: Vec<_> = (0..5)
        .map(|n| fixture.submit(&format!("echo {n}")))
        .collect();
    for ticket in &waiting[..3] {
        assert!(matches!(fixture.outcome(*ticket), Outcome::Dropped));
    }
    fixture.open_gate(1);
    assert_eq!(fixture.value(running), "first");
    assert_eq!(fixture.value(waiting[3]), "3");
    assert_eq!(fixture.value(waiting[4]), "4");
    assert_eq!(fixture.lane.statistics().unwrap().dropped, 3);
}
