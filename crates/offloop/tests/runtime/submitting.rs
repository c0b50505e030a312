//! Calls go in, outcomes come out: as many, none twice, from any number of threads.

use std::collections::HashSet;

use offloop::{
    CallOptions, Close, LaneConfig, News, Outcome, Payload, Returned, Status, SubmitError,
};

use crate::fixture::{Fixture, LIMIT, Start, is_alive, wait_notices};

#[test]
fn every_call_gets_its_own_answer() {
    let mut fixture = Fixture::new(2);
    let tickets: Vec<_> = (0..2_000)
        .map(|n| fixture.submit(&format!("echo {n}")))
        .collect();
    for (n, ticket) in tickets.into_iter().enumerate() {
        assert_eq!(fixture.value(ticket), n.to_string());
    }
    assert_eq!(fixture.unclaimed(), 0);
    let statistics = fixture.lane.statistics().unwrap();
    assert_eq!((statistics.submitted, statistics.completed), (2_000, 2_000));
}

#[test]
fn calls_of_several_threads_and_owners_do_not_mix() {
    let fixture = Fixture::new(2);
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let (runtime, lane) = (&fixture.runtime, &fixture.lane);
            scope.spawn(move || {
                let owner = runtime.add_owner().unwrap();
                let mut expected = HashSet::new();
                for n in 0..500 {
                    let token = thread << 32 | n;
                    let inline = format!("echo {token}").into_bytes();
                    let call = offloop::Call {
                        owner: owner.index(),
                        token,
                        any_thread: false,
                        streams: false,
                        function: None,
                        needs: Vec::new(),
                        surroundings: None,
                        note: None,
                        payload: Payload {
                            inline,
                            ..Payload::default()
                        },
                    };
                    lane.submit(call, CallOptions::default()).unwrap();
                    expected.insert(token);
                }
                while !expected.is_empty() {
                    for finished in wait_notices(&owner, LIMIT) {
                        assert!(expected.remove(&finished.token), "{finished:?}");
                        let News::Ended(Outcome::Returned(returned)) = finished.news else {
                            panic!("no value: {finished:?}")
                        };
                        assert_eq!(returned.payload, finished.token.to_string().into_bytes());
                    }
                }
            });
        }
    });
}

#[test]
fn what_a_call_raises_is_not_a_crash() {
    let mut fixture = Fixture::new(1);
    let ticket = fixture.submit("raise trouble");
    let outcome = fixture.outcome(ticket);
    let Outcome::Returned(Returned {
        status: Status::Raised,
        payload,
        ..
    }) = outcome
    else {
        panic!("{outcome:?}")
    };
    assert_eq!(payload, b"trouble");
    fixture.echo();
}

#[test]
fn a_function_is_sent_once_and_known_to_every_worker() {
    let mut fixture = Fixture::new(2);
    let definition = Payload {
        inline: b"the definition".to_vec(),
        ..Payload::default()
    };
    let function = fixture.runtime.define(definition, Vec::new());
    let tickets: Vec<_> = (0..200)
        .map(|_| {
            let mut call = fixture.call("function");
            call.function = Some(function.clone());
            fixture.submit_call(call, CallOptions::default()).unwrap()
        })
        .collect();
    for ticket in tickets {
        assert_eq!(fixture.value(ticket), "the definition");
    }
}

#[test]
fn a_worker_that_has_run_its_share_is_replaced() {
    let start = Start {
        tasks_per_worker_max: Some(3),
        ..Start::default()
    };
    let mut fixture = Fixture::start(&start, LaneConfig::new(1));
    let mut pids = Vec::new();
    for _ in 0..9 {
        let ticket = fixture.submit("pid");
        pids.push(fixture.value(ticket).parse::<i32>().unwrap());
    }
    let different: HashSet<_> = pids.iter().collect();
    assert_eq!(different.len(), 3, "{pids:?}");
    fixture.gone(pids[0]);
}

#[test]
fn lanes_of_equal_launches_share_their_warm_workers() {
    let mut fixture = Fixture::new(1);
    fixture.launch.inherited = Vec::new().into();
    fixture.launch.setup = b"hello-fails shared".to_vec();
    let one = fixture
        .runtime
        .open_lane(fixture.launch.clone(), LaneConfig::new(1))
        .unwrap();
    let two = fixture
        .runtime
        .open_lane(fixture.launch.clone(), LaneConfig::new(1))
        .unwrap();
    let call = fixture.call("echo");
    let token = call.token;
    let task = one.submit(call, CallOptions::default()).unwrap();
    let outcome = fixture.outcome(crate::fixture::Ticket { token, task });
    // What breaks the one's workers breaks the other's: they are the same.
    assert!(matches!(outcome, Outcome::Broken { .. }), "{outcome:?}");
    let call = fixture.call("echo");
    let refused = two.submit(call, CallOptions::default()).unwrap_err();
    assert!(matches!(refused, SubmitError::Broken { .. }), "{refused:?}");
}

#[test]
fn a_closed_lane_runs_what_it_has_and_takes_no_more() {
    let mut fixture = Fixture::new(1);
    let running = fixture.submit("gate first");
    let queued = fixture.submit("echo second");
    fixture.report("gate");
    fixture.lane.close(Close::Drain);
    let call = fixture.call("echo third");
    let refused = fixture
        .submit_call(call, CallOptions::default())
        .unwrap_err();
    assert!(matches!(refused, SubmitError::Closed), "{refused:?}");
    fixture.open_gate(1);
    assert_eq!(fixture.value(running), "first");
    assert_eq!(fixture.value(queued), "second");
    assert!(fixture.lane.wait_drained(fixture.left()));
}

#[test]
fn stop_leaves_no_process() {
    let mut fixture = Fixture::new(3);
    fixture.submit("hang");
    fixture.report("hang");
    fixture.submit("deaf");
    fixture.report("deaf");
    fixture.submit("gate never");
    fixture.report("gate");
    let mut pids = fixture.runtime.worker_pids();
    pids.extend(fixture.runtime.zygote_pids());
    assert_eq!(pids.len(), 4);
    assert!(pids.iter().all(|pid| is_alive(*pid)));
    fixture.runtime.stop();
    for pid in pids {
        fixture.gone(pid);
    }
    let call = fixture.call("echo late");
    assert!(fixture.submit_call(call, CallOptions::default()).is_err());
}
