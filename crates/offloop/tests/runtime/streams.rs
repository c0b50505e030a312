//! Calls that send items while they go on: order, the window, and every way to end.

use std::time::Duration;

use offloop::{
    CallOptions, Close, Item, LaneConfig, Outcome, Returned, Status, Violation, WorkerFault,
};
use offloop_core::ITEMS_MAX;

use crate::fixture::{Fixture, Start, Ticket, signal};

const MIB: u64 = 1 << 20;
const SIGKILL: i32 = 9;

fn text(item: &Item) -> String {
    let mut bytes = item.payload.clone();
    if let Some((blocks, true)) = &item.blocks {
        let block = &blocks.blocks()[0];
        bytes.resize(block.len(), 0);
        block.read(0, &mut bytes);
    }
    let blank = bytes.iter().position(|byte| *byte == b' ');
    bytes.truncate(blank.unwrap_or(bytes.len()));
    String::from_utf8(bytes).unwrap()
}

/// Takes the next item as a consumer does, and lets go of it.
fn take(fixture: &mut Fixture, ticket: Ticket) -> Option<String> {
    let item = fixture.item(ticket)?;
    let (text, source, cost) = (text(&item), item.source, item.cost);
    drop(item);
    fixture.lane.tell_taken(&source, cost);
    Some(text)
}

/// Takes all items, which must be the numbers from `from` on; how many there were.
fn take_all(fixture: &mut Fixture, ticket: Ticket, from: u64) -> u64 {
    let mut next = from;
    while let Some(text) = take(fixture, ticket) {
        assert_eq!(text, next.to_string());
        next += 1;
    }
    next - from
}

/// An endless stream of tiny items whose worker waits for its consumer; the worker's process id.
fn full(fixture: &mut Fixture) -> (Ticket, i32) {
    let ticket = fixture.stream("stream endless 1");
    (ticket, fixture.report("full"))
}

fn pid(fixture: &mut Fixture) -> i32 {
    let ticket = fixture.submit("pid");
    fixture.value(ticket).parse().unwrap()
}

#[test]
fn items_come_in_order_and_the_value_after_them() {
    let mut fixture = Fixture::new(1);
    for (count, bytes) in [(0, 1), (1, 1), (5_000, 1), (2_000, 1_000), (500, 16_384)] {
        let ticket = fixture.stream(&format!("stream {count} {bytes}"));
        assert_eq!(take_all(&mut fixture, ticket, 0), count, "{bytes} bytes");
        assert_eq!(fixture.value(ticket), "0");
    }
    fixture.forget_reports();
    fixture.echo();
}

#[test]
fn what_a_stream_raises_comes_after_its_items() {
    let mut fixture = Fixture::new(1);
    let ticket = fixture.stream("stream 3 1 raised");
    assert_eq!(take_all(&mut fixture, ticket, 0), 3);
    let outcome = fixture.outcome(ticket);
    let raised = matches!(
        outcome,
        Outcome::Returned(Returned {
            status: Status::Raised,
            ..
        })
    );
    assert!(raised, "{outcome:?}");
}

#[test]
fn a_worker_runs_ahead_by_a_window_and_then_sleeps() {
    let mut fixture = Fixture::new(1);
    let (ticket, worker) = full(&mut fixture);
    let window = usize::try_from(ITEMS_MAX).unwrap();
    fixture.until("sleep", || is_sleeping(worker));
    assert_eq!(fixture.arrived(ticket), window);
    for taken in 0..10 {
        assert_eq!(take(&mut fixture, ticket), Some(taken.to_string()));
    }
    // Each item that was taken makes room for one.
    while fixture.arrived(ticket) < window {}
    fixture.until("sleep", || is_sleeping(worker));
    assert_eq!(fixture.arrived(ticket), window);
    assert!(fixture.lane.cancel(ticket.task));
    assert_eq!(take_all(&mut fixture, ticket, 10), ITEMS_MAX);
    assert!(matches!(fixture.outcome(ticket), Outcome::Cancelled));
    assert_eq!(pid(&mut fixture), worker);
}

