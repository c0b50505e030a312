//! Workers that break the protocol: the liar and its call are lost, all other calls go on.

use offloop::{Outcome, Returned, Status, Violation, WorkerFault};

use crate::fixture::Fixture;

/// Every lie that `tests/support/worker/lies.rs` tells of a call, but for `twice`.
pub const LIES: [&str; 27] = [
    "unknown-kind",
    "short-frame",
    "empty-frame",
    "missing-blocks",
    "wrong-sequence",
    "sequence-zero",
    "unknown-status",
    "wrong-direction",
    "unknown-release",
    "release-flood",
    "release-of-an-item",
    "item",
    "item-of-another",
    "item-short",
    "unpassed-chunk",
    "outside-chunk",
    "overflowing-block",
    "corrupt-tail",
    "tail-beyond",
    "malformed-message",
    "second-hello",
    "late-failure",
    "long-message",
    "chunk-without-memory",
    "chunk-without-descriptor",
    "chunk-twice",
    "unknown-chunk-given-up",
];

#[test]
fn every_lie_ends_in_one_lost_call_and_a_fresh_worker() {
    let mut fixture = Fixture::new(2);
    let neighbour = fixture.submit("gate unharmed");
    fixture.report("gate");
    for lie in LIES {
        let lying = fixture.submit(&format!("lie {lie}"));
        let behind = fixture.submit("echo behind");
        let pid = fixture.report("lie");
        let (crash, attempts) = fixture.crash(lying);
        assert_eq!((crash.pid, attempts), (pid, 1), "{lie}");
        let violates = matches!(crash.fault, Some(WorkerFault::Violation(_)));
        assert!(violates, "{lie}: {crash:?}");
        assert_eq!(fixture.value(behind), "behind", "{lie}");
        fixture.gone(pid);
    }
    fixture.open_gate(1);
    assert_eq!(fixture.value(neighbour), "unharmed");
    assert_eq!(fixture.unclaimed(), 0);
    let statistics = fixture.lane.statistics().unwrap();
    assert_eq!(statistics.lost, LIES.len() as u64);
}

#[test]
fn a_completion_that_comes_twice_counts_once() {
    let mut fixture = Fixture::new(1);
    let ticket = fixture.submit("lie twice");
    let pid = fixture.report("lie");
    let outcome = fixture.outcome(ticket);
    assert!(
        matches!(
            outcome,
            Outcome::Returned(Returned {
                status: Status::Value,
                ..
            })
        ),
        "{outcome:?}"
    );
    fixture.gone(pid);
    fixture.echo();
    assert_eq!(fixture.unclaimed(), 0);
}

#[test]
fn a_release_of_an_unknown_call_is_a_lie_too() {
    let mut fixture = Fixture::new(1);
    let ticket = fixture.submit("release-unknown");
    let crash = fixture.crash(ticket).0;
    let expected = matches!(
        crash.fault,
        Some(WorkerFault::Violation(Violation::NotHeld { .. }))
    );
    assert!(expected, "{crash:?}");
    fixture.echo();
}
