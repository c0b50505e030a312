//! Large payloads through shared memory: intact, recycled, and held as long as they are read.

use offloop::arena::ArenaError;
use offloop::{CallOptions, Outcome, Returned, ReturnedBlocks, Status};

use crate::fixture::{Fixture, Ticket, signal};

const LARGE_BYTES: usize = 50 << 20;

/// Bytes that differ from place to place and from call to call.
fn pattern(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        bytes.extend_from_slice(&(state >> 8).to_ne_bytes());
    }
    bytes.truncate(len);
    bytes
}

fn copy(fixture: &mut Fixture, blocks: &[&[u8]]) -> ReturnedBlocks {
    let call = fixture.call_with_blocks("copy", blocks);
    let ticket = fixture.submit_call(call, CallOptions::default()).unwrap();
    returned(fixture, ticket)
}

fn returned(fixture: &mut Fixture, ticket: Ticket) -> ReturnedBlocks {
    match fixture.outcome(ticket) {
        Outcome::Returned(Returned {
            status: Status::Value,
            blocks: Some((blocks, false)),
            ..
        }) => blocks,
        other => panic!("expected blocks, not {other:?}"),
    }
}

fn bytes(blocks: &ReturnedBlocks, index: usize) -> Vec<u8> {
    let block = &blocks.blocks()[index];
    let mut bytes = vec![0; block.len()];
    block.read(0, &mut bytes);
    bytes
}

#[test]
fn fifty_megabytes_go_there_and_back_intact() {
    let mut fixture = Fixture::new(1);
    for round in 0..3 {
        let sent = pattern(LARGE_BYTES, round);
        let result = copy(&mut fixture, &[&sent]);
        assert!(bytes(&result, 0) == sent, "round {round}");
        assert_eq!(fixture.runtime.arena_bytes_in_use(), 0);
    }
}

#[test]
fn many_blocks_keep_their_order_and_their_sizes() {
    let mut fixture = Fixture::new(2);
    let sent: Vec<Vec<u8>> = (0..100).map(|n| pattern(n * 997, n as u64)).collect();
    let parts: Vec<&[u8]> = sent.iter().map(Vec::as_slice).collect();
    for _ in 0..5 {
        let result = copy(&mut fixture, &parts);
        assert_eq!(result.blocks().len(), sent.len());
        for (index, expected) in sent.iter().enumerate() {
            assert!(bytes(&result, index) == *expected, "block {index}");
        }
    }
    assert_eq!(fixture.runtime.arena_bytes_in_use(), 0);
}

#[test]
fn a_command_may_itself_lie_in_a_block() {
    let mut fixture = Fixture::new(1);
    let command = format!("echo {}", "long ".repeat(4_000));
    let mut call = fixture.call_with_blocks("", &[command.as_bytes()]);
    call.payload.in_block = true;
    let ticket = fixture.submit_call(call, CallOptions::default()).unwrap();
    assert_eq!(fixture.value(ticket).len(), command.len() - 5);
}

#[test]
fn a_block_that_the_worker_still_uses_is_held_until_it_lets_go() {
    let mut fixture = Fixture::new(1);
    let call = fixture.call_with_blocks("hold", &[&[7; 100_000]]);
    let ticket = fixture.submit_call(call, CallOptions::default()).unwrap();
    fixture.value(ticket);
    fixture.echo();
    assert!(fixture.runtime.arena_bytes_in_use() >= 100_000);
    let ticket = fixture.submit("let-go");
    fixture.value(ticket);
    assert_eq!(fixture.runtime.arena_bytes_in_use(), 0);
}

#[test]
fn the_end_of_a_worker_frees_what_it_held() {
    let mut fixture = Fixture::new(1);
    let call = fixture.call_with_blocks("hold", &[&[7; 100_000]]);
    let ticket = fixture.submit_call(call, CallOptions::default()).unwrap();
    fixture.value(ticket);
    let ticket = fixture.submit("exit 0");
    fixture.report("exit");
    fixture.crash(ticket);
    assert_eq!(fixture.runtime.arena_bytes_in_use(), 0);
}

#[test]
fn a_result_keeps_its_bytes_while_it_is_read_and_after_its_worker_died() {
    let mut fixture = Fixture::new(1);
    let sent = pattern(1 << 20, 42);
    let kept = copy(&mut fixture, &[&sent]);
    for round in 0..20 {
        let other = pattern(1 << 20, 100 + round);
        assert!(bytes(&copy(&mut fixture, &[&other]), 0) == other);
        assert!(bytes(&kept, 0) == sent, "overwritten in round {round}");
    }
    let ticket = fixture.submit("exit 0");
    fixture.report("exit");
    fixture.crash(ticket);
    fixture.echo();
    assert!(bytes(&kept, 0) == sent);
}

#[test]
fn a_call_that_is_tried_again_finds_its_bytes() {
    let mut fixture = Fixture::new(1);
    fixture.teach_prefetching();
    let running = fixture.submit("gate never");
    let pid = fixture.report("gate");
    let sent = pattern(300_000, 5);
    let call = fixture.call_with_blocks("copy", &[&sent]);
    let behind = fixture.submit_call(call, CallOptions::default()).unwrap();
    signal(pid, 9);
    fixture.crash(running);
    let result = returned(&mut fixture, behind);
    assert!(bytes(&result, 0) == sent);
}

#[test]
fn a_call_that_is_cancelled_in_the_queue_gives_its_memory_back() {
    let mut fixture = Fixture::new(1);
    let running = fixture.submit("gate x");
    fixture.report("gate");
    let call = fixture.call_with_blocks("copy", &[&[1; 200_000]]);
    let ticket = fixture.submit_call(call, CallOptions::default()).unwrap();
    assert!(fixture.runtime.arena_bytes_in_use() >= 200_000);
    fixture.lane.cancel(ticket.task);
    assert!(matches!(fixture.outcome(ticket), Outcome::Cancelled));
    assert_eq!(fixture.runtime.arena_bytes_in_use(), 0);
    fixture.open_gate(1);
    fixture.value(running);
}

#[test]
fn more_than_the_arena_takes_is_refused_by_name() {
    let fixture = Fixture::new(1);
    let refused = fixture.runtime.allocate(2 << 30).unwrap_err();
    let ArenaError::Full { limit, .. } = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(limit, 1 << 30);
    assert_eq!(fixture.runtime.arena_bytes_in_use(), 0);
}
