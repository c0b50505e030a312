//! Which owner fetches what, the resolver that stands in for them, and numbers used again.

use std::os::fd::AsFd;
use std::time::Duration;

use offloop::{Call, CallOptions, News, Notice, Outcome, Owner, Payload, TaskAddress};
use offloop_sys::socket;

use crate::fixture::{Fixture, wait_notices};

fn call(owner: &Owner, token: u64, command: &str) -> Call {
    let payload = Payload {
        inline: command.into(),
        ..Payload::default()
    };
    Call {
        owner: owner.index(),
        token,
        any_thread: false,
        streams: false,
        function: None,
        needs: Vec::new(),
        payload,
        surroundings: None,
        note: None,
    }
}

fn submit(fixture: &Fixture, call: Call) -> TaskAddress {
    fixture.lane.submit(call, CallOptions::default()).unwrap()
}

#[test]
fn each_owner_gets_its_own_outcomes() {
    let fixture = Fixture::new(1);
    let other = fixture.runtime.add_owner().unwrap();
    for n in 0..100 {
        let owner = if n % 2 == 0 { &fixture.owner } else { &other };
        submit(&fixture, call(owner, n, "echo x"));
    }
    for (owner, parity) in [(&other, 1), (&fixture.owner, 0)] {
        let mut count = 0;
        while count < 50 {
            for finished in wait_notices(owner, fixture.left()) {
                assert_eq!(finished.token % 2, parity);
                count += 1;
            }
        }
    }
}

#[test]
fn calls_of_an_owner_that_does_not_come_go_to_the_resolver() {
    let fixture = Fixture::new(1);
    let resolver = fixture.runtime.resolver();
    for token in 0..20 {
        let any_thread = token % 2 == 0;
        submit(
            &fixture,
            Call {
                any_thread,
                ..call(&fixture.owner, token, "echo x")
            },
        );
    }
    let mut tokens = Vec::new();
    while tokens.len() < 10 {
        let finished = wait_notices(&resolver, fixture.left());
        tokens.extend(finished.iter().map(|finished| finished.token));
    }
    assert!(tokens.iter().all(|token| token % 2 == 0), "{tokens:?}");
    // The rest is for its owner alone, whenever it comes.
    let mut count = 0;
    while count < 10 {
        let finished = wait_notices(&fixture.owner, fixture.left());
        assert!(finished.iter().all(|finished| finished.token % 2 == 1));
        count += finished.len();
    }
}

#[test]
fn a_call_that_ends_without_a_completion_does_not_wait_for_an_owner_that_does_not_come() {
    let fixture = Fixture::new(1);
    let resolver = fixture.runtime.resolver();
    let submit_shared = |token, command, options| {
        let call = Call {
            any_thread: true,
            ..call(&fixture.owner, token, command)
        };
        fixture.lane.submit(call, options).unwrap()
    };
    let limited = CallOptions {
        timeout: Some(Duration::from_millis(5)),
        ..CallOptions::default()
    };
    let next = || {
        let finished = wait_notices(&resolver, fixture.left());
        let [Notice { token, news, .. }] = finished.as_slice() else {
            panic!("{finished:?}")
        };
        let News::Ended(outcome) = news else {
            panic!("{news:?}")
        };
        (*token, format!("{outcome:?}"))
    };
    submit_shared(1, "exit 3", CallOptions::default());
    let (token, outcome) = next();
    assert!(token == 1 && outcome.starts_with("Lost"), "{outcome}");
    submit_shared(2, "hang", limited);
    let (token, outcome) = next();
    assert!(token == 2 && outcome.starts_with("Expired"), "{outcome}");
    submit_shared(3, "gate open", CallOptions::default());
    let queued = submit_shared(4, "echo never", CallOptions::default());
    assert!(fixture.lane.cancel(queued));
    let (token, outcome) = next();
    assert!(token == 4 && outcome.starts_with("Cancelled"), "{outcome}");
    fixture.open_gate(1);
    assert_eq!(next().0, 3);
}

