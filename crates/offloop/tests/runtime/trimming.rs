//! Memory that goes back: what a burst took is given back by both sides, what is in use is not.

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use offloop::{CallOptions, LaneConfig, Outcome, Returned, ReturnedBlocks, Status};
use offloop_sys::socket;

use crate::fixture::{Fixture, Start, Ticket, signal};

/// What an arena keeps when nothing needs it; `TRIM_KEEP_BYTES` in offloop-core.
const KEEP_BYTES: u64 = 4 << 20;
const WINDOW: Duration = Duration::from_millis(40);
const LARGE_BYTES: usize = 70 << 20;

/// One worker; it and the runtime keep what they do not need for 40 ms instead of 10 s.
fn fixture() -> Fixture {
    let start = Start {
        setup: "trim-window-ms 40",
        ..Start::default()
    };
    let fixture = Fixture::start(&start, LaneConfig::new(1));
    fixture.runtime.set_trim_window(WINDOW);
    fixture
}

/// The chunks that process `pid` has open, its own and its peer's: their inodes and bytes.
fn chunks(pid: i32) -> Vec<(u64, u64)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
        let path = entry.unwrap().path();
        // A descriptor may have been closed since it was listed.
        let is_chunk = std::fs::read_link(&path)
            .is_ok_and(|target| target.to_string_lossy().contains("offloop-arena"));
        if let (true, Ok(file)) = (is_chunk, std::fs::metadata(&path)) {
            found.push((file.ino(), file.blocks() * 512));
        }
    }
    found
}

fn backed(pid: i32) -> u64 {
    chunks(pid).iter().map(|(_, bytes)| bytes).sum()
}

/// Inodes of the chunks that this process has mapped.
fn mapped_here() -> HashSet<u64> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let ours = maps.lines().filter(|line| line.contains("offloop-arena"));
    ours.map(|line| line.split_whitespace().nth(4).unwrap().parse().unwrap())
        .collect()
}

fn submit_copy(fixture: &mut Fixture, bytes: &[u8]) -> Ticket {
    let call = fixture.call_with_blocks("copy", &[bytes]);
    fixture.submit_call(call, CallOptions::default()).unwrap()
}

fn blocks(fixture: &mut Fixture, ticket: Ticket) -> ReturnedBlocks {
    match fixture.outcome(ticket) {
        Outcome::Returned(Returned {
            status: Status::Value,
            blocks: Some((blocks, false)),
            ..
        }) => blocks,
        other => panic!("expected blocks, not {other:?}"),
    }
}

fn assert_holds(result: &ReturnedBlocks, byte: u8, len: usize) {
    let mut bytes = vec![0; len];
    result.blocks()[0].read(0, &mut bytes);
    assert!(bytes.iter().all(|found| *found == byte), "not {byte}");
}

/// 300 calls of 100 KB at once, whose results are all kept until the last one is there.
fn burst(fixture: &mut Fixture) {
    let tickets: Vec<_> = (0..300)
        .map(|number| submit_copy(fixture, &vec![number as u8; 100_000]))
        .collect();
    let mut results = Vec::new();
    for ticket in tickets {
        results.push(blocks(fixture, ticket));
    }
    for (number, result) in results.iter().enumerate() {
        assert_holds(result, number as u8, 100_000);
    }
}

/// Waits until both sides keep no more than they may.
fn wait_trimmed(fixture: &Fixture, pid: i32) {
    fixture.until("trimming in the parent", || {
        fixture.runtime.arena_bytes_backed().unwrap() <= KEEP_BYTES
    });
    // What this worker has open is its own arena and the parent's.
    fixture.until("trimming in the worker", || backed(pid) <= 2 * KEEP_BYTES);
}

#[test]
fn the_memory_of_a_burst_goes_back_on_both_sides() {
    let mut fixture = fixture();
    fixture.echo();
    let pid = fixture.runtime.worker_pids()[0];
    for _ in 0..2 {
        burst(&mut fixture);
        wait_trimmed(&fixture, pid);
    }
    fixture.echo();
}

#[test]
fn chunks_of_large_blocks_are_unmapped_on_both_sides() {
    let mut fixture = fixture();
    for round in 1..=2 {
        let ticket = submit_copy(&mut fixture, &vec![round; LARGE_BYTES]);
        let result = blocks(&mut fixture, ticket);
        let pid = fixture.runtime.worker_pids()[0];
        let large: HashSet<u64> = chunks(pid).into_iter().map(|(inode, _)| inode).collect();
        assert_eq!(large.len(), 2, "one of each side");
        assert!(large.is_subset(&mapped_here()));
        assert_holds(&result, round, LARGE_BYTES);
        drop(result);
        fixture.until("unmapping in the parent", || {
            large.is_disjoint(&mapped_here())
        });
        fixture.until("unmapping in the worker", || chunks(pid).is_empty());
        assert_eq!(fixture.runtime.arena_bytes_backed().unwrap(), 0);
    }
}

#[test]
fn blocks_in_use_keep_their_bytes_while_others_go_back() {
    let mut fixture = fixture();
    let result = {
        let ticket = submit_copy(&mut fixture, &[9; 100_000]);
        blocks(&mut fixture, ticket)
    };
    let pid = fixture.runtime.worker_pids()[0];
    burst(&mut fixture);
    wait_trimmed(&fixture, pid);
    burst(&mut fixture);
    assert_holds(&result, 9, 100_000);
}

#[test]
fn a_call_that_is_tried_again_finds_its_bytes_after_a_trim() {
    let mut fixture = fixture();
    burst(&mut fixture);
    let command = format!("gate {}", "again ".repeat(2_000));
    let mut call = fixture.call_with_blocks("", &[command.as_bytes()]);
    call.payload.in_block = true;
    let options = CallOptions {
        retries: 1,
        ..CallOptions::default()
    };
    let ticket = fixture.submit_call(call, options).unwrap();
    let pid = fixture.report("gate");
    fixture.until("trimming in the parent", || {
        fixture.runtime.arena_bytes_backed().unwrap() <= KEEP_BYTES
    });
    signal(pid, 9);
    assert_ne!(fixture.report("gate"), pid);
    fixture.open_gate(1);
    assert_eq!(fixture.value(ticket), command["gate ".len()..]);
}

#[test]
fn after_it_no_thread_wakes_up_any_more() {
    let mut fixture = fixture();
    fixture.echo();
    let pid = fixture.runtime.worker_pids()[0];
    burst(&mut fixture);
    wait_trimmed(&fixture, pid);
    let sleeps = || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("voluntary"));
        line.unwrap().to_owned()
    };
    // The window that finds nothing more to give back may still be open.
    let mut quiet = 0;
    while quiet < 5 {
        let before = sleeps();
        let finished = fixture.owner.event().as_fd();
        assert!(!socket::wait_readable(finished, Some(2 * WINDOW)).unwrap());
        quiet = if sleeps() == before { quiet + 1 } else { 0 };
        assert!(!fixture.left().is_zero());
    }
}
