//! Threads that resolve in turns: a thread that blocks loses its turn, and holds nothing back.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier};

use offloop::{After, CREW_MAX, Call, CallOptions, Payload, Runtime, Taken, Turn};

use crate::fixture::{Fixture, LIMIT};

const NO_OWNER: u8 = 0;

fn submit(fixture: &Fixture, owner: u8, token: u64) {
    let payload = Payload {
        inline: "echo x".into(),
        ..Payload::default()
    };
    let call = Call {
        owner,
        token,
        any_thread: true,
        streams: false,
        function: None,
        needs: Vec::new(),
        surroundings: None,
        note: None,
        payload,
    };
    fixture.lane.submit(call, CallOptions::default()).unwrap();
}

/// A crew that tells the tokens of what it takes, and then runs `act`.
fn start(runtime: &Runtime, act: impl Fn(&Turn, u64) + Send + Sync + 'static) -> Receiver<u64> {
    let (sender, receiver): (Sender<u64>, _) = channel();
    let body = move |turn: &Turn| match turn.look() {
        Taken::Notice(notice) => {
            // The receiver is gone once the test has failed.
            let _ = sender.send(notice.token);
            act(turn, notice.token);
            After::Again
        }
        Taken::Nothing => After::Wait,
        Taken::Relieved => After::Relieved,
    };
    runtime.start_crew(body).unwrap();
    receiver
}

#[test]
fn one_that_blocks_is_left_behind_and_comes_back() {
    let fixture = Fixture::new(1);
    let release = Arc::new(Barrier::new(2));
    let blocked = Arc::clone(&release);
    let taken = start(&fixture.runtime, move |_, token| {
        if token == 0 {
            blocked.wait();
        }
    });
    for token in 0..4 {
        submit(&fixture, NO_OWNER, token);
    }
    for token in 0..4 {
        assert_eq!(taken.recv_timeout(fixture.left()), Ok(token));
    }
    assert!(!fixture.runtime.wait_crew_idle(std::time::Duration::ZERO));
    release.wait();
    assert!(fixture.runtime.wait_crew_idle(LIMIT));
    assert_eq!(fixture.runtime.end_crew(LIMIT), 0);
}

#[test]
fn stranded_outcomes_are_taken_by_the_threads_that_wait_for_them() {
    let fixture = Fixture::new(1);
    let all = u64::from(CREW_MAX);
    let release = Arc::new(Barrier::new(CREW_MAX as usize + 1));
    let (blocked, runtime) = (Arc::clone(&release), fixture.runtime.clone());
    let taken = start(&fixture.runtime, move |turn, token| {
        if token < all {
            runtime.step_aside(turn.number());
            blocked.wait();
        }
    });
    for token in 0..all + 3 {
        submit(&fixture, NO_OWNER, token);
    }
    for token in 0..all {
        assert_eq!(taken.recv_timeout(fixture.left()), Ok(token));
    }
    let runtime = &fixture.runtime;
    let wanted = runtime.wait_stranded(LIMIT, all + 1, || false);
    assert_eq!(wanted.map(|finished| finished.token), Some(all + 1));
    release.wait();
    for token in [all, all + 2] {
        assert_eq!(taken.recv_timeout(fixture.left()), Ok(token));
    }
    assert!(runtime.take_stranded(|_| true).is_none());
    assert!(runtime.wait_crew_idle(LIMIT));
    assert_eq!(runtime.end_crew(LIMIT), 0);
}

#[test]
fn what_a_loop_has_not_taken_goes_to_the_crew_while_the_loop_is_busy_with_one() {
    let fixture = Fixture::new(1);
    let taken = start(&fixture.runtime, |_, _| {});
    let owner = &fixture.owner;
    for token in 0..6 {
        submit(&fixture, owner.index(), token);
    }
    let mut fetching = owner.fetch();
    let mut first = Vec::new();
    // The crew may have been faster with some.
    fetching.next(64, &mut first);
    assert!(first.len() <= 1, "{first:?}");
    let mut tokens: Vec<u64> = first.iter().map(|finished| finished.token).collect();
    while tokens.len() < 6 {
        tokens.push(taken.recv_timeout(fixture.left()).unwrap());
    }
    tokens.sort_unstable();
    assert_eq!(tokens, [0, 1, 2, 3, 4, 5]);
    assert_eq!(fixture.runtime.end_crew(LIMIT), 0);
}