#[test]
fn the_window_holds_while_the_owner_does_not_come() {
    let mut fixture = Fixture::new(1);
    let ticket = fixture.stream("stream 1000 1000");
    let worker = fixture.report("full");
    // The supervisor takes what lies in the ring, and gives the worker no more room by that.
    fixture.runtime.hand_over();
    fixture.until("sleep", || is_sleeping(worker));
    let arrived = fixture.arrived(ticket) as u64;
    assert!(arrived * 1_000 < 128 * 1024 + 1_000, "{arrived} items");
    assert_eq!(take_all(&mut fixture, ticket, 0), 1_000);
    assert_eq!(fixture.value(ticket), "0");
}

#[test]
fn many_streams_end_while_their_owner_is_away() {
    let mut fixture = Fixture::new(1);
    let count = ITEMS_MAX - 1;
    let tickets: Vec<_> = (0..30)
        .map(|_| fixture.stream(&format!("stream {count} 1")))
        .collect();
    let last = fixture.submit("gate open");
    fixture.report("gate");
    fixture.open_gate(1);
    for ticket in tickets {
        assert_eq!(take_all(&mut fixture, ticket, 0), count);
        assert_eq!(fixture.value(ticket), "0");
    }
    assert_eq!(fixture.value(last), "open");
}

#[test]
fn large_items_use_the_same_memory_again() {
    let mut fixture = Fixture::new(1);
    let ticket = fixture.stream(&format!("stream 300 {MIB}"));
    assert_eq!(take_all(&mut fixture, ticket, 0), 300);
    let peak: u64 = fixture.value(ticket).parse().unwrap();
    // A window, the item that goes beyond it, and the one that is being made.
    assert!(peak <= 6 * MIB, "{peak} bytes");
}

#[test]
fn an_item_stays_readable_while_it_is_held() {
    let mut fixture = Fixture::new(1);
    let ticket = fixture.stream("stream 100 100000");
    let first = fixture.item(ticket).unwrap();
    fixture.lane.tell_taken(&first.source, first.cost);
    assert_eq!(take_all(&mut fixture, ticket, 1), 99);
    fixture.value(ticket);
    let again = fixture.stream("stream 100 100000");
    assert_eq!(take_all(&mut fixture, again, 0), 100);
    fixture.value(again);
    assert_eq!(text(&first), "0");
}

#[test]
fn calls_go_on_beside_streams_and_behind_them() {
    let mut fixture = Fixture::new(2);
    let (first, one) = full(&mut fixture);
    fixture.teach_prefetching();
    let (second, other) = full(&mut fixture);
    assert_ne!(one, other);
    let behind = fixture.submit("pid");
    assert!(fixture.lane.cancel(second.task));
    assert_eq!(fixture.value(behind), other.to_string());
    for _ in 0..2 * ITEMS_MAX {
        take(&mut fixture, first).unwrap();
    }
    assert!(fixture.lane.cancel(first.task));
    for ticket in [first, second] {
        while take(&mut fixture, ticket).is_some() {}
        assert!(matches!(fixture.outcome(ticket), Outcome::Cancelled));
    }
}

#[test]
fn a_limit_of_time_ends_a_stream_that_waits_for_its_consumer() {
    let mut fixture = Fixture::new(1);
    let before = pid(&mut fixture);
    let limit = Some(Duration::from_millis(50));
    let (timeout, run_timeout) = (limit, limit);
    for options in [
        CallOptions {
            timeout,
            ..CallOptions::default()
        },
        CallOptions {
            run_timeout,
            ..CallOptions::default()
        },
    ] {
        let ticket = fixture.stream_with("stream endless 1", options);
        fixture.report("full");
        let outcome = fixture.outcome(ticket);
        assert!(matches!(outcome, Outcome::Expired { .. }), "{outcome:?}");
        assert_eq!(fixture.arrived(ticket), 256);
    }
    assert_eq!(pid(&mut fixture), before);
}