#[test]
fn workers_are_fed_while_their_owner_does_not_come() {
    let mut fixture = Fixture::new(2);
    fixture.teach_prefetching();
    let tickets: Vec<_> = (0..3_000)
        .map(|n| fixture.submit(&format!("echo {n}")))
        .collect();
    let lane = &fixture.lane;
    fixture.until("the end of the queue", || {
        lane.statistics().unwrap().queued == 0
    });
    for (n, ticket) in tickets.into_iter().enumerate() {
        assert_eq!(fixture.value(ticket), n.to_string());
    }
}

#[test]
fn a_number_is_not_used_again_while_a_call_of_its_owner_runs() {
    let mut fixture = Fixture::new(2);
    let gone = fixture.runtime.add_owner().unwrap();
    let number = gone.index();
    submit(&fixture, call(&gone, 1, "gate old"));
    fixture.report("gate");
    drop(gone);
    let next = fixture.runtime.add_owner().unwrap();
    assert_ne!(next.index(), number);
    fixture.open_gate(1);
    let lane = &fixture.lane;
    fixture.until("the end of the call", || {
        fixture.runtime.hand_over();
        lane.statistics().unwrap().completed == 1
    });
    let again = fixture.runtime.add_owner().unwrap();
    assert_eq!(again.index(), number);
    // Told by the worker, which learned this number for an earlier owner.
    for n in 2..50 {
        submit(&fixture, call(&again, n, "echo new"));
        let finished = wait_notices(&again, fixture.left());
        assert_eq!(finished[0].token, n);
    }
    fixture.echo();
}

#[test]
fn what_any_thread_may_resolve_outlives_its_owner() {
    let fixture = Fixture::new(1);
    let resolver = fixture.runtime.resolver();
    let gone = fixture.runtime.add_owner().unwrap();
    submit(
        &fixture,
        Call {
            any_thread: true,
            ..call(&gone, 1, "gate x")
        },
    );
    fixture.report("gate");
    submit(
        &fixture,
        Call {
            any_thread: true,
            ..call(&gone, 2, "echo y")
        },
    );
    drop(gone);
    fixture.open_gate(1);
    let mut tokens = Vec::new();
    while tokens.len() < 2 {
        let finished = wait_notices(&resolver, fixture.left());
        tokens.extend(finished.iter().map(|finished| finished.token));
    }
    assert_eq!(tokens, [1, 2]);
}

#[test]
fn an_owner_is_told_once_for_a_batch_and_again_when_more_is_left() {
    let fixture = Fixture::new(1);
    for token in 0..100 {
        submit(&fixture, call(&fixture.owner, token, "echo x"));
    }
    let mut finished = Vec::new();
    while finished.len() < 100 {
        let ready = socket::wait_readable(fixture.owner.event().as_fd(), Some(fixture.left()));
        assert!(ready.unwrap());
        let before = finished.len();
        fixture.owner.drain(7, &mut finished);
        assert!(finished.len() - before <= 7);
    }
    fixture.owner.drain(7, &mut finished);
    assert_eq!(finished.len(), 100);
    let quiet = socket::wait_readable(fixture.owner.event().as_fd(), Some(Duration::ZERO));
    assert!(!quiet.unwrap());
    assert!(!fixture.owner.is_pending());
}

#[test]
fn there_is_a_limit_to_owners_and_it_is_named() {
    let fixture = Fixture::new(1);
    let mut owners = Vec::new();
    let refused = loop {
        match fixture.runtime.add_owner() {
            Ok(owner) => owners.push(owner),
            Err(refused) => break refused.to_string(),
        }
    };
    assert!(refused.contains("limit 64"), "{refused}");
    drop(owners);
    assert!(fixture.runtime.add_owner().is_ok());
}

#[test]
fn an_outcome_without_an_owner_does_no_harm() {
    let mut fixture = Fixture::new(1);
    let gone = fixture.runtime.add_owner().unwrap();
    submit(&fixture, call(&gone, 1, "exit 1"));
    drop(gone);
    fixture.report("exit");
    let ticket = fixture.submit("exit 2");
    fixture.report("exit");
    assert!(matches!(fixture.outcome(ticket), Outcome::Lost { .. }));
    assert_eq!(fixture.unclaimed(), 0);
}