#[test]
fn a_crash_comes_after_the_items_and_is_not_retried() {
    let mut fixture = Fixture::new(1);
    let options = CallOptions {
        retries: 3,
        ..CallOptions::default()
    };
    let ticket = fixture.stream_with("stream 7 1 crash", options);
    assert_eq!(take_all(&mut fixture, ticket, 0), 7);
    let (_, attempts) = fixture.crash(ticket);
    assert_eq!(attempts, 1);
    let silent = fixture.stream_with("stream 0 1 crash", options);
    assert_eq!(fixture.crash(silent).1, 4);
    let (killed, worker) = full(&mut fixture);
    signal(worker, SIGKILL);
    assert_eq!(take_all(&mut fixture, killed, 0), ITEMS_MAX);
    assert_eq!(fixture.crash(killed).0.pid, worker);
    fixture.echo();
}

#[test]
fn what_is_told_of_a_stream_that_is_over_does_not_reach_the_next() {
    let mut fixture = Fixture::new(1);
    let before = fixture.stream("stream 200 1");
    let kept: Vec<Item> = std::iter::from_fn(|| fixture.item(before)).collect();
    assert_eq!(kept.len(), 200);
    fixture.value(before);
    let (ticket, worker) = full(&mut fixture);
    for item in &kept {
        fixture.lane.tell_taken(&item.source, item.cost);
    }
    fixture.until("sleep", || is_sleeping(worker));
    assert_eq!(fixture.arrived(ticket) as u64, ITEMS_MAX);
    fixture.lane.cancel(ticket.task);
    assert!(matches!(fixture.outcome(ticket), Outcome::Cancelled));
}

#[test]
fn closing_a_lane_stops_its_streams_and_waits_for_its_calls() {
    for how in [Close::Drain, Close::CancelQueued, Close::Stop] {
        let mut fixture = Fixture::new(2);
        let (running, _) = full(&mut fixture);
        let call = fixture.submit("gate done");
        fixture.report("gate");
        let queued = fixture.stream("stream 1 1");
        fixture.lane.close(how);
        for ticket in [running, queued] {
            assert!(matches!(fixture.outcome(ticket), Outcome::Cancelled));
        }
        if how != Close::Stop {
            fixture.open_gate(1);
            assert_eq!(fixture.value(call), "done");
        }
        assert!(fixture.lane.wait_drained(fixture.left()), "{how:?}");
    }
}

#[test]
fn a_runtime_that_ends_waits_for_no_consumer() {
    let mut fixture = Fixture::new(1);
    let (ticket, _) = full(&mut fixture);
    fixture.runtime.close_lanes(Close::Drain);
    assert!(fixture.runtime.wait_drained(fixture.left()));
    assert!(matches!(fixture.outcome(ticket), Outcome::Cancelled));
}

#[test]
fn a_stream_that_does_not_stop_is_ended_with_its_worker() {
    let config = LaneConfig {
        grace: Duration::from_millis(20),
        ..LaneConfig::new(1)
    };
    let mut fixture = Fixture::start(&Start::default(), config);
    let ticket = fixture.stream("deaf");
    let worker = fixture.report("deaf");
    fixture.lane.cancel(ticket.task);
    assert!(matches!(fixture.outcome(ticket), Outcome::Cancelled));
    fixture.gone(worker);
}

#[test]
fn items_that_break_the_protocol_end_their_worker_alone() {
    let mut fixture = Fixture::new(1);
    for (lie, honest) in [
        ("item-skips", 0),
        ("item-zero", 0),
        ("item-twice", 1),
        ("item-flood", 256),
    ] {
        let ticket = fixture.stream(&format!("lie {lie}"));
        fixture.report("lie");
        let (crash, _) = fixture.crash(ticket);
        let fault = matches!(
            crash.fault,
            Some(WorkerFault::Violation(Violation::Item(_)))
        );
        assert!(fault, "{lie}: {crash:?}");
        assert_eq!(fixture.arrived(ticket), honest, "{lie}");
        fixture.gone(crash.pid);
        fixture.echo();
    }
}

/// Whether the process waits in the kernel.
fn is_sleeping(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = status
        .rsplit_once(") ")
        .map(|(_, rest)| rest.starts_with('S'));
    state == Some(true)
}
